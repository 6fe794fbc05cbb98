"""Pulling from a registry: Debian's docker-registry, plain, with a password and with TLS, and a proxy that cuts,
corrupts and redirects. skopeo is the judge of ids and digests."""
import base64
import gzip
import hashlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import pytest

from conftest import IMAGES, Cli, Engine, descriptors, program, wait_for
from registry import PASSWORD, USER, Proxy, Registry, skopeo
from test_images import api
from test_puller import ARCH, Tar, config, docker_archive, sha


@pytest.fixture(scope="module")
def base():
    d = tempfile.mkdtemp(prefix="insula-pull-")
    yield pathlib.Path(d)
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="module")
def registry(base):
    r = Registry(base / "plain")
    r.put(IMAGES / "busybox.tar", "lib/busybox:1")
    (base / "three.tar").write_bytes(docker_archive(LAYERS))
    r.put(base / "three.tar", "three:1")
    yield r
    r.stop()


@pytest.fixture(scope="module")
def locked(base):
    r = Registry(base / "locked", auth=True, tls=True)
    r.put(IMAGES / "busybox.tar", "secret:1")
    yield r
    r.stop()


@pytest.fixture(scope="module")
def pulling(base, locked):
    """An engine that knows the authority of the locked registry."""
    certs = base / "certs" / locked.host
    certs.mkdir(parents=True)
    shutil.copy(locked.base / "ca.crt", certs / "ca.crt")
    (base / "engine").mkdir()
    e = Engine(base / "engine", ["--registry-certs", str(base / "certs")])
    e.start()
    yield e
    e.stop()


@pytest.fixture
def engine(pulling):
    yield pulling
    pulling.cli("insula", "rm", "-f", *(pulling.cli("insula", "ps", "-aq").out.split() or ["none"]))
    for i in set(pulling.cli("insula", "images", "-aq", "--no-trunc").out.split()):
        pulling.cli("insula", "rmi", "-f", i)
    for f in (pulling.data / "partial").glob("*"):
        f.unlink(missing_ok=True)


@pytest.fixture
def proxy(registry):
    made = []

    def make(fault=None, target=registry):
        made.append(Proxy(target, fault))
        return made[-1]
    yield make
    for p in made:
        p.stop()


def layer(n, size=1 << 20):
    return Tar().add(f"file{n}", os.urandom(size)).bytes()


LAYERS = [layer(n) for n in range(3)]


def store_of(engine):
    """What a failed pull must leave as it was."""
    return (api(engine, "GET", "/images/json")[1], sorted(os.listdir(engine.data / "layers")),
            sorted(os.listdir(engine.data / "blobs/sha256")), os.listdir(engine.data / "tmp"))


def post(engine, query, auth=None):
    """The lines of a pull over the API, or the status of its refusal."""
    from test_images import Unix
    c = Unix(engine.sock)
    c.request("POST", "/images/create?" + query, headers={"X-Registry-Auth": auth} if auth else {})
    r = c.getresponse()
    data = r.read().decode()
    return r.status, [json.loads(x) for x in data.splitlines() if x]


# --- what is pulled is what was pushed ---

@pytest.mark.parametrize("cli", ["insula", "docker"])
def test_pull(engine, registry, cli):
    name = f"{registry.host}/lib/busybox:1"
    digest = registry.inspect("lib/busybox:1")["Digest"]
    short = json.loads(registry.raw("lib/busybox:1"))["layers"][0]["digest"][7:19]
    r = engine.cli(cli, "pull", name)
    assert r.ok().splitlines() == [
        "1: Pulling from lib/busybox", f"{short}: Pulling fs layer", f"{short}: Verifying Checksum", f"{short}: Download complete",
        f"{short}: Extracting", f"{short}: Pull complete", f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name] or cli == "docker"
    assert r.out.splitlines()[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name]
    i = json.loads(engine.cli("insula", "inspect", "--type", "image", name).ok())[0]
    assert i["Id"] == registry.config_digest("lib/busybox:1")
    assert i["RepoTags"] == [name] and i["RepoDigests"] == [f"{registry.host}/lib/busybox@{digest}"]
    assert f"Status: Image is up to date for {name}" in engine.cli(cli, "pull", name).ok()
    assert engine.cli(cli, "pull", "-q", name).ok() == name
    assert digest in engine.cli(cli, "images", "--digests").out


