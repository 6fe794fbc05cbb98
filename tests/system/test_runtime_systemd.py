"""insula-runtime --systemd-cgroup, with a stand-in for systemd that takes calls from the wire."""
import json
import os
import pathlib

import pytest
from conftest import rmdir, wait_for
from fake_systemd import FakeSystemd
from test_runtime import rt  # noqa: F401 (a fixture)

LOOP = ["sh", "-c", "while :; do sleep 0.05; done"]


def slices():
    """systemd's own groups: where there is none, what we make of them is nobody else's to remove."""
    return set(pathlib.Path("/sys/fs/cgroup").glob("*/*.slice"))


@pytest.fixture
def systemd(rt, tmp_path, monkeypatch):
    s = FakeSystemd(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={s.path},guid=0123456789abcdef0123456789abcdef")
    before = slices()
    command = rt.command
    rt.command = lambda *a: [*command()[:3], "--systemd-cgroup", *map(str, a)]
    yield s
    for i in rt.ids:
        rt("delete", "-f", i)
    s.close()
    for d in slices() - before:
        wait_for(lambda: rmdir(d))


def named(s, member):
    return [v for m, v in s.calls if m == member]


def test_a_scope_is_made_and_stopped(rt, systemd):
    rt.config["linux"]["cgroupsPath"] = "oci-test.slice:pre:oci-sd"
    rt.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "cpu": {"shares": 512, "quota": 20000, "period": 100000},
                                       "pids": {"limit": 40}, "devices": [
                                           {"allow": False, "access": "rwm"},
                                           {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}]}
    rt.write(LOOP)
    assert rt.create("oci-sd") == 0
    (name, mode, properties, more), = named(systemd, "StartTransientUnit")
    assert (name, mode, more) == ("pre-oci-sd.scope", "replace", [])
    p = dict(properties)
    assert p["Slice"] == "oci-test.slice" and p["Delegate"] == 1 and p["DefaultDependencies"] == 0
    assert p["Description"] == "insula container oci-sd" and len(p["PIDs"]) == 1
    assert all(p[a] == 1 for a in ("MemoryAccounting", "CPUAccounting", "TasksAccounting"))
    assert (p.get("MemoryMax") or p["MemoryLimit"], p["CPUQuotaPerSecUSec"], p["TasksMax"]) == (64 << 20, 200000, 40)
    assert p["DevicePolicy"] == "strict"
    assert {("/dev/char/10:200", "rw"), ("/dev/char/1:3", "rwm"), ("char-*", "m"), ("char-pts", "rwm")} <= set(p["DeviceAllow"])
    # The container is in the scope; who held it open for it is gone.
    pid = json.loads(rt("state", "oci-sd").stdout)["pid"]
    assert "/oci-test.slice/pre-oci-sd.scope" in pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    assert pid not in p["PIDs"] and not os.path.exists(f"/proc/{p['PIDs'][0]}")
    assert rt("start", "oci-sd").returncode == 0
    assert rt("exec", "oci-sd", "true").returncode == 0
    assert json.loads(rt("events", "--stats", "oci-sd").stdout)["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert rt("update", "--memory", "32m", "--pids-limit", "-1", "oci-sd").returncode == 0
    (name, runtime, properties), = named(systemd, "SetUnitProperties")
    assert (name, runtime) == ("pre-oci-sd.scope", 1)
    assert dict(properties)["TasksMax"] == (1 << 64) - 1 and 32 << 20 in dict(properties).values()
    assert rt("delete", "-f", "oci-sd").returncode == 0
    assert named(systemd, "StopUnit") == [["pre-oci-sd.scope", "replace"]]
    assert named(systemd, "ResetFailedUnit") == [["pre-oci-sd.scope"]]
    assert not [d for d, _, _ in os.walk("/sys/fs/cgroup") if d.endswith("/pre-oci-sd.scope")]


def test_default_unit_and_later_calls_without_the_option(rt, systemd):
    rt.write(LOOP)
    assert rt.create("oci-sd2") == 0
    assert named(systemd, "StartTransientUnit")[0][0] == "insula-oci-sd2.scope"
    p = dict(named(systemd, "StartTransientUnit")[0][2])
    assert (p["Slice"], p["DevicePolicy"], p["DeviceAllow"]) == ("system.slice", "auto", [])
    command = rt.command
    rt.command = lambda *a: [x for x in command(*a) if x != "--systemd-cgroup"]
    assert rt("start", "oci-sd2").returncode == 0
    assert rt("pause", "oci-sd2").returncode == 0
    assert rt.status("oci-sd2") == "paused"
    assert rt("delete", "-f", "oci-sd2").returncode == 0
    assert named(systemd, "StopUnit")


def test_a_job_that_fails(rt, systemd):
    systemd.result = "failed"
    rt.write(LOOP)
    p = rt("run", "oci-sd3")
    assert p.returncode == 1 and "start unit 'insula-oci-sd3.scope': systemd says 'failed'" in p.stderr
    assert "does not exist" in rt("state", "oci-sd3").stderr
    (_, _, properties, _), = named(systemd, "StartTransientUnit")
    wait_for(lambda: not os.path.exists(f"/proc/{dict(properties)['PIDs'][0]}"))


@pytest.mark.parametrize("path", ["/insula/x", "a:b", "a.slice:b:c:d", "../x.slice:b:c", "noslice:b:c", "a.slice:b/..:c"])
def test_paths_that_are_not_units(rt, systemd, path):
    rt.config["linux"]["cgroupsPath"] = path
    rt.write()
    p = rt("run", "oci-sd4")
    assert p.returncode == 1 and "linux.cgroupsPath: " in p.stderr
    assert not systemd.calls


def test_no_systemd(rt, systemd, monkeypatch):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    rt.write()
    p = rt("run", "oci-sd5")
    assert p.returncode == 1 and "connect to D-Bus at '" in p.stderr
    assert "does not exist" in rt("state", "oci-sd5").stderr
