"""Where KVM works it is taken, for templates and for boots."""
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import Cli, Engine, IMAGES, VM_DIR, command_of, wait_for     # noqa: E402


def test_kvm_is_chosen_and_cloned(engine):
    c = Cli(engine, "insula", "hyperv")
    cid = c.rund("busybox", "sleep", "1000")
    vm = json.loads(c("inspect", cid).ok())[0]["VirtualMachine"]
    assert vm["Accelerator"] == "kvm" and vm["HardwareIsolation"] is True and vm["Start"] == "template"
    argv = pathlib.Path(f"/proc/{vm['MonitorPid']}/cmdline").read_text().split("\0")
    assert "kvm" in argv and "-incoming" in argv
    assert "qemu/kvm" in c("info").ok()
    gateway = c("inspect", "-f", "{{.NetworkSettings.Gateway}}", cid).ok()
    assert c("exec", cid, "sh", "-c", f"ping -c1 {gateway} >/dev/null && echo reached").ok() == "reached"
    c("rm", "-f", cid).ok()


def test_kvm_boots(tmp_path):
    e = Engine(tmp_path / "own", ["--vm-cold-boot"])
    try:
        e.start()
        e.cli("insula", "load", "-i", IMAGES / "busybox.tar").ok()
        c = Cli(e, "insula", "hyperv")
        assert c("run", "--rm", "-m", "600m", "busybox", "echo", "up").ok() == "up"
    finally:
        e.stop()


@pytest.fixture
def own(tmp_path):
    """own(option...): a daemon of the test's own."""
    engines = []

    def start(*extra):
        e = Engine(tmp_path / "own", extra)
        e.start()
        engines.append(e)
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        return e
    yield start
    for e in engines:
        e.stop()


def run(e):
    return e.popen("insula", "run", "--rm", "--isolation=hyperv", "--network=none", "busybox", "echo", "up")


def children(pattern, flag):
    return [int(p) for p in subprocess.run(["pgrep", flag, pattern], capture_output=True, text=True).stdout.split()]


def test_a_loaded_host_is_given_a_second_chance(own):
    """Its first machine does not come up: that is told. The next one does, and KVM is taken after all."""
    e = own()
    p = run(e)
    vmwp = wait_for(lambda: children("vmwp --template", "-f"))
    qemu = wait_for(lambda: [c for v in vmwp for c in children(str(v), "-P") if "qemu" in command_of(c)])[0]
    os.kill(qemu, signal.SIGSTOP)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 125 and "QEMU was stopped by a signal; it is being tried once more)" in err, err
    wait_for(lambda: "qemu/kvm" in e.cli("insula", "info").ok())
    assert run(e).communicate(timeout=300)[0] == "up\n"


def test_a_kernel_that_does_not_run_is_no_hang(own, tmp_path):
    image = bytearray((VM_DIR / "vmlinuz").read_bytes())
    code = (image[0x1f1] + 1) * 512
    image[code:code + 2] = b"\xeb\xfe"      # its first instruction jumps to itself
    vm = tmp_path / "vm"
    vm.mkdir()
    (vm / "vmlinuz").write_bytes(image)
    (vm / "initramfs.img").symlink_to(VM_DIR / "initramfs.img")
    e = own("--vm-dir", vm)
    out, err = run(e).communicate(timeout=300)
    assert "its kernel does not run after 5 s; it is being tried once more" in err, err
    assert "does not run after 5 s" in e.cli("insula", "info").ok()
    assert "does not run after 5 s" in run(e).communicate(timeout=300)[1]


def test_there_is_no_warning(engine):
    r = engine.cli("insula", "run", "--rm", "--isolation=hyperv", "busybox", "true")
    assert r.code == 0 and r.err == ""
