"""Fixtures of the system tests: one daemon with roots of its own, both CLIs, both isolation modes,
and a look at the host before and after each test: nothing may be left behind."""
import contextlib
import errno
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build"))
VM_DIR = pathlib.Path(os.environ.get("INSULA_VM_DIR", BUILD / "guest"))
IMAGES = pathlib.Path(os.environ.get("INSULA_IMAGES", ROOT / "build" / "images"))
# Whoever runs the tests in the background may ignore it, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
OURS = ("insula-shim", "vmwp", "qemu-system-x86", "virtiofsd", "insula-puller", "insula-registry", "insula-agent",
        "insula-tls")
# They have no older way: where their call is missing they are refused.
NO_IDMAP = "mount_setattr" in os.environ.get("INSULA_ENOSYS", "")


def without_calls():
    """The command before a program that takes the system calls of INSULA_ENOSYS from it (tests/tools/enosys.c), and from
    what it starts. It wants root."""
    names = os.environ.get("INSULA_ENOSYS")
    return [f"{BUILD}/tests/enosys", names] if names else []


def wrapped(path):
    """A script that runs the program without them."""
    script = BUILD / "enosys" / os.environ["INSULA_ENOSYS"] / path.name
    script.parent.mkdir(parents=True, exist_ok=True)
    if not script.exists():
        script.write_text(f'#!/bin/sh\nexec {" ".join(without_calls())} {path} "$@"\n')
        script.chmod(0o755)
    return str(script)


def built(name):
    """The program as it was built."""
    for d in ("api", "cli", "shim", "vm", "runtime", "puller", "agent", "resolver", "registry"):
        p = BUILD / "src" / d / name
        if p.exists():
            return p
    raise FileNotFoundError(name)


def program(name):
    """The same, or what stands for it."""
    without = without_calls() and name in ("insulad", "insula-runtime", "insula-shim")
    return wrapped(built(name)) if without else str(built(name))


def docker_cli():
    """docker on PATH, else Debian's, unpacked beside the build (not installed: its daemon would start)."""
    found = shutil.which("docker")
    if found:
        return found
    d = BUILD / "docker-cli"
    exe = d / "usr/bin/docker"
    if not exe.exists():
        d.mkdir(parents=True, exist_ok=True)
        subprocess.run("apt-get download -qq docker.io && dpkg -x docker.io_*.deb .", shell=True, cwd=d, check=True)
    return str(exe)


class Result:
    def __init__(self, p):
        self.code, self.out = p.returncode, p.stdout
        # Without hardware every hyperv container is created with a warning that says so.
        self.err = "".join(x for x in p.stderr.splitlines(True) if not x.startswith("WARNING: hyperv: qemu/tcg"))

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out!r}\nstderr: {self.err!r}"

    def ok(self):
        assert self.code == 0, repr(self)
        return self.out.strip()


_subnets = {}


def own_subnet(base):
    """Daemons that begin at the same moment find the same subnet free: each is given one of its own, and none that a test
    names (10.96 to 10.159 are left to this). A socket's name keeps it from other processes until this one ends."""
    n = zlib.crc32(base.encode())
    while base not in _subnets:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.bind(f"\0insula-test-subnet-{n % 4096}")
            _subnets[base] = s, n
        except OSError:
            s.close()
            n += 1
    n = _subnets[base][1]
    return f"10.{96 + n % 64}.{n // 64 % 64 * 4}.1/22"


