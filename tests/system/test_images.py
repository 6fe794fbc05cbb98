"""Images on a running engine: load, import, names, removal, and that both isolation modes see the same layers."""
import http.client
import json
import os
import re
import socket
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import IMAGES, VM_DIR, Engine, wait_for
from registry import skopeo
from test_puller import ARCH, Tar, config, docker_archive, sha

BUSYBOX = "/bin/busybox"


@pytest.fixture(scope="module")
def busybox_bytes():
    for p in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(p):
            return open(p, "rb").read()


@pytest.fixture
def store(engine):
    """Both CLIs, and the images of the test are gone after it."""
    before = set(engine.cli("insula", "images", "-q", "--no-trunc").out.split())
    yield engine
    engine.cli("insula", "rm", "-f", *(engine.cli("insula", "ps", "-aq").out.split() or ["none"]))
    for i in set(engine.cli("insula", "images", "-aq", "--no-trunc").out.split()) - before:
        engine.cli("insula", "rmi", "-f", i)


def load(engine, data, cli="insula", *args):
    p = subprocess.run(engine.argv(cli, "load", *args), env=engine.env(), input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=120)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def small(n=1):
    return Tar().add(f"file{n}", str(n).encode() * 10).bytes()


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def api(engine, method, path, body=None):
    c = Unix(engine.sock)
    c.request(method, path, body)
    r = c.getresponse()
    data = r.read()
    return r.status, json.loads(data) if data[:1] in (b"{", b"[") else data


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_load_names_and_lists(store, cli):
    assert load(store, docker_archive([small()], tags=["one:a", "localhost:5000/x/y:b"]), cli) == \
        (0, "Loaded image: one:a\nLoaded image: localhost:5000/x/y:b\n", "")
    out = store.cli(cli, "images", "--format", "{{.Repository}} {{.Tag}} {{.Size}}").out.splitlines()
    assert "one a 10B" in out and "localhost:5000/x/y b 10B" in out
    assert store.cli(cli, "images", "-q", "--filter", "reference=one").out.split() == store.cli(cli, "images", "-q", "one").out.split()
    got = json.loads(store.cli(cli, "image", "inspect", "one:a").ok())[0] if cli == "docker" else \
        json.loads(store.cli(cli, "inspect", "--type", "image", "one:a").ok())[0]
    assert sorted(got["RepoTags"]) == ["localhost:5000/x/y:b", "one:a"] and got["Id"] == sha(config([small()]))
    assert got["RootFS"] == {"Type": "layers", "Layers": [sha(small())]}


def test_untagged_image(store):
    code, out, _ = load(store, docker_archive([small()], tags=[]))
    assert (code, out) == (0, f"Loaded image ID: {sha(config([small()]))}\n")
    assert store.cli("insula", "images", "-f", "dangling=true", "-q").ok()
    assert sha(config([small()])) in store.cli("insula", "rmi", sha(config([small()]))[7:20]).ok()


def test_loading_a_tag_again_moves_it(store):
    load(store, docker_archive([small(1)], tags=["moved:1"]))
    load(store, docker_archive([small(2)], tags=["moved:1"]))
    ids = api(store, "GET", "/images/json")[1]
    assert {i["Id"]: i["RepoTags"] for i in ids if i["Id"] in (sha(config([small(1)])), sha(config([small(2)])))} == \
        {sha(config([small(1)])): [], sha(config([small(2)])): ["moved:1"]}


def test_a_bad_load_changes_nothing(store):
    before = api(store, "GET", "/images/json")[1]
    a, b = small(1), small(2)
    t = Tar().add("a.tar", a).add("1.json", config([a])).add("2.json", config([b]))
    m = [{"Config": "1.json", "RepoTags": ["good:1"], "Layers": ["a.tar"]}, {"Config": "2.json", "RepoTags": ["busybox:latest"], "Layers": ["a.tar"]}]
    code, _, err = load(store, t.add("manifest.json", json.dumps(m).encode()).bytes())
    assert code == 1 and "invalid diffID for layer" in err
    assert api(store, "GET", "/images/json")[1] == before
    assert os.listdir(store.data / "tmp") == []


