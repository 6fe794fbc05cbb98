#!/usr/bin/python3
"""Start-up, exec and memory figures of insula beside its peers, in one run, as one table.

Every command is a whole process, timed from outside, with a pause before each, so that it starts from idle
as a user's does; ours and the peers' runs are interleaved. A time is the median, with the tenth percentile
in brackets. A peer that is not installed is named with the reason and its column is empty."""
import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import peers
from common import Table, cell, once, resident, rss, start_peer, times

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
LIMITS_KIB = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


class Bundle:
    """A busybox bundle for the OCI runtimes."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        (self.path / "rootfs/bin").mkdir(parents=True)
        for d in ("proc", "sys", "dev", "tmp", "etc"):
            (self.path / "rootfs" / d).mkdir()
        shutil.copy("/bin/busybox", self.path / "rootfs/bin/busybox")
        for a in ("true", "sh", "sleep"):
            os.symlink("busybox", self.path / "rootfs/bin" / a)
        self.write(["/bin/true"])

    def write(self, args, memory=None):
        opts = ["nosuid", "noexec", "nodev"]
        linux = {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]}
        if memory:
            linux["resources"] = {"memory": {"limit": memory, "swap": memory}}
        (self.path / "config.json").write_text(json.dumps({
            "ociVersion": "1.0.2",
            "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"}, "hostname": "bench",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": opts},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": opts},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": opts + ["ro"]}],
            "linux": linux}))


def smallest_limit(command, bundle):
    """The smallest memory limit with which five runs of five succeed."""
    for kib in LIMITS_KIB:
        bundle.write(["/bin/true"], kib * 1024)
        try:
            for i in range(5):
                once(command("run", "--bundle", bundle.path, "bench-limit"))
        except (RuntimeError, subprocess.TimeoutExpired):
            subprocess.run(command("delete", "-f", "bench-limit"), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            continue
        finally:
            bundle.write(["/bin/true"])
        return f"{kib} KiB"
    return "above 8 MiB"


def many(command, bundle, count):
    """create, start, delete, one container after another."""
    t = time.perf_counter()
    for i in range(count):
        cid = f"bench-{i}"
        subprocess.run(command("create", "--bundle", bundle.path, cid), check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        once(command("start", cid))
        once(command("delete", "-f", cid))
    dt = time.perf_counter() - t
    return f"{dt:.1f} s ({dt * 1000 / count:.1f} ms each)"


def runtimes(t, a, h, base):
    """The OCI runtimes by themselves; called inside the peers' namespaces."""
    bundle = Bundle(f"{base}/bundle")
    bundle_run = Bundle(f"{base}/bundle-exec")
    bundle_run.write(["/bin/sleep", "1000"])
    peak, floor = f"{base}/peak", f"{base}/floor"
    for exe in (peak, floor):
        subprocess.run(["cc", "-O2", "-static", "-o", exe, str(ROOT / f"bench/{os.path.basename(exe)}.c")], check=True)
    have = {"insula-runtime": h.program("insula-runtime")}
    have.update((n, n) for n in ("crun", "runc") if not peers.missing((n,)))

    # In memory, as /run is, where they keep it by default: else the disk's file system is measured too.
    state = pathlib.Path(base) / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(state)], check=True)

    def of(exe):
        return lambda *args: [exe, "--root", f"{state}/{os.path.basename(exe)}", *map(str, args)]
    cmd = {n: of(exe) for n, exe in have.items()}
    run = {n: (c("run", "--bundle", bundle.path, f"bench-{n}"), None) for n, c in cmd.items()}
    # What no runtime can be faster than: the same work of the kernel, and nothing else.
    run["kernel alone"] = ([floor, str(bundle.path / "rootfs"), "bench-floor", "/bin/true"], None)
    t.add("`run` of a bundle, from idle", "4 ms, below crun", times(run, a.runs, a.pause))
    t.add("`run` of a bundle, back to back", "", times(run, a.runs * 2, 0))
    for n, c in cmd.items():
        # The container keeps what it gets as standard error: no pipe.
        subprocess.run(c("run", "-d", "--bundle", bundle_run.path, f"exec-{n}"), check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.add("runtime's `exec` of `true`", "",
          times({n: (c("exec", f"exec-{n}", "/bin/true"), None) for n, c in cmd.items()}, a.runs, a.pause))
    for n, c in cmd.items():
        once(c("delete", "-f", f"exec-{n}"))
    t.add(f"create, start, delete of {a.containers} containers", "",
          {n: many(c, bundle, a.containers) for n, c in cmd.items()})
    t.add("peak memory of `run`, with all its processes", "", {
        n: f"{int(once([peak, *c('run', '--bundle', bundle.path, 'bench-peak')], out=subprocess.PIPE))} KiB"
        for n, c in cmd.items()})
    t.add("smallest memory limit", "", {n: smallest_limit(c, bundle) for n, c in cmd.items()})


def ports(t, a, e, command):
    """A container with a port, with none and with a thousand published beside it."""
    row = {"insula": command("run", "--rm", "-p", "127.0.0.1:29999:80", "busybox", "true")}
    t.add("the same with a published port", "", times(row, a.runs, a.pause))
    others = [e.cli("insula", "run", "-d", "-p", f"127.0.0.1:{p}-{p + 99}:1-100", "busybox", "sleep", "1000").ok()
              for p in range(20000, 21000, 100)]
    t.add("the same beside 1,000 published ports", "as the first", times(row, a.runs, a.pause))
    e.cli("insula", "rm", "-f", *others).ok()


def readiness(t, a, h, base):
    """From the daemon's exec until the first answer; its store is there already, as it is on each start but the first."""
    e, found = h.Engine(f"{base}/ready"), []
    for i in range(a.runs + 1):
        time.sleep(a.pause)
        start = time.perf_counter()
        e.spawn()
        while not answers(e.sock):
            if e.proc.poll() is not None:
                raise RuntimeError(f"insulad ended ({e.proc.returncode})")
        if i:
            found.append((time.perf_counter() - start) * 1000)
        e.stop()
    t.add("a daemon until it answers", "50 ms", {"insula": cell(found)})


def answers(path):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(path))
            s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return s.recv(64).startswith(b"HTTP/1.")
    except (FileNotFoundError, ConnectionError):
        time.sleep(0.0005)
        return False


