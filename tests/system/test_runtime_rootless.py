"""insula-runtime as an ordinary user: in a user namespace that maps himself, or a range that /etc/subuid gives him; in a
cgroup that is his, or in none."""
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess

import pytest
from conftest import built, rmdir, wait_for, without_calls
from subids import subordinate
from test_runtime import Runtime, reachable_path  # noqa: F401  (a fixture)
from test_runtime_v2 import ONLY_V2, unified

USER = pwd.getpwnam("news")     # of every Debian system, and nobody's
RANGE = 3000000


@pytest.fixture
def rt(tmp_path):
    r = Runtime(tmp_path)
    r.owner = USER.pw_uid
    r.prefix = [*without_calls(), "setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups", "env", f"XDG_RUNTIME_DIR={tmp_path}/run"]
    r.program = tmp_path / "bin/insula-runtime"
    (tmp_path / "bin").mkdir()
    (tmp_path / "run").mkdir()
    shutil.copy(built("insula-runtime"), r.program)
    mapped(r, [(0, USER.pw_uid, 1)])
    r.config["linux"]["namespaces"].append({"type": "user"})
    r.give(tmp_path)
    yield r
    for i in r.ids:
        r("delete", "-f", i)
    assert str(tmp_path) not in open("/proc/self/mountinfo").read()

    def nothing_left():
        return str(tmp_path) not in subprocess.run(["ps", "-o", "pid,args", "-u", str(USER.pw_uid)], capture_output=True, text=True).stdout
    wait_for(nothing_left)


def mapped(rt, maps):
    for k in ("uidMappings", "gidMappings"):
        rt.config["linux"][k] = [{"containerID": c, "hostID": h, "size": n} for c, h, n in maps]


@pytest.fixture
def ranges(rt):
    """Subordinate ids of the user, beside his own."""
    with subordinate(USER.pw_name, RANGE, 1000):
        mapped(rt, [(0, USER.pw_uid, 1), (1, RANGE, 1000)])
        yield


def write(rt, *args, **process):
    rt.write(list(args), **process)
    rt.give(rt.bundle)


