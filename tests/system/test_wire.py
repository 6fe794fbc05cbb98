"""Requests recorded from real docker CLIs (tests/data/wire), sent byte for byte: each must find its way to a handler.
The daemon here has no images and no containers, so most answers are errors; what counts is that they are the
endpoint's own errors and keep the rules of the transport."""
import json
import pathlib
import re
import socket

import pytest

from conftest import Engine

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "wire"
API_MAX = (1, 47)

# Endpoints of the API that this version answers with 501, and what else it may say.
LATER = {
    ("POST", "/build"), ("POST", "/commit"),
    ("GET", "/containers/{}/archive"), ("HEAD", "/containers/{}/archive"), ("PUT", "/containers/{}/archive"),
    ("GET", "/containers/{}/changes"), ("GET", "/containers/{}/export"), ("GET", "/containers/{}/stats"),
    ("POST", "/containers/{}/pause"), ("POST", "/containers/{}/unpause"), ("POST", "/containers/{}/update"),
    ("POST", "/containers/prune"),
    ("GET", "/images/search"), ("POST", "/networks/create"), ("POST", "/networks/prune"),
    ("POST", "/networks/{}/connect"), ("POST", "/networks/{}/disconnect"), ("DELETE", "/networks/{}"),
    ("POST", "/swarm/init"),
}


# Endpoints that ask a registry.
REGISTRY = ("/images/create", "/images/{}/push", "/auth", "/distribution/{}/json")


def recorded():
    """(name, request) of each distinct request of both recordings."""
    seen = set()
    for path in sorted(DATA.glob("*.txt")):
        for line in path.read_text().splitlines():
            if not line.startswith("{"):
                continue
            r = json.loads(line)
            if "u" not in r or line in seen:
                continue
            seen.add(line)
            yield path.stem, r


def negotiated(url):
    """The recording server spoke a newer API; a client that asked ours first would send ours."""
    m = re.match(r"/v(\d+)\.(\d+)(/.*)", url)
    if m and (int(m[1]), int(m[2])) > API_MAX:
        return "/v%d.%d%s" % (*API_MAX, m[3])
    return url


def endpoint(url):
    path = re.sub(r"^/v[\d.]+", "", url.split("?")[0])
    path = re.sub(r"^/(containers|networks|volumes|exec)/(?!create$|json$|prune$)[^/]+", r"/\1/{}", path)
    return re.sub(r"^/images/(?!create$|json$|prune$|load$|get$|search$).+?(/(?:json|history|push|tag|get))?$",
                  r"/images/{}\1", path)