def engines(t, a, h, e, docker, podman):
    """Whole engines through their CLIs."""
    env, ins = e.env(), h.program("insula")

    def both(*args):
        return {"insula": ([ins, *args], env), "docker CLI on insulad": ([h.docker_cli(), *args], env)}

    def with_peers(*args):
        rows = both(*args)
        if docker:
            rows["docker"] = (docker.command(*args), docker.env)
        if podman:
            limits = podman.LIMITS if args[0] == "run" else ()
            rows["podman"] = (podman.command(args[0], *limits, *args[1:]), podman.env)
        return rows
    t.add("`run --rm --network none busybox true`", "15 ms",
          times(with_peers("run", "--rm", "--network", "none", "busybox", "true"), a.runs, a.pause))
    t.add("the same on the default bridge", "25 ms",
          times(with_peers("run", "--rm", "busybox", "true"), a.runs, a.pause))
    ports(t, a, e, lambda *args: ([ins, *args], env))
    cid = e.cli("insula", "run", "-d", "--name", "bench", "busybox", "sleep", "1000").ok()
    for p, limits in ((docker, ()), (podman, peers.Podman.LIMITS)):
        if p:
            p("run", "-d", "--name", "bench", *limits, "busybox", "sleep", "1000")
    t.add("`exec` of `true`, process", "6 ms", times(with_peers("exec", "bench", "true"), a.runs, a.pause))
    hyperv = both("run", "--rm", "--isolation=hyperv", "busybox", "true")
    t.add("`run --rm --isolation=hyperv busybox true`", "350 ms emulated, 80 ms KVM",
          times(hyperv, max(5, a.runs // 2), a.pause))
    vm = e.cli("insula", "run", "-d", "--name", "vm", "--isolation=hyperv", "busybox", "sleep", "1000").ok()
    t.add("`exec` of `true`, hyperv", "", times(both("exec", "vm", "true"), a.runs, a.pause))
    time.sleep(2)
    cells = {"insula": f"insulad {rss(e.proc.pid):.1f} MiB"}
    if docker:
        cells["docker"] = resident("dockerd", str(docker.base)) + ", " + resident("containerd", str(docker.base))
    t.add("resident, the daemon with two containers", "8 MiB", cells)
    cells = {"insula": resident("insula-shim", cid)}
    if docker:
        cells["docker"] = resident("containerd-shim-runc-v2", str(docker.base))
    if podman:
        cells["podman"] = resident("conmon", str(podman.base))
    t.add("resident, each container", "1 MiB", cells)
    t.add("resident, each hyperv container without QEMU", "2 MiB", {"insula": resident("vmwp", vm)})
    e.cli("insula", "rm", "-f", cid, vm)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--runs", type=int, default=20)
    ap.add_argument("--pause", type=float, default=0.25, help="seconds before each run")
    ap.add_argument("--containers", type=int, default=1000, help="how many to create, start and delete")
    ap.add_argument("--runtimes", metavar="DIR", help=argparse.SUPPRESS)
    a = ap.parse_args()
    os.environ["INSULA_BUILD"] = os.environ.get("INSULA_BUILD") or str(pathlib.Path(a.build).resolve())
    import conftest as h
    if a.runtimes:
        t = Table()
        runtimes(t, a, h, a.runtimes)
        print(json.dumps(t.rows))
        return
    base = tempfile.mkdtemp(prefix="insula-bench-")
    t, e, place, started = Table(), h.Engine(base), peers.Place(), []
    image = h.IMAGES / "busybox.tar"
    for n in ("crun", "runc"):
        if peers.missing((n,)):
            print(f"{n} takes no part: not installed", flush=True)
    try:
        e.start()
        e.cli("insula", "load", "-q", "-i", image).ok()
        started = [start_peer(k, place, base, image) for k in (peers.Docker, peers.Podman)]
        engines(t, a, h, e, *started)
        readiness(t, a, h, base)
        out = subprocess.run(place.at(sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--runtimes", base), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, check=True).stdout
        t.rows += json.loads(out)
        print(f"\n{t.text()}")
    finally:
        for p in filter(None, started):
            p.stop()
        e.stop()
        place.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
