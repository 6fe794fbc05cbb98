"""insula-runtime: pause and resume, limits and their changes, usage, on real containers of this host."""
import json
import pathlib
import subprocess
import time

import pytest
from conftest import program, wait_for
from test_runtime import rt  # noqa: F401 (a fixture)

V1 = pathlib.Path("/sys/fs/cgroup/memory").is_dir()


def group(cid, controller, path="insula"):
    root = pathlib.Path("/sys/fs/cgroup")
    return (root / controller if V1 else root) / path / cid


def value(cid, controller, v1, v2):
    return (group(cid, controller) / (v1 if V1 else v2)).read_text().strip()


def running(rt, cid, script="while :; do sleep 0.01; done"):
    rt.write(["sh", "-c", script])
    assert rt.create(cid) == 0
    assert rt("start", cid).returncode == 0
    return json.loads(rt("state", cid).stdout)["pid"]


def ticks(pid):
    """CPU time that a process and its dead children have used."""
    f = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, f[11:15]))


def test_pause_and_resume(rt):
    pid = running(rt, "oci-pause")
    assert rt("resume", "oci-pause").stderr == "insula-runtime: container oci-pause is not paused\n"
    assert rt("pause", "oci-pause").returncode == 0
    assert rt.status("oci-pause") == "paused"
    assert rt("pause", "oci-pause").stderr == "insula-runtime: container oci-pause is already paused\n"
    before = ticks(pid)
    time.sleep(0.5)
    assert ticks(pid) == before
    p = rt("exec", "oci-pause", "true")
    assert p.returncode != 0 and "paused container" in p.stderr
    assert "paused" in rt("delete", "oci-pause").stderr
    assert rt("resume", "oci-pause").returncode == 0
    assert rt.status("oci-pause") == "running"
    wait_for(lambda: ticks(pid) > before)
    assert rt("exec", "oci-pause", "echo", "again").stdout == "again\n"


