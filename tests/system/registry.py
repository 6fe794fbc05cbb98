"""A registry of the tests' own on loopback (Debian's docker-registry), with or without TLS and passwords, and a
proxy that misbehaves as it is told to."""
import base64
import http.client
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

from conftest import free_port

USER, PASSWORD = "alice", "s3cret:with colon"


def make_certificate(where):
    """An authority and a certificate for 127.0.0.1."""
    run = lambda *a: subprocess.run(["openssl", *map(str, a)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ext = where / "ext"
    ext.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", where / "ca.key", "-out", where / "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", where / "key", "-out", where / "csr", "-subj", "/CN=127.0.0.1")
    run("x509", "-req", "-in", where / "csr", "-CA", where / "ca.crt", "-CAkey", where / "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", ext, "-out", where / "crt")


class Registry:
    def __init__(self, base, auth=False, tls=False):
        self.base, self.auth, self.tls = pathlib.Path(base), auth, tls
        self.base.mkdir(parents=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        conf = {"version": "0.1", "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(self.base / "data")},
                "delete": {"enabled": True}}, "http": {"addr": self.host, "secret": "x"}}
        if auth:
            line = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True, stdout=subprocess.PIPE, text=True).stdout
            (self.base / "htpasswd").write_text(line)
            conf["auth"] = {"htpasswd": {"realm": "test", "path": str(self.base / "htpasswd")}}
        if tls:
            make_certificate(self.base)
            conf["http"]["tls"] = {"certificate": str(self.base / "crt"), "key": str(self.base / "key")}
        (self.base / "config.yml").write_text(json.dumps(conf))
        self.log = open(self.base / "log", "wb")
        self.proc = subprocess.Popen(["docker-registry", "serve", str(self.base / "config.yml")], stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.time() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert time.time() < end and self.proc.poll() is None, "docker-registry does not start"
                time.sleep(0.05)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(60)
        self.log.close()

    def skopeo_args(self, side):
        args = [f"--{side}-tls-verify=false" if side else "--tls-verify=false"]
        if self.auth:
            args += [f"--{side}-creds" if side else "--creds", f"{USER}:{PASSWORD}"]
        return args

    def put(self, archive, name):
        """skopeo uploads a docker archive; returns the digest that skopeo computes."""
        skopeo("copy", *self.skopeo_args("dest"), f"docker-archive:{archive}", f"docker://{self.host}/{name}")
        return self.inspect(name)["Digest"]

    def inspect(self, name):
        return json.loads(skopeo("inspect", *self.skopeo_args(""), f"docker://{self.host}/{name}"))

    def raw(self, name, *more):
        return skopeo("inspect", "--raw", *more, *self.skopeo_args(""), f"docker://{self.host}/{name}")

    def config_digest(self, name):
        return json.loads(self.raw(name))["config"]["digest"]


def skopeo(*args):
    p = subprocess.run(["skopeo", "--insecure-policy", *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return p.stdout


class Proxy:
    """Passes requests on to a registry; fault(handler, path) may answer itself and say so by returning True.
    seen: (method, path, headers) of each request."""

    def __init__(self, registry, fault=None):
        self.target, self.fault, self.seen = registry, fault, []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def body(self):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def any(self):
                proxy.seen.append((self.command, self.path, dict(self.headers)))
                if proxy.fault and proxy.fault(self, self.path):
                    return
                self.forward()

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = any

            def fetch(self):
                c = http.client.HTTPConnection("127.0.0.1", proxy.target.port, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                headers["Host"] = self.headers["Host"]
                c.request(self.command, self.path, self.body(), headers)
                r = c.getresponse()
                return r, r.read()

            def forward(self):
                r, data = self.fetch()
                self.answer(r.status, data, {k: v for k, v in r.getheaders() if k.lower() not in ("transfer-encoding", "connection", "content-length")},
                            length=r.getheader("Content-Length") if self.command == "HEAD" else None)

            def answer(self, status, data=b"", headers={}, length=None):
                self.send_response_only(status)
                for k, v in headers.items():
                    self.send_header(k, v)
                self.send_header("Content-Length", length or len(data))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def cut(self):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def paths(self, part):
        return [p for _, p, _ in self.seen if part in p]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
