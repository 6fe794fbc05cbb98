#!/usr/bin/python3
"""Network figures beside the peers, in one run, as one table.

What a bridge adds to a start; and TCP in MiB/s between a container and the host, both ways, and between two containers:
tests/tools/netask.c sends, netserve.c takes, the same two programs on all sides. Beside docker for processes, beside a
QEMU with nothing but a tap for virtual machines.

Each engine lives in a network namespace of its own, with the host's end of its connections: it has its own rules to bear
and nobody else's. Both engines' containers are in one control group: in its own, each would share the processors with what
else runs in there. The sides are up at once and measured in turn, in each round in the opposite order of the round before;
each sends some times through one connection after the other, of which the first, in which its engine may still be busy
with the command, does not count. A cell is the median of the rounds; a ratio is the median of the ratios of each round,
for the machine is not equally fast all the time. Containers and the host's end are new in each round, for two of the same
kind are not equally fast either, as long as they live (docs/PERFORMANCE.md). Machines, where the ratio is far from 1, stay."""
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
import plain_vm

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
PORT = 18080


class Host:
    """The host's end of connections, in a place of its own."""

    def __init__(self, place, tools):
        self.at, self.netask, self.tools = place.at, tools / "netask", tools
        self.start()

    def start(self):
        self.sink = subprocess.Popen(self.at(self.tools / "netserve", f"sink:{PORT}"), stdin=subprocess.DEVNULL)

    def send(self, address, *args):
        argv = self.at(self.netask, "send", address, PORT, *args)
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True).stdout

    def stop(self):
        self.sink.kill()
        self.sink.wait()


class Side:
    """An engine with two containers that take and can send."""

    def __init__(self, run, host, tools, *options):
        self.run, self.host, self.tools, self.options = run, host, tools, options
        self.start()

    def start(self):
        self.ids = [self.run("run", "-d", *self.options, "-v", f"{self.tools}:/t:ro", "busybox", "/t/netserve", f"sink:{PORT}")
                    for _ in "12"]
        nets = [d["NetworkSettings"]["Networks"]["bridge"] for d in json.loads(self.run("inspect", *self.ids))]
        self.gateway, self.addresses = nets[0]["Gateway"], [n["IPAddress"] for n in nets]

    def renew(self):
        for x in (self, self.host):
            x.stop()
            x.start()

    def send(self, *args):
        return self.run("exec", self.ids[0], "/t/netask", "send", *args)

    def out(self, *args):
        return self.send(self.gateway, PORT, *args)

    def into(self, *args):
        return self.host.send(self.addresses[0], *args)

    def between(self, *args):
        return self.send(self.addresses[1], PORT, *args)

    def stop(self):
        self.run("rm", "-f", *self.ids)


class Plain(plain_vm.PlainVm):
    """The same questions to a machine without an engine; it has no neighbour."""

    def __init__(self, place, host, base, guest, tools):
        super().__init__(place, base, guest, tools, PORT)
        self.host, self.between = host, None

    def out(self, *args):
        return self.send(self.gateway, PORT, *args)

    def into(self, *args):
        return self.host.send(self.address, *args)


WAYS = {"out": "TCP from {} to the host, MiB/s", "into": "TCP from the host to {}, MiB/s", "between": "TCP between two of {}, MiB/s"}


def throughput(sides, what, runs, mib, renew, times=3):
    """sides: column -> Side, ours first. renew: they are new in each round. Yields rows; the ratio is ours to the second."""
    got = {way: {n: [] for n in sides if getattr(sides[n], way)} for way in WAYS}
    for i in range(runs):
        if renew and i:
            for s in sides.values():
                s.renew()
        for way, v in got.items():
            for n in list(v) if i % 2 else [*v][::-1]:
                each = [float(x) for x in getattr(sides[n], way)(times, mib << 20).split()]
                v[n].append(statistics.median(each[1:]))
    for way, text in WAYS.items():
        cells = {n: f"{statistics.median(v):.0f}" for n, v in got[way].items()}
        if len(cells) > 1:
            ratios = [a / b for a, b in zip(*got[way].values())]
            cells["ratio"] = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {text.format(what)}: {cells}", file=sys.stderr, flush=True)
        yield text.format(what), cells


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
    yield "what the bridge adds (at most 10), ms", {n: f"{m[n, 'bridge'] - m[n, 'none']:.1f}" for n in commands}


def table(rows):
    names = ["insula", "docker", "insula, hyperv", "plain QEMU", "ratio"]
    lines = [["what", *names], ["---"] * (len(names) + 1), *([what, *(cells.get(n, "-") for n in names)] for what, cells in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measure(a, h, e, docker, base, place, hosts):
    """hosts: by engine. Both containers of a side are gone when it returns."""
    tools, rows, sides = pathlib.Path(os.environ["INSULA_BUILD"]) / "tests", [], {}

    def ours(*args):
        return e.cli("insula", *args).ok()
    commands = {"insula": lambda net: (e.argv("insula", "run", "--rm", "--network", net, "busybox", "true"), e.env())}
    if docker:
        commands["docker"] = lambda net: (docker.command("run", "--rm", "--network", net, "busybox", "true"), docker.env)
    rows += starts(commands, a.runs, a.pause)
    try:
        sides["insula"] = Side(ours, hosts["insula"], tools)
        if docker:
            sides["docker"] = Side(docker, hosts["docker"], tools)
        rows += throughput(sides, "a container", a.runs, a.mib, True)
        while sides:
            sides.popitem()[1].stop()
        sides["insula, hyperv"] = Side(ours, hosts["insula"], tools, "--isolation=hyperv")
        why = peers.missing(Plain.needs)
        if why:
            print(f"a plain QEMU takes no part: {why}", flush=True)
        else:
            sides["plain QEMU"] = Plain(place, hosts["insula"], base, h.VM_DIR, tools)
        rows += throughput(sides, "a virtual machine", max(3, a.runs // 2), a.mib // 16, False)
    finally:
        while sides:
            sides.popitem()[1].stop()
    print(table(rows))


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
    tools = pathlib.Path(os.environ["INSULA_BUILD"]) / "tests"
    places = {n: peers.Place() for n in ("insula", "docker")}
    hosts = {n: Host(p, tools) for n, p in places.items()}
    e, docker = h.Engine(base, peers.Place.UNDER_ONE), None
    e.prefix = ["nsenter", "-t", str(places["insula"].holder.pid), "-n", "--"]
    try:
        e.start()
        e.cli("insula", "load", "-q", "-i", h.IMAGES / "busybox.tar").ok()
        why = peers.missing(peers.Docker.needs)
        if why:
            print(f"docker takes no part: {why}", flush=True)
        else:
            docker = peers.Docker(places["docker"], base, h.IMAGES / "busybox.tar", peers.Place.UNDER_ONE)
        measure(a, h, e, docker, base, places["insula"], hosts)
    finally:
        if docker:
            docker.stop()
        e.stop()
        for x in (*hosts.values(), *places.values()):
            x.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