def test_foreign_architecture_is_refused(store):
    cfg = json.loads(config([small()]))
    cfg["architecture"] = "s390x"
    code, _, err = load(store, docker_archive([small()], cfg=json.dumps(cfg).encode()))
    assert code == 1 and 'image architecture "s390x" cannot be used on this platform' in err


def test_client_that_goes_away(store):
    whole = docker_archive([Tar().add("big", os.urandom(4 << 20)).bytes()], tags=["cut:1"])
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(store.sock))
    s.sendall(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole[:2 << 20])
    time.sleep(0.3)
    s.close()
    wait_for(lambda: os.listdir(store.data / "tmp") == [])
    assert store.cli("insula", "inspect", "--type", "image", "cut:1").code == 1


def test_slow_client_does_not_block_others(store):
    whole = docker_archive([small()], tags=["slow:1"])
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(store.sock))
    s.sendall(b"POST /images/load?quiet=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole[:1000])
    assert store.cli("insula", "version", timeout=60).code == 0
    s.sendall(whole[1000:])
    answer = s.recv(65536)
    while b"\r\n0\r\n\r\n" not in answer:
        answer += s.recv(65536)
    assert b"200 OK" in answer and b"Loaded image: slow:1" in answer


def test_loads_side_by_side_with_removals(store):
    shared = Tar().add("shared", b"s" * 1000).bytes()
    errors = []

    def work(n):
        for k in range(4):
            code, _, err = load(store, docker_archive([shared, small(n)], tags=[f"par{n}:1"]))
            r = store.cli("insula", "run", "--rm", "--network", "none", f"par{n}:1", "/nothing")
            x = store.cli("insula", "rmi", f"par{n}:1")
            if code or r.code != 127 or x.code:
                errors.append((n, k, err, r, x))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors[0]
    assert not (store.data / "layers" / sha(shared)[7:]).exists()


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_tag_and_rmi(store, cli):
    load(store, docker_archive([small()], tags=["t:1"]))
    iid = sha(config([small()]))
    store.cli(cli, "tag", "t:1", "u/v:2").ok()
    r = store.cli(cli, "rmi", iid[7:19])
    assert r.code == 1 and f"conflict: unable to delete {iid[7:19]} (must be forced) - image is referenced in multiple repositories" in r.err
    assert store.cli(cli, "rmi", "t:1").ok() == "Untagged: t:1"
    assert store.cli(cli, "rmi", "u/v:2").ok().splitlines() == ["Untagged: u/v:2", f"Deleted: {iid}", f"Deleted: {sha(small())}"]
    r = store.cli(cli, "rmi", "u/v:2")
    assert r.code == 1 and "No such image: u/v:2" in r.err
    assert not (store.data / "layers" / sha(small())[7:]).exists()


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_rmi_of_an_image_in_use(store, cli, busybox_bytes):
    layer = Tar().dir("bin").add("bin/busybox", busybox_bytes, mode=0o755).bytes()
    load(store, docker_archive([layer], tags=["used:1"]))
    short = sha(config([layer]))[7:19]
    cid = store.cli(cli, "run", "-d", "--network", "none", "used:1", BUSYBOX, "sleep", "100").ok()
    r = store.cli(cli, "rmi", "used:1")
    assert r.code == 1 and (f'conflict: unable to remove repository reference "used:1" (must force) - container {cid[:12]} '
                            f"is using its referenced image {short}") in r.err
    r = store.cli(cli, "rmi", "-f", short)
    assert r.code == 1 and (f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container "
                            f"{cid[:12]}") in r.err
    store.cli(cli, "kill", cid).ok()
    store.cli(cli, "wait", cid).ok()
    r = store.cli(cli, "rmi", short)
    assert r.code == 1 and (f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container "
                            f"{cid[:12]}") in r.err
    assert store.cli(cli, "rmi", "-f", "used:1").ok() == "Untagged: used:1"
    store.cli(cli, "start", cid).ok()		# it still has its layers
    store.cli(cli, "rm", "-f", cid).ok()
    assert short in "".join(store.cli(cli, "rmi", short).ok().split("sha256:"))


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_import(store, cli, busybox_bytes, tmp_path):
    f = tmp_path / "root.tar"
    f.write_bytes(Tar().dir("bin").add("bin/busybox", busybox_bytes, mode=0o755).link("bin/sh", "busybox").bytes())
    iid = store.cli(cli, "import", "-m", "a message", "-c", 'CMD ["/bin/sh", "-c", "echo $A; pwd"]', "-c", "ENV A=b", "-c", "WORKDIR /w",
                    str(f), "made:1").ok()
    assert iid.startswith("sha256:")
    assert store.cli(cli, "run", "--rm", "--network", "none", "made:1").ok().split() == ["b", "/w"]
    assert "a message" in store.cli(cli, "history", "made:1").ok()
    r = store.cli(cli, "import", "-c", "RUN true", str(f))
    assert r.code == 1 and "RUN is not a valid change command" in r.err


def test_history_has_the_size_of_each_layer(store):
    layers = [small(1), Tar().add("x", b"12345").bytes()]
    history = [{"created_by": "first"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "second"}]
    load(store, docker_archive(layers, cfg=config(layers, history=history), tags=["h:1"]))
    _, h = api(store, "GET", "/images/h:1/history")
    assert [(x["CreatedBy"], x["Size"], x["Id"] == "<missing>") for x in h] == [("second", 5, False), ("ENV", 0, True), ("first", 10, True)]


def test_prune(store):
    load(store, docker_archive([small(1)], tags=[]))
    load(store, docker_archive([small(2)], tags=["kept:1"]))
    status, r = api(store, "POST", "/images/prune")
    assert status == 200 and {"Deleted": sha(config([small(1)]))} in r["ImagesDeleted"] and r["SpaceReclaimed"] >= 10
    assert api(store, "GET", "/images/kept:1/json")[0] == 200
    assert api(store, "POST", "/images/prune?filters=%7B%22x%22%3A%5B%22y%22%5D%7D")[0] == 400


def test_images_survive_the_daemon(store):
    load(store, docker_archive([small()], tags=["stays:1"]))
    orphan = store.data / "tmp" / "orphan"
    (orphan / "layers").mkdir(parents=True)
    lost = store.data / "layers" / ("0" * 64)
    lost.mkdir()
    before = api(store, "GET", "/images/json")[1]
    store.kill9()
    store.start()
    assert api(store, "GET", "/images/json")[1] == before
    assert not orphan.exists() and not lost.exists()


LIST = ("for f in $($B find / -xdev | $B grep -v -E '^/(dev|proc|sys|etc|$)' | $B sort); do $B stat -c '%n %a %u %g %Y %F %t:%T' $f; done; "
        "$B cat /same; $B ls /d /opq")
listings = {}


def test_layers_look_the_same_in_both_modes(c, engine, busybox_bytes):
    """Twenty layers (the lower ones share a disk in hyperv), deletions and an opaque directory."""
    layers = [Tar().dir("bin").add("bin/busybox", busybox_bytes, mode=0o755).dir("d").add("d/old", b"old").add("d/gone", b"x").dir("opq")
              .add("opq/lower", b"l").add("set-id", b"t", mode=0o4711, uid=7, gid=8, mtime=1234567890).dir("tmp", mode=0o1777, mtime=5)
              .add("far", b"1", mtime=3000000000).bytes()]
    for i in range(1, 20):
        t = Tar().add(f"l{i}", str(i).encode(), mtime=1700000000 + i).add("same", str(i).encode())
        if i == 3:
            t.dir("d").add("d/.wh.gone", b"")
        if i == 18:
            t.dir("d").add("d/.wh.old", b"").dir("opq").add("opq/.wh..wh..opq", b"").add("opq/new", b"n").add(".wh.l2", b"")
        layers.append(t.bytes())
    def merged():
        return {d for d in os.listdir(engine.data / "disks") if d.startswith("m-")}
    assert load(engine, docker_archive(layers, tags=["deep:1"]))[0] == 0
    before = merged()
    out = c("run", "--rm", "--network", "none", "-e", f"B={BUSYBOX}", "deep:1", BUSYBOX, "sh", "-c", LIST).ok()
    assert "/d/old" not in out and "/d/gone" not in out and "/opq/lower" not in out and "/l2 " not in out
    assert "/opq/new 644" in out and "/set-id 4711 7 8 1234567890 regular file" in out and "/far 644 0 0 3000000000" in out
    # Made at the start, not of the image.
    listings[c.isolation] = [line for line in out.splitlines() if not line.startswith("/.dockerenv ")]
    if len(listings) == 2:
        assert listings["process"] == listings["hyperv"]
        assert len(merged() - before) == 1
        engine.cli("insula", "rmi", "deep:1").ok()
        wait_for(lambda: not merged() - before)


@pytest.mark.parametrize("name", ["busybox", "debian"])
def test_images_made_here(engine, c, name):
    if not api(engine, "GET", f"/images/{name}/json")[0] == 200:
        engine.cli("insula", "load", "-i", IMAGES / f"{name}.tar").ok()
    assert c("run", "--rm", "--network", "none", name, "sh", "-c", "echo $((6 * 7)) $(id -un) $PATH").ok().split()[:2] == ["42", "root"]
    assert api(engine, "GET", f"/images/{name}/json")[1]["Architecture"] == ARCH


def test_the_most_layers_that_an_image_has(engine, c, busybox_bytes):
    """127, as overlay2 takes; each adds a file and changes one."""
    if not api(engine, "GET", "/images/most:1/json")[0] == 200:
        layers = [Tar().dir("bin").add("bin/busybox", busybox_bytes, mode=0o755).bytes()]
        layers += [Tar().add(f"l{i}", b"x" * i).add("last", str(i).encode()).bytes() for i in range(1, 127)]
        assert load(engine, docker_archive(layers, tags=["most:1"]))[0] == 0
    out = c("run", "--rm", "--network", "none", "most:1", "/bin/busybox", "sh", "-c",
            "/bin/busybox cat /last; echo; /bin/busybox ls / | /bin/busybox grep -c ^l; echo new > /l5; /bin/busybox cat /l5").ok()
    assert out.split() == ["126", "127", "new"]


def test_disks_are_the_same_bit_for_bit(engine, tmp_path, busybox_bytes):
    """Two hosts make the same disk of the same layer."""
    other = Engine(tmp_path / "other")
    other.start()
    t = Tar().add("bin/busybox", busybox_bytes, mode=0o755).link("bin/sh", "busybox").dir("d", mtime=77).add("deep/er/x").add(".wh.gone", b"")
    for i in range(300):
        t.add(f"d/f{i * 7919 % 300}", os.urandom(40) * (i % 50), mtime=i)
    archive, disks = docker_archive([t.hard("d/hard", "d/f1").bytes()], tags=["same:1"]), []
    try:
        for e in (engine, other):
            assert load(e, archive)[0] == 0
            e.cli("insula", "run", "--rm", "--isolation=hyperv", "--network", "none", "same:1", "/bin/busybox", "true").ok()
            chain = json.loads(e.cli("insula", "inspect", "same:1").ok())[0]["RootFS"]["Layers"][0]
            disk = e.data / "disks" / f"{chain[7:]}.erofs"
            disks.append(disk.read_bytes())
            e.cli("insula", "rmi", "same:1").ok()
            wait_for(lambda: not disk.exists())
    finally:
        other.stop()
    assert disks[0] == disks[1]


def tree(top):
    """All that an unpacked file system shows of each name."""
    out = {}
    for d, dirs, files in os.walk(top):
        for n in dirs + files:
            p = os.path.join(d, n)
            st = os.lstat(p)
            xattrs = {a: os.getxattr(p, a, follow_symlinks=False) for a in os.listxattr(p, follow_symlinks=False)}
            data = os.readlink(p) if os.path.islink(p) else open(p, "rb").read() if os.path.isfile(p) else None
            out[os.path.relpath(p, top)] = (oct(st.st_mode), st.st_uid, st.st_gid, st.st_rdev, data, xattrs,
                                            None if os.path.isdir(p) and n in ("proc", "sys") else int(st.st_mtime))
    return out


def odd_layers():
    """What an unpacker can do wrong in one layer, and in a layer over another."""
    cap = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    low = (Tar().dir("d", mode=0o1777, uid=5, gid=6, mtime=123456).add("d/f", b"hello", mode=0o4755, uid=3000000, gid=4000000, mtime=1234567)
           .link("d/rel", "f").link("abs", "/d/f").hard("d/hard", "d/f").add("null", type=tarfile.CHRTYPE, major=1, minor=3, mode=0o666)
           .add("d/fifo", type=tarfile.FIFOTYPE).add("cap", b"x", mode=0o755, pax={"SCHILY.xattr.security.capability": cap.decode("latin-1")})
           .add("l" * 200, b"long").dir("gone").add("gone/in", b"1").dir("opq").add("opq/low", b"2").dir("becomes").add("becomes/x", b"3")
           .add("file", b"4").dir("ro", mode=0o555, mtime=77).add("ro/in", b"5").dir("ro", mode=0o555, mtime=77).bytes())
    high = (Tar().add(".wh.gone", b"").dir("opq", mtime=88).add("opq/.wh..wh..opq", b"").add("opq/high", b"6").dir("opq", mtime=88)
            .add("becomes", b"a file").dir("file", mtime=99).add("file/y", b"7").dir("file", mtime=99).dir("d", mode=0o700, mtime=555)
            .add("d/.wh.rel", b"").dir("d", mode=0o700, mtime=555).add("l" * 200, b"longer").bytes())
    return [low, high, Tar().add("d/f", b"third", mtime=5).dir("d", mode=0o700, mtime=6).add("gone", b"again").bytes()]


@pytest.fixture
def merged(tmp_path):
    """What containers see of an image, as the kernel makes it of our layers."""
    where = tmp_path / "merged"
    where.mkdir()

    def show(engine, name):
        chains = []
        for diff in json.loads(engine.cli("insula", "inspect", name).ok())[0]["RootFS"]["Layers"]:
            chains.append(sha(f"{chains[-1]} {diff}".encode()) if chains else diff)
        dirs = [str(engine.data / "layers" / c[7:]) for c in reversed(chains)]
        (tmp_path / "none").mkdir()
        subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join([*dirs, str(tmp_path / "none")]), "none", where], check=True)
        return where
    yield show
    subprocess.run(["umount", where])


