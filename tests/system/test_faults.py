"""Every step of `create` can fail. Whichever does, nothing is left: no state, no control group, no mount, no process. One
system call after the other is made to fail (tests/tools/fault.c); `make check` takes every Nth, INSULA_FAULT_STEP=1 all."""
import json
import os
import pathlib
import subprocess

import pytest
from conftest import BUILD, built, wait_for, without_calls
from test_runtime import Runtime

STEP = int(os.environ.get("INSULA_FAULT_STEP", "5"))
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def processes(word):
    """Those that say it in their command line, or live in a cgroup of that name."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = open(f"/proc/{pid}/cmdline", errors="replace").read() + open(f"/proc/{pid}/cgroup").read()
        except OSError:
            continue
        if word in text and int(pid) != os.getpid():
            found.append(f"{pid} {text[:60]}")
    return found


def left_behind(rt, cid):
    left = [f"state {d}" for d in os.listdir(rt.root) if d == cid] if rt.root.is_dir() else []
    left += [f"cgroup {d}" for g in (f"insula/{cid}", f"*/insula/{cid}") for d in CGROUPS.glob(g)]
    left += [f"mount {x.split()[4]}" for x in open("/proc/self/mountinfo") if str(rt.bundle) in x]
    return left + [f"process {p}" for p in processes(cid)]


def full(tmp_path):
    """A configuration that has something of everything."""
    rt = Runtime(tmp_path)
    rt.prefix, rt.program = without_calls(), str(built("insula-runtime"))     # its calls are counted, and nobody else's
    (tmp_path / "volume").mkdir()
    rt.config["mounts"] += [{"destination": "/vol/made", "type": "bind", "source": str(tmp_path / "volume"), "options": ["rbind", "ro"]},
                            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}]
    rt.config["linux"].update(
        maskedPaths=["/proc/kcore", "/proc/scsi"], readonlyPaths=["/proc/sys"], sysctl={"net.ipv4.ip_forward": "1"},
        devices=[{"type": "c", "path": "/dev/foo", "major": 1, "minor": 3}],
        resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "devices": [{"allow": False, "access": "rwm"}]},
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})
    rt.config["linux"]["namespaces"].append({"type": "cgroup"})
    rt.config["hooks"] = {k: [{"path": "/bin/busybox", "args": ["true"]}] for k in ("createRuntime", "createContainer")}
    rt.write(["sleep", "1000"], oomScoreAdj=5, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}])
    return rt


def attempt(rt, n, cid, log):
    """create, whose nth call fails; the exit code, or None once there are fewer calls."""
    argv = rt.command("create", cid)[len(rt.prefix):]
    log.unlink(missing_ok=True)
    with open(rt.bundle / "said", "wb") as said:
        p = subprocess.run([*rt.prefix, str(BUILD / "tests/fault"), str(n), str(log), *argv], cwd=rt.bundle,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, timeout=60)
    return None if p.returncode == 200 else p.returncode


def test_nothing_is_left_whatever_fails(tmp_path):
    rt, log = full(tmp_path), tmp_path / "failed"
    failures, survived, n, wrong = 0, 0, 2, []      # the first is the exec of the runtime itself
    while True:
        cid = f"oci-fault-{os.getpid()}-{n}"
        code = attempt(rt, n, cid, log)
        call = log.read_text().strip() if log.exists() else "none"
        if code == 0 or code is None:
            # It can do without that call: then it has made a container as any other.
            survived += 1
            # Only the waiting itself (accept4) may fail later.
            ok = json.loads(rt("state", cid).stdout)["status"] == ("stopped" if call == "accept4" else "created")
            ok = rt("delete", "-f", cid).returncode == 0 and ok
        else:
            failures += 1
            said = (rt.bundle / "said").read_text()
            ok = code in (1, 126, 127) and said.strip().split("\n")[-1].startswith("insula-runtime: ")
        try:
            wait_for(lambda: not left_behind(rt, cid), 60, 0.005)
        except AssertionError:
            wrong.append(f"call {n} ({call}) leaves {left_behind(rt, cid)}: {(rt.bundle / 'said').read_text()}")
            rt("delete", "-f", cid)
        if not ok:
            wrong.append(f"call {n} ({call}): exit {code}, said {(rt.bundle / 'said').read_text()!r}")
        if code is None:
            break
        n += STEP
    assert not wrong, "\n".join(wrong)
    assert n > 150 and failures * 2 > survived, (n, failures, survived)     # it is no test if nearly all survive
