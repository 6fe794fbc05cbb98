"""A daemon's side of the supervisor protocol (docs/PROTOCOL.md), enough to drive a supervisor without insulad."""
import array
import glob
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import time

TYPES = {n: i for i, n in enumerate(
    "HELLO REPLY SANDBOX GUEST CREATE START KILL RESIZE ATTACH PS PS_TABLE DELETE TASK_STATE SHUTDOWN DATA "
    "STREAM_EOF CREDIT DETACHED".split(), 1)}
TYPES.update(NETWORK=24, SANDBOX=25, GUEST=26)
NAMES = {v: k for k, v in TYPES.items()}
FIELDS = {
    "HELLO": "u:version s:sandbox s:kind u:pid",
    "REPLY": "u:kind u:errnum s:message b:payload",
    "SANDBOX": "s:sandbox s:hostname s:net n:nics s:cgroup "
               "s:accel s:kernel s:initrd q:memory u:vcpus v:shares q:memory_region q:memory_extra u:vcpus_max",
    "NIC": "s:name s:bridge s:ifname s:mac v:addresses v:gateways u:mtu s:kind",
    "NETWORK": "s:sandbox n:nics",
    "CREATE": "s:sandbox s:ctr s:exec b:spec s:bundle s:log_path u:flags u:rows u:cols v:files v:lower s:upper "
              "s:work u:stream b:filter v:log v:devices",
    "START": "s:sandbox s:ctr s:exec",
    "KILL": "s:sandbox s:ctr s:exec u:signo c:all",
    "RESIZE": "s:sandbox s:ctr s:exec u:rows u:cols",
    "ATTACH": "s:sandbox s:ctr s:exec u:flags b:detach_keys b:preread",
    "PS": "s:sandbox s:ctr",
    "PS_TABLE": "v:cells",
    "DELETE": "s:sandbox s:ctr s:exec",
    "TASK_STATE": "s:sandbox s:ctr s:exec c:state u:pid q:started_ns q:exited_ns u:exit_code c:oom s:error",
    "SHUTDOWN": "s:sandbox",
    "DETACHED": "s:sandbox s:ctr s:exec",
}
TTY, STDIN, STDIN_ONCE = 1, 2, 4
A_IN, A_OUT, A_ERR, A_MUX = 1, 2, 4, 8
CREATED, RUNNING, EXITED = 1, 2, 3
PS_COLUMNS = "pid ppid uid gid state tty start cpu_ms vsz rss nice comm args".split()


def _bytes(v):
    v = v.encode() if isinstance(v, str) else v
    return struct.pack("<I", len(v)) + v


def encode(name, m):
    out = b""
    for field in FIELDS[name].split():
        kind, key = field.split(":")
        if kind == "v":
            v = m.get(key, [])
            out += struct.pack("<I", len(v)) + b"".join(map(_bytes, v))
        elif kind == "n":
            v = m.get(key, [])
            out += struct.pack("<I", len(v)) + b"".join(_bytes(encode("NIC", x)) for x in v)
        elif kind in "sb":
            out += _bytes(m.get(key, ""))
        else:
            out += struct.pack({"c": "<B", "u": "<I", "q": "<Q"}[kind], m.get(key, 0))
    return out


def decode(name, p):
    m, at = {}, 0

    def take(fmt):
        nonlocal at
        v, = struct.unpack_from(fmt, p, at)
        at += struct.calcsize(fmt)
        return v

    def string():
        nonlocal at
        n = take("<I")
        at += n
        return p[at - n:at]

    for field in FIELDS[name].split():
        kind, key = field.split(":")
        if kind == "v":
            m[key] = [string().decode() for _ in range(take("<I"))]
        elif kind == "s":
            m[key] = string().decode()
        elif kind == "b":
            m[key] = string()
        else:
            m[key] = take({"c": "<B", "u": "<I", "q": "<Q"}[kind])
    return m


class Refused(Exception):
    def __init__(self, m):
        super().__init__(m["message"])
        self.kind, self.errnum = m["kind"], m["errnum"]


