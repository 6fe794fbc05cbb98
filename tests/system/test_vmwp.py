"""The supervisor of hyperv sandboxes, driven over its socket as insulad drives it, but without insulad."""
import contextlib
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import BUILD, ROOT, VM_DIR, descriptors, program, rmdir, wait_for
from supervisor import (A_ERR, A_IN, A_MUX, A_OUT, EXITED, RUNNING, STDIN, STDIN_ONCE, TTY, Refused, Supervisor, demux)

A, B = "a" * 64, "b" * 64
OUT = A_OUT | A_ERR | A_MUX
MB = 1 << 20
GROUP = f"insula-vmwp-{os.getpid()}"        # of ours alone: several runs may go on at once
APPLETS = ("sh cat echo sleep true false ls seq head dd stty id hostname ip ping wc kill env mount touch mkdir uname "
           "nproc free sync tr date poweroff").split()


@pytest.fixture(scope="session", autouse=True)
def image():
    subprocess.run([ROOT / "tools/guest-image", VM_DIR, BUILD], check=True)


@pytest.fixture(scope="session")
def layers(tmp_path_factory):
    """Two layers, top first: a file and a whiteout above a busybox tree."""
    tmp = tmp_path_factory.mktemp("layers")
    low, top = tmp / "low", tmp / "top"
    for d in ("bin", "proc", "sys", "dev", "etc", "tmp", "root"):
        (low / d).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), low / "bin/busybox")
    for name in APPLETS:
        (low / "bin" / name).symlink_to("busybox")
    (low / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (low / "etc/gone").write_text("x")
    (top / "etc").mkdir(parents=True)
    (top / "etc/above").write_text("above\n")
    os.mknod(top / "etc/gone", 0o020600, os.makedev(0, 0))
    out = []
    for d in (top, low):
        subprocess.run(["mkfs.erofs", "--quiet", f"{d}.erofs", d], check=True, stdout=subprocess.DEVNULL)
        out.append(f"{d}.erofs")
    return out


def groups(name=""):
    return [os.path.join(d, name) for d in glob.glob(f"/sys/fs/cgroup/{GROUP}") + glob.glob(f"/sys/fs/cgroup/*/{GROUP}")]


class Vm(Supervisor):
    def __init__(self, base, layers):
        super().__init__(os.environ.get("INSULA_VMWP") or program("vmwp"), base)
        self.layers = layers
        self.daemons = []

    def _busybox(self):
        pass        # what a shim serves; here there are disks

    def _remove_cgroups(self):
        for d in groups():
            if os.path.isdir(d):
                os.rmdir(d)

    def daemon(self, **kw):
        d = super().daemon(**kw)
        d.sock.settimeout(150)
        self.daemons.append(d)
        return d

    def sandbox(self, d, **kw):
        m = {"sandbox": "sb", "hostname": "guest", "net": "own", "accel": "tcg", "kernel": str(VM_DIR / "vmlinuz"),
             "initrd": str(VM_DIR / "initramfs.img"), "memory": 256 * MB, "vcpus": 1, "cgroup": f"/{GROUP}/sb-vm"}
        d.request("SANDBOX", **{**m, **kw})

    def scratch(self, ctr):
        path = self.base / f"{ctr[:4]}.ext4"
        if not path.exists():
            with open(path, "wb") as f:
                f.truncate(64 * MB)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", path], check=True)
        return str(path)

    def spec(self, ctr, args, mounts=(), disks=(), **kw):
        s = super().spec(ctr, args, **kw)
        s["mounts"] += mounts
        if disks:
            s["linux"]["devices"] = [{"path": p, "type": "b", "major": 0, "minor": 0, "fileMode": 0o600, "insulaDisk": i}
                                     for i, p in enumerate(disks)]
        s["process"]["capabilities"] = {k: ["CAP_NET_RAW"] for k in ("bounding", "effective", "permitted")}
        s["linux"]["cgroupsPath"] = "/insula/" + ctr
        s["linux"]["namespaces"] = [{"type": t} for t in ("mount", "pid", "uts", "ipc", "cgroup")]
        return s

    def create(self, d, ctr, args, flags=0, lower=None, upper=None, devices=(), **kw):
        spec = self.spec(ctr, args, tty=bool(flags & TTY), **kw)
        d.request("CREATE", sandbox="sb", ctr=ctr, spec=json.dumps(spec), bundle=str(self.base), flags=flags,
                  log_path=str(self.log_path(ctr)), lower=lower or self.layers, upper=upper or self.scratch(ctr),
                  files=["hosts", "127.0.0.1 localhost\n"], devices=list(devices))

    def run(self, d, ctr, args, flags=0, attach=OUT, **kw):
        self.create(d, ctr, args, flags, **kw)
        c = self.attach(d, ctr, attach)
        c.sock.settimeout(60)
        d.request("START", ctr=ctr)
        return c

    def exec(self, d, ctr, exec_id, args, flags=0, attach=OUT, **kw):
        self.create_exec(d, ctr, exec_id, args, flags, **kw)
        c = self.attach(d, ctr, attach, exec_id)
        c.sock.settimeout(60)
        d.request("START", ctr=ctr, exec=exec_id)
        return c

    def sh(self, d, ctr, script):
        """Standard output of a script in the container."""
        self.n = getattr(self, "n", 0) + 1
        name = f"e{self.n}"
        out, err = demux(self.exec(d, ctr, name, sh(script)).read_all())
        state = d.wait_state(ctr, EXITED, name)
        assert state["exit_code"] == 0, (script, out, err)
        return out.decode()

    def children(self):
        return list(map(int, open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").read().split()))

    def child(self, name):
        for pid in self.children():
            with contextlib.suppress(OSError):      # it has ended meanwhile
                if open(f"/proc/{pid}/comm").read().startswith(name):
                    return pid

    def qemu(self):
        return self.child("qemu-system-x86")

    def text(self):
        return (self.base / "shim.log").read_text()


def sh(script):
    return ["/bin/sh", "-c", script]


@pytest.fixture
def vm(layers):
    base = tempfile.mkdtemp(prefix="insula-vmwp-")
    v = Vm(base, layers)
    children = []
    try:
        yield v
        if v.proc.poll() is None:
            children = v.children()
        v.stop()
        text = v.text()
        assert "Sanitizer" not in text and "runtime error" not in text, text
        # It takes its children along, and leaves no control group.
        wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in children))
    finally:
        v.stop()
        for d in v.daemons:
            d.close()
        print(v.text())
        shutil.rmtree(base, ignore_errors=True)
    assert not groups()


@pytest.fixture
def d(vm):
    return vm.daemon()


@pytest.fixture
def up(vm, d):
    """A daemon with a running container A in a VM."""
    vm.sandbox(d)
    vm.create(d, A, sh("trap 'exit 7' TERM; while :; do sleep 0.1; done"))
    d.request("START", ctr=A)
    return d


def status(pid):
    return dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())


