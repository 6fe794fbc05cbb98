#!/usr/bin/python3
"""Figures of the Engine API, in one run, as one table: the real docker CLI on insulad and on dockerd, lists of a thousand,
exec through the API, what health checks cost, the daemon's memory.

Times are medians, in brackets the tenth percentile; ours and the peer's are taken in turn. The processor time of health
checks is that of the daemons and supervisors alone, as a share of one core."""
import argparse
import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import peers
from common import Table, cell, processes, rss, sample, start_peer, times

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
TICKS = os.sysconf("SC_CLK_TCK")


class Side:
    """A daemon that is spoken to through its socket; names: those of its processes that count as its own."""

    def __init__(self, base, sock, names, call):
        self.base, self.sock, self.names, self.ask = str(base), sock, names, call

    def __call__(self, method, path, body=None, want=(200, 201, 204), raw=False):
        status, answer = self.ask(self.sock, method, path, body, raw)
        if status not in want:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def start(self, name, **config):
        body = {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}, **config}
        cid = self("POST", f"/containers/create?name={name}", body)["Id"]
        self("POST", f"/containers/{cid}/start")
        return cid

    def start_many(self, n, **config):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda i: self.start(f"many-{i}", **config), range(n)))

    def remove(self, ids):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: self("DELETE", f"/containers/{i}?force=1"), ids))

    def exec_true(self, cid):
        xid = self("POST", f"/containers/{cid}/exec", {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True})["Id"]
        self("POST", f"/exec/{xid}/start", {"Detach": False, "Tty": False}, raw=True)
        if self("GET", f"/exec/{xid}/json")["ExitCode"] != 0:
            raise RuntimeError("exec of true failed")

    def cpu(self):
        """Seconds of processor time that its own processes have had."""
        total = 0
        for pid, comm, cmd in processes():
            if comm in self.names and self.base in cmd:
                with contextlib.suppress(OSError):
                    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
                    total += (int(f[11]) + int(f[12])) / TICKS
        return total


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files:
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
    return out.getvalue()


