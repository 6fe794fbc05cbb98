"""--cgroup-parent and the limits of block devices, alike in both modes: under process isolation they are those of the
container's group, under hyperv of the group that its virtual machine is in."""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import time

import pytest

from conftest import wait_for
from test_images import Unix

TOP = pathlib.Path("/sys/fs/cgroup")
V2 = (TOP / "cgroup.controllers").exists()


def group(c, cid, parent="/insula", controller="blkio"):
    """The directory of the group on the host that the container, or its machine, is in."""
    name = cid + ("-vm" if c.isolation == "hyperv" else "")
    return TOP / ("" if V2 else controller) / parent.strip("/") / name


def below(parent):
    """The groups from there on, in every hierarchy."""
    tops = [TOP / parent] if V2 else [d / parent for d in TOP.iterdir()]
    return [d for top in tops for d, _, _ in os.walk(top)]


def members(directory):
    """Names of the processes, but of those that are just ending."""
    names = []
    for p in (directory / "cgroup.procs").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append(pathlib.Path(f"/proc/{p}/comm").read_text().strip())
    return names


def whole_disk(path):
    """Device node and numbers of the disk that holds path."""
    dev = os.stat(path).st_dev
    node = pathlib.Path(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}")
    if not node.exists():
        pytest.fail(f"{path} lies on no block device")
    node = node.resolve()
    if (node / "partition").exists():
        node = node.parent
    return f"/dev/{node.name}", (node / "dev").read_text().strip()


def limits(directory, numbers):
    """rbps, wbps, riops, wiops of the device; None where there is no limit."""
    if V2:
        line = next((x for x in (directory / "io.max").read_text().splitlines() if x.startswith(numbers + " ")), "")
        words = dict(w.split("=") for w in line.split()[1:])
        return [None if words.get(k, "max") == "max" else int(words[k]) for k in ("rbps", "wbps", "riops", "wiops")]
    out = []
    for name in ("read_bps", "write_bps", "read_iops", "write_iops"):
        text = (directory / f"blkio.throttle.{name}_device").read_text()
        m = re.search(rf"^{numbers} (\d+)$", text, re.M)
        out.append(int(m[1]) if m else None)
    return out


@pytest.fixture
def parent():
    """A name for a group of the test's own; whatever is left of it goes with the test."""
    name = f"insula-parent-{os.getpid()}"
    yield name
    # Containers are gone by now, their groups a moment later: only what they were made in is left.
    wait_for(lambda: not [d for d in below(name) if re.search("/[0-9a-f]{64}", d)])
    for d in sorted(below(name), key=len, reverse=True):
        os.rmdir(d)


def test_cgroup_parent(parent, both, leaks):
    cid = both.rund(f"--cgroup-parent=/{parent}/below", "busybox", "sleep", "1000")
    where = group(both, cid, f"{parent}/below", "memory")
    assert members(where)
    if both.isolation == "hyperv":
        assert any(m.startswith("qemu-system") for m in members(where))
    assert both("inspect", "-f", "{{.HostConfig.CgroupParent}}", cid).ok() == f"/{parent}/below"
    assert not group(both, cid, controller="memory").exists()
    # what is done by the group finds it
    both("pause", cid).ok()
    both("unpause", cid).ok()
    assert both("exec", cid, "echo", "there").ok() == "there"
    both("rm", "-f", cid).ok()
    wait_for(lambda: not where.exists())


def test_cgroup_parent_is_relative_to_the_root(parent, c, leaks):
    cid = c.rund("--cgroup-parent", parent, "busybox", "sleep", "1000")
    assert members(group(c, cid, parent, "memory"))
    c("restart", "-t", "0", cid).ok()
    assert members(group(c, cid, parent, "memory"))


def test_cgroup_parent_does_not_climb(both):
    for bad in ("../up", "/a/../../b", "a\nb"):
        r = both("create", f"--cgroup-parent={bad}", "busybox", "true")
        assert r.code == 1 and "invalid cgroup-parent" in r.err, (bad, r)


def test_groups_of_a_killed_supervisor_are_removed(parent, c, engine, leaks):
    cid = c.rund("--cgroup-parent", parent, "busybox", "sleep", "1000")
    where = group(c, cid, parent, "memory")
    assert where.exists()
    name = "vmwp" if c.isolation == "hyperv" else "insula-shim"
    found = subprocess.run(["pgrep", "-f", f"{name} .*{cid}"], capture_output=True, text=True).stdout.split()
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):       # with the one before it
            os.kill(int(pid), 9)
    wait_for(lambda: c.state(cid, "Status") == "exited")
    wait_for(lambda: not [d for d in below(parent) if cid in d])


