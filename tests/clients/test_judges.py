"""What others make of our images, and we of theirs: dockerd 20.10 and umoci, with a registry between them or an archive.
(skopeo and the CLIs: tests/system/test_push.py, test_pull.py; trees that are unpacked: test_images.py there.)"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/system"), str(ROOT / "bench")]
import peers                    # noqa: E402
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import IMAGES, Cli       # noqa: E402
from registry import Registry, skopeo       # noqa: E402

# A file of the base is gone, a directory is made anew, a program has another name for itself, one is sparse.
CHANGE = "rm /bin/wget && rm -r /home && mkdir -p /home/new && echo two >/home/new/file && ln /bin/busybox /bin/again && " \
         "truncate -s 3000001 /sparse && chown 12:13 /sparse && chmod 4750 /sparse"
LOOK = "[ ! -e /bin/wget ] && ls /home; cat /home/new/file; stat -c '%u:%g %a %s' /sparse; [ /bin/again -ef /bin/busybox ] && echo one"
SEEN = ["new", "two", "12:13", "4750", "3000001", "one"]


@pytest.fixture(scope="module")
def base():
    d = tempfile.mkdtemp(prefix="insula-judges-")
    yield pathlib.Path(d)
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="module")
def registry(base):
    r = Registry(base / "registry")
    yield r
    r.stop()


@pytest.fixture(scope="module")
def docker(base, registry):
    """dockerd in namespaces of its own, where the same registry answers."""
    place = peers.Place()
    there = d = None
    try:
        there = subprocess.Popen(place.at("docker-registry", "serve", registry.base / "config.yml"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        d = peers.Docker(place, base, IMAGES / "busybox.tar")
        yield d
    finally:
        if d:
            d.stop()
        if there:
            there.terminate()
            there.wait(60)
        place.stop()


@pytest.fixture
def own_images(engine):
    """The images of the test are gone after it."""
    before = set(engine.cli("insula", "images", "-q", "--no-trunc").out.split())
    yield
    for i in set(engine.cli("insula", "images", "-q", "--no-trunc").out.split()) - before:
        engine.cli("insula", "rmi", "-f", i).ok()


def changed(run, commit, name):
    """An image of two layers, made by whoever is asked."""
    run("run", "--name", "change", "--network", "none", "busybox", "sh", "-c", CHANGE)
    commit("commit", "-m", "a change", "-c", "ENV COLOUR=blue", "change", name)
    run("rm", "change")


def looks_right(said):
    assert said.split() == SEEN


def run_in_both(engine, name):
    for isolation in ("process", "hyperv"):
        c = Cli(engine, "insula", isolation)
        looks_right(c("run", "--rm", "--network", "none", name, "sh", "-c", LOOK).ok())
        assert c("run", "--rm", "--network", "none", name, "sh", "-c", "echo $COLOUR").ok() == "blue"


def ids(engine, docker, name):
    ours = json.loads(engine.cli("insula", "image", "inspect", name).ok())[0]
    theirs = json.loads(docker("image", "inspect", name))[0]
    return [(i["Id"], i["RootFS"]["Layers"], i["Config"]["Env"]) for i in (ours, theirs)]


@pytest.mark.parametrize("how", ["registry", "archive"])
def test_docker_takes_ours(engine, own_images, docker, registry, base, how):
    name = f"{registry.host}/ours:{how}"
    changed(lambda *a: engine.cli("insula", *a).ok(), lambda *a: engine.cli("insula", *a).ok(), name)
    if how == "registry":
        engine.cli("insula", "push", name).ok()
        docker("pull", name)
    else:
        engine.cli("insula", "save", "-o", base / "ours.tar", name).ok()
        assert name in docker("load", "-i", base / "ours.tar")
    ours, theirs = ids(engine, docker, name)
    assert ours == theirs and len(ours[1]) == 2
    looks_right(docker("run", "--rm", "--network", "none", name, "sh", "-c", LOOK))
    assert docker("run", "--rm", "--network", "none", name, "sh", "-c", "echo $COLOUR") == "blue"
    docker("rmi", name)


@pytest.mark.parametrize("how", ["registry", "archive"])
def test_we_take_dockers(engine, own_images, docker, registry, base, how):
    name = f"{registry.host}/theirs:{how}"
    changed(docker, docker, name)
    if how == "registry":
        digest = docker("push", name).split("digest: ")[1].split()[0]
        assert f"Digest: {digest}" in engine.cli("insula", "pull", name).ok()
    else:
        docker("save", "-o", base / "theirs.tar", name)
        assert name in engine.cli("insula", "load", "-i", base / "theirs.tar").ok()
    ours, theirs = ids(engine, docker, name)
    assert ours == theirs and len(ours[1]) == 2
    run_in_both(engine, name)
    docker("rmi", name)


@pytest.mark.parametrize("how", ["registry", "archive"])
def test_we_take_umocis(engine, own_images, registry, tmp_path, how):
    """An OCI layout of umoci's, whose second layer is what it finds changed in the tree."""
    umoci = lambda *a: subprocess.run(["umoci", *map(str, a)], check=True, capture_output=True)
    name, layout = f"{registry.host}/umoci:{how}", tmp_path / "layout"
    skopeo("copy", f"docker-archive:{IMAGES}/busybox.tar", f"oci:{layout}:base")
    umoci("unpack", "--image", f"{layout}:base", tmp_path / "bundle")
    subprocess.run(["chroot", tmp_path / "bundle/rootfs", "/bin/sh", "-ec", CHANGE], check=True)
    umoci("repack", "--image", f"{layout}:made", tmp_path / "bundle")
    umoci("config", "--image", f"{layout}:made", "--config.env", "COLOUR=blue")
    want = json.loads(skopeo("inspect", "--raw", f"oci:{layout}:made"))["config"]["digest"]
    if how == "registry":
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:made", f"docker://{name}")
        engine.cli("insula", "pull", name).ok()
    else:
        skopeo("copy", f"oci:{layout}:made", f"oci-archive:{tmp_path}/umoci.tar:{name}")
        assert name in engine.cli("insula", "load", "-i", tmp_path / "umoci.tar").ok()
    assert json.loads(engine.cli("insula", "image", "inspect", name).ok())[0]["Id"] == want
    run_in_both(engine, name)
