"""Bad input gets one clear line in Docker's wording, Docker's exit code, and leaves nothing behind
(the leak check of the fixtures looks at the host after each test)."""
import os
import shutil
import subprocess
import tempfile

import pytest
from chaos import call
from conftest import BUILD, Engine, built, host_state, wait_clean


def one_line(r):
    lines = [x for x in r.err.strip().splitlines() if x.strip() and "--help" not in x and not x.startswith("Usage:")]
    assert len(lines) == 1, r.err
    return lines[0]


def test_unknown_image(both):
    r = both("run", "--rm", "nosuchimage", "true")
    assert r.code == 125
    assert "nosuchimage" in r.err


def test_bad_flag(c):
    r = c("run", "--nosuchflag", "busybox")
    assert r.code == 125
    assert one_line(r) == "unknown flag: --nosuchflag"


def test_bad_isolation(engine, leaks):
    for cli in ("insula", "docker"):
        r = engine.cli(cli, "run", "--rm", "--isolation=x", "busybox", "true")
        assert r.code == 125
        assert "invalid isolation (x): insula supports 'default', 'process', or 'hyperv'" in r.err


def test_unsupported_is_refused_not_ignored(both):
    for flags, word in ((["--pid=host"], "pid"), (["--ipc=host"], "ipc"), (["--network=host"], "network")):
        r = both("run", "--rm", *flags, "busybox", "true")
        if both.isolation == "hyperv":
            assert r.code == 125 and word in r.err.lower(), (flags, r)


def test_running_container_cannot_be_removed_and_names_clash(c):
    c.rund("--name", "here", "busybox", "sleep", "1000")
    assert "You have to remove (or rename) that container" in c("create", "--name", "here", "busybox").err
    assert c("rm", "here").code == 1


def test_bad_names_and_limits(c):
    for flags, word in ((["--name", "-x"], "Invalid container name"), (["-m", "1k"], "Minimum memory limit allowed is 6MB"),
                        (["--cpus", "-1"], "cpu"), (["-v", "relative/x:y"], "invalid"), (["--workdir", "rel"], "working directory"),
                        (["--ulimit", "nofile=x"], "ulimit"), (["--stop-signal", "NOSUCH"], "signal")):
        r = c("create", *flags, "busybox", "true")
        assert r.code != 0 and word.lower() in r.err.lower(), (flags, r)


def test_maps_that_are_none(engine, leaks):
    for what, key in (("volumes", "Labels"), ("volumes", "DriverOpts"), ("networks", "Labels"), ("networks", "Options")):
        for value, said in ((["a"], f"{key}: expected object"), ({"a": 1}, f"{key}.a: expected string")):
            answer = call(engine.sock, "POST", f"/{what}/create", {"Name": "wrong", key: value})
            assert answer == (400, {"message": said}), (what, key, value)
        assert call(engine.sock, "GET", f"/{what}/wrong")[0] == 404


def test_members_of_another_kind(engine, leaks):
    """What a document says in the wrong words is refused, and not taken for unsaid: no anonymous volume, no subnet by chance."""
    for what, members, said in (
            ("volumes", {"Name": 7}, "Name: expected string"), ("volumes", {"Name": ["wrong"]}, "Name: expected string"),
            ("volumes", {"Driver": {}}, "Driver: expected string"), ("networks", {"Name": 7}, "Name: expected string"),
            ("networks", {"IPAM": "10.1.0.0/16"}, "IPAM: expected object"), ("networks", {"IPAM": []}, "IPAM: expected object"),
            ("networks", {"IPAM": {"Config": {}}}, "IPAM.Config: expected array"),
            ("networks", {"IPAM": {"Config": ["10.1.0.0/16"]}}, "IPAM.Config[0]: expected object"),
            ("networks", {"IPAM": {"Config": [{"Subnet": 10}]}}, "IPAM.Config[0].Subnet: expected string"),
            ("networks", {"Internal": "true"}, "Internal: expected boolean"), ("networks", {"Driver": 1}, "Driver: expected string")):
        had = engine.cli("insula", "volume", "ls", "-q").ok(), engine.cli("insula", "network", "ls", "-q").ok()
        assert call(engine.sock, "POST", f"/{what}/create", {"Name": "wrong", **members}) == (400, {"message": said})
        assert (engine.cli("insula", "volume", "ls", "-q").ok(), engine.cli("insula", "network", "ls", "-q").ok()) == had
    # null is as good as nothing
    assert call(engine.sock, "POST", "/networks/create", {"Name": "right", "IPAM": None, "Labels": None})[0] == 201
    try:
        for settings, said in (("10.1.0.4", "EndpointConfig: expected object"), ({"Aliases": "web"}, "EndpointConfig.Aliases: expected array"),
                               ({"IPAMConfig": {"IPv4Address": 4}}, "EndpointConfig.IPAMConfig.IPv4Address: expected string")):
            cid = engine.cli("insula", "create", "busybox", "true").ok()
            answer = call(engine.sock, "POST", "/networks/right/connect", {"Container": cid, "EndpointConfig": settings})
            engine.cli("insula", "rm", cid).ok()
            assert answer == (400, {"message": said})
    finally:
        engine.cli("insula", "network", "rm", "right").ok()


