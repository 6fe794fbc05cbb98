"""--network container:ID: several containers in one sandbox, one network namespace or one virtual machine."""
import json
import os
import re
import signal
import time

import pytest

from conftest import wait_for

SERVE = "httpd -f -p 127.0.0.1:8080 -h /"


def inspect(c, cid):
    return json.loads(c("inspect", cid).ok())[0]


def machine(c, cid):
    return inspect(c, cid).get("VirtualMachine")


def owner(c, *args):
    return c.rund("--name", "owner", *args, "busybox", "sleep", "100000")


def joined(c, name, *cmd, args=()):
    return c.rund("--name", name, "--network", "container:owner", *args, "busybox", *(cmd or ("sleep", "100000")))


def link_address(c, cid):
    return re.search(r"inet (\S+)", c("exec", cid, "ip", "-4", "addr", "show", "eth0").ok()).group(1)


def test_one_network_and_nothing_else(both):
    c = both
    a = c.rund("--name", "owner", "--hostname", "house", "--add-host", "other:10.9.8.7", "busybox", "sh", "-c", SERVE)
    b = joined(c, "guest")
    # the network, and with it the names
    assert link_address(c, a) == link_address(c, b)
    c("exec", a, "sh", "-c", "echo hello > /page").ok()
    assert wait_for(lambda: c("exec", b, "wget", "-qO-", "http://127.0.0.1:8080/page").out) == "hello\n"
    assert c("exec", b, "hostname").ok() == "house"
    for f in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        assert c("exec", a, "cat", f).ok() == c("exec", b, "cat", f).ok()
    assert "10.9.8.7\tother" in c("exec", b, "cat", "/etc/hosts").ok()
    # all else is its own
    assert c("exec", b, "cat", "/proc/1/cmdline").ok().split("\0")[0] == "sleep"
    c("exec", a, "sh", "-c", "echo mine > /file; echo mine > /dev/shm/file").ok()
    assert c("exec", b, "ls", "/file").code == 1 and c("exec", b, "ls", "/dev/shm/file").code == 1
    for ns, same in {"net": True, "pid": False, "mnt": False, "uts": False, "ipc": False, "cgroup": False}.items():
        link = f"/proc/self/ns/{ns}"
        assert (c("exec", a, "readlink", link).ok() == c("exec", b, "readlink", link).ok()) == same, ns
    # each is an ordinary container
    assert c("top", b).ok().splitlines()[1:] and "sleep" in c("top", b).ok() and "httpd" not in c("top", b).ok()
    ids = c("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}").ok().split()
    assert {a, b} <= set(ids)
    i = inspect(c, b)
    assert i["HostConfig"]["NetworkMode"] == f"container:{a}" and i["Config"]["Hostname"] == "house"
    assert i["NetworkSettings"]["Networks"] == {} and i["NetworkSettings"]["IPAddress"] == ""
    if c.isolation == "hyperv":
        assert machine(c, a)["MonitorPid"] == machine(c, b)["MonitorPid"] > 1
        assert c("exec", b, "uname", "-r").ok() == c("exec", a, "uname", "-r").ok()


def test_any_order_of_ends(c):
    a = owner(c)
    b = joined(c, "second", "sh", "-c", "echo out; echo err >&2; exec sleep 100000")
    address = link_address(c, b)
    c("stop", "-t", "0", a).ok()
    assert c.state(a, "ExitCode") == "137" and c.state(b, "Running") == "true"
    # the sandbox goes on without the container that it was made for
    assert link_address(c, b) == address
    wait_for(lambda: (c("logs", b).out, c("logs", b).err) == ("out\n", "err\n"))
    # which comes back into it
    c("start", a).ok()
    assert link_address(c, a) == address
    assert c("exec", b, "readlink", "/proc/self/ns/net").ok() == c("exec", a, "readlink", "/proc/self/ns/net").ok()
    # one that joins restarts, again and again
    for _ in range(3):
        c("restart", "-t", "0", b).ok()
    assert link_address(c, b) == address
    # it is removed while another one uses its network
    third = joined(c, "third")
    c("rm", "-f", a).ok()
    assert c("exec", third, "true").code == 0 and link_address(c, third) == address
    c("rm", "-f", b).ok()
    assert link_address(c, third) == address
    r = c("restart", "-t", "0", third)
    assert r.code == 1 and f"No such container: {a}" in r.err
    c("rm", "-f", third).ok()


