"""Running containers as a whole, alike in both modes: pause, update, stats; and commit."""
import json
import os
import re
import time

import pytest

from conftest import wait_for


def field(c, cid, template):
    return c("inspect", "-f", template, cid).ok()


def events(c, cid, start):
    return c("events", "--since", start, "--until", int(time.time()) + 1, "--filter", f"container={cid}",
             "--format", "{{.Action}}").ok().splitlines()


def test_pause(both):
    start = int(time.time()) - 1
    cid = both.rund("busybox", "sh", "-c", "while :; do echo x; sleep 0.05; done")
    wait_for(lambda: both("logs", cid).out)
    both("pause", cid).ok()
    assert field(both, cid, "{{.State.Status}} {{.State.Paused}} {{.State.Running}}") == "paused true true"
    assert "(Paused)" in both("ps", "--format", "{{.Status}}").ok()
    assert both("ps", "-q", "--filter", "status=paused").ok() == cid[:12]
    n = len(both("logs", cid).out)
    time.sleep(0.5)
    assert len(both("logs", cid).out) <= n + 2
    r = both("exec", cid, "true")
    assert r.code == 1 and "is paused, unpause the container before exec" in r.err
    r = both("pause", cid)
    assert r.code == 1 and f"Container {cid} is already paused" in r.err
    r = both("rm", cid)
    assert r.code == 1 and "container is paused and must be unpaused first" in r.err
    both("unpause", cid).ok()
    wait_for(lambda: len(both("logs", cid).out) > n + 4)
    r = both("unpause", cid)
    assert r.code == 1 and f"Container {cid} is not paused" in r.err
    assert {"pause", "unpause"} <= set(events(both, cid, start))


