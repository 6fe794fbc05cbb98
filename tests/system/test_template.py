"""Hyperv containers as clones of a template: what a template may share, what it must not, and what happens
where there is none."""
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import tarfile
import time

import pytest

from conftest import IMAGES, Cli, Engine, descriptors, wait_for

F_GET_SEALS = 1034
SEALED = 0xf            # F_SEAL_SEAL | SHRINK | GROW | WRITE
MB = 1 << 20


@pytest.fixture
def own(tmp_path):
    """A daemon of this test's own: its state may be damaged."""
    engines = []

    def start(*extra):
        e = Engine(tmp_path / "own", extra)
        engines.append(e)
        e.start()
        e.cli("insula", "load", "-i", IMAGES / "busybox.tar").ok()
        return e
    yield start
    for e in engines:
        if e.proc and e.proc.poll() is None:
            ids = e.cli("docker", "ps", "-aq").out.split()
            if ids:
                e.cli("docker", "rm", "-f", *ids)
        e.stop()


def template(e):
    return list((e.data / "vm").glob("template-*"))


def log(e):
    return (e.base / "insulad.log").read_text()


def was_cloned(cid):
    """Whether the machine of this container was restored instead of booted."""
    vmwp = subprocess.run(["pgrep", "-f", f"vmwp --sandbox {cid}"], capture_output=True, text=True).stdout.split()
    qemu = subprocess.run(["pgrep", "-P", vmwp[0], "qemu"], capture_output=True, text=True).stdout.split()
    return b"-incoming" in pathlib.Path(f"/proc/{qemu[0]}/cmdline").read_bytes().split(b"\0")


def test_made_once_and_kept(own):
    e = own()
    c = Cli(e, "insula", "hyperv")
    cid = c.rund("busybox", "sleep", "1000")
    assert was_cloned(cid)
    made = template(e)
    assert len(made) == 1
    before = made[0].stat()
    assert before.st_blocks * 512 < 200 * MB and before.st_mode & 0o777 == 0o600
    c("rm", "-f", cid).ok()
    e.stop()
    e.start()
    cid = c.rund("busybox", "sleep", "1000")
    assert was_cloned(cid)
    assert template(e) == made and made[0].stat().st_mtime_ns == before.st_mtime_ns


def test_two_at_once_make_one(own):
    e = own()
    procs = [subprocess.Popen(e.argv("insula", "run", "--rm", "--isolation=hyperv", "busybox", "echo", str(i)), env=e.env(),
                              stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) for i in range(2)]
    assert sorted(p.communicate(timeout=120)[0].strip() for p in procs) == ["0", "1"]
    assert len(template(e)) == 1 and "instead of being cloned" not in log(e)


def test_clones_have_nothing_random_in_common(engine, leaks):
    c = Cli(engine, "insula", "hyperv")
    script = "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; head -c 32 /dev/urandom | sha256sum; " \
             "cat /sys/class/net/eth0/address; hostname; date +%s; echo end; sleep 1000"
    # both live, or the second may get the address of the first, and the MAC with it
    try:
        both = [c.rund("busybox", "sh", "-c", script) for _ in range(2)]
        for cid in both:
            wait_for(lambda: c("logs", cid).ok().endswith("end"))
        a, b = (c("logs", cid).ok().split()[:-1] for cid in both)
    finally:
        c.cleanup()
    *a_own, a_time = a
    *b_own, b_time = b
    assert len(a_own) == 6
    for x, y in zip(a_own, b_own):
        assert x != y or x == "-"
    assert abs(int(a_time) - time.time()) < 60 and abs(int(b_time) - time.time()) < 30


