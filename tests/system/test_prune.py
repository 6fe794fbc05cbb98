"""`prune` of every kind, by both CLIs, with every filter: what goes, what stays, and what is said."""
import json
import re

import pytest
from conftest import IMAGES, Cli, Engine, host_state, wait_clean


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    e = Engine(tmp_path_factory.mktemp("engine"))
    e.start()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    before = host_state(e.base)
    yield e
    wait_clean(e, before)
    e.stop()


# What is pruned is the same in both modes but for the containers.
@pytest.fixture(params=[("insula", "process"), ("docker", "hyperv")])
def c(own, request):
    cli = Cli(own, *request.param)
    yield cli
    cli.cleanup()
    own.cli("insula", "system", "prune", "-af", "--volumes").ok()
    own.cli("insula", "volume", "prune", "-af").ok()
    own.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()


def left(c, what, field="{{.Name}}"):
    return set(c(*what.split(), "ls", "--format", field, *(["-a"] if what == "container" else [])).ok().split())


def filled(c):
    """Two of each kind, one of them with a label; and a container that runs, which uses some."""
    for name, more in (("plain", []), ("marked", ["--label", "keep=no"])):
        c("create", "--name", name, *more, "busybox", "true").ok()
        c("network", "create", *more, f"net-{name}").ok()
        c("volume", "create", *more, f"vol-{name}").ok()
        c("volume", "create", *more).ok()
    c("network", "create", "net-used").ok()
    c("run", "-d", "--name", "running", "--network", "net-used", "-v", "/anonymous", "-v", "vol-used:/x", "busybox", "sleep", "1000").ok()


def test_each_kind(c):
    filled(c)
    said = c("container", "prune", "-f", "--filter", "label!=keep").ok()
    assert re.fullmatch(r"Deleted Containers:\n[0-9a-f]{64}\n\nTotal reclaimed space: .*B", said)
    assert left(c, "container", "{{.Names}}") == {"marked", "running"}
    assert c("container", "prune", "-f", "--filter", "until=1h").ok() == "Total reclaimed space: 0B"
    assert c("network", "prune", "-f", "--filter", "label=keep=no").ok() == "Deleted Networks:\nnet-marked"
    assert left(c, "network") == {"bridge", "host", "none", "net-plain", "net-used"}
    assert c("network", "prune", "-f", "--filter", "until=1h").ok() == ""
    anonymous = {v for v in left(c, "volume") if len(v) == 64}
    said = c("volume", "prune", "-f", "--filter", "label=keep").ok().splitlines()
    assert said[0] == "Deleted Volumes:" and set(said[1:2]) <= anonymous and said[2:3] == [""]
    c("volume", "prune", "-af", "--filter", "label!=keep").ok()
    assert len(left(c, "volume")) == 3 and {"vol-used", "vol-marked"} <= left(c, "volume")
    for what in ("container", "network", "volume", "image"):
        r = c(what, "prune", "-f", "--filter", "nonsense=1")
        assert r.code == 1 and "invalid filter 'nonsense'" in r.err, (what, r)


def test_system(c):
    filled(c)
    r = c("system", "prune", stdin="n\n")
    assert r.out.startswith("WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
                            "  - all dangling images\n")
    assert "Are you sure you want to continue? [y/N] " in r.out and left(c, "container", "{{.Names}}") == {"plain", "marked", "running"}
    r = c("system", "prune", "--volumes", "--filter", "until=1h", "-f")
    assert r.code == 1 and 'The "until" filter is not supported with "--volumes"' in r.err
    said = c("system", "prune", "-f", "--filter", "label=keep").ok()
    assert re.fullmatch(r"Deleted Containers:\n[0-9a-f]{64}\n\nDeleted Networks:\nnet-marked\n\nTotal reclaimed space: .*B", said)
    said = c("system", "prune", "-f", "--volumes", stdin="").ok()
    assert [x for x in said.splitlines() if x.endswith(":")] == ["Deleted Containers:", "Deleted Networks:", "Deleted Volumes:"]
    assert left(c, "container", "{{.Names}}") == {"running"} and left(c, "network") == {"bridge", "host", "none", "net-used"}
    assert {v for v in left(c, "volume") if len(v) < 64} == {"vol-plain", "vol-marked", "vol-used"} and len(left(c, "volume")) == 4
    c("rm", "-fv", "running").ok()
    said = c("system", "prune", "-af").ok()
    assert "Deleted Networks:\nnet-used\n" in said and "Deleted Images:\nuntagged: busybox:latest\ndeleted: sha256:" in said
    assert c("images", "-q").ok() == ""
    seen = c("events", "--since", "1", "--until", "0s", "--filter", "event=prune", "--format", "{{json .}}")
    kinds = {json.loads(x)["Type"] for x in seen.ok().splitlines()}
    assert kinds == {"container", "network", "volume", "image"}
