"""insula-puller, fed by hand: archives of each kind, and hostile ones. Whatever comes, nothing outside the
staging directory changes, and the answer is one JSON document."""
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile

import pytest

from conftest import BUILD, program

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def sha(b):
    return "sha256:" + hashlib.sha256(b).hexdigest()


class Tar:
    """A tar archive under construction; every add returns self."""

    def __init__(self, fmt=tarfile.PAX_FORMAT):
        self.buf = io.BytesIO()
        self.t = tarfile.open(fileobj=self.buf, mode="w", format=fmt)

    def add(self, name, data=None, type=tarfile.REGTYPE, link="", mode=0o644, uid=0, gid=0, mtime=1000, major=0, minor=0, pax=None):
        i = tarfile.TarInfo(name)
        i.type, i.linkname, i.mode, i.uid, i.gid, i.mtime = type, link, mode, uid, gid, mtime
        i.devmajor, i.devminor = major, minor
        i.pax_headers = pax or {}
        if data is not None:
            i.size = len(data)
        self.t.addfile(i, io.BytesIO(data) if data is not None else None)
        return self

    def dir(self, name, **kw):
        return self.add(name, type=tarfile.DIRTYPE, mode=kw.pop("mode", 0o755), **kw)

    def link(self, name, to, **kw):
        return self.add(name, type=tarfile.SYMTYPE, link=to, **kw)

    def hard(self, name, to):
        return self.add(name, type=tarfile.LNKTYPE, link=to)

    def bytes(self):
        self.t.close()
        return self.buf.getvalue()


def config(layers, **more):
    return json.dumps({"architecture": ARCH, "os": "linux", "config": {},
                       "rootfs": {"type": "layers", "diff_ids": [sha(b) for b in layers]}, **more}).encode()


def docker_archive(layers, cfg=None, tags=("x:1",), names=None, manifest=None):
    """What docker save wrote before 25: CONFIG.json, N/layer.tar, manifest.json."""
    cfg = config(layers) if cfg is None else cfg
    t = Tar()
    names = names or [f"{n}/layer.tar" for n in range(len(layers))]
    for n, b in zip(names, layers):
        t.add(n, b)
    t.add("config.json", cfg)
    m = [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}] if manifest is None else manifest
    return t.add("manifest.json", json.dumps(m).encode()).bytes()


def oci_archive(layers, media="tar", index=None, corrupt=None, name="docker.io/library/o:2"):
    """An OCI layout without manifest.json."""
    blobs = {}

    def put(b):
        blobs[sha(b)] = b
        return {"digest": sha(b), "size": len(b)}

    cfg = put(config([gzip.decompress(b) if media == "tar+gzip" else b for b in layers]))
    ls = [dict(put(b), mediaType="application/vnd.oci.image.layer.v1." + media) for b in layers]
    man = put(json.dumps({"schemaVersion": 2, "config": cfg, "layers": ls}).encode())
    man["annotations"] = {"io.containerd.image.name": name}
    t = Tar().add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    t.add("index.json", json.dumps(index(man, put) if index else {"schemaVersion": 2, "manifests": [man]}).encode())
    for d, b in blobs.items():
        t.add("blobs/sha256/" + d[7:], b"garbage" if corrupt and corrupt(b) else b)
    return t.bytes()


class Puller:
    """One call of insula-puller after the other, with a staging directory of its own for each."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.outside = tmp / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("intact")
        self.staging = tmp / "staging"
        self.n = 0

    def run(self, mode, data, cfg=None):
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(mode=0o700)
        self.before = snapshot(self.outside)
        d = os.open(self.staging, os.O_RDONLY | os.O_DIRECTORY)
        sh = f"exec {BUILD}/tests/peak {program('insula-puller')} {mode} 3</proc/self/fd/{d}"
        fds = [d]
        if cfg is not None:
            r, w = os.pipe()
            os.write(w, json.dumps(cfg).encode())
            os.close(w)
            fds.append(r)
            sh += f" 4</proc/self/fd/{r}"
        p = subprocess.run(["sh", "-c", sh], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=fds, timeout=200)
        for f in fds:
            os.close(f)
        assert p.returncode in (0, 1), (p.returncode, p.stderr)
        self.peak = int(p.stdout)       # KiB
        self.result = json.loads(p.stderr.rsplit(b"\n", 1)[-1])
        assert ("error" in self.result) == (p.returncode == 1)
        assert snapshot(self.outside) == self.before, "something outside the staging directory has changed"
        return self.result

    def load(self, data):
        return self.run("load", data)

    def one(self, layer):
        """Loads an image of this one layer, which must work; returns the layer's directory and description."""
        r = self.load(docker_archive([layer]))
        assert "error" not in r, r
        return self.staging / "layers" / r["layers"][0]["chain"][7:], r["layers"][0]

    def refused(self, layer):
        r = self.load(docker_archive([layer]))
        assert "error" in r, "this was accepted"
        return r["error"]


