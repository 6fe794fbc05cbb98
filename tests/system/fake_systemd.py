"""What insula-runtime needs of systemd, on a socket: a bus that greets, and the manager's calls for transient units.
It speaks D-Bus by its specification with code of its own, and makes real groups in the name=systemd and v2
hierarchies of the host."""
import contextlib
import os
import pathlib
import signal
import socket
import struct
import threading
import time

ALIGN = {"y": 1, "g": 1, "v": 1, "b": 4, "u": 4, "i": 4, "s": 4, "o": 4, "a": 4, "t": 8, "x": 8, "(": 8}


def one_type(sig):
    """The first complete type of a signature."""
    if sig[0] == "a":
        return "a" + one_type(sig[1:])
    if sig[0] != "(":
        return sig[0]
    depth = 0
    for i, c in enumerate(sig):
        depth += (c == "(") - (c == ")")
        if not depth:
            return sig[:i + 1]
    raise ValueError(sig)


def types(sig):
    while sig:
        t = one_type(sig)
        yield t
        sig = sig[len(t):]


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def align(self, n):
        pad = -self.at % n
        assert not any(self.data[self.at:self.at + pad]), "padding is not zero"
        self.at += pad

    def take(self, fmt):
        v = struct.unpack_from("<" + fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return v

    def value(self, t):
        self.align(ALIGN[t[0]])
        if t in ("s", "o", "g"):
            n = self.take("B" if t == "g" else "I")
            text = self.data[self.at:self.at + n].decode()
            assert self.data[self.at + n] == 0
            self.at += n + 1
            return text
        if t == "v":
            return self.value(self.value("g"))
        if t[0] == "(":
            return tuple(self.value(x) for x in types(t[1:-1]))
        if t[0] == "a":
            n = self.take("I")
            self.align(ALIGN[t[1]])
            end, items = self.at + n, []
            while self.at < end:
                items.append(self.value(t[1:]))
            assert self.at == end, "an array is longer than it says"
            return items
        v = self.take({"y": "B", "b": "I", "u": "I", "i": "i", "t": "Q", "x": "q"}[t])
        if t == "b":
            assert v in (0, 1)
        return v


def put(out, t, v):
    out += b"\0" * (-len(out) % ALIGN[t[0]])
    if t in ("s", "o", "g"):
        out += struct.pack("<B" if t == "g" else "<I", len(v)) + v.encode() + b"\0"
    elif t == "v":
        put(out, "g", v[0])
        put(out, v[0], v[1])
    elif t[0] == "(":
        for x, y in zip(types(t[1:-1]), v):
            put(out, x, y)
    else:
        out += struct.pack({"y": "<B", "u": "<I"}[t], v)


def message(kind, serial, fields, sig="", *values):
    body = bytearray()
    for t, v in zip(types(sig), values):
        put(body, t, v)
    head, array = bytearray(struct.pack("<cBBBII", b"l", kind, 0, 1, len(body), serial)), bytearray()
    for code, t, v in fields + ([(8, "g", sig)] if sig else []):
        put(array, "(yv)", (code, (t, v)))
    head += struct.pack("<I", len(array)) + array
    return bytes(head + b"\0" * (-len(head) % 8) + body)


class FakeSystemd:
    """calls: (member, arguments) of all that the manager was asked. result: how jobs end."""

    def __init__(self, path):
        self.path, self.calls, self.result, self.raw = str(path), [], "done", {}
        self.jobs, self.units = 0, {}
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for unit in list(self.units):
            self.stop(unit)

    def serve(self, conn):
        try:
            self.talk(conn)
        except ConnectionError:
            pass        # the other side has what it wanted
        finally:
            conn.close()

    def talk(self, conn):
        f = conn.makefile("rb")
        assert f.read(1) == b"\0"
        for line in iter(f.readline, b"BEGIN\r\n"):
            words = line.decode().split()
            if words[:2] == ["AUTH", "EXTERNAL"]:
                if len(words) > 2:
                    assert bytes.fromhex(words[2]).decode() == str(os.getuid())
                    conn.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
                else:
                    conn.sendall(b"DATA\r\n")
            elif words == ["DATA"]:
                conn.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
            elif words == ["NEGOTIATE_UNIX_FD"]:
                conn.sendall(b"ERROR\r\n")
            else:
                return
        while True:
            head = f.read(16)
            if len(head) < 16:
                return
            kind, body, serial, fields = head[1], *struct.unpack_from("<III", head, 4)
            rest = f.read(-(-(16 + fields) // 8) * 8 - 16 + body)
            self.message(conn, kind, serial, head + rest, body)

    def message(self, conn, kind, serial, data, n_body):
        r = Reader(data, 12)
        fields = dict(r.value("a(yv)"))
        args = Reader(data[len(data) - n_body:])
        values = [args.value(t) for t in types(fields.get(8, ""))]
        assert kind == 1 and args.at == n_body
        member = fields[3]
        reply, then = self.answer(fields, member, values)
        self.raw[member] = data
        error = isinstance(reply, str)
        if error:
            conn.sendall(message(3, 9, [(5, "u", serial), (4, "s", reply)], "s", "no such thing"))
        else:
            conn.sendall(message(2, 9, [(5, "u", serial)], *reply))
        if then:
            conn.sendall(then)

    def answer(self, fields, member, values):
        if fields[6] == "org.freedesktop.DBus":
            return (("s", ":1.7") if member == "Hello" else ()), None
        assert (fields[1], fields[2], fields[6]) == ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                                     "org.freedesktop.systemd1")
        self.calls.append((member, values))
        if member in ("StartTransientUnit", "StopUnit"):
            if member == "StopUnit" and values[0] not in self.units:
                return "org.freedesktop.systemd1.NoSuchUnit", None
            self.jobs += 1
            job = f"/org/freedesktop/systemd1/job/{self.jobs}"
            if member == "StopUnit":
                self.stop(values[0])
            else:
                self.start(values[0], dict(values[2]))
            done = message(4, 8, [(1, "o", "/org/freedesktop/systemd1"), (2, "s", "org.freedesktop.systemd1.Manager"),
                                  (3, "s", "JobRemoved")], "uoss", self.jobs, job, values[0], self.result)
            return ("o", job), done
        return (), None

    # --- groups ---

    def start(self, unit, properties):
        group = f"{properties['Slice']}/{unit}"
        self.units[unit] = []
        for root in (pathlib.Path("/sys/fs/cgroup") / d for d in (".", "systemd", "unified")):
            if (root / "cgroup.procs").exists():
                (root / group).mkdir(parents=True)
                for pid in properties["PIDs"]:
                    (root / group / "cgroup.procs").write_text(str(pid))
                self.units[unit].append(root / group)

    def stop(self, unit):
        for group in self.units.pop(unit):
            for _ in range(500):
                if not group.exists():
                    break
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                try:
                    group.rmdir()
                except OSError:
                    time.sleep(0.01)
            if group.parent.exists() and not [x for x in group.parent.iterdir() if x.is_dir()]:
                group.parent.rmdir()