def test_by_digest(engine, registry):
    digest = registry.inspect("lib/busybox:1")["Digest"]
    name = f"{registry.host}/lib/busybox@{digest}"
    assert f"Status: Downloaded newer image for {name}" in engine.cli("insula", "pull", name).ok()
    i = json.loads(engine.cli("insula", "inspect", "--type", "image", name).ok())[0]
    assert (i["RepoTags"], i["RepoDigests"]) == ([], [name])
    assert engine.cli("insula", "images", "-q", "-f", "dangling=true").out == ""
    assert engine.cli("insula", "run", "--rm", "--network", "none", name, "echo", "by digest").ok() == "by digest"
    assert "Deleted: " + i["Id"] in engine.cli("insula", "rmi", name).ok()


def test_run_pulls_what_is_absent(engine, registry, isolation, cli_name):
    c = Cli(engine, cli_name, isolation)
    name = f"{registry.host}/lib/busybox:1"
    r = c("run", "--rm", "--network", "none", name, "echo", "ran")
    assert r.ok() == "ran" and f"Unable to find image '{name}' locally" in r.err and "Status: Downloaded newer image" in r.err
    r = c("run", "--rm", "--network", "none", "--pull", "always", name, "echo", "again")
    assert r.ok() == "again" and "Status: Image is up to date" in r.err
    engine.cli("insula", "rmi", name).ok()
    r = c("run", "--rm", "--network", "none", "--pull", "never", name, "true")
    assert r.code == 125 and "No such image: " + name in r.err


def test_layers_come_in_order(engine, registry):
    name = f"{registry.host}/three:1"
    engine.cli("insula", "pull", name).ok()
    i = json.loads(engine.cli("insula", "inspect", "--type", "image", name).ok())[0]
    assert i["Id"] == sha(config(LAYERS)) and i["RootFS"]["Layers"] == [sha(b) for b in LAYERS]


def put_raw(registry, name, tag, manifest, media, blobs=()):
    for b in blobs:
        r = urllib.request.urlopen(urllib.request.Request(f"http://{registry.host}/v2/{name}/blobs/uploads/", method="POST"))
        where = r.headers["Location"]
        urllib.request.urlopen(urllib.request.Request(where + "&digest=" + sha(b), data=b, method="PUT", headers={"Content-Type": "application/octet-stream"}))
    body = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://{registry.host}/v2/{name}/manifests/{tag}", data=body, method="PUT", headers={"Content-Type": media}))
    return sha(body)


MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def image(registry, name, tag, arch, layers, **more):
    cfg = json.loads(config(layers))
    cfg["architecture"] = arch
    cfg = json.dumps(cfg).encode()
    zipped = [gzip.compress(b, mtime=0) for b in layers]
    m = {"schemaVersion": 2, "mediaType": MANIFEST,
         "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(cfg), "digest": sha(cfg)},
         "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(z), "digest": sha(z)} for z in zipped], **more}
    return put_raw(registry, name, tag, m, MANIFEST, [cfg, *zipped]), len(json.dumps(m)), sha(cfg)


def test_zstd_and_oci(engine, registry):
    """An OCI manifest with layers of zstd, one of them behind a skippable frame."""
    cfg = config(LAYERS)
    pack = lambda b: subprocess.run(["zstd", "-q", "-c"], input=b, stdout=subprocess.PIPE, check=True).stdout
    zipped = [pack(b) for b in LAYERS]
    zipped[1] = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zipped[1]
    oci = "application/vnd.oci.image."
    m = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
         "config": {"mediaType": oci + "config.v1+json", "size": len(cfg), "digest": sha(cfg)},
         "layers": [{"mediaType": oci + "layer.v1.tar+zstd", "size": len(z), "digest": sha(z)} for z in zipped]}
    digest = put_raw(registry, "zstd", "1", m, m["mediaType"], [cfg, *zipped])
    assert f"Digest: {digest}" in engine.cli("insula", "pull", f"{registry.host}/zstd:1").ok()
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [sha(cfg)]


