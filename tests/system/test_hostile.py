"""A corpus of hostile archives and documents, with one expected outcome each: accepted and contained, or refused with a
reason. Whatever comes, nothing outside the staging directory changes (Puller.run sees to that), and memory and disk
that it takes are bounded; docs/IMAGES.md has the bounds."""
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import stat
import subprocess
import tarfile
import zlib

import pytest

from conftest import program, wait_for
from test_images import load
from test_puller import Puller, Tar, config, docker_archive, oci_archive, sha

MEMORY_KIB = 64 << 10
MIB = 1 << 20


@pytest.fixture
def puller(tmp_path):
    p = Puller(tmp_path)
    yield p
    subprocess.run(["rm", "-rf", p.staging], check=True)


def mounted(where, options):
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], check=True)
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.fixture
def quick(tmp_path):
    """Where many files are made and removed in no time."""
    for d in mounted(tmp_path / "quick", "size=512m"):
        yield Puller(d)


def bounded(puller, memory=MEMORY_KIB):
    # a sanitizer's runtime has memory of its own
    if b"__asan_init" not in open(program("insula-puller"), "rb").read():
        assert puller.peak < memory, f"{puller.peak} KiB"


def occupied(path):
    return int(subprocess.run(["du", "-sB1", path], stdout=subprocess.PIPE, check=True, text=True).stdout.split()[0])


def packed(layer, plain):
    """A docker archive whose layer is compressed already; plain: the digest of what comes out."""
    cfg = json.loads(config([]))
    cfg["rootfs"]["diff_ids"] = [plain]
    return docker_archive([layer], cfg=json.dumps(cfg).encode())


def header(name, size=0, type=tarfile.REGTYPE, **kw):
    i = tarfile.TarInfo(name)
    i.size, i.type = size, type
    for k, v in kw.items():
        setattr(i, k, v)
    return i.tobuf(tarfile.GNU_FORMAT)


def padded(b):
    return b + bytes(-len(b) % 512)


# --- bombs ---

def zeros(size, pack=gzip.compress):
    """A tar of one file of zeros, compressed piece by piece; and its digest."""
    piece = bytes(16 * MIB)
    assert size % len(piece) == 0
    n, h = size // len(piece), hashlib.sha256(header("zeros", size))
    for _ in range(n):
        h.update(piece)
    h.update(bytes(1024))
    return pack(header("zeros", size)) + pack(piece) * n + pack(bytes(1024)), "sha256:" + h.hexdigest()


def zstd(b, *args):
    return subprocess.run(["zstd", "-qc", *args], input=b, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress], ids=["gzip", "zstd", "xz"])
def test_zeros(quick, pack):
    """Accepted: what is zero takes no room."""
    bomb, digest = zeros(256 * MIB, pack)
    r = quick.load(packed(bomb, digest))
    assert "error" not in r, r
    f = quick.staging / "layers" / digest[7:] / "zeros"
    assert f.stat().st_size == 256 * MIB and f.stat().st_blocks == 0
    assert occupied(quick.staging) < 4 * len(bomb) + MIB
    bounded(quick, 2 * MEMORY_KIB)


def test_compressed_twice(puller):
    """Refused: each turn multiplies."""
    b = Tar().add("f", bytes(MIB)).bytes()
    r = puller.load(packed(gzip.compress(gzip.compress(b)), sha(b)))
    assert r["error"] == "invalid archive: it is compressed more than once"


def xz_window(b, code):
    """An xz stream that asks for a dictionary of 2 or 3 << (code / 2 + 11) bytes."""
    z = bytearray(lzma.compress(b, preset=0))
    assert z[12:16] == b"\x02\x00\x21\x01"
    z[16] = code
    z[20:24] = zlib.crc32(z[12:20]).to_bytes(4, "little")
    return bytes(z)


@pytest.mark.parametrize("pack", [lambda b: zstd(b, "--ultra", "-22", "--long=31"), lambda b: xz_window(b, 36), lambda b: xz_window(b, 40)],
                         ids=["zstd", "xz of 1 GB", "xz of 4 GB"])
def test_windows_of_gigabytes(puller, pack):
    """Refused: what a decompressor is told to keep is more than it may have."""
    b = Tar().add("f", random.Random(1).randbytes(1 << 16) * 2100).bytes()
    assert "invalid archive" in puller.load(packed(pack(b), sha(b)))["error"]
    bounded(puller, 4 * MEMORY_KIB)


def test_files_without_content(quick):
    """Accepted: each takes an inode, none takes memory."""
    n = 10000
    plain = b"".join(header(f"d{i % 100}/f{i}") for i in range(n)) + bytes(1024)
    d, _ = quick.one(plain)
    assert sum(len(f) for _, _, f in os.walk(d)) == n
    bounded(quick)