def snapshot(top):
    out = {}
    for p in [top, *sorted(top.rglob("*"))]:
        st = os.lstat(p)
        out[str(p)] = (st.st_mode, st.st_uid, st.st_nlink, st.st_mtime_ns, p.read_bytes() if p.is_file() else b"")
    return out


@pytest.fixture
def puller(tmp_path):
    return Puller(tmp_path)


# --- what is in an archive ---

def test_entries_of_all_kinds(puller):
    cap = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    long = "d/" * 40 + "x" * 200
    layer = (Tar().dir("d", mode=0o1777, uid=5, gid=6, mtime=123456)
             .add("d/f", b"hello", mode=0o4755, uid=3000000, gid=4000000, mtime=1234567.25)
             .link("d/rel", "f").link("abs", "/d/f").hard("d/hard", "d/f").hard("linked", "abs")
             .add("d/fifo", type=tarfile.FIFOTYPE).add("null", type=tarfile.CHRTYPE, major=1, minor=3, mode=0o666)
             .add("blk", type=tarfile.BLKTYPE, major=7, minor=99)
             .add("ping", b"x", mode=0o755, pax={"SCHILY.xattr.security.capability": cap.decode("latin-1")})
             .add("u", b"u", pax={"SCHILY.xattr.user.k": "v", "SCHILY.xattr.trusted.overlay.opaque": "y"})
             .add("gr\u00fc\u00df/\u65e5\u672c", b"utf").add(long, b"long").add("ro/in", b"1").dir("ro", mode=0o555, mtime=77)
             .bytes())
    d, _ = puller.one(layer)
    st = os.lstat(d / "d")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime) == (0o1777, 5, 6, 123456)
    st = os.lstat(d / "d/f")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime) == (0o4755, 3000000, 4000000, 1234567.25)
    assert os.lstat(d / "d/hard").st_ino == st.st_ino
    assert os.readlink(d / "d/rel") == "f" and os.readlink(d / "abs") == "/d/f"
    assert os.readlink(d / "linked") == "/d/f"
    assert stat.S_ISFIFO(os.lstat(d / "d/fifo").st_mode)
    st = os.lstat(d / "null")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3) and stat.S_IMODE(st.st_mode) == 0o666
    assert stat.S_ISBLK(os.lstat(d / "blk").st_mode)
    assert len(os.getxattr(d / "ping", "security.capability")) == 20
    assert os.getxattr(d / "u", "user.k") == b"v"
    assert "trusted.overlay.opaque" not in os.listxattr(d / "u")
    assert (d / "gr\u00fc\u00df/\u65e5\u672c").read_bytes() == b"utf"
    assert (d / long).read_bytes() == b"long"
    st = os.lstat(d / "ro")
    assert stat.S_IMODE(st.st_mode) == 0o555 and st.st_mtime == 77


def test_names_that_are_not_utf8(puller):
    t = Tar(tarfile.GNU_FORMAT)
    t.t.encoding, t.t.errors = "latin-1", "strict"
    d, _ = puller.one(t.add("caf\u00e9", b"1").bytes())
    assert os.listdir(os.fsencode(d)) == [b"caf\xe9"]


def test_sparse_file(puller, tmp_path):
    f = tmp_path / "sparse"
    with open(f, "wb") as w:
        w.write(b"head")
        w.seek(8 << 20)
        w.write(b"tail")
    for fmt in ("gnu", "posix"):
        layer = subprocess.run(["tar", "-C", tmp_path, "--sparse", f"--format={fmt}", "-cf", "-", "sparse"],
                               stdout=subprocess.PIPE, check=True).stdout
        d, _ = puller.one(layer)
        assert (d / "sparse").read_bytes() == f.read_bytes()
        assert os.stat(d / "sparse").st_blocks * 512 < 1 << 20


