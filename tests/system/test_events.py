"""Events: which actions there are, and what else the API tells of the life of a container."""
import json
import socket
import subprocess
import time


def actions(c, since, cid, key="Action"):
    out = c("events", "--since", f"{since:.9f}", "--until", f"{time.time() + 1:.9f}", "--filter", f"container={cid}",
            "--format", "{{json .}}").ok()
    return [json.loads(line)[key] for line in out.splitlines()]


def test_actions_of_a_life(c):
    since = time.time()
    cid = c.rund("busybox", "sleep", "1000")
    c("restart", "-t", "0", cid).ok()
    c("pause", cid).ok()
    c("unpause", cid).ok()
    c("exec", cid, "true").ok()
    c("rename", cid, "other").ok()
    c("update", "--cpu-shares", "512", cid).ok()
    c("stop", "-t", "0", cid).ok()
    c("rm", cid).ok()
    got = [a for a in actions(c, since, cid) if not a.startswith("network")]
    want = ["create", "start", "kill", "die", "stop", "start", "restart", "pause", "unpause", "exec_create: true",
            "exec_start: true", "exec_die", "rename", "update", "kill", "die", "stop", "destroy"]
    assert got == want


def test_resize_and_prune(c):
    since = time.time()
    cid = c.rund("-t", "busybox", "sleep", "1000")
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(c.engine.sock))
    s.sendall(f"POST /containers/{cid}/resize?h=30&w=90 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b" 200 " in s.makefile("rb").readline()
    c("kill", cid).ok()
    c("container", "prune", "-f").ok()
    c("image", "prune", "-f").ok()
    assert "resize" in actions(c, since, cid)
    out = c("events", "--since", f"{since:.9f}", "--until", f"{time.time() + 1:.9f}", "--filter", "event=prune",
            "--filter", "event=resize", "--format", "{{json .}}").ok()
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["Type"], e["Action"]) for e in events] == [("container", "resize"), ("container", "prune"),
                                                          ("image", "prune")]
    assert events[0]["Actor"]["Attributes"]["height"] == "30" and events[0]["Actor"]["Attributes"]["width"] == "90"
    assert all(int(e["Actor"]["Attributes"]["reclaimed"]) >= 0 for e in events[1:])


def test_exec_that_cannot_start(both):
    cid = both.rund("busybox", "sleep", "1000")
    r = both("exec", "-u", "nobody-here", cid, "true")
    assert r.code == 126 and "unable to find user nobody-here" in r.out + r.err
    assert both("exec", cid, "nothing-here").code == 127
    assert both("exec", cid, "/etc").code == 126


def test_dockerenv(both):
    """By this file programs know that they are in a container; it is no change of the container."""
    cid = both.rund("busybox", "sleep", "1000")
    assert both("exec", cid, "stat", "-c", "%F %s", "/.dockerenv").ok() == "regular empty file 0"
    assert ".dockerenv" not in both("diff", cid).ok()
    ro = both.rund("--read-only", "busybox", "test", "-f", "/.dockerenv")
    assert both("wait", ro).ok() == "0"


def test_mistyped_verbs(engine):
    cases = {("psx",): "insula ps", ("imags",): "insula images", ("container", "strat"): "insula container start",
             ("system", "dff"): "insula system df"}
    for argv, meant in cases.items():
        r = engine.cli("insula", *argv)
        assert r.code == 1 and f"unknown command: insula {' '.join(argv)}\n" in r.err
        assert f"Did you mean this?\n\t{meant}\n" in r.err
    r = engine.cli("insula", "xyzzy")
    assert r.code == 1 and "Did you mean" not in r.err


def test_dial_stdio(engine):
    """Several requests and a half-close over standard streams: what `docker -H ssh://` does."""
    p = subprocess.Popen(engine.argv("insula", "system", "dial-stdio"), env=engine.env(), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    for _ in range(3):
        p.stdin.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        p.stdin.flush()
        head = b""
        while not head.endswith(b"\r\n\r\nOK"):
            head += p.stdout.read(1)
        assert head.startswith(b"HTTP/1.1 200")
    p.stdin.write(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    p.stdin.close()
    assert json.loads(p.stdout.read().split(b"\r\n\r\n", 1)[1])["ApiVersion"]
    assert p.wait(60) == 0
