"""What the benchmarks share: timing of whole processes in turn, a table of cells, resident memory, the peers."""
import os
import statistics
import subprocess
import sys
import time

import peers

COLUMNS = ("insula", "docker CLI on insulad", "docker", "podman", "insula-runtime", "crun", "runc", "kernel alone")


class Table:
    """Rows of cells by column; printed as Markdown."""

    def __init__(self):
        self.rows = []

    def add(self, what, budget, cells):
        self.rows.append((what, budget, cells))
        print(f"  {what}: " + ", ".join(f"{n} {c}" for n, c in cells.items()), file=sys.stderr, flush=True)

    def text(self):
        used = [c for c in COLUMNS if any(c in cells for _, _, cells in self.rows)]
        head = ["what", "budget", *used]
        lines = [head, ["---"] * len(head)]
        lines += [[what, budget or "-", *(cells.get(c, "") for c in used)] for what, budget, cells in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def once(argv, env=None, cwd=None, out=None):
    t = time.perf_counter()
    p = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out or subprocess.DEVNULL,
                       stderr=subprocess.PIPE, timeout=120)
    dt = (time.perf_counter() - t) * 1000
    if p.returncode:
        raise RuntimeError(p.stderr.decode(errors="replace").strip()[-200:] or f"exit {p.returncode}")
    return p.stdout if out else dt


def cell(t):
    """Of the times of one row."""
    t = sorted(t)
    return f"{statistics.median(t):.1f} ms ({t[len(t) // 10]:.1f})"


def sample(rows, runs, pause):
    """rows: column -> (argv, env) or a function to be timed. Interleaved, the first run of each not counted.
    -> column -> ms of each run, or None if one failed"""
    found = {n: [] for n in rows}
    for i in range(runs + 1):
        for n, what in rows.items():
            if found[n] is None:
                continue
            time.sleep(pause)
            try:
                dt = elapsed(what) if callable(what) else once(*what)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as ex:
                found[n] = None
                print(f"{n}: {ex}", file=sys.stderr)
                continue
            if i:
                found[n].append(dt)
    return found


def elapsed(fn):
    t = time.perf_counter()
    fn()
    return (time.perf_counter() - t) * 1000


def times(rows, runs, pause):
    """As sample, as cells."""
    return {n: "failed" if t is None else cell(t) for n, t in sample(rows, runs, pause).items()}


def rss(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def processes():
    """Pid, name, command line of all."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield pid, open(f"/proc/{pid}/comm").read().strip(), open(f"/proc/{pid}/cmdline").read()
        except OSError:
            pass


def resident(name, word):
    """Resident memory of the process with that name and a word in its command line, as a cell."""
    found = [rss(pid) for pid, comm, cmd in processes() if comm == name[:15] and word in cmd]
    return f"{name} {found[0]:.1f} MiB" if found else f"{name} not found"


def start_peer(kind, place, base, image):
    name = kind.__name__.lower()
    why = peers.missing(kind.needs)
    try:
        if not why:
            return kind(place, base, image)
    except (RuntimeError, OSError) as ex:
        why = str(ex)
    print(f"{name} takes no part: {why}", flush=True)
    return None
