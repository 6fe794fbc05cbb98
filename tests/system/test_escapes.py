"""Known escapes from containers, each tried for real: against insula-runtime with a bundle of its own, and through the
engine in both isolation modes where an image or a container's process could try it. The list is that of published
vulnerabilities of other runtimes; what the attacker needs is in tests/tools/attack.c."""
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tarfile
import time

import pytest
from conftest import BUILD, IMAGES, host_state, program, wait_for
from test_runtime import BOTH, Runtime, reachable_path, rt  # noqa: F401  (the fixtures)

ATTACK = BUILD / "tests/attack"
SECRET = "insula-secret-of-the-host"


@pytest.fixture
def secret():
    """A file that lies on the host's root, and in no container's."""
    p = pathlib.Path("/") / f".{SECRET}-{os.getpid()}"
    p.write_text(SECRET)
    yield p
    p.unlink()


def armed(rt, *args, **process):
    """A running container with the attacker's program in it."""
    process = {k: v for k, v in process.items() if v is not None}
    shutil.copy(ATTACK, rt.bundle / "rootfs/attack")
    rt.write(list(args) or ["sleep", "1000"], **process)
    assert rt.create("oci-armed") == 0 and rt("start", "oci-armed").returncode == 0


def all_caps(*names):
    return {k: list(names) for k in ("bounding", "effective", "permitted")}


def attack_in(rt, *args):
    """The attack, running in the container: exit code 0 = it has found nothing."""
    p = subprocess.Popen(rt.command("exec", "oci-armed", "/attack", *args), cwd=rt.bundle, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    return p


def in_namespaces(rt, cid, script, where="createContainer"):
    """What a hook sees in the container's mount namespace before the root is changed."""
    out = rt.bundle / "seen"
    rt.config.setdefault("hooks", {})[where] = [{"path": "/bin/sh", "args": ["sh", "-c", f"{script} > {out}"]}]
    return out


# --- programs and descriptors of the runtime ---

@pytest.fixture
def leaked():
    """Directories of the host that a careless caller has left open for whatever it starts."""
    fds = [os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in ("/", "/sys/fs/cgroup")]
    for fd in fds:
        os.set_inheritable(fd, True)
    yield fds
    for fd in fds:
        os.close(fd)


PTRACE = pytest.mark.parametrize("caps", [[], ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]], ids=["no-caps", "ptrace"])


@BOTH
@PTRACE
def test_cve_2019_5736_the_runtimes_program_cannot_be_overwritten(rt, caps):
    """exec of a script whose interpreter is /proc/self/exe runs the runtime itself inside the container. The attack is
    the container's init, so that in the end nobody runs the program (ETXTBSY)."""
    armed(rt, "sh", "-c", "/attack exe 1500 /bin/busybox >/tmp/found; echo $? >>/tmp/found", capabilities=all_caps(*caps))
    script = rt.bundle / "rootfs/evil"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        rt("exec", "oci-armed", "/evil")
        rt("exec", "oci-armed", "true")
    wait_for(lambda: rt.status("oci-armed") == "stopped")
    assert (rt.bundle / "rootfs/tmp/found").read_text() == "ready\n0\n"


@BOTH
@PTRACE
def test_cve_2016_9962_nothing_of_the_host_is_open_in_a_joining_process(rt, secret, leaked, caps):
    armed(rt, capabilities=all_caps(*caps))
    p = attack_in(rt, "fds", "1200", secret.name)
    while p.poll() is None:
        rt("exec", "oci-armed", "true", close_fds=False)
    assert p.returncode == 0, p.stdout.read()


