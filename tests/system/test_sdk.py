"""Debian's python3-docker, with a daemon whose default is each of the two modes: a program that knows nothing of
isolation uses every resource."""
import io
import socket
import tarfile
import threading
import time

import docker
import pytest
import requests

from conftest import IMAGES, Engine, wait_for


@pytest.fixture(scope="module", params=["process", "hyperv"])
def client(request, tmp_path_factory):
    e = Engine(tmp_path_factory.mktemp("engine"), ["--exec-opt", f"isolation={request.param}"])
    e.start()
    c = docker.DockerClient(base_url=f"unix://{e.sock}", version="auto", timeout=120)
    with open(IMAGES / "busybox.tar", "rb") as f:
        loaded, = c.images.load(f)
    assert "busybox:latest" in loaded.tags
    c.isolation, c.path = request.param, str(e.sock)
    yield c
    for k in c.containers.list(all=True):
        k.remove(force=True)
    c.close()
    e.stop()


def run(client, *command, **kw):
    return client.containers.run("busybox", list(command), detach=True, **kw)


def test_run_and_logs(client):
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as e:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    assert e.value.exit_status == 4 and e.value.stderr == b"bad\n"
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("nothing-like-it")
    k = run(client, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert b"".join(k.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert k.wait()["StatusCode"] == 0
    assert k.logs(tail=1) == b"3\n" and k.logs(stdout=False, stderr=True) == b""
    assert k.attrs["HostConfig"]["Isolation"] == client.isolation
    k.remove()


def test_life(client):
    k = run(client, "sleep", "1000", name="first", labels={"a": "b"}, environment={"X": "1"}, mem_limit="64m")
    assert client.containers.get("first").id == k.id == client.containers.get(k.id[:12]).id
    assert [x.id for x in client.containers.list(filters={"label": "a=b"})] == [k.id]
    assert client.containers.list(filters={"status": "paused"}) == []
    k.pause()
    k.reload()
    assert k.status == "paused"
    k.unpause()
    k.rename("second")
    k.update(cpu_shares=300)
    k.reload()
    assert k.name == "second" and k.attrs["HostConfig"]["CpuShares"] == 300
    assert any("sleep" in " ".join(p) for p in k.top()["Processes"])
    s = k.stats(stream=False)
    assert s["memory_stats"]["limit"] == 64 << 20 and s["cpu_stats"]["online_cpus"] >= 1
    k.restart(timeout=0)
    k.stop(timeout=0)
    assert k.wait()["StatusCode"] == 137
    k.start()
    with pytest.raises(docker.errors.APIError) as e:
        k.remove()
    assert e.value.response.status_code == 409
    k.kill("KILL")
    k.wait()
    k.remove(v=True)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(k.id)


def test_exec(client):
    k = run(client, "sleep", "1000")
    for i in range(30):
        assert k.exec_run(["echo", str(i)]) == (0, f"{i}\n".encode())   # nothing is lost behind the head
    assert k.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True) == (5, (b"out\n", b"err\n"))
    assert b"".join(k.exec_run(["seq", "20000"], stream=True).output) == \
        "".join(f"{i}\n" for i in range(1, 20001)).encode()
    assert k.exec_run(["nothing-here"]).exit_code == 127
    assert k.exec_run(["pwd"], workdir="/tmp", user="nobody").output == b"/tmp\n"
    sock = k.exec_run(["cat"], stdin=True, socket=True).output
    sock._sock.sendall(b"through\n")
    got = b""
    while len(got) < 8 + 8 and (part := sock.read(8 + 8 - len(got))):
        got += part
    assert got[8:] == b"through\n"
    sock.close()
    k.remove(force=True)


def test_a_client_that_is_slow_to_read_the_head(client):
    """What it reads with the head would be lost to it: the rest begins with the next read."""
    k = run(client, "sleep", "1000")
    body = b'{"Detach":false,"Tty":false}'
    exec_id = client.api.exec_create(k.id, ["echo", "behind"])["Id"]
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(client.path)
        s.sendall(b"POST /exec/%s/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                  b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n%s" % (exec_id.encode(), len(body), body))
        time.sleep(0.5)
        head = s.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 ") and head.endswith(b"\r\n\r\n")
        got = b""
        while more := s.recv(65536):
            got += more
    assert got[8:] == b"behind\n"
    k.remove(force=True)


def test_files(client):
    k = run(client, "sleep", "1000")
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w") as t:
        info = tarfile.TarInfo("made")
        info.size, info.uid = 5, 7
        t.addfile(info, io.BytesIO(b"bytes"))
    assert k.put_archive("/tmp", buf.getvalue())
    assert k.exec_run(["cat", "/tmp/made"]).output == b"bytes"
    bits, stat = k.get_archive("/tmp/made")
    assert stat["name"] == "made" and stat["size"] == 5 and stat["mtime"].startswith("1970-01-01T00:00:00")
    with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as t:
        assert t.extractfile("made").read() == b"bytes" and t.getmember("made").uid == 7
    assert {"Path": "/tmp/made", "Kind": 1} in k.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(k.export()))) as t:
        assert "tmp/made" in t.getnames()
    image = k.commit("committed", "one", message="m", changes="ENV Y=2")
    assert "Y=2" in image.attrs["Config"]["Env"]
    assert client.containers.run("committed:one", ["sh", "-c", "cat /tmp/made; echo $Y"], remove=True) == b"bytes2\n"
    k.remove(force=True)
    client.images.remove("committed:one", force=True)


