"""The daemon is killed with -9 while containers run: they run on, and nothing is lost."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import Engine, host_state, wait_for


def restart(c):
    c.engine.kill9()
    c.engine.start()


COUNTER = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); sleep 0.02; done"


def test_containers_survive_and_no_line_is_lost(own):
    cid = own.rund("--name", "count", "busybox", "sh", "-c", COUNTER)
    wait_for(lambda: "line 10\n" in own("logs", cid).out)
    own.engine.kill9()
    time.sleep(1)
    own.engine.start()
    assert own("ps", "-q", "--no-trunc").ok() == cid
    assert own("exec", cid, "echo", "still here").ok() == "still here"
    n = len(own("logs", cid).out.splitlines())
    wait_for(lambda: len(own("logs", cid).out.splitlines()) > n)
    lines = own("logs", cid).out.splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))]
    w = own.popen("wait", cid)
    own("stop", "-t", "1", cid).ok()
    assert w.communicate(timeout=60)[0] == "137\n"


def test_exit_code_while_the_daemon_was_dead(own):
    cid = own.rund("--name", "brief", "busybox", "sh", "-c", "echo first; sleep 2; echo last; exit 42")
    wait_for(lambda: "first" in own("logs", cid).out)
    own.engine.kill9()
    wait_for(lambda: not supervisors(own, cid))
    own.engine.start()
    assert own.state(cid, "Status") == "exited"
    assert own.state(cid, "ExitCode") == "42"
    assert own("logs", cid).out == "first\nlast\n"
    assert own("wait", cid).ok() == "42"
    own("start", cid).ok()
    assert own("wait", cid).ok() == "42"


def test_rm_due_while_the_daemon_was_dead(own):
    cid = own.rund("--rm", "busybox", "sleep", "2")
    own.engine.kill9()
    wait_for(lambda: not supervisors(own, cid))
    own.engine.start()
    wait_for(lambda: cid not in own("ps", "-aq", "--no-trunc").out)


def test_attached_client_outlives_the_daemon(own):
    p = own.popen("run", "--name", "held", "busybox", "sh", "-c", "echo a; sleep 3; echo b")
    assert p.stdout.readline() == "a\n"
    restart(own)
    assert p.stdout.readline() == "b\n"
    p.wait(60)


def supervisors(c, cid):
    """It ends by itself when its container has exited and no daemon is there."""
    name = "insula-shim" if c.isolation == "process" else "vmwp"
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and supervisor(p, name, cid)]


def test_killed_supervisor_ends_the_container(own):
    cid = own.rund("busybox", "sleep", "1000")
    pids = supervisors(own, cid)
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: own.state(cid, "Running") == "false")
    assert own.state(cid, "ExitCode") == "137"
    assert own("inspect", "-f", "{{.State.Error}}", cid).ok()


def supervisor(pid, name, cid):
    try:
        return open(f"/proc/{pid}/comm").read().strip() == name and cid in open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return False


def test_killed_qemu_is_reported(own):
    if own.isolation == "process":
        cid = own.rund("busybox", "sleep", "1000")
        pid = int(own("inspect", "-f", "{{.State.Pid}}", cid).ok())
        os.kill(pid, signal.SIGKILL)
        assert own("wait", cid).ok() == "137"
        return
    cid = own.rund("busybox", "sleep", "1000")
    qemu = [int(p) for p in os.listdir("/proc") if p.isdigit() and qemu_of(p, cid)]
    assert len(qemu) == 1
    os.kill(qemu[0], signal.SIGKILL)
    assert own("wait", cid).ok() == "137"
    assert "virtual machine" in own("inspect", "-f", "{{.State.Error}}", cid).ok()


def qemu_of(pid, cid):
    try:
        return open(f"/proc/{pid}/comm").read().startswith("qemu-system") and \
            supervisor(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1], "vmwp", cid)
    except OSError:
        return False


def test_two_daemons_side_by_side(own):
    base = tempfile.mkdtemp(prefix="insula-test-")
    e = Engine(base)
    e.start()
    try:
        assert e.cli("insula", "ps", "-aq").out == ""
        cid = own.rund("busybox", "sleep", "1000")
        assert cid not in e.cli("insula", "ps", "-aq", "--no-trunc").out
    finally:
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


def test_second_daemon_on_the_same_roots_is_refused(own):
    from conftest import program
    p = subprocess.run([program("insulad"), "--data-root", own.engine.data, "--exec-root", own.engine.run_dir],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode != 0 and len(p.stderr.strip().splitlines()) == 1, p.stderr


def groups(pid):
    return dict(line.split(":", 2)[1:] for line in open(f"/proc/{pid}/cgroup").read().splitlines())


def test_supervisors_live_in_a_cgroup_of_their_own(own):
    """Where the daemon is in the root of a hierarchy, they stay there too."""
    cid = own.rund("busybox", "sleep", "1000")
    pid = next(int(x.rsplit(" ", 1)[1]) for x in host_state(own.engine.base, {cid})
               if x.startswith(("process insula-shim", "process vmwp")))
    daemon = groups(own.engine.proc.pid)
    assert groups(pid) == {h: path if path == "/" else "/insula/supervisors" for h, path in daemon.items()}


def test_on_its_way_back_is_not_exited(c):
    """What a restart policy starts again is restarting until it runs, however long its start takes."""
    cid = c.rund("--restart", "always", "busybox", "sh", "-c", "sleep 0.2; exit 1")
    seen = set()
    for _ in range(150):
        seen.add(c.state(cid, "Status") + " " + c.state(cid, "Running"))
        assert c("ps", "-q").ok() == cid[:12]
    assert seen <= {"running true", "restarting true"}, seen
    c("update", "--restart", "no", cid).ok()
    assert c("wait", cid).ok() == "1"


@pytest.mark.parametrize("isolation", ["hyperv"])
def test_a_process_that_cannot_be_killed_takes_its_machine_along(c, tmp_path):
    """It waits for a file server that has come to a stand: SIGKILL does not reach it, and after half a minute nobody waits."""
    (tmp_path / "f").write_text("x" * 100000)
    cid = c.rund("-v", f"{tmp_path}:/v", "busybox", "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exec cat /v/f")
    worker = int(c("inspect", "-f", "{{.VirtualMachine.WorkerPid}}", cid).ok())
    servers = subprocess.run(["pgrep", "-P", str(worker), "virtiofsd"], capture_output=True, text=True).stdout.split()
    servers += [p for s in servers for p in subprocess.run(["pgrep", "-P", s], capture_output=True, text=True).stdout.split()]
    assert servers
    for p in servers:
        os.kill(int(p), signal.SIGSTOP)
    c("exec", cid, "touch", "/go").ok()
    wait_for(lambda: "request_wait_answer" in c("exec", cid, "cat", "/proc/1/wchan").out)
    c("kill", cid).ok()
    assert c("wait", cid).ok() == "137"
    assert c.state(cid, "Error") == "the virtual machine ended: its container did not end on SIGKILL"
