"""insula-runtime below other engines: the real programs, started by bench/peers.py in namespaces of their own. The
cgroups of their containers must be gone afterwards."""
import os
import pathlib
import subprocess
import sys
import tempfile
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
BUILD = pathlib.Path(os.environ.get("INSULA_BUILD", ROOT / "build")).resolve()
IMAGE = pathlib.Path(os.environ.get("INSULA_IMAGES", ROOT / "build/images")) / "busybox.tar"
RUNTIME = BUILD / "src/runtime/insula-runtime"


@pytest.fixture(scope="session")
def place():
    import peers
    p = peers.Place()
    yield p
    p.stop()


@pytest.fixture(scope="session")
def base():
    d = tempfile.mkdtemp(prefix="insula-compat-")
    yield d
    shutil.rmtree(d, ignore_errors=True)


def terminal(command, env=None):
    """The output of a command that has a terminal."""
    line = " ".join(f"'{a}'" for a in command)
    p = subprocess.run(["script", "-qec", line, "/dev/null"], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=120)
    return p.stdout
