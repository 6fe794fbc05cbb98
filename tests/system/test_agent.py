"""insula-agent in a real guest: QEMU with software emulation, the link spoken by this test.

INSULA_BUILD   build directory (default: build)
INSULA_VM_DIR  directory prepared by tools/guest-image (default: INSULA_BUILD/guest, made if missing)
"""
import json
import os
import pathlib
import re
import select
import shutil
import socket
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build"))
VM_DIR = pathlib.Path(os.environ.get("INSULA_VM_DIR", BUILD / "guest"))
CMDLINE = ("quiet reboot=t panic=-1 tsc=reliable no_timer_check swiotlb=noforce cryptomgr.notests "
           "rcupdate.rcu_expedited=1 console=ttyS0 " + os.environ.get("INSULA_TEST_CMDLINE", ""))
CTR = "c" * 64
SANDBOX = "5" * 64
CREATED, RUNNING, EXITED = 1, 2, 3
TTY, STDIN = 1, 2
DATA, EOF, CREDIT = 15, 16, 17

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(shutil.which(p) for p in ("qemu-system-x86_64", "mkfs.erofs", "mkfs.ext4")),
    reason="needs root, QEMU, mkfs.erofs and mkfs.ext4")


def message_table():
    """{NAME: (number, [(kind, field)])}, from the table that the programs are compiled from."""
    text = (ROOT / "src/proto/msg.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S).replace("\\\n", " ")
    fields = {m[1]: re.findall(r"F\((\w+),\s*(\w+)\s*\)", m[2])
              for m in re.finditer(r"#define MSG_FIELDS_(\w+)\(F\)(.*)", text)}
    return {name: (int(number), fields[name]) for number, name in re.findall(r"M\((\d+),\s*(\w+),", text)}


TABLE = message_table()
NAMES = {number: name for name, (number, _) in TABLE.items()}
INTS = {"U8": "<B", "U32": "<I", "U64": "<Q"}


def encode(message, **values):
    out = b""
    for kind, field in TABLE[message][1]:
        v = values.pop(field, None)
        if kind in INTS:
            out += struct.pack(INTS[kind], v or 0)
        elif kind == "STRV":
            out += struct.pack("<I", len(v or []))
            for s in v or []:
                s = s.encode()
                out += struct.pack("<I", len(s)) + s
        elif kind == "NICS":
            nics = [encode("NIC", **nic) for nic in v or []]
            out += struct.pack("<I", len(nics)) + b"".join(struct.pack("<I", len(n)) + n for n in nics)
        else:
            v = (v or b"") if isinstance(v or b"", bytes) else v.encode()
            out += struct.pack("<I", len(v)) + v
    assert not values, values
    return out


def decode(name, data):
    at, ret = 0, {}

    def blob():
        nonlocal at
        n, = struct.unpack_from("<I", data, at)
        at += 4 + n
        return data[at - n:at]
    for kind, field in TABLE[name][1]:
        if kind in INTS:
            ret[field], = struct.unpack_from(INTS[kind], data, at)
            at += struct.calcsize(INTS[kind])
        elif kind == "STRV":
            n, = struct.unpack_from("<I", data, at)
            at += 4
            ret[field] = [blob().decode() for _ in range(n)]
        else:
            ret[field] = blob() if kind == "BYTES" else blob().decode()
    return ret


class AgentError(Exception):
    pass


class Link:
    """The host's end of the agent link."""

    def __init__(self, path, epoch=1):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.epoch, self.seq, self.buf = epoch, 0, b""
        self.replies, self.states, self.output, self.eofs, self.credit = {}, [], {}, set(), {}
        self.auto_credit = True

    def close(self):
        self.sock.close()

    def send(self, type_, payload=b"", seq=0, stream=0):
        self.sock.sendall(struct.pack("<IHHII", len(payload), type_, self.epoch, seq, stream) + payload)

    def pump(self, timeout):
        if not select.select([self.sock], [], [], max(0, timeout))[0]:
            return
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.buf += data
        while len(self.buf) >= 16:
            n, type_, epoch, seq, stream = struct.unpack_from("<IHHII", self.buf)
            if len(self.buf) < 16 + n:
                break
            payload, self.buf = self.buf[16:16 + n], self.buf[16 + n:]
            if epoch == self.epoch:
                self.frame(type_, seq, stream, payload)

    def frame(self, type_, seq, stream, payload):
        name = NAMES[type_]
        if name == "REPLY":
            self.replies[seq] = decode("REPLY", payload)
        elif name == "TASK_STATE":
            self.states.append(decode(name, payload))
        elif name == "DATA":
            self.output[stream] = self.output.get(stream, b"") + payload
            if self.auto_credit:
                self.send(CREDIT, struct.pack("<I", len(payload)), stream=stream)
        elif name == "STREAM_EOF":
            self.eofs.add(stream)
        elif name == "CREDIT":
            self.credit[stream] = self.credit.get(stream, 0) + struct.unpack("<I", payload)[0]

    def until(self, condition, timeout=60):
        end = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < end, "timed out"
            self.pump(end - time.monotonic())

    def request(self, name, timeout=60, **values):
        self.seq += 1
        seq = self.seq
        self.send(TABLE[name][0], encode(name, **values), seq)
        r = self.until(lambda: self.replies.pop(seq, None), timeout)
        if r["kind"]:
            raise AgentError(r["message"])
        return r["payload"]

    def hello(self):
        r = decode("HELLO", self.request("HELLO", version=2, sandbox=SANDBOX, kind="vmwp", timeout=120))
        assert (r["version"], r["kind"], r["sandbox"]) == (2, "agent", SANDBOX)

    def state(self, state, ctr=CTR, exec="", timeout=60):
        return self.until(lambda: next((s for s in self.states if s["ctr"] == ctr and s["exec"] == exec and
                                        s["state"] == state), None), timeout)


class Guest:
    def __init__(self, tmp, disks, net=False):
        self.tmp, self.serial = tmp, tmp / "serial.log"
        self.started = time.monotonic()
        cmd = ["qemu-system-x86_64", "-M", "pc,accel=tcg", "-cpu", "max,-erms,-fsrm", "-smp", "1",
               "-m", "256", "-accel", "tcg,tb-size=64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
               "-kernel", str(VM_DIR / "vmlinuz"), "-initrd", str(VM_DIR / "initramfs.img"), "-append", CMDLINE,
               "-serial", f"file:{self.serial}",
               "-qmp", f"unix:{tmp}/qmp,server=on,wait=off",
               "-device", "virtio-serial-pci,disable-legacy=on",
               "-chardev", f"socket,id=agent,path={tmp}/agent,server=on,wait=off",
               "-device", "virtserialport,chardev=agent,name=insula.agent"]
        cmd[cmd.index("-M") + 1] = "pc"
        for i, (_, path, ro) in enumerate(disks):
            cmd += ["-drive", f"if=none,id=d{i},format=raw,file={path},readonly={'on' if ro else 'off'},"
                              "werror=report,rerror=report,discard=unmap"]
        self.disks = disks
        if net:
            cmd += ["-netdev", "user,id=n0,restrict=on"]
        self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL)
        self.wait_path(tmp / "agent")

    def wait_path(self, path):
        end = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < end and self.proc.poll() is None
            time.sleep(0.002)

    def qmp(self, *commands):
        s = socket.socket(socket.AF_UNIX)
        s.connect(f"{self.tmp}/qmp")
        f = s.makefile("rw")
        f.readline()
        for name, args in (("qmp_capabilities", {}),) + commands:
            f.write(json.dumps({"execute": name, "arguments": args}) + "\n")
            f.flush()
            while True:
                r = json.loads(f.readline())
                assert "error" not in r, r
                if "return" in r:
                    break
        s.close()

    def plug(self, net_mac=None):
        cmds = [("device_add", {"driver": "virtio-blk-pci", "drive": f"d{i}", "id": f"disk{i}",
                                "disable-legacy": "on", "addr": "0x" + place[:2]})
                for i, (place, _, _) in enumerate(self.disks)]
        if net_mac:
            cmds.append(("device_add", {"driver": "virtio-net-pci", "netdev": "n0", "mac": net_mac, "addr": "0x4",
                                        "disable-legacy": "on", "romfile": ""}))
        self.qmp(*cmds)

    def stop(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


@pytest.fixture(scope="session", autouse=True)
def image():
    subprocess.run([ROOT / "tools/guest-image", VM_DIR, BUILD], check=True)


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """Two layers: busybox with a file below, and above it a file, a whiteout and an opaque directory."""
    tmp = tmp_path_factory.mktemp("layers")
    low, top = tmp / "low", tmp / "top"
    for d in ("bin", "dev", "proc", "sys", "etc", "tmp", "data", "opaque"):
        (low / d).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", low / "bin/busybox")
    for applet in ("sh", "cat", "ls", "echo", "sleep", "true", "stty", "mount", "id", "ip", "head", "wc",
                   "hostname", "date", "dd", "tr", "df"):
        (low / "bin" / applet).symlink_to("busybox")
    (low / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (low / "data/below").write_text("below\n")
    (low / "data/gone").write_text("gone\n")
    (low / "opaque/hidden").write_text("hidden\n")
    for d in ("data", "opaque"):
        (top / d).mkdir(parents=True)
    (top / "data/above").write_text("above\n")
    os.mknod(top / "data/gone", 0o600 | 0o020000, os.makedev(0, 0))
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    out = []
    for place, d in (("05.0", top), ("06.0", low)):
        img = tmp / f"{d.name}.erofs"
        subprocess.run(["mkfs.erofs", "--quiet", img, d], check=True, stdout=subprocess.DEVNULL)
        out.append((place, img, True))
    return out


def make_scratch(path):
    with open(path, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", path], check=True)
    return path


@pytest.fixture(scope="module")
def guest(layers, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("guest")
    g = Guest(tmp, layers + [("07.0", make_scratch(tmp / "s0"), False), ("08.0", make_scratch(tmp / "s1"), False)], net=True)
    yield g
    g.stop()
    print(g.serial.read_text(errors="replace"))


@pytest.fixture(scope="module")
def link(guest):
    link = Link(guest.tmp / "agent")
    link.hello()
    print(f"HELLO after {time.monotonic() - guest.started:.2f} s")
    # As before a template is saved: the host goes and comes back.
    link.close()
    time.sleep(0.2)
    guest.plug("02:42:ac:11:00:07")
    link = Link(guest.tmp / "agent", epoch=2)
    link.hello()
    t = time.monotonic()
    link.request("GUEST", sandbox=SANDBOX, entropy=os.urandom(256), time_ns=1900000000 * 10**9, hostname="guesthost",
                 nics=[dict(name="eth0", mac="02:42:ac:11:00:07", addresses=["172.17.0.7/16"],
                            gateways=["172.17.0.1"], mtu=1400)],
                 disks=[s for s, _, _ in guest.disks])
    print(f"GUEST took {time.monotonic() - t:.2f} s")
    return link


def spec(args, ctr=CTR, tty=False, mounts=(), **process):
    caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
            "CAP_KILL", "CAP_SYS_CHROOT"]
    return json.dumps({
        "ociVersion": "1.0.2",
        "hostname": "ctr",
        "root": {"path": "rootfs", "readonly": False},
        "process": {"terminal": tty, "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": args,
                    "env": ["PATH=/bin", "TERM=xterm"], "noNewPrivileges": False,
                    "capabilities": {k: caps for k in ("bounding", "effective", "permitted")}, **process},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            *mounts],
        "linux": {
            "cgroupsPath": "/insula/" + ctr,
            "resources": {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 100}},
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "cgroup")]},
    }).encode()