def test_whiteouts(puller):
    layer = (Tar().dir("d").add("d/.wh..wh..opq", b"").add("d/kept", b"1").add("d/.wh.gone", b"").add(".wh.top", b"")
             .add(".wh..wh.plnk/1.2", b"aufs").dir("e").add("e/.wh..wh.aufs", b"").bytes())
    d, desc = puller.one(layer)
    assert desc["opaque"] == ["d"]
    for p in ("d/gone", "top"):
        st = os.lstat(d / p)
        assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert sorted(os.listdir(d)) == ["d", "e", "top"] and sorted(os.listdir(d / "d")) == ["gone", "kept"]
    assert os.listdir(d / "e") == []


def test_later_entries_replace_earlier(puller):
    layer = (Tar().add("a", b"1").dir("a").add("a/x", b"2").add("b/c/d", b"3").add("b/c", b"4").link("s", "b").dir("s").add("s/t", b"5")
             .dir("keep").add("keep/x", b"6").dir("keep", mode=0o700).bytes())
    d, _ = puller.one(layer)
    assert (d / "a/x").read_text() == "2" and (d / "b/c").read_text() == "4"
    assert not (d / "s").is_symlink() and (d / "s/t").read_text() == "5" and not (d / "b/t").exists()
    assert (d / "keep/x").read_text() == "6" and stat.S_IMODE(os.lstat(d / "keep").st_mode) == 0o700


@pytest.mark.parametrize("pack", ["plain", "gzip", "gzip members", "xz", "bzip2", "zstd"])
def test_compressions(puller, pack):
    plain = Tar().add("f", b"data" * 5000).bytes()
    half = len(plain) // 2
    packed = {"plain": lambda b: b, "gzip": gzip.compress, "gzip members": lambda b: gzip.compress(b[:half]) + gzip.compress(b[half:]),
              "xz": lzma.compress, "bzip2": bz2.compress,
              "zstd": lambda b: subprocess.run(["zstd", "-c"], input=b, stdout=subprocess.PIPE, check=True).stdout}[pack](plain)
    r = puller.load(docker_archive([packed], cfg=config([plain])))
    assert "error" not in r, r
    assert r["images"][0]["chains"] == [sha(plain)]
    whole = docker_archive([plain])
    assert "error" not in puller.load(gzip.compress(whole))


def test_chain_ids_and_shared_layers(puller):
    a, b = Tar().add("a", b"1").bytes(), Tar().add("b", b"2").bytes()
    chain = sha((sha(a) + " " + sha(b)).encode())
    t = Tar().add("a.tar", a).add("b.tar", b).add("1.json", config([a, b])).add("2.json", config([a]))
    m = [{"Config": "1.json", "RepoTags": ["one:1"], "Layers": ["a.tar", "b.tar"]}, {"Config": "2.json", "RepoTags": None, "Layers": ["a.tar"]}]
    r = puller.load(t.add("manifest.json", json.dumps(m).encode()).bytes())
    assert [i["chains"] for i in r["images"]] == [[sha(a), chain], [sha(a)]]
    assert [i["tags"] for i in r["images"]] == [["one:1"], []]
    assert r["images"][0]["id"] == sha(config([a, b]))
    assert [x["chain"] for x in r["layers"]] == [sha(a), chain]


def test_old_save_with_links_between_layers(puller):
    a = Tar().add("a", b"1").bytes()
    t = Tar().add("L1/layer.tar", a).link("L2/layer.tar", "../L1/layer.tar").add("c.json", config([a, a]))
    m = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["L1/layer.tar", "L2/layer.tar"]}]
    assert "error" not in puller.load(t.add("manifest.json", json.dumps(m).encode()).bytes())


# --- OCI layouts ---

@pytest.mark.parametrize("media", ["tar", "tar+gzip"])
def test_oci_layout(puller, media):
    plain = Tar().add("f", b"1").bytes()
    r = puller.load(oci_archive([gzip.compress(plain) if media == "tar+gzip" else plain], media))
    assert "error" not in r, r
    assert r["images"][0]["tags"] == ["docker.io/library/o:2"] and r["images"][0]["chains"] == [sha(plain)]