class Engine:
    """A running insulad and how to talk to it."""

    def __init__(self, base, extra=()):
        self.base = pathlib.Path(base)
        self.base.mkdir(parents=True, exist_ok=True)
        self.data, self.run_dir = self.base / "data", self.base / "run"
        self.sock = self.run_dir / "insula.sock"
        self.extra = list(extra)
        self.subnet = own_subnet(str(base))
        self.log = open(self.base / "insulad.log", "ab")
        self.proc = None
        self.prefix = []        # of its command: in another namespace...

    def spawn(self):
        argv = [*self.prefix, program("insulad"), "--data-root", str(self.data), "--exec-root", str(self.run_dir),
                "-H", f"unix://{self.sock}", "--vm-dir", str(VM_DIR), "--isolation", "process", "--bip", self.subnet, *self.extra]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                     start_new_session=True)

    def start(self):
        self.spawn()
        end = time.time() + 60
        while time.time() < end:
            if self.proc.poll() is not None:
                raise RuntimeError(f"insulad ended ({self.proc.returncode}): " + (self.base / "insulad.log").read_text()[-2000:])
            if self.sock.exists() and self.cli("insula", "version").code == 0:
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("insulad is not answering")

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait(120)     # it waits for the disk

    def kill9(self):
        self.proc.kill()
        self.proc.wait(60)

    def env(self):
        e = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "INSULA_"))}
        e.update(DOCKER_HOST=f"unix://{self.sock}", DOCKER_CONFIG=str(self.base / "docker"), HOME=str(self.base))
        e.setdefault("TERM", "xterm")
        return e

    def created(self, since):
        """Ids of the containers made since then."""
        now = f"{time.time():.6f}"      # what lies ahead would be waited for
        r = self.cli("insula", "events", "--since", since, "--until", now, "--filter", "type=container",
                     "--filter", "event=create", "--format", "{{.Actor.ID}}")
        return set(r.out.split())

    def argv(self, cli, *args):
        return [program("insula") if cli == "insula" else docker_cli(), *map(str, args)]

    def cli(self, cli, *args, stdin=None, timeout=180):
        p = subprocess.run(self.argv(cli, *args), env=self.env(), input=stdin,
                           stdin=subprocess.DEVNULL if stdin is None else None,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
        return Result(p)

    def popen(self, cli, *args, **kw):
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.argv(cli, *args), env=self.env(), text=True, **kw)


class Cli:
    """One CLI on one engine in one isolation mode: c('run', ...) puts --isolation in for run and create."""

    def __init__(self, engine, cli, isolation):
        self.engine, self.name, self.isolation = engine, cli, isolation
        self.ids = []

    def args(self, args):
        args = list(args)
        if args[0] in ("run", "create"):
            args.insert(1, f"--isolation={self.isolation}")
        return args

    def __call__(self, *args, **kw):
        return self.engine.cli(self.name, *self.args(args), **kw)

    def popen(self, *args, **kw):
        return self.engine.popen(self.name, *self.args(args), **kw)

    def rund(self, *args):
        """run -d; returns the id; removed after the test."""
        cid = self("run", "-d", *args).ok()
        self.ids.append(cid)
        return cid

    def state(self, cid, field):
        return self("inspect", "-f", "{{.State.%s}}" % field, cid).ok()

    def cleanup(self):
        left = self("ps", "-aq").out.split()
        if left:
            self("rm", "-f", *left)


def wait_for(fn, timeout=90, step=0.05):
    end = time.time() + timeout
    while time.time() < end:
        v = fn()
        if v:
            return v
        time.sleep(step)
    raise AssertionError("timed out waiting for " + getattr(fn, "__name__", "condition"))


# Below the range that connections of other tests take their ports from; each process begins elsewhere, far from those whose
# pids are next to its own.
_next = [10000 + os.getpid() * 12361 % 20000]


def free_port(n=1):
    """n ports in a row that nobody has."""
    while True:
        first = _next[0]
        _next[0] = 10000 + (first + n - 10000) % 20000
        try:
            with contextlib.ExitStack() as stack:
                for i in range(n):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        for family in (socket.AF_INET, socket.AF_INET6):
                            s = stack.enter_context(socket.socket(family, kind))
                            if family == socket.AF_INET6:
                                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                            s.bind(("", first + i))
            return first
        except OSError:
            pass


