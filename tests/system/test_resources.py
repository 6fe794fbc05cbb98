"""Memory that a container takes and gives back, in both modes."""
import json
import pathlib
import subprocess

import pytest

from conftest import IMAGES, Cli, Engine, wait_for

MB = 1 << 20


def host_memory(c, cid):
    """What the container's memory costs the host, in MB."""
    if c.isolation == "process":
        return int(json.loads(stats(c, cid))["memory_stats"]["usage"]) // MB
    pid = c("inspect", "-f", "{{.VirtualMachine.MonitorPid}}", cid).ok()
    status = dict(x.split(":", 1) for x in open(f"/proc/{pid}/status"))
    return sum(int(status[k].split()[0]) for k in ("RssAnon", "RssShmem")) // 1024


def stats(c, cid):
    return subprocess.run(["curl", "-s", "--unix-socket", str(c.engine.sock),
                           f"http://x/containers/{cid}/stats?stream=false&one-shot=true"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("options, size", [(["-m", "1g"], 450), ([], 640)], ids=["limit", "none"])
def test_memory_goes_back_to_the_host(c, options, size):
    """Without a limit a machine grows beyond its 512 MB, of which it keeps what it has used, and shrinks again."""
    cid = c.rund(*options, "--tmpfs", "/t:size=700m", "busybox", "sleep", "100000")
    if options and c.isolation == "hyperv":
        wait_for(lambda: int(c("exec", cid, "sh", "-c", "free -m | awk '/Mem:/{print $2}'").ok()) > 1000)
    before = host_memory(c, cid)
    c("exec", cid, "dd", "if=/dev/zero", "of=/t/big", "bs=1M", f"count={size}").ok()
    taken = host_memory(c, cid)
    assert taken - before > size - 80
    c("exec", cid, "rm", "/t/big").ok()
    # within ten seconds, on a host that has nothing else to do
    wait_for(lambda: host_memory(c, cid) < (before + 150 if options else taken - 200))


@pytest.fixture
def fresh(tmp_path):
    """A daemon whose template no machine has touched: the first one makes the pages that it lacks."""
    e = Engine(tmp_path / "own")
    e.start()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    c = Cli(e, "insula", "hyperv")
    yield c
    c.cleanup()
    e.stop()


def test_a_machine_that_is_full(fresh):
    """Its containers have no limit of their own: each that asks for more than there is is killed in the guest, and says
    so. The machine, and who asked for little, go on."""
    c = fresh
    first = c.rund("-m", "64m", "--name", "first", "busybox", "sleep", "100000")
    ids = [c.rund("--network", "container:first", "--tmpfs", "/t:size=4g", "busybox", "dd", "if=/dev/zero", "of=/t/x", "bs=1M", "count=800")
           for _ in range(3)]
    for cid in ids:
        assert c("wait", cid).ok() == "137"
        assert c.state(cid, "OOMKilled") == "true" and c.state(cid, "Error") == ""
    assert c("exec", first, "echo", "here").ok() == "here"
    assert c.state(first, "OOMKilled") == "false"


def memory_group(pid):
    """The directory of the memory controller that holds a process, and the name of its limit."""
    groups = {w: path for _, words, path in (x.rstrip("\n").split(":", 2) for x in open(f"/proc/{pid}/cgroup")) for w in words.split(",")}
    if "memory" in groups:
        return pathlib.Path("/sys/fs/cgroup/memory" + groups["memory"]), "memory.limit_in_bytes"
    return pathlib.Path("/sys/fs/cgroup" + groups[""]), "memory.max"


@pytest.mark.parametrize("isolation", ["hyperv"])
def test_a_host_that_has_no_memory_for_a_machine(c):
    """The kernel kills its QEMU: that is what the container says."""
    cid = c.rund("--tmpfs", "/t:size=1g", "busybox", "sleep", "100000")
    pid = c("inspect", "-f", "{{.VirtualMachine.MonitorPid}}", cid).ok()
    d, limit = memory_group(pid)
    used = int((d / ("memory.current" if limit == "memory.max" else "memory.usage_in_bytes")).read_text())
    (d / limit).write_text(str(used + 64 * MB))
    c("exec", cid, "dd", "if=/dev/zero", "of=/t/x", "bs=1M", "count=300")
    assert c("wait", cid).ok() == "137"
    assert c.state(cid, "OOMKilled") == "true"
    assert c.state(cid, "Error") == "the virtual machine ended: QEMU was ended by signal 9: the host had no more memory for it"