def exec_spec(args, tty=False, **kw):
    return json.dumps({"terminal": tty, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
                       "env": ["PATH=/bin"], **kw}).encode()


streams = iter(range(1, 10**6, 3))


class Task:
    """A created container or exec."""

    def __init__(self, link, spec_, exec="", flags=0, ctr=CTR, **kw):
        self.link, self.ctr, self.exec, self.stream = link, ctr, exec, next(streams)
        self.id = {"sandbox": SANDBOX, "ctr": ctr, "exec": exec}
        link.request("CREATE", spec=spec_, flags=flags, stream=self.stream, **self.id, **kw)

    def start(self):
        return struct.unpack("<I", self.link.request("START", **self.id))[0]

    def wait(self, timeout=60):
        return self.link.state(EXITED, self.ctr, self.exec, timeout)["exit_code"]

    def out(self, n=1):
        self.link.until(lambda: self.stream + n in self.link.eofs)
        return self.link.output.get(self.stream + n, b"").decode()

    def see(self, text, timeout=60):
        self.link.until(lambda: text.encode() in self.link.output.get(self.stream + 1, b""), timeout)

    def delete(self):
        self.link.request("DELETE", **self.id)
        self.link.states[:] = [s for s in self.link.states if (s["ctr"], s["exec"]) != (self.ctr, self.exec)]

    def kill(self, signo, all=False):
        self.link.request("KILL", signo=signo, all=all, **self.id)