def ended(pid):
    """Not there, or nobody has asked how it ended."""
    try:
        return status(pid)["State"].split()[0] == "Z"
    except OSError:
        return True


def test_output_exit_code_and_end(vm, d):
    vm.sandbox(d)
    c = vm.run(d, A, sh("echo out; echo err >&2; cat /etc/above; ls /etc/gone; uname -r; exit 3"))
    out, err = demux(c.read_all())
    lines = out.decode().split("\n")
    assert lines[:2] == ["out", "above"] and err.startswith(b"err\n")
    assert lines[2] == (VM_DIR / "kernel-release").read_text().strip() != os.uname().release
    assert d.wait_state(A, EXITED)["exit_code"] == 3
    assert [x["log"] for x in vm.log_lines(A) if x["stream"] == "stdout"] == [x + "\n" for x in lines[:3]]
    assert vm.record(A)["exit_code"] == 3
    qemu = vm.qemu()
    start = time.time()
    d.request("DELETE", ctr=A)
    assert ended(qemu)
    vm.wait_end()
    assert time.time() - start < 30


def test_the_jail(vm, up):
    qemu = vm.qemu()
    st = status(qemu)
    uid = 0x70000000 + vm.proc.pid
    assert st["Uid"].split() == [str(uid)] * 4 and st["Gid"].split() == [str(uid)] * 4 and not st["Groups"].split()
    for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(st[caps], 16) == 0
    assert st["NoNewPrivs"].strip() == "1" and st["Seccomp"].strip() == "2"
    assert st["NSpid"].split()[-1] == "1"
    for ns in ("mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{qemu}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}")
    root = pathlib.Path(f"/proc/{qemu}/root")
    assert {p.name for p in root.iterdir()} <= {"usr", "lib", "lib64", "etc", "dev", "boot", "sys"}
    assert {p.name for p in (root / "dev").iterdir()} == {"null", "urandom"}
    assert {p.name for p in (root / "usr").iterdir()} <= {"bin", "lib", "lib64", "share", "libexec"}
    assert [p.name for p in (root / "usr/bin").iterdir()] == ["qemu-system-x86_64"]
    with pytest.raises(OSError):
        (root / "dev/x").touch()
    for to in descriptors(qemu).values():
        assert re.match(r"socket:|anon_inode:|/memfd:|/dev/null", to) or to in vm.layers + [vm.scratch(A)], to
    for line in open(f"/proc/{qemu}/cgroup"):
        _, names, path = line.strip().split(":")
        if {"memory", "cpu", "pids"} & set(names.split(",")):
            assert path.endswith(f"/{GROUP}/sb-vm"), line
    limits = {"memory.max": 512 * MB, "memory.limit_in_bytes": 512 * MB, "cpu.cfs_quota_us": 150000}
    there = [(d, f) for d in groups("sb-vm") for f in limits if os.path.exists(f"{d}/{f}")]
    assert there
    for d, f in there:
        assert int(open(f"{d}/{f}").read()) == limits[f]