def test_images(client):
    image = client.images.get("busybox")
    assert image.tag("other", "tag") and "other:tag" in [t for i in client.images.list() for t in i.tags]
    assert image.history() and image.attrs["Os"] == "linux"
    saved = b"".join(client.images.get("other:tag").save(named="other:tag"))
    client.images.remove("other:tag")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("other:tag")
    assert "other:tag" in client.images.load(saved)[0].tags
    client.images.remove("other:tag")
    assert client.images.prune()["SpaceReclaimed"] >= 0


def test_volumes(client):
    v = client.volumes.create("kept", labels={"l": "1"})
    assert client.volumes.create("kept").id == v.id
    client.containers.run("busybox", ["sh", "-c", "echo data >/d/f"], volumes={"kept": {"bind": "/d", "mode": "rw"}},
                          remove=True)
    out = client.containers.run("busybox", ["cat", "/d/f"], volumes={"kept": {"bind": "/d", "mode": "ro"}}, remove=True)
    assert out == b"data\n"
    assert [x.name for x in client.volumes.list(filters={"name": "kept"})] == ["kept"]
    v.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("kept")


def test_networks(client):
    assert {"bridge", "host", "none"} <= {n.name for n in client.networks.list()}
    assert client.networks.get("bridge").attrs["Driver"] == "bridge"


def test_system(client):
    assert client.ping() and client.version()["ApiVersion"] == "1.47"
    info = client.info()
    assert info["Isolation"] == client.isolation and info["OSType"] == "linux"
    assert {"LayersSize", "Images", "Containers", "Volumes"} <= set(client.df())
    with pytest.raises(docker.errors.APIError):
        client.api.create_container("busybox", host_config={"NoSuchField": 1})


def test_events(client):
    got = []
    stream = client.events(decode=True, filters={"type": "container", "event": ["create", "start", "die", "destroy"]})
    t = threading.Thread(target=lambda: got.extend(e["Action"] for e in stream), daemon=True)
    t.start()
    client.containers.run("busybox", ["true"], remove=True)
    wait_for(lambda: got == ["create", "start", "die", "destroy"])
    stream.close()
    t.join(60)
    since = int(time.time())
    assert list(client.events(since=since - 1, until=since)) is not None


def test_wait_and_timeout(client):
    k = run(client, "sleep", "1")
    assert k.wait(timeout=60, condition="not-running")["StatusCode"] == 0
    k.remove()
    k = run(client, "sleep", "1000")
    with pytest.raises((requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout)):
        k.wait(timeout=1)
    k.remove(force=True)
