#!/usr/bin/env python3
"""Tests in a machine of their own (machine.py): Debian 12 with its own kernel, systemd, cgroup v2 and a true /dev/kvm.
What is not for it: tests that tell host and guest by the kernel's release, which is the same there.

	run.py --build BUILD

prints what pytest says inside and ends with `N passed, N failed`."""
import argparse
import re
import sys

from machine import DONE, Machine

RUNTIME = "tests/system/test_runtime.py tests/system/test_runtime_commands.py tests/system/test_runtime_limits.py tests/system/test_runtime_rootless.py"
PROCESS = "tests/system/test_isolation.py -k 'process'"
# Each boot: its name, further words for the kernel, and pytest's arguments, one run each.
BOOTS = {
    "v2": ("", [
        RUNTIME + " -k 'not frozen_cgroup_is_refused'",
        PROCESS,
        "tests/system/test_demo.py -k 'insula and not another_kernel and not shows_the_mode'",
        "tests/nested/test_kvm.py",
        "tests/nested/test_systemd.py",
    ]),
    # Every hierarchy is of version 1: an older host, or one whose administrator wants it so.
    "v1": ("systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1", [
        RUNTIME + " -k 'not delegated_cgroup_of_version_2'",
        PROCESS,
        "tests/nested/test_systemd.py -k process",
    ]),
}
# Which of them is this boot's: a word of the kernel's.
BODY = """for word in $(cat /proc/cmdline); do
    case $word in insula.boot=*) boot=${word#*=} ;; esac
done
case $boot in
%s
esac"""


def body():
    pytest = "python3 -m pytest -q -p no:cacheprovider --color=no --tb=short -rs "
    return BODY % "".join(f"{name})\n" + "".join(f"{pytest}{r}\n" for r in runs) + ";;\n" for name, (_, runs) in BOOTS.items())


def result(name, text, cut):
    """What its runs say: passed, failed. A skipped test has failed."""
    runs = BOOTS[name][1]
    sums = re.findall(r"^(?=.*(?:passed|failed|error)).* in [\d.]+s.*$", text, re.M)
    passed = sum(int(n) for line in sums for n in re.findall(r"(\d+) passed", line))
    failed = sum(int(n) for line in sums for n in re.findall(r"(\d+) (?:failed|error|skipped)", line))
    if not cut and (len(sums) != len(runs) or DONE not in text):
        print(f"nested: {len(sums)} of {len(runs)} runs ended")
        failed += 1
    return passed, failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--boot", choices=BOOTS, action="append")
    a = ap.parse_args()
    machine = Machine(a.build, body())
    passed = failed = 0
    for name in a.boot or BOOTS:
        text, cut = machine.boot(f"insula.boot={name} {BOOTS[name][0]}")
        print(f"-- boot {name}\n{text}", flush=True)
        p, f = result(name, text, cut)
        passed, failed = passed + p, failed + f
        if cut:
            break
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