def test_paused_can_be_ended(both):
    """stop, kill and rm -f do not wait for somebody to unpause it."""
    cid = both.rund("busybox", "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
    wait_for(lambda: both("logs", cid).out)
    both("pause", cid).ok()
    both("stop", cid).ok()
    assert field(both, cid, "{{.State.ExitCode}} {{.State.Paused}}") == "7 false"
    both("start", cid).ok()
    both("pause", cid).ok()
    both("rm", "-f", cid).ok()
    r = both("pause", "nobody")
    assert r.code == 1 and "No such container: nobody" in r.err


def test_pause_outlives_the_daemon(engine, c):
    cid = c.rund("busybox", "sleep", "1000")
    c("pause", cid).ok()
    engine.kill9()
    engine.start()
    assert c.state(cid, "Status") == "paused"
    c("unpause", cid).ok()
    c("exec", cid, "true").ok()


def test_update(both):
    start = int(time.time()) - 1
    cid = both.rund("-m", "96m", "busybox", "sleep", "1000")
    assert both("update", "-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "50", "--restart",
                "on-failure:3", cid).ok() == cid
    got = field(both, cid, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} "
                "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}")
    assert got == f"{64 << 20} 500000000 50 on-failure 3"
    limit = both("exec", cid, "sh", "-c",
                 "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes").ok()
    assert limit == str(64 << 20)
    quota = both("exec", cid, "sh", "-c",
                 "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()
    assert quota.split()[0] == "50000"
    assert "update" in events(both, cid, start)
    r = both("update", "-m", "128m", cid)
    assert r.code == 1 and "Memory limit should be smaller than already set memoryswap limit" in r.err
    # of a stopped one: what it is started with
    both("stop", "-t", "0", cid).ok()
    both("update", "-m", "80m", "--memory-swap", "160m", cid).ok()
    both("start", cid).ok()
    assert both("exec", cid, "sh", "-c",
                "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes").ok() == \
        str(80 << 20)


def test_update_refused(engine, both):
    cid = both.rund("--rm", "busybox", "sleep", "1000")
    r = both("update", "--restart", "always", cid)
    assert r.code == 1 and "Restart policy cannot be updated because AutoRemove is enabled" in r.err
    if both.isolation == "hyperv":
        r = both("update", "-m", "64g", "--memory-swap", "-1", cid)
        assert r.code == 1 and "of memory, and gets no more while it runs: stop the container, update it, and start it again" in r.err
        r = both("update", "--cpus", str(os.cpu_count()), cid)
        n = int(field(both, cid, "{{.VirtualMachine.Cpus}}"))
        assert r.code == (0 if n == os.cpu_count() else 1)
        assert r.code == 0 or f"was started with {n} processors, and gets no more while it runs" in r.err
    # what is named as the way out is one
    cid = both.rund("-m", "64m", "busybox", "sleep", "1000")
    both("stop", "-t", "0", cid).ok()
    both("update", "-m", "1g", "--memory-swap", "2g", "--cpus", str(os.cpu_count()), cid).ok()
    both("start", cid).ok()
    limit = both("exec", cid, "sh", "-c", "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes")
    assert limit.ok() == str(1 << 30)


def test_stats(both):
    cid = both.rund("--name", "busy", "-m", "64m", "busybox", "sh", "-c", "while :; do :; done")
    row = json.loads(both("stats", "--no-stream", "--format", "json", cid).ok())
    assert row["Name"] == "busy" and row["ID"] == cid[:12] and row["PIDs"] == "1"
    assert re.fullmatch(r"[\d.]+[KM]iB / 64MiB", row["MemUsage"])
    assert re.fullmatch(r"[\d.]+k?B / [\d.]+k?B", row["NetIO"])
    assert 0 < float(row["CPUPerc"].rstrip("%")) < 210
    assert "busy" in both("stats", "--no-stream").ok()
    p = both.popen("stats", cid)
    seen = 0
    while seen < 3:
        line = p.stdout.readline()
        assert line, "stats ended"
        seen += "busy" in line
    p.kill()
    p.communicate()


def test_stats_api(engine, isolation):
    import docker
    c = docker.DockerClient(base_url=f"unix://{engine.sock}")
    ctr = c.containers.run("busybox", "sleep 1000", detach=True, isolation=isolation)
    try:
        s = ctr.stats(stream=False)
        assert s["id"] == ctr.id and s["name"] == "/" + ctr.name
        assert s["preread"] < s["read"] and not s["preread"].startswith("0001")
        assert s["cpu_stats"]["system_cpu_usage"] > s["precpu_stats"]["system_cpu_usage"]
        assert s["cpu_stats"]["online_cpus"] >= 1 and s["pids_stats"]["current"] == 1
        assert 0 < s["memory_stats"]["usage"] < s["memory_stats"]["limit"]
        assert set(s["networks"]["eth0"]) == {f"{d}_{k}" for d in ("rx", "tx")
                                              for k in ("bytes", "packets", "errors", "dropped")}
        assert s["blkio_stats"]["sectors_recursive"] is None
        it = ctr.stats(decode=True)
        first, second = next(it), next(it)
        assert first["preread"].startswith("0001") and second["preread"] == first["read"]
        ctr.kill()
        ctr.wait()
        s = ctr.stats(stream=False)
        assert s["id"] == ctr.id and s["memory_stats"] == {} and s["read"].startswith("0001")
    finally:
        ctr.remove(force=True)
        c.close()


@pytest.fixture(params=["running", "stopped"])
def state(request):
    return request.param


def test_commit(both, state):
    start = int(time.time()) - 1
    name = f"committed-{both.name}-{both.isolation}-{state}:v1"
    cid = both.rund("-e", "A=b", "busybox", "sleep", "1000")
    both("exec", cid, "sh", "-c", "echo new > /root/f; rm /bin/vi; rm -r /home; mkdir /home; touch /home/x").ok()
    if state == "stopped":
        both("kill", cid).ok()
    try:
        iid = both("commit", "-a", "me", "-m", "a change", "-c", 'CMD ["cat", "/root/f"]', cid, name).ok()
        assert re.fullmatch("sha256:[0-9a-f]{64}", iid)
        if state == "running":
            assert field(both, cid, "{{.State.Status}}") == "running"
        got = both("image", "inspect", "-f", "{{.Author}}|{{.Comment}}|{{.Config.Cmd}}|{{.Config.Env}}|{{len .RootFS.Layers}}",
                   name).ok().split("|")
        assert got[:3] == ["me", "a change", "[cat /root/f]"] and "A=b" in got[3] and got[4] == "2"
        assert "a change" in both("history", name).ok()
        # the image is the same in either mode
        for mode in ("process", "hyperv"):
            r = both.engine.cli(both.name, "run", "--rm", f"--isolation={mode}", name)
            assert r.ok() == "new"
            r = both.engine.cli(both.name, "run", "--rm", f"--isolation={mode}", name, "sh", "-c",
                                "ls /home; ls /bin/vi")
            assert r.out.split() == ["x"] and r.code == 1
        assert "commit" in events(both, cid, start)
    finally:
        both("rmi", "-f", name)


def test_commit_errors(both):
    r = both("commit", "nobody", "x")
    assert r.code == 1 and "No such container: nobody" in r.err
    cid = both("create", "busybox").ok()
    both.ids.append(cid)
    r = both("commit", "-c", "RUN x", cid)
    assert r.code == 1
    r = both("commit", cid, "UPPER")
    assert r.code == 1


def test_container_prune(both):
    mark = f"prune={both.name}-{both.isolation}"
    gone = both("create", "--label", mark, "busybox", "true").ok()
    runs = both.rund("--label", mark, "busybox", "sleep", "1000")
    stays = both("create", "--label", mark, "--label", "keep=1", "busybox", "true").ok()
    both.ids.append(stays)
    out = both("container", "prune", "-f", "--filter", f"label={mark}", "--filter", "label!=keep=1").ok()
    assert gone in out and runs not in out and stays not in out and "Total reclaimed space:" in out
    assert set(both("ps", "-aq", "--no-trunc").ok().split()) >= {runs, stays}
    assert both("inspect", gone).code == 1
    assert both("container", "prune", "--filter", f"label={mark}", stdin="n\n").code in (0, 1)
    assert both("inspect", stays).code == 0
    r = both("container", "prune", "-f", "--filter", "nonsense=1")
    assert r.code == 1 and "nonsense" in r.err