class Daemon:
    """One connection to a supervisor. Events are kept in `states` (latest by task) and `detached`."""

    def __init__(self, path, hello=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(path))
        self.seq, self.states, self.history, self.detached, self.replies = 0, {}, [], [], {}
        if hello:
            self.hello = decode("HELLO", self.request("HELLO", version=1))

    def close(self):
        self.sock.close()

    def _exact(self, n):
        b = b""
        while len(b) < n:
            got = self.sock.recv(n - len(b))
            if not got:
                raise EOFError
            b += got
        return b

    def read_frame(self):
        n, kind, _, seq, _ = struct.unpack("<IHHII", self._exact(16))
        payload = self._exact(n)
        name = NAMES[kind]
        if name == "REPLY":
            self.replies[seq] = decode("REPLY", payload)
        elif name == "TASK_STATE":
            m = decode(name, payload)
            self.states[m["ctr"], m["exec"]] = m
            self.history.append((m["ctr"], m["exec"], m["state"]))
        elif name == "DETACHED":
            self.detached.append(decode(name, payload))

    def request(self, name, fd=None, **m):
        self.seq += 1
        p = encode(name, m)
        raw = struct.pack("<IHHII", len(p), TYPES[name], 0, self.seq, 0) + p
        if fd is None:
            self.sock.sendall(raw)
        else:
            n = self.sock.sendmsg([raw], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            self.sock.sendall(raw[n:])
        seq = self.seq
        while seq not in self.replies:
            self.read_frame()
        r = self.replies.pop(seq)
        if r["kind"]:
            raise Refused(r)
        return r["payload"]

    def wait_state(self, ctr, state, exec_id=""):
        while self.states.get((ctr, exec_id), {}).get("state", 0) != state:
            self.read_frame()
        return self.states[ctr, exec_id]

    def ps(self, ctr):
        cells = decode("PS_TABLE", self.request("PS", ctr=ctr))["cells"]
        n = len(PS_COLUMNS)
        return [dict(zip(PS_COLUMNS, cells[i:i + n])) for i in range(0, len(cells), n)]


class Client:
    """An attached client's end."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(60)

    def send(self, data):
        self.sock.sendall(data)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def read_until(self, text, limit=1 << 20):
        b = b""
        while text not in b and len(b) < limit:
            got = self.sock.recv(4096)
            assert got, f"ended before {text!r}: {b!r}"
            b += got
        return b

    def read_all(self):
        b = bytearray()
        while True:
            got = self.sock.recv(65536)
            if not got:
                return bytes(b)
            b += got


def demux(raw):
    out = {1: b"", 2: b""}
    while raw:
        stream, n = struct.unpack(">BxxxI", raw[:8])
        out[stream] += raw[8:8 + n]
        raw = raw[8 + n:]
    return out[1], out[2]


class Supervisor:
    """A running insula-shim with a busybox tree for its containers."""

    def __init__(self, exe, base):
        self.base = pathlib.Path(base)
        self.cgroup = "insula-test-" + self.base.name
        self.dir = self.base / "sb"
        self.dir.mkdir()
        self.layer = self.base / "layer"
        self._busybox()
        self.path = self.dir / "sup.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen(8)
        self.log = open(self.base / "shim.log", "wb")
        self.proc = subprocess.Popen(
            [exe, "--sandbox", "sb", "--dir", str(self.dir)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.log, pass_fds=[3] if self._as_three(listening) else [],
            close_fds=True)
        os.close(3)
        if self.saved is not None:
            os.dup2(self.saved, 3)
            os.close(self.saved)

    def _as_three(self, s):
        """The socket has to be descriptor 3; whatever was there before comes back afterwards."""
        fd = s.detach()
        self.saved = None
        if fd != 3:
            try:
                self.saved = os.dup(3)
            except OSError:
                pass
            os.dup2(fd, 3)
            os.close(fd)
        return True

    def _busybox(self):
        for d in ("bin", "proc", "sys", "dev", "etc", "tmp", "root"):
            (self.layer / d).mkdir(parents=True)
        busybox = shutil.which("busybox")
        shutil.copy(busybox, self.layer / "bin/busybox")
        for name in "sh cat echo sleep true false ls seq head dd stty id hostname ip wc kill env mount".split():
            (self.layer / "bin" / name).symlink_to("busybox")
        (self.layer / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
        (self.layer / "etc/group").write_text("root:x:0:\nweb:x:34:\nmail:x:8:web\n")

    def daemon(self, **kw):
        return Daemon(self.path, **kw)

    def process(self, args, tty=False, user=None, env=()):
        p = {"terminal": tty, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
             "env": ["PATH=/bin", "TERM=xterm", *env]}
        if user is not None:
            p["user"]["username"] = user
        return p

    def spec(self, ctr, args, **kw):
        ns = [{"type": t} for t in ("mount", "pid", "uts")]
        return {
            "ociVersion": "1.0.2", "process": self.process(args, **kw), "root": {"path": "rootfs"}, "hostname": ctr[:12],
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                       {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                        "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}],
            "linux": {"namespaces": ns, "cgroupsPath": f"/{self.cgroup}/{ctr}"},
        }

    def create(self, d, ctr, args, flags=0, **kw):
        bundle = self.base / ctr
        for sub in ("upper", "work"):
            (bundle / sub).mkdir(parents=True)
        extra = {k: kw.pop(k) for k in ("rows", "cols", "files", "lower") if k in kw}
        extra.setdefault("lower", [str(self.layer)])
        spec = self.spec(ctr, args, tty=bool(flags & TTY), **kw)
        d.request("CREATE", sandbox="sb", ctr=ctr, spec=json.dumps(spec), bundle=str(bundle), flags=flags,
                  log_path=str(self.log_path(ctr)), upper=str(bundle / "upper"), work=str(bundle / "work"), **extra)

    def create_exec(self, d, ctr, exec_id, args, flags=0, rows=0, cols=0, **kw):
        p = self.process(args, tty=bool(flags & TTY), **kw)
        d.request("CREATE", sandbox="sb", ctr=ctr, exec=exec_id, spec=json.dumps(p), flags=flags, rows=rows, cols=cols)

    def attach(self, d, ctr, flags, exec_id="", keys=b"", preread=b"", sndbuf=None):
        ours, theirs = socket.socketpair()
        if sndbuf:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        d.request("ATTACH", fd=theirs.fileno(), sandbox="sb", ctr=ctr, exec=exec_id, flags=flags, detach_keys=keys,
                  preread=preread)
        theirs.close()
        return Client(ours)

    def log_path(self, ctr):
        return self.base / f"{ctr}-json.log"

    def log_lines(self, ctr):
        return [json.loads(x) for x in self.log_path(ctr).read_text().splitlines()]

    def record(self, ctr):
        return decode("TASK_STATE", (self.dir / f"exit-{ctr}").read_bytes())

    def wait_end(self, timeout=60):
        return self.proc.wait(timeout)

    def rss_kb(self):
        for line in open(f"/proc/{self.proc.pid}/smaps_rollup"):
            if line.startswith("Rss:"):
                return int(line.split()[1])

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(30)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait(30)
        self.log.close()
        self._remove_cgroups()

    def _remove_cgroups(self):
        """The runtime removes a container's cgroup, not the one above it; a killed supervisor not even that."""
        for root in ("/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*/")):
            parent = os.path.join(root, self.cgroup)
            for d in [*glob.glob(parent + "/*/"), parent]:
                # What a killed supervisor leaves is let go by the kernel a moment later.
                for _ in range(500):
                    try:
                        os.rmdir(d)
                    except FileNotFoundError:
                        break
                    except OSError:
                        time.sleep(0.02)


def wait_gone(path, timeout=60):
    end = time.time() + timeout
    while os.path.exists(path) and time.time() < end:
        time.sleep(0.02)
    return not os.path.exists(path)
