#!/usr/bin/python3
"""VM exits of a hyperv container's life under KVM: start, exec, stop, and a second of doing nothing.

Each is counted in a machine that is emulated (tests/nested/machine.py), because its KVM is a true one wherever this is
run. Times there mean nothing. How often the guest needs the host does: on a processor an exit is 1 to 2 us for KVM alone,
and more where QEMU has to act. They are counted by the kernel's tracepoint kvm_exit, for all machines together; there is
one at a time.

	kvm.py [--build BUILD]      prints the table
	kvm.py --inside             is what it runs in that machine"""
import argparse
import pathlib
import re
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRACING = pathlib.Path("/sys/kernel/tracing")
EVENT = TRACING / "events/kvm/kvm_exit"
HIST = "hist:keys=exit_reason"
# AMD's codes of those that are many; what is not named is counted as the rest.
REASONS = {0x60: "interrupt", 0x64: "interrupt window", 0x72: "cpuid", 0x78: "halt", 0x7b: "port", 0x7c: "msr",
           0x400: "memory"}
RUNS = 5


def exits(do):
    """What do() causes: reason -> how many."""
    (EVENT / "trigger").write_text(HIST)
    try:
        do()
        text = (EVENT / "hist").read_text()
    finally:
        (EVENT / "trigger").write_text("!" + HIST)
    return {int(reason, 0): int(n) for reason, n in re.findall(r"exit_reason:\s*(\w+)\s*}\s*hitcount:\s*(\d+)", text)}


def row(what, found, per=1):
    """One line of the table, of the counts of each run."""
    sums = [sum(f.values()) / per for f in found]
    parts = {name: statistics.median(f.get(code, 0) / per for f in found) for code, name in REASONS.items()}
    parts["others"] = statistics.median((sum(f.values()) - sum(f.get(c, 0) for c in REASONS)) / per for f in found)
    first = sorted((n, name) for name, n in parts.items() if n >= 1)[::-1]
    print(f"| {what} | {statistics.median(sums):.0f} ({min(sums):.0f} to {max(sums):.0f}) | "
          + ", ".join(f"{name} {n:.0f}" for n, name in first) + " |", flush=True)


def measure(e):
    def cli(*args):
        return e.cli("insula", *args).ok()

    def start(what, *options):
        run = ("run", "--rm", "--isolation=hyperv", *options, "busybox", "true")
        row(what, [exits(lambda: cli(*run)) for _ in range(RUNS)])

    def up():
        return cli("run", "-d", "--init", "--isolation=hyperv", "busybox", "sleep", "100000")
    cli("run", "--rm", "--isolation=hyperv", "busybox", "true")     # the template, and the disk of the image
    start("`run --rm --isolation=hyperv --network none busybox true`", "--network=none")
    start("the same, cold boot", "--network=none", "--vm-template=off")
    start("`run --rm --isolation=hyperv busybox true`, on the default bridge")
    cid = up()
    time.sleep(10)
    cli("exec", cid, "true")
    row("`exec` of `true`", [exits(lambda: cli("exec", cid, "true")) for _ in range(RUNS)])
    time.sleep(10)
    row("a second of an idle container", [exits(lambda: time.sleep(10)) for _ in range(RUNS)], 10)
    found = []
    for _ in range(RUNS):
        found.append(exits(lambda: cli("stop", cid)))
        cli("rm", "-f", cid)
        cid = up()
        time.sleep(5)
    cli("rm", "-f", cid)
    row("`stop` of an idle container (`--init`)", found)


def inside():
    sys.path.insert(0, str(ROOT / "tests/system"))
    import conftest
    print("| what | exits: median (least to most) | of them |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as d:
        e = conftest.Engine(d, ["--accel", "kvm"])
        e.start()
        try:
            e.cli("insula", "load", "-q", "-i", conftest.IMAGES / "busybox.tar").ok()
            measure(e)
        finally:
            e.cli("insula", "rm", "-f", *e.cli("insula", "ps", "-aq").out.split())
            e.stop()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default=ROOT / "build")
    ap.add_argument("--inside", action="store_true")
    a = ap.parse_args()
    if a.inside:
        return inside()
    sys.path.insert(0, str(ROOT / "tests/nested"))
    from machine import DONE, Machine
    text, cut = Machine(a.build, "python3 bench/kvm.py --inside 2>&1").boot()
    print(text)
    return 0 if DONE in text and text.count("\n| ") >= 6 else 1


sys.exit(main())
