"""Images are used before the disk has them (engine/image_sync.c): the daemon ends, the daemon dies, the machine dies."""
import contextlib
import pathlib
import sqlite3

import pytest

from conftest import BUILD, IMAGES, Engine, wait_for
from test_images import api, load
from test_puller import Tar, config, docker_archive, sha
from test_store import chain
from test_store_faults import check

BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def mortal(tmp_path):
    """Not started yet."""
    e = Engine(tmp_path / "engine")
    yield e
    e.stop()


def begin(e, syncs=True):
    e.prefix = [] if syncs else [str(BUILD / "tests/enosys"), "syncfs"]
    e.start()


def ask(e, sql):
    """While the daemon is away."""
    with contextlib.closing(sqlite3.connect(e.data / "insula.db")) as c, c:
        return c.execute(sql).fetchall()


def unsynced(e):
    return ask(e, "SELECT name, boot FROM unsynced ORDER BY name")


def said(e):
    return (e.base / "insulad.log").read_text()


def bring(e, name, *layers):
    """Returns id and chain ids."""
    cfg = config(list(layers), author=name)
    assert load(e, docker_archive(list(layers), cfg=cfg, tags=[f"{name}:1"]))[0] == 0
    return sha(cfg), ["sha256:" + chain(*layers[:k + 1]) for k in range(len(layers))]


def test_an_end_waits_for_the_disk(mortal):
    begin(mortal)
    bring(mortal, "one", Tar().add("a", b"x" * 5000000).bytes())
    mortal.stop()
    assert unsynced(mortal) == []


def test_the_next_daemon_of_the_same_boot_does_it(mortal):
    begin(mortal, syncs=False)
    image, chains = bring(mortal, "one", Tar().add("a", b"x").bytes(), Tar().add("b", b"y").bytes())
    wait_for(lambda: "to the disk" in said(mortal))
    mortal.kill9()
    assert unsynced(mortal) == sorted((n, BOOT) for n in [image, *chains])
    begin(mortal)
    assert check(mortal) == {image} and "removed" not in said(mortal)
    mortal.stop()
    assert unsynced(mortal) == []


def test_the_machine_dies(mortal, isolation):
    """What was on the disk stays; what was not, and what is built upon it, is as if it had not come."""
    base, low, top = (Tar().add(n, n.encode() * 1000).bytes() for n in ("base", "low", "top"))
    begin(mortal)
    old, _ = bring(mortal, "old", base)
    mortal.stop()
    begin(mortal, syncs=False)
    mortal.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    busybox = api(mortal, "GET", "/images/busybox/json")[1]["Id"]
    mortal.cli("insula", "create", f"--isolation={isolation}", "--network=none", "--name", "built", "busybox", "echo", "works").ok()
    middle, chains = bring(mortal, "middle", base, low)
    above, more = bring(mortal, "above", base, low, top)
    mortal.kill9()
    assert {n for n, _ in unsynced(mortal)} >= {busybox, middle, above, more[2], chains[1]}
    assert chains[0] not in {n for n, _ in unsynced(mortal)}
    ask(mortal, "UPDATE unsynced SET boot = 'an earlier one'")
    for d in chains[1], more[2]:
        for f in (mortal.data / "layers" / d[7:]).iterdir():
            f.write_bytes(b"")
    begin(mortal)
    assert check(mortal) == {old}
    for name in "busybox:latest", "middle:1", "above:1":
        assert f"image {name} was not on the disk yet when the machine stopped, and is removed" in said(mortal)
    assert "image old:1" not in said(mortal)
    r = mortal.cli("insula", "start", "built")
    assert r.code == 1 and f"No such image: {busybox}" in r.err
    # All of it can come again.
    mortal.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    assert bring(mortal, "above", base, low, top)[0] == above
    assert check(mortal) == {old, above, busybox}
    assert (mortal.data / "layers" / more[2][7:] / "top").read_bytes() == b"top" * 1000
    assert mortal.cli("insula", "start", "-a", "built").ok() == "works"
    mortal.cli("insula", "rm", "built").ok()


def test_the_machine_dies_after_a_disk_was_made(mortal):
    """Only that goes, and is made again."""
    begin(mortal)
    mortal.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    mortal.stop()
    begin(mortal, syncs=False)
    run = ("run", "--rm", "--isolation=hyperv", "--network=none", "busybox", "echo", "works")
    assert mortal.cli("insula", *run).ok() == "works"
    (disk,) = mortal.data.glob("disks/*.erofs")
    whole = disk.read_bytes()
    mortal.kill9()
    assert unsynced(mortal) == [(f"disks/{disk.name}", BOOT)]
    ask(mortal, "UPDATE unsynced SET boot = 'an earlier one'")
    disk.write_bytes(bytes(len(whole)))
    begin(mortal)
    assert not disk.exists() and "removed" not in said(mortal)
    assert mortal.cli("insula", *run).ok() == "works"
    assert disk.read_bytes() == whole
    mortal.stop()
    assert unsynced(mortal) == []


def test_what_is_there_already_is_not_put_at_risk(mortal):
    layer = Tar().add("a", b"x").bytes()
    begin(mortal)
    image, _ = bring(mortal, "one", layer)
    mortal.stop()
    begin(mortal, syncs=False)
    assert bring(mortal, "one", layer)[0] == image
    mortal.kill9()
    assert unsynced(mortal) == []
