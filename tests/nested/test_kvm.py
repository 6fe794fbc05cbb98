"""Where KVM works it is taken, for templates and for boots."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import Cli, Engine, IMAGES     # noqa: E402


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


def test_there_is_no_warning(engine):
    r = engine.cli("insula", "run", "--rm", "--isolation=hyperv", "busybox", "true")
    assert r.code == 0 and r.err == ""
