"""The store of images when the disk is full, and when what works on it is killed: it is as before or as it was to be,
nothing is left over, and the next try succeeds."""
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import Engine, program, wait_for
from registry import Proxy, Registry
from test_images import Unix, api, load
from test_puller import Tar, config, docker_archive, sha
from test_store import chain

MIB = 1 << 20
SEED = int(os.environ.get("INSULA_SEED", "1"))


def noise(n, size):
    """Incompressible, the same every time."""
    return Tar().add(f"noise{n}", random.Random(n).randbytes(size)).bytes()


BUSYBOX = Tar().dir("bin").add("bin/busybox", open("/bin/busybox", "rb").read(), mode=0o755).bytes()
BIG = [noise(1, 5 * MIB), noise(2, 2 * MIB), noise(3, 100)]


def quiet(engine):
    """Nothing is being removed or unpacked any more."""
    wait_for(lambda: not os.listdir(engine.data / "tmp") and not os.listdir(engine.data / "trash"))


def check(engine):
    """The store is consistent: what images need is there and whole, and there is nothing else."""
    quiet(engine)
    images = api(engine, "GET", "/images/json")[1]
    chains, ids = set(), set()
    for i in images:
        doc = api(engine, "GET", f"/images/{i['Id']}/json")[1]
        ids.add(i["Id"][7:])
        top = None
        for d in doc["RootFS"]["Layers"]:
            top = sha(f"{top} {d}".encode()) if top else d
            chains.add(top[7:])
    assert set(os.listdir(engine.data / "layers")) == chains
    blobs = set(os.listdir(engine.data / "blobs/sha256"))
    assert ids <= blobs
    for b in blobs:
        assert hashlib.sha256((engine.data / "blobs/sha256" / b).read_bytes()).hexdigest() == b
    for d in (engine.data / "disks").glob("*.erofs"):
        assert d.stem.removeprefix("m-") in chains
    # What is kept of an image's layers is enough to save it.
    for i in images:
        r = subprocess.run(engine.argv("insula", "save", i["Id"]), env=engine.env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert r.returncode == 0, r.stderr
    # An image has a config and perhaps a manifest, a layer has an archive: there is no room for what is nobody's.
    assert len(blobs) <= len(ids) * 2 + len(chains)
    return {i["Id"] for i in images}


# --- the disk is full ---

class SmallDisk:
    """An engine on a tmpfs, and a file that takes what is to be taken."""

    def __init__(self, size):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="insula-full-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.base], check=True)
        self.engine = Engine(self.base / "engine")
        self.filler = self.base / "filler"
        self.engine.start()

    def leave(self, free):
        for attempt in range(20):
            st = os.statvfs(self.base)
            size = st.f_bavail * st.f_frsize - free
            assert size > 0
            try:
                with open(self.filler, "wb") as f:
                    os.posix_fallocate(f.fileno(), 0, size)
                return
            except OSError as e:        # the daemon has written something meanwhile
                assert e.errno == errno.ENOSPC and attempt < 19
                self.all()

    def all(self):
        self.filler.unlink(missing_ok=True)

    def stop(self):
        self.all()
        self.engine.cli("insula", "rm", "-f", *(self.engine.cli("insula", "ps", "-aq").out.split() or ["none"]))
        self.engine.stop()
        self.engine.log.close()
        subprocess.run(["umount", "-l", self.base], check=True)
        os.rmdir(self.base)


@pytest.fixture(scope="module")
def small():
    s = SmallDisk("64m")
    assert load(s.engine, docker_archive([BUSYBOX], tags=["busybox:1"]))[0] == 0
    yield s
    s.stop()


@pytest.fixture(scope="module")
def registry():
    base = pathlib.Path(tempfile.mkdtemp(prefix="insula-faults-"))
    r = Registry(base / "registry")
    (base / "big.tar").write_bytes(docker_archive(BIG))
    r.put(base / "big.tar", "big:1")
    yield r
    r.stop()
    shutil.rmtree(base)


def disks(engine, name):
    """Like a command: what went wrong, and what was said."""
    c = Unix(engine.sock)
    c.request("POST", f"/images/{name}/disks")
    text = c.getresponse().read().decode()
    return ("errorDetail" in text or '"message"' in text), text


def loading(s, registry):
    code, out, err = load(s.engine, docker_archive(BIG, tags=["big:1"]))
    return code, err


def pulling(s, registry):
    r = s.engine.cli("insula", "pull", f"{registry.host}/big:1")
    return r.code, r.err


def importing(s, registry):
    p = subprocess.run(s.engine.argv("insula", "import", "-", "imported:1"), env=s.engine.env(), input=BIG[0], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return p.returncode, p.stderr.decode()


def committing(s, registry):
    r = s.engine.cli("insula", "commit", "written", "committed:1")
    return r.code, r.err


def converting(s, registry):
    return disks(s.engine, "tobig:1")


@pytest.mark.parametrize("what", [loading, pulling, importing, committing, converting])
def test_disk_full_at_any_moment(small, registry, what):
    """From hardly anything to enough for it all: refused with the reason, or done; the store is consistent."""
    e = small.engine
    if what is committing:
        e.cli("insula", "run", "-d", "--name", "written", "--network", "none", "busybox:1", "/bin/busybox", "sh", "-c",
              "/bin/busybox dd if=/dev/urandom of=/f bs=1M count=6 && exec /bin/busybox sleep 1000").ok()
        wait_for(lambda: (s := e.data / "containers").is_dir() and [f for f in s.glob("*/upper/f") if f.stat().st_size == 6 * MIB])
    if what is converting:
        assert load(e, docker_archive(BIG[:1], tags=["tobig:1"]))[0] == 0
    before, refused = check(e), 0
    for free in [200 << 10, MIB, *(n * MIB * 7 // 4 for n in range(1, 14))]:
        small.leave(free)
        code, err = what(small, registry)
        small.all()
        if not code:
            break
        refused += 1
        assert "no space left on device" in err.lower(), err
        assert check(e) == before
        for f in (e.data / "partial").glob("*"):
            f.unlink()
    assert not code and refused >= 3, (code, err, refused)
    made = check(e) - before
    assert len(made) == (what is not converting)
    if what is converting:
        assert len(list(e.data.glob("disks/*.erofs"))) == 1
    e.cli("insula", "rm", "-f", "written")
    for i in check(e) - {sha(config([BUSYBOX]))}:
        e.cli("insula", "rmi", "-f", i).ok()
    check(e)


def test_what_makes_room_works_on_a_full_disk(small, isolation):
    """Not a byte is left: a running container is stopped and removed, which needs a place to be recorded."""
    e = small.engine
    run = ["run", "-d", f"--isolation={isolation}", "--network", "none", "busybox:1", "/bin/busybox", "sleep", "1000"]
    ids = [e.cli("insula", *run).ok() for _ in range(3)]
    e.stop()            # what its log has had of the disk goes with it
    e.start()
    small.leave(0)
    try:
        with open(small.base / "rest", "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(b"x" * 4096):
                pass
        e.cli("insula", "stop", "-t", "0", ids[0]).ok()
        assert e.cli("insula", "rm", "-f", *ids).ok().split() == ids
        assert e.cli("insula", "ps", "-aq").ok() == ""
    finally:
        (small.base / "rest").unlink()
        small.all()


# --- kill -9 ---

@pytest.fixture
def mortal(tmp_path):
    e = Engine(tmp_path / "engine")
    e.start()
    yield e
    e.stop()


def killed_at(engine, p, moment):
    """The command p is at work; the daemon dies after so many seconds and is started again."""
    time.sleep(moment)
    engine.kill9()
    p.communicate(timeout=60)
    engine.start()


def test_killed_while_it_pulls(mortal, registry):
    """The image is there or it is not; what had come is not fetched again."""
    rng, name = random.Random(SEED), f"{registry.host}/big:1"
    t = time.time()
    mortal.cli("insula", "pull", name).ok()
    whole = time.time() - t
    mortal.cli("insula", "rmi", name).ok()
    for _ in range(8):
        killed_at(mortal, mortal.popen("insula", "pull", name), rng.uniform(0, whole * 1.2))
        there = check(mortal)
        assert there <= {sha(config(BIG))}
        mortal.cli("insula", "pull", name).ok()
        assert check(mortal) == {sha(config(BIG))} and os.listdir(mortal.data / "partial") == []
        mortal.cli("insula", "rmi", name).ok()


def test_killed_while_it_loads_and_converts(mortal):
    rng = random.Random(SEED + 1)
    (mortal.base / "big.tar").write_bytes(docker_archive(BIG, tags=["big:1"]))
    for i in range(8):
        if i % 2:
            p = mortal.popen("insula", "load", "-i", mortal.base / "big.tar")
        else:
            mortal.cli("insula", "load", "-i", mortal.base / "big.tar").ok()
            p = subprocess.Popen(["curl", "-s", "--unix-socket", mortal.sock, "-X", "POST", "http://x/images/big:1/disks"], stdout=subprocess.PIPE)
        killed_at(mortal, p, rng.uniform(0, 0.3))
        assert check(mortal) <= {sha(config(BIG))}
    mortal.cli("insula", "load", "-i", mortal.base / "big.tar").ok()
    assert not disks(mortal, "big:1")[0]
    assert {d.stem for d in mortal.data.glob("disks/*.erofs")} == {chain(*BIG[:n + 1]) for n in range(3)}
    check(mortal)


def test_killed_while_it_prunes(mortal):
    """What is left are whole images; another prune removes them."""
    rng = random.Random(SEED + 2)
    for _ in range(6):
        for i in range(8):
            layers = [BIG[2], noise(10 + i, 30000)]
            assert load(mortal, docker_archive(layers, cfg=config(layers, author=str(i)), tags=[f"img{i}:1"]))[0] == 0
        killed_at(mortal, mortal.popen("insula", "image", "prune", "-af"), rng.uniform(0, 0.12))
        check(mortal)
        mortal.cli("insula", "image", "prune", "-af").ok()
        assert check(mortal) == set()
        assert os.listdir(mortal.data / "layers") == os.listdir(mortal.data / "blobs/sha256") == []


def children(engine, name):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read().strip() == name[:15] and \
                    int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]) == engine.proc.pid:
                yield int(pid)
        except OSError:
            pass


@pytest.mark.parametrize("name", ["insula-puller", "insula-registry"])
def test_a_part_of_the_pull_is_killed(mortal, registry, name):
    """A clear error, and the daemon goes on."""
    killed = threading.Event()

    def slowly(h, path):
        if "/blobs/" not in path:
            return False
        r, data = h.fetch()
        h.send_response_only(r.status)
        h.send_header("Content-Length", len(data))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        if len(data) > MIB:     # the config is wanted before the unpacker begins
            killed.wait(60)
        with contextlib.suppress(OSError):
            h.wfile.write(data[len(data) // 2:])
        return True
    proxy = Proxy(registry, slowly)
    try:
        p = mortal.popen("insula", "pull", f"{proxy.host}/big:1")
        os.kill(wait_for(lambda: list(children(mortal, name)))[0], signal.SIGKILL)
        killed.set()
        out, err = p.communicate(timeout=60)
        assert p.returncode == 1 and f"{name} died" in err, (out, err)
        assert check(mortal) == set()
        mortal.cli("insula", "pull", f"{registry.host}/big:1").ok()
    finally:
        proxy.stop()
