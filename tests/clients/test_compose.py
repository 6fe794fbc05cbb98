"""Debian's docker-compose 1.29.2 leads an application of three services through its life: a database with a volume and a
health check, a web server with a published port that waits for it, workers that find both by name. In process isolation,
in hyperv (the daemon's default) and mixed (the `isolation` key)."""
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import IMAGES, Engine, free_port, host_state, wait_clean, wait_for     # noqa: E402

APP = """
version: "3.9"
services:
  db:
    image: busybox
    command: ["sh", "-c", "test -e /data/table || echo row-$$RANDOM > /data/table; exec httpd -f -p 5432 -h /data"]
    volumes: ["store:/data"]
    networks: [back]
    healthcheck: {{test: ["CMD", "wget", "-q", "-O-", "http://127.0.0.1:5432/table"], interval: 1s, retries: 60}}
  web:
    image: busybox
    container_name: the-web
    command: ["httpd", "-f", "-p", "80", "-h", "/www"]
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["./www:/www:ro"]
    networks: [front, back]
    environment: {{COLOUR: "{colour}"}}
    depends_on: {{db: {{condition: service_healthy}}}}
    {isolation}
  worker:
    image: busybox
    command:
      - sh
      - -c
      - "trap 'exit 0' TERM; while :; do timeout 5 wget -q -O- http://db:5432/table && timeout 5 wget -q -O- http://web/page; sleep 0.5 & wait; done"
    networks: [back]
    depends_on: [web, db]
volumes: {{store: }}
networks: {{front: , back: {{internal: true}}}}
"""


class Compose:
    def __init__(self, engine, folder, mode):
        self.engine, self.folder, self.mode, self.port = engine, folder, mode, free_port()
        (folder / "www").mkdir(parents=True)
        (folder / "www/page").write_text("a page\n")
        self.write("red")

    def write(self, colour):
        isolation = "isolation: hyperv" if self.mode == "mixed" else ""
        (self.folder / "docker-compose.yml").write_text(APP.format(port=self.port, colour=colour, isolation=isolation))

    def __call__(self, *args):
        p = subprocess.run(["/usr/bin/docker-compose", "--no-ansi", "-p", "app", *args], cwd=self.folder, capture_output=True,
                           env=dict(self.engine.env(), COMPOSE_HTTP_TIMEOUT="200"), text=True, timeout=220)
        assert p.returncode == 0, (args, p.stdout, p.stderr)
        return p.stdout

    def inspect(self, service, template):
        ids = self("ps", "-q", service).split()
        return self.engine.cli("docker", "inspect", "-f", template, *ids).ok().splitlines()

    def page(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/page", timeout=30).read()
        except OSError:
            return None


@pytest.fixture(params=["process", "hyperv", "mixed"])
def compose(request, tmp_path):
    mode = request.param
    e = Engine(tmp_path / "engine", ["--exec-opt", "isolation=hyperv"] if mode == "hyperv" else [])
    e.start()
    try:
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        before = host_state(e.base)
        since = int(time.time())
        yield Compose(e, tmp_path / "app", mode)
        ids = e.cli("insula", "ps", "-aq").out.split()
        if ids:
            e.cli("insula", "rm", "-f", *ids)
        wait_clean(e, before, since)
    finally:
        e.stop()


def rows(c):
    return {x.split("|")[1].strip() for x in c("logs", "worker").splitlines() if "row-" in x}


def test_life_of_an_application(compose):
    signal.alarm(900)
    c = compose
    c("up", "-d")
    assert c.inspect("db", "{{.State.Health.Status}}") == ["healthy"]       # or web would not have been started
    isolation = {s: c.inspect(s, "{{.HostConfig.Isolation}}")[0] for s in ("db", "web", "worker")}
    other = "hyperv" if c.mode == "hyperv" else "process"
    assert isolation == {"db": other, "web": "process" if c.mode == "process" else "hyperv", "worker": other}
    wait_for(lambda: c.page() == b"a page\n")
    row, = wait_for(lambda: rows(c))
    wait_for(lambda: "a page" in c("logs", "--tail", "4", "worker"))
    assert c("port", "web", "80").strip() == f"127.0.0.1:{c.port}"
    assert c("exec", "-T", "db", "cat", "/data/table").strip() == row
    assert "httpd -f -p 80" in c("top", "web")

    c("up", "-d", "--scale", "worker=3")
    assert c.inspect("worker", "{{.State.Running}}") == ["true"] * 3
    assert sorted(c.inspect("worker", "{{.Name}}")) == [f"/app_worker_{i}" for i in (1, 2, 3)]
    wait_for(lambda: len({x.split("|")[0] for x in c("logs", "worker").splitlines() if "row-" in x}) == 3)
    c("up", "-d", "--scale", "worker=1")
    assert len(c("ps", "-q", "worker").split()) == 1

    old = c("ps", "-q").split()
    c.write("green")        # the web server is made anew, the others stay
    c("up", "-d")
    assert c("exec", "-T", "web", "sh", "-c", "echo $COLOUR") == "green\n"
    assert len(set(old) & set(c("ps", "-q").split())) == 2
    wait_for(lambda: c.page() == b"a page\n")

    c("stop", "-t", "60", "worker")
    assert c.inspect("worker", "{{.State.ExitCode}}") == ["0"]
    c("start", "worker")
    c("restart", "-t", "1", "db")
    wait_for(lambda: c.inspect("db", "{{.State.Health.Status}}") == ["healthy"])
    assert c("exec", "-T", "db", "cat", "/data/table").strip() == row

    c("down", "-t", "1")
    assert c.engine.cli("docker", "ps", "-aq").ok() == ""
    assert c.engine.cli("docker", "volume", "ls", "-q").ok() == "app_store"
    assert c.engine.cli("docker", "network", "ls", "-q", "--filter", "name=app_").ok() == ""
    c("up", "-d", "db")
    assert c("exec", "-T", "db", "cat", "/data/table").strip() == row
    c("down", "-v", "-t", "1")
    assert c.engine.cli("docker", "volume", "ls", "-q").ok() == ""
