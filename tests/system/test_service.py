"""The daemon as a service: its sockets, its limits, many clients, slow clients, the service manager."""
import contextlib
import grp
import json
import os
import select
import socket
import stat
import subprocess
import time

import pytest
from chaos import call
from conftest import IMAGES, VM_DIR, Engine, docker_cli, program, wait_for

JSON = b"Content-Type: application/json\r\n"


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(path))        # with a time limit it would fail where the queue is full
    s.settimeout(60)
    return s


def answer(s):
    """Status and message of the one answer that is the last on this connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while got := s.recv(65536):
            data += got
    head, body = data.split(b"\r\n\r\n", 1)
    assert b"\r\nContent-Type: application/json\r\n" in head
    return int(head.split()[1]), json.loads(body)["message"]


def ask(path, data):
    """What is sent may be refused before all of it has gone."""
    with connect(path) as s:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(data)
        return answer(s)


# ---- long answers ----

def body_of(s):
    """Head and body of one answer that goes out in chunks, or until the connection ends."""
    f = s.makefile("rb")
    head = b"".join(iter(f.readline, b"\r\n"))
    if b"Transfer-Encoding: chunked\r\n" not in head:
        return head, f.read()
    body = b""
    while n := int(f.readline(), 16):
        body += f.read(n)
        assert f.readline() == b"\r\n"
    assert f.readline() == b"\r\n"
    return head, body


def test_long_lists_leave_while_they_are_written(own):
    """A short one is counted; a long one comes in chunks, to old clients until the connection ends; and a client that does
    not read holds nobody up."""
    e, made, big = own(), {}, "x" * 30000
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()

    def create(n):
        for i in range(n):
            body = {"Image": "busybox", "Cmd": ["true"], "Labels": {"big": big}, "HostConfig": {"NetworkMode": "none"}}
            made[call(e.sock, "POST", "/containers/create", body)[1]["Id"]] = i

    ask_for = b"GET /containers/json?all=1 HTTP/1.%d\r\nHost: x\r\n\r\n"
    create(1)
    with connect(e.sock) as s:
        s.sendall(ask_for % 1)
        assert b"Content-Length: 3" in s.recv(65536)
    create(99)
    idle = connect(e.sock)
    idle.sendall(ask_for % 1)
    for minor in (1, 0):
        with connect(e.sock) as s:
            s.sendall(ask_for % minor)
            head, body = body_of(s)
            rows = json.loads(body)
            assert {r["Id"] for r in rows} == set(made) and all(r["Labels"] == {"big": big} for r in rows)
            assert len(rows) == 100 and b"Content-Length" not in head
            assert (b"chunked" in head) == (minor == 1) and b"\r\nContent-Type: application/json\r\n" in head
            if minor:           # and the connection goes on
                s.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
                assert s.recv(65536).endswith(b"\r\n\r\nOK")
    assert len(json.loads(body_of(idle)[1])) == 100
    idle.close()
    e.cli("insula", "rm", *made).ok()


# ---- limits ----

def test_too_much(engine):
    """Each limit has its status, and the daemon goes on."""
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\n" + JSON
    big = 17 << 20
    assert ask(engine.sock, b"GET /info HTTP/1.1\r\nX: " + b"x" * 200000) == (431, "request header too large")
    assert ask(engine.sock, head + b"Content-Length: %d\r\n\r\n" % big) == (413, "request body too large")
    assert ask(engine.sock, head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % big)[0] == 413
    chunk = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    assert ask(engine.sock, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17) == (413, "request body too large")
    ignored = b"POST /containers/x/stop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 << 20)
    assert ask(engine.sock, ignored + b" " * (2 << 20))[0] == 413
    assert call(engine.sock, "GET", "/_ping", raw=True) == (200, b"OK")


@pytest.fixture
def own(tmp_path):
    """A daemon with options of the test's own."""
    engines = []

    def start(*extra, name="engine"):
        e = Engine(tmp_path / name, extra)
        engines.append(e)
        e.start()
        return e
    yield start
    for e in engines:
        e.stop()


