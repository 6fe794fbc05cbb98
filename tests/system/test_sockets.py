"""Unix sockets of the host in a container, alike in both modes: a bind mount of one, or --mount type=npipe."""
import hashlib
import os
import socket
import threading

import pytest

from conftest import BUILD, program, wait_for


@pytest.fixture
def serve(tmp_path):
    """serve(fn) -> path of a socket; fn(connection) runs in a thread for each."""
    servers = []

    def start(fn, name="s"):
        s = socket.socket(socket.AF_UNIX)
        path = str(tmp_path / name)
        s.bind(path)
        os.chmod(path, 0o666)
        s.listen(128)
        servers.append(s)

        def accept():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                threading.Thread(target=lambda c=c: (fn(c), c.close()), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        return path
    yield start
    for s in servers:
        s.shutdown(socket.SHUT_RDWR)
        s.close()


def read_all(c):
    out = b""
    while True:
        b = c.recv(65536)
        if not b:
            return out
        out += b


@pytest.fixture
def box(c):
    """A container with the client program and these sockets."""
    def make(*mounts):
        return c.rund("-v", f"{BUILD}/tests/sockcat:/sockcat:ro", *mounts, "busybox", "sleep", "1000")
    return make


@pytest.mark.parametrize("form", ["-v", "bind", "npipe"])
def test_forms(c, box, serve, form):
    path = serve(lambda s: s.sendall(b"got " + read_all(s)))
    m = ["-v", f"{path}:/s.sock"] if form == "-v" else ["--mount", f"type={form},src={path},dst=/s.sock"]
    cid = box(*m)
    # the answer comes after the end of the question: half-close
    assert c("exec", "-i", cid, "/sockcat", "/s.sock", stdin="question").ok() == "got question"
    assert c("exec", cid, "stat", "-c", "%F %a", "/s.sock").ok() == "socket 666"
    if form == "npipe":
        assert c("inspect", "-f", "{{range .Mounts}}{{if eq .Type \"npipe\"}}{{.Source}} {{.Destination}}{{end}}{{end}}", cid).ok() == f"{path} /s.sock"


def test_bulk_both_ways(c, box, serve):
    """More than any window, both ways at once, with a server that dawdles."""
    data = os.urandom(1 << 20) * 4
    got = []

    def server(s):
        t = threading.Thread(target=lambda: got.append(hashlib.sha256(read_all(s)).hexdigest()))
        t.start()
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        t.join()
    cid = box("-v", f"{serve(server)}:/s")
    out = c("exec", cid, "sh", "-c", "head -c 3000000 /dev/zero | /sockcat /s | sha256sum").ok()
    assert out.split()[0] == hashlib.sha256(data).hexdigest()
    wait_for(lambda: got == [hashlib.sha256(bytes(3000000)).hexdigest()])


def test_many_connections(c, box, serve):
    seen = []

    def server(s):
        q = read_all(s)
        seen.append(q)
        s.sendall(b"re " + q)
    cid = box("-v", f"{serve(server)}:/s")
    out = c("exec", cid, "sh", "-c", "for i in $(seq 100); do (echo $i | /sockcat /s) & done; wait").ok()
    assert sorted(out.split("\n")) == sorted(f"re {i}" for i in range(1, 101)) and len(seen) == 100


def test_back_pressure_and_the_end(c, box, serve):
    """A server that reads nothing stops the writer; one that goes away ends it; a client that goes away is noticed."""
    state = {}
    hold = threading.Event()

    def server(s):
        state["sent"] = s.recv(5)
        hold.wait(60)

    def talker(s):
        try:
            while True:
                s.sendall(b"x" * 65536)
        except OSError as e:
            state["end"] = e.errno
    cid = box("-v", f"{serve(server)}:/s", "-v", f"{serve(talker, 't')}:/t")
    w = c.popen("exec", cid, "sh", "-c", "head -c 50000000 /dev/zero | /sockcat -w /s; echo $? >&2")
    wait_for(lambda: "sent" in state)
    with pytest.raises(Exception):
        w.wait(1)
    hold.set()
    out, err = w.communicate(timeout=60)
    assert "Broken pipe" in err or "Connection reset" in err, err
    assert len(c("exec", cid, "sh", "-c", "/sockcat /t < /dev/null | head -c 100").ok()) == 100
    wait_for(lambda: state.get("end"))


def test_nobody_listens(c, box, tmp_path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(tmp_path / "dead"))
    s.close()
    cid = box("-v", f"{tmp_path}/dead:/s")
    r = c("exec", "-i", cid, "/sockcat", "/s", stdin="x")
    assert r.out == "" if c.isolation == "hyperv" else "Connection refused" in r.err
    # and the container lives on
    assert c("exec", cid, "echo", "alive").ok() == "alive"


def test_own_socket(c, engine):
    """insula's own socket in a container: the client in there sees this engine, and runs a command
    by a hijacked stream. It is linked statically."""
    cid = c.rund("-v", f"{engine.sock}:/run/insula/insula.sock", "-v", f"{program('insula')}:/insula:ro", "busybox", "sleep", "1000")
    assert cid in c("exec", cid, "/insula", "ps", "-q", "--no-trunc").ok()
    assert c("exec", "-i", cid, "/insula", "exec", "-i", cid, "cat", stdin="through and through\n").ok() == "through and through"


def test_npipe_refused(c, tmp_path):
    (tmp_path / "f").touch()
    r = c("create", "--mount", f"type=npipe,src={tmp_path}/f,dst=/p", "busybox")
    assert r.code == 125 or r.code == 1
    assert "is neither a named pipe nor a socket" in r.err
    r = c("create", "--mount", f"type=npipe,src={tmp_path}/none,dst=/p", "busybox")
    assert 'invalid mount config for type "npipe": bind source path does not exist' in r.err