def test_oci_index_selects_this_machine(puller):
    plain = Tar().add("f", b"1").bytes()

    def index(man, put):
        foreign = dict(put(b"{}"), platform={"os": "unknown", "architecture": "unknown"})
        inner = put(json.dumps({"manifests": [foreign, dict(man, platform={"os": "linux", "architecture": ARCH})]}).encode())
        return {"manifests": [inner]}
    r = puller.load(oci_archive([plain], index=index))
    assert "error" not in r and len(r["images"]) == 1, r
    r = puller.load(oci_archive([plain], index=lambda man, put: {"manifests": [put(json.dumps(
        {"manifests": [dict(man, platform={"os": "linux", "architecture": "s390x"})]}).encode())]}))
    assert r["error"] == f"no matching manifest for linux/{ARCH} in the manifest list entries"


def test_oci_wrong_digest(puller):
    plain = Tar().add("f", b"1").bytes()
    r = puller.load(oci_archive([plain], corrupt=lambda b: b == plain))
    assert r["error"] == f"filesystem layer verification failed for digest {sha(plain)}"


# --- import ---

def test_import(puller):
    plain = Tar().add("f", b"1").bytes()
    r = puller.run("import", gzip.compress(plain), {"architecture": ARCH, "os": "linux", "config": {"Cmd": ["sh"]}})
    assert "error" not in r, r
    i = r["images"][0]
    c = json.loads(i["config"])
    assert c["rootfs"] == {"type": "layers", "diff_ids": [sha(plain)]} and c["config"]["Cmd"] == ["sh"]
    assert i["id"] == sha(i["config"].encode())


# --- what does not fit together ---

def test_wrong_diff_id(puller):
    a, b = Tar().add("a", b"1").bytes(), Tar().add("b", b"2").bytes()
    assert puller.load(docker_archive([a], cfg=config([b])))["error"] == f'invalid diffID for layer 0: expected "{sha(b)}", got "{sha(a)}"'


def test_wrong_layer_count(puller):
    a = Tar().add("a", b"1").bytes()
    assert puller.load(docker_archive([a], cfg=config([a, a])))["error"] == \
        "invalid manifest, layers length mismatch: expected 1, got 2"


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x1f\x8b\x08\x00garbage", Tar().add("x", b"1").bytes(),
                                  Tar().add("manifest.json", b"{}").bytes(), Tar().add("manifest.json", b"[]").bytes(),
                                  Tar().add("manifest.json", b"[" * 5000).bytes(), Tar().add("manifest.json", b"[1]").bytes(),
                                  Tar().add("manifest.json", b'[{"Config":"/etc/passwd"}]').bytes(),
                                  Tar().add("manifest.json", b'[{"Config":"../../../../etc/passwd"}]').bytes(),
                                  Tar().link("manifest.json", "/etc/passwd").bytes(),
                                  Tar().dir("manifest.json").bytes(),
                                  Tar().add("index.json", b'{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}').bytes()],
                         ids=["empty", "text", "bad gzip", "no manifest", "object", "no image", "deep", "number", "no layers", "path out",
                              "link out", "directory", "digest out"])
def test_not_an_image(puller, data):
    assert "invalid" in puller.load(data)["error"] or "expected" in puller.result["error"] or "No such file" in puller.result["error"]


@pytest.mark.parametrize("cut", [1, 300, 600, 5000])
def test_truncated(puller, cut):
    whole = gzip.compress(docker_archive([Tar().add("f", os.urandom(20000)).bytes()]))
    assert "error" in puller.load(whole[:-cut] if cut < len(whole) else b"")


def test_bad_tag_is_refused_before_anything_is_stored(puller):
    a = Tar().add("a", b"1").bytes()
    assert "invalid reference format" in puller.load(docker_archive([a], tags=["ok:1", "NOT:OK"]))["error"]


# --- hostile names ---

@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "..", "./../x", "a/../../../outside/victim"])
def test_names_that_leave_the_root(puller, name):
    assert "outside" in puller.refused(Tar().add(name, b"evil").bytes())


@pytest.mark.parametrize("name", ["/etc/passwd", "//x", "./a/./b", "a/../b", "/../../victim"])
def test_names_that_stay_inside(puller, name):
    d, _ = puller.one(Tar().add(name, b"1").bytes())
    assert (d / os.path.normpath("/" + name).lstrip("/")).read_bytes() == b"1"