@BOTH
@pytest.mark.parametrize("waiting", [False, True], ids=["making", "waiting"])
def test_cve_2016_9962_nothing_of_the_host_is_open_in_a_created_container(rt, secret, leaked, waiting):
    """Seen from another container of the same pid namespace: while it is made, and with the capability to look into
    others once it waits at its gate."""
    armed(rt, capabilities=all_caps("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE") if waiting else None)
    pid = json.loads(rt("state", "oci-armed").stdout)["pid"]
    second = Runtime(rt.bundle.parent / "second")
    second.config["linux"]["namespaces"][0]["path"] = f"/proc/{pid}/ns/pid"
    second.write(["sleep", "1000"])
    try:
        if waiting:
            assert second.create("oci-second", close_fds=False) == 0
        p = attack_in(rt, "fds", "400" if waiting else "1200", secret.name)
        while not waiting and p.poll() is None:
            assert second.create("oci-second", close_fds=False) == 0
            assert second("delete", "-f", "oci-second").returncode == 0
        assert p.wait(60) == 0, p.stdout.read()
    finally:
        for i in second.ids:
            second("delete", "-f", i)


@BOTH
@pytest.mark.parametrize("how", ["run", "exec"])
def test_cve_2024_21626_no_working_directory_outside(rt, secret, leaked, how):
    """The working directory, or a symlink to it in the image, goes through a descriptor that was left open."""
    if how == "exec":
        armed(rt)
    for n in range(3, 16):
        os.symlink(f"/proc/self/fd/{n}", rt.bundle / f"rootfs/link{n}")
        for cwd in (f"/proc/self/fd/{n}", f"/link{n}", f"/proc/1/fd/{n}"):
            command = ["cat", "../../../../.." + str(secret)]
            if how == "run":
                rt.write(command, cwd=cwd)
                p = rt("run", "oci-leaky", close_fds=False)
            else:
                p = rt("exec", "--cwd", cwd, "oci-armed", *command, close_fds=False)
            assert p.returncode != 0 and SECRET not in p.stdout, cwd


@BOTH
def test_cve_2024_21626_no_program_outside(rt, leaked):
    """The same by the program's path: a descriptor of the host leads to one that the image does not have."""
    for n in range(3, 16):
        rt.write([f"/proc/self/fd/{n}/usr/bin/env"])
        p = rt("run", "oci-leaky", close_fds=False)
        assert p.returncode in (1, 126, 127) and not p.stdout


@BOTH
# --- capabilities and users ---

def test_cve_2022_29162_no_capabilities_that_are_not_listed(rt):
    armed(rt, capabilities=all_caps("CAP_CHOWN", "CAP_KILL"))
    look = ["busybox", "grep", "-E", "^Cap(Inh|Amb|Prm|Eff|Bnd)", "/proc/self/status"]
    out = rt("exec", "oci-armed", *look).stdout
    values = {k: int(v, 16) for k, v in (x.split(":") for x in out.splitlines())}
    assert values == {"CapInh": 0, "CapAmb": 0, "CapPrm": 0x21, "CapEff": 0x21, "CapBnd": 0x21}
    # One more for an exec does not become inheritable either.
    out = rt("exec", "--cap", "CAP_SYS_CHROOT", "oci-armed", *look).stdout
    values = {k: int(v, 16) for k, v in (x.split(":") for x in out.splitlines())}
    assert values["CapInh"] == values["CapAmb"] == 0 and values["CapPrm"] == 0x40021


@pytest.mark.parametrize("user", ["1000abc", "", "-1", "4294967296", "99999999999999999999", "0x10", "1:", ":1", "1:2:3", " 1", "root"])
def test_cve_2026_30892_users_are_whole_numbers(rt, user):
    armed(rt)
    p = rt("exec", "--user", user, "oci-armed", "id")
    assert p.returncode == 1 and "invalid user" in p.stderr and not p.stdout


@BOTH
# --- the root file system ---

@pytest.mark.parametrize("what", ["symlink", "file", "link-chain"])
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2019_19921_proc_and_sys_are_real_directories(rt, name, what):
    at = rt.bundle / "rootfs" / name
    at.rmdir()
    if what == "file":
        at.touch()
    else:
        os.symlink("/tmp" if what == "symlink" else "one", at)
        if what == "link-chain":
            os.symlink("tmp", rt.bundle / "rootfs/one")
    rt.write()
    p = rt("run", "oci-fake")
    assert p.returncode != 0 and "not a real directory" in p.stderr


