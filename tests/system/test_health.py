"""Health checks, alike in both modes: states, events, inspect, ps, filters."""
import json
import time

from conftest import wait_for


def status(c, cid):
    return c("inspect", "-f", "{{.State.Health.Status}}", cid).ok()


def check(*more, cmd="test ! -e /root/ill", interval="300ms"):
    return ["--health-cmd", cmd, "--health-interval", interval, *more]


def test_states(both):
    start = int(time.time()) - 1
    cid = both.rund(*check("--health-retries", "2"), "busybox", "sleep", "1000")
    wait_for(lambda: status(both, cid) == "healthy")
    assert "(healthy)" in both("ps", "--format", "{{.Status}}").ok()
    assert both("ps", "-q", "--filter", "health=healthy").ok() == cid[:12]
    assert both("ps", "-q", "--filter", "health=unhealthy").ok() == ""
    both("exec", cid, "sh", "-c", "echo broken; touch /root/ill").ok()
    wait_for(lambda: status(both, cid) == "unhealthy")
    assert "(unhealthy)" in both("ps", "--format", "{{.Status}}").ok()
    both("exec", cid, "rm", "/root/ill").ok()
    wait_for(lambda: status(both, cid) == "healthy")
    h = json.loads(both("inspect", "-f", "{{json .State.Health}}", cid).ok())
    assert h["FailingStreak"] == 0 and len(h["Log"]) <= 5 and h["Log"][-1]["ExitCode"] == 0
    seen = both("events", "--since", start, "--until", int(time.time()) + 1, "--filter", f"container={cid}",
                "--filter", "event=health_status", "--format", "{{.Action}}").ok().splitlines()
    assert seen == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    both("stop", "-t", "0", cid).ok()


def test_output_and_timeout(both):
    cid = both.rund(*check("--health-retries", "1", cmd="echo out; echo err >&2; exit 3"), "busybox", "sleep", "1000")
    wait_for(lambda: status(both, cid) == "unhealthy")
    h = json.loads(both("inspect", "-f", "{{json .State.Health}}", cid).ok())
    assert h["Log"][0]["ExitCode"] == 3 and sorted(h["Log"][0]["Output"].split()) == ["err", "out"]
    slow = both.rund(*check("--health-retries", "1", "--health-timeout", "1s", cmd="echo begun; sleep 60"), "busybox",
                     "sleep", "1000")
    wait_for(lambda: status(both, slow) == "unhealthy")

    def log():
        return json.loads(both("inspect", "-f", "{{json .State.Health.Log}}", slow).ok())
    assert {x["ExitCode"] for x in log()} == {-1}
    # a second may be over before it has begun
    wait_for(lambda: any(x["Output"].startswith("Health check exceeded timeout (1s): begun") for x in log()))


def test_start_period_and_pause(both):
    """A failure while it starts does not count; nothing is checked while it stands still."""
    cid = both.rund(*check("--health-start-period", "60s", "--health-start-interval", "200ms", "--health-retries", "1",
                           cmd="test -e /root/ready"), "busybox", "sleep", "1000")
    wait_for(lambda: json.loads(both("inspect", "-f", "{{json .State.Health.Log}}", cid).ok()))
    assert status(both, cid) == "starting"
    assert "(health: starting)" in both("ps", "--format", "{{.Status}}").ok()
    both("exec", cid, "touch", "/root/ready").ok()
    wait_for(lambda: status(both, cid) == "healthy")
    both("pause", cid).ok()
    time.sleep(1)
    assert status(both, cid) == "healthy"
    both("unpause", cid).ok()


def test_survives_the_daemon(engine, c):
    cid = c.rund(*check(), "busybox", "sleep", "1000")
    wait_for(lambda: status(c, cid) == "healthy")
    engine.kill9()
    engine.start()
    assert status(c, cid) == "healthy"
    c("exec", cid, "touch", "/root/ill").ok()
    wait_for(lambda: status(c, cid) == "unhealthy")


def test_refused(both):
    r = both("run", "--rm", *check(interval="1us"), "busybox", "true")
    assert r.code == 125 and "cannot be less than 1ms" in r.err
    r = both("run", "--rm", "--no-healthcheck", *check(), "busybox", "true")
    assert r.code == 125 and "--no-healthcheck conflicts with --health-* options" in r.err
    assert both("run", "--rm", "--no-healthcheck", "busybox", "echo", "ok").ok() == "ok"


def test_ended_in_the_middle(engine, c):
    """A container may end at any moment of a check."""
    cid = c.rund(*check(cmd="true", interval="1ms"), "busybox", "sleep", "1000")
    for i in range(4 if c.isolation == "hyperv" else 12):
        time.sleep(0.05 * (i % 4))
        c("stop", "-t", "0", cid).ok()
        c("start", cid).ok()
    assert engine.proc.poll() is None
    wait_for(lambda: status(c, cid) == "healthy")
    c("rm", "-f", cid).ok()
    assert engine.proc.poll() is None
