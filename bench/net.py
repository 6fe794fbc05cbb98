#!/usr/bin/python3
"""Network figures beside docker, in one run, as one table: what a bridge adds to a start, and TCP between a container and
the host, both ways (tests/tools/netask.c sends, netserve.c takes), in turn. A cell is the median; of a throughput in
MiB/s, of a start in ms. Both engines, and the host's side with them, live in one network namespace: other daemons' rules
of this host cost neither of them anything."""
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

import peers

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
PORTS = {"insula": 18080, "docker": 18081, "insula, hyperv": 18082}


class Side:
    """An engine, its container that takes and can send, and the host's sink beside it."""

    def __init__(self, name, run, at, tools, *options):
        self.name, self.at, self.tools = name, at, tools
        self.run, self.port = run, PORTS[name]
        self.sink = subprocess.Popen(at(tools / "netserve", f"sink:{self.port}"), stdin=subprocess.DEVNULL)
        self.cid = run("run", "-d", *options, "-v", f"{tools}:/t:ro", "busybox", "/t/netserve", f"sink:{self.port}")
        d = json.loads(run("inspect", self.cid))[0]["NetworkSettings"]["Networks"]["bridge"]
        self.gateway, self.address = d["Gateway"], d["IPAddress"]

    def out(self, mib):
        return float(self.run("exec", self.cid, "/t/netask", "send", self.gateway, self.port, 1, mib << 20))

    def into(self, mib):
        argv = self.at(self.tools / "netask", "send", self.address, self.port, 1, mib << 20)
        return float(subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True).stdout)

    def stop(self):
        self.run("rm", "-f", self.cid)
        self.sink.kill()
        self.sink.wait()


def throughput(sides, runs, mib):
    rows = {"TCP from a container to the host, MiB/s": Side.out, "TCP from the host to a container, MiB/s": Side.into}
    for what, fn in rows.items():
        got = {s.name: [] for s in sides}
        for i in range(runs + 1):
            for s in sides:
                v = fn(s, mib[s.name])
                if i:
                    got[s.name].append(v)
        yield what, {n: f"{statistics.median(v):.0f}" for n, v in got.items()}


def starts(commands, runs, pause):
    """Start and end of `true` with and without a bridge, in turn; the difference of the medians."""
    got = {(n, net): [] for n in commands for net in ("none", "bridge")}
    for i in range(runs + 1):
        for (n, net), v in got.items():
            argv, env = commands[n](net)
            time.sleep(pause)
            t = time.perf_counter()
            subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            if i:
                v.append((time.perf_counter() - t) * 1000)
    m = {k: statistics.median(v) for k, v in got.items()}
    for net in ("none", "bridge"):
        yield f"`run --rm --network {net} busybox true`, ms", {n: f"{m[n, net]:.1f}" for n in commands}
    yield "what the bridge adds, ms", {n: f"{m[n, 'bridge'] - m[n, 'none']:.1f}" for n in commands}


def table(rows):
    names = list(dict.fromkeys(n for _, cells in rows for n in cells))
    lines = [["what", *names], ["---"] * (len(names) + 1), *([what, *(cells.get(n, "") for n in names)] for what, cells in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--runs", type=int, default=10)
    ap.add_argument("--pause", type=float, default=0.25)
    ap.add_argument("--mib", type=int, default=2048, help="through each connection; a sixteenth of it for a machine")
    a = ap.parse_args()
    os.environ["INSULA_BUILD"] = os.environ.get("INSULA_BUILD") or str(pathlib.Path(a.build).resolve())
    import conftest as h
    base = tempfile.mkdtemp(prefix="insula-bench-")
    e, place, docker, sides = h.Engine(base), peers.Place(), None, []
    e.prefix = ["nsenter", "-t", str(place.holder.pid), "-n", "--"]
    tools = pathlib.Path(os.environ["INSULA_BUILD"]) / "tests"

    def ours(*args):
        return e.cli("insula", *args).ok()
    try:
        e.start()
        ours("load", "-q", "-i", h.IMAGES / "busybox.tar")
        why = peers.missing(peers.Docker.needs)
        if why:
            print(f"docker takes no part: {why}", flush=True)
        else:
            docker = peers.Docker(place, base, h.IMAGES / "busybox.tar")
        commands = {"insula": lambda net: (e.argv("insula", "run", "--rm", "--network", net, "busybox", "true"), e.env())}
        if docker:
            commands["docker"] = lambda net: (docker.command("run", "--rm", "--network", net, "busybox", "true"), docker.env)
        rows = list(starts(commands, a.runs, a.pause))
        sides.append(Side("insula", ours, place.at, tools))
        if docker:
            sides.append(Side("docker", docker, place.at, tools))
        rows += throughput(sides, a.runs, {"insula": a.mib, "docker": a.mib})
        sides.pop(0).stop()
        sides.insert(0, Side("insula, hyperv", ours, place.at, tools, "--isolation=hyperv"))
        for what, cells in throughput(sides[:1], max(3, a.runs // 3), {"insula, hyperv": a.mib // 16}):
            next(c for w, c in rows if w == what).update(cells)
        print(table(rows))
    finally:
        for s in sides:
            s.stop()
        if docker:
            docker.stop()
        e.stop()
        place.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
