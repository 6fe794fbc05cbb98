"""run -it gives a proper terminal: size, control characters, job control, detach, raw mode restored."""
import os
import select
import signal
import subprocess
import termios
import time

import pexpect
import pytest
from conftest import wait_for


def spawn(c, *args, dims=(30, 100)):
    argv = c.engine.argv(c.name, *c.args(args))
    return pexpect.spawn(argv[0], argv[1:], env=c.engine.env(), timeout=120, encoding="utf-8", dimensions=dims)


def test_size_and_resize(both):
    t = spawn(both, "run", "-it", "--rm", "busybox", "sh")
    t.expect("# ")
    t.sendline("stty size")
    t.expect("30 100")
    t.setwinsize(40, 90)
    t.expect("# ")

    def resized():
        t.sendline("stty size")
        return t.expect(["40 90", "30 100"]) == 0
    wait_for(resized)
    t.sendline("exit")
    t.expect(pexpect.EOF)


def test_ctrl_c_and_job_control(c):
    t = spawn(c, "run", "-it", "--rm", "busybox", "sh")
    t.expect("# ")
    # The quotes are not in what it says: it runs, in the foreground, once that is read.
    command = "sh -c 'echo runs\"\"now; exec sleep 1000'"
    t.sendline(command)
    t.expect("runsnow")
    t.send("\x03")
    t.expect("# ")
    t.sendline("echo code $?")
    t.expect("code 130")
    t.sendline(command)
    t.expect("runsnow")
    t.send("\x1a")
    # What is stopped is said with its command, as jobs says it.
    t.expect("Stopped")
    t.expect("sleep 1000")
    t.expect("# ")
    t.sendline("jobs")
    t.expect("sleep 1000")
    t.expect("# ")
    t.sendline("fg")
    t.expect("sleep 1000")
    # fg says so before it gives the terminal away
    wait_for(lambda: t.send("\x03") and t.expect(["# ", pexpect.TIMEOUT], timeout=1) == 0)
    t.sendline("exit 3")
    t.expect(pexpect.EOF)
    t.close()
    assert t.exitstatus == 3


def test_detach_and_attach(both):
    t = spawn(both, "run", "-it", "--name", "det", "busybox", "sh")
    t.expect("# ")
    t.send("\x10\x11")
    t.expect(pexpect.EOF)
    assert both("inspect", "-f", "{{.State.Running}}", "det").ok() == "true"
    a = spawn(both, "attach", "det")
    a.sendline("echo back again")
    a.expect("back again\r\n")
    a.sendline("exit")
    a.expect(pexpect.EOF)
    assert both("wait", "det").ok() == "0"


def test_exec_tty(c):
    cid = c.rund("busybox", "sleep", "1000")
    t = spawn(c, "exec", "-it", cid, "sh")
    t.expect("# ")
    t.sendline("tty; exit 4")
    t.expect("/dev/pts/")
    t.expect(pexpect.EOF)
    t.close()
    assert t.exitstatus == 4


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
@pytest.mark.parametrize("how", ["exit", "detach", "term", "error"])
def test_raw_mode_is_restored(c, how):
    """The terminal of a shell that ran us is as it was, whichever way we ended."""
    argv = c.engine.argv(c.name, *c.args(["run", "-it", "--rm", "busybox", "nosuch" if how == "error" else "sh"]))
    pid, master = os.forkpty()
    if pid == 0:
        before = termios.tcgetattr(0)
        p = subprocess.Popen(argv, env=c.engine.env())
        p.wait()
        same = termios.tcgetattr(0)[:4] == before[:4]
        os.write(1, b"RESTORED" if same else b"STILL RAW")
        os._exit(0)
    seen = b""

    def read_until(word):
        nonlocal seen
        while word not in seen:
            chunk = os.read(master, 4096)
            if not chunk:
                raise AssertionError(seen)
            seen += chunk
    try:
        if how != "error":
            read_until(b"# ")
        if how == "exit":
            os.write(master, b"exit\n")
        elif how == "detach":
            os.write(master, b"\x10\x11")
        elif how == "term":
            kids = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
            # The signal is passed on to a shell that ignores it; the third one ends the client, as docker's.
            # Those that come while one is pending are one.
            while b"RESTORED" not in seen:
                try:
                    os.kill(int(kids[0]), signal.SIGTERM)
                except ProcessLookupError:
                    break
                if select.select([master], [], [], 0.3)[0]:
                    seen += os.read(master, 4096)
        read_until(b"RESTORED")
    finally:
        os.close(master)
        os.waitpid(pid, 0)


def test_tty_needs_a_terminal(c):
    r = c("run", "--rm", "-it", "busybox", "true", stdin="")
    assert r.code == 1 and "the input device is not a TTY" in r.err