def many_images(n):
    """A docker archive of n images that share one layer."""
    plain = tar_of([("file", b"content")])
    diff = "sha256:" + hashlib.sha256(plain).hexdigest()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    files, manifest = [("layer.tar", plain)], []
    for i in range(n):
        config = {"architecture": arch, "os": "linux", "created": f"2024-01-{i % 28 + 1:02}T00:00:00Z", "author": str(i),
                  "config": {"Labels": {"maintainer": f"somebody {i}", "version": str(i)}}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
        files.append((f"{i}.json", json.dumps(config).encode()))
        manifest.append({"Config": f"{i}.json", "RepoTags": [f"registry.example/project/image{i}:1.{i}"], "Layers": ["layer.tar"]})
    files.append(("manifest.json", json.dumps(manifest).encode()))
    return tar_of(files)


class Bench:
    def __init__(self, a, h, base, place):
        from chaos import call
        self.a, self.h, self.base, self.table = a, h, pathlib.Path(base), Table()
        self.e = h.Engine(self.base / "insula")
        self.e.start()
        self.e.cli("insula", "load", "-q", "-i", h.IMAGES / "busybox.tar").ok()
        self.sides = {"insula": Side(self.e.base, self.e.sock, ("insulad", "insula-shim"), call)}
        self.docker = start_peer(peers.Docker, place, base, h.IMAGES / "busybox.tar")
        if self.docker:
            self.sides["docker"] = Side(self.docker.base, self.docker.base / "docker.sock",
                                        ("dockerd", "containerd", "containerd-shim"), call)
        self.ours = self.sides["insula"]

    def stop(self):
        if self.docker:
            self.docker.stop()
        self.e.stop()

    def both(self, *args):
        """A command of either CLI on our daemon."""
        return {"insula": (self.e.argv("insula", *args), self.e.env()), "docker CLI on insulad": (self.e.argv("docker", *args), self.e.env())}

    def idle(self):
        time.sleep(2)
        self.table.add("resident, the daemon idle", "8 MiB", {"insula": f"{rss(self.e.proc.pid):.1f} MiB"})

    def run(self):
        """The same client with both daemons."""
        args = ("run", "--rm", "busybox", "true")
        rows = {"docker CLI on insulad": self.both(*args)["docker CLI on insulad"]}
        if self.docker:
            rows["docker"] = ([self.h.docker_cli(), *args], self.docker.env)
        found = sample(rows, self.a.runs, self.a.pause)
        self.table.add("`docker run --rm busybox true`", "a fifth of docker's", {n: cell(t) if t else "failed" for n, t in found.items()})
        if all(found.values()) and self.docker:
            ratio = statistics.median(found["docker"]) / statistics.median(found["docker CLI on insulad"])
            self.table.add("how many times faster", "5", {"docker CLI on insulad": f"{ratio:.1f}"})

    def exec(self):
        ids = {n: s.start("exec") for n, s in self.sides.items()}
        self.table.add("exec of `true` through the API: create, start, its end, its code", "6 ms",
                       times({n: lambda s=s, i=ids[n]: s.exec_true(i) for n, s in self.sides.items()}, self.a.runs, self.a.pause))
        for n, s in self.sides.items():
            s.remove([ids[n]])

    def health(self):
        """The first seconds, in which containers start, do not count."""
        cells, n, seconds = {}, self.a.checks, self.a.seconds
        for name, s in self.sides.items():
            ids = s.start_many(n, Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9})
            time.sleep(5)
            before, began = s.cpu(), time.time()
            time.sleep(seconds)
            cells[name] = f"{(s.cpu() - before) / (time.time() - began) * 100:.1f} %"
            states = [s("GET", f"/containers/{i}/json")["State"]["Health"]["Status"] for i in ids]
            if states != ["healthy"] * n:
                cells[name] = "failed"
            s.remove(ids)
        self.table.add(f"{n} containers with a health check each second, of a core", "5 %", cells)

    def lists(self):
        """Of what a list takes, the answer of the daemon is a row of its own."""
        n = self.a.many
        (self.base / "many.tar").write_bytes(many_images(n))
        self.e.cli("insula", "load", "-q", "-i", self.base / "many.tar").ok()
        if len(self.ours("GET", "/images/json")) < n:
            raise RuntimeError("not all images are there")
        self.list_rows(f"`images` with {n} images", ("images",), "/images/json")
        ids = self.ours.start_many(n)
        if len(self.ours("GET", "/containers/json")) != n:
            raise RuntimeError("not all containers run")
        self.list_rows(f"`ps` with {n} running containers", ("ps",), "/containers/json")
        self.ours.remove(ids)

    def list_rows(self, what, args, path):
        self.table.add(what, "20 ms", times(self.both(*args), self.a.runs, 0.1))
        self.table.add(f"the daemon's part of it: `GET {path}`", "",
                       times({"insula": lambda: self.ours("GET", path, raw=True)}, self.a.runs, 0.1))

    def streams(self):
        from test_service import events, read_until
        ids = self.ours.start_many(200)
        with contextlib.ExitStack() as stack:
            for s in [stack.enter_context(events(self.e.sock)) for _ in range(1000)]:
                read_until(s, b"\r\n\r\n")
            time.sleep(2)
            self.table.add("resident, the daemon with 1,000 event streams and 200 containers", "32 MiB",
                           {"insula": f"{rss(self.e.proc.pid):.1f} MiB"})
        self.ours.remove(ids)


def main():
    parts = ("idle", "run", "exec", "health", "streams", "lists")
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--runs", type=int, default=20)
    ap.add_argument("--pause", type=float, default=0.25, help="seconds before each run")
    ap.add_argument("--many", type=int, default=1000, help="how many images and containers to list")
    ap.add_argument("--checks", type=int, default=50, help="how many containers have a health check")
    ap.add_argument("--seconds", type=float, default=20, help="how long they are watched")
    ap.add_argument("--part", action="append", choices=parts, help="only this (several times: these)")
    a = ap.parse_args()
    os.environ["INSULA_BUILD"] = os.environ.get("INSULA_BUILD") or str(pathlib.Path(a.build).resolve())
    import conftest as h
    base = tempfile.mkdtemp(prefix="insula-bench-")
    place, b = peers.Place(), None
    try:
        b = Bench(a, h, base, place)
        for part in a.part or parts:
            getattr(b, part)()
        print(f"\n{b.table.text()}")
    finally:
        if b:
            b.stop()
        place.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
