"""The store of images: what it occupies and what is freed, as du sees it; the disks of hyperv containers."""
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time

import pytest

from conftest import IMAGES, Engine, wait_for
from registry import Registry
from test_images import Unix, api, busybox_bytes, load  # noqa: F401 (fixture)
from test_puller import Tar, config, docker_archive, sha


@pytest.fixture(scope="module")
def alone():
    """An engine that nobody else uses."""
    base = tempfile.mkdtemp(prefix="insula-store-")
    e = Engine(base)
    e.start()
    yield e
    e.stop()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def store(alone):
    yield alone
    alone.cli("insula", "rm", "-f", *(alone.cli("insula", "ps", "-aq").out.split() or ["none"]))
    alone.cli("insula", "image", "prune", "-af").ok()
    assert api(alone, "GET", "/images/json")[1] == []


def du(*paths):
    """What they occupy together, files with several names once."""
    out = subprocess.run(["du", "-scB1", *map(str, paths)], stdout=subprocess.PIPE, check=True, text=True).stdout
    return int(out.splitlines()[-1].split()[0])


def kept(engine):
    """All that the store keeps of images."""
    found = [*engine.data.glob("layers/*"), *engine.data.glob("blobs/sha256/*"), *engine.data.glob("disks/*.erofs"),
             *engine.data.glob("partial/*")]
    return {p: du(p) for p in found}


def chain(*layers):
    c = sha(layers[0])
    for b in layers[1:]:
        c = sha(f"{c} {sha(b)}".encode())
    return c[7:]


def noise(n, size):
    return Tar().add(f"noise{n}", os.urandom(size)).bytes()


def test_df_is_what_du_says(store, busybox_bytes):  # noqa: F811
    base = Tar().dir("bin").add("bin/busybox", busybox_bytes, mode=0o755).hard("bin/sh", "bin/busybox").bytes()
    one, two = noise(1, 300000), noise(2, 500000)
    for name, top in (("one", one), ("two", two)):
        assert load(store, docker_archive([base, top], cfg=config([base, top], author=name), tags=[f"{name}:1"]))[0] == 0
    store.cli("insula", "volume", "create", "vol").ok()
    cid = store.cli("insula", "run", "-d", "-v", "vol:/v", "--network", "none", "one:1", "/bin/busybox", "sh", "-c",
                    "/bin/busybox dd if=/dev/urandom of=/mine bs=1k count=700; /bin/busybox cp /mine /v/; exec /bin/busybox sleep 1000").ok()
    # Two more disks and their user's scratch disk.
    vm = store.cli("insula", "create", "--isolation", "hyperv", "--network", "none", "one:1", "/bin/busybox", "true").ok()
    store.cli("insula", "start", vm).ok()
    store.cli("insula", "wait", vm).ok()
    wait_for(lambda: not (store.run_dir / "sandboxes" / vm).exists())
    (store.data / "partial").mkdir(exist_ok=True)
    (store.data / "partial" / ("0" * 64)).write_bytes(os.urandom(10000))
    wait_for(lambda: (store.data / "volumes/vol/_data/mine").exists() and (store.data / "volumes/vol/_data/mine").stat().st_size == 700 << 10)
    os.sync()
    df = api(store, "GET", "/system/df")[1]
    sizes = kept(store)
    assert len([p for p in sizes if p.suffix == ".erofs"]) == 2
    assert df["LayersSize"] == sum(sizes.values()) == du(*sizes)
    images = {i["RepoTags"][0]: i for i in df["Images"]}
    shared = [p for p in sizes if chain(base) in p.name or p.name == sha(base)[7:]]
    assert len(shared) == 3
    for name, top, containers in (("one", one, 2), ("two", two, 0)):
        own = [p for p in sizes if chain(base, top) in p.name or p.name in (sha(top)[7:], images[f"{name}:1"]["Id"][7:])]
        assert images[f"{name}:1"]["SharedSize"] == du(*shared)
        assert images[f"{name}:1"]["Size"] == du(*shared, *own)
        assert images[f"{name}:1"]["Containers"] == containers
    assert {c["Id"]: c["SizeRw"] for c in df["Containers"]} == {
        cid: du(store.data / "containers" / cid / "upper"), vm: du(store.data / "containers" / vm / "scratch.ext4")}
    assert [(v["Name"], v["UsageData"]) for v in df["Volumes"]] == [("vol", {"Size": du(store.data / "volumes/vol"), "RefCount": 1})]
    for cli in ("insula", "docker"):
        rows = {r["Type"]: r for r in map(json.loads, store.cli(cli, "system", "df", "--format", "{{json .}}").ok().splitlines())}
        assert (rows["Images"]["TotalCount"], rows["Images"]["Active"]) == ("2", "1")
        assert store.cli(cli, "system", "df", "-v").ok()
    store.cli("insula", "rm", "-f", cid, vm).ok()
    store.cli("insula", "volume", "rm", "vol").ok()


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_prune_counts_what_is_freed(store, cli):
    """Layers that other images have stay, and are not counted."""
    base, a, b = noise(0, 900000), noise(1, 200000), noise(2, 100000)
    for name, tops in (("kept", [a]), ("gone", [b]), ("gone-too", [b, a])):
        layers = [base, *tops]
        assert load(store, docker_archive(layers, cfg=config(layers, author=name), tags=[f"{name}:1"] if name == "kept" else []))[0] == 0
    (store.data / "partial").mkdir(exist_ok=True)
    (store.data / "partial" / ("1" * 64)).write_bytes(os.urandom(20000))
    os.sync()
    before = kept(store)
    r = api(store, "POST", "/images/prune")[1]
    after = kept(store)
    assert r["SpaceReclaimed"] == sum(before.values()) - sum(after.values())
    assert {sha(config([base, b], author="gone"))} <= {x.get("Deleted") for x in r["ImagesDeleted"]}
    assert 100000 < r["SpaceReclaimed"] < 100000 * 2 + 200000 * 2 + 20000 + 50000
    assert (store.data / "layers" / chain(base)).is_dir() and not (store.data / "layers" / chain(base, b)).exists()
    assert store.cli(cli, "image", "prune", "-f").ok() == "Total reclaimed space: 0B"
    before = kept(store)
    out = store.cli(cli, "image", "prune", "-af").ok()
    assert f"deleted: {sha(config([base, a], author='kept'))}" in out and "untagged: kept:1" in out
    assert kept(store) == {} and sum(before.values()) > 1000000
    assert out.splitlines()[-1].startswith("Total reclaimed space: ") and out.splitlines()[-1].endswith("MB")


