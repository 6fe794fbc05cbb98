"""insula-resolver against made-up DNS servers, in a network namespace of the test's own.

INSULA_BUILD   build directory (default: build)
"""
import ctypes
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build"))
PROGRAM = BUILD / "src/resolver/insula-resolver"
LISTEN = ("127.0.0.99", 53)
CLONE_NEWNET = 0x40000000

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not PROGRAM.exists(), reason="needs root and the built program")
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module", autouse=True)
def namespace():
    old = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    assert libc.setns(old, CLONE_NEWNET) == 0
    os.close(old)


def name(text):
    return b"".join(bytes([len(p)]) + p for p in text.encode().split(b".")) + b"\0"


def query(text, id_=0x1234):
    return struct.pack(">HHHHHH", id_, 0x0100, 1, 0, 0, 0) + name(text) + struct.pack(">HH", 1, 1)


def answer(q, ip="10.1.2.3", rcode=0):
    rr = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(ip) if rcode == 0 else b""
    return q[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, 1 if rr else 0, 0, 0) + q[12:] + rr


class Server:
    """A DNS server on 127.0.0.N:53; reply(query) gives a list of packets to send."""

    def __init__(self, host, reply, tcp=True):
        self.reply, self.seen = reply, []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.bind_udp((host, 53))
        self.tcp = socket.create_server((host, 53)) if tcp else None
        threading.Thread(target=self.run_udp, daemon=True).start()
        if tcp:
            threading.Thread(target=self.run_tcp, daemon=True).start()

    def bind_udp(self, where):
        """The thread of the server before may hold the address a moment longer."""
        for attempt in range(100):
            try:
                return self.udp.bind(where)
            except OSError:
                if attempt == 99:
                    raise
                time.sleep(0.05)

    def run_udp(self):
        while True:
            try:
                q, peer = self.udp.recvfrom(65535)
                if peer is None:
                    return
                self.seen.append((q, peer))
                for p in self.reply(q):
                    self.udp.sendto(p, peer)
            except OSError:
                return

    def run_tcp(self):
        while True:
            try:
                c, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.run_connection, args=(c,), daemon=True).start()

    def run_connection(self, c):
        with c, c.makefile("rwb") as f:
            while head := f.read(2):
                for p in self.reply(f.read(struct.unpack(">H", head)[0])):
                    f.write(struct.pack(">H", len(p)) + p)
                f.flush()

    def close(self):
        for s in (self.udp, self.tcp):
            if s:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()


@pytest.fixture
def servers():
    made = []

    def make(*a, **k):
        made.append(Server(*a, **k))
        return made[-1]
    yield make
    for s in made:
        s.close()


@pytest.fixture
def resolver(tmp_path):
    conf = tmp_path / "resolv.conf"
    os.chmod(tmp_path, 0o755)
    for p in tmp_path.parents:
        if str(p).startswith("/tmp/") and p.stat().st_uid == os.getuid():
            os.chmod(p, p.stat().st_mode | 0o055)
    procs = []

    def start(*lines, args=()):
        conf.write_text("\n".join(lines) + "\n")
        p = subprocess.Popen([PROGRAM, "--listen", "%s:%d" % LISTEN, "--resolv-conf", conf, *args])
        procs.append(p)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(LISTEN).close()
                return p
            except ConnectionRefusedError:
                time.sleep(0.01)
        raise AssertionError("insula-resolver does not listen")
    start.conf = conf
    yield start
    for p in procs:
        p.terminate()
        assert p.wait(60) == 0