def test_too_many(own):
    """Clients beyond the limit are told so at once; those that are there are served on."""
    e = own()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connect(e.sock))
        for _ in range(4095):
            stack.enter_context(connect(e.sock))
        for _ in range(3):
            with connect(e.sock) as s:
                assert answer(s) == (429, "too many connections")
        first.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        wait_for(lambda: call(e.sock, "GET", "/_ping", raw=True)[0] == 200)
    assert e.cli("docker", "version").code == 0


# ---- many and slow clients ----

def rss_kb(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Rss:"):
            return int(line.split()[1])


def events(path, query=""):
    s = connect(path)
    s.sendall(f"GET /events{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s


def read_until(s, text):
    data = b""
    while text not in data:
        got = s.recv(65536)
        assert got, data
        data += got
    return data


def test_thousand_event_streams(own):
    e = own()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(events(e.sock)) for _ in range(1000)]
        for s in streams:
            read_until(s, b"\r\n\r\n")
        assert rss_kb(e.proc.pid) < 32 << 10
        assert call(e.sock, "POST", "/volumes/create", {"Name": "seen"})[0] == 201
        for s in streams:
            assert b'"seen"' in read_until(s, b"\r\n")
        assert rss_kb(e.proc.pid) < 32 << 10


def test_slow_follower_is_dropped(own):
    """One that does not read does not hold up the others, nor fill the daemon's memory."""
    e = own()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    labels = {f"label-{i}": "x" * 2000 for i in range(20)}      # they stand in each of its events
    assert call(e.sock, "POST", "/containers/create?name=name-0", {"Image": "busybox", "Labels": labels})[0] == 201
    with events(e.sock) as slow, events(e.sock) as quick:
        read_until(quick, b"\r\n\r\n")
        before = rss_kb(e.proc.pid)
        for i in range(1, 100):
            assert call(e.sock, "POST", f"/containers/name-{i - 1}/rename?name=name-{i}")[0] == 204
            read_until(quick, b"/name-%d" % (i - 1))
        assert closed(slow) and not closed(quick)
        assert rss_kb(e.proc.pid) - before < 4 << 10
    assert call(e.sock, "DELETE", "/containers/name-99")[0] == 204


def closed(s):
    """The other end is gone, whatever there is still to be read."""
    p = select.poll()
    p.register(s, 0)
    return any(what & select.POLLHUP for _, what in p.poll(0))


# ---- sockets ----

def test_group_and_mode(own, tmp_path):
    group = "daemon"
    e = own("--group", group, "--socket-mode", "0600")
    st = os.stat(e.sock)
    assert (stat.S_IMODE(st.st_mode), st.st_uid, grp.getgrgid(st.st_gid).gr_name) == (0o600, 0, group)
    for bad, why in (("0666", "root on this host"), ("7x", "octal"), ("", "octal")):
        p = subprocess.run([program("insulad"), "--data-root", tmp_path / "d", "--exec-root", tmp_path / "r",
                            "--socket-mode", bad], capture_output=True, text=True, timeout=60)
        assert p.returncode and "invalid socket-mode" in p.stderr and why in p.stderr, p


def test_read_only_socket(own, tmp_path):
    """Who watches sees what runs, and can neither change anything nor read files."""
    monitor = tmp_path / "monitor.sock"
    e = own("-H", f"ro+unix://{monitor}", "--monitor-group", "daemon")
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    cid = e.cli("insula", "run", "-d", "busybox", "sh", "-c", "echo hello; sleep 1000").ok()
    st = os.stat(monitor)
    assert stat.S_IMODE(st.st_mode) == 0o660 and grp.getgrgid(st.st_gid).gr_name == "daemon"
    env = dict(e.env(), DOCKER_HOST=f"unix://{monitor}")

    def docker(*args):
        return subprocess.run([docker_cli(), *args], env=env, capture_output=True, text=True, timeout=60)
    try:
        assert docker("ps", "-q", "--no-trunc").stdout.strip() == cid
        wait_for(lambda: docker("logs", cid).stdout == "hello\n")
        for ok in (["info"], ["version"], ["inspect", cid], ["images"], ["top", cid], ["system", "df"], ["volume", "ls"],
                   ["network", "ls"], ["stats", "--no-stream", cid], ["events", "--until", "1s", "--since", "1m"]):
            p = docker(*ok)
            assert p.returncode == 0, (ok, p)
        for bad in (["stop", cid], ["rm", "-f", cid], ["exec", cid, "true"], ["run", "busybox"], ["kill", cid], ["rmi", "busybox"],
                    ["volume", "create", "v"], ["network", "prune", "-f"], ["cp", f"{cid}:/etc/passwd", str(tmp_path)],
                    ["export", cid, "-o", str(tmp_path / "x")], ["save", "busybox", "-o", str(tmp_path / "x")], ["attach", cid],
                    ["diff", cid], ["pull", "busybox"]):
            p = docker(*bad)
            assert p.returncode != 0 and ("read-only" in p.stderr or "received 403" in p.stderr), (bad, p)
        assert docker("ps", "-q", "--no-trunc").stdout.strip() == cid
    finally:
        e.cli("insula", "rm", "-f", cid).ok()
    e.stop()
    assert not monitor.exists()


def test_docker_socket_link(own, tmp_path):
    link = tmp_path / "docker.sock"
    link.symlink_to(tmp_path / "gone")      # left by a daemon that is no more
    e = own("--docker-socket", str(link))
    assert os.readlink(link) == str(e.sock)
    assert subprocess.run([docker_cli(), "-H", f"unix://{link}", "version"], env=e.env(), capture_output=True).returncode == 0
    e.kill9()
    e.start()                               # finds its own
    assert os.readlink(link) == str(e.sock)
    e.stop()
    assert not link.is_symlink()
    link.write_text("somebody else's")
    e = own("--docker-socket", str(link), name="second")
    assert link.read_text() == "somebody else's"
    assert "stop that daemon" in (e.base / "insulad.log").read_text()


def test_ssh_host(engine, tmp_path):
    """docker -H ssh://: its ssh runs `docker system dial-stdio` on the other host; here insula does."""
    (tmp_path / "ssh").write_text(f"#!/bin/sh\nexec {program('insula')} -H unix://{engine.sock} system dial-stdio\n")
    (tmp_path / "ssh").chmod(0o755)
    env = dict(engine.env(), PATH=f"{tmp_path}:{os.environ['PATH']}")
    del env["DOCKER_HOST"]

    def docker(*args):
        p = subprocess.run([docker_cli(), *args], env=env, capture_output=True, text=True, timeout=120)
        assert p.returncode == 0, p
        return p.stdout.strip()
    docker("context", "create", "far", "--docker", "host=ssh://user@far.example")
    assert docker("--context", "far", "version", "-f", "{{.Server.Version}}")
    assert docker("--context", "far", "run", "--rm", "busybox", "echo", "from afar") == "from afar"
    assert docker("-H", "ssh://far.example", "info", "-f", "{{.Driver}}") == "overlay2"
    docker("context", "rm", "far")


# ---- the service manager ----

def test_activation_and_notification(tmp_path):
    """The socket is passed, the daemon says when it is ready and when it stops, and leaves the socket alone."""
    path, notify = tmp_path / "api.sock", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(60)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    early = connect(path)           # before there is a daemon
    early.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    script = 'exec 3<&"$1"; shift; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
    with open(tmp_path / "log", "w") as log:
        p = subprocess.Popen(["bash", "-c", script, "sh", str(listening.fileno()), program("insulad"), "-H", "fd://",
                              "--data-root", tmp_path / "data", "--exec-root", tmp_path / "run", "--vm-dir", VM_DIR],
                             env=dict(os.environ, NOTIFY_SOCKET=str(tmp_path / "notify")), pass_fds=[listening.fileno()],
                             stderr=log)
    try:
        assert notify.recv(100) == b"READY=1"
        assert early.recv(65536).startswith(b"HTTP/1.1 200")
        assert call(path, "GET", "/_ping", raw=True) == (200, b"OK")
        p.terminate()
        assert notify.recv(100) == b"STOPPING=1"
        assert p.wait(60) == 0
    finally:
        p.kill()
        p.wait()
    assert path.exists()
    refused = subprocess.run([program("insulad"), "-H", "fd://", "--data-root", tmp_path / "data", "--exec-root", tmp_path / "run"],
                             capture_output=True, text=True, timeout=60)
    assert refused.returncode and "no sockets found via socket activation" in refused.stderr
