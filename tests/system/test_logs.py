"""Logs: drivers, rotation, what `logs` selects, attach with the history."""
import fcntl
import json
import os
import pathlib
import socket
import subprocess

import pytest

from conftest import Engine, wait_for

JOURNAL = pathlib.Path("/run/systemd/journal/socket")


def log_config(c, cid):
    return json.loads(c("inspect", "-f", "{{json .HostConfig.LogConfig}}", cid).ok())


def log_files(c, cid):
    path = pathlib.Path(c("inspect", "-f", "{{.LogPath}}", cid).ok())
    return sorted(path.parent.glob(path.name + "*"))


def test_rotates_by_default(both):
    cid = both("create", "busybox", "true").ok()
    assert log_config(both, cid) == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def test_rotation(both, tmp_path):
    """The log stays in its bounds, `logs` shows what is kept in order, and a follower sees every line that it is not too
    far behind to see: the container is at most 60 lines ahead of it, and 100 are kept."""
    for k in (-1, 0):
        (tmp_path / str(k)).touch()
    cid = both.rund("--log-opt", "max-size=4k", "--log-opt", "max-file=3", "-v", f"{tmp_path}:/seen", "busybox", "sh", "-c",
                    "i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && "
                    "until [ -e /seen/$((i / 20 - 2)) ]; do sleep 0.02; done; done; exec sleep 600")
    follower, out = both.popen("logs", "-f", cid), []
    while len(out) < 600:
        out.append(follower.stdout.readline().rstrip())
        (tmp_path / str(len(out) // 20)).touch()
    wait_for(lambda: both("logs", "--tail", "1", cid).ok() == "line 599", 90)
    files = log_files(both, cid)
    assert len(files) == 3 and all(f.stat().st_size <= 4096 for f in files)
    kept = both("logs", cid).ok().splitlines()
    assert kept == [f"line {i}" for i in range(600 - len(kept), 600)] and 60 < len(kept) < 200
    assert both("logs", "--tail", "70", cid).ok().splitlines() == [f"line {i}" for i in range(530, 600)]
    both("kill", cid).ok()
    assert follower.communicate(timeout=60)[0] == ""
    assert out == [f"line {i}" for i in range(600)]
    both("rm", cid).ok()
    assert not files[0].parent.exists()


def test_no_end_if_asked_for(c):
    cid = c("create", "--log-opt", "max-size=-1", "busybox", "true").ok()
    assert log_config(c, cid)["Config"] == {"max-size": "-1"}


@pytest.mark.parametrize("opts, message", [
    (["--log-driver", "gelf"], "logger: no log driver named 'gelf' is registered"),
    (["--log-opt", "what=1"], "unknown log opt 'what' for json-file log driver"),
    (["--log-opt", "max-file=0"], "max-file cannot be less than 1"),
    (["--log-opt", "max-size=many"], "invalid size: 'many'"),
    (["--log-opt", "max-size=0"], "max-size must be a positive number"),
    (["--log-opt", "compress=true"], "compress=true"),
    (["--log-opt", "tag={{.Nothing}}"], "invalid tag"),
    (["--log-driver", "none", "--log-opt", "max-size=1m"], "unknown log opt 'max-size' for none log driver"),
    (["--log-driver", "local", "--log-opt", "tag=x"], "unknown log opt 'tag' for local log driver"),
    (["--log-opt", "max-buffer-size=1m"], "only supported with 'mode=non-blocking'"),
])
def test_refused(c, opts, message):
    r = c("create", *opts, "busybox", "true")
    assert r.code == 1 and message in r.err and len(r.err.splitlines()) == 1
    assert c("ps", "-aq").ok() == ""


def test_local(c):
    cid = c.rund("--log-driver", "local", "busybox", "sh", "-c", "echo one; echo two >&2")
    c("wait", cid).ok()
    r = c("logs", cid)
    assert (r.out, r.err) == ("one\n", "two\n")
    assert c("inspect", "-f", "{{.LogPath}}", cid).ok() == ""
    assert log_config(c, cid) == {"Type": "local", "Config": {"max-size": "20m", "max-file": "5"}}


def test_none(c):
    cid = c.rund("--log-driver", "none", "busybox", "echo", "gone")
    c("wait", cid).ok()
    r = c("logs", cid)
    assert r.code == 1 and "configured logging driver does not support reading" in r.err


def test_details(both):
    cid = both.rund("--label", "colour=deep blue", "--label", "other=x", "-e", "STAGE=test", "--name", "named",
                    "--log-opt", "labels=colour", "--log-opt", "env-regex=^STA", "--log-opt", "tag={{.Name}}/x",
                    "busybox", "echo", "hello")
    both("wait", cid).ok()
    assert both("logs", "--details", cid).out == "STAGE=test,colour=deep+blue,tag=named%2Fx hello\n"
    assert both("logs", cid).out == "hello\n"
    stamped = both("logs", "--details", "-t", cid).out.split()
    assert stamped[0].endswith("Z") and stamped[1].startswith("STAGE=test,") and stamped[-1] == "hello"


def test_since_until_tail(c):
    cid = c.rund("busybox", "sh", "-c", "for i in 1 2; do echo $i; until [ -e /seen$i ]; do sleep 0.05; done; done; echo 3; echo 4 >&2")
    for i in "12":          # lines that are read at once may have the same time
        wait_for(lambda: i in c("logs", cid).out.split())
        c("exec", "-d", cid, "touch", f"/seen{i}").ok()
    c("wait", cid).ok()
    lines = c("logs", "-t", cid).out.splitlines()
    stamps = [x.split()[0] for x in lines]
    assert [x.split()[1] for x in lines] == ["1", "2", "3"]
    assert c("logs", "--since", stamps[1], cid).out.split() == ["2", "3"]
    assert c("logs", "--until", stamps[1], cid).out.split() == ["1", "2"]
    assert c("logs", "--since", stamps[1], "--until", stamps[1], cid).out.split() == ["2"]
    assert c("logs", "--since", "1h", cid).out.split() == ["1", "2", "3"]
    assert c("logs", "--until", "1h", cid).out == ""
    assert c("logs", "--tail", "2", cid).out.split() == ["3"]	# the other one is on stderr
    assert c("logs", "--tail", "0", cid).out == ""
    assert c("logs", "--tail", "all", cid).out.split() == ["1", "2", "3"]


class Journal:
    """The journal of this machine, or in its absence a socket in its place."""

    def __enter__(self):
        self.lock = open("/run/insula-test-journal.lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.sock, self.entries = None, []
        if not JOURNAL.exists():
            JOURNAL.parent.mkdir(parents=True, exist_ok=True)
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.sock.bind(str(JOURNAL))
            JOURNAL.chmod(0o666)
            self.sock.setblocking(False)
        return self

    def __exit__(self, *_):
        if self.sock:
            JOURNAL.unlink()
            self.sock.close()
        self.lock.close()

    @staticmethod
    def parse(data):
        fields = {}
        while data:
            line, data = data.split(b"\n", 1)
            name, eq, value = line.partition(b"=")
            if not eq:
                n = int.from_bytes(data[:8], "little")
                value, data = data[8:8 + n], data[9 + n:]
            fields[name.decode()] = value.decode()
        return fields

    def of(self, cid):
        if not self.sock:
            out = subprocess.run(["journalctl", "-o", "json", f"CONTAINER_ID_FULL={cid}"], stdout=subprocess.PIPE,
                                 text=True).stdout
            return [json.loads(x) for x in out.splitlines()]
        while True:
            try:
                self.entries.append(self.parse(self.sock.recv(1 << 20)))
            except BlockingIOError:
                return [e for e in self.entries if e.get("CONTAINER_ID_FULL") == cid]


def test_journald(c):
    with Journal() as j:
        cid = c.rund("--log-driver", "journald", "--name", "scribe", "--log-opt", "tag=t-{{.Name}}", "--label",
                        "a.b=c", "--log-opt", "labels=a.b", "busybox", "sh", "-c", "echo out; echo err >&2")
        c("wait", cid).ok()
        entries = wait_for(lambda: len(j.of(cid)) == 2 and j.of(cid))
        by = {e["MESSAGE"]: e for e in entries}
        assert by["out"]["PRIORITY"] == "6" and by["err"]["PRIORITY"] == "3"
        for e in entries:
            assert (e["CONTAINER_NAME"], e["CONTAINER_ID"], e["CONTAINER_TAG"], e["IMAGE_NAME"], e["A_B"]) == \
                ("scribe", cid[:12], "t-scribe", "busybox", "c")
        r = c("logs", cid)
        assert (r.out, r.err) == ("out\n", "err\n")


def test_journald_may_be_absent(c):
    with open("/run/insula-test-journal.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        r = c("create", "--log-driver", "journald", "busybox", "true")
        assert JOURNAL.exists() or (r.code == 1 and "journald is not enabled on this host" in r.err)


def attach(engine, cid, query):
    """Everything that an attached client gets, unframed, until the engine ends the stream."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(engine.sock))
    s.sendall(f"POST /containers/{cid}/attach?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
              "Upgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
    f = s.makefile("rb")
    assert b"101" in f.readline()
    while f.readline() != b"\r\n":
        pass
    s.shutdown(socket.SHUT_WR)
    out = {1: b"", 2: b""}
    while head := f.read(8):
        out[head[0]] += f.read(int.from_bytes(head[4:], "big"))
    return out


def test_attach_with_logs(c):
    cid = c.rund("-i", "busybox", "sh", "-c", "echo before; echo oops >&2; while [ ! -e /go ]; do sleep 0.1; done; "
                 "echo after")
    wait_for(lambda: c("logs", cid).out == "before\n" and c("logs", cid).err == "oops\n")
    assert attach(c.engine, cid, "logs=1&stdout=1&stderr=1") == {1: b"before\n", 2: b"oops\n"}
    assert attach(c.engine, cid, "logs=1&stderr=1") == {1: b"", 2: b"oops\n"}
    c("exec", "-d", cid, "sh", "-c", "sleep 1; touch /go").ok()       # what the container does then may end it before its own end
    assert attach(c.engine, cid, "logs=1&stream=1&stdout=1&stderr=1") == {1: b"before\nafter\n", 2: b"oops\n"}
    # after its end there is nothing but the history
    assert attach(c.engine, cid, "logs=1&stdout=1")[1] == b"before\nafter\n"


def test_defaults_of_the_daemon(tmp_path, isolation):
    conf = tmp_path / "daemon.json"
    conf.write_text(json.dumps({"log-driver": "local", "log-opts": {"max-size": "1m"}}))
    e = Engine(tmp_path / "engine", ["--config-file", str(conf)])
    e.start()
    try:
        assert e.cli("insula", "info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}").ok() == \
            "local [journald json-file local none]"
        e.cli("insula", "load", "-q", "-i", os.environ.get("INSULA_IMAGES", "build/images") + "/busybox.tar").ok()
        cid = e.cli("insula", "create", f"--isolation={isolation}", "busybox", "true").ok()
        get = lambda i: json.loads(e.cli("insula", "inspect", "-f", "{{json .HostConfig.LogConfig}}", i).ok())
        assert get(cid) == {"Type": "local", "Config": {"max-size": "1m"}}
        other = e.cli("insula", "create", f"--isolation={isolation}", "--log-driver", "json-file", "busybox", "true").ok()
        assert get(other) == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        e.cli("insula", "rm", cid, other).ok()
    finally:
        e.stop()


@pytest.mark.parametrize("args, message", [
    (["--log-driver", "syslog"], "no log driver named 'syslog' is registered"),
    (["--log-opt", "max-size"], "invalid log-opt 'max-size': expected key=value"),
    (["--log-opt", "tags=x"], "unknown log opt 'tags' for json-file log driver"),
])
def test_bad_defaults(tmp_path, args, message):
    with pytest.raises(RuntimeError) as e:
        Engine(tmp_path / "engine", args).start()
    assert message in str(e.value)
