"""Pushing, saving, logging in: what insula gives, skopeo and the docker CLI take, and the other way round."""
import gzip
import io
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile

import pytest

from conftest import IMAGES, Cli
from registry import PASSWORD, USER, Proxy, Registry, skopeo
from test_images import api, load
from test_pull import MANIFEST, base, engine, image, layer, locked, proxy, pulling, put_raw, registry, store_of  # noqa: F401 (fixtures)
from test_puller import ARCH, Tar, config, docker_archive, oci_archive, sha


@pytest.fixture
def busybox(engine):
    engine.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    return engine.cli("insula", "images", "-q", "--no-trunc", "busybox").ok()


@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_push_then_skopeo_reads(engine, registry, busybox, cli):
    name = f"{registry.host}/pushed-{cli}:1"
    engine.cli("insula", "tag", "busybox", name).ok()
    out = engine.cli(cli, "push", name).ok()
    assert f"The push refers to repository [{registry.host}/pushed-{cli}]" in out and ": Pushed" in out
    seen = registry.inspect(f"pushed-{cli}:1")
    raw = registry.raw(f"pushed-{cli}:1")
    assert f"1: digest: {seen['Digest']} size: {len(raw)}" in out
    assert registry.config_digest(f"pushed-{cli}:1") == busybox
    assert json.loads(raw)["layers"][0]["mediaType"].endswith(".gzip")
    i = json.loads(engine.cli("insula", "inspect", "--type", "image", name).ok())[0]
    assert f"{registry.host}/pushed-{cli}@{seen['Digest']}" in i["RepoDigests"]
    # once more: nothing travels
    assert "Layer already exists" in engine.cli(cli, "push", name).ok()


def test_what_was_pushed_runs_elsewhere(engine, registry, busybox, isolation):
    name = f"{registry.host}/round:1"
    engine.cli("insula", "tag", "busybox", name).ok()
    engine.cli("insula", "push", name).ok()
    engine.cli("insula", "rmi", "-f", busybox).ok()
    c = Cli(engine, "insula", isolation)
    assert c("run", "--rm", "--network", "none", name, "echo", "back").ok() == "back"
    assert engine.cli("insula", "images", "-q", "--no-trunc").ok() == busybox


def test_the_digest_stays(engine, registry, base):
    """An image that came from a registry goes to another with the manifest it came with."""
    digest = registry.inspect("three:1")["Digest"]
    engine.cli("insula", "pull", f"{registry.host}/three:1").ok()
    engine.cli("insula", "tag", f"{registry.host}/three:1", f"{registry.host}/four:2").ok()
    out = engine.cli("insula", "push", f"{registry.host}/four:2").ok()
    assert f"2: digest: {digest}" in out and "Mounted from three" in out
    assert registry.inspect("four:2")["Digest"] == digest


def test_push_with_password(engine, locked, busybox, tmp_path):
    name = f"{locked.host}/mine:1"
    engine.cli("insula", "tag", "busybox", name).ok()
    r = engine.cli("insula", "push", name)
    assert r.code == 1 and "no basic auth credentials" in r.err
    r = engine.cli("insula", "login", "-u", USER, "--password-stdin", locked.host, stdin="wrong\n")
    assert r.code == 1 and "401 Unauthorized" in r.err
    r = engine.cli("insula", "login", "-u", USER, "--password-stdin", locked.host, stdin=PASSWORD + "\n")
    assert r.ok() == "Login Succeeded" and "stored unencrypted" in r.err
    f = engine.base / "docker/config.json"
    assert stat.S_IMODE(f.stat().st_mode) == 0o600 and PASSWORD not in f.read_text()
    try:
        for cli in ("insula", "docker"):     # one file for both
            engine.cli(cli, "push", name).ok()
        engine.cli("insula", "rmi", "-f", name).ok()
        engine.cli("insula", "pull", name).ok()
    finally:
        assert engine.cli("insula", "logout", locked.host).ok() == f"Removing login credentials for {locked.host}"
    assert engine.cli("insula", "logout", locked.host).ok() == f"Not logged in to {locked.host}"
    assert engine.cli("insula", "push", name).code == 1