@BOTH
@pytest.mark.parametrize("destination, type_", [("/proc", "tmpfs"), ("/proc/self", "tmpfs"), ("/proc/sys", "bind"),
                                                ("/x/../proc/1", "tmpfs"), ("//proc//", "bind")])
def test_cve_2019_16884_nothing_is_mounted_over_proc(rt, destination, type_):
    (rt.bundle / "fake").mkdir()
    rt.config["mounts"].append({"destination": destination, "type": type_, "source": str(rt.bundle / "fake"),
                                "options": ["rbind"] if type_ == "bind" else []})
    rt.write()
    p = rt("run", "oci-over")
    assert p.returncode != 0 and "/proc" in p.stderr and "cannot be mounted" in p.stderr


@BOTH
@pytest.mark.parametrize("where", ["", "/sys", "/self/attr", "/1"])
def test_cve_2023_27561_nothing_is_mounted_over_proc_through_a_link_of_the_image(rt, where):
    """The destination is harmless, but the image has made it a link into /proc."""
    (rt.bundle / "fake").mkdir()
    os.symlink("/proc" + where, rt.bundle / "rootfs/data")
    rt.config["mounts"].append({"destination": "/data", "type": "bind", "source": str(rt.bundle / "fake"), "options": ["rbind"]})
    rt.write(["ls", "/proc/self"])
    p = rt("run", "oci-over")
    assert p.returncode != 0 and "inside /proc" in p.stderr, p


@BOTH
def test_cve_2025_52881_kernel_parameters_and_attributes_go_to_the_kernel(rt):
    """Whatever an image makes of /proc/self, what is written reaches the process and nothing else."""
    trap = rt.bundle / "rootfs/trap"
    trap.mkdir()
    for name in ("oom_score_adj", "self", "thread-self"):
        (trap / name).write_text("untouched")
    rt.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(trap), "options": ["rbind"]})
    rt.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    rt.write(["cat", "/proc/self/oom_score_adj", "/proc/sys/net/ipv4/ip_forward"], oomScoreAdj=77)
    assert rt("run", "oci-attr").stdout == "77\n1\n"
    # Without a procfs in the container there is nothing of the image's to fall for.
    rt.config["mounts"] = [m for m in rt.config["mounts"] if m["destination"] != "/proc"]
    fake = rt.bundle / "rootfs/proc/self"
    fake.mkdir()
    (fake / "oom_score_adj").write_text("untouched")
    (rt.bundle / "rootfs/proc/sys/net/ipv4").mkdir(parents=True)
    (rt.bundle / "rootfs/proc/sys/net/ipv4/ip_forward").write_text("untouched")
    rt.write(["true"], oomScoreAdj=77)
    assert rt("run", "oci-attr").returncode == 0
    assert (fake / "oom_score_adj").read_text() == "untouched"
    assert (rt.bundle / "rootfs/proc/sys/net/ipv4/ip_forward").read_text() == "untouched"


@pytest.mark.parametrize("key", ["kernel.core_pattern", "kernel/core_pattern", "net/../kernel/core_pattern",
                                 "net.ipv4/../../kernel/sysrq", "net..", "fs.mqueue/../../kernel/hostname", "vm.swappiness"])
def test_cve_2025_52881_kernel_parameters_of_the_host_are_refused(rt, key):
    rt.config["linux"]["sysctl"] = {key: "1"}
    rt.write()
    before = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
    p = rt("run", "oci-sysctl")
    assert p.returncode != 0 and "sysctl" in p.stderr
    assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == before


class Swapper:
    """Exchanges two names while the body runs."""

    def __init__(self, a, b):
        self.argv = [str(ATTACK), "swap", "600000", str(a), str(b)]

    def __enter__(self):
        self.p = subprocess.Popen(self.argv)

    def __exit__(self, *_):
        assert self.p.poll() is None
        self.p.kill()
        self.p.wait()


