"""The host's disk is full, or broken: a container gets an error, in both modes, and nothing stands still."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import IMAGES, Cli, Engine, wait_for  # noqa: E402

MB = 1 << 20
ERRORS = "No space left|I/O error|Input/output|Read-only"
# More than is left, and it must have reached the disk; and again, into a file that is there: each page of it is an
# error for a file system that has given up.
WRITES = ["dd if=/dev/zero of=/big bs=1M count=100 conv=fsync", "dd if=/dev/zero of=/big bs=1M count=100 conv=notrunc,fsync"]


def mount(*args):
    subprocess.run(["mount", *map(str, args)], check=True)


def fill(d, left):
    """A file that leaves so much of the file system."""
    s = os.statvfs(d)
    with open(d / "ballast", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, s.f_bavail * s.f_frsize - left)


@contextlib.contextmanager
def daemon(isolation):
    """(its directory, its data root, what starts it): the data root can be mounted before."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="insula-test-"))
    data = base / "data"
    data.mkdir()
    e = Engine(str(base))

    def start():
        e.start()
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        return Cli(e, "insula", isolation)
    try:
        yield base, data, start
    finally:
        # A full disk does not let the daemon remove them.
        e.cli("insula", "kill", *e.cli("insula", "ps", "-q").out.split())
        e.stop()
        subprocess.run(["umount", "-q", "-l", data], check=False)
        # One that finds no container takes along the network that the other one left to its own.
        e.start()
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def small(isolation):
    """Its data root is a small file system."""
    with daemon(isolation) as (base, data, start):
        mount("-t", "tmpfs", "-o", "size=600m", "none", data)
        yield start()


@pytest.fixture
def disk(isolation):
    """Its data root is on a disk: (cli, the file that is the disk)."""
    with daemon(isolation) as (base, data, start):
        under = base / "under"
        under.mkdir()
        loop = None
        try:
            mount("-t", "tmpfs", "-o", "size=700m", "none", under)
            with open(under / "disk", "wb") as f:
                f.truncate(2048 * MB)
            subprocess.run(["mkfs.ext4", "-q", "-F", under / "disk"], check=True)
            loop = subprocess.run(["losetup", "--show", "-f", under / "disk"], check=True, capture_output=True, text=True).stdout.strip()
            mount(loop, data)
            yield start(), under / "disk"
        finally:
            if loop:
                subprocess.run(["losetup", "-d", loop], check=False)    # goes with its last user
            subprocess.run(["umount", "-q", "-l", under], check=False)


def fails_and_goes_on(c, cid):
    for write in WRITES:
        r = c("exec", cid, "sh", "-c", write)
        assert r.code != 0 and re.search(ERRORS, r.err), r
    assert c("exec", cid, "echo", "here").ok() == "here"
    assert c.state(cid, "Running") == "true"


def test_a_full_disk(small):
    c = small
    data = pathlib.Path(c.engine.data)
    cid = c.rund("busybox", "sleep", "100000")
    fill(data, 24 * MB)
    fails_and_goes_on(c, cid)
    os.unlink(data / "ballast")
    c("rm", "-f", cid).ok()
    # There is room again, for new ones at least: the file system of one that met an error may be read-only.
    wait_for(lambda: c("run", "--rm", "busybox", "sh", "-c", "echo x > /f; sync; cat /f").out == "x\n")


def test_a_disk_that_takes_no_more_writes(disk):
    """What has room in the file system has none on the disk: an I/O error of the host's device."""
    c, image = disk
    cid = c.rund("busybox", "sleep", "100000")
    fill(image.parent, 24 * MB)
    fails_and_goes_on(c, cid)
    c("kill", cid).ok()
    wait_for(lambda: c.state(cid, "Running") == "false")


READER = """dd if=/dev/urandom of=/big bs=1M count=50 conv=fsync 2>/dev/null; echo begins
while :; do echo 3 >/proc/sys/vm/drop_caches; cat /big >/dev/null || echo failed; sleep 1; done"""


def test_a_disk_that_cannot_be_read(disk):
    """The file, or the program that reads it: the reader is told, or killed where it has not got itself any more."""
    c, image = disk
    cid = c.rund("--privileged", "--ulimit", "core=0", "busybox", "sh", "-c", READER)
    wait_for(lambda: "begins" in c("logs", cid).out)
    os.truncate(image, 1 * MB)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")
    wait_for(lambda: "failed" in c("logs", cid).out or c.state(cid, "Running") == "false")
    c("exec", cid, "true")              # it ends, whatever comes of it
    c("kill", cid)
    wait_for(lambda: c.state(cid, "Running") == "false")
    assert c.state(cid, "ExitCode") in ("137", "135", "139")