def test_block_limits_are_set(both, leaks, engine):
    disk, numbers = whole_disk(engine.base)
    cid = both.rund("--device-read-bps", f"{disk}:1mb", "--device-write-bps", f"{disk}:2mb",
                    "--device-read-iops", f"{disk}:300", "--device-write-iops", f"{disk}:400", "busybox", "sleep", "1000")
    assert limits(group(both, cid), numbers) == [1 << 20, 2 << 20, 300, 400]
    host = json.loads(both("inspect", "-f", "{{json .HostConfig}}", cid).ok())
    assert host["BlkioDeviceReadBps"] == [{"Path": disk, "Rate": 1 << 20}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": disk, "Rate": 400}]


def test_block_limits_hold_back(c, leaks, engine):
    disk, _ = whole_disk(engine.base)
    cid = c.rund("--device-write-bps", f"{disk}:1mb", "busybox", "sleep", "1000")
    begin = time.monotonic()
    c("exec", cid, "dd", "if=/dev/zero", "of=/x", "bs=1M", "count=2", "conv=fsync").ok()
    assert time.monotonic() - begin > 1


def update(engine, cid, body):
    conn = Unix(engine.sock)
    conn.request("POST", f"/containers/{cid}/update", json.dumps(body), {"Content-Type": "application/json"})
    r = conn.getresponse()
    assert r.status == 200, r.read()


def test_block_limits_can_be_changed(engine, c, leaks):
    disk, numbers = whole_disk(engine.base)
    cid = c.rund("--device-read-bps", f"{disk}:1mb", "-m", "64m", "busybox", "sleep", "1000")
    update(engine, cid, {"BlkioDeviceReadBps": [{"Path": disk, "Rate": 5 << 20}],
                         "BlkioDeviceWriteIOps": [{"Path": disk, "Rate": 700}]})
    assert limits(group(c, cid), numbers) == [5 << 20, None, None, 700]
    assert json.loads(c("inspect", "-f", "{{json .HostConfig.BlkioDeviceReadBps}}", cid).ok()) == [{"Path": disk, "Rate": 5 << 20}]


def test_block_limits_that_cannot_be(both, engine):
    disk, _ = whole_disk(engine.base)
    for flags, words in ((["--blkio-weight", "5"], "Range of blkio weight is from 10 to 1000"),
                         (["--blkio-weight-device", f"{disk}:5"], "weight"),
                         (["--device-read-bps", "/dev/nosuch:1mb"], "stat /dev/nosuch: no such file or directory"),
                         (["--device-write-iops", "/dev/null:10"], "/dev/null: not a block device")):
        r = both("create", *flags, "busybox", "true")
        assert r.code != 0 and words in r.err, (flags, r)


def cpuset(directory):
    return [(directory / f"cpuset.{kind}").read_text().strip() for kind in ("cpus", "mems")]


def test_cpuset(both, leaks):
    """One processor of the host's: the last, so that it is not what everybody gets first."""
    last = str(max(os.sched_getaffinity(0)))
    cid = both.rund("--cpuset-cpus", last, "--cpuset-mems", "0", "busybox", "sleep", "1000")
    where = group(both, cid, controller="cpuset")
    assert cpuset(where) == [last, "0"]
    allowed = {(pathlib.Path("/proc") / pid / "status").read_text().split("Cpus_allowed_list:")[1].split()[0]
               for pid in (where / "cgroup.procs").read_text().split()}
    assert allowed == {last}
    assert both("exec", cid, "nproc").ok() == "1"
    assert both("inspect", "-f", "{{.HostConfig.CpusetCpus}} {{.HostConfig.CpusetMems}}", cid).ok() == f"{last} 0"
    both("update", "--cpuset-cpus", "0", cid).ok()
    assert cpuset(where) == ["0", "0"]


def test_a_machine_has_the_processors_of_its_cpuset(c):
    n = os.cpu_count()
    assert c("run", "--rm", "--cpuset-cpus", f"0-{n - 1}", "busybox", "nproc").ok() == str(n)
    if c.isolation == "hyperv":
        assert c("run", "--rm", "--cpuset-cpus", f"0-{n - 1}", "--cpus", "0.5", "busybox", "nproc").ok() == "1"


def test_cpusets_that_cannot_be(both):
    for flags, words in ((["--cpuset-cpus", "0-x"], "Invalid value 0-x for cpuset cpus"),
                         (["--cpuset-cpus", "0,1000"], "Requested CPUs are not available - requested 0,1000, available: 0"),
                         (["--cpuset-mems", "1000"], "Requested memory nodes are not available - requested 1000, available: 0")):
        r = both("create", *flags, "busybox", "true")
        assert r.code != 0 and words in r.err, (flags, r)


def test_weights(c, leaks):
    """Set where an I/O scheduler of the host has weights, else an error that says so."""
    cid = c("create", "--blkio-weight", "300", "busybox", "sleep", "1000").ok()
    c.ids.append(cid)
    r = c("start", cid)
    if r.code == 0:
        files = [f for f in ("io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight") if (group(c, cid) / f).exists()]
        assert files and re.search(r"\b(300|2930)\b", (group(c, cid) / files[0]).read_text())
    else:
        assert "I/O weight" in r.err and "scheduler" in r.err, r