@BOTH
@pytest.mark.parametrize("type_", ["bind", "tmpfs"])
def test_cve_2021_30465_mount_targets_exchanged_for_links(rt, tmp_path, type_):
    """A volume shared with another container, which exchanges the next mount's target for a link to the host's root.
    Neither a mount nor a directory (CVE-2024-45310) may appear outside of the root."""
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for d in (shared / "a/in", outside, tmp_path / "source"):
        d.mkdir(parents=True)
    os.symlink("/" + "../" * 20 + str(outside).lstrip("/"), shared / "b")
    rt.give(shared, outside, rt.bundle)
    rt.config["mounts"] += [
        {"destination": "/vol", "type": "bind", "source": str(shared), "options": ["rbind"]},
        {"destination": "/vol/a/in/deep/er", "type": type_, "source": str(tmp_path / "source"), "options": ["rbind"] if type_ == "bind" else []}]
    seen = in_namespaces(rt, "oci-race", "cat /proc/self/mountinfo")
    rt.write()
    done = 0
    with Swapper(shared / "a", shared / "b"):
        for _ in range(40):
            done += rt("run", "oci-race").returncode == 0
            assert os.listdir(outside) == []
            mounts = [x.split()[4] for x in seen.read_text().splitlines()] if seen.exists() else []
            assert not [m for m in mounts if m.startswith(str(outside))]
    assert done


@BOTH
def test_masks_hold_when_the_images_null_is_something_else(rt):
    """CVE-2025-31133: /dev/null of the container is a link to what is worth reading; a mask takes the host's."""
    dev = rt.bundle / "rootfs/dev"
    rt.config["mounts"] = [m for m in rt.config["mounts"] if not m["destination"].startswith("/dev")]
    rt.config["linux"]["maskedPaths"] = ["/proc/sys/kernel/core_pattern", "/etc/secret"]
    (rt.bundle / "rootfs/etc/secret").write_text(SECRET)
    # Made on the way in: default devices refuse a null that is something else, so a bind of a whole /dev it is.
    fake = rt.bundle / "fakedev"
    fake.mkdir()
    os.symlink("/proc/sysrq-trigger", fake / "null")
    rt.config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(fake), "options": ["rbind"]})
    rt.write(["sh", "-c", "cat /etc/secret /proc/sys/kernel/core_pattern; busybox stat -c %t:%T /etc/secret"])
    p = rt("run", "oci-mask")
    assert (p.returncode, p.stdout) == (0, "1:3\n"), p
    assert dev.exists()


@BOTH
def test_cve_2025_31133_a_null_of_the_image_that_is_a_link_is_refused(rt):
    rt.config["mounts"] = [m for m in rt.config["mounts"] if not m["destination"].startswith("/dev")]
    os.symlink("/proc/sysrq-trigger", rt.bundle / "rootfs/dev/null")
    rt.write()
    p = rt("run", "oci-null")
    assert p.returncode != 0 and "/dev/null" in p.stderr