def test_vmwp_keeps_little(vm, up):
    st = status(vm.proc.pid)
    assert st["Name"].strip() == "vmwp"
    assert int(st["CapEff"], 16) == int(st["CapPrm"], 16) == 1 << 5       # CAP_KILL
    assert int(st["CapBnd"], 16) == 1 << 5 and st["NoNewPrivs"].strip() == "1"
    if "asan" not in vm.proc.args[0]:
        assert vm.rss_kb() < 4096


def test_kill_resize_and_exec(vm, up):
    assert vm.sh(up, A, "echo $PPID; hostname").split("\n")[1] == A[:12]
    rows = vm.ps = up.ps(A)
    assert any("trap" in r["args"] for r in rows)
    c = vm.exec(up, A, "tty", ["/bin/sh"], TTY | STDIN, A_IN | A_OUT, rows=11, cols=22)
    c.send(b"stty size\n")
    c.read_until(b"11 22")
    up.request("RESIZE", ctr=A, exec="tty", rows=33, cols=44)
    c.send(b"stty size\n")
    c.read_until(b"33 44")
    c.send(b"exit 5\n")
    c.read_all()
    assert up.wait_state(A, EXITED, "tty")["exit_code"] == 5
    up.request("DELETE", ctr=A, exec="tty")
    up.request("KILL", ctr=A, signo=signal.SIGTERM)
    assert up.wait_state(A, EXITED)["exit_code"] == 7


def test_errors_are_those_of_the_runtime(vm, up):
    with pytest.raises(Refused, match='exec: "nothing": executable file not found in .PATH') as e:
        vm.create(up, B, ["nothing"])
    assert e.value.kind == 9
    vm.create_exec(up, A, "e", ["/etc"])
    with pytest.raises(Refused, match='exec: "/etc": is a directory: permission denied') as e:
        up.request("START", ctr=A, exec="e")
    assert e.value.kind == 10
    assert up.wait_state(A, EXITED, "e")["exit_code"] == 126


