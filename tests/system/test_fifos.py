"""FIFOs of the host in a container, alike in both modes: under hyperv bytes are relayed in the direction in which the
container uses it, and only while it does."""
import contextlib
import hashlib
import os
import stat
import subprocess
import time

import pytest

from conftest import wait_for


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "p"
    os.mkfifo(path)
    os.chmod(path, 0o666)
    return path


@pytest.fixture
def host():
    """host(command) -> a process on the host, with a pipe from it."""
    running = []

    def start(script, **kw):
        p = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, **kw)
        running.append(p)
        return p
    yield start
    for p in running:
        p.kill()
        p.wait()


@pytest.mark.parametrize("form", ["-v", "bind", "npipe"])
def test_forms(c, fifo, host, form):
    """Both ways, one after the other, each with its end."""
    m = ["-v", f"{fifo}:/p"] if form == "-v" else ["--mount", f"type={form},src={fifo},dst=/p"]
    cid = c.rund(*m, "busybox", "sleep", "1000")
    assert c("exec", cid, "stat", "-c", "%F %a", "/p").ok() == "fifo 666"
    for i in range(3):
        host(f"echo in {i} > {fifo}")
        assert c("exec", cid, "cat", "/p").ok() == f"in {i}"
        out = host(f"cat {fifo}")
        c("exec", cid, "sh", "-c", f"echo out {i} > /p").ok()
        assert out.communicate(timeout=60)[0] == b"out %d\n" % i


def test_bulk_with_checksum(c, fifo, host, tmp_path):
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sleep", "1000")
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    host(f"cat {tmp_path}/data > {fifo}")
    assert c("exec", cid, "sh", "-c", "sha256sum /p").ok().split()[0] == digest
    out = host(f"sha256sum < {fifo}")
    c("exec", "-i", cid, "sh", "-c", "head -c 3000000 /dev/zero > /p").ok()
    assert out.communicate(timeout=60)[0].split()[0].decode() == hashlib.sha256(bytes(3000000)).hexdigest()


def test_a_slow_reader_holds_the_writer_back(c, fifo):
    """No more is on its way than pipes and windows hold."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sleep", "1000")
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    c("exec", "-d", cid, "sh", "-c", "head -c 4000000 /dev/zero > /p; touch /written").ok()
    os.set_blocking(fd, True)
    got = 0
    while got < 500000:
        # before somebody writes there is nothing, not even an end
        got += len(os.read(fd, 65536)) or time.sleep(0.02) or 0
    assert c("exec", cid, "ls", "/written").code != 0
    while got < 4000000:
        got += len(os.read(fd, 65536))
    wait_for(lambda: os.read(fd, 65536) == b"")
    os.close(fd)
    wait_for(lambda: c("exec", cid, "ls", "/written").code == 0)
    assert got == 4000000


def test_nothing_is_taken_from_others(c, fifo, host):
    """A container that has the pipe and does not use it is not in the way; nor is one that writes."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sleep", "1000")
    for i in range(20):
        out = host(f"cat {fifo}")
        host(f"echo {i} > {fifo}").wait(60)
        assert out.communicate(timeout=60)[0] == b"%d\n" % i
    out = host(f"cat {fifo}")
    keep = open(fifo, "wb", buffering=0)
    c("exec", cid, "sh", "-c", "echo container > /p").ok()
    wait_for(lambda: out.stdout.readline() == b"container\n")
    keep.write(b"host\n")
    keep.close()
    assert out.communicate(timeout=60)[0] == b"host\n"


def test_a_reader_that_comes_again(c, fifo):
    """A service that reads one line after the other, each from another writer. Who opens again before a writer has
    closed sees his end, with one FIFO as with two."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sh", "-c", "while true; do read -r line < /p && echo got $line; done")
    for i in range(5):
        with open(fifo, "w") as f:
            f.write(f"line {i}\n")
        wait_for(lambda i=i: c("logs", cid).out.splitlines() == [f"got line {k}" for k in range(i + 1)])


def test_a_reader_that_stays(c, fifo):
    """It sees an end after each writer, and reads on."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sh", "-c",
                 "exec 3</p; while true; do read -r line <&3 && echo got $line || sleep 0.1; done")
    for i in range(3):
        with open(fifo, "w") as f:
            f.write(f"line {i}\n")
        wait_for(lambda i=i: c("logs", cid).out.splitlines() == [f"got line {k}" for k in range(i + 1)])


def test_an_end_without_bytes(c, fifo, host):
    """Also after somebody has had it open both ways."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sleep", "1000")
    assert c("exec", cid, "sh", "-c", "exec 3<>/p; echo self >&3; read -r x <&3; echo $x").ok() == "self"
    host(f": > {fifo}")
    assert c("exec", cid, "cat", "/p").ok() == ""


def test_a_reader_that_leaves(c, fifo, host):
    """Whoever goes on writing to it hears of that, and the next ones begin anew."""
    cid = c.rund("-v", f"{fifo}:/p", "busybox", "sleep", "1000")
    for i in range(3):
        out = host(f"head -n 1 {fifo}")
        assert c("exec", cid, "sh", "-c", "yes > /p; echo $?").out == "141\n"
        assert out.communicate(timeout=60)[0] == b"y\n"
        out = host(f"cat {fifo}")
        c("exec", cid, "sh", "-c", "echo next > /p").ok()
        assert out.communicate(timeout=60)[0] == b"next\n"
    # he hears of it by his next word, however late that comes
    out = host(f"head -n 1 {fifo}")
    writer = c.popen("exec", "-i", cid, "sh", "-c", "exec 3>/p; while read -r line; do echo $line >&3; done", stdin=subprocess.PIPE)
    print("one", file=writer.stdin, flush=True)
    assert out.communicate(timeout=60)[0] == b"one\n"

    def broken():
        with contextlib.suppress(BrokenPipeError):
            print("more", file=writer.stdin, flush=True)
        return writer.poll() is not None
    wait_for(broken)
    assert writer.returncode == 141


def test_the_last_words(c, fifo, host):
    """What a container writes just before its end arrives."""
    out = host(f"cat {fifo}")
    c("run", "--rm", "-v", f"{fifo}:/p", "busybox", "sh", "-c", "head -c 60000 /dev/zero > /p").ok()
    assert len(out.communicate(timeout=60)[0]) == 60000


def test_a_device_is_no_file(c):
    r = c("create", "-v", "/dev/null:/n", "busybox")
    if c.isolation == "hyperv":
        assert r.code != 0 and "bind mount of '/dev/null': a device of the host is none of a virtual machine's kernel; use --device" in r.err
    else:
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and r.code == 0