@pytest.mark.parametrize("name", ["debian", "odd:1"])
def test_umoci_unpacks_the_same(engine, store, tmp_path, merged, name):
    """An image as our layers show it, beside umoci's tree of what we save: each file, by all that it has."""
    if name == "odd:1":
        assert load(engine, docker_archive(odd_layers(), tags=[name]))[0] == 0
    elif not api(engine, "GET", "/images/debian/json")[0] == 200:
        engine.cli("insula", "load", "-i", IMAGES / "debian.tar").ok()
    engine.cli("insula", "save", "-o", tmp_path / "save.tar", name).ok()
    skopeo("copy", f"docker-archive:{tmp_path}/save.tar", f"oci:{tmp_path}/layout:x")
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/layout:x", tmp_path / "bundle"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    ours, theirs = tree(merged(engine, name)), tree(tmp_path / "bundle/rootfs")
    assert len(ours) > (1000 if name == "debian" else 15)
    assert {n: (ours[n], theirs.get(n)) for n in ours if ours[n] != theirs.get(n)} == {} and set(theirs) == set(ours)


# --- what an image asks of a kernel ---

@pytest.fixture(scope="module")
def kernels(engine):
    """Of the host and of machines."""
    guest = re.search(rb"(\d+\.\d+\.[^ ]+) \(", (VM_DIR / "vmlinuz").read_bytes()[:1 << 20]).group(1).decode()
    return {"process": os.uname().release, "hyperv": guest}


