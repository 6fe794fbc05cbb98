"""The installed engine as systemd's service, in a machine that systemd runs: started by its socket, restarted,
killed and idle, while containers of both modes run on."""
import json
import os
import pathlib
import subprocess
import time

import pytest

SERVICE, SOCKET = "insula.service", "insula.socket"
IMAGES = pathlib.Path(os.environ["INSULA_IMAGES"])
VM_DIR = pathlib.Path(os.environ["INSULA_VM_DIR"])


def systemctl(*args):
    return subprocess.run(["systemctl", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def show(unit, name):
    return systemctl("show", "-P", name, unit).stdout.strip()


def insula(*args):
    p = subprocess.run(["insula", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return p.stdout.strip()


def until(what, want, seconds=150):
    end = time.time() + seconds
    while what() != want:
        assert time.time() < end, f"{what()} instead of {want}"
        time.sleep(0.5)


@pytest.fixture(scope="module", autouse=True)
def installed():
    vm = pathlib.Path("/var/lib/insula/vm")
    vm.parent.mkdir(parents=True, exist_ok=True)
    if not vm.exists():
        vm.symlink_to(VM_DIR)
    assert systemctl("daemon-reload").returncode == 0
    # Nobody has started the socket: the CLI asks systemd for it.
    insula("load", "-q", "-i", IMAGES / "busybox.tar")
    assert show(SOCKET, "ActiveState") == "active"
    yield
    systemctl("stop", SERVICE, SOCKET)


@pytest.fixture(params=["process", "hyperv"])
def container(request):
    cid = insula("run", "-d", f"--isolation={request.param}", "busybox", "sh", "-c",
                 "n=0; while sleep 0.2; do n=$((n+1)); echo $n; done")
    yield cid
    insula("rm", "-f", cid)


def lines(cid):
    return [int(x) for x in insula("logs", cid).split()]


def goes_on(cid):
    """It runs, and its log has no gap."""
    before = len(lines(cid))
    until(lambda: len(lines(cid)) > before, True)
    got = lines(cid)
    assert got == list(range(1, len(got) + 1))
    assert insula("exec", cid, "echo", "here") == "here"


def comm(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def test_the_socket_starts_the_daemon(container):
    assert show(SERVICE, "ActiveState") == "active"
    assert json.loads(insula("inspect", container))[0]["State"]["Running"] is True
    # systemd's own hierarchy, where each controller has one
    top = pathlib.Path("/sys/fs/cgroup/systemd")
    top = top if top.is_dir() else top.parent

    def of_the_unit():
        return (top / show(SERVICE, "ControlGroup")[1:] / "cgroup.procs").read_text().split()

    def away():
        pids = (top / "insula/supervisors/cgroup.procs").read_text().split()
        return sorted(filter(None, map(comm, pids)))
    mode = json.loads(insula("inspect", container))[0]["HostConfig"]["Isolation"]
    # What made a template, or served the container before, may be on its way out; and the daemon has helpers for a moment.
    until(away, sorted(["insula-resolver", {"process": "insula-shim", "hyperv": "vmwp"}[mode]]))
    # What outlives the daemon is not in the unit's control group.
    until(of_the_unit, [show(SERVICE, "MainPID")])


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_containers_outlive_the_daemon(container, how):
    old = show(SERVICE, "MainPID")
    if how == "restart":
        assert systemctl("restart", SERVICE).returncode == 0
    else:
        assert systemctl("kill", "--kill-who=main", "-s", "KILL", SERVICE).returncode == 0
        until(lambda: show(SERVICE, "ActiveState") == "active" and show(SERVICE, "MainPID") != old, True)
    assert show(SERVICE, "MainPID") != old
    goes_on(container)


def test_an_idle_daemon_ends_and_comes_back():
    assert insula("ps", "-q") == ""
    pid = show(SERVICE, "MainPID")
    until(lambda: show(SERVICE, "ActiveState"), "inactive")
    assert show(SERVICE, "Result") == "success" and not pathlib.Path(f"/proc/{pid}").exists()
    assert insula("images", "--format", "{{.Repository}}") == "busybox"
    assert show(SERVICE, "ActiveState") == "active"