def test_docker_login(engine, locked):
    r = engine.cli("docker", "login", "-u", USER, "--password-stdin", locked.host, stdin=PASSWORD)
    assert "Login Succeeded" in r.ok()
    assert engine.cli("insula", "pull", f"{locked.host}/secret:1").code == 0
    engine.cli("docker", "logout", locked.host).ok()


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_credential_helper(engine, locked, tmp_path, monkeypatch, key):
    """Of one registry, or of all."""
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f"""#!/bin/sh
read input
echo "$1 $input" >>{tmp_path}/log
case $1 in
get) [ -e {tmp_path}/secret ] || {{ echo "credentials not found in native keychain"; exit 1; }}; cat {tmp_path}/secret ;;
store) echo "$input" >{tmp_path}/secret ;;
erase) rm -f {tmp_path}/secret ;;
esac
""")
    helper.chmod(0o755)
    f = engine.base / "docker/config.json"
    f.parent.mkdir(exist_ok=True)
    f.write_text(json.dumps({key: {locked.host: "test"} if key == "credHelpers" else "test", "HttpHeaders": {"kept": "yes"}}))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    try:
        assert engine.cli("insula", "pull", f"{locked.host}/secret:1").code == 1
        engine.cli("insula", "login", "-u", USER, "--password-stdin", locked.host, stdin=PASSWORD).ok()
        assert json.loads((tmp_path / "secret").read_text()) == {"ServerURL": locked.host, "Username": USER, "Secret": PASSWORD}
        assert json.loads(f.read_text())["HttpHeaders"] == {"kept": "yes"} and USER not in f.read_text()
        engine.cli("insula", "pull", f"{locked.host}/secret:1").ok()
        engine.cli("insula", "logout", locked.host).ok()
        assert not (tmp_path / "secret").exists()
        assert [x.split()[0] for x in (tmp_path / "log").read_text().splitlines()] == ["get", "store", "get", "erase"]
    finally:
        f.unlink()


def test_push_what_is_not_there(engine, registry):
    r = engine.cli("insula", "push", f"{registry.host}/nothing:1")
    assert r.code == 1 and f"An image does not exist locally with the tag: {registry.host}/nothing" in r.err


def test_push_all_tags(engine, registry, busybox):
    for t in "ab":
        engine.cli("insula", "tag", "busybox", f"{registry.host}/tags:{t}").ok()
    engine.cli("insula", "push", "-a", f"{registry.host}/tags").ok()
    assert sorted(registry.inspect("tags:a")["RepoTags"]) == ["a", "b"]


def test_push_through_a_bad_line(engine, registry, busybox, proxy):
    """500 and broken connections in the middle of an upload."""
    state = {"n": 0}

    def fault(h, path):
        if h.command == "PUT" and "/blobs/uploads/" in path:
            state["n"] += 1
            if state["n"] == 1:
                h.cut()
                return True
            if state["n"] == 2:
                h.body()
                h.answer(500, b"", {"Retry-After": "1"})
                return True
        return False
    p = proxy(fault)
    engine.cli("insula", "tag", "busybox", f"{p.host}/bad-line:1").ok()
    engine.cli("insula", "push", f"{p.host}/bad-line:1").ok()
    assert registry.config_digest("bad-line:1") == busybox


def test_distribution(engine, registry):
    status, j = api(engine, "GET", f"/distribution/{registry.host}/three:1/json")
    seen = json.loads(registry.raw("three:1"))
    assert status == 200 and j["Descriptor"] == {"mediaType": seen["mediaType"], "digest": registry.inspect("three:1")["Digest"],
                                                  "size": len(registry.raw("three:1"))}
    assert j["Platforms"] == [{"architecture": ARCH, "os": "linux"}]
    assert api(engine, "GET", f"/distribution/{registry.host}/three:none/json")[0] == 404


# --- save ---