@pytest.mark.parametrize("media", [LIST, OCI_INDEX])
def test_index_and_platform(engine, registry, media):
    name = "multi" + media[12:15].strip(".")
    entries = []
    ids = {}
    for arch, variant in (("s390x", None), (ARCH, None), ("unknown", None)):
        digest, size, ids[arch] = image(registry, name, arch, arch, [layer(arch, 100)])
        p = {"architecture": arch, "os": "unknown" if arch == "unknown" else "linux"}
        entries.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": p})
    entries.reverse()
    top = put_raw(registry, name, "1", {"schemaVersion": 2, "mediaType": media, "manifests": entries}, media)
    out = engine.cli("insula", "pull", f"{registry.host}/{name}:1").ok()
    assert f"Digest: {top}" in out
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [ids[ARCH]]
    r = engine.cli("insula", "pull", "--platform", "linux/riscv64", f"{registry.host}/{name}:1")
    assert r.code == 1 and "no matching manifest for linux/riscv64 in the manifest list entries" in r.err
    r = engine.cli("insula", "pull", "--platform", "linux/s390x", f"{registry.host}/{name}:1")
    assert r.code == 1 and 'image architecture "s390x" cannot be used on this platform' in r.err
    # by the digest of the index
    engine.cli("insula", "pull", f"{registry.host}/{name}@{top}").ok()


# --- who may pull ---

def test_password_and_tls(engine, locked):
    name = f"{locked.host}/secret:1"
    r = engine.cli("docker", "pull", name)
    assert r.code == 1 and "no basic auth credentials" in r.err
    head = lambda pw: base64.urlsafe_b64encode(json.dumps({"username": USER, "password": pw}).encode()).decode()
    assert post(engine, f"fromImage={name}", head("wrong"))[0] in (404, 500)
    assert api(engine, "GET", "/images/json")[1] == []
    status, lines = post(engine, f"fromImage={name}", head(PASSWORD))
    assert status == 200 and lines[-1]["status"] == f"Status: Downloaded newer image for {name}"
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [locked.config_digest("secret:1")]


def test_unknown_authority_is_refused(locked, base):
    other = base / "untrusting"
    certs = other / "certs" / locked.host
    certs.mkdir(parents=True)
    # an authority is named, but another one
    from registry import make_certificate
    made = other / "made"
    made.mkdir()
    make_certificate(made)
    shutil.copy(made / "ca.crt", certs / "ca.crt")
    e = Engine(other, ["--registry-certs", str(other / "certs")])
    e.start()
    try:
        r = e.cli("insula", "pull", f"{locked.host}/secret:1")
        assert r.code == 1 and "certificate" in r.err.lower()
    finally:
        e.stop()


class TokenServer:
    """A proxy in front of a registry that wants a bearer token, from a token server that wants a password."""

    def __init__(self, make, private=True):
        self.tokens, self.asked, self.private = 0, [], private
        self.proxy = make(self.fault)

    def fault(self, h, path):
        if path.startswith("/token"):
            self.asked.append((path, h.headers.get("Authorization")))
            if self.private and not h.headers.get("Authorization"):
                h.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}')
            else:
                self.tokens += 1
                h.answer(200, b'{"token":"good"}', {"Content-Type": "application/json"})
            return True
        if h.headers.get("Authorization") != "Bearer good":
            h.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
                     {"Www-Authenticate": f'Bearer realm="http://{self.proxy.host}/token",service="test, \\"quoted\\"",scope="repository:three:pull"'})
            return True
        del h.headers["Authorization"]
        return False


def test_bearer_token(engine, proxy):
    t = TokenServer(proxy, private=False)
    engine.cli("insula", "pull", f"{t.proxy.host}/three:1").ok()
    assert t.tokens == 1
    assert "scope=repository%3Athree%3Apull" in t.asked[0][0] and "service=test%2C%20%22quoted%22" in t.asked[0][0]


