#!/usr/bin/env python3
"""Runs the programs of a suite (suite.py) for each of some runtimes and writes what came of it. It needs nothing but
Python, for it runs in machines too.

	runner.py SUITE RESULTS NAME=PATH...

RESULTS: one JSON object a line, {"program", "runtime", "code", "out", "err"}; "-": packed, on standard output. Program after
program, and for each the runtimes one after the other, so that they find the same host. With JOBS=2 in the environment, two
programs at a time; PROGRAMS names those that are to be run."""
import base64
import gzip
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

SECONDS = 600
# The same view for all: crun refuses to run beside a cgroup2 mount without controllers.
PLACE = ["unshare", "-m", "--propagation", "private", "sh", "-c",
         "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified || exit 1; exec \"$@\"", "sh"]


def read(path):
    return path.read_text(errors="replace") if path.exists() else ""


def clean_up(command):
    """What a program leaves behind when it fails."""
    p = subprocess.run([*PLACE, command, "list", "-q"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    for cid in p.stdout.split():
        subprocess.run([*PLACE, command, "delete", "-f", cid], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)


def remove_groups():
    """Of testdir/cgrouptest/container, which some name, no runtime removes but the last."""
    for top, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if "/testdir/" in top + "/":
            try:
                os.rmdir(top)
            except OSError:
                pass


def run(suite, program, runtime, path):
    """In directories of its own, below which the runtime keeps its containers too."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="insula-validation-"))
    work.chmod(0o755)
    command, tmp = work / runtime, work / "tmp"
    tmp.mkdir()
    command.write_text(f'#!/bin/sh\nexec {path} --root {work}/root "$@"\n')
    command.chmod(0o755)
    with open(work / "out", "w") as out, open(work / "err", "w") as err:
        p = subprocess.Popen([*PLACE, str(suite / "programs" / program)], cwd=suite, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                             env=dict(os.environ, RUNTIME=str(command), TMPDIR=str(tmp)), start_new_session=True)
        try:
            code = p.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
            code = "timeout"
    clean_up(str(command))
    result = {"program": program, "runtime": runtime, "code": code, "out": read(work / "out"), "err": read(work / "err")}
    shutil.rmtree(work, ignore_errors=True)
    return result


def write(results, result):
    text = json.dumps(result)
    if results == "-":
        sys.stdout.write("result: " + base64.b64encode(gzip.compress(text.encode())).decode() + "\n")
        return sys.stdout.flush()
    with open(results, "a") as f:
        f.write(text + "\n")
    print(result["program"], result["runtime"], result["code"], flush=True)


def main():
    suite, results = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    runtimes = [a.split("=", 1) for a in sys.argv[3:]]
    if results != "-":
        pathlib.Path(results).unlink(missing_ok=True)

    def queue(programs):
        for program in programs:
            for name, path in runtimes:
                write(results, run(suite, program, name, path))

    programs = os.environ.get("PROGRAMS", "").split() or sorted(p.name for p in (suite / "programs").iterdir())
    two = os.environ.get("JOBS") == "2"
    # All programs about cgroups have the same one.
    group = [p for p in programs if p.startswith(("linux_cgroups_", "delete_"))] if two else []
    rest = iter([p for p in programs if p not in group])
    with ThreadPoolExecutor(1 + two) as pool:
        list(pool.map(queue, (itertools.chain(group, rest), rest)[:1 + two]))
    remove_groups()


main()