def encode(r):
    body = b""
    if r["b"] is not None:
        body = r["b"].encode() if isinstance(r["b"], str) else json.dumps(r["b"]).encode()
        if isinstance(r["b"], str):   # "<13 bytes binary>"
            body = (b"null\n" if "json" in r["h"].get("Content-Type", "") else b"\0" * 1024)
    head = [f"{r['m']} {negotiated(r['u'])} HTTP/1.1", "Host: api.moby.localhost"]
    for k, v in r["h"].items():
        head.append(f"{k}: {len(body) if k == 'Content-Length' else v}")
    if "Transfer-Encoding" in r["h"]:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def answer(sock_path, data, timeout=60):
    """Status, headers and the start of the body; a stream is left after its head."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(str(sock_path))
        s.sendall(data)
        buf = b""
        while b"\r\n\r\n" not in buf:
            got = s.recv(65536)
            assert got, f"connection closed after {buf!r}"
            buf += got
        head, body = buf.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:])}
        while not data.startswith(b"HEAD") and len(body) < int(headers.get("content-length", 0)):
            body += s.recv(65536)
        return int(lines[0].split()[1]), headers, body


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    e = Engine(tmp_path_factory.mktemp("wire"))
    e.start()
    yield e
    e.stop()


CASES = list(recorded())


@pytest.mark.parametrize("name,request_", CASES,
                         ids=[f"{i}-{n}-{r['m']}-{endpoint(r['u'])}" for i, (n, r) in enumerate(CASES)])
def test_recorded_request_is_routed(bare, name, request_):
    status, headers, body = answer(bare.sock, encode(request_))
    for h in ("api-version", "ostype", "server", "docker-experimental"):
        assert h in headers, f"no {h} header"
    assert b"page not found" not in body
    # Docker's answer too where there is no network
    assert status != 500 or (endpoint(request_["u"]) in REGISTRY and re.search(rb"Could not resolve|Failed to connect", body)), body
    if status >= 400:
        assert headers["content-type"] == "application/json"
        assert request_["m"] == "HEAD" or json.loads(body)["message"]
    if status == 501:
        assert (request_["m"], endpoint(request_["u"])) in LATER, body


def get(bare, target, method="GET", extra=b"", body=b""):
    return answer(bare.sock, f"{method} {target} HTTP/1.1\r\nHost: d\r\n".encode() + extra + b"\r\n" + body)


def test_ping(bare):
    status, headers, body = get(bare, "/_ping", "HEAD")
    assert (status, headers["content-length"], headers["api-version"], headers["ostype"]) == (200, "0", "1.47", "linux")
    assert (headers["swarm"], headers["builder-version"]) == ("inactive", "1")
    assert get(bare, "/_ping")[2] == b"OK"
    assert get(bare, "/v1.24/_ping")[2] == b"OK"


def test_versions(bare):
    assert get(bare, "/version")[0] == get(bare, "/v1.12/version")[0] == get(bare, "/v1.47/version")[0] == 200
    status, _, body = get(bare, "/v1.11/version")
    assert status == 400 and b"client version 1.11 is too old. Minimum supported API version is 1.12" in body
    status, _, body = get(bare, "/v1.48/version")
    assert status == 400 and b"client version 1.48 is too new. Maximum supported API version is 1.47" in body


def test_unknown_is_not_found(bare):
    for target in ("/", "/nope", "/v1.47", "/v1.47/", "/containers/a/b/c/json", "//_ping"):
        status, headers, body = get(bare, target)
        assert status == 404 and json.loads(body) == {"message": "page not found"}, target
        assert headers["content-type"] == "application/json"
    assert get(bare, "/version", "DELETE")[0] == 404


@pytest.mark.parametrize("bad", [
    b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /%zz HTTP/1.1\r\n\r\n", b"GET /version?a=%0 HTTP/1.1\r\n\r\n",
])
def test_malformed_requests_are_refused(bare, bad):
    status, headers, body = answer(bare.sock, bad)
    assert status == 400 and json.loads(body)["message"]


def test_head_limit(bare):
    assert answer(bare.sock, b"GET /" + b"a" * 20000)[0] == 431


def test_json_bodies(bare):
    ct = b"Content-Type: application/json\r\nContent-Length: %d\r\n"
    status, _, body = get(bare, "/containers/create", "POST", ct % 5, b'{"a":')
    assert status == 400 and b"invalid JSON" in body
    status, _, body = get(bare, "/containers/create", "POST",
                          b"Content-Type: text/plain\r\nContent-Length: 2\r\n", b"{}")
    assert status == 400 and b"unsupported Content-Type" in body


def test_pipelining_and_keep_alive(bare):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(bare.sock))
        one = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
        s.sendall(one * 20 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = b""
        while True:
            d = s.recv(65536)
            if not d:
                break
            got += d
        assert got.count(b"HTTP/1.1 200 OK") == 21 and got.endswith(b"OK")


def test_bytes_one_by_one(bare):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(bare.sock))
        for b in b"POST /v1.47/containers/zz/start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /_ping HTTP/1.1\r\n\r\n":
            s.send(bytes([b]))
        got = b""
        while not got.endswith(b"OK"):
            got += s.recv(65536)
        assert b"404 Not Found" in got and b"No such container: zz" in got


def test_expect_continue(bare):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(bare.sock))
        s.sendall(b"POST /containers/create HTTP/1.1\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 2\r\n\r\n")
        assert s.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"{}")
        assert s.recv(65536).startswith(b"HTTP/1.1 400")


def test_events_head_comes_at_once_and_until_ends(bare):
    status, headers, _ = get(bare, "/events")
    assert status == 200 and headers["content-type"] == "application/json"
    assert headers["transfer-encoding"] == "chunked"
    assert get(bare, "/events?since=2&until=1")[0] == 400
    assert get(bare, "/events?since=1&until=2")[0] == 200
    status, _, body = get(bare, "/events?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D")
    assert status == 400 and json.loads(body)["message"] == "invalid filter 'nope'"


def test_filters_in_both_shapes(bare):
    for shape in ('{"name":["bri"]}', '{"name":{"bri":true}}'):
        status, _, body = get(bare, "/networks?filters=" + "".join(f"%{b:02X}" for b in shape.encode()))
        assert status == 200 and [n["Name"] for n in json.loads(body)] == ["bridge"]


def test_thousand_connections(bare):
    socks = []
    try:
        for _ in range(1100):
            s = socket.socket(socket.AF_UNIX)
            socks.append(s)
            s.connect(str(bare.sock))       # blocking: a full backlog is waited for
            s.settimeout(60)
        socks[0].sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        assert socks[0].recv(65536).endswith(b"OK")
        last = socks[-1]
        last.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")   # beyond the limit: waits for room
        for s in socks[:200]:
            s.close()
        assert last.recv(65536).endswith(b"OK")
    finally:
        for s in socks:
            s.close()