def test_who_can_be_joined(both):
    c = both
    a = c("create", "--name", "owner", "busybox", "sleep", "1000").ok()
    r = c("run", "--name", "early", "--network", "container:owner", "busybox", "true")
    assert r.code == 125 and f"cannot join network of a non running container: {a}" in r.err
    c("start", a).ok()
    assert c("start", "-a", "early").code == 0
    c("stop", "-t", "0", a).ok()
    r = c("start", "early")
    assert r.code == 1 and f"cannot join network of a non running container: {a}" in r.err
    r = c("run", "--network", "container:nobody", "busybox", "true")
    assert r.code == 125 and "No such container: nobody" in r.err
    r = c("run", "--network", "container:", "busybox", "true")
    assert r.code == 125
    r = c("run", "--name", "self", "--network", "container:self", "busybox", "true")
    assert r.code == 125 and "cannot join own network" in r.err


@pytest.mark.parametrize("options, text", [
    (["--hostname", "x"], "conflicting options: hostname and the network mode"),
    (["--dns", "1.1.1.1"], "conflicting options: dns and the network mode"),
    (["--add-host", "a:1.2.3.4"], "conflicting options: custom host-to-IP mapping and the network mode"),
    (["-p", "80:80"], "conflicting options: port publishing and the container type network mode"),
])
def test_what_belongs_to_the_network(c, options, text):
    r = c("create", "--network", "container:owner", *options, "busybox", "true")
    assert r.code == 1 and text in r.err


def test_limits_of_block_devices_are_the_machines(c):
    owner(c)
    r = c("create", "--network", "container:owner", "--blkio-weight", "500", "busybox", "true")
    if c.isolation == "process":
        assert r.code == 0
    else:
        assert r.code == 1 and "hold a virtual machine as a whole" in r.err


def test_not_across_the_wall(both):
    c = both
    other = "hyperv" if c.isolation == "process" else "process"
    c("create", "--name", "owner", "busybox", "sleep", "1000").ok()
    r = c.engine.cli(c.name, "create", f"--isolation={other}", "--network", "container:owner", "busybox", "true")
    assert r.code == 1 and f"runs under {c.isolation} isolation" in r.err and f"use --isolation={c.isolation}" in r.err
    # found at the start where the name meant nothing at create
    c("rename", "owner", "elsewhere").ok()
    cid = c.engine.cli(c.name, "create", f"--isolation={other}", "--network", "container:owner", "busybox", "true").ok()
    c("rename", "elsewhere", "owner").ok()
    c("start", "owner").ok()
    r = c("start", cid)
    assert r.code == 1 and f"runs under {c.isolation} isolation" in r.err


def test_volumes_of_those_who_join(c, tmp_path):
    owner(c)
    r = c("run", "--rm", "--network", "container:owner", "-v", f"{tmp_path}:/data", "busybox", "touch", "/data/x")
    if c.isolation == "process":
        assert r.code == 0 and (tmp_path / "x").exists()
    else:
        assert r.code == 125 and "cannot bring volumes" in r.err
    assert c("run", "--rm", "--network", "container:owner", "--tmpfs", "/t", "busybox", "touch", "/t/x").code == 0