def test_the_written_example_runs(rt):
    """spec --rootless as it stands, in the default state directory."""
    command = [*rt.prefix, str(rt.program)]
    p = subprocess.run([*command, "spec", "--rootless"], cwd=rt.bundle, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    config = json.loads((rt.bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=["sh", "-c", "id -u; cat /proc/self/uid_map; echo x >/dev/null && touch /dev/shm/x; touch /x"])
    (rt.bundle / "config.json").write_text(json.dumps(config))
    p = subprocess.run([*command, "run", "oci-example"], cwd=rt.bundle, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert p.stdout.split() == ["0", "0", str(USER.pw_uid), "1"] and "Read-only" in p.stderr, p.stderr
    assert os.listdir(rt.bundle.parent / "run/insula-runtime") == []
    root = rt.bundle.parent / "run/insula-runtime"
    assert root.stat().st_uid == USER.pw_uid


def test_life(rt):
    write(rt, "sh", "-c", "echo $$ >/tmp/pid; id -u >>/tmp/pid; exec sleep 1000")
    assert rt.create("oci-rl") == 0 and rt.status("oci-rl") == "created"
    assert rt("start", "oci-rl").returncode == 0
    seen = rt.bundle / "rootfs/tmp/pid"
    wait_for(lambda: seen.exists() and len(seen.read_text().split()) == 2)
    assert seen.read_text().split() == ["1", "0"] and seen.stat().st_uid == USER.pw_uid
    pid = json.loads(rt("state", "oci-rl").stdout)["pid"]
    look = "id -u; for i in user net pid mnt; do busybox readlink /proc/self/ns/$i; done; exit 3"
    p = rt("exec", "oci-rl", "sh", "-c", look)
    assert p.stdout.split() == ["0", *(os.readlink(f"/proc/{pid}/ns/{n}") for n in ("user", "net", "pid", "mnt"))] and p.returncode == 3
    assert rt("ps", "-f", "json", "oci-rl").stdout.strip() == f"[{pid}]"
    # It has no group of its own, so there is nothing to stop or to limit.
    for command in (["pause", "oci-rl"], ["update", "--pids-limit", "5", "oci-rl"]):
        p = rt(*command)
        assert p.returncode == 1 and "no cgroup" in p.stderr
    assert rt("kill", "oci-rl", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-rl") == "stopped")
    assert rt("delete", "oci-rl").returncode == 0


def test_ranges_of_ids(rt, ranges):
    """By newuidmap and newgidmap: users and groups beside the container's root, and groups may change."""
    caps = {k: ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"] for k in ("bounding", "effective", "permitted")}
    write(rt, "sh", "-c", "id -u; id -G; cat /proc/self/setgroups; touch /tmp/f; busybox chown 5:6 /tmp/f; busybox stat -c %u:%g /tmp/f",
          capabilities=caps, user={"uid": 0, "gid": 0, "additionalGids": [7]})
    p = rt("run", "oci-range")
    assert p.stdout.split() == ["0", "0", "7", "allow", "5:6"], p.stderr
    st = os.stat(rt.bundle / "rootfs/tmp/f")
    assert (st.st_uid, st.st_gid) == (RANGE + 4, RANGE + 5)
    write(rt, "id", user={"uid": 33, "gid": 33})
    assert rt("run", "oci-range").stdout.startswith("uid=33 gid=33")
    write(rt, "sleep", "1000", user={"uid": 33, "gid": 33})
    assert rt.create("oci-range") == 0 and rt("start", "oci-range").returncode == 0
    assert rt("exec", "-u", "44:55", "-g", "66", "oci-range", "id", "-G").stdout == "55 66\n"


def test_ranges_of_others_are_refused(rt):
    mapped(rt, [(0, USER.pw_uid, 1), (1, RANGE + 500000, 10)])
    write(rt, "id")
    p = rt("run", "oci-others")
    assert p.returncode == 1 and "not allowed by new" in p.stderr and len(p.stderr.splitlines()) == 1
    mapped(rt, [(0, 0, 1)])
    write(rt, "id")
    p = rt("run", "oci-others")
    assert p.returncode == 1 and "not allowed by new" in p.stderr
    assert not (rt.bundle.parent / "state").exists() or os.listdir(rt.bundle.parent / "state") == []


def test_groups_that_are_denied(rt):
    write(rt, "id", user={"uid": 0, "gid": 0, "additionalGids": [5]})
    p = rt("run", "oci-groups")
    assert p.returncode == 1 and "denied in this user namespace" in p.stderr


def test_limits_need_a_cgroup(rt):
    rt.config["linux"]["resources"] = {"pids": {"limit": 20}}
    write(rt, "id")
    p = rt("run", "oci-limit")
    assert p.returncode == 1 and "limits need a cgroup" in p.stderr and len(p.stderr.splitlines()) == 1
    # Rules for devices are not limits: there is no device that he could make.
    rt.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    rt.config["linux"]["namespaces"].append({"type": "cgroup"})
    rt.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    write(rt, "ls", "-a", "/sys/fs/cgroup")
    p = rt("run", "oci-limit")
    assert p.stdout.split() == [".", ".."], p.stderr


class Delegated:
    """The user's own group, with the callers in one of its own: v2 allows no processes beside children with controllers."""

    def __init__(self, rt, top, v2, mounted, controllers=()):
        self.group = top / f"oci-delegated-{os.getpid()}"
        self.caller = self.group / "caller"
        self.below = (self.group if v2 else self.caller) / f"insula-{USER.pw_uid}"
        self.caller.mkdir(parents=True)
        for g in (top, self.group):
            for c in controllers:
                (g / "cgroup.subtree_control").write_text(f"+{c}")
        for g in (self.group, self.caller):
            for p in (g, g / "tasks", g / "cgroup.procs", g / "cgroup.subtree_control"):
                if p.exists():
                    os.chown(p, USER.pw_uid, USER.pw_gid)
        procs = mounted / self.group.name / "caller/cgroup.procs"
        rt.prefix = ["sh", "-c", f'echo $$ >{procs}; exec "$@"', "sh", *rt.prefix]

    def __enter__(self):
        return self.below

    def __exit__(self, *_):
        for g in (self.below, self.caller, self.group):
            wait_for(lambda: rmdir(g))


@pytest.fixture
def delegated(rt):
    v2, fs = os.path.exists("/sys/fs/cgroup/cgroup.controllers"), pathlib.Path("/sys/fs/cgroup")
    top = fs if v2 else fs / "pids"
    with Delegated(rt, top, v2, top, ["pids"] if v2 else ()) as below:
        yield below


@pytest.fixture
def delegated_v2(rt):
    """Where nothing but a cgroup2 is to be seen."""
    with Delegated(rt, unified(), True, pathlib.Path("/sys/fs/cgroup")) as below:
        rt.prefix = [*ONLY_V2, *rt.prefix]
        yield below


def test_life_in_a_delegated_cgroup_of_version_2(rt, delegated_v2):
    rt.config["linux"]["namespaces"].append({"type": "cgroup"})
    rt.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    write(rt, "sleep", "1000")
    own = delegated_v2 / "oci-dv2"
    assert rt.create("oci-dv2") == 0 and rt("start", "oci-dv2").returncode == 0
    pid = json.loads(rt("state", "oci-dv2").stdout)["pid"]
    assert (own / "cgroup.procs").read_text() == f"{pid}\n"
    p = rt("exec", "oci-dv2", "cat", "/proc/self/cgroup", "/sys/fs/cgroup/cgroup.procs")
    assert "0::/\n" in p.stdout and "\n1\n" in p.stdout, p
    assert rt("pause", "oci-dv2").returncode == 0 and rt.status("oci-dv2") == "paused"
    assert rt("resume", "oci-dv2").returncode == 0 and rt.status("oci-dv2") == "running"
    assert rt("delete", "-f", "oci-dv2").returncode == 0
    assert not own.exists()


def test_limits_in_a_delegated_cgroup(rt, delegated):
    rt.config["linux"]["resources"] = {"pids": {"limit": 7}}
    write(rt, "sleep", "1000")
    own = delegated / "oci-delegated"
    assert rt.create("oci-delegated") == 0
    pid = json.loads(rt("state", "oci-delegated").stdout)["pid"]
    assert (own / "pids.max").read_text() == "7\n" and (own / "cgroup.procs").read_text() == f"{pid}\n"
    assert rt("start", "oci-delegated").returncode == 0
    assert rt("update", "--pids-limit", "9", "oci-delegated").returncode == 0 and (own / "pids.max").read_text() == "9\n"
    assert rt("exec", "oci-delegated", "echo", "in").stdout == "in\n"
    assert rt("delete", "-f", "oci-delegated").returncode == 0
    assert not own.exists()


def test_an_idmapped_mount_needs_privileges(rt):
    (rt.bundle / "data").mkdir()
    rt.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "data", "options": ["rbind", "idmap"]})
    write(rt, "id")
    p = rt("run", "oci-idmap")
    assert p.returncode == 1 and "privileges" in p.stderr and len(p.stderr.splitlines()) == 1


def test_what_the_user_may_not_read_stays_closed(rt):
    """Root inside is the user outside: a file of the host's root does not open, mounted or not."""
    secret = rt.bundle.parent / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    rt.config["mounts"].append({"destination": "/secret", "type": "bind", "source": str(secret), "options": ["bind", "ro"]})
    write(rt, "cat", "/secret", capabilities={k: ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"] for k in ("bounding", "effective", "permitted")})
    p = rt("run", "oci-secret")
    assert p.returncode == 1 and "Permission denied" in p.stderr and not p.stdout


def test_terminal_hooks_and_time(rt):
    sock = rt.bundle / "console"
    rt.config["linux"]["namespaces"].append({"type": "time"})
    rt.config["linux"]["timeOffsets"] = {"boottime": {"secs": 864000}}
    log = rt.bundle / "hooks"
    rt.config["hooks"] = {k: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {k} >>{log}"]}] for k in ("createRuntime", "createContainer", "poststop")}
    write(rt, "sh", "-c", "test -t 0 && echo terminal; cat /proc/uptime", terminal=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(sock))
        os.chown(sock, USER.pw_uid, USER.pw_gid)
        s.listen()
        s.settimeout(60)
        assert rt.create("oci-all") != 0   # without a console socket
        p = rt("create", "--console-socket", str(sock), "oci-all")
        assert p.returncode == 0, p.stderr
        conn = s.accept()[0]
        master = socket.recv_fds(conn, 64, 1)[1][0]
    assert rt("start", "oci-all").returncode == 0
    out = b""
    try:
        while chunk := os.read(master, 4096):
            out += chunk
    except OSError:     # the other end is closed
        pass
    os.close(master)
    conn.close()
    word, uptime = out.split()[:2]
    assert word == b"terminal" and float(uptime) > 864000
    rt("delete", "-f", "oci-all")
    assert log.read_text().split() == ["createRuntime", "createContainer", "poststop"]
