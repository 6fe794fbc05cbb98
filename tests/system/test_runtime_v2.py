"""insula-runtime on a host that has cgroup v2 alone: on one with v1, in a mount namespace where nothing but a
cgroup2 is to be seen. Its controllers may then be elsewhere, but groups, freezing, killing and device filters are
the kernel's own."""
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from conftest import rmdir, wait_for
from test_runtime import rt  # noqa: F401 (a fixture)
from test_runtime_limits import running, ticks

ONLY_V2 = ["unshare", "-m", "--propagation", "private", "sh", "-c",
           "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\""]


def unified():
    """Where this host has its cgroup2."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        where, kind = line.split()[1:3]
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise AssertionError("no cgroup2 is mounted")


@pytest.fixture
def v2(rt):
    rt.prefix = ONLY_V2
    yield rt
    for i in rt.ids:
        rt("delete", "-f", i)
    assert not [i for i in rt.ids if (unified() / "insula" / i).exists()]


def test_life(v2):
    pid = running(v2, "oci-v2")
    assert f"0::/insula/oci-v2\n" in pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    p = v2("exec", "oci-v2", "cat", "/proc/self/cgroup")
    assert "0::/insula/oci-v2\n" in p.stdout or "0::/\n" in p.stdout
    p = v2("exec", "--cgroup", "below", "oci-v2", "cat", "/proc/self/cgroup")
    assert p.returncode == 0 and "/below\n" in p.stdout
    assert v2("delete", "-f", "oci-v2").returncode == 0
    assert not (unified() / "insula/oci-v2").exists()


def test_pause(v2):
    pid = running(v2, "oci-v2p")
    assert v2("pause", "oci-v2p").returncode == 0
    assert v2.status("oci-v2p") == "paused"
    before = ticks(pid)
    time.sleep(0.5)
    assert ticks(pid) == before
    assert "paused container" in v2("exec", "oci-v2p", "true").stderr
    assert v2("resume", "oci-v2p").returncode == 0
    wait_for(lambda: ticks(pid) > before)
    assert v2("pause", "oci-v2p").returncode == 0
    assert v2("delete", "-f", "oci-v2p").returncode == 0


def test_kill_all_at_once(v2):
    """cgroup.kill reaches what forks meanwhile, in whatever pid namespace it is."""
    v2.config["linux"]["namespaces"] = [n for n in v2.config["linux"]["namespaces"] if n["type"] != "pid"]
    running(v2, "oci-v2k", "n=0; while [ $n -lt 50 ]; do sleep 1000 & n=$((n+1)); done; while :; do sleep 0.01; done")
    wait_for(lambda: len(json.loads(v2("ps", "-f", "json", "oci-v2k").stdout)) > 50)
    assert v2("kill", "--all", "oci-v2k", "KILL").returncode == 0
    wait_for(lambda: json.loads(v2("ps", "-f", "json", "oci-v2k").stdout) == [])
    assert v2.status("oci-v2k") == "stopped"


def test_usage(v2):
    running(v2, "oci-v2s")
    time.sleep(0.3)
    d = json.loads(v2("events", "--stats", "oci-v2s").stdout)["data"]
    assert d["cpu"]["usage"]["total"] > 0 and d["cpu"]["usage"]["user"] + d["cpu"]["usage"]["kernel"] > 0


def test_device_filter(v2):
    """The program in the kernel, not the file mode, keeps the process from the device."""
    v2.config["linux"]["devices"] = [{"path": "/dev/mem2", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666}]
    v2.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    running(v2, "oci-v2d", "echo >/dev/null && echo null; busybox head -c 1 /dev/zero >/dev/null && echo zero; "
            "cat /dev/mem2 >/dev/null; sleep 1000")
    p = v2("exec", "oci-v2d", "sh", "-c", "echo >/dev/null && echo null; cat /dev/mem2")
    assert p.stdout == "null\n" and "Operation not permitted" in p.stderr


def test_a_group_in_use_is_refused(v2):
    group = unified() / "oci-v2-foreign"
    group.mkdir()
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        (group / "cgroup.procs").write_text(str(victim.pid))
        v2.config["linux"]["cgroupsPath"] = "/oci-v2-foreign"
        v2.write()
        p = v2("run", "oci-v2f")
        assert p.returncode == 1 and "is not empty: 1 process(es) found" in p.stderr
        (group / "cgroup.freeze").write_text("1")
        p = v2("run", "oci-v2f")
        assert p.returncode == 1 and "is frozen" in p.stderr
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
        wait_for(lambda: rmdir(group))


def test_relative_path_is_beside_the_own_group(v2):
    own = unified() / "oci-v2-own"
    leaf = own / "leaf"
    leaf.mkdir(parents=True)
    try:
        v2.config["linux"]["cgroupsPath"] = "oci-v2-rel"
        v2.write(["sh", "-c", "sleep 1000"])
        v2.prefix = ["sh", "-c", f"echo $$ > {leaf}/cgroup.procs; exec \"$0\" \"$@\"", *ONLY_V2]
        assert v2.create("oci-v2r") == 0
        v2.prefix = ONLY_V2
        pid = json.loads(v2("state", "oci-v2r").stdout)["pid"]
        assert re.search(r"^0::/oci-v2-own/oci-v2-rel$", pathlib.Path(f"/proc/{pid}/cgroup").read_text(), re.M)
        # From elsewhere it is found all the same.
        assert v2("delete", "-f", "oci-v2r").returncode == 0
        assert not os.path.exists(own / "oci-v2-rel")
    finally:
        wait_for(lambda: rmdir(leaf) and rmdir(own))


def test_unified_keys(v2):
    v2.config["linux"]["resources"] = {"unified": {"cgroup.max.descendants": "3"}}
    running(v2, "oci-v2u")
    assert (unified() / "insula/oci-v2u/cgroup.max.descendants").read_text() == "3\n"
    v2.config["linux"]["resources"] = {"unified": {"nosuch.file": "3"}}
    v2.write()
    p = v2("run", "oci-v2x")
    assert p.returncode == 1 and "cannot set nosuch.file" in p.stderr
