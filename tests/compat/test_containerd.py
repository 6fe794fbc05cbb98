"""containerd with insula-runtime as its runc (ctr run --runc-binary)."""
import time

import pytest
from conftest import IMAGE, RUNTIME, terminal


@pytest.fixture(scope="module")
def ctr(place, base):
    import peers
    c = peers.Containerd(place, base, IMAGE)
    c.image = c("images", "ls", "-q").split()[0]
    c.ours = ("--runc-binary", RUNTIME)
    yield c
    c.stop()


def test_run(ctr):
    assert ctr("run", "--rm", *ctr.ours, ctr.image, "t-run", "echo", "hello") == "hello"
    assert ctr.run("run", "--rm", *ctr.ours, ctr.image, "t-exit", "sh", "-c", "exit 5").returncode == 5


def test_terminal(ctr):
    out = terminal(ctr.command("run", "--rm", "-t", *ctr.ours, ctr.image, "t-tty", "tty"))
    assert "/dev/pts/0" in out


def test_command_that_is_not_there(ctr):
    r = ctr.run("run", "--rm", *ctr.ours, ctr.image, "t-none", "/nope")
    assert r.returncode != 0 and 'exec: "/nope"' in r.stderr
    assert "no such file or directory" in r.stderr
    assert "t-none" not in ctr("task", "ls", "-q").split()


def test_life_of_a_task(ctr):
    ctr("run", "-d", *ctr.ours, "--memory-limit", "67108864", ctr.image, "t-life", "sleep", "1000")
    status = lambda: next(x.split()[2] for x in ctr("task", "ls").splitlines() if x.startswith("t-life"))
    assert status() == "RUNNING"
    assert "sleep 1000" in ctr("task", "exec", "--exec-id", "e1", "t-life", "ps")
    assert ctr.run("task", "exec", "--exec-id", "e2", "t-life", "sh", "-c", "exit 3").returncode == 3
    assert "/dev/pts/0" in terminal(ctr.command("task", "exec", "-t", "--exec-id", "e3", "t-life", "tty"))
    ctr("task", "pause", "t-life")
    assert status() == "PAUSED"
    ctr("task", "resume", "t-life")
    assert status() == "RUNNING"
    metrics = dict(x.split()[:2] for x in ctr("task", "metrics", "t-life").splitlines() if len(x.split()) == 2)
    assert metrics["memory.limit_in_bytes"] == "67108864" and metrics["pids.current"] == "1"
    assert len(ctr("task", "ps", "t-life").splitlines()) == 2
    ctr("task", "kill", "-s", "SIGKILL", "t-life")
    end = time.time() + 60
    while status() != "STOPPED":
        assert time.time() < end
        time.sleep(0.05)
    assert "exit code 137" in ctr.run("task", "rm", "t-life").stderr
    ctr("container", "rm", "t-life")