def saved(engine, *names, cli="insula"):
    p = subprocess.run(engine.argv(cli, "save", *names), env=engine.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 0, p.stderr
    return p.stdout


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        return {m.name: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}


@pytest.mark.parametrize("how", ["docker", "oci", "oci gzip", "pulled"])
def test_save_and_load_again(engine, registry, how, tmp_path):
    layers = [layer(n, 1000) for n in range(2)]
    want = sha(config(layers))
    if how == "docker":
        load(engine, docker_archive(layers, tags=["s:1"]))
    elif how == "oci":
        load(engine, oci_archive(layers, name="docker.io/library/s:1"))
    elif how == "oci gzip":
        load(engine, oci_archive([gzip.compress(b) for b in layers], media="tar+gzip", name="docker.io/library/s:1"))
    else:
        image(registry, "saved", "1", ARCH, layers)
        engine.cli("insula", "pull", f"{registry.host}/saved:1").ok()
        engine.cli("insula", "tag", f"{registry.host}/saved:1", "s:1").ok()
        want = registry.config_digest("saved:1")
    data = saved(engine, "s:1")
    m = members(data)
    for name, b in m.items():
        if name.startswith("blobs/"):
            assert sha(b)[7:] == name[13:]
    doc = json.loads(m["manifest.json"])
    assert doc[0]["RepoTags"] == ["s:1"] and doc[0]["Config"] == "blobs/sha256/" + want[7:]
    index = json.loads(m["index.json"])["manifests"]
    assert index[0]["annotations"]["io.containerd.image.name"] == "docker.io/library/s:1"
    assert json.loads(m["blobs/sha256/" + index[0]["digest"][7:]])["config"]["digest"] == want
    # skopeo takes it, both ways of reading
    f = tmp_path / "s.tar"
    f.write_bytes(data)
    for kind in ("docker-archive", "oci-archive"):
        d = tmp_path / kind
        skopeo("copy", f"{kind}:{f}", f"dir:{d}")
        assert json.loads((d / "manifest.json").read_text())["config"]["digest"] == want
    # and insula, elsewhere
    engine.cli("insula", "rmi", "-f", *engine.cli("insula", "images", "-q").out.split()).ok()
    assert os.listdir(engine.data / "blobs/sha256") == [] and os.listdir(engine.data / "layers") == []
    assert load(engine, data)[0] == 0
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [want]


def test_save_of_several(engine, tmp_path, cli_name):
    shared, own = layer("shared", 1000), layer("own", 1000)
    load(engine, docker_archive([shared], tags=["a:1", "a:2"]))
    load(engine, docker_archive([shared, own], tags=["b:1"]))
    m = members(saved(engine, "a", "b:1", cli=cli_name))
    doc = json.loads(m["manifest.json"])
    assert [x["RepoTags"] for x in doc] == [["a:1", "a:2"], ["b:1"]]
    assert len([n for n in m if n.startswith("blobs/")]) == 2 + 2 + 2
    by_id = json.loads(members(saved(engine, sha(config([shared]))))["manifest.json"])
    assert by_id[0]["RepoTags"] is None
    out = tmp_path / "x.tar"
    engine.cli(cli_name, "save", "-o", out, "b:1").ok()
    assert json.loads(members(out.read_bytes())["manifest.json"])[0]["RepoTags"] == ["b:1"]
    r = engine.cli(cli_name, "save", "-o", out, "nope")
    assert r.code == 1 and "No such image: nope" in r.err


def test_imported_images_can_be_saved_and_pushed(engine, registry):
    rootfs = Tar().dir("bin").add("bin/x", b"#!/bin/sh\n", mode=0o755).bytes()
    p = subprocess.run(engine.argv("insula", "import", "-", "imp:1"), env=engine.env(), input=rootfs, stdout=subprocess.PIPE, check=True)
    m = members(saved(engine, "imp:1"))
    assert m[json.loads(m["manifest.json"])[0]["Layers"][0]] == rootfs
    engine.cli("insula", "tag", "imp:1", f"{registry.host}/imp:1").ok()
    engine.cli("insula", "push", f"{registry.host}/imp:1").ok()
    assert registry.config_digest("imp:1") == p.stdout.decode().strip()


def test_xz_layers_are_kept_plain(engine, registry):
    import lzma
    b = layer("xz", 1000)
    load(engine, docker_archive([lzma.compress(b)], cfg=config([b]), tags=["xz:1"]))
    m = members(saved(engine, "xz:1"))
    assert m[json.loads(m["manifest.json"])[0]["Layers"][0]] == b


# --- prune ---

@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_prune(engine, cli):
    load(engine, docker_archive([layer("p", 5000)], tags=["p:1"]))
    load(engine, docker_archive([layer("q", 3000)], tags=["p:1"]))
    (engine.data / "partial").mkdir(exist_ok=True)
    (engine.data / "partial" / ("0" * 64)).write_bytes(b"left")
    r = engine.cli(cli, "image", "prune", "-f")
    assert "Deleted Images:\ndeleted: sha256:" in r.ok() and "Total reclaimed space: 3" in r.out
    assert len(engine.cli("insula", "images", "-q").out.split()) == 1
    assert list((engine.data / "partial").iterdir()) == []
    assert "p:1" in engine.cli(cli, "image", "prune", "-af").ok()
    assert engine.cli(cli, "image", "prune", "-af").ok() == "Total reclaimed space: 0B"
    assert store_of(engine) == ([], [], [], [])


def test_committed_images_are_pushed(engine, registry, busybox, isolation):
    """The layer of a commit, and the others as they came."""
    c = Cli(engine, "insula", isolation)
    cid = c("run", "-d", "--network", "none", "busybox", "sh", "-c", "echo new >/made; sleep 100").ok()
    from conftest import wait_for
    wait_for(lambda: c("exec", cid, "cat", "/made").out == "new\n")
    name = f"{registry.host}/committed-{isolation}:1"
    c("commit", cid, name).ok()
    engine.cli("insula", "rm", "-f", cid).ok()
    engine.cli("insula", "push", name).ok()
    engine.cli("insula", "rmi", name).ok()
    assert c("run", "--rm", "--network", "none", name, "cat", "/made").ok() == "new"


# --- what a registry has ---

def test_search_by_tag(engine, registry, busybox, proxy):
    """All tags, over several pages; a pattern chooses."""
    for t in ("1.0", "1.1", "2.0", "latest"):
        engine.cli("insula", "tag", "busybox", f"{registry.host}/search/this:{t}").ok()
    engine.cli("insula", "push", "-q", "-a", f"{registry.host}/search/this").ok()

    def paged(h, path):
        if "/tags/list" not in path:
            return False
        have = ["1.0", "1.1", "2.0", "latest"]
        after = path.partition("last=")[2]
        rest = have[have.index(after) + 1:] if after else have
        link = {"Link": f'</v2/search/this/tags/list?n=1&last={rest[0]}>; rel="next"'} if len(rest) > 1 else {}
        h.answer(200, json.dumps({"name": "search/this", "tags": rest[:1]}).encode(), link)
        return True
    p = proxy(paged)
    for host in (registry.host, p.host):
        r = engine.cli("insula", "search-by-tag", f"{host}/search/this")
        assert [line.split() for line in r.ok().splitlines()] == [["REPOSITORY", "TAG"]] + [[f"{host}/search/this", t] for t in ("1.0", "1.1", "2.0", "latest")]
        assert engine.cli("insula", "image", "search-by-tag", "-q", f"{host}/search/this:1.*").ok().split() == ["1.0", "1.1"]
        assert engine.cli("insula", "search-by-tag", "--format", "{{.Name}}", f"{host}/search/this:latest").ok() == f"{host}/search/this:latest"
    assert len(p.paths("/tags/list")) == 12
    r = engine.cli("insula", "search-by-tag", f"{registry.host}/nothing/here")
    assert r.code == 1 and "name unknown" in r.err.lower()


def test_search_by_tag_with_password(engine, locked):
    name = f"{locked.host}/secret"
    assert engine.cli("insula", "search-by-tag", name).code == 1
    engine.cli("insula", "login", "-u", USER, "--password-stdin", locked.host, stdin=PASSWORD).ok()
    try:
        assert engine.cli("insula", "search-by-tag", "-q", name).ok() == "1"
    finally:
        engine.cli("insula", "logout", locked.host).ok()


@pytest.mark.parametrize("body, link", [(b'{"tags":["\\u001b[2J"]}', ""), (b'{"tags":["a b"]}', ""), (b"[", ""), (b'{"tags":["' + b"a" * 200 + b'"]}', ""),
                                        (b'{"tags":["x"]}', "same"), (b'{"tags":[' + b'"x",' * 4999 + b'"x"]}', "next")],
                         ids=["escape sequence", "space", "no JSON", "long", "no end", "too many"])
def test_lists_of_tags_that_are_none(engine, proxy, body, link):
    p = proxy(lambda h, path: "/tags/list" in path and (h.answer(200, body, {"Link": f'<{path}{"?" * (link == "next")}>; rel="next"'} if link else {}) or True))
    r = engine.cli("insula", "search-by-tag", f"{p.host}/x")
    assert r.code == 1 and r.out == "" and ("invalid" in r.err or "no end" in r.err or "JSON" in r.err), r