def test_limits_and_files_are_each_ones_own(c):
    a = owner(c)
    b = joined(c, "guest", args=["-m", "32m", "--pids-limit", "20"])
    hog = c("exec", b, "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
    assert hog.code != 0
    assert c("exec", a, "true").code == 0
    c("exec", b, "sh", "-c", "echo text > /note").ok()
    c("stop", "-t", "0", b).ok()
    # with nothing of it in the machine any more, and in one of its own
    assert c("cp", f"{b}:/note", "-").code == 0 and "A /note" in c("diff", b).ok()
    c("stop", "-t", "0", a).ok()
    assert c("diff", a).code == 0
    c("start", a).ok()
    c("start", b).ok()
    assert c("exec", b, "cat", "/note").ok() == "text"


def test_they_come_and_go(c):
    """What they bring into a machine is taken away with them (tests/soak: more often than its bus has slots)."""
    owner(c)
    for i in range(4):
        assert c("run", "--rm", "--network", "container:owner", "busybox", "echo", i).ok() == str(i)


def test_several_at_once(c):
    owner(c)
    runs = [c.popen("run", "--rm", "--network", "container:owner", "busybox", "echo", str(i)) for i in range(4)]
    assert [p.communicate(timeout=120)[0] for p in runs] == [f"{i}\n" for i in range(4)]


def test_adoption(own):
    a = owner(own)
    # the first time it ends by itself
    b = joined(own, "second", "sh", "-c", "[ -e /ran ] && exec sleep 1000; touch /ran; sleep 2; exit 5")
    third = joined(own, "third")
    address = link_address(own, third)
    own("stop", "-t", "0", a).ok()
    own.engine.kill9()
    time.sleep(3)
    own.engine.start()
    # its owner had stopped, one has ended meanwhile, one runs on
    assert own.state(a, "Running") == "false" and own.state(third, "Running") == "true"
    assert own("wait", b).ok() == "5"
    assert link_address(own, third) == address
    own("start", a).ok()
    own("start", b).ok()
    assert link_address(own, a) == address
    assert own("exec", b, "readlink", "/proc/self/ns/net").ok() == own("exec", a, "readlink", "/proc/self/ns/net").ok()
    own.engine.kill9()
    own.engine.start()
    for x in (a, third):
        assert own("exec", x, "echo", "here").ok() == "here"
    own("rm", "-f", a, b, third).ok()


@pytest.mark.parametrize("action", [("start",), ("stop", "-t", "0")], ids=lambda a: a[0])
def test_the_daemon_dies_while_one_comes_or_goes(own, action):
    a = owner(own)
    b = joined(own, "second")
    for i in range(4):
        own(*(("stop", "-t", "0") if action[0] == "start" else ("start",)), b).ok()
        p = own.popen(*action, b)
        time.sleep(i * 0.06)
        own.engine.kill9()
        p.communicate()
        own.engine.start()
        # neither is left halfway, and the other one has noticed nothing
        assert own("exec", a, "echo", "here").ok() == "here"
        own("start", b).ok()
        assert link_address(own, b) == link_address(own, a)
    own("rm", "-f", a, b).ok()


def test_a_lost_sandbox_takes_all(own):
    a = owner(own)
    b = joined(own, "guest")
    name = "insula-shim" if own.isolation == "process" else "vmwp"
    pids = [int(p) for p in os.listdir("/proc") if p.isdigit() and serves(p, name, a)]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    for x in (a, b):
        assert own("wait", x).ok() == "137"
        assert "supervisor" in own("inspect", "-f", "{{.State.Error}}", x).ok()
    own("start", a).ok()
    own("start", b).ok()
    assert own("exec", b, "echo", "again").ok() == "again"


def serves(pid, name, sandbox):
    try:
        return open(f"/proc/{pid}/comm").read().strip() == name and sandbox in open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return False


def test_restart_policy_waits_for_the_one_it_joins(own):
    a = own.rund("--name", "owner", "--restart", "always", "busybox", "sleep", "100000")
    b = joined(own, "guest", args=["--restart", "always"])
    name = "insula-shim" if own.isolation == "process" else "vmwp"
    for p in [int(p) for p in os.listdir("/proc") if p.isdigit() and serves(p, name, a)]:
        os.kill(p, signal.SIGKILL)
    wait_for(lambda: own.state(a, "Running") == "true" and own("exec", b, "true").code == 0, timeout=60)