@pytest.mark.parametrize("isolation", ["hyperv"])
def test_the_template_cannot_be_written(engine, c):
    cid = c.rund("busybox", "sleep", "1000")
    assert was_cloned(cid)
    pid = engine.proc.pid
    fds = [f for f, to in descriptors(pid).items() if "insula-template" in to]
    assert len(fds) == 1
    fd = os.open(f"/proc/{pid}/fd/{fds[0]}", os.O_RDWR)
    try:
        assert fcntl.fcntl(fd, F_GET_SEALS) == SEALED
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def test_inspect_tells_of_the_machine(own):
    e = own()
    c = Cli(e, "docker", "hyperv")
    cid = c("run", "-d", "--name", "walled", "-m", "600m", "-v", "data:/data", "busybox", "sleep", "1000").ok()

    def look():
        vm = json.loads(c("inspect", cid).ok())[0]["VirtualMachine"]
        assert vm["Accelerator"] in ("kvm", "tcg") and vm["HardwareIsolation"] == (vm["Accelerator"] == "kvm")
        assert vm["Start"] == "template" and vm["Monitor"] == "qemu" and vm["Cpus"] == 1 and vm["Memory"] >= 600 * MB
        assert vm["Kernel"] == c("exec", cid, "uname", "-r").ok()
        worker = pathlib.Path(f"/proc/{vm['WorkerPid']}")
        assert (worker / "comm").read_text().strip() == "vmwp"
        words = (worker / "cmdline").read_text().split("\0")
        assert cid in words and "walled" in words
        assert pathlib.Path(f"/proc/{vm['MonitorPid']}/comm").read_text().startswith("qemu-system")
        return vm
    before = look()
    e.kill9()
    e.start()
    assert look() == before
    c("stop", "-t", "0", cid).ok()
    assert "VirtualMachine" not in json.loads(c("inspect", cid).ok())[0]
    p = Cli(e, "docker", "process")("run", "-d", "busybox", "sleep", "1000").ok()
    assert "VirtualMachine" not in json.loads(c("inspect", p).ok())[0]


@pytest.mark.parametrize("harm", ["state", "size", "old"])
def test_a_damaged_template(own, harm):
    e = own()
    c = Cli(e, "insula", "hyperv")
    c("run", "--rm", "busybox", "true").ok()
    e.stop()
    t = template(e)[0]
    size = t.stat().st_size
    if harm == "state":         # it loads, but makes no sense to QEMU
        with open(t, "r+b") as f:
            f.seek(512 * MB)
            f.write(b"\0" * 4096)
    elif harm == "size":
        os.truncate(t, 1000)
    else:                       # of another kernel: not ours to use, and not kept
        t.rename(t.with_name("template-0123456789abcdef"))
    e.start()
    assert c("run", "--rm", "busybox", "echo", "ok").ok() == "ok"
    assert ("instead of being cloned" in log(e)) == (harm == "state")
    e.stop()
    e.start()
    cid = c.rund("busybox", "sleep", "1000")
    assert was_cloned(cid)
    assert [x.stat().st_size > 512 * MB for x in template(e)] == [True] and size > 512 * MB


def test_cold_boots_where_asked_for(own):
    e = own("--vm-cold-boot")
    c = Cli(e, "insula", "hyperv")
    cid = c.rund("busybox", "sleep", "1000")
    assert not was_cloned(cid)
    assert c("exec", cid, "uname", "-s").ok() == "Linux"
    assert template(e) == []


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_a_container_that_boots(engine, leaks, cli):
    """--vm-template=off, which docker's CLI says by an annotation."""
    c = Cli(engine, cli, "hyperv")
    word = "--vm-template=" if cli == "insula" else "--annotation=insula.vm-template="
    for how, cloned in (("off", False), ("on", True)):
        cid = c.rund(word + how, "busybox", "sleep", "1000")
        assert was_cloned(cid) is cloned
        vm = json.loads(c("inspect", cid).ok())[0]
        assert vm["VirtualMachine"]["Start"] == ("template" if cloned else "boot")
        assert vm["HostConfig"]["Annotations"] == {"insula.vm-template": how}
        c("rm", "-f", cid).ok()


def test_where_a_template_means_nothing(engine, leaks):
    def refused(*args):
        r = engine.cli("insula", "create", *args, "busybox", "true")
        assert r.code == 1, r
        return r.err
    assert "use --isolation=hyperv, or leave it out" in refused("--isolation=process", "--vm-template=off")
    assert 'invalid value "maybe" of insula.vm-template: use on or off' in refused("--isolation=hyperv", "--vm-template=maybe")
    assert "annotation insula.vm is unknown" in refused("--isolation=hyperv", "--annotation", "insula.vm=off")
    assert "leave it out" in refused("--isolation=hyperv", "--network=container:x", "--vm-template=off")


