"""Another version of the daemon takes over the containers that run, in both modes; one that cannot does not start, and
says so."""
import contextlib
import os
import socket
import struct
import subprocess
import threading

import pytest
from conftest import built, program, wait_for
from supervisor import decode, encode

REAL = built("insulad")


@pytest.fixture
def another(monkeypatch):
    """The daemon with another version number, beside the real one, where it finds its helpers."""
    text = REAL.read_bytes()
    version = subprocess.run([REAL, "--version"], capture_output=True, text=True).stdout.split()[-1].encode()
    other = b"9" * len(version.split(b".")[0]) + version[len(version.split(b".")[0]):]
    path = REAL.with_name(f"insulad-{os.getpid()}")
    path.write_bytes(text.replace(b"version " + version, b"version " + other).replace(b"insulad " + version, b"insulad " + other)
                     .replace(version + b"\0", other + b"\0"))
    path.chmod(0o755)
    yield lambda: monkeypatch.setattr("conftest.program", lambda n: str(path) if n == "insulad" else program(n)), other.decode()
    path.unlink()


def test_another_version_takes_over(own, another):
    use, version = another
    script = "trap 'echo end; exit 7' TERM; echo begun; while :; do sleep 0.1; done"
    cid = own.rund("--name", "old", "--restart", "on-failure:1", "-p", "127.0.0.1::80", "-v", "/data", "busybox", "sh", "-c", script)
    wait_for(lambda: own("logs", cid).out == "begun\n")
    port = own("port", cid).ok()
    attached = own.popen("attach", "--no-stdin", cid)
    wait_for(lambda: own("events", "--since", "1", "--until", "0s", "--filter", "event=attach").out)
    running = own.popen("exec", cid, "sh", "-c", "echo runs; sleep 3; echo of old; exit 5")
    assert running.stdout.readline() == "runs\n"
    own("exec", "-d", cid, "touch", "/data/seen").ok()
    own.engine.stop()
    use()
    own.engine.start()
    assert own("version", "-f", "{{.Server.Version}}").ok() == version
    assert own("ps", "-q", "--no-trunc").ok() == cid and own("port", cid).ok() == port
    wait_for(lambda: own("exec", cid, "ls", "/data").ok() == "seen")
    assert running.communicate(timeout=60)[0] == "of old\n"
    new = own.rund("busybox", "sleep", "1000")
    assert own("exec", new, "echo", "new").ok() == "new"
    own("stop", "-t", "30", cid).ok()
    assert own("wait", cid).ok() == "7" and own("logs", cid).out == "begun\nend\n"
    assert attached.communicate(timeout=60)[0].endswith("end\n")
    own("start", cid).ok()


class Stranger(threading.Thread):
    """Stands in for the supervisor's socket: it speaks version 2 only."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.asked = None

    def run(self):
        s, _ = self.listening.accept()
        n, _, _, seq, _ = struct.unpack("<IHHII", s.recv(16, socket.MSG_WAITALL))
        self.asked = decode("HELLO", s.recv(n, socket.MSG_WAITALL))["version"]
        reply = encode("REPLY", {"kind": 2, "errnum": 93, "message": "it speaks version 2 of the protocol, the daemon version 1"})
        s.sendall(struct.pack("<IHHII", len(reply), 2, 0, seq, 0) + reply)
        s.recv(1)


class Lingering(threading.Thread):
    """Between the daemon and a supervisor. To the daemon the supervisor is the process pid, which lives on when the connection has
    ended, as one does that clears away what it had."""

    def __init__(self, path, real, pid):
        super().__init__(daemon=True)
        self.real, self.pid = real, pid
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()

    def run(self):
        daemon, _ = self.listening.accept()
        with socket.socket(socket.AF_UNIX) as sup, daemon:
            sup.connect(self.real)
            threading.Thread(target=self.pass_on, args=(daemon, sup), daemon=True).start()
            n, kind, flags, seq, stream = struct.unpack("<IHHII", sup.recv(16, socket.MSG_WAITALL))
            reply = decode("REPLY", sup.recv(n, socket.MSG_WAITALL))
            reply["payload"] = encode("HELLO", dict(decode("HELLO", reply["payload"]), pid=self.pid))
            reply = encode("REPLY", reply)
            daemon.sendall(struct.pack("<IHHII", len(reply), kind, flags, seq, stream) + reply)
            self.pass_on(sup, daemon)
            daemon.shutdown(socket.SHUT_RDWR)       # the other thread reads from it still

    def pass_on(self, source, to):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)


def test_an_adopted_one_is_waited_for_until_it_has_ended(own):
    """Its control group, its interface and its directory have the names that the next one uses: that came up beside it, and
    was killed with what the old one left."""
    cid = own.rund("busybox", "sleep", "1000")
    folder = os.open(own.engine.run_dir / "sandboxes" / cid, os.O_PATH)
    own.engine.stop()
    os.rename("sup.sock", "hidden", src_dir_fd=folder, dst_dir_fd=folder)
    lives = subprocess.Popen(["sleep", "1000"])
    Lingering(f"/proc/self/fd/{folder}/sup.sock", f"/proc/self/fd/{folder}/hidden", lives.pid).start()
    try:
        own.engine.start()
        own("kill", cid).ok()
        own("wait", cid).ok()
        again = own.popen("start", cid)
        for _ in range(3):      # others come up and end meanwhile
            assert own("run", "--rm", "busybox", "echo", "other").ok() == "other"
        assert again.poll() is None and own.state(cid, "Status") == "exited"
    finally:
        lives.kill()
        lives.wait()
    assert again.communicate(timeout=60)[0].strip() == cid and again.returncode == 0
    assert own("exec", cid, "echo", "again").ok() == "again"
    os.close(folder)


def test_another_protocol_is_refused(own):
    """A supervisor says which versions do not fit; the daemon that hears it does not start, and nothing is lost."""
    from supervisor import Daemon, Refused
    cid = own.rund("busybox", "sleep", "1000")
    sock = own.engine.run_dir / "sandboxes" / cid / "sup.sock"
    folder = os.open(sock.parent, os.O_PATH)
    short = f"/proc/self/fd/{folder}/sup.sock"      # the path of a socket has 107 bytes at most
    own.engine.stop()
    d = Daemon(short, hello=False)
    with pytest.raises(Refused, match="it speaks version 1 of the protocol, the daemon version 2"):
        d.request("HELLO", version=2, sandbox=cid, kind="insulad")
    d.close()
    sock.rename(sock.with_name("hidden"))
    stranger = Stranger(short)
    stranger.start()
    with pytest.raises(RuntimeError, match="started by another version of insula and still runs"):
        own.engine.start()
    assert stranger.asked == 1
    sock.unlink()
    sock.with_name("hidden").rename(sock)
    os.close(folder)
    own.engine.start()
    assert own("exec", cid, "echo", "still").ok() == "still"
