"""dockerode, the client library of Node programs, uses every resource in both modes."""
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
from conftest import Engine, IMAGES      # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def modules():
    """From npm's registry, kept beside the build."""
    build = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build")).resolve() / "node"
    if not (build / "node_modules/dockerode").is_dir():
        build.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", build, "dockerode@5.0.1"],
                       check=True, timeout=200)
    return build / "node_modules"


@pytest.mark.parametrize("isolation", ["process", "hyperv"])
def test_dockerode(modules, isolation, tmp_path):
    e = Engine(tmp_path / "engine", ["--exec-opt", f"isolation={isolation}"])
    e.start()
    try:
        p = subprocess.run(["node", HERE / "dockerode.js", e.sock, isolation, IMAGES / "busybox.tar"], text=True,
                           capture_output=True, timeout=200, env=dict(os.environ, NODE_PATH=str(modules)))
        assert p.returncode == 0, p.stdout + p.stderr
        assert p.stdout.split("\n")[:-1] == [f"{x} ok" for x in "system images run life exec networks volumes events".split()]
        assert e.cli("insula", "ps", "-aq").ok() == ""
    finally:
        e.stop()