def ask(packet, timeout=20, source="127.0.0.1"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((source, 0))
        s.settimeout(timeout)
        s.sendto(packet, LISTEN)
        data, peer = s.recvfrom(65535)
        assert peer == LISTEN
        return data


def rcode(p):
    return p[3] & 15


def test_forward(servers, resolver):
    s = servers("127.0.0.53", lambda q: [answer(q)])
    resolver("# comment", "nameserver 127.0.0.53", "search example.org")
    q = query("www.example.org")
    assert ask(q) == answer(q)
    for i in range(50):
        q = query(f"n{i}.example.org", i)
        assert ask(q) == answer(q)
    assert len({p for _, (_, p) in s.seen}) > 25, "source ports repeat"
    assert len({q[:2] for q, _ in s.seen}) > 40, "transaction ids repeat"


def test_privileges(servers, resolver):
    servers("127.0.0.53", lambda q: [answer(q)])
    p = resolver("nameserver 127.0.0.53")
    ask(query("a"))
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{p.pid}/status").read().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
    assert all(int(status[c], 16) == 0 for c in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"))


def test_next_server(servers, resolver):
    """A closed port, a silent server and a refusing one are passed over."""
    silent = servers("127.0.0.2", lambda q: [])
    refusing = servers("127.0.0.3", lambda q: [answer(q, rcode=5)])
    resolver("nameserver 127.0.0.1", "nameserver 127.0.0.2", "nameserver 127.0.0.3", "options timeout:1")
    start = time.monotonic()
    assert rcode(ask(query("x.y"))) == 5        # refused by the only one that answers
    assert 0.9 < time.monotonic() - start < 15
    assert silent.seen and refusing.seen
    refusing.reply = lambda q: [answer(q)]
    assert rcode(ask(query("x.y"))) == 0


def test_all_silent(servers, resolver):
    servers("127.0.0.2", lambda q: [])
    resolver("nameserver 127.0.0.2", "options timeout:1 attempts:2")
    p = ask(query("x.y", 0x4242))
    assert rcode(p) == 2 and p[:2] == b"\x42\x42" and p[2] & 0x80


def test_forged_answers_are_ignored(servers, resolver):
    def reply(q):
        other = answer(query("evil.example", struct.unpack(">H", q[:2])[0]), "6.6.6.6")
        wrong_id = answer(bytes([q[0] ^ 1]) + q[1:], "6.6.6.6")
        return [b"", b"short", q, wrong_id, other, answer(q)]
    servers("127.0.0.53", reply)
    resolver("nameserver 127.0.0.53")
    assert ask(query("good.example")) == answer(query("good.example"))


@pytest.mark.parametrize("bad", [b"", b"\0" * 11, b"\0" * 12, query("a")[:-1], answer(query("a")),
                                 query("a")[:12] + b"\xc0\x0c\0\1\0\1", query("a")[:12] + b"\x3f" * 300])
def test_malformed_queries(servers, resolver, bad):
    s = servers("127.0.0.53", lambda q: [answer(q)])
    resolver("nameserver 127.0.0.53")
    with pytest.raises(TimeoutError):
        ask(bad, timeout=0.3)
    assert not s.seen
    assert ask(query("a")) == answer(query("a"))


def test_configuration_is_read_again(servers, resolver):
    servers("127.0.0.2", lambda q: [answer(q, "2.2.2.2")])
    servers("127.0.0.3", lambda q: [answer(q, "3.3.3.3")])
    resolver("nameserver 127.0.0.2")
    assert ask(query("a"))[-4:] == b"\2\2\2\2"
    new = resolver.conf.with_suffix(".new")
    new.write_text("nameserver 127.0.0.3\n")
    new.rename(resolver.conf)
    time.sleep(1.1)
    assert ask(query("a"))[-4:] == b"\3\3\3\3"
    resolver.conf.unlink()
    time.sleep(1.1)
    assert ask(query("a"))[-4:] == b"\3\3\3\3"


def test_itself_is_not_asked(servers, resolver):
    servers("127.0.0.2", lambda q: [answer(q)])
    resolver("nameserver " + LISTEN[0], "nameserver 127.0.0.2")
    assert rcode(ask(query("a"), timeout=3)) == 0


def waiting_packets():
    """How many bytes lie in the resolver's socket, unread."""
    where = "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(LISTEN[0]))[0], LISTEN[1])
    rows = [x.split() for x in open("/proc/self/net/udp").read().splitlines()]
    [queues] = [x[4] for x in rows if x[1] == where]
    return int(queues.split(":")[1], 16)


def test_one_client_cannot_take_all(servers, resolver):
    servers("127.0.0.53", lambda q: [] if b"slow" in q else [answer(q)])
    resolver("nameserver 127.0.0.53", "options timeout:5")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        for i in range(2000):
            flood.sendto(query("slow", i), LISTEN)
            if i % 50 == 0:
                time.sleep(0.002)
        wait_for(lambda: not waiting_packets())     # or the kernel has no room for the next
        assert rcode(ask(query("quick"), source="127.0.0.7")) == 0


def test_tcp(servers, resolver):
    big = os.urandom(60000)
    servers("127.0.0.3", lambda q: [answer(q) + big])
    resolver("nameserver 127.0.0.2", "nameserver 127.0.0.3")    # nobody listens on the first
    with socket.create_connection(LISTEN, timeout=30) as c:
        f = c.makefile("rwb")
        for i in range(3):
            q = query("big.example", i)
            f.write(struct.pack(">H", len(q)) + q)
            f.flush()
            n, = struct.unpack(">H", f.read(2))
            assert f.read(n) == answer(q) + big
        c.shutdown(socket.SHUT_WR)
        assert f.read(1) == b""


def test_tcp_without_server(resolver):
    resolver("nameserver 127.0.0.2")
    with socket.create_connection(LISTEN, timeout=30) as c:
        try:
            assert c.recv(1) == b""
        except ConnectionResetError:
            pass


def test_tcp_connections_are_bounded(servers, resolver):
    servers("127.0.0.53", lambda q: [answer(q)])
    resolver("nameserver 127.0.0.53")
    q = query("a")

    def sixteen():
        """The connection that found it listening may still be counted. An answer shows that it has been accepted."""
        held = [socket.create_connection(LISTEN, timeout=30) for _ in range(16)]
        try:
            for c in held:
                c.sendall(struct.pack(">H", len(q)) + q)
                assert c.recv(2)
            return held
        except (OSError, AssertionError):
            for c in held:
                c.close()
    held = wait_for(sixteen)
    with socket.create_connection(LISTEN, timeout=30) as c:
        try:
            assert c.recv(1) == b""
        except ConnectionResetError:
            pass
    with socket.create_connection(LISTEN, timeout=30, source_address=("127.0.0.8", 0)) as c:
        c.sendall(struct.pack(">H", len(q)) + q)
        assert c.recv(2) == struct.pack(">H", len(answer(q)))
    for c in held:
        c.close()


@pytest.mark.parametrize("args,text", [((), "Usage"), (("--listen", "nonsense"), "expected ADDRESS:PORT"),
                                       (("--listen", "127.0.0.1:70000"), "expected ADDRESS:PORT"),
                                       (("--nonsense",), "unknown flag: --nonsense")])
def test_usage(args, text):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60)
    assert p.returncode != 0 and text in p.stderr