def test_docker_prunes_the_whole_system(store, busybox_bytes):  # noqa: F811
    """Its last question is for a build cache, of which there is none."""
    other = noise(3, 1000)
    assert load(store, docker_archive([other], tags=[]))[0] == 0
    out = store.cli("docker", "system", "prune", "-f").ok()
    assert f"Deleted Images:\ndeleted: {sha(config([other]))}\n" in out
    assert store.cli("docker", "system", "prune", "-af").ok() == "Total reclaimed space: 0B"


# --- the disks of hyperv containers ---

def make_disks(engine, name):
    """The lines that are answered."""
    c = Unix(engine.sock)
    c.request("POST", f"/images/{name}/disks")
    r = c.getresponse()
    assert r.status == 200
    return [json.loads(x) for x in r.read().decode().splitlines()]


def large(busybox, size=80 << 20):
    """An image whose disk takes a moment, but whose archive is small."""
    zeros = gzip.compress(bytes(1 << 20)) * (size >> 20)
    head = tarfile.TarInfo("zeros")
    head.size = size
    plain = hashlib.sha256(head.tobuf() + bytes(size) + bytes(1024)).hexdigest()
    low = Tar().dir("bin").add("bin/busybox", busybox, mode=0o755).bytes()
    cfg = json.loads(config([low]))
    cfg["rootfs"]["diff_ids"].append("sha256:" + plain)
    return docker_archive([low, gzip.compress(head.tobuf()) + zeros + gzip.compress(bytes(1024))], cfg=json.dumps(cfg).encode(), tags=["large:1"])


def converted(engine, name):
    r = engine.cli("insula", "events", "--since", "1", "--until", int(time.time()) + 1, "--filter", "type=image", "--filter", f"image={name}", "--format",
                   "{{.Action}} {{index .Actor.Attributes \"size\"}}")
    return [x for x in r.ok().splitlines() if x.startswith("convert")]


def test_progress_of_a_conversion(store, busybox_bytes):  # noqa: F811
    assert load(store, large(busybox_bytes))[0] == 0
    lines = make_disks(store, "large:1")
    assert lines[-1] == {"status": "Disks complete"}
    bars = [x for x in lines if x["status"] == "Converting"]
    assert bars and all(0 <= x["progressDetail"]["current"] <= x["progressDetail"]["total"] and x["progress"].startswith("[") for x in bars)
    done = [x["id"] for x in lines if x["status"] == "Disk complete"]
    assert len(done) == len(set(done)) == 2 and {x["id"] for x in bars} <= set(done)
    assert len(list(store.data.glob("disks/*.erofs"))) == 2 and os.listdir(store.data / "tmp") == []
    assert make_disks(store, "large:1") == [{"status": "Disks complete"}]
    assert [x.split()[0] for x in converted(store, "large:1")] == ["convert", "converted"]
    assert api(store, "POST", "/images/none:1/disks")[0] == 404


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_a_first_start_that_takes_a_while_says_so(store, cli, busybox_bytes):  # noqa: F811
    assert load(store, large(busybox_bytes))[0] == 0
    run = ("run", "--rm", "--isolation=hyperv", "--network", "none", "large:1", "/bin/busybox", "stat", "-c", "%s", "/zeros")
    r = store.cli(cli, *run)
    assert r.ok() == str(80 << 20) and "hyperv: the first start converts 8" in r.err
    assert ("Disk complete" in r.err) == (cli == "insula")
    for isolation in ("hyperv", "process"):
        r = store.cli(cli, "create", f"--isolation={isolation}", "--network", "none", "large:1", "/bin/busybox", "true")
        assert r.code == 0 and r.err == ""


def test_a_pull_makes_the_disks_where_machines_are_the_default(tmp_path):
    r = Registry(tmp_path / "registry")
    e = Engine(tmp_path / "engine", ["--isolation", "hyperv"])
    try:
        r.put(IMAGES / "busybox.tar", "busybox:1")
        e.start()
        for cli in ("insula", "docker"):
            out = e.cli(cli, "pull", f"{r.host}/busybox:1").ok()
            assert "Disk complete" in out and out.index("Pull complete") < out.index("Disk complete") < out.index("Digest: ")
            assert len(list(e.data.glob("disks/*.erofs"))) == 1
            assert "Disk complete" not in e.cli(cli, "pull", f"{r.host}/busybox:1").ok()
            e.cli("insula", "rmi", f"{r.host}/busybox:1").ok()
    finally:
        e.stop()
        r.stop()
