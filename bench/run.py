#!/usr/bin/env python3
"""Start-up, exec and memory figures of insula beside its peers, in one run, as a table.

Every command is a whole process, timed from outside; ours and the peers' runs are interleaved, the
median and the tenth percentile are printed. A peer that is not installed, or that cannot run on this
host, is shown as such with the reason."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))


def once(argv, env, cwd=None):
    t = time.perf_counter()
    p = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    dt = (time.perf_counter() - t) * 1000
    if p.returncode:
        raise RuntimeError(p.stderr.decode(errors="replace").strip()[-200:] or f"exit {p.returncode}")
    return dt


def measure(rows, runs):
    """rows: name -> (argv, env, cwd). Interleaved; one warm-up each."""
    times, errors = {n: [] for n in rows}, {}
    for i in range(runs + 1):
        for n, (argv, env, cwd) in rows.items():
            if n in errors:
                continue
            try:
                dt = once(argv, env, cwd)
            except (RuntimeError, FileNotFoundError) as ex:
                errors[n] = str(ex)
                continue
            if i:
                times[n].append(dt)
    return times, errors


def table(title, rows, runs, budget=None):
    times, errors = measure(rows, runs)
    print(f"\n{title}" + (f"   (budget {budget} ms)" if budget else ""))
    for n in rows:
        if n in errors:
            print(f"  {n:<34} cannot run here: {errors[n]}")
        else:
            t = sorted(times[n])
            print(f"  {n:<34} median {statistics.median(t):8.1f} ms   p10 {t[len(t) // 10]:8.1f} ms   n={len(t)}")
    sys.stdout.flush()


def rss(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def bundle(base):
    """A busybox bundle for the OCI runtimes."""
    b = pathlib.Path(base) / "bundle"
    (b / "rootfs/bin").mkdir(parents=True)
    for d in ("proc", "sys", "dev", "tmp", "etc"):
        (b / "rootfs" / d).mkdir()
    shutil.copy("/bin/busybox", b / "rootfs/bin/busybox")
    for a in ("true", "sh", "sleep"):
        os.symlink("busybox", b / "rootfs/bin" / a)
    ns = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]
    opts = ["nosuid", "noexec", "nodev"]
    (b / "config.json").write_text(json.dumps({
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/"},
        "root": {"path": "rootfs"}, "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": opts},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": opts},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": opts + ["ro"]}],
        "linux": {"namespaces": ns}}))
    return b


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--runs", type=int, default=20)
    a = ap.parse_args()
    build = pathlib.Path(a.build).resolve()
    os.environ.setdefault("INSULA_BUILD", str(build))
    import conftest as h
    base = tempfile.mkdtemp(prefix="insula-bench-")
    e = h.Engine(base)
    e.start()
    try:
        for i in ("busybox", "debian"):
            e.cli("insula", "load", "-q", "-i", h.IMAGES / f"{i}.tar").ok()
        env, ins = e.env(), h.program("insula")
        run = lambda *f: ([ins, "run", "--rm", *f, "busybox", "true"], env, None)
        dk = lambda *f: ([h.docker_cli(), "run", "--rm", *f, "busybox", "true"], env, None)
        penv = dict(os.environ)
        rows = {"insula": run("--network", "none"), "docker CLI on insulad": dk("--network", "none")}
        bridge = {"insula": run(), "docker CLI on insulad": dk()}
        if shutil.which("podman"):
            pod = ["podman", "run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
            rows["podman"] = ([*pod, "--network", "none", "busybox", "true"], penv, None)
            bridge["podman"] = ([*pod, "busybox", "true"], penv, None)
        if os.path.exists("/run/docker.sock"):
            denv = dict(penv, DOCKER_HOST="unix:///run/docker.sock")
            rows["docker"] = ([h.docker_cli(), "run", "--rm", "--network", "none", "busybox", "true"], denv, None)
            bridge["docker"] = ([h.docker_cli(), "run", "--rm", "busybox", "true"], denv, None)
        table("run --rm --network none busybox true, process", rows, a.runs, 15)
        table("run --rm busybox true on the default bridge, process", bridge, a.runs, 25)
        b = bundle(base)
        rt = {}
        for name, exe in (("insula-runtime", h.program("insula-runtime")), ("crun", "crun"), ("runc", "runc")):
            if shutil.which(exe):
                pre = ["unshare", "-m", "--propagation", "private", "sh", "-c",
                       "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh"] if name == "crun" else []
                rt[name] = ([*pre, exe, "--root", f"{base}/rt-{name}", "run", "--bundle", str(b), f"bench-{name}"], penv, None)
            else:
                rt[name] = ([exe], penv, None)
        table("OCI runtime: run of a bundle with `true`", rt, a.runs, 4)
        cid = e.cli("insula", "run", "-d", "busybox", "sleep", "1000").ok()
        table("exec of `true` in a running container, process",
              {"insula": ([ins, "exec", cid, "true"], env, None), "docker CLI on insulad": ([h.docker_cli(), "exec", cid, "true"], env, None)},
              a.runs, 6)
        vm = e.cli("insula", "run", "-d", "--isolation=hyperv", "busybox", "sleep", "1000").ok()
        table("exec of `true` in a running container, hyperv",
              {"insula": ([ins, "exec", vm, "true"], env, None)}, a.runs)
        table("run --rm busybox true, hyperv (cold boot)", {"insula": run("--isolation=hyperv")}, max(3, a.runs // 5))
        time.sleep(2)
        print("\nresident memory, MiB")
        print(f"  {'insulad':<34} {rss(e.proc.pid):6.1f}   (budget 8)")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                comm, cmd = open(f"/proc/{pid}/comm").read().strip(), open(f"/proc/{pid}/cmdline").read()
            except OSError:
                continue
            for name, mine, budget in (("insula-shim", cid, 1), ("vmwp", vm, 2)):
                if comm == name and mine in cmd:
                    print(f"  {name:<34} {rss(pid):6.1f}   (budget {budget})")
        e.cli("insula", "rm", "-f", cid, vm)
    finally:
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
