"""The daemon is killed with -9 again and again while clients are at work in both modes; nothing is lost or left behind.
tests/soak has the long form."""
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
import time

import pytest

from chaos import Chaos, call
from conftest import IMAGES, Engine, host_state, wait_clean, wait_for

KILLS = int(os.environ.get("INSULA_CHAOS_KILLS", "15"))


@pytest.fixture
def own():
    base = tempfile.mkdtemp(prefix="insula-test-")
    e = Engine(base)
    e.start()
    e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
    e.cli("insula", "network", "create", "chaos").ok()
    e.cli("insula", "run", "--rm", "--isolation=hyperv", "busybox", "true").ok()     # makes the template
    before = host_state(base)
    try:
        yield e
        wait_clean(e, before)
    finally:
        e.stop()
        if not os.environ.get("INSULA_KEEP"):
            shutil.rmtree(base, ignore_errors=True)


def test_nothing_is_lost(own):
    seed = int(os.environ.get("INSULA_CHAOS_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    chaos = Chaos(own, ("process", "process", "process", "hyperv"), seed)
    chaos.run(KILLS, seconds=30, least=min(KILLS, 5))
    print(chaos.facts)


# ---- the power goes ----

SNAPSHOTS = int(os.environ.get("INSULA_POWER_CUTS", "40"))


class Writer(threading.Thread):
    """Makes and removes what has rows in the database."""

    def __init__(self, engine, number, over):
        super().__init__()
        self.sock, self.number, self.over, self.error, self.made = engine.sock, number, over, None, 0

    def one(self, i):
        name = f"w{self.number}-{i}"
        config = {"Image": "busybox", "Volumes": {"/a": {}, "/b": {}}, "Env": ["PAD=" + "x" * (i * 37 % 5000)]}
        for method, path, body in (("POST", f"/containers/create?name={name}", config),
                                   ("POST", f"/containers/{name}/rename?name={name}-2", None),
                                   ("POST", "/volumes/create", {"Name": name, "Labels": {"i": str(i)}}),
                                   ("DELETE", f"/volumes/{name}", None)):
            assert call(self.sock, method, path, body)[0] in (201, 204), (method, path)
        if i >= 5:
            assert call(self.sock, "DELETE", f"/containers/w{self.number}-{i - 5}-2?v=1")[0] == 204

    def run(self):
        try:
            for i in itertools.count():
                if self.over.is_set():
                    break
                self.one(i)
                self.made += 1
        except Exception as e:
            self.error = e


def snapshot(engine):
    """What is in the files at one moment: the daemon stands still."""
    os.kill(engine.proc.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: open(f"/proc/{engine.proc.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", step=0.001)
        return [(engine.data / f"insula.db{x}").read_bytes() for x in ("", "-wal")]
    finally:
        os.kill(engine.proc.pid, signal.SIGCONT)


def cut(rng, older, newer):
    """What a disk may hold that did not get all of what was written since `older`: the end of it is missing, or one
    block in the midst. Only what is not yet in the database itself can be missing: that is synced before."""
    (db, wal), (db2, wal2) = older, newer
    first = next((i for i, (a, b) in enumerate(zip(wal, wal2)) if a != b), min(len(wal), len(wal2)))
    if db != db2 or first >= len(wal2):
        return []
    at = rng.randrange(first, len(wal2))
    hole = at // 512 * 512
    return [wal2[:at]] + ([wal2[:hole] + bytes(512) + wal2[hole + 512:]] if hole >= first else [])


def rows(folder, db, wal):
    """The ids of the containers in such a database, which is sound."""
    folder.mkdir()
    (folder / "insula.db").write_bytes(db)
    (folder / "insula.db-wal").write_bytes(wal)
    with contextlib.closing(sqlite3.connect(folder / "insula.db")) as c:
        assert c.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not c.execute("PRAGMA foreign_key_check").fetchall()
        volumes = {name for name, in c.execute("SELECT name FROM volumes")}
        found = c.execute("SELECT id, config, state FROM containers").fetchall()
        for _, config, state in found:
            used = {m["Name"] for m in json.loads(config)["Mounts"]}
            assert json.loads(state)["Status"] == "created"
            assert len(used) == 2 and used <= volumes, "a container without its volumes"
            volumes -= used
    # One more can be a named volume that is about to be removed, of each writer.
    assert len([v for v in volumes if len(v) == 64]) == 0, "volumes without their container"
    return {x for x, _, _ in found}


def test_power_cut(own, tmp_path):
    """Whatever has reached the disk when the power goes, the database opens and is whole."""
    rng, over, copies, moments = random.Random(1), threading.Event(), [], []
    writers = [Writer(own, n, over) for n in range(3)]
    for w in writers:
        w.start()
    try:
        older = snapshot(own)
        # A slow machine writes little between two of them, and a fast one has often written it into the database itself.
        while len(moments) < SNAPSHOTS or len(copies) <= SNAPSHOTS * 1.2 or len(set(moments)) < SNAPSHOTS / 2:
            if any(w.error for w in writers):
                break
            time.sleep(rng.random() * 0.05)
            newer = snapshot(own)
            moments.append(sum(w.made for w in writers))
            copies.append(newer)
            copies += [[newer[0], wal] for wal in cut(rng, older, newer)]
            older = newer
    finally:
        over.set()
        for w in writers:
            w.join()
    assert not [w.error for w in writers if w.error]
    found = [rows(tmp_path / str(i), *copy) for i, copy in enumerate(copies)]
    assert len(set(map(frozenset, found))) > SNAPSHOTS / 3
    for i in rng.sample(range(len(copies)), 3):
        opens(tmp_path / f"engine-{i}", tmp_path / str(i), found[i])
    ids = own.cli("insula", "ps", "-aq").ok().split()
    own.cli("insula", "rm", "-v", *ids).ok()


def opens(base, folder, ids):
    """A daemon works with it."""
    e = Engine(base)
    e.data.mkdir()
    for x in folder.iterdir():
        shutil.copy(x, e.data)
    e.start()
    try:
        assert set(e.cli("insula", "ps", "-aq", "--no-trunc").ok().split()) == ids
        if ids:
            e.cli("insula", "rm", "-v", *ids).ok()
    finally:
        e.stop()