@pytest.mark.parametrize("declared", [{"os.version": "99.0"}, {"config": {"Labels": {"insula.kernel.min": "99.0"}}}, {"os.features": ["cgroup2", "win32k"]}],
                         ids=["os.version", "label", "os.features"])
def test_a_kernel_that_nobody_has(store, isolation, cli_name, declared, kernels):
    layer = small(7)
    assert load(store, docker_archive([layer], cfg=config([layer], **declared), tags=["needs:1"]))[0] == 0
    r = store.cli(cli_name, "create", f"--isolation={isolation}", "needs:1", "/x")
    what = 'the feature "win32k" of a kernel' if "os.features" in declared else "a kernel of at least 99.0"
    where = "process isolation shares the kernel of this host, " if isolation == "process" else "the kernel of virtual machines here is "
    assert r.code == 1 and f'image "needs:1" needs {what}, and {where}{kernels[isolation]}' in r.err
    assert "use --isolation" not in r.err


def guest_that_claims(where, release):
    """A folder with a guest kernel that is none but says which it is."""
    where.mkdir()
    head = bytearray(0x1000)
    head[0x202:0x206], head[0x20e:0x210] = b"HdrS", (0x800).to_bytes(2, "little")
    text = release.encode() + b" (somebody@somewhere) #1 SMP\0"
    head[0xa00:0xa00 + len(text)] = text
    (where / "vmlinuz").write_bytes(head)
    (where / "initramfs.img").write_bytes(b"")
    return str(where)


