#!/usr/bin/env python3
"""Runs the tests and ends with one line: N passed, N failed.

Plain: layer check, unit tests, system tests, short fuzzing. --full adds the parts of EXTRA: missing and failing system
calls, other engines, the nested machine, soak, longer fuzzing, sanitizers. A part that cannot run counts as a failure, never as a
skip. What there is no time for (--minutes) is said to be left out; of a part that is cut off, what has run counts.
--part runs only the named parts, each to its end."""
import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, wait

ROOT = pathlib.Path(__file__).resolve().parent.parent
PY = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
# Whoever runs us in the background may ignore it, and what we start would inherit that: step() sends it.
signal.signal(signal.SIGINT, signal.default_int_handler)
total = {"passed": 0, "failed": 0}
left_out = []


class OutOfTime(Exception):
    pass


class Clock:
    """The moment at which the part that runs is cut off."""
    end = float("inf")

    def left(self):
        return max(1, self.end - time.time())


clock = Clock()


def count(name, passed, failed):
    total["passed"] += passed
    total["failed"] += failed
    print(f"== {name}: {passed} passed, {failed} failed", flush=True)


def leave_out(name, why):
    left_out.append(f"-- left out: {name}: {why}")
    print(left_out[-1], flush=True)


def junit(path, cut=False):
    """Passed and failed cases of a JUnit file; skipped ones count as failed. The one in which it was cut off is none."""
    passed = failed = 0
    cases = list(ET.parse(path).getroot().iter("testcase"))
    for case in cases:
        bad = [x for t in ("failure", "error", "skipped") if (x := case.find(t)) is not None]
        if cut and any("KeyboardInterrupt" in (x.text or "") for x in bad):
            continue
        if bad:
            failed += 1
        elif not cut or case is not cases[-1]:
            passed += 1
    return passed, failed