@BOTH
def test_cve_2026_41579_devices_are_not_made_through_a_link(rt, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (rt.bundle / "rootfs/dev").rmdir()
    (rt.bundle / "rootfs/elsewhere").mkdir()
    rt.config["linux"]["devices"] = [{"type": "c", "path": "/dev/foo/bar", "major": 1, "minor": 3}]
    rt.config["mounts"] = [m for m in rt.config["mounts"] if not m["destination"].startswith("/dev")]
    rt.write()
    for target in ("/elsewhere", str(outside), "../" * 20 + str(outside).lstrip("/")):
        os.symlink(target, rt.bundle / "rootfs/dev")
        p = rt("run", "oci-dev")
        assert p.returncode != 0 and "not a real directory" in p.stderr
        assert os.listdir(outside) == [] and os.listdir(rt.bundle / "rootfs/elsewhere") == []
        (rt.bundle / "rootfs/dev").unlink()


def console(rt, *args):
    """Runs `create` with a terminal and returns its output, once it is there, and the exit code."""
    path = rt.bundle / "console.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        s.settimeout(60)
        p = rt("create", "--console-socket", str(path), "oci-tty")
        if p.returncode:
            return p, b""
        conn = s.accept()[0]
        master = socket.recv_fds(conn, 64, 1)[1][0]
        conn.close()
        rt("start", "oci-tty")
        out = b""
        try:
            while chunk := os.read(master, 4096):
                out += chunk
        except OSError:     # the other end is closed
            pass
        os.close(master)
    rt("delete", "-f", "oci-tty")
    return p, out


@pytest.mark.parametrize("target", ["/etc/victim", "/proc/sysrq-trigger", "pts/0", "../../../../../../../../etc/victim"])
def test_cve_2025_52565_the_console_is_no_link(rt, target):
    """/dev/console of the image is a link: nothing gets mounted where it points."""
    victim = rt.bundle / "rootfs/etc/victim"
    victim.write_text("untouched")
    rt.config["mounts"] = [m for m in rt.config["mounts"] if m["destination"] != "/dev"]
    os.mkdir(rt.bundle / "rootfs/dev/pts")
    os.symlink(target, rt.bundle / "rootfs/dev/console")
    rt.write(["cat", "/etc/victim"], terminal=True)
    p, _ = console(rt)
    assert p.returncode != 0 and "/dev/console of the image is not a file" in p.stderr


def test_cve_2025_52565_the_terminal_is_the_one_that_was_opened(rt):
    """/dev/pts holds links in the place of terminals: the console still is the terminal of the master."""
    (rt.bundle / "rootfs/dev/pts").mkdir()
    (rt.bundle / "rootfs/fake").mkdir()
    for n in range(4):
        os.symlink("/proc/sysrq-trigger", rt.bundle / f"rootfs/fake/{n}")
    os.symlink("/proc/kcore", rt.bundle / "rootfs/fake/ptmx")
    rt.write(["sh", "-c", "busybox stat -c '%t %T' /dev/console /proc/self/fd/0 -L"], terminal=True)
    p, out = console(rt)
    assert p.returncode == 0 and out.split() == [b"88", b"0", b"88", b"0"]
    # A devpts that is none: refused, whatever lies there.
    rt.config["mounts"] = [m for m in rt.config["mounts"] if m["destination"] != "/dev/pts"]
    rt.config["mounts"].append({"destination": "/dev/pts", "type": "bind", "source": str(rt.bundle / "rootfs/fake"), "options": ["rbind"]})
    rt.write(["true"], terminal=True)
    p, _ = console(rt)
    assert p.returncode != 0 and "/dev/pts/ptmx" in p.stderr


def test_an_attacker_who_renames_all_the_time_cannot_stall(rt, tmp_path):
    """The kernel's EAGAIN for a lookup that raced is answered a bounded number of times."""
    shared = tmp_path / "shared"
    (shared / "a/b/c").mkdir(parents=True)
    (shared / "x").mkdir()
    rt.config["mounts"] += [{"destination": "/vol", "type": "bind", "source": str(shared), "options": ["rbind"]},
                            {"destination": "/vol/a/../a/b/../b/c/../c", "type": "tmpfs", "source": "tmpfs"}]
    rt.write()
    with Swapper(shared / "a", shared / "x"):
        for _ in range(10):
            begin = time.monotonic()
            rt("run", "oci-stall")
            assert time.monotonic() - begin < 60


# --- names and sizes ---

@pytest.mark.parametrize("cid", ["..", ".", "", "a/b", "../../etc", ".hidden", "a\nb", "a b", "ü"])
def test_container_ids_are_no_paths(rt, cid):
    rt.write()
    p = rt("create", "--", cid)
    assert p.returncode != 0 and "invalid container id" in p.stderr
    assert not rt.root.exists() or not [x for x in os.listdir(rt.root) if not x.startswith(".seccomp")]


@pytest.mark.parametrize("path", ["/../evil", "../evil", "/insula/../../evil", "a/../../../b"])
def test_cgroup_paths_do_not_climb(rt, path):
    rt.config["linux"]["cgroupsPath"] = path
    rt.write()
    p = rt("run", "oci-climb")
    assert p.returncode != 0 and "cgroup" in p.stderr.lower()


def test_exec_cgroups_do_not_climb(rt):
    armed(rt)
    for sub in ("../other", "a/../../b", "/../x"):
        assert rt("exec", "--cgroup", sub, "oci-armed", "true").returncode != 0


def test_cve_2021_43784_large_values_arrive_whole(rt):
    """Lists and strings longer than 16 bits count."""
    big = "x" * 70000
    out = None
    rt.write(["sh", "-c", "echo ${#BIG}; id -G | busybox wc -w"], env=["PATH=/bin", "BIG=" + big],
             user={"uid": 1, "gid": 1, "additionalGids": list(range(2, 65530))})
    p = rt("run", "oci-large")
    out = p.stdout.split()
    assert out[0] == "70000" and int(out[1]) >= 65528, p


def test_cve_2023_25809_only_the_own_cgroup_is_shown(rt):
    """Also without a cgroup namespace: the host's tree is neither seen nor writable."""
    rt.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]})
    rt.write(["sh", "-c", "ls -d /sys/fs/cgroup/*/insula /sys/fs/cgroup/insula; for f in /sys/fs/cgroup/*/notify_on_release "
              "/sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do [ -e $f ] && (echo 1 >$f) 2>/dev/null && echo wrote $f; done; true"])
    p = rt("run", "oci-group")
    assert p.returncode == 0 and p.stdout == "", p