@pytest.mark.parametrize("guest, needed, good, bad", [("98.0.0-new", "97.5", "hyperv", "process"), ("1.0.0-old", "3.2", "process", "hyperv")])
def test_a_kernel_that_one_of_the_two_has(tmp_path, guest, needed, good, bad):
    """The refusal says which mode has it."""
    e = Engine(tmp_path / "engine", ["--vm-dir", guest_that_claims(tmp_path / "vm", guest), "--accel", "tcg"])
    layer = small(8)
    e.start()
    try:
        assert load(e, docker_archive([layer], cfg=config([layer], **{"os.version": needed}), tags=["needs:2"]))[0] == 0
        for cli in ("insula", "docker"):
            r = e.cli(cli, "create", f"--isolation={bad}", "--network", "none", "needs:2", "/x")
            here = guest if bad == "hyperv" else os.uname().release
            assert r.code == 1 and f"needs a kernel of at least {needed}, and" in r.err and f"{here}: use --isolation={good}" in r.err
            cid = e.cli(cli, "create", f"--isolation={good}", "--network", "none", "needs:2", "/x").ok()
            e.cli(cli, "rm", cid).ok()
    finally:
        e.stop()


@pytest.mark.parametrize("declared", [{"os.version": "3.2"}, {"config": {"Labels": {"insula.kernel.min": "4.19"}}}, {"os.features": ["cgroup2", "overlayfs"]}],
                         ids=["os.version", "label", "os.features"])
def test_a_kernel_that_both_have(store, isolation, declared):
    layer = Tar().dir("bin").add("bin/busybox", open(BUSYBOX, "rb").read(), mode=0o755).bytes()
    assert load(store, docker_archive([layer], cfg=config([layer], **declared), tags=["needs:3"]))[0] == 0
    assert store.cli("insula", "run", "--rm", f"--isolation={isolation}", "--network", "none", "needs:3", BUSYBOX, "echo", "fits").ok() == "fits"