def test_stdin_and_much_output(vm, d):
    vm.sandbox(d)
    c = vm.run(d, A, ["/bin/cat"], STDIN | STDIN_ONCE, OUT | A_IN)
    data = os.urandom(1 << 20)
    got = bytearray()
    sender = os.fork()
    if sender == 0:
        c.sock.sendall(data)
        c.half_close()
        os._exit(0)
    got = c.read_all()
    os.waitpid(sender, 0)
    assert demux(got)[0] == data
    assert d.wait_state(A, EXITED)["exit_code"] == 0


def test_a_slow_client_holds_output_back(vm, up):
    c = vm.exec(up, A, "e", sh("dd if=/dev/zero bs=64k count=200 2>/dev/null; echo done >/tmp/done"))
    time.sleep(4)
    if "asan" not in vm.proc.args[0]:
        assert vm.rss_kb() < 8192
    assert vm.sh(up, A, "ls /tmp") == ""
    assert len(demux(c.read_all())[0]) == 200 * 65536
    assert vm.sh(up, A, "cat /tmp/done") == "done\n"


def test_the_end_does_not_wait_for_a_slow_client(vm, up):
    vm.exec(up, A, "e", sh("dd if=/dev/zero bs=64k count=200 2>/dev/null"))
    time.sleep(2)
    start = time.time()
    up.request("SHUTDOWN")
    assert time.time() - start < 40
    assert vm.record(A)["exit_code"] == 137


def test_a_second_container(vm, up):
    """Its disks come into the running machine; layers are there already."""
    before = vm.sh(up, A, "cat /proc/partitions").split()
    c = vm.run(up, B, sh("cat /etc/above; echo b >/tmp/b; ls /tmp; exit 4"))
    assert demux(c.read_all())[0] == b"above\nb\n"
    assert up.wait_state(B, EXITED)["exit_code"] == 4
    after = vm.sh(up, A, "cat /proc/partitions; ls /tmp").split()
    assert len([x for x in after if x.startswith("vd")]) == len([x for x in before if x.startswith("vd")]) + 1
    assert "b" not in after
    up.request("DELETE", ctr=B)
    assert up.wait_state(A, RUNNING)
    # Made anew it finds what it wrote.
    c = vm.run(up, B, sh("cat /tmp/b"))
    assert demux(c.read_all())[0] == b"b\n"


