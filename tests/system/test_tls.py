"""The TLS listener: who has a certificate of the authority is served as on the socket, nobody else."""
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

import pytest

from conftest import IMAGES, Engine, docker_cli, free_port, program, wait_for


def openssl(d, *args):
    subprocess.run(["openssl", *args], cwd=d, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """An authority with a server and a client, and a client of another authority."""
    d = tmp_path_factory.mktemp("certs")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for ca in ("ca", "other"):
        openssl(d, "req", "-x509", *new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    (d / "ext").write_text("subjectAltName=IP:127.0.0.1")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl(d, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(d, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-extfile", "ext", "-out", f"{name}.pem")
    return d


def arguments(certs, port):
    return ["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(certs / "ca.pem"), "--tlscert",
            str(certs / "server.pem"), "--tlskey", str(certs / "server.key")]


@pytest.fixture(scope="module")
def served(certs, tmp_path_factory):
    e = Engine(tmp_path_factory.mktemp("engine"))
    e.port = free_port()
    e.extra = arguments(certs, e.port)
    e.start()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    yield e
    e.stop()


def docker(e, certs, *args, name="client", stdin=None):
    env = dict(e.env(), DOCKER_HOST=f"tcp://127.0.0.1:{e.port}")
    return subprocess.run([docker_cli(), "--tlsverify", "--tlscacert", certs / "ca.pem", "--tlscert",
                           certs / f"{name}.pem", "--tlskey", certs / f"{name}.key", *args], env=env, input=stdin,
                          capture_output=True, text=True, timeout=120)


def test_served_as_on_the_socket(served, certs, isolation):
    iso = f"--isolation={isolation}"
    p = docker(served, certs, "run", "--rm", iso, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (p.returncode, p.stdout) == (3, "out\n") and "err\n" in p.stderr, p
    p = docker(served, certs, "run", "-i", "--rm", iso, "busybox", "sh", "-c", "md5sum; seq 20000", stdin="x" * 300000)
    lines = p.stdout.splitlines()
    assert lines[0].startswith(subprocess.run(["md5sum"], input=b"x" * 300000, capture_output=True).stdout.decode()[:32])
    assert lines[1:] == [str(i) for i in range(1, 20001)]


def test_an_answer_arrives_whatever_is_sent_behind(served, certs):
    """A connection that is closed before its bytes were read is reset: the client could lose what it has not read yet."""
    ctx = ssl.create_default_context(cafile=certs / "ca.pem")
    ctx.load_cert_chain(certs / "client.pem", certs / "client.key")
    with socket.create_connection(("127.0.0.1", served.port), 20) as s, ctx.wrap_socket(s, server_hostname="127.0.0.1") as t:
        t.sendall(b"GET /info HTTP/1.0\r\n\r\n")
        for _ in range(30):
            t.sendall(b"x" * 10000)
            time.sleep(0.01)
        answer = b""
        while more := t.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.") and answer.rstrip().endswith(b"}")


def test_strangers_are_not_let_in(served, certs):
    p = docker(served, certs, "version", name="stranger")
    assert p.returncode != 0 and "tls:" in p.stderr
    ctx = ssl.create_default_context(cafile=certs / "ca.pem")
    with socket.create_connection(("127.0.0.1", served.port), 20) as s, pytest.raises((ssl.SSLError, OSError)):
        t = ctx.wrap_socket(s, server_hostname="127.0.0.1")
        t.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert t.recv(100) == b""
        raise OSError("ended")
    with socket.create_connection(("127.0.0.1", served.port), 20) as s:
        s.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"200" not in s.recv(1000)
        except ConnectionResetError:
            pass


def test_a_silent_client_hinders_nobody(served, certs):
    silent = [socket.create_connection(("127.0.0.1", served.port), 20) for _ in range(20)]
    for s in silent[:10]:
        s.sendall(b"\x16\x03\x01\x02")          # the beginning of a hello
    assert docker(served, certs, "version", "-f", "{{.Server.Version}}").returncode == 0
    for s in silent:
        s.settimeout(60)
        try:
            assert s.recv(100) == b""           # the deadline of the handshake
        except ConnectionResetError:
            pass
        s.close()


def gates(e):
    def is_ours(pid):
        try:
            return open(f"/proc/{pid}/comm").read() == "insula-tls\n" and \
                f"--socket={e.sock}\0" in open(f"/proc/{pid}/cmdline").read()
        except OSError:
            return False
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and is_ours(p)]


def test_the_listener_has_no_privileges_and_comes_again(served, certs):
    pid, = gates(served)
    status = dict(x.split(":\t", 1) for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in x)
    assert status["Uid"].split() == ["65534"] * 4 and status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: docker(served, certs, "version").returncode == 0)
    assert gates(served) != [pid]
    served.kill9()
    wait_for(lambda: not gates(served))
    served.start()
    assert docker(served, certs, "version").returncode == 0


@pytest.mark.parametrize("args, message", [
    (["-H", "tcp://127.0.0.1:1"], "needs --tlsverify"),
    (["-H", "tcp://127.0.0.1:1", "--tlsverify"], "needs --tlsverify, --tlscacert"),
    (["-H", "tcp://127.0.0.1:1", "--tlsverify", "--tlscacert", "/none", "--tlscert", "/none", "--tlskey", "/none"],
     "read the certificate authority '/none'"),
    (["-H", "http://127.0.0.1:1"], "insulad serves unix://PATH, ro+unix://PATH, tcp://ADDRESS:PORT and fd://"),
])
def test_refused(tmp_path, args, message):
    p = subprocess.run([program("insulad"), "--data-root", tmp_path / "d", "--exec-root", tmp_path / "e", *args],
                       capture_output=True, text=True, timeout=30)
    errors = [x for x in p.stderr.splitlines() if "warning" not in x]
    assert p.returncode != 0 and message in errors[-1], p.stderr


def test_a_taken_port_is_said(tmp_path, certs):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        p = subprocess.run([program("insulad"), "--data-root", tmp_path / "d", "--exec-root", tmp_path / "e",
                            *arguments(certs, s.getsockname()[1])], capture_output=True, text=True, timeout=30)
    assert p.returncode != 0 and "listen on 'tcp://127.0.0.1:" in p.stderr and "in use" in p.stderr
