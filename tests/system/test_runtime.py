"""insula-runtime as a program: the commands that other engines call, on a busybox bundle."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest
from conftest import BUILD, built, program, rmdir, wait_for


class Runtime:
    def __init__(self, tmp):
        self.root, self.bundle = tmp / "state", tmp / "bundle"
        self.ids, self.prefix, self.owner = set(), [], 0
        self.program = program("insula-runtime")
        rootfs = self.bundle / "rootfs"
        for d in ("bin", "proc", "sys", "dev", "tmp", "etc"):
            (rootfs / d).mkdir(parents=True)
        shutil.copy("/bin/busybox", rootfs / "bin/busybox")
        for a in ("sh", "true", "sleep", "echo", "cat", "id", "hostname", "ls", "mount", "touch", "ulimit"):
            os.symlink("busybox", rootfs / "bin" / a)
        opts = ["nosuid", "noexec", "nodev"]
        self.config = {
            "ociVersion": "1.0.2",
            "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"],
                        "env": ["PATH=/bin", "A=b"], "cwd": "/"},
            "root": {"path": "rootfs"}, "hostname": "oci",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                       {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                       {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": opts + ["ro"]}],
            "linux": {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]}}

    def write(self, args=None, **process):
        c = json.loads(json.dumps(self.config))
        if args:
            c["process"]["args"] = args
        c["process"].update(process)
        (self.bundle / "config.json").write_text(json.dumps(c))

    def in_user_namespace(self, first=100000):
        """Its root is the host's user `first`, to whom the root file system is given."""
        self.config["linux"]["namespaces"].append({"type": "user"})
        for k in ("uidMappings", "gidMappings"):
            self.config["linux"][k] = [{"containerID": 0, "hostID": first, "size": 65536}]
        self.owner = first
        self.give(self.bundle / "rootfs")

    def give(self, *trees):
        """They become the property of the container's root."""
        for t in trees:
            for p in [t, *t.rglob("*")]:
                os.lchown(p, self.owner, self.owner)

    def command(self, *args):
        return [*self.prefix, self.program, "--root", str(self.root), *map(str, args)]

    def __call__(self, *args, **kw):
        self.ids.update(a for a in args if isinstance(a, str) and a.startswith("oci-"))
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=60,
                              cwd=self.bundle, stdin=subprocess.DEVNULL, **kw)

    def create(self, cid, **kw):
        """create keeps its stdio in the container: not ours."""
        p = subprocess.run(self.command("create", cid), cwd=self.bundle, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, **kw)
        self.ids.add(cid)
        return p.returncode

    def status(self, cid):
        p = self("state", cid)
        assert p.returncode == 0, p.stderr
        return json.loads(p.stdout)["status"]


@pytest.fixture(name="tmp_path")
def reachable_path():
    """For modules whose other users have to get there: pytest closes its own directory to all but root."""
    d = pathlib.Path(tempfile.mkdtemp(prefix="runtime-", dir="/tmp"))
    d.chmod(0o755)
    yield d
    shutil.rmtree(d)


# Without and with a user namespace.
BOTH = pytest.mark.parametrize("rt", ["plain", "userns"], indirect=True)


@pytest.fixture
def rt(tmp_path, request):
    r = Runtime(tmp_path)
    if getattr(request, "param", None) == "userns":
        r.in_user_namespace()
    yield r
    for i in r.ids:
        r("delete", "-f", i)
    assert not [d for i in r.ids for d in pathlib.Path("/sys/fs/cgroup").glob(f"*/insula/{i}")]
    # What leaks from a container's mounts shows below its root.
    assert str(tmp_path) not in open("/proc/self/mountinfo").read()


def test_run(rt):
    rt.write(["sh", "-c", "echo out; hostname; echo $A; exit 7"])
    p = rt("run", "oci-run")
    assert (p.stdout, p.returncode) == ("out\noci\nb\n", 7)
    assert rt("state", "oci-run").returncode != 0