def test_bearer_token_with_password(engine, proxy):
    t = TokenServer(proxy)
    r = engine.cli("insula", "pull", f"{t.proxy.host}/three:1")
    assert r.code == 1 and "pull access denied for" in r.err and "who are you" in r.err
    auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
    status, lines = post(engine, f"fromImage={t.proxy.host}/three&tag=1", auth)
    assert status == 200 and "errorDetail" not in lines[-1]
    assert t.asked[-1][1] == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def test_identity_token(engine, proxy):
    """Of `docker login` at a registry with oauth2: it is given to the token server, and to nobody else."""
    forms = []

    def fault(h, path):
        if path.startswith("/token"):
            forms.append((h.command, urllib.parse.parse_qs(h.body().decode()), h.headers.get("Authorization")))
            h.answer(200, b'{"access_token":"good"}', {"Content-Type": "application/json"})
            return True
        if h.headers.get("Authorization") != "Bearer good":
            h.answer(401, b"{}", {"Www-Authenticate": f'Bearer realm="http://{p.host}/token",service="test",scope="repository:three:pull"'})
            return True
        del h.headers["Authorization"]
        return False
    p = proxy(fault)
    auth = base64.urlsafe_b64encode(json.dumps({"identitytoken": "of a session"}).encode()).decode()
    status, lines = post(engine, f"fromImage={p.host}/three&tag=1", auth)
    assert status == 200 and "errorDetail" not in lines[-1]
    assert forms == [("POST", {"service": ["test"], "scope": ["repository:three:pull"], "grant_type": ["refresh_token"], "client_id": ["insula"],
                               "refresh_token": ["of a session"]}, None)]


def test_redirect_takes_no_credentials_along(engine, proxy):
    cdn = proxy()

    def fault(h, path):
        if not h.headers.get("Authorization"):
            h.answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="x"'})
        elif "/blobs/" in path:
            h.answer(307, b"", {"Location": f"http://localhost:{cdn.port}{path}"})
        else:
            return False
        return True
    front = proxy(fault)
    auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
    status, lines = post(engine, f"fromImage={front.host}/three&tag=1", auth)
    assert status == 200 and "errorDetail" not in lines[-1]
    assert len(cdn.paths("/blobs/")) == 4
    for _, _, headers in cdn.seen:
        assert "Authorization" not in headers
    assert all("Authorization" in h for m, p, h in front.seen if "/blobs/" in p)


def test_a_loop_of_redirects_ends(engine, proxy):
    p = proxy(lambda h, path: "/blobs/" in path and (h.answer(307, b"", {"Location": path}) or True))
    r = engine.cli("insula", "pull", f"{p.host}/three:1")
    assert r.code == 1 and "stopped after 10 redirects" in r.err


# --- registries that misbehave ---

def failing(engine, proxy, name="three:1"):
    before = store_of(engine)
    r = engine.cli("insula", "pull", f"{proxy.host}/{name}")
    assert r.code == 1, r
    wait_for(lambda: store_of(engine) == before)
    return r.err


def layer_fault(fn, times=None):
    """fn on downloads of layers, so many times (None = always); 0 = its name says how often it was called."""
    state = {"n": 0}

    def fault(h, path):
        # the config is small, layers are not
        if "/blobs/" not in path or h.command != "GET":
            return False
        r, data = h.fetch()
        if len(data) < 10000 or (times is not None and state["n"] >= times):
            h.answer(r.status, data, {k: v for k, v in r.getheaders() if k in ("Content-Range", "Accept-Ranges")})
            return True
        state["n"] += 1
        fn(h, data, r)
        return True
    fault.state = state
    return fault


def test_wrong_digest(engine, proxy):
    p = proxy(layer_fault(lambda h, data, r: h.answer(200, data[:-1] + bytes([data[-1] ^ 1]))))
    assert "filesystem layer verification failed for digest sha256:" in failing(engine, p)


def test_too_long(engine, proxy):
    p = proxy(layer_fault(lambda h, data, r: h.answer(200, data + b"x" * 100000)))
    assert "is longer than the" in failing(engine, p)


def test_too_short(engine, proxy):
    p = proxy(layer_fault(lambda h, data, r: h.answer(200, data[:1000])))
    assert "bytes instead of" in failing(engine, p)