def container(link, args, ctr=CTR, scratch="07.0", lower=("05.0", "06.0"), mounts=(), flags=0,
              files=("hosts", "127.0.0.1 localhost\n"), **kw):
    return Task(link, spec(args, ctr, tty=bool(flags & TTY), mounts=mounts, **kw), ctr=ctr, flags=flags,
                lower=list(lower), upper=scratch, files=list(files))


@pytest.fixture
def running(link):
    """A container that sleeps, for execs."""
    t = container(link, ["sleep", "1000"])
    t.start()
    yield t
    t.kill(9)
    assert t.wait() == 137
    t.delete()


def run(link, args, **kw):
    t = container(link, args, **kw)
    t.start()
    code, out, err = t.wait(), t.out(), t.out(2)
    t.delete()
    return code, out, err


def execute(link, args, number=iter(range(10**6)), **kw):
    t = Task(link, exec_spec(args, **kw), exec=f"e{next(number)}")
    t.start()
    code, out, err = t.wait(), t.out(), t.out(2)
    t.delete()
    return code, out, err


def test_run_output_and_code(link):
    assert run(link, ["sh", "-c", "echo out; echo err >&2; exit 7"]) == (7, "out\n", "err\n")


def test_layers_and_scratch(link):
    code, out, _ = run(link, ["sh", "-c", "cat /data/above /data/below; ls /data /opaque; echo x > /data/new && cat /data/new"])
    assert code == 0
    assert out == "above\nbelow\n/data:\nabove\nbelow\n\n/opaque:\nx\n"
    # The scratch disk keeps what a container wrote: a later task of the same container sees it.
    assert run(link, ["cat", "/data/new"])[1] == "x\n"


