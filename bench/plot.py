#!/usr/bin/python3
"""How insula behaves as a host fills: the start time against the number of containers that run, in both modes, as an
SVG; and what a virtual machine costs beside process mode: exec and stop, disk and network throughput, memory.

Times are of whole `insula run -d` processes. Other work on the machine shows in them: run it alone."""
import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
MODES = {"process": "#2a6f97", "hyperv": "#c1121f"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 400, 60, 46, 34
MB = 1 << 20


# --- the plot ---

def steps(limit):
    """Round numbers from 0 to limit, six of them at most."""
    size = next(f * 10 ** e for e in range(9) for f in (1, 2, 5) if limit / (f * 10 ** e) < 6)
    return range(0, int(limit) + 1, size)


def svg(series):
    """series: mode -> [(containers, ms)]. Both axes linear, from 0."""
    most = max(n for points in series.values() for n, _ in points)
    longest = max(t for points in series.values() for _, t in points) * 1.08
    x = lambda n: LEFT + (WIDTH - LEFT - 20) * n / most
    y = lambda t: HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * t / longest
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">insula run -d busybox: time against containers that run already</text>']
    for t in steps(longest):
        out += [f'<line x1="{LEFT}" y1="{y(t):.1f}" x2="{WIDTH - 20}" y2="{y(t):.1f}" stroke="#ddd"/>',
                f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>']
    for n in steps(most):
        out.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n:g}</text>')
    out += [f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">containers running</text>',
            f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">ms</text>']
    for i, (mode, points) in enumerate(series.items()):
        line = " ".join(f"{x(n):.1f},{y(t):.1f}" for n, t in points)
        out += [f'<polyline points="{line}" fill="none" stroke="{MODES[mode]}" stroke-width="1.5"/>',
                f'<text x="{LEFT + 10 + 150 * i}" y="{TOP + 2}" fill="{MODES[mode]}">--isolation={mode}</text>']
    return "\n".join(out + ["</svg>", ""])


# --- what is measured ---

def starts(e, mode, count, pause):
    """Starts containers one after the other, and leaves them running. -> [(running before, ms)]"""
    points = []
    for n in range(count):
        time.sleep(pause)
        t = time.perf_counter()
        e.cli("insula", "run", "-d", f"--isolation={mode}", "busybox", "sleep", "100000").ok()
        points.append((n, (time.perf_counter() - t) * 1000))
    return points


def memory(e):
    """MB that each virtual machine has to itself: QEMU and its supervisor, on average."""
    total, n = 0, 0
    for cid in e.cli("insula", "ps", "-q", "--no-trunc").out.split():
        for field in ("WorkerPid", "MonitorPid"):
            pid = e.cli("insula", "inspect", "-f", "{{.VirtualMachine.%s}}" % field, cid).ok()
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(m) for m in re.findall(r"^Private_(?:Dirty|Clean):\s+(\d+)", rollup, re.M))
        n += 1
    return total / 1024 / n


def clear(e):
    ids = e.cli("insula", "ps", "-aq").out.split()
    if ids:
        e.cli("insula", "rm", "-f", *ids).ok()


def seconds(e, cid, *argv):
    t = time.perf_counter()
    e.cli("insula", "exec", cid, *argv).ok()
    return time.perf_counter() - t


def commands(e, mode, runs):
    """ms of exec and of stop, medians: of an idle container whose init ends on SIGTERM."""
    execs, stops = [], []
    for _ in range(runs):
        cid = e.cli("insula", "run", "-d", "--init", f"--isolation={mode}", "busybox", "sleep", "100000").ok()
        for _ in range(3):
            time.sleep(0.25)
            execs.append(seconds(e, cid, "true") * 1000)
        t = time.perf_counter()
        e.cli("insula", "stop", cid).ok()
        stops.append((time.perf_counter() - t) * 1000)
        clear(e)
    return statistics.median(execs), statistics.median(stops)


def disk(e, mode, size):
    """MB/s of writing (to the end of fsync) and of reading a file that no cache of the container holds."""
    cid = e.cli("insula", "run", "-d", "--privileged", f"--isolation={mode}", "busybox", "sleep", "100000").ok()
    write = seconds(e, cid, "dd", "if=/dev/zero", "of=/file", "bs=1M", f"count={size}", "conv=fsync")
    drop = "echo 3 > /proc/sys/vm/drop_caches"
    if mode == "hyperv":
        e.cli("insula", "exec", cid, "sh", "-c", drop).ok()
    read = seconds(e, cid, "dd", "if=/file", "of=/dev/null", "bs=1M")
    clear(e)
    return size / write, size / read


def network(e, mode, size):
    """MB/s of TCP over the bridge, from one container to another of the same mode."""
    server = e.cli("insula", "run", "-d", f"--isolation={mode}", "busybox", "sh", "-c",
                   f"dd if=/dev/zero of=/f bs=1M count={size}; httpd -f -p 80 -h /").ok()
    client = e.cli("insula", "run", "-d", f"--isolation={mode}", "busybox", "sleep", "100000").ok()
    address = e.cli("insula", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", server).ok()
    while e.cli("insula", "exec", client, "wget", "-q", "--spider", f"http://{address}/f").code:
        time.sleep(0.2)
    t = seconds(e, client, "wget", "-q", "-O", "/dev/null", f"http://{address}/f")
    clear(e)
    return size / t


def ratio(what, values):
    print(f"| {what} | {values['process']:.0f} MB/s | {values['hyperv']:.0f} MB/s | "
          f"{values['hyperv'] / values['process']:.2f} |", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--containers", type=int, default=20, help="of each mode, running at once")
    ap.add_argument("--size", type=int, default=256, help="MB of each transfer")
    ap.add_argument("--pause", type=float, default=0.25, help="seconds before each start")
    ap.add_argument("--plot", default=str(ROOT / "docs/starts.svg"))
    a = ap.parse_args()
    os.environ["INSULA_BUILD"] = os.environ.get("INSULA_BUILD") or str(pathlib.Path(a.build).resolve())
    import conftest as h
    base = tempfile.mkdtemp(prefix="insula-bench-")
    e, series = h.Engine(base), {}
    try:
        e.start()
        e.cli("insula", "load", "-q", "-i", h.IMAGES / "busybox.tar").ok()
        e.cli("insula", "run", "--rm", "--isolation=hyperv", "busybox", "true").ok()     # the template is made
        for mode in MODES:
            series[mode] = starts(e, mode, a.containers, a.pause)
            times = [t for _, t in series[mode]]
            print(f"{mode}: {a.containers} at once; start {statistics.median(times[:5]):.0f} ms (the first five), "
                  f"{statistics.median(times[-5:]):.0f} ms (the last five)", flush=True)
            if mode == "hyperv":
                print(f"hyperv: {memory(e):.0f} MB of its own for each", flush=True)
            clear(e)
        pathlib.Path(a.plot).write_text(svg(series))
        for mode in MODES:
            print("%s: exec %.0f ms, stop %.0f ms" % (mode, *commands(e, mode, 5)), flush=True)
        disks = {m: disk(e, m, a.size) for m in MODES}
        print("| | process | hyperv | ratio |\n|---|---|---|---|")
        ratio("write, sequential, with fsync", {m: v[0] for m, v in disks.items()})
        ratio("read, sequential", {m: v[1] for m, v in disks.items()})
        ratio("TCP through the bridge", {m: network(e, m, a.size) for m in MODES})
    finally:
        clear(e)
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