def test_a_device_goes_with_its_container(vm, up, tmp_path):
    """A block device of the host comes into the running machine and leaves it: nobody has it open then."""
    f = tmp_path / "disk"
    f.write_bytes(b"on the host\n" + bytes(4 << 20))
    dev = subprocess.run(["losetup", "-f", "--show", f], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def is_open():
        return dev in descriptors(vm.qemu()).values()
    try:
        for _ in range(2):
            c = vm.run(up, B, sh("head -n1 /dev/disk; echo in the guest | dd of=/dev/disk bs=512 seek=1 2>/dev/null"),
                       disks=["/dev/disk"], devices=[dev, "rw"])
            assert demux(c.read_all())[0] == b"on the host\n"
            assert up.wait_state(B, EXITED)["exit_code"] == 0
            assert is_open()
            up.request("DELETE", ctr=B)
            wait_for(lambda: not is_open())
            assert open(dev, "rb").read(525)[512:] == b"in the guest\n"
        assert up.wait_state(A, RUNNING)
        with pytest.raises(Refused) as e:
            vm.create(up, B, sh("true"), disks=["/dev/disk"], devices=[str(f), "rw"])
        assert "open device" in str(e.value)
    finally:
        subprocess.run(["losetup", "-d", dev], check=True)


def test_scratch_survives_the_machine(layers, vm, d):
    vm.sandbox(d)
    c = vm.run(d, A, sh("echo kept >/root/file"))
    c.read_all()
    d.wait_state(A, EXITED)
    d.request("DELETE", ctr=A)
    vm.wait_end()
    other = tempfile.mkdtemp(prefix="insula-vmwp-")
    v = Vm(other, layers)
    try:
        shutil.copy(vm.scratch(A), v.scratch(A))
        d2 = v.daemon()
        v.sandbox(d2)
        assert demux(v.run(d2, A, sh("cat /root/file")).read_all())[0] == b"kept\n"
    finally:
        v.stop()
        shutil.rmtree(other)


def test_shutdown_writes_what_runs(vm, d):
    vm.sandbox(d)
    c = vm.run(d, A, sh("echo x >/root/file; echo ready; while :; do sleep 1; done"))
    c.read_until(b"ready")
    d.request("SHUTDOWN")
    vm.wait_end()
    r = vm.record(A)
    assert r["state"] == EXITED and r["exit_code"] == 137
    assert subprocess.run(["debugfs", "-R", "cat /upper/root/file", vm.scratch(A)], capture_output=True).stdout == b"x\n"


def test_sigterm_ends_everything(vm, up):
    vm.proc.terminate()
    assert vm.wait_end() == 0
    assert vm.record(A)["exit_code"] == 137


def test_the_death_of_the_machine(vm, up):
    c = vm.exec(up, A, "e", sh("echo before; sleep 100"))
    c.read_until(b"before\n")
    os.kill(vm.qemu(), signal.SIGKILL)
    s = up.wait_state(A, EXITED)
    assert s["exit_code"] == 137 and s["error"] == "the virtual machine ended: QEMU was ended by signal 9"
    assert up.wait_state(A, EXITED, "e")["exit_code"] == 137
    c.read_all()
    with pytest.raises(Refused):
        vm.create_exec(up, A, "f", ["/bin/true"])
    up.request("DELETE", ctr=A)
    vm.wait_end()


def test_a_machine_that_stands_still(vm, up):
    start = time.monotonic()
    os.kill(vm.qemu(), signal.SIGSTOP)
    s = up.wait_state(A, EXITED)
    assert time.monotonic() - start < 5 + 20       # five seconds; the others are this host's
    assert s["exit_code"] == 137 and s["error"] == "the virtual machine ended: QEMU was stopped by a signal"


def test_a_machine_that_does_not_come_up(vm, d):
    """QEMU stands still before it has said a word, or, if that was missed, before the guest has."""
    def stop():
        os.kill(wait_for(vm.qemu, step=0.005), signal.SIGSTOP)
    t = threading.Thread(target=stop)
    t.start()
    with pytest.raises(Refused, match="VM did not start: QEMU was stopped by a signal"):
        vm.sandbox(d)
        t.join()
        vm.create(d, A, ["true"])
    t.join()
    d.close()
    vm.wait_end()


def test_a_machine_that_works_hard_is_left_alone(vm, up):
    """Its processor is taken by the guest, and by others: that is no reason to end it."""
    hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * os.cpu_count())]
    try:
        vm.exec(up, A, "hog", sh("while :; do :; done"))
        time.sleep(7)
        assert vm.sh(up, A, "echo here") == "here\n"
    finally:
        for p in hogs:
            p.kill()
            p.wait()


def test_a_request_that_the_machine_leaves_unanswered(vm, up):
    """QEMU stands still, gets a request, and dies: it is answered."""
    os.kill(vm.qemu(), signal.SIGSTOP)
    seq = up.seq = up.seq + 1
    from supervisor import TYPES, encode
    p = encode("PS", {"ctr": A})
    up.sock.sendall(struct.pack("<IHHII", len(p), TYPES["PS"], 0, seq, 0) + p)
    time.sleep(0.3)
    os.kill(vm.qemu(), signal.SIGKILL)
    while seq not in up.replies:
        up.read_frame()
    assert up.replies[seq]["message"].startswith("the virtual machine ended")


