"""Namespaces that are shared because their user asks for it: with the host, and with another container."""
import os
import socket
import subprocess

import pytest
from conftest import Cli, wait_for

NS = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup"}
SHARES = [f"--{flag}=host" for flag in NS]


def ns_of(both, cid, name):
    return both("exec", cid, "readlink", f"/proc/self/ns/{name}").ok()


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
@pytest.mark.parametrize("flag", NS)
def test_of_the_host(both, flag):
    name = NS[flag]
    cid = both.rund(f"--{flag}=host", "busybox", "sleep", "1000")
    assert ns_of(both, cid, name) == os.readlink(f"/proc/self/ns/{name}")
    for other in set(NS.values()) - {name}:
        assert ns_of(both, cid, other) != os.readlink(f"/proc/self/ns/{other}")
    assert both("top", cid).ok().count("sleep 1000") == 1
    assert both("stop", "-t", "0", cid).code == 0 and both("start", cid).code == 0
    assert ns_of(both, cid, name) == os.readlink(f"/proc/self/ns/{name}")


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_the_hosts_processes_names_and_memory(both):
    assert both("run", "--rm", "--pid=host", "busybox", "grep", "-c", "", f"/proc/{os.getpid()}/comm").ok() == "1"
    assert both("run", "--rm", "--uts=host", "busybox", "hostname").ok() == socket.gethostname()
    r = both("create", "--uts=host", "--hostname", "x", "busybox")
    assert r.code and "conflicting options: hostname and the UTS mode" in r.err
    shared = f"/dev/shm/insula-test-{os.getpid()}"
    try:
        both("run", "--rm", "--ipc=host", "busybox", "sh", "-c", f"echo here >{shared}").ok()
        assert open(shared).read() == "here\n"
        assert both("run", "--rm", "busybox", "ls", "/dev/shm").ok() == ""
    finally:
        os.unlink(shared)


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_what_ends_takes_its_processes_along(both):
    """Without a pid namespace of its own nothing but its control group holds a container's processes together."""
    name = f"sleep 98{os.getpid()}"
    count = f"ps -o args | grep -c '^{name}$'"
    # Each is the shell still until it has executed its program.
    r = both("run", "--rm", "--pid=host", "busybox", "sh", "-c",
             f"{name} & {name} & for i in $(seq 100); do [ $({count}) = 2 ] && break; usleep 100000; done; {count}")
    assert r.ok() == "2"
    wait_for(lambda: subprocess.run(["pgrep", "-f", f"^{name}$"], stdout=subprocess.DEVNULL).returncode == 1)


def test_ipc_none_has_no_shared_memory(both):
    r = both("run", "--rm", "--ipc=none", "busybox", "sh", "-c", "readlink /proc/self/ns/ipc; grep -c ' /dev/shm ' /proc/mounts")
    assert r.out.split()[0] != os.readlink("/proc/self/ns/ipc") and r.out.split()[1] == "0"


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_of_another_container(both):
    donor = both.rund("--ipc=shareable", "--name", "donor", "busybox", "sh", "-c", "echo mine >/dev/shm/here; exec sleep 1000")
    wait_for(lambda: both("exec", donor, "cat", "/dev/shm/here").out == "mine\n")
    cid = both.rund("--pid=container:donor", f"--ipc=container:{donor[:12]}", "busybox", "sleep", "2000")
    for name in ("pid", "ipc"):
        assert ns_of(both, cid, name) == ns_of(both, donor, name)
    assert ns_of(both, cid, "uts") != ns_of(both, donor, "uts")
    assert both("exec", cid, "sh", "-c", "cat /dev/shm/here; echo yours >/dev/shm/there; ps").ok().startswith("mine\n")
    assert "sleep 1000" in both("exec", cid, "ps").ok()
    assert both("exec", donor, "cat", "/dev/shm/there").ok() == "yours"
    assert both("inspect", "-f", "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}", cid).ok() == f"container:{donor} container:{donor}"
    assert "sleep 1000" not in both("top", cid).ok() and "sleep 2000" in both("top", cid).ok()
    # Who dies with whom: a pid namespace ends with its first process.
    assert both("stop", "-t", "0", cid).code == 0
    assert both("exec", donor, "true").code == 0
    assert both("start", cid).code == 0
    assert both("stop", "-t", "0", donor).code == 0
    assert both("wait", cid).ok() == "137"
    r = both("start", cid)
    assert r.code == 1 and f"cannot join PID of a non running container: {donor}" in r.err


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_shared_memory_is_looked_for_in_the_other_container(both):
    """A donor that has made its /dev/shm a link leads nobody to the host's files."""
    donor = both.rund("--ipc=shareable", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c",
                      "umount /dev/shm; rmdir /dev/shm; ln -s /etc /dev/shm && exec sleep 1000")
    wait_for(lambda: both("exec", donor, "readlink", "/dev/shm").out == "/etc\n")
    r = both("run", "--rm", f"--ipc=container:{donor}", "busybox", "ls", "/dev/shm")
    theirs = both("exec", donor, "ls", "/etc").ok().split()
    assert r.code or set(r.out.split()) <= set(theirs) | {"hosts", "hostname", "resolv.conf"}, r
    assert "shadow-" not in r.out and "apt" not in r.out.split()


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_what_cannot_be_joined(both):
    private = both.rund("busybox", "sleep", "1000")
    for flags, words in ((["--pid=container:nobody"], "No such container: nobody"),
                         (["--ipc=container:nobody"], "No such container: nobody"),
                         ([f"--ipc=container:{private}"], "non-shareable IPC (hint: use IpcMode:shareable for the donor container)")):
        r = both("create", *flags, "busybox")
        assert r.code and words in r.err, (flags, r)


def test_a_machine_shares_nothing(engine, both):
    if both.isolation == "hyperv":
        for flag in SHARES + ["--pid=container:x", "--ipc=container:x"]:
            r = both("create", flag, "busybox")
            assert r.code and "a virtual machine has" in r.err and len(r.err.strip().splitlines()) == 1, (flag, r)
    machine = Cli(engine, both.name, "hyperv")
    cid = machine("create", "busybox").ok()
    try:
        r = both("create", "--isolation=process", f"--pid=container:{cid}", "busybox") if both.isolation == "process" else None
        assert r is None or (r.code and "is a virtual machine" in r.err), r
    finally:
        machine("rm", cid)