def test_read_only_root(link):
    code, out, err = run(link, ["sh", "-c", "echo x > /data/ro"], scratch="")
    assert code != 0 and "Read-only file system" in err


def test_guest_identity(link):
    code, out, _ = run(link, ["sh", "-c", "hostname; date +%s; ip addr show eth0; ip route; cat /proc/1/cgroup"])
    lines = out.splitlines()
    assert lines[0] == "ctr"
    assert 0 <= int(lines[1]) - 1900000000 < 600
    assert "172.17.0.7/16" in out and "02:42:ac:11:00:07" in out and "mtu 1400" in out
    assert "default via 172.17.0.1" in out


def test_container_sees_nothing_of_the_guest(link):
    _, out, _ = run(link, ["ls", "/dev"])
    assert not [n for n in out.split() if re.match(r"vport|vd[a-z]|hvc|mem$|kmsg|ttyS", n)]
    # Neither by making the node itself: 253:1 is within the dynamic majors of virtio ports.
    code, out, err = run(link, ["sh", "-c", "cat /proc/devices | head -40; "
                                "m=$(grep virtio-portsdev /proc/devices | { read a b; echo $a; }); echo m=$m; "
                                "/bin/busybox mknod /tmp/p c $m 1 && cat /tmp/p"])
    assert code != 0 and "Operation not permitted" in err, (out, err)
    assert run(link, ["sh", "-c", "ls /run/insula /lib/modules 2>/dev/null; true"])[1] == ""