def step(name, cmd, **kw):
    """The exit code. Whoever is out of time gets the chance to clean up behind itself, as after ctrl-c."""
    print(f"-- {name}", flush=True)
    p = subprocess.Popen(cmd, cwd=ROOT, **kw)
    try:
        return p.wait(None if clock.end == float("inf") else clock.left())
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGINT)
        try:
            p.wait(60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        raise OutOfTime from None


def lint(build):
    for check in ("check-layers", "check-columns"):
        rc = step(check, [f"tools/{check}"])
        count(check, int(rc == 0), int(rc != 0))


def unit(build):
    rc = step("unit tests", ["meson", "test", "-C", str(build), "--suite", "unit", "--print-errorlogs", "--no-rebuild"])
    files = list((build / "meson-logs").glob("testlog.junit.xml"))
    if files:
        count("unit tests", *junit(files[0]))
    elif rc:
        count("unit tests", 0, 1)


def pytest_argv(out, args):
    return [PY, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--durations=10", f"--junitxml={out}", *args]


def pytest_env(build, more):
    e = dict(os.environ, INSULA_BUILD=str(build), INSULA_VM_DIR=str(build / "guest"), PYTHONDONTWRITEBYTECODE="1", **more)
    e.setdefault("INSULA_IMAGES", str(ROOT / "build" / "images"))
    return e


def pytest(build, name, args, env=None):
    out = build / f"{name}.xml"
    out.unlink(missing_ok=True)
    try:
        step(name, pytest_argv(out, args), env=pytest_env(build, env or {}))
    finally:
        count_junit(name, out)


def count_junit(name, out):
    """One without a report failed, unless it was cut off before there was one."""
    cut = time.time() >= clock.end
    if out.exists():
        count(name, *junit(out, cut))
    elif not cut:
        count(name, 0, 1)


def pytest_shared(build, name, args, more=None):
    """Two processes, with a daemon each, share the files (pytest_runtestloop in conftest.py): much of a test is waiting."""
    with tempfile.TemporaryDirectory(prefix="insula-share-") as share, ThreadPoolExecutor(2) as pool:
        env = pytest_env(build, {"INSULA_SHARE": share, **(more or {})})
        outs = [build / f"{name}-{i}.xml" for i in (1, 2)]
        logs = [out.with_suffix(".log") for out in outs]
        for out in outs:
            out.unlink(missing_ok=True)
        with open(logs[0], "w") as a, open(logs[1], "w") as b:
            runs = [pool.submit(step, f"{name}, process {i + 1} of 2", pytest_argv(outs[i], args), env=env, stdout=f,
                                stderr=subprocess.STDOUT) for i, f in enumerate((a, b))]
            wait(runs)
        for log, out in zip(logs, outs):
            print(log.read_text(errors="replace"), flush=True)
            count_junit(name, out)
        for run in runs:
            run.result()


def fuzz_target(fb, src, seconds):
    """Builds one libFuzzer target and lets it run, starting from its corpus."""
    head = src.read_text().split("*/", 1)[0]
    deps = re.findall(r"src/\S+\.c", head)
    libs = re.findall(r"(?:-l|-Wl,|-no-)\S+", head)
    exe = fb / src.stem
    cc = ["clang", "-g", "-O1", "-std=gnu17", "-D_GNU_SOURCE", '-DINSULA_VERSION="fuzz"', '-DINSULA_APPARMOR="fuzz"', "-fsanitize=fuzzer,address,undefined",
          "-fno-sanitize-recover=undefined", "-Isrc", "-I.", str(src), *deps, *libs, "-o", str(exe)]
    if step(f"build {src.stem}", cc) != 0:
        return False
    corpus = fb / f"{src.stem}.corpus"
    corpus.mkdir(exist_ok=True)
    seeds = ROOT / "tests/fuzz/corpus" / src.stem
    dirs = [str(corpus)] + ([str(seeds)] if seeds.is_dir() else [])
    return step(src.stem, [str(exe), f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-verbosity=0",
                           f"-artifact_prefix={fb}/", *dirs]) == 0


def fuzz(build, seconds):
    """Each target for some seconds, two at a time."""
    fb = build / "fuzz"
    fb.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(fuzz_target, fb, src, seconds) for src in sorted((ROOT / "tests/fuzz").glob("fuzz_*.c"))]
        wait(runs)
    ended = [run.result() for run in runs if run.exception() is None]
    count("fuzzing", ended.count(True), ended.count(False))
    for run in runs:
        run.result()


# They start machines, which have a kernel of their own, compare with those, or link the programs anew.
NOT_WITHOUT_CALLS = ("vmwp", "agent", "accel", "apparmor", "selinux", "install", "same")


def enosys(build):
    """The whole suite in process isolation once more, where the calls that have a substitute are missing
    (tests/tools/enosys.c)."""
    pytest_shared(build, "enosys", ["tests/system", "tests/conformance", "-k", "not hyperv",
                                    *(f"--ignore=tests/system/test_{t}.py" for t in NOT_WITHOUT_CALLS)],
                  {"INSULA_ENOSYS": "clone3,close_range,mount_setattr,setns_pidfd", "INSULA_FAULT_STEP": "17"})


def faults(build):
    """Each system call of `create` fails in turn, where `make check` takes every fifth."""
    pytest(build, "faults", ["tests/system/test_faults.py"], {"INSULA_FAULT_STEP": "1", "INSULA_TEST_SECONDS": "900"})


def nested(build):
    """In a machine with cgroup v2, systemd, Debian's own kernel and a true KVM; in another with cgroup v1."""
    log = build / "nested.log"
    try:
        with open(log, "w") as f:
            step("nested machine", ["tests/nested/run.py", "--build", str(build)], stdout=f)
    finally:
        text = log.read_text(errors="replace")
        print(text, flush=True)
        last = re.search(r"(\d+) passed, (\d+) failed\s*$", text)
        count("nested machine", *map(int, last.groups()) if last else (0, 1))


def soak(build):
    pytest(build, "soak", ["-s", "tests/soak"])


# What a sanitizer itself changes: programs that are linked dynamically, and need more memory than their bounds.
NOT_SANITIZED = (
    "test_sockets.py::test_own_socket",                     # copies the static CLI into a container
    "test_runtime.py::test_own_binary_on_a_tmpfs_or_a_read_only_mount",
    "test_faults.py::test_nothing_is_left_whatever_fails",  # the loader's calls fail too
    "test_hostile.py::test_windows_of_gigabytes",           # the parser's bound on memory is off
    "test_service.py::test_thousand_event_streams",         # they look at the daemon's memory
    "test_service.py::test_slow_follower_is_dropped",
)


def sanitized(build):
    """Units and system tests on a build with ASan and UBSan: the first error ends the program that makes it."""
    sb = build.parent / (build.name + "-asan")
    if not (sb / "build.ninja").exists():
        if step("configure ASan+UBSan", ["meson", "setup", str(sb), "-Db_sanitize=address,undefined", "-Db_lundef=false",
                                         "-Dc_args=-fno-sanitize-recover=undefined"]):
            return count("sanitizers", 0, 1)
    if step("build ASan+UBSan", ["ninja", "--quiet", "-C", str(sb)]) or \
       step("guest image ASan+UBSan", ["tools/guest-image", str(sb / "guest"), str(sb)]):
        return count("sanitizers", 0, 1)
    unit(sb)
    pytest_shared(sb, "system-asan", ["tests/system", "--ignore=tests/system/test_install.py",
                                      *(f"--deselect=tests/system/{t}" for t in NOT_SANITIZED)])


def compat(build):
    """insula-runtime below containerd, Podman and dockerd; the tests of the docker CLI with Debian's older one; clients
    that come from elsewhere than Debian."""
    if step("packages of the other engines", ["tools/install-deps", "compat"]):
        return count("compat", 0, 1)
    pytest(build, "compat", ["tests/compat"])
    path = os.pathsep.join(["/usr/bin", os.environ["PATH"]])
    pytest(build, "docker-20.10", ["tests/system/test_demo.py", "tests/system/test_cli.py", "tests/clients/test_tour.py",
                                   "-k", "docker"], {"PATH": path})
    pytest(build, "clients", ["tests/clients"])


CHECK = {
    "lint": lint,
    "unit": unit,
    "system": lambda build: pytest_shared(build, "system", ["tests/system", "--ignore=tests/system/test_install.py"]),
    # By itself: installing to another prefix links all programs anew.
    "install": lambda build: pytest(build, "install", ["tests/system/test_install.py"]),
    "conformance": lambda build: pytest(build, "conformance", ["tests/conformance"]),
    "fuzz": lambda build: fuzz(build, 5),
}
# Beyond `make check`, by worth: what, and how many minutes it takes on two cores. It is cut off after half as much
# again, and not begun if less than half of the time is left.
EXTRA = {
    "enosys": (enosys, 12),
    "faults": (faults, 3),
    "compat": (compat, 9),
    "nested": (nested, 14),
    # test_chaos_long 5, test_soak 3, test_bombs 3, test_ports_churn 1.3, test_host_disk 1, test_many 0.1
    "soak": (soak, 14),
    "long-fuzz": (lambda build: fuzz(build, 30), 4),
    "sanitized": (sanitized, 30),
}


def extra(build, name, end):
    part, minutes = EXTRA[name]
    start = time.time()
    if end - start < minutes * 30:
        return leave_out(name, "no time")
    clock.end = min(end, start + minutes * 90)
    try:
        part(build)
    except OutOfTime:
        leave_out(name, f"cut off after {(time.time() - start) / 60:.0f} minutes, what had run counts")
    finally:
        clock.end = float("inf")
    print(f"-- {name} took {(time.time() - start) / 60:.1f} of {minutes} minutes", flush=True)


def main():
    ap = argparse.ArgumentParser(usage="%(prog)s [options] [pytest's arguments instead of everything]")
    ap.add_argument("--build", default="build")
    ap.add_argument("--full", action="store_true", help="and the parts of EXTRA")
    ap.add_argument("--part", action="append", choices=[*CHECK, *EXTRA], help="only this (several times: these), without a limit")
    ap.add_argument("--minutes", type=float, help="what of EXTRA does not fit in is left out")
    ap.add_argument("--without", action="append", default=[], choices=[*EXTRA], help="a part of EXTRA to leave out")
    ap.add_argument("--since", type=float, default=time.time(), help="the moment from which they count (date +%%s)")
    a, rest = ap.parse_known_args()
    build = pathlib.Path(a.build).resolve()
    for name in a.part or [*CHECK, *(EXTRA if a.full else ())] if not rest else ():
        if name in a.without:
            leave_out(name, "not asked for")
        elif name in CHECK:
            CHECK[name](build)
        elif a.part and a.minutes is None:
            EXTRA[name][0](build)
        else:
            extra(build, name, a.since + (a.minutes or 10000) * 60)
    if rest:
        pytest(build, "system", rest)
    print("\n".join([*left_out, f"{total['passed']} passed, {total['failed']} failed"]))
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