def test_they_are_made_listed_and_removed(own):
    e = own()
    c = Cli(e, "insula", "hyperv")

    def post():
        return subprocess.run(["curl", "-s", "-X", "POST", "--unix-socket", str(e.sock), "-w", "%{http_code}",
                               "http://x/vm/templates"], capture_output=True, text=True).stdout
    assert c("vm", "ls", "-q").ok() == "" and template(e) == []
    # as `vm prepare` has it made
    assert post() == "204"
    [t] = template(e)
    assert c("vm", "ls", "-q").ok() == t.name
    [row] = [json.loads(x) for x in c("vm", "ls", "--format", "json").ok().splitlines()]
    assert row["Name"] == t.name and row["InUse"] == "true" and row["Size"].endswith("MB")
    assert c("vm", "ls").ok().splitlines()[0].split() == ["TEMPLATE", "CREATED", "SIZE", "IN", "USE"]
    cid = c.rund("busybox", "sleep", "1000")
    assert was_cloned(cid)
    assert c("vm", "rm", t.name).ok() == t.name
    assert c("vm", "ls", "-q").ok() == "" and template(e) == []
    assert c("exec", cid, "echo", "on").ok() == "on"
    for name in (t.name, "vmlinuz", "template-.", ".."):
        r = c("vm", "rm", name)
        assert r.code == 1 and f"No such template: {name}" in r.err, r
    r = c("vm", "rm", "template-x/../../insula.db")
    assert r.code == 1 and (e.data / "insula.db").exists()
    other = c.rund("busybox", "sleep", "1000")
    assert was_cloned(other) and template(e) == [t]


def test_none_is_made_where_machines_boot(own):
    e = own("--vm-cold-boot")
    p = subprocess.run(["curl", "-s", "-X", "POST", "--unix-socket", str(e.sock), "http://x/vm/templates"],
                       capture_output=True, text=True)
    assert "templates are switched off" in json.loads(p.stdout)["message"] and template(e) == []


def test_no_room_for_it_on_disk(own):
    """It is used, and made again by the next daemon."""
    e = own()
    (e.data / "vm").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(e.data / "vm")], check=True)
    try:
        c = Cli(e, "insula", "hyperv")
        cid = c.rund("busybox", "sleep", "1000")
        assert was_cloned(cid)
        assert template(e) == []
        c("rm", "-f", cid).ok()
    finally:
        e.stop()
        subprocess.run(["umount", str(e.data / "vm")], check=True)


@pytest.mark.parametrize("isolation", ["hyperv"])
def test_memory_and_processors_of_a_clone(c):
    """One template serves every size."""
    cpus = str(min(2, os.cpu_count()))
    cid = c.rund("-m", "1g", "--cpus", cpus, "busybox", "sleep", "1000")
    assert was_cloned(cid)
    end = time.time() + 60
    total = 0
    while time.time() < end:
        total = int(re.search(r"MemTotal:\s+(\d+)", c("exec", cid, "cat", "/proc/meminfo").ok()).group(1)) * 1024
        if total > 1024 * MB and c("exec", cid, "nproc").ok() == cpus:
            break
        time.sleep(0.2)
    assert total > 1024 * MB
    assert c("exec", cid, "nproc").ok() == cpus
    # And it can be used.
    c("exec", cid, "dd", "if=/dev/zero", "of=/dev/null", "bs=700M", "count=1").ok()


def test_many_layers(own, tmp_path):
    """More disks than a template has places for: the rest is found by a rescan."""
    e = own()
    text = build_layers(tmp_path, 9)
    e.cli("insula", "load", "-i", str(text)).ok()
    for isolation in ("process", "hyperv"):
        out = Cli(e, "insula", isolation)("run", "--rm", "deep", "sh", "-c", "cat /layer*").ok().split()
        assert out == [str(i) for i in range(9)]


def tarred(files):
    """A tar of (name, content) pairs; content None is a directory, a str a symbolic link."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            t.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return b.getvalue()


def build_layers(tmp_path, n):
    """An image of n layers above busybox, one file each, as `docker save` writes it."""
    busybox = pathlib.Path("/bin/busybox").read_bytes()
    layers = [tarred([("bin", None), ("bin/busybox", busybox), ("bin/sh", "busybox"), ("bin/cat", "busybox")])]
    layers += [tarred([(f"layer{i}", f"{i}\n".encode())]) for i in range(n)]
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]}}
    files = [("config.json", json.dumps(config).encode())] + [(f"{i}.tar", x) for i, x in enumerate(layers)]
    files.append(("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["deep:latest"],
                                                "Layers": [f"{i}.tar" for i in range(len(layers))]}]).encode()))
    out = tmp_path / "deep.tar"
    out.write_bytes(tarred(files))
    return out
