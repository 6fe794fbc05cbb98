"""Which accelerator hyperv isolation takes: a KVM that works, else software emulation, else a clear refusal."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import BUILD, IMAGES, VM_DIR, Engine, program, wait_for

FLAGS = set(pathlib.Path("/proc/cpuinfo").read_text().split())
HARDWARE = bool(FLAGS & {"vmx", "svm"})
REFUSED = ("hyperv isolation is refused: KVM does not start a machine (%s): \"hyperv-accel\": \"tcg\" in "
           "daemon.json chooses software emulation, which is slower and not a hardware boundary")


@pytest.fixture
def start(tmp_path):
    """start(flag...): a daemon of the test's own."""
    engines = []

    def new(*extra):
        e = Engine(tmp_path / "own", extra)
        e.start()
        engines.append(e)
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        return e
    yield new
    for e in engines:
        e.cli("insula", "rm", "-f", *e.cli("insula", "ps", "-aq").out.split())
        e.stop()


def run(e, *args):
    return e.cli("insula", "run", "--rm", "--isolation=hyperv", "--network=none", *args, "busybox", "echo", "up")


def probe(*before):
    p = subprocess.run([*before, program("vmwp"), "--probe-accel"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    return p.stdout


def test_no_device():
    out = probe("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"', "sh")
    assert out == "tcg there is no /dev/kvm\n"


def test_no_permission():
    out = probe("unshare", "-m", "sh", "-c",
                'mount -t tmpfs tmpfs /dev && mknod -m 0 /dev/kvm c 10 232 && '
                'exec setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --regid=65534 --clear-groups "$@"', "sh")
    assert out == "tcg cannot open /dev/kvm: Permission denied\n"


def test_no_kvm_behind_the_device():
    out = probe("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/kvm c 1 3 && exec "$@"', "sh")
    assert out == ("tcg /dev/kvm speaks another version\n" if HARDWARE else "tcg the processor shows neither vmx nor svm\n")


@pytest.mark.parametrize("extra", [(), ("--vm-cold-boot",)], ids=["template", "boot"])
def test_a_kvm_that_is_insisted_on(start, extra):
    """It works or it is refused: never a hang, never emulation in its place."""
    e = start("--accel", "kvm", *extra)
    r = run(e)
    if HARDWARE and r.code == 0:
        assert r.out == "up\n"
        return
    assert r.code == 125
    why = r.err.split("start a machine (", 1)[1].split("): \"hyperv-accel\"")[0]
    assert REFUSED % why in r.err and why.endswith("; it is being tried once more")
    why = why.split(";")[0]
    wait_for(lambda: f"hyperv: not available: {REFUSED % why}" in e.cli("insula", "info").ok())
    # decided: the next one is refused at once, at create
    r = e.cli("insula", "create", "--isolation=hyperv", "busybox")
    assert r.code == 1 and REFUSED % why in r.err
    assert f"hyperv: not available: {REFUSED % why}" in e.cli("insula", "info").ok()
    # process isolation is none of this
    assert e.cli("insula", "run", "--rm", "--network=none", "busybox", "echo", "up").ok() == "up"


def test_a_refusal_holds_until_the_next_boot(start):
    e = start()
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = e.run_dir / "vm/accel"
    known.write_text(f"{boot} none no word from its agent in 20 s\n")
    e.stop()
    e.start()
    r = run(e)
    assert r.code == 125 and REFUSED % "no word from its agent in 20 s" in r.err
    known.write_text(f"{boot[::-1]} none no word from its agent in 20 s\n")
    e.stop()
    e.start()
    assert run(e).ok() == "up"
    assert known.read_text().split()[0] == boot
    c = e.cli("insula", "create", "--isolation=hyperv", "busybox").ok()
    assert json.loads(e.cli("insula", "inspect", c).ok())[0]["HostConfig"]["Isolation"] == "hyperv"


def silent_initramfs(tmp_path):
    """Its kernel runs, and nobody speaks."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "init").write_text("#!/bin/busybox sh\nexec /bin/busybox sleep 1000\n")
    (root / "init").chmod(0o755)
    initrd = tmp_path / "initrd"
    subprocess.run(f"find . | cpio --quiet -o -H newc > {initrd}", shell=True, check=True, cwd=root)
    return initrd


def make_template(tmp_path, kernel, initrd, *options, before=(), accel="tcg"):
    """What it says as it fails."""
    fd = os.memfd_create("template", os.MFD_ALLOW_SEALING)
    p = subprocess.run(["bash", "-c", f'exec "$@" 3<&{fd}', "bash", *before, program("vmwp"), "--template", "--dir", tmp_path / "kept",
                        "--kernel", kernel, "--initrd", initrd, "--accel", accel, "--memory", str(512 << 20),
                        "--region", str(1 << 30), "--cpus", "1", *options],
                       pass_fds=[fd], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    os.close(fd)
    assert p.returncode == 1 and not list((tmp_path / "kept").iterdir())
    return p.stderr.splitlines()[-1]


def test_a_template_without_a_kvm(tmp_path):
    """QEMU is not even started: nothing is waited for."""
    away = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"', "sh")
    r = make_template(tmp_path, VM_DIR / "vmlinuz", VM_DIR / "initramfs.img", "--patience", "100", before=away, accel="kvm")
    assert r == "make the template of virtual machines: there is no /dev/kvm"


def test_a_machine_that_never_speaks_is_given_up(tmp_path):
    initrd = silent_initramfs(tmp_path)
    r = make_template(tmp_path, VM_DIR / "vmlinuz", initrd, "--patience", "4")
    assert r == "make the template of virtual machines: no word from its agent in 4 s"


def test_a_kernel_that_does_not_run(tmp_path):
    """What a KVM does that takes a machine and does not run it, or so slowly that it will never be done."""
    image = bytearray((VM_DIR / "vmlinuz").read_bytes())
    code = (image[0x1f1] + 1) * 512
    image[code:code + 2] = b"\xeb\xfe"      # its first instruction jumps to itself
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(image)
    r = make_template(tmp_path, kernel, VM_DIR / "initramfs.img", "--patience", "600", "--proof", "2")
    assert r == "make the template of virtual machines: its kernel does not run after 2 s"


def test_a_machine_that_kvm_cannot_go_on_with(tmp_path):
    """QEMU stops it and stays: nobody waits for it."""
    fake = f'mount --bind {BUILD}/tests/fakeqemu "$(readlink -f /usr/bin/qemu-system-x86_64)" && exec "$@"'
    r = make_template(tmp_path, VM_DIR / "vmlinuz", VM_DIR / "initramfs.img", "--patience", "600",
                      before=("unshare", "-m", "sh", "-c", fake, "sh"))
    assert r.endswith("QEMU stopped the machine: the accelerator cannot go on with it")


def test_a_slow_machine_that_runs_is_waited_for(tmp_path):
    initrd = silent_initramfs(tmp_path)
    r = make_template(tmp_path, VM_DIR / "vmlinuz", initrd, "--patience", "20", "--proof", "15")
    assert r == "make the template of virtual machines: no word from its agent in 20 s"