def test_life(rt):
    rt.write(["sleep", "1000"])
    assert rt.create("oci-life") == 0
    assert rt.status("oci-life") == "created"
    assert rt.create("oci-life") != 0
    assert rt("start", "oci-life").returncode == 0
    assert rt.status("oci-life") == "running"
    assert rt("start", "oci-life").returncode != 0
    assert "oci-life" in rt("list", "-q").stdout.split()
    assert rt("delete", "oci-life").returncode != 0
    p = rt("exec", "oci-life", "sh", "-c", "echo inside; exit 3")
    assert (p.stdout, p.returncode) == ("inside\n", 3)
    assert rt("exec", "oci-life", "nosuch").returncode == 127
    assert rt("exec", "-u", "12abc", "oci-life", "id").returncode == 1
    assert rt("exec", "-u", "12:34", "oci-life", "id").stdout.startswith("uid=12 gid=34")
    assert rt("kill", "oci-life", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-life") == "stopped")
    assert rt("delete", "oci-life").returncode == 0
    assert rt("state", "oci-life").returncode != 0


def test_program_errors(rt):
    rt.write(["nosuch"])
    p = rt("run", "oci-err")
    assert p.returncode == 127 and 'exec: "nosuch": executable file not found in $PATH' in p.stderr
    rt.write(["/etc"])
    assert rt("run", "oci-err").returncode == 126


def test_bad_documents(rt):
    rt.config["linux"]["resources"] = {"memory": {"limit": "lots"}}
    rt.write()
    p = rt("run", "oci-bad")
    assert p.returncode == 1 and "linux.resources.memory.limit: expected integer" in p.stderr
    assert rt("run", "../evil").returncode == 1


def test_limits(rt):
    rt.config["linux"]["resources"] = {"memory": {"limit": 32 << 20}, "pids": {"limit": 50}}
    rt.write(["sleep", "1000"])
    rt.create("oci-limits")
    limits = [p.read_text().strip() for p in pathlib.Path("/sys/fs/cgroup").glob("insula/oci-limits/memory*max*")] + \
        [p.read_text().strip() for p in pathlib.Path("/sys/fs/cgroup").glob("*/insula/oci-limits/memory.limit_in_bytes")]
    assert str(32 << 20) in limits


def test_read_only_root_and_rlimits(rt):
    rt.config["root"]["readonly"] = True
    rt.write(["sh", "-c", "touch /x; ulimit -n"], rlimits=[{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 5}])
    p = rt("run", "oci-ro")
    assert "Read-only file system" in p.stderr and p.stdout == "4\n"


def test_proc_as_a_symlink_is_refused(rt):
    (rt.bundle / "rootfs/proc").rmdir()
    os.symlink("/tmp", rt.bundle / "rootfs/proc")
    rt.write()
    p = rt("run", "oci-link")
    assert p.returncode != 0 and "not a real directory" in p.stderr


def test_cwd_through_a_leaked_descriptor_is_refused(rt):
    rt.write(["ls"], cwd="/proc/self/fd/77")
    d = os.open("/", os.O_RDONLY)
    os.dup2(d, 77)
    try:
        p = rt("run", "oci-fd", pass_fds=(77,))
    finally:
        os.close(77)
        os.close(d)
    assert p.returncode != 0 and "etc" not in p.stdout.split()


def test_own_binary_is_read_only_inside(rt):
    """CVE-2019-5736: the program that a container would overwrite lies on a read-only mount."""
    rt.write(["sleep", "1000"])
    rt.create("oci-self")
    before = built("insula-runtime").read_bytes()
    pid = json.loads(rt("state", "oci-self").stdout)["pid"]
    with pytest.raises(OSError):
        os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
    assert built("insula-runtime").read_bytes() == before


def test_hooks_see_the_state(rt, tmp_path):
    log = tmp_path / "hooks"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n(echo $1; cat; echo) >> {log}\n")
    hook.chmod(0o755)
    rt.config["hooks"] = {k: [{"path": str(hook), "args": ["hook", k]}]
                          for k in ("prestart", "createRuntime", "poststart", "poststop")}
    rt.write()
    assert rt("run", "oci-hooks").returncode == 0
    lines = log.read_text().split("\n")
    assert [x for x in lines if x and x[0] != "{"] == ["prestart", "createRuntime", "poststart", "poststop"]
    assert all(json.loads(x)["id"] == "oci-hooks" for x in lines if x.startswith("{"))


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/freezer"), reason="needs the v1 freezer")
def test_a_frozen_cgroup_is_refused_and_left_alone(rt):
    """Joining it would hang the runtime for good; its processes are another's and live on."""
    group = pathlib.Path("/sys/fs/cgroup/freezer/rt-foreign")
    victim = subprocess.Popen(["sleep", "1000"])
    pids = pathlib.Path("/sys/fs/cgroup/pids/rt-foreign")
    try:
        for g in (group, pids):
            g.mkdir()
            (g / "cgroup.procs").write_text(str(victim.pid))
        (group / "freezer.state").write_text("FROZEN")
        rt.config["linux"]["cgroupsPath"] = "/rt-foreign"
        rt.write()
        p = rt("run", "oci-foreign")
        assert p.returncode == 1 and "is frozen" in p.stderr
        assert victim.poll() is None
    finally:
        if group.is_dir():
            (group / "freezer.state").write_text("THAWED")
        victim.kill()
        victim.wait()
        for g in (group, pids):
            wait_for(lambda: rmdir(g))


def test_own_binary_on_a_tmpfs_or_a_read_only_mount(rt):
    """Files of a tmpfs have seals too, and a program on a read-only mount needs no clone."""
    rt.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"readlink /proc/$PPID/exe >>{rt.bundle}/exe"]}]}
    rt.write(["echo", "ran"])
    script = """mount -t tmpfs tmpfs /mnt; cp "$1" /mnt/rt; shift; /mnt/rt "$@"; mount -o remount,ro /mnt; /mnt/rt "$@" """
    p = subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", str(BUILD / "src/runtime/insula-runtime"), "--root", str(rt.root), "run", "oci-tmpfs"],
                       cwd=rt.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert (p.returncode, p.stdout) == (0, "ran\nran\n"), p
    # A detached clone of a file has no path.
    assert (rt.bundle / "exe").read_text().split() == ["/", "/mnt/rt"]


@pytest.mark.parametrize("call", ["openat2", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "pidfd_open", "pidfd_send_signal"])
def test_a_kernel_without_what_cannot_be_done_otherwise_is_refused_by_name(rt, call):
    rt.write()
    p = subprocess.run([str(BUILD / "tests/enosys"), call, str(BUILD / "src/runtime/insula-runtime"), "--root", str(rt.root), "run", "oci-old"],
                       cwd=rt.bundle, capture_output=True, text=True)
    assert p.returncode == 1 and p.stderr.startswith(f"insula-runtime: this kernel is too old: needs {call} (Linux 5."), p
    assert not rt.root.exists()


def test_features_and_version():
    p = subprocess.run([program("insula-runtime"), "features"], capture_output=True, text=True)
    assert json.loads(p.stdout)["linux"]["seccomp"]["enabled"]
    p = subprocess.run([program("insula-runtime"), "--version"], capture_output=True, text=True)
    assert p.stdout.startswith("insula-runtime version") and " +SECCOMP" in p.stdout