def test_symlinks_do_not_lead_out(puller):
    o = str(puller.outside)
    layer = (Tar().link("abs", o).link("rel", "../" * 20 + o).link("chain1", "chain2").link("chain2", "abs").link("dot", "..")
             .add("abs/victim", b"evil1").add("rel/victim", b"evil2").add("chain1/more", b"evil3").add("dot/dotted", b"evil4").bytes())
    r = puller.load(docker_archive([layer]))
    if "error" not in r:
        d = puller.staging / "layers" / r["layers"][0]["chain"][7:]
        assert (d / o.lstrip("/") / "victim").exists()


def test_symlink_to_file_is_replaced_not_followed(puller):
    d, _ = puller.one(Tar().link("f", str(puller.outside / "victim")).add("f", b"mine").bytes())
    assert not (d / "f").is_symlink() and (d / "f").read_text() == "mine"


def test_symlink_loop(puller):
    assert "f" in puller.refused(Tar().link("a", "b").link("b", "a").add("a/f", b"1").bytes())


@pytest.mark.parametrize("target", ["../../outside/victim", "/../outside/victim", "a/../../x", "missing"])
def test_hardlink_out(puller, target):
    puller.refused(Tar().hard("h", target).bytes())
    assert os.lstat(puller.outside / "victim").st_nlink == 1


def test_hardlink_through_symlink(puller):
    puller.refused(Tar().link("out", str(puller.outside)).hard("h", "out/victim").bytes())
    assert os.lstat(puller.outside / "victim").st_nlink == 1


def test_proc_and_descriptors_are_not_reachable(puller):
    """The descriptor of the staging directory must not be a way around the root."""
    r = puller.load(docker_archive([Tar().link("p", "/proc/self/fd/3").add("p/x", b"1").bytes()]))
    assert "error" in r or not (puller.staging / "x").exists()


def test_whiteout_names(puller):
    for name in (".wh.", ".wh...", ".wh.."):
        puller.refused(Tar().add(name, b"").bytes())
        puller.refused(Tar().add("d/" + name, b"").bytes())


def test_opaque_directories_are_named_once_and_by_their_own_name(puller):
    puller.refused(Tar().dir("d").link("s", "d").add("s/.wh..wh..opq", b"").bytes())
    _, desc = puller.one(Tar().add("d/.wh..wh..opq", b"").add("d/.wh..wh..opq", b"").add("e/.wh..wh..opq", b"").add("e", b"file").bytes())
    assert desc["opaque"] == ["d"]


@pytest.mark.parametrize("length", [256, 5000])
def test_long_names(puller, length):
    puller.refused(Tar().add("n" * length, b"1").bytes())


def test_deep_names(puller):
    puller.refused(Tar().add("d/" * 3000 + "f", b"1").bytes())


@pytest.mark.parametrize("uid", [2**32, 2**32 - 1, 2**62])
def test_owners_that_do_not_fit(puller, uid):
    assert "owner" in puller.refused(Tar().add("f", b"1", uid=uid, pax={"uid": str(uid)}).bytes())


def test_times_far_away(puller):
    d, _ = puller.one(Tar().add("old", b"1", mtime=-5, pax={"mtime": "-5.5"}).add("far", b"1", pax={"mtime": str(2**40)}).dir("d", mtime=2**33).bytes())
    assert (d / "old").exists() and (d / "far").exists()


def test_sparse_bomb(puller):
    """A file that claims more than any disk has."""
    size = 1 << 61
    layer = Tar().add("f", b"1\n0\n1\n" + b"\0" * 506 + b"x", pax={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "bomb", "GNU.sparse.realsize": str(size)}).bytes()
    assert "File too large" in puller.refused(layer)


def test_devices_in_the_outer_archive(puller):
    a = Tar().add("a", b"1").bytes()
    t = Tar().add("layer", type=tarfile.BLKTYPE, major=8, minor=0).add("c.json", config([a]))
    r = puller.load(t.add("manifest.json", json.dumps([{"Config": "c.json", "Layers": ["layer"]}]).encode()).bytes())
    assert "error" in r


def test_entries_by_the_thousand(puller):
    t = Tar()
    for i in range(5000):
        t.add(f"d{i % 50}/f{i}", b"x")
    d, desc = puller.one(t.bytes())
    assert sum(len(f) for _, _, f in os.walk(d)) == 5000 and desc["size"] == 5000