def test_not_found(link):
    with pytest.raises(AgentError, match='exec: "nosuch": executable file not found in'):
        container(link, ["nosuch"])
    assert run(link, ["true"])[0] == 0      # nothing was left behind


def test_unknown_disk(link):
    with pytest.raises(AgentError, match="1f.0"):
        container(link, ["true"], lower=("1f.0",))
    assert run(link, ["true"])[0] == 0


def test_stdin_backpressure(link):
    t = container(link, ["sh", "-c", "read x; sleep 1; cat | wc -c"], flags=STDIN)
    t.start()
    link.send(DATA, b"go\n", stream=t.stream)
    sent, total = 3, 1 << 20
    while sent < total + 3:
        link.until(lambda: sent < (128 << 10) + link.credit.get(t.stream, 0))
        n = min(32 << 10, total + 3 - sent, (128 << 10) + link.credit.get(t.stream, 0) - sent)
        link.send(DATA, b"x" * n, stream=t.stream)
        sent += n
    link.send(EOF, stream=t.stream)
    assert t.wait() == 0 and t.out() == f"{total}\n"
    t.delete()


def test_output_backpressure(link):
    """Without credit no more than one window comes; nothing is lost after it is given."""
    link.auto_credit = False
    try:
        t = container(link, ["sh", "-c", "dd if=/dev/zero bs=1k count=1024 2>/dev/null | tr '\\0' x"])
        t.start()
        link.until(lambda: len(link.output.get(t.stream + 1, b"")) == 128 << 10)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            link.pump(0.1)
        assert len(link.output[t.stream + 1]) == 128 << 10
        given = 0
        while t.stream + 1 not in link.eofs:
            have = len(link.output[t.stream + 1])
            if have > given:
                link.send(CREDIT, struct.pack("<I", have - given), stream=t.stream + 1)
                given = have
            link.pump(1)
        assert len(link.output[t.stream + 1]) == 1 << 20
        assert t.wait() == 0
        t.delete()
    finally:
        link.auto_credit = True


def test_tty(link):
    t = container(link, ["sh"], flags=TTY | STDIN)
    t.start()
    link.request("RESIZE", rows=33, cols=77, **t.id)
    link.send(DATA, b"stty size; id -u\n", stream=t.stream)
    t.see("33 77")
    link.send(DATA, b"exit 5\n", stream=t.stream)
    assert t.wait() == 5
    t.delete()


def test_exec(link, running):
    assert execute(link, ["sh", "-c", "echo hi; exit 3"]) == (3, "hi\n", "")
    code, out, _ = execute(link, ["sh", "-c", "cat /proc/1/comm"])
    assert out == "sleep\n"
    with pytest.raises(AgentError, match="executable file not found"):
        t = Task(link, exec_spec(["nosuch"]), exec="bad")
        t.start()


def test_exec_tty(link, running):
    t = Task(link, exec_spec(["stty", "size"], tty=True), exec="tty", flags=TTY, rows=20, cols=50)
    t.start()
    assert t.wait() == 0
    assert "20 50" in t.out()
    t.delete()


def test_ps(link, running):
    cells = decode("PS_TABLE", link.request("PS", sandbox=SANDBOX, ctr=CTR))["cells"]
    assert len(cells) == 13 and cells[11] == "sleep" and cells[12] == "sleep 1000"