def test_corrupt_tar(engine, c, tmp_path):
    bad = tmp_path / "bad.tar"
    bad.write_bytes(os.urandom(100000))
    before = sorted(os.listdir(engine.data / "layers")), c("images", "-q").out
    r = c("load", "-i", bad)
    assert r.code == 1 and one_line(r)
    r = c("import", bad, "never:1")
    assert r.code == 1 and one_line(r)
    good = (BUILD / "images/busybox.tar").read_bytes() if (BUILD / "images/busybox.tar").exists() else b""
    if good:
        (tmp_path / "half.tar").write_bytes(good[: len(good) // 2])
        assert c("load", "-i", tmp_path / "half.tar").code == 1
    assert (sorted(os.listdir(engine.data / "layers")), c("images", "-q").out) == before


def test_not_root(engine):
    d = tempfile.mkdtemp(dir="/tmp")
    os.chmod(d, 0o755)
    exe = shutil.copy(built("insulad"), d)
    p = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", exe, "--data-root", d + "/d",
                        "--exec-root", d + "/r"], capture_output=True, text=True)
    shutil.rmtree(d)
    assert p.returncode != 0 and "root" in p.stderr


def test_apparmor_profiles_that_cannot_be(c):
    """Where AppArmor is on: tests/system/test_apparmor.py."""
    r = c("create", "--security-opt", "apparmor=nobody-knows", "busybox", "true")
    assert r.code == 1 and ("AppArmor is not enabled" if c.isolation == "process" else "a kernel of its own") in one_line(r)
    assert c("run", "--rm", "--security-opt", "apparmor=unconfined", "busybox", "echo", "x").ok() == "x"


@pytest.mark.parametrize("option", ["type:container_t", "level:s0:c1,c2", "user:system_u", "role:system_r"])
def test_selinux_labels_are_refused(c, option):
    """Where SELinux is on: tests/system/test_selinux.py."""
    r = c("create", "--security-opt", f"label={option}", "busybox", "true")
    assert r.code == 1 and f"--security-opt label={option}: insula gives no SELinux labels" in one_line(r)
    assert c("run", "--rm", "--security-opt", "label=disable", "busybox", "echo", "x").ok() == "x"


@pytest.fixture
def broken(request, tmp_path, isolation):
    """A second daemon, whose surroundings lack something."""
    made = []

    def make(extra=(), path=None):
        base = tempfile.mkdtemp(prefix="insula-test-")
        e = Engine(base, extra)
        made.append((e, base))
        e.start()
        from conftest import IMAGES
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        return e
    yield make
    for e, base in made:
        ids = e.cli("insula", "ps", "-aq").out.split()
        if ids:
            e.cli("insula", "rm", "-f", *ids)
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


def test_no_guest_kernel(broken, isolation, tmp_path):
    e = broken(["--vm-dir", str(tmp_path / "empty")])
    before = host_state(e.base)
    r = e.cli("insula", "run", "--rm", f"--isolation={isolation}", "busybox", "echo", "works")
    if isolation == "process":
        assert r.ok() == "works"
    else:
        assert r.code == 125 and "guest kernel" in r.err and "insula vm prepare" in r.err
    wait_clean(e, before)


def test_disk_full_during_create(isolation, tmp_path):
    """The data root lies on a file system that is full."""
    base = tempfile.mkdtemp(prefix="insula-test-")
    os.mkdir(base + "/data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", base + "/data"], check=True)
    e = Engine(base)
    try:
        e.start()
        from conftest import IMAGES
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        before = host_state(base)
        with open(base + "/data/fill", "wb") as f:
            try:
                while True:
                    f.write(b"\0" * 65536)
                    f.flush()
            except OSError:
                pass
        r = e.cli("insula", "run", "--rm", f"--isolation={isolation}", "busybox", "echo", "x")
        assert r.code in (125, 0)
        if r.code:
            assert "no space left on device" in r.err.lower() or "full" in r.err.lower()
        os.unlink(base + "/data/fill")
        wait_clean(e, before)
        assert e.cli("insula", "run", "--rm", "--isolation=process", "busybox", "echo", "again").ok() == "again"
    finally:
        e.stop()
        subprocess.run(["umount", "-l", base + "/data"])
        shutil.rmtree(base, ignore_errors=True)
