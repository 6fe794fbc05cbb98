#!/usr/bin/env python3
"""Runs the tests and ends with one line: N passed, N failed.

Plain: layer check, unit tests, system tests, short fuzzing. --full adds the parts of EXTRA: the nested machine, missing
system calls, soak, other engines, sanitizers, longer fuzzing. A part that cannot run counts as a failure, never as a
skip."""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parent.parent
PY = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
total = {"passed": 0, "failed": 0}


def count(name, passed, failed):
    total["passed"] += passed
    total["failed"] += failed
    print(f"== {name}: {passed} passed, {failed} failed", flush=True)


def junit(path):
    """Passed and failed cases of a JUnit file; skipped ones count as failed."""
    passed = failed = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if any(case.find(t) is not None for t in ("failure", "error", "skipped")):
            failed += 1
        else:
            passed += 1
    return passed, failed


def step(name, cmd, **kw):
    print(f"-- {name}", flush=True)
    r = subprocess.run(cmd, cwd=ROOT, **kw)
    return r.returncode


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


def pytest(build, name, args, env=None, timeout=None):
    out = build / f"{name}.xml"
    out.unlink(missing_ok=True)
    e = dict(os.environ, INSULA_BUILD=str(build), INSULA_VM_DIR=str(build / "guest"),
             PYTHONDONTWRITEBYTECODE="1", **(env or {}))
    e.setdefault("INSULA_IMAGES", str(ROOT / "build" / "images"))
    try:
        step(name, [PY, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={out}", *args],
             env=e, timeout=timeout)
    except subprocess.TimeoutExpired:
        print(f"{name}: out of time")
        count(name, 0, 1)
        return
    if out.exists():
        count(name, *junit(out))
    else:
        count(name, 0, 1)


def fuzz(build, seconds):
    """libFuzzer targets, each for some seconds, starting from its corpus."""
    passed = failed = 0
    fb = build / "fuzz"
    fb.mkdir(exist_ok=True)
    for src in sorted((ROOT / "tests/fuzz").glob("fuzz_*.c")):
        head = src.read_text().split("*/", 1)[0]
        deps = re.findall(r"src/\S+\.c", head)
        libs = re.findall(r"-l\S+", head)
        exe = fb / src.stem
        cc = ["clang", "-g", "-O1", "-std=gnu17", "-D_GNU_SOURCE", '-DINSULA_VERSION="fuzz"', "-fsanitize=fuzzer,address,undefined",
              "-fno-sanitize-recover=undefined", "-Isrc", str(src), *deps, *libs, "-o", str(exe)]
        if step(f"build {src.stem}", cc) != 0:
            failed += 1
            continue
        corpus = fb / f"{src.stem}.corpus"
        corpus.mkdir(exist_ok=True)
        seeds = ROOT / "tests/fuzz/corpus" / src.stem
        dirs = [str(corpus)] + ([str(seeds)] if seeds.is_dir() else [])
        rc = step(src.stem, [str(exe), f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-verbosity=0",
                             f"-artifact_prefix={fb}/", *dirs])
        passed += rc == 0
        failed += rc != 0
    count("fuzzing", passed, failed)


def enosys(build):
    """The same tests where the calls that have a substitute are missing (tests/tools/enosys.c)."""
    names = ("runtime", "runtime_commands", "runtime_limits", "escapes", "demo", "supervision", "bad_input")
    tests = [f"tests/system/test_{t}.py" for t in names] + ["tests/conformance"]
    pytest(build, "enosys", [*tests, "-k", "not hyperv and not not_root"],
           {"INSULA_ENOSYS": "clone3,close_range,mount_setattr,setns_pidfd"})


def nested(build):
    """In a machine with cgroup v2, systemd, Debian's own kernel and a true KVM."""
    print("-- nested machine", flush=True)
    p = subprocess.run(["tests/nested/run.py", "--build", str(build)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(p.stdout)
    last = re.search(r"(\d+) passed, (\d+) failed\s*$", p.stdout)
    count("nested machine", *map(int, last.groups()) if last else (0, 1))


def soak(build):
    pytest(build, "soak", ["-s", "tests/soak"])


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
    # What lives to its end frees little: leaks are the soak's matter.
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    unit(sb)
    pytest(sb, "system-asan", ["tests/system"])
    del os.environ["ASAN_OPTIONS"]


def compat(build):
    """insula-runtime below containerd, Podman and dockerd; the tests of the docker CLI with Debian's older one."""
    if step("packages of the other engines", ["tools/install-deps", "compat"]):
        return count("compat", 0, 1)
    pytest(build, "compat", ["tests/compat"])
    path = os.pathsep.join(["/usr/bin", os.environ["PATH"]])
    pytest(build, "docker-20.10", ["tests/system/test_demo.py", "tests/system/test_cli.py", "-k", "docker"], {"PATH": path})


# Beyond `make check`: what, and how many minutes it takes at the most on two cores.
EXTRA = [
    (nested, 12),
    (enosys, 5),
    (soak, 4),
    (compat, 8),
    (sanitized, 22),
    (lambda build: fuzz(build, 30), 8),
]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--full", action="store_true")
    ap.add_argument("--only-extra", action="store_true")
    ap.add_argument("--minutes", type=int, default=10000, help="what of the extra part does not fit in is left out")
    ap.add_argument("rest", nargs="*", help="pytest arguments instead of everything")
    a = ap.parse_args()
    build = pathlib.Path(a.build).resolve()
    end = time.time() + a.minutes * 60
    if a.rest:
        pytest(build, "system", a.rest)
    elif not a.only_extra:
        lint(build)
        unit(build)
        pytest(build, "system", ["tests/system"])
        pytest(build, "conformance", ["tests/conformance"])
        fuzz(build, 5)
    for part, minutes in EXTRA if a.full and not a.rest else []:
        if time.time() + minutes * 60 <= end:
            part(build)
        else:
            print(f"-- left out, there is no time: {part.__doc__ or part.__name__}", flush=True)
    print(f"{total['passed']} passed, {total['failed']} failed")
    return 1 if total["failed"] or not total["passed"] else 0


sys.exit(main())