def test_exec_that_ignores_the_pause_runs_after_it(rt):
    running(rt, "oci-later")
    rt("pause", "oci-later")
    p = subprocess.Popen([program("insula-runtime"), "--root", str(rt.root), "exec", "--ignore-paused", "oci-later",
                          "echo", "late"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.5)
    rt("resume", "oci-later")
    assert p.communicate(timeout=60)[0] == "late\n" and p.returncode == 0


def test_a_paused_container_can_be_killed_and_deleted(rt):
    running(rt, "oci-pk")
    rt("pause", "oci-pk")
    assert rt("delete", "--force", "oci-pk").returncode == 0
    assert rt("state", "oci-pk").returncode != 0
    running(rt, "oci-pk2")
    rt("pause", "oci-pk2")
    assert rt("kill", "oci-pk2", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-pk2") == "stopped")


def test_pause_wants_a_running_container(rt):
    running(rt, "oci-dead", "exit 0")
    wait_for(lambda: rt.status("oci-dead") == "stopped")
    for command in ("pause", "resume", "update", "ps"):
        p = rt(command, "oci-dead")
        assert p.returncode == 1 or command == "ps"
        assert command == "ps" or "is not running" in p.stderr
    assert "does not exist" in rt("pause", "oci-none").stderr


def test_update_by_options(rt):
    running(rt, "oci-up")
    p = rt("update", "--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--pids-limit", "77",
           "--cpu-period", "50000", "--cpu-quota", "25000", "--cpu-share", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0",
           "oci-up")
    assert (p.returncode, p.stderr) == (0, "")
    assert value("oci-up", "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert value("oci-up", "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert value("oci-up", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == str((96 if V1 else 32) << 20)
    assert value("oci-up", "pids", "pids.max", "pids.max") == "77"
    assert value("oci-up", "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    if V1:
        assert value("oci-up", "cpu", "cpu.shares", "") == "512"
        assert value("oci-up", "cpu", "cpu.cfs_quota_us", "") == "25000"
        assert value("oci-up", "cpu", "cpu.cfs_period_us", "") == "50000"
    else:
        assert value("oci-up", "cpu", "", "cpu.max") == "25000 50000"
    # What is not named stays; limits go up and away again in one call each.
    assert rt("update", "--memory", "128m", "--memory-swap", "256m", "oci-up").returncode == 0
    assert value("oci-up", "memory", "memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert value("oci-up", "pids", "pids.max", "pids.max") == "77"
    assert rt("update", "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1", "oci-up").returncode == 0
    assert value("oci-up", "pids", "pids.max", "pids.max") == "max"
    assert value("oci-up", "cpu", "cpu.cfs_quota_us", "cpu.max") in ("-1", "max 50000")


@pytest.mark.parametrize("option, value_, words", [
    ("--memory", "much", "--memory"), ("--cpu-quota", "x", "--cpu-quota"), ("--blkio-weight", "5", "blockIO.weight"),
    ("--cpuset-cpus", "a;b", "cpu.cpus: invalid list"), ("--pids-limit", "-7", "pids.limit: value out of range")])
def test_update_refuses(rt, option, value_, words):
    running(rt, "oci-upx")
    p = rt("update", option, value_, "oci-upx")
    assert p.returncode == 1 and words in p.stderr


def test_update_from_a_document(rt, tmp_path):
    running(rt, "oci-updoc")
    doc = json.dumps({"memory": {"limit": 48 << 20}, "pids": {"limit": 33}, "cpu": {"shares": 2048}})
    (tmp_path / "r.json").write_text(doc)
    assert rt("update", "-r", tmp_path / "r.json", "oci-updoc").returncode == 0
    assert value("oci-updoc", "pids", "pids.max", "pids.max") == "33"
    p = subprocess.run([program("insula-runtime"), "--root", str(rt.root), "update", "--resources", "-", "oci-updoc"],
                       input='{"pids":{"limit":44}}', text=True, capture_output=True)
    assert p.returncode == 0, p.stderr
    assert value("oci-updoc", "pids", "pids.max", "pids.max") == "44"
    (tmp_path / "r.json").write_text('{"memory":{"limit":"x"}}')
    assert "memory.limit: expected integer" in rt("update", "-r", tmp_path / "r.json", "oci-updoc").stderr


def test_block_devices(rt, tmp_path):
    """Throughput of a disk, at create and by an update; 0 lifts a limit."""
    disk = next((d for d in sorted(pathlib.Path("/sys/block").iterdir()) if (d / "device").exists()), None)
    if not disk:
        pytest.fail("this host has no disk")
    numbers = (disk / "dev").read_text().strip()
    major, minor = map(int, numbers.split(":"))
    limit = lambda n: [{"major": major, "minor": minor, "rate": n}]  # noqa: E731
    controller = "blkio" if V1 else "io"
    rt.config["linux"]["resources"] = {"blockIO": {"throttleReadBpsDevice": limit(4096), "throttleWriteIOPSDevice": limit(9)}}
    running(rt, "oci-io")
    where = group("oci-io", controller)

    def now():
        if V1:
            return [(where / f"blkio.throttle.{n}_device").read_text().split() for n in ("read_bps", "write_iops")]
        words = dict(w.split("=") for w in (where / "io.max").read_text().split()[1:])
        return [[numbers, words[k]] if words.get(k, "max") != "max" else [] for k in ("rbps", "wiops")]
    assert now() == [[numbers, "4096"], [numbers, "9"]]
    (tmp_path / "r.json").write_text(json.dumps({"blockIO": {"throttleReadBpsDevice": limit(8192), "throttleWriteIOPSDevice": limit(0)}}))
    assert rt("update", "-r", tmp_path / "r.json", "oci-io").returncode == 0
    assert now() == [[numbers, "8192"], []]


def test_check_before_update(rt, tmp_path):
    """A limit below what is in use is refused, not enforced by the OOM killer."""
    pid = running(rt, "oci-check", "busybox head -c 25000000 /dev/zero >/dev/fill; sleep 1000")
    wait_for(lambda: int(value("oci-check", "memory", "memory.usage_in_bytes", "memory.current")) > 20 << 20)
    (tmp_path / "r.json").write_text(json.dumps({"memory": {"limit": 4 << 20, "checkBeforeUpdate": True}}))
    p = rt("update", "-r", tmp_path / "r.json", "oci-check")
    assert p.returncode == 1 and "unable to set memory limit to 4194304 (current usage: " in p.stderr
    assert rt.status("oci-check") == "running" and pathlib.Path(f"/proc/{pid}").exists()


def test_event_stats(rt):
    rt.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}
    running(rt, "oci-stats")
    time.sleep(0.3)
    p = rt("events", "--stats", "oci-stats")
    e = json.loads(p.stdout)
    assert (e["type"], e["id"]) == ("stats", "oci-stats")
    d = e["data"]
    assert d["memory"]["usage"]["limit"] == 64 << 20 and 0 < d["memory"]["usage"]["usage"] < 64 << 20
    assert d["pids"]["limit"] == 50 and 1 <= d["pids"]["current"] <= 3
    assert d["cpu"]["usage"]["total"] > 0 and d["memory"]["raw"]
    assert d["network_interfaces"] == []


def test_event_stream(rt):
    running(rt, "oci-stream")
    p = subprocess.Popen([program("insula-runtime"), "--root", str(rt.root), "events", "--interval", "100ms", "oci-stream"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    totals = [json.loads(p.stdout.readline())["data"]["cpu"]["usage"]["total"] for _ in range(4)]
    assert totals == sorted(totals) and totals[-1] > totals[0]
    rt("kill", "oci-stream", "KILL")
    assert p.wait(60) == 0
    assert rt("events", "--interval", "0s", "oci-stream").returncode == 1


def test_event_of_running_out_of_memory(rt):
    rt.config["linux"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    running(rt, "oci-oom", "while ! [ -e /tmp/go ]; do sleep 0.05; done; busybox tail -c 60000000 /dev/zero; sleep 1000")
    p = subprocess.Popen([program("insula-runtime"), "--root", str(rt.root), "events", "--interval", "60s", "oci-oom"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert json.loads(p.stdout.readline())["type"] == "stats"
    (rt.bundle / "rootfs/tmp/go").touch()
    assert json.loads(p.stdout.readline()) == {"type": "oom", "id": "oci-oom"}
    rt("kill", "oci-oom", "KILL")
    p.wait(60)