def test_kill(link):
    t = container(link, ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"])
    t.start()
    t.see("ready")
    t.kill(15)
    assert t.wait() == 9
    with pytest.raises(AgentError):
        t.kill(15)
    t.delete()


def test_two_containers_share_layers(link, running):
    other = "d" * 64
    t = container(link, ["sh", "-c", "cat /data/above; echo 2 > /data/two"], ctr=other, scratch="08.0")
    t.start()
    assert t.wait() == 0 and t.out() == "above\n"
    t.delete()
    assert execute(link, ["cat", "/data/below"])[1] == "below\n"


def test_orphans_keep_exit_codes(link, running):
    """Reaping of orphans by process 1 must not steal exit codes that somebody waits for."""
    for i in range(5):
        assert execute(link, ["sh", "-c", f"(sleep 0.1 &) ; exit {i + 20}"])[0] == i + 20


def test_reconnect(guest, link):
    """The host's end closes and comes back: tasks live on, their states are told again, no output is lost."""
    t = container(link, ["sh", "-c", "read x; echo got $x; while read y; do echo $y; done; exit 4"], flags=STDIN)
    t.start()
    link.close()
    time.sleep(0.5)
    fresh = Link(guest.tmp / "agent", epoch=link.epoch + 1)
    fresh.seq = link.seq
    link.__dict__.update(fresh.__dict__)
    link.send(TABLE["PS"][0], encode("PS", sandbox=SANDBOX, ctr=CTR), 88888)
    link.hello()
    assert link.state(RUNNING)["pid"] > 0
    assert 88888 not in link.replies    # nothing is answered before HELLO
    link.send(DATA, b"hello\nthere\n", stream=t.stream)
    t.see("got hello\nthere\n")
    link.send(EOF, stream=t.stream)
    assert t.wait() == 4
    t.delete()


def test_exit_while_disconnected(guest, link):
    t = container(link, ["sh", "-c", "read x; echo begun; sleep 0.5; echo late; exit 6"], flags=STDIN)
    t.start()
    link.send(DATA, b"go\n", stream=t.stream)
    t.see("begun\n")
    link.close()
    time.sleep(1.5)
    fresh = Link(guest.tmp / "agent", epoch=link.epoch + 1)
    fresh.seq = link.seq
    link.__dict__.update(fresh.__dict__)
    link.hello()
    assert t.wait() == 6 and t.out() == "late\n"
    t.delete()


def test_old_epoch_is_dropped(link):
    epoch, link.epoch = link.epoch, link.epoch - 1
    link.send(TABLE["PS"][0], encode("PS", sandbox=SANDBOX, ctr=CTR), 99999)
    link.epoch = epoch
    with pytest.raises(AgentError):
        link.request("PS", sandbox=SANDBOX, ctr="0" * 64)
    assert 99999 not in link.replies


def test_missing_device_is_named(link):
    with pytest.raises(AgentError, match="disk 'nothere' did not appear"):
        link.request("GUEST", sandbox=SANDBOX, disks=["nothere"], timeout=60)


def test_shutdown(guest, link):
    t = container(link, ["sh", "-c", "echo kept > /data/kept; echo ready; sleep 1000"])
    t.start()
    t.see("ready")
    start = time.monotonic()
    link.request("SHUTDOWN", sandbox=SANDBOX)
    assert guest.proc.wait(60) == 0
    print(f"SHUTDOWN took {time.monotonic() - start:.2f} s")
    assert "panic" not in guest.serial.read_text(errors="replace")
    scratch = guest.disks[2][1]
    assert subprocess.run(["e2fsck", "-fn", scratch], stdout=subprocess.DEVNULL).returncode == 0
    out = subprocess.run(["debugfs", "-R", "cat /upper/data/kept", scratch], capture_output=True, text=True).stdout
    assert out == "kept\n"