def test_a_guest_that_stops(vm, up):
    vm.exec(up, A, "e", sh("sleep 100"))
    # Only the runtime's user namespace keeps a container from it: this one is root in the guest with all capabilities.
    vm.create_exec(up, A, "p", sh("mount -t proc proc /proc; echo c >/proc/sysrq-trigger"))
    try:
        up.request("START", ctr=A, exec="p")
    except Refused:
        pass
    s = up.wait_state(A, EXITED)
    assert s["exit_code"] == 137 and s["error"].startswith("the virtual machine ended: its kernel stopped: "), s
    assert "Kernel panic - not syncing: sysrq triggered crash" in s["error"]


def test_the_supervisor_takes_the_machine_along(vm, up):
    qemu = vm.qemu()
    vm.proc.kill()
    vm.proc.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{qemu}"))
    for path in groups("sb-vm"):
        wait_for(lambda: rmdir(path))


def test_volumes(vm, d):
    vol, one, sub = vm.base / "vol", vm.base / "files", vm.base / "ro"
    for p in (vol, one, sub, sub / "below"):
        p.mkdir()
    (vol / "f").write_text("volume\n")
    (one / "file").write_text("one\n")
    (one / "neighbour").write_text("secret\n")
    (sub / "f").write_text("ro\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(sub / "below")], check=True)
    try:
        vm.sandbox(d, shares=["v0", str(vol), "rw", "v1", str(one / "file"), "rw", "v2", str(sub), "rro"])
        assert len([p for p in vm.children() if "virtiofsd" in open(f"/proc/{p}/comm").read()]) == 3
        m = [{"destination": "/vol", "type": "bind", "source": "tag:v0", "options": ["rbind"]},
             {"destination": "/one", "type": "bind", "source": "tag:v1/file", "options": ["bind"]},
             {"destination": "/all", "type": "bind", "source": "tag:v1", "options": ["bind"]},
             {"destination": "/ro", "type": "bind", "source": "tag:v2", "options": ["rbind"]}]
        c = vm.run(d, A, sh("cat /vol/f /one /ro/f; echo w >/vol/g; mkdir /vol/d; echo w >>/one; ls /all; "
                            "touch /all/x /ro/x /ro/below/x; echo end"), mounts=m)
        out, err = demux(c.read_all())
        assert out.decode().split() == ["volume", "one", "ro", "file", "end"], (out, err)
        assert err.count(b"Read-only") == 3, err
        assert (vol / "g").read_text() == "w\n" and (vol / "d").is_dir()
        assert (one / "file").read_text() == "one\nw\n"
        assert sorted(os.listdir(one)) == ["file", "neighbour"] and not os.listdir(sub / "below")
        for pid in vm.children():
            if "virtiofsd" in open(f"/proc/{pid}/comm").read():
                memory = [x for x in open(f"/proc/{pid}/cgroup") if ":memory:" in x]
                assert all(x.strip().endswith(f"/{GROUP}/sb-vm") for x in memory)
        d.wait_state(A, EXITED)
    finally:
        subprocess.run(["umount", str(sub / "below")], check=True)


def ip(*args):
    return subprocess.run(["ip", *args], check=True, capture_output=True, text=True).stdout


def test_the_bridge(vm, d):
    bridge, tap, net = f"ivb{os.getpid()}", f"ivt{os.getpid()}", f"10.213.{os.getpid() % 250}"
    ip("link", "add", bridge, "type", "bridge")
    try:
        ip("addr", "add", f"{net}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        vm.sandbox(d, nics=[dict(name="eth0", bridge=bridge, ifname=tap, mac="02:42:0a:d5:07:02",
                                 addresses=[f"{net}.2/24"], gateways=[f"{net}.1"], mtu=1400)])
        link = json.loads(ip("-j", "link", "show", tap))[0]
        assert link["master"] == bridge and link["mtu"] == 1400
        c = vm.run(d, A, sh(f"ip addr show eth0; ip route; ping -c 2 -W 5 {net}.1 && echo reached"))
        out = b"".join(demux(c.read_all())).decode()
        assert "02:42:0a:d5:07:02" in out and f"{net}.2/24" in out and "mtu 1400" in out
        assert f"default via {net}.1" in out and "reached" in out, out
        d.request("DELETE", ctr=A)
        vm.wait_end()
        assert tap not in ip("link")
    finally:
        ip("link", "del", bridge)