def test_wrong_manifest_for_a_digest(engine, registry, proxy):
    digest = registry.inspect("three:1")["Digest"]
    other = registry.raw("lib/busybox:1").encode()
    p = proxy(lambda h, path: "/manifests/" in path and (h.answer(200, other, {"Content-Type": MANIFEST}) or True))
    assert f"manifest verification failed for digest {digest}" in failing(engine, p, "three@" + digest)


def test_cut_downloads_are_resumed(engine, proxy):
    def half(h, data, r):
        h.send_response_only(r.status)
        h.send_header("Content-Length", len(data))
        if r.getheader("Content-Range"):
            h.send_header("Content-Range", r.getheader("Content-Range"))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        h.cut()
    p = proxy(layer_fault(half, times=5))
    engine.cli("insula", "pull", f"{p.host}/three:1").ok()
    assert sum("Range" in h for _, path, h in p.seen if "/blobs/" in path) >= 3
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [sha(config(LAYERS))]


def test_a_server_without_ranges(engine, proxy):
    """It answers 200 with everything, from the start."""
    state = {"n": 0}

    def fault(h, path):
        if "/blobs/" not in path:
            return False
        h.headers.__delitem__("Range")
        r, data = h.fetch()
        state["n"] += 1
        if len(data) > 10000 and state["n"] <= 4:
            h.send_response_only(200)
            h.send_header("Content-Length", len(data))
            h.end_headers()
            h.wfile.write(data[:len(data) // 3])
            h.wfile.flush()
            h.cut()
        else:
            h.answer(200, data)
        return True
    p = proxy(fault)
    engine.cli("insula", "pull", f"{p.host}/three:1").ok()
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [sha(config(LAYERS))]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again_when_told(engine, proxy, status):
    state = {"n": 0, "at": []}

    def fault(h, path):
        state["n"] += 1
        state["at"].append(time.time())
        if state["n"] in (2, 4):
            h.fetch()
            h.answer(status, b"{}", {"Retry-After": "1"})
            return True
        return False
    p = proxy(fault)
    engine.cli("insula", "pull", f"{p.host}/three:1").ok()
    assert state["at"][2] - state["at"][1] >= 0.9


def test_gives_up_in_the_end(engine, proxy):
    p = proxy(lambda h, path: "/manifests/" in path and (h.answer(500, b"oops") or True))
    assert "received unexpected HTTP status: 500" in failing(engine, p)
    assert len(p.paths("/manifests/")) == 5


def test_slow_registry(engine, proxy):
    def slowly(h, data, r):
        h.send_response_only(r.status)
        h.send_header("Content-Length", len(data))
        h.end_headers()
        for k in range(10):
            h.wfile.write(data[k * len(data) // 10:(k + 1) * len(data) // 10])
            h.wfile.flush()
            time.sleep(0.1)
    p = proxy(layer_fault(slowly))
    status, lines = post(engine, f"fromImage={p.host}/three&tag=1")
    bars = [x for x in lines if x.get("status") == "Downloading"]
    assert status == 200 and len(bars) > 5
    assert all(x["progress"].startswith("[") and set(x["progressDetail"]) == {"current", "total"} for x in bars)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schemaVersion":1}', b'{"config":{},"layers":[]}', b'{"manifests":1}', b"\xff\x00", b'{"config":{"digest":"../../x","size":1},"layers":[]}'])
def test_manifests_that_are_none(engine, proxy, body):
    p = proxy(lambda h, path: "/manifests/" in path and (h.answer(200, body, {"Content-Type": MANIFEST}) or True))
    failing(engine, p)


def test_no_such_image(engine, registry):
    r = engine.cli("insula", "pull", f"{registry.host}/lib/busybox:none")
    assert r.code == 1 and f"manifest for {registry.host}/lib/busybox:none not found: manifest unknown: manifest unknown" in r.err
    assert post(engine, f"fromImage={registry.host}/lib/busybox&tag=none")[0] == 404
    r = engine.cli("insula", "pull", "127.0.0.1:1/x")
    assert r.code == 1 and "Failed to connect to 127.0.0.1" in r.err
    assert engine.cli("insula", "pull", "UPPER").code == 1


# --- several at once, and leaving ---

def test_two_pulls_are_one(engine, proxy):
    both_are_there = threading.Event()
    p = proxy(layer_fault(lambda h, data, r: (both_are_there.wait(60), h.answer(200, data))))
    both = [engine.popen("insula", "pull", f"{p.host}/three:1") for _ in range(2)]
    assert [x.stdout.readline() for x in both] == ["1: Pulling from three\n"] * 2
    both_are_there.set()
    outs = [x.communicate(timeout=60) for x in both]
    assert [x.returncode for x in both] == [0, 0], outs
    assert all("Status: Downloaded newer image" in o for o, _ in outs)
    assert len([x for x in p.paths("/blobs/")]) == 4


def test_two_names_of_the_same_layers(engine, proxy):
    p = proxy(layer_fault(lambda h, data, r: (time.sleep(0.3), h.answer(200, data))))
    q = proxy(layer_fault(lambda h, data, r: (time.sleep(0.3), h.answer(200, data))))
    both = [engine.popen("insula", "pull", f"{x.host}/three:1") for x in (p, q)]
    outs = [x.communicate(timeout=60) for x in both]
    assert [x.returncode for x in both] == [0, 0], outs
    i = json.loads(engine.cli("insula", "inspect", "--type", "image", f"{p.host}/three:1").ok())[0]
    assert sorted(i["RepoTags"]) == sorted([f"{p.host}/three:1", f"{q.host}/three:1"])
    assert list((engine.data / "partial").iterdir()) == [] and os.listdir(engine.data / "tmp") == []


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_interrupted_pull_goes_on_where_it_was(engine, proxy):
    stop = threading.Event()

    def half(h, data, r):
        h.send_response_only(200)
        h.send_header("Content-Length", len(data))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        stop.wait(120)
        h.cut()
    p = proxy(layer_fault(half, times=3))
    before = store_of(engine)
    c = engine.popen("insula", "pull", f"{p.host}/three:1")

    def files():
        """Sizes of the layers' files; small ones come and go."""
        return sorted(n for n in map(size_of, (engine.data / "partial").glob("*")) if n > 10000)
    wait_for(lambda: len(files()) == 3)
    c.send_signal(signal.SIGINT)
    assert c.wait(60) != 0
    wait_for(lambda: not list(children_of(engine, "insula-registry")))
    stop.set()
    assert len(files()) == 3
    wait_for(lambda: store_of(engine) == before)
    engine.cli("insula", "pull", f"{p.host}/three:1").ok()
    assert sum("Range" in h for _, path, h in p.seen if "/blobs/" in path) == 3
    assert list((engine.data / "partial").iterdir()) == []


# --- unpacking begins before the last byte is there ---

def staged(engine):
    """Names of files in layers that are being unpacked."""
    try:
        return {f.name for f in (engine.data / "tmp").glob("*/layers/new-*/*")}
    except FileNotFoundError:       # what another pull has left is being removed
        return set()


def test_layers_are_unpacked_while_they_come(engine, registry, base, proxy):
    t = Tar()
    for n in range(4):
        t.add(f"part{n}", os.urandom(1 << 20))
    (base / "parts.tar").write_bytes(docker_archive([t.bytes()]))
    registry.put(base / "parts.tar", "parts:1")
    rest = threading.Event()

    def nearly_all(h, data, r):
        h.send_response_only(200)
        h.send_header("Content-Length", len(data))
        h.end_headers()
        h.wfile.write(data[:-300000])
        h.wfile.flush()
        rest.wait(60)
        h.wfile.write(data[-300000:])
    p = proxy(layer_fault(nearly_all))
    c = engine.popen("insula", "pull", f"{p.host}/parts:1")
    wait_for(lambda: {"part0", "part1", "part2"} <= staged(engine))
    assert engine.cli("insula", "images", "-q").out == "" and os.listdir(engine.data / "layers") == []
    rest.set()
    out, err = c.communicate(timeout=60)
    assert c.returncode == 0, err
    assert out.index("Download complete") < out.index("Extracting") < out.index("Pull complete")
    (layer_dir,) = (engine.data / "layers").iterdir()
    assert sorted(f.stat().st_size for f in layer_dir.iterdir()) == [1 << 20] * 4


@pytest.mark.parametrize("left", [b"nothing good" * 1000, b"\x1f\x8b" + bytes(5000)])
def test_what_an_earlier_try_left_may_be_wrong(engine, proxy, left):
    """The unpacker has met it before it was replaced, and begins again."""
    p = proxy(layer_fault(lambda h, data, r: (time.sleep(0.3), h.answer(r.status, data, dict(r.getheaders())))))
    (engine.data / "partial").mkdir(exist_ok=True)
    for d in json.loads(p.target.raw("three:1"))["layers"]:
        (engine.data / "partial" / d["digest"][7:]).write_bytes(left)
    engine.cli("insula", "pull", f"{p.host}/three:1").ok()
    assert engine.cli("insula", "images", "-q", "--no-trunc").out.split() == [sha(config(LAYERS))]
    assert sorted(f.name for d in (engine.data / "layers").iterdir() for f in d.iterdir()) == ["file0", "file1", "file2"]
    assert list((engine.data / "partial").iterdir()) == []


def test_a_mirror_that_fails_half_way(registry, base):
    """The next one gives the rest of the same image, and leaves the manifest alone: insula-puller may be reading it."""
    registry.put(base / "three.tar", "library/three:latest")
    written = []

    def look(h, data, r):
        small = [f for f in (base / "two-mirrors/data/partial").iterdir() if b'"layers"' in f.read_bytes()[:10000]]
        written.append(sorted(f.stat().st_mtime_ns for f in small))

    def refuse(h, data, r):
        look(h, data, r)
        h.answer(404, b"{}")

    def give(h, data, r):
        look(h, data, r)
        h.answer(r.status, data)
    bad = Proxy(registry, layer_fault(refuse))
    good = Proxy(registry, layer_fault(give))
    (base / "two-mirrors").mkdir()
    e = Engine(base / "two-mirrors", ["--registry-mirror", f"http://{bad.host}", "--registry-mirror", f"http://{good.host}"])
    e.start()
    try:
        e.cli("insula", "pull", "three").ok()
        assert bad.paths("/blobs/") and good.paths("/blobs/")
        assert written[0] and written == [written[0]] * len(written)
        assert e.cli("insula", "images", "-q", "--no-trunc").out.split() == [sha(config(LAYERS))]
    finally:
        e.stop()
        bad.stop()
        good.stop()


def test_disk_full(registry):
    base = tempfile.mkdtemp(prefix="insula-full-")
    # Too little for the archive and what is in it; room for another image beside what has come of the archive.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=18m", "none", base], check=True)
    e = Engine(base)
    try:
        e.start()
        big = docker_archive([layer("big", 10 << 20)])
        (pathlib.Path(registry.base) / "big.tar").write_bytes(big)
        registry.put(registry.base / "big.tar", "big:1")
        r = e.cli("insula", "pull", f"{registry.host}/big:1")
        assert r.code == 1 and "no space left on device" in r.err.lower(), r
        assert api(e, "GET", "/images/json")[1] == [] and os.listdir(e.data / "layers") == []
        wait_for(lambda: os.listdir(e.data / "tmp") == [] and os.listdir(e.data / "trash") == [])
        e.cli("insula", "pull", f"{registry.host}/lib/busybox:1").ok()
    finally:
        e.stop()
        e.log.close()
        subprocess.run(["umount", "-l", base])
        os.rmdir(base)


def test_mirror(registry, base):
    """Docker Hub's names go to the mirror first; no credentials do."""
    p = Proxy(registry)
    (base / "mirrored" / "docker").mkdir(parents=True)
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (base / "mirrored" / "docker/config.json").write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
    e = Engine(base / "mirrored", ["--registry-mirror", f"http://{p.host}"])
    registry.put(IMAGES / "busybox.tar", "library/busybox:latest")
    e.start()
    try:
        out = e.cli("insula", "pull", "busybox").ok()
        assert "Using default tag: latest" in out and "latest: Pulling from library/busybox" in out
        assert "Status: Downloaded newer image for busybox:latest\ndocker.io/library/busybox:latest" in out
        assert p.paths("/v2/library/busybox/manifests/latest")
        assert not [h for _, _, h in p.seen if "authorization" in {k.lower() for k in h}]
        assert e.cli("insula", "images", "--format", "{{.Repository}}:{{.Tag}}").ok() == "busybox:latest"
    finally:
        e.stop()
        p.stop()


def test_progress_on_a_terminal(engine, registry):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(engine.argv("insula")[0], engine.argv("insula", "pull", f"{registry.host}/three:1"), engine.env())
    out = b""
    while True:
        try:
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        out += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert out.count(b"\x1b[2K") > 6 and out.count(b"Pull complete") == 3


# --- the walls of the processes ---

def status_of(pid):
    return dict(x.split(":\t") for x in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in x)


def children_of(engine, name):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if status_of(pid)["Name"] == name[:15] and int(status_of(pid)["PPid"]) == engine.proc.pid:
                yield int(pid)
        except OSError:
            pass


def filtered(pid):
    """A sanitizer's runtime makes calls of its own: such a build has no filter."""
    return b"__asan_init" not in open(f"/proc/{pid}/exe", "rb").read()


@pytest.fixture
def held(engine, proxy):
    """A pull whose layers are half there, for as long as the test looks at the processes."""
    hold = threading.Event()

    def half(h, data, r):
        h.send_response_only(r.status)
        h.send_header("Content-Length", len(data))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        hold.wait(60)
        h.wfile.write(data[len(data) // 2:])
    p = proxy(layer_fault(half))
    c = engine.popen("insula", "pull", f"{p.host}/three:1")
    wait_for(lambda: len(staged(engine)) == 3)
    yield engine
    hold.set()
    assert c.wait(60) == 0


KEPT = ("chown", "dac_override", "fowner", "fsetid", "mknod", "setfcap")
CAPABILITIES = {"chown": 0, "dac_override": 1, "fowner": 3, "fsetid": 4, "mknod": 27, "setfcap": 31}


def test_who_talks_to_the_network(held):
    """Nobody, without capabilities, under a filter, and no file open for writing but blobs."""
    (pid,) = children_of(held, "insula-registry")
    status = status_of(pid)
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert all(int(status[k], 16) == 0 for k in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2" if filtered(pid) else "0", "1")
    for fd, to in descriptors(pid).items():
        flags = int(open(f"/proc/{pid}/fdinfo/{fd}").read().split("flags:")[1].split()[0], 8)
        if flags & os.O_ACCMODE != os.O_RDONLY and to.startswith("/"):
            assert to.startswith(str(held.data / "partial")) or fd in "012", to


def test_who_parses_archives(held):
    """No network, its staging directory for a root, no capability but those to own and make files there, no socket."""
    (pid,) = children_of(held, "insula-puller")
    status = status_of(pid)
    mask = sum(1 << CAPABILITIES[k] for k in KEPT)
    assert all(int(status[k], 16) == mask for k in ("CapEff", "CapPrm", "CapBnd")) and int(status["CapAmb"], 16) == 0
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2" if filtered(pid) else "0", "1")
    for ns in ("net", "ipc", "uts", "mnt"):
        assert os.readlink(f"/proc/{pid}/ns/{ns}") != os.readlink(f"/proc/{held.proc.pid}/ns/{ns}")
    assert [line.split(":")[0].strip() for line in open(f"/proc/{pid}/net/dev").read().splitlines()[2:]] == ["lo"]
    assert open(f"/proc/{pid}/net/route").read().splitlines()[1:] == []
    root = pathlib.Path(os.readlink(f"/proc/{pid}/root"))
    assert root.parent == held.data / "tmp" and os.readlink(f"/proc/{pid}/cwd") == str(root)
    for fd, to in descriptors(pid).items():
        assert to.startswith(("pipe:", str(root), "/memfd:")) or fd in "012", to
    limits = open(f"/proc/{pid}/limits").read()
    assert not filtered(pid) or re.search(r"Max address space +1073741824 ", limits)


@pytest.mark.parametrize("name", ["insulad", "insula", "insula-puller", "insula-shim"])
def test_who_has_no_network_client(name):
    """Of all programs insula-registry alone is linked with one."""
    libs = lambda n: subprocess.run(["ldd", program(n)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    assert "libcurl" in libs("insula-registry")
    for lib in ("libcurl", "libssl", "libgnutls", "libnghttp2"):
        assert lib not in libs(name)