# --- images and processes of the engine's containers ---

def image(engine, name, entries):
    """busybox and what an attacker adds: (path, kind, content)."""
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w") as t:
        def add(path, kind, content=b"", mode=0o755):
            i = tarfile.TarInfo(path)
            i.type, i.mode = kind, mode
            if kind == tarfile.REGTYPE:
                i.size = len(content)
            elif kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                i.linkname, content = content, b""
            t.addfile(i, io.BytesIO(content))
        have = {e[0] for e in entries}
        for d in ("bin", "etc", "tmp"):
            add(d, tarfile.DIRTYPE)
        add("bin/busybox", tarfile.REGTYPE, pathlib.Path("/bin/busybox").read_bytes())
        for a in ("sh", "true", "cat", "id", "ls", "sleep", "echo"):
            add("bin/" + a, tarfile.SYMTYPE, "busybox")
        add("attack", tarfile.REGTYPE, ATTACK.read_bytes())
        for e in entries:
            add(*e)
        assert len(have) == len(entries)
    f = engine.base / (name + ".tar")
    f.write_bytes(buf.getvalue())
    engine.cli("insula", "import", f, name).ok()
    f.unlink()


@pytest.fixture(scope="module")
def evil(engine):
    """Images that attack."""
    outside = engine.base / "outside"
    outside.mkdir()
    victims = {n: outside / n for n in ("hosts", "hostname", "resolv.conf")}
    for v in victims.values():
        v.write_text("untouched")
    link, file, fifo = tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.FIFOTYPE
    image(engine, "evil-links", [(f"etc/{n}", link, str(v)) for n, v in victims.items()] +
          [(d, link, str(outside)) for d in ("work", "vol", "home")])
    image(engine, "evil-proc", [("proc", link, "/tmp")])
    image(engine, "evil-dev", [("dev", link, str(outside))])
    image(engine, "evil-fifo", [("etc/passwd", link, "/proc/kmsg"), ("etc/group", fifo)])
    image(engine, "evil-users", [
        ("etc/passwd", file, b"\xff\xfe\n:::::\nroot\nx:x:-1:-1::/:\ny:x:4294967296:0::/:\nbig:x:99999999999999999999:1::/:\n" +
         b"toor:x:0abc:0::/:\n" + b"l" * 200000 + b":x:5:5::/:\nok:x:12:34::/home/ok:/bin/sh\nok:x:0:0::/:\n\0:x:0:0::/:\n"),
        ("etc/group", file, b"g:x:4294967295:ok\nh:x:77:ok,,,ok\ni:x:-7:ok\n")])
    image(engine, "evil-huge", [("etc/passwd", file, b"a:x:1:1::/:\n" * 700000), ("etc/group", link, "../" * 20 + "etc/group")])
    yield outside, victims
    for n in ("links", "proc", "dev", "fifo", "users", "huge"):
        engine.cli("insula", "rmi", "-f", "evil-" + n)