@pytest.fixture
def small_disk(tmp_path):
    yield from mounted(tmp_path / "disk", "size=16m,nr_inodes=2000")


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_more_than_the_disk_has(small_disk, what):
    """Refused before the last block and the last inode are gone."""
    p = Puller(small_disk)
    if what == "bytes":
        plain = Tar().add("f", os.urandom(20 * MIB)).bytes()
    else:
        plain = b"".join(header(f"f{i}") for i in range(3000)) + bytes(1024)
    assert "No space left on device" in p.load(packed(gzip.compress(plain), sha(plain)))["error"]
    st = os.statvfs(small_disk)
    assert st.f_bavail > 0 and st.f_favail > 0
    bounded(p)


def test_directories_with_names_of_4_kilobytes(quick):
    """Refused: the times of all directories are kept until the end, and there is an end to that."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as z:
        for i in range(40):
            name = "/".join([f"{i:03}"] + [f"{k:03}" + "z" * 200 for k in range(19)])
            long = name.encode() + b"\0"
            for k in range(500):
                unique = long[:-5] + b"%04d\0" % k
                z.write(header("././@LongLink", len(unique), b"L") + padded(unique) + header("x", type=tarfile.DIRTYPE, mode=0o755))
        z.write(bytes(1024))
    plain = sha(gzip.decompress(out.getvalue()))
    assert "Argument list too long" in quick.load(packed(out.getvalue(), plain))["error"]
    bounded(quick, 2 * MEMORY_KIB)


def test_marks_of_opaque_directories(quick):
    """Refused beyond ten thousand."""
    plain = b"".join(header(f"d{i}/.wh..wh..opq") for i in range(10001)) + bytes(1024)
    assert "Argument list too long" in quick.load(packed(gzip.compress(plain), sha(plain)))["error"]


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_without_end(quick, kind):
    body = b"21 comment=aaaaaaaaa\n" if kind in b"xg" else b"name\0"
    plain = (header("h", len(body), kind) + padded(body)) * 50000 + Tar().add("f", b"1").bytes()
    assert "invalid archive" in quick.load(packed(gzip.compress(plain), sha(plain)))["error"]
    bounded(quick)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_of_gigabytes(puller, kind):
    plain = header("h", 1 << 30, kind) + b"a" * 100000
    assert "invalid archive" in puller.load(packed(gzip.compress(plain), sha(plain)))["error"]
    bounded(puller)


@pytest.mark.parametrize("xattrs", [{f"SCHILY.xattr.user.k{i}": "v" * 20 for i in range(5000)}, {"SCHILY.xattr.user.k": "v" * 70000},
                                    {"SCHILY.xattr.user." + "k" * 300: "v"}], ids=["many", "large", "long name"])
def test_extended_attributes_that_do_not_fit(puller, xattrs):
    error = puller.refused(Tar().add("f", b"1", pax=xattrs).bytes())
    assert error.startswith('unpack "f": ') and "No space" not in error
    bounded(puller)


@pytest.mark.parametrize("name", ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "security.selinux", "security.ima",
                                  "system.posix_acl_access"])
def test_extended_attributes_of_the_host_are_left_out(puller, name):
    d, _ = puller.one(Tar().add("f", b"1", pax={f"SCHILY.xattr.{name}": "y"}).dir("d", pax={f"SCHILY.xattr.{name}": "y"}).bytes())
    assert name not in os.listxattr(d / "f") and name not in os.listxattr(d / "d")


def test_sizes_that_are_not_there(puller):
    assert "Truncated" in puller.refused(header("f", 1 << 40) + b"a" * 1000)
    bounded(puller)


# --- names ---

def test_names_of_4_kilobytes(puller):
    """Accepted below PATH_MAX, if each part is short enough; refused beyond."""
    fits = "/".join(["n" * 250] * 15)
    d, _ = puller.one(Tar().add(fits, b"1").bytes())
    assert sum(len(f) for _, _, f in os.walk(d)) == 1
    assert "outside" in puller.refused(Tar().add("/".join(["n" * 250] * 17), b"1").bytes())


def deep(turns, levels=900):
    """Each link leads to the end of the directories so far: no name is long, and the tree is deeper than any path."""
    t, at = Tar().dir("d/" * levels), "d/" * levels
    for i in range(turns):
        t.link(f"l{i}", at).dir(f"l{i}/" + "d/" * levels)
        at = f"l{i}/" + "d/" * levels
    return t.add(at + "bottom", b"1").bytes()


@pytest.mark.parametrize("layer", [deep(1), deep(2), Tar().add("d/" * 1001 + "f", b"1").bytes(), Tar().dir("d/" * 999).link("l", "d/" * 999).add("l/e/e/e", b"1").bytes()],
                         ids=["twice", "three times", "by name", "by a link"])
def test_deeper_than_any_path(quick, layer):
    assert "File name too long" in quick.refused(layer)


def test_deep_enough_for_anybody(engine, c):
    """A thousand directories: both modes, and gone afterwards."""
    layer = Tar().add("d/" * 1000 + "f", b"bottom").dir("bin").add("bin/busybox", open("/bin/busybox", "rb").read(), mode=0o755).bytes()
    assert load(engine, docker_archive([layer], tags=["deep:1000"]))[0] == 0
    assert c("run", "--rm", "--network", "none", "deep:1000", "/bin/busybox", "cat", "/" + "d/" * 1000 + "f").ok() == "bottom"
    engine.cli("insula", "rmi", "deep:1000").ok()
    wait_for(lambda: os.listdir(engine.data / "trash") == [])


@pytest.mark.parametrize("build", [
    lambda t: t.link("etc", "/etc").add("etc/passwd", b"evil"),
    lambda t: t.link("a", "b").link("b", "../../../../../../../..").add("a/etc/passwd", b"evil"),
    lambda t: t.dir("d").link("d/up", "..").add("d/up/../../../x", b"evil"),
    lambda t: t.link("x", "/proc/self/root").add("x/evil", b"1"),
    lambda t: t.link("x", "/dev/shm").add("x/evil", b"1"),
    lambda t: t.add("f", b"1").hard("g", "f").add("g", b"2").link("f", "/etc/passwd").add("f", b"3"),
    lambda t: t.add("fifo", type=tarfile.FIFOTYPE).add("fifo", b"not blocked"),
    lambda t: t.add("null", type=tarfile.CHRTYPE, major=1, minor=5).add("null", b"a file now"),
    lambda t: t.add("disk", type=tarfile.BLKTYPE, major=8, minor=0, mode=0o666).hard("other", "disk").add("other", b"file"),
    lambda t: t.link(".", "/etc").add("./passwd", b"evil"),
    lambda t: t.dir("d").link("d/.wh.x", "/etc").add("d/.wh..wh..opq", b""),
], ids=["etc", "chain", "up", "proc", "shm", "hard link", "fifo", "device", "disk", "root", "whiteout that is a link"])
def test_links_devices_and_what_is_written_through_them(puller, build):
    """Refused, or it all ends inside: the staging directory is a root of its own."""
    r = puller.load(docker_archive([build(Tar()).bytes()]))
    if "error" in r:
        return
    d = puller.staging / "layers" / r["layers"][0]["chain"][7:]
    for top, _, files in os.walk(d):
        assert os.path.realpath(top).startswith(os.path.realpath(d))
        for f in files:
            st = os.lstat(os.path.join(top, f))
            assert stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode) or st.st_nlink <= 2


# --- bytes that are no archive ---

def test_bit_flips(quick):
    """Of a whole archive, of a compressed one, and of a layer; whatever comes of it, the answer is a document."""
    layer = (Tar().dir("d").add("d/f", b"hello" * 100).link("l", "d/f").hard("h", "d/f").add("x", b"1", pax={"SCHILY.xattr.user.k": "v", "uid": "77"})
             .add(".wh.gone", b"").add("n" * 150, b"long").bytes())
    good = docker_archive([gzip.compress(layer)], cfg=config([layer]))
    rng, accepted = random.Random(7), 0
    for i in range(40):
        b = bytearray(good if i % 2 else layer if i % 4 else gzip.compress(good, 1))
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(b))
            b[at] ^= 1 << rng.randrange(8)
        accepted += "error" not in (quick.load(bytes(b)) if i % 2 or not i % 4 else quick.run("import", bytes(b), json.loads(config([]))))
    assert accepted < 40


@pytest.mark.parametrize("cut", range(0, 100, 9))
def test_cut_off_anywhere(quick, cut):
    layer = Tar().add("f", os.urandom(3000)).dir("d").add("d/g", b"x" * 3000).bytes()
    whole = gzip.compress(docker_archive([gzip.compress(layer)], cfg=config([layer])))
    assert "error" in quick.load(whole[:len(whole) * cut // 100])


# --- documents ---

A = Tar().add("a", b"1").bytes()
CONFIG = json.loads(config([A]))


def with_config(doc):
    return docker_archive([A], cfg=doc if isinstance(doc, bytes) else json.dumps(doc).encode())


@pytest.mark.parametrize("doc, why", [
    (dict(CONFIG, history=[0] * 300000), "more than 200000 values"),
    (dict(CONFIG, config={"Labels": {f"l{i}": "" for i in range(150000)}}), "more than 200000 values"),
    (dict(CONFIG, x="y" * (9 << 20)), "too large"),
    (b"[" * 100000, "nesting too deep"),
    (b'{"a":' * 100000, "nesting too deep"),
    (dict(CONFIG, rootfs={"type": "layers", "diff_ids": [sha(A)] * 600}), "max depth exceeded"),
    (dict(CONFIG, rootfs={"type": "layers", "diff_ids": [sha(A)[:-1]]}), "invalid diff id"),
    (dict(CONFIG, rootfs={"type": "layers", "diff_ids": ["sha256:" + "/" * 64]}), "invalid diff id"),
    (dict(CONFIG, rootfs={"type": "layers", "diff_ids": [7]}), "invalid diff id"),
    (dict(CONFIG, rootfs={"type": "layers", "diff_ids": {"0": sha(A)}}), "expected array"),
    (dict(CONFIG, rootfs=[]), "layers length mismatch"),
    (b"\xff\xfe{}", "invalid JSON"),
    (json.dumps(CONFIG).encode() + b"{}", "invalid JSON"),
    (b'{"architecture":NaN}', "invalid JSON"),
    (b"", "invalid JSON"),
], ids=["values", "labels", "large", "arrays", "objects", "layers", "short digest", "path as digest", "number", "object", "array", "utf-16", "two", "NaN", "empty"])
def test_configs(puller, doc, why):
    assert why in puller.load(with_config(doc))["error"]
    bounded(puller)


@pytest.mark.parametrize("manifest, why", [
    ([0] * 300000, "more than 200000 values"),
    ([{"Config": "config.json", "Layers": ["0/layer.tar"] * 513}], "length mismatch"),
    ([{"Config": "config.json", "Layers": ["../../../../etc/passwd"]}], "No such file"),
    ([{"Config": "config.json", "Layers": ["/etc/passwd"]}], "No such file"),
    ([{"Config": "config.json", "Layers": ["0"]}], "is no file"),
    ([{"Config": "config.json", "Layers": ["0/layer.tar"], "RepoTags": ["a:b", "\u001b[2Jx"]}], "invalid reference format"),
    ([{"Config": "config.json", "Layers": ["0/layer.tar"], "RepoTags": ["../../x:1"]}], "invalid reference format"),
    ([{"Config": "config.json", "Layers": ["0/layer.tar"], "RepoTags": ["a" * 5000]}], "invalid reference format"),
    ([{"Config": "config.json", "Layers": ["config.json"]}], "Unrecognized archive format"),
    ([{"Config": "0/layer.tar", "Layers": ["0/layer.tar"]}], "invalid JSON"),
    ([{"Config": ["config.json"], "Layers": ["0/layer.tar"]}], "no Config"),
], ids=["values", "layers", "up", "absolute", "directory", "escape sequence", "tag up", "long tag", "config as layer", "layer as config", "list"])
def test_manifests_of_docker_archives(puller, manifest, why):
    assert why in puller.load(docker_archive([A], manifest=manifest))["error"]
    bounded(puller)


def test_images_by_the_thousand(puller):
    """Each has its config in the answer: refused where that becomes too much."""
    cfg = json.dumps(dict(CONFIG, x="y" * (1 << 20))).encode()
    assert "too many images" in puller.load(docker_archive([A], cfg=cfg, manifest=[{"Config": "config.json", "Layers": ["0/layer.tar"]}] * 100))["error"]
    bounded(puller, 2 * MEMORY_KIB)


def nested(depth):
    def index(man, put):
        for _ in range(depth):
            man = put(json.dumps({"manifests": [man]}).encode())
        return {"manifests": [man]}
    return index


BAD_DESCRIPTORS = [{"digest": d} for d in ("", "sha256:", "sha256:../../x", "sha512:" + "0" * 128, "SHA256:" + "0" * 64, "sha256:" + "0" * 64, "md5:" + "0" * 32)] + \
                  [{}, {"digest": 7}, {"digest": None}, {"digest": ["sha256:" + "0" * 64]}]


@pytest.mark.parametrize("index, why", [
    (nested(10), "no matching manifest"),
    (lambda man, put: {"manifests": [0] * 300000}, "more than 200000 values"),
    (lambda man, put: {"manifests": "x"}, "no image"),
    (lambda man, put: [], "no image"),
    (lambda man, put: {"manifests": [put(json.dumps({"config": man, "layers": [man] * 600}).encode())]}, ""),
    (lambda man, put: {"manifests": [put(b"{}")]}, "invalid digest"),
    *[(lambda man, put, d=d: {"manifests": [d]}, "") for d in BAD_DESCRIPTORS],
])
def test_layouts(puller, index, why):
    assert why in puller.load(oci_archive([A], index=index))["error"]
    bounded(puller)
