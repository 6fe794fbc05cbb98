"""The engine under load for INSULA_SOAK_SECONDS (120): containers of both modes come, work and go from several
clients at once. Afterwards the daemon has as many descriptors, children and, nearly, as much memory as before."""
import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import host_state, wait_for     # noqa: E402

SECONDS = int(os.environ.get("INSULA_SOAK_SECONDS", "120"))
CLIENTS = ("process", "process", "hyperv")
GROWTH_KB = 3000        # of the private memory, after as much work as has warmed it up


def facts(pid):
    status = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(x.split()[1]) for x in status if x.startswith(("Private_Dirty", "Swap:")))
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "children": len(children)}, private


class Client(threading.Thread):
    """One user who does one thing after the other; the first thing that goes wrong is its error."""

    def __init__(self, engine, isolation, end, seed):
        super().__init__()
        self.engine, self.isolation, self.end = engine, isolation, end
        self.rng = random.Random(seed)
        self.error, self.done = None, 0

    def cli(self, *args, want=0):
        r = self.engine.cli("insula", *args)
        assert r.code == want, f"{self.isolation}: {args}: {r!r}"
        return r.out.strip()

    def create(self, *args):
        return self.cli("create", f"--isolation={self.isolation}", *args)

    def short(self):
        code = self.rng.choice((0, 3, 127))
        argv = ("nothing-here",) if code == 127 else ("sh", "-c", f"exit {code}")
        self.cli("run", "--rm", f"--isolation={self.isolation}", "--network", "none", "busybox", *argv, want=code)

    def output(self):
        n = self.rng.randint(1, 20000)
        out = self.cli("run", "--rm", f"--isolation={self.isolation}", "busybox", "seq", str(n))
        assert out.split() == [str(i) for i in range(1, n + 1)]

    def life(self):
        cid = self.create("busybox", "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
        self.cli("start", cid)
        wait_for(lambda: self.cli("logs", cid) == "up")
        assert self.cli("exec", cid, "cat", "/etc/hostname") == cid[:12]
        for verb in self.rng.sample(("pause", "top", "stats", "inspect"), 2):
            self.cli(verb, *(("--no-stream",) if verb == "stats" else ()), cid)
            if verb == "pause":
                self.cli("unpause", cid)
        self.cli("stop", "-t", "60", cid)
        assert self.cli("wait", cid) == "7"
        self.cli("rm", cid)

    def killed(self):
        cid = self.create("-v", "/data", "busybox", "sleep", "1000")
        self.cli("start", cid)
        self.cli("rm", "-f", "-v", cid)

    def run(self):
        try:
            while time.time() < self.end:
                self.rng.choice((self.short, self.output, self.life, self.killed))()
                self.done += 1
        except Exception as e:
            self.error = e


def load(engine, seconds, seed):
    clients = [Client(engine, isolation, time.time() + seconds, seed + i) for i, isolation in enumerate(CLIENTS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    errors = [c.error for c in clients if c.error]
    assert not errors, errors
    return [c.done for c in clients]


def test_nothing_grows(engine):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    before = host_state(engine.base, set())
    signal.alarm(0)
    load(engine, SECONDS / 3, seed)
    warm, private = facts(engine.proc.pid)
    done = load(engine, SECONDS * 2 / 3, seed + 100)
    print("done:", dict(zip(CLIENTS, done)))
    assert all(done)
    assert engine.cli("insula", "ps", "-aq").ok() == ""
    wait_for(lambda: not host_state(engine.base, set()) - before)
    wait_for(lambda: facts(engine.proc.pid)[0]["fds"] <= warm["fds"] + 1)
    wait_for(lambda: facts(engine.proc.pid)[0]["children"] <= warm["children"])
    now, grown = facts(engine.proc.pid)
    print(f"fds {warm['fds']} -> {now['fds']}, private {private} -> {grown} kB")
    assert grown <= private + GROWTH_KB


def test_more_than_a_bus_has_slots(engine, isolation):
    """Containers that join another's sandbox take along, when they go, what they brought."""
    end = time.time() + SECONDS
    owner = engine.cli("insula", "run", "-d", f"--isolation={isolation}", "busybox", "sleep", "100000").ok()
    for i in range(60):
        r = engine.cli("insula", "run", "--rm", f"--isolation={isolation}", "--network", f"container:{owner}",
                       "busybox", "echo", str(i))
        assert r.ok() == str(i)
        if i >= 30 and time.time() > end:
            break
    engine.cli("insula", "rm", "-f", owner).ok()