def descriptors(pid):
    """What the process has open, but for what it closes meanwhile: number -> path."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


def command_of(pid):
    """Its words in one string; none if it has ended."""
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""


def rmdir(group):
    """Whether the control group is gone; it cannot go while a process is still on its way out of it."""
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return True
    except OSError as e:
        if e.errno != errno.EBUSY:
            raise
        return False
    return True


def parent_command(pid):
    try:
        ppid = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]
        return open(f"/proc/{ppid}/cmdline", errors="replace").read()
    except OSError:
        return ""


def host_mounts(base):
    """The lines of mountinfo, but for the mounts of other tests and of ip-netns."""
    def counts(line):
        where = line.split()[4]
        return where.startswith(str(base)) or not f"{where}/".startswith((tempfile.gettempdir() + "/", "/run/netns/"))
    return [line for line in open("/proc/self/mountinfo") if counts(line)]


def host_state(base, ids=()):
    """What must be the same before and after. Links and control groups of other daemons' containers do not
    count: ids are those of ours."""
    state = {"mount " + line.split()[4] for line in host_mounts(base)}
    for d in os.listdir("/sys/class/net"):
        if re.fullmatch("in[0-9a-f]{12}[a-p]?", d) and d[2:14] in {x[:12] for x in ids}:
            state.add("link " + d)
    for top in ("/sys/fs/cgroup", *[f"/sys/fs/cgroup/{d}" for d in os.listdir("/sys/fs/cgroup")]):
        ins = os.path.join(top, "insula")
        # Other tests make and remove it.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for d in os.listdir(ins):
                if os.path.isdir(os.path.join(ins, d)) and d[:64] in ids:
                    state.add(f"cgroup {ins}/{d}")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = open(f"/proc/{pid}/comm").read().strip()
            cmd = open(f"/proc/{pid}/cmdline", errors="replace").read()
        except OSError:
            continue
        if comm.startswith(OURS) and (str(base) in cmd or str(base) in parent_command(pid)):
            state.add(f"process {comm} {pid}")
    for sub in ("data/containers", "data/tmp", "data/trash", "run/sandboxes"):
        d = pathlib.Path(base) / sub
        if d.is_dir():
            state.update(f"dir {sub}/{n}" for n in os.listdir(d))
    return state


def shared_out(items, place):
    """Those of the files that no other process has taken (INSULA_SHARE): the largest first, one when the one before
    it is nearly done. What uses insula-runtime alone stays together: names of its containers are names of cgroups."""
    bare = {item.path for item in items if "rt" in item.fixturenames}
    files = {}
    for item in items:
        files.setdefault("runtime" if item.path in bare else item.path.name, []).append(item)
    for name in sorted(files, key=lambda n: (-len(files[n]), n)):
        try:
            os.close(os.open(os.path.join(place, name), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        except FileExistsError:
            continue
        yield from files[name]


def pytest_runtestloop(session):
    place = os.environ.get("INSULA_SHARE")
    if not place or session.testsfailed:
        return None
    mine = shared_out(session.items, place)
    item = next(mine, None)
    while item:
        following = next(mine, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item = following
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True


@pytest.fixture(scope="session")
def engine():
    base = tempfile.mkdtemp(prefix="insula-test-")
    e = Engine(base)
    e.start()
    try:
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        yield e
        ids = e.cli("insula", "ps", "-aq").out.split()
        if ids:
            e.cli("insula", "rm", "-f", *ids)
    finally:
        e.stop()
        keep = os.environ.get("INSULA_KEEP")
        if not keep:
            shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=["process", "hyperv"])
def isolation(request):
    return request.param


@pytest.fixture
def own(isolation):
    """A daemon of the test's own, to be killed."""
    base = tempfile.mkdtemp(prefix="insula-test-")
    e = Engine(base)
    e.start()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    c = Cli(e, "insula", isolation)
    before = host_state(base)
    try:
        yield c
        c.cleanup()
        wait_clean(e, before)
    finally:
        e.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=["insula", "docker"])
def cli_name(request):
    return request.param


@pytest.fixture(autouse=True)
def in_time():
    """No test hangs the run."""
    def late(*_):
        raise AssertionError("the test took too long")
    signal.signal(signal.SIGALRM, late)
    signal.alarm(int(os.environ.get("INSULA_TEST_SECONDS", "480")))
    yield
    signal.alarm(0)


def wait_clean(engine, before, since=1, timeout=60):
    """Nothing is left of the containers made since then."""
    end = time.time() + timeout
    while True:
        left = host_state(engine.base, engine.created(since)) - before
        if not left or time.time() > end:
            break
        time.sleep(0.1)
    assert not left, "left behind: " + ", ".join(sorted(left))


@pytest.fixture
def leaks(engine):
    """The host's state is the same after the test as before it."""
    start = int(time.time())
    before = host_state(engine.base)
    yield
    wait_clean(engine, before, start)


@pytest.fixture
def c(engine, isolation, leaks):
    """Our CLI in one isolation mode."""
    cli = Cli(engine, "insula", isolation)
    yield cli
    cli.cleanup()


@pytest.fixture
def both(engine, cli_name, isolation, leaks):
    """Each CLI in each isolation mode."""
    cli = Cli(engine, cli_name, isolation)
    yield cli
    cli.cleanup()