def test_an_idle_guest_is_idle(vm, up):
    vm.sh(up, A, "true")
    before = sum(map(int, open(f"/proc/{vm.proc.pid}/stat").read().split()[13:15]))
    time.sleep(1)
    assert sum(map(int, open(f"/proc/{vm.proc.pid}/stat").read().split()[13:15])) - before <= 2


def test_refusals(vm, d):
    with pytest.raises(Refused, match='hyperv isolation needs a guest kernel at /no/k: run "insula vm prepare"') as e:
        vm.sandbox(d, kernel="/no/k")
    assert e.value.kind == 8
    with pytest.raises(Refused, match="network 'host'"):
        vm.sandbox(d, net="host")
    with pytest.raises(Refused, match="at least 64 MiB"):
        vm.sandbox(d, memory=1 * MB)
    with pytest.raises(Refused, match="not running"):
        vm.create(d, A, ["true"])
    vm.sandbox(d)
    with pytest.raises(Refused, match="exists"):
        vm.sandbox(d)
    with pytest.raises(Refused, match="open disk '/dev/null': Invalid argument"):
        vm.create(d, A, ["true"], upper="/dev/null")
    with pytest.raises(Refused, match="open disk '/no/disk'"):
        vm.create(d, A, ["true"], upper="/no/disk")
    d.request("SHUTDOWN")
    vm.wait_end()


def test_a_volume_that_is_not_there(vm, d):
    with pytest.raises(Refused, match="share '/no/volume'.*: No such file or directory"):
        vm.sandbox(d, shares=["v0", "/no/volume", "rw"])
    d.close()
    vm.wait_end()


def test_a_machine_that_qemu_refuses(vm, d):
    with pytest.raises(Refused, match="VM did not start: QEMU exited with code 1: .*SMP CPUs"):
        vm.sandbox(d, vcpus=1000)
    d.close()
    vm.wait_end()


def test_a_kernel_that_stops(vm, d):
    """No initramfs worth its name: the kernel panics, and the error carries its last words."""
    bad = vm.base / "bad.img"
    bad.write_bytes(b"no initramfs")
    bad.chmod(0o644)
    vm.sandbox(d, initrd=str(bad))
    with pytest.raises(Refused, match="VM did not start: its kernel stopped: .*Kernel panic.*Unable to mount root"):
        vm.create(d, A, ["true"])
    d.close()
    vm.wait_end()


def test_probe_and_check(tmp_path):
    exe = program("vmwp")
    out = subprocess.run([exe, "--probe-accel"], capture_output=True, text=True, check=True).stdout
    flags = open("/proc/cpuinfo").read()
    assert out == "kvm\n" or out.startswith("tcg ")
    if " vmx" not in flags and " svm" not in flags:
        assert out in ("tcg the processor shows neither vmx nor svm\n", "tcg there is no /dev/kvm\n")
    ok = subprocess.run([exe, "--check", "--kernel", VM_DIR / "vmlinuz", "--initrd", VM_DIR / "initramfs.img"],
                        capture_output=True, text=True)
    assert (ok.returncode, ok.stdout) == (0, "")
    bad = subprocess.run([exe, "--check", "--kernel", "/no/k"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stdout == 'hyperv isolation needs a guest kernel at /no/k: run "insula vm prepare"\n'
