"""Clients for Node, in both modes: dockerode uses every resource, testcontainers starts and stops containers."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
from conftest import Cli, Engine, IMAGES      # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


PACKAGES = ("dockerode@5.0.1", "testcontainers@10.2.1")


@pytest.fixture(scope="module")
def modules():
    """From npm's registry, kept beside the build, each by itself: they want different versions of the same."""
    build = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build")).resolve() / "node"
    for package in PACKAGES:
        name = package.partition("@")[0]
        if not (build / name / "node_modules" / name).is_dir():
            (build / name).mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", build / name, package],
                           check=True, timeout=200)
    return build


@pytest.fixture(params=["process", "hyperv"])
def daemon(request, tmp_path):
    """One whose containers are of this mode when they name none."""
    e = Engine(tmp_path / "engine", ["--exec-opt", f"isolation={request.param}"])
    e.start()
    try:
        yield e, request.param
    finally:
        Cli(e, "insula", request.param).cleanup()
        e.stop()


def test_dockerode(modules, daemon):
    e, isolation = daemon
    p = subprocess.run(["node", HERE / "dockerode.js", e.sock, isolation, IMAGES / "busybox.tar"], text=True,
                       capture_output=True, timeout=200, env=dict(os.environ, NODE_PATH=str(modules / "dockerode/node_modules")))
    assert p.returncode == 0, p.stdout + p.stderr
    assert p.stdout.split("\n")[:-1] == [f"{x} ok" for x in "system images run life exec networks volumes events".split()]
    assert e.cli("insula", "ps", "-aq").ok() == ""


def test_testcontainers(modules, daemon):
    e, isolation = daemon
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    env = dict(e.env(), NODE_PATH=str(modules / "testcontainers/node_modules"), TESTCONTAINERS_RYUK_DISABLED="true")
    p = subprocess.run(["node", HERE / "testcontainers.js", isolation], text=True, capture_output=True, timeout=200, env=env)
    assert p.returncode == 0, p.stdout + p.stderr
    assert len(p.stdout.splitlines()) == 6 and all(x.endswith(" ok") for x in p.stdout.splitlines())
    assert e.cli("insula", "ps", "-aq").ok() == ""