def test_links_of_an_image_do_not_lead_to_the_host(c, evil, tmp_path):
    """CVE-2024-45310, CVE-2025-24965 and their kin: /etc/hosts and others, working directory and volumes of the image are links."""
    outside, victims = evil
    r = c("run", "--rm", "-w", "/work/made/here", "-v", f"{tmp_path}:/vol/mnt", "--tmpfs", "/home/t", "--hostname", "evil",
          "--add-host", "evil:1.2.3.4", "evil-links", "sh", "-c", "busybox pwd; ls /vol")
    assert all(v.read_text() == "untouched" for v in victims.values())
    assert sorted(os.listdir(outside)) == sorted(victims)
    assert os.listdir(tmp_path) == [] and r.code in (0, 1, 125, 126, 127)


@pytest.mark.parametrize("name", ["evil-proc", "evil-dev"])
def test_special_directories_of_an_image_that_are_links(c, evil, name):
    r = c("run", "--rm", name, "true")
    assert r.code != 0 and "not a real directory" in r.err
    assert sorted(os.listdir(evil[0])) == sorted(evil[1])


@pytest.mark.parametrize("name", ["evil-fifo", "evil-huge"])
def test_user_files_that_are_none(c, evil, name):
    """Nothing blocks, and nothing of the host's is read."""
    cid = c.rund("--user", "5:6", name, "sleep", "1000")
    assert c("exec", cid, "id", "-u", timeout=60).ok() == "5"
    for user, missing in (("daemon", "user daemon"), ("5:audio", "group audio")):
        r = c("exec", "-u", user, cid, "id", timeout=60)
        assert r.code != 0 and f"unable to find {missing}" in r.out + r.err, r


def test_user_files_with_nonsense(c, evil):
    cid = c.rund("--user", "ok", "evil-users", "sleep", "1000")
    assert c("exec", cid, "sh", "-c", "id -u; id -g; id -G").ok().split() == ["12", "34", "34", "77"]
    for user in ("x", "y", "big", "toor", "root", "5:g"):
        r = c("exec", "--user", user, cid, "id")
        assert r.code != 0 and f"unable to find {'group g' if user == '5:g' else 'user ' + user}" in r.out + r.err, r


@pytest.mark.parametrize("what", ["exe", "fds"])
def test_exec_into_a_hostile_container(c, evil, secret, what):
    """CVE-2019-5736, CVE-2016-9962 and CVE-2024-21626 by the engine's exec, with the capability to look into others."""
    arg = ["/bin/busybox", "/attack"] if what == "exe" else [secret.name]
    cid = c.rund("--cap-add", "SYS_PTRACE", "evil-users", "/attack", what, "2500", *arg)
    wait_for(lambda: "ready" in c("logs", cid).out)
    while c.state(cid, "Running") == "true":
        c("exec", cid, "/proc/self/exe")
        c("exec", "-w", "/proc/self/fd/8", cid, "true")
    assert c("logs", cid).out == "ready\n" and c("wait", cid).ok() == "0"


def test_a_container_cannot_make_devices_or_reach_the_host_by_its_cgroup(c, evil):
    """CVE-2022-0492 and the like: no mount, no device of the host, no release_agent."""
    out = c("run", "--rm", "--cap-add", "MKNOD", "evil-users", "sh", "-c",
            "busybox mknod /tmp/mem c 1 1 && busybox head -c 1 /tmp/mem >/dev/null && echo read; busybox mount -t cgroup none /tmp && echo mounted; "
            "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do "
            "[ -e $f ] && (echo 1 >$f) && echo wrote; done; (echo x >/proc/sysrq-trigger) && echo pulled; "
            "(echo x >/proc/sys/kernel/core_pattern) && echo set; true").out
    assert not set(out.split()) & {"read", "mounted", "wrote", "pulled", "set"}, out
