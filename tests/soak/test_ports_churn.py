"""200 containers with two ports each, created and removed at random for a minute: nothing is left, on the host or in the
daemon. INSULA_SOAK_VMS of them (4) are virtual machines: emulated ones are slow, and each needs memory."""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import host_state, wait_for     # noqa: E402

SECONDS = int(os.environ.get("INSULA_CHURN_SECONDS", "60"))
MANY, VMS = 200, int(os.environ.get("INSULA_SOAK_VMS", "4"))


def tables(engine, names):
    """What our nft tables and links hold of these containers and networks."""
    left = []
    for family in ("ip", "ip6", "bridge"):
        listing = subprocess.run(["nft", "list", "tables", family], capture_output=True, text=True).stdout
        for t in re.findall(r"insula\S*", listing):
            text = subprocess.run(["nft", "list", "table", family, t], capture_output=True, text=True).stdout
            left += [x.strip() for x in text.splitlines() if any(n in x for n in names)]
    return left


class Client(threading.Thread):
    """Keeps about `share` containers alive, and takes one away or adds one at random."""

    def __init__(self, engine, isolation, net, share, end, seed):
        super().__init__()
        self.engine, self.isolation, self.net, self.share, self.end = engine, isolation, net, share, end
        self.rng, self.alive, self.made, self.error = random.Random(seed), [], 0, None

    def cli(self, *args):
        return self.engine.cli("insula", *args).ok()

    def add(self):
        self.alive.append(self.cli("run", "-d", f"--isolation={self.isolation}", "--network", self.net, "-p", "80", "-p", "53/udp",
                                   "busybox", "sleep", "100000"))
        self.made += 1

    def remove(self):
        self.cli("rm", "-f", self.alive.pop(self.rng.randrange(len(self.alive))))

    def run(self):
        try:
            while time.time() < self.end:
                full = len(self.alive) / self.share
                self.remove() if full == 1 or self.rng.random() < full / 2 else self.add()
            while len(self.alive) < self.share:     # at the end all are there at once
                self.add()
        except Exception as e:
            self.error = e


def test_nothing_is_left_of_200_with_ports(engine):
    signal.alarm(0)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    before = host_state(engine.base)
    nid = engine.cli("insula", "network", "create", "--ipv6", "churn").ok()
    bridge = f"in-{nid[:12]}"
    fds = len(os.listdir(f"/proc/{engine.proc.pid}/fd"))
    shares = [("process", (MANY - VMS) // 2), ("process", MANY - VMS - (MANY - VMS) // 2), ("hyperv", VMS)]
    clients = [Client(engine, iso, "churn", n, time.time() + SECONDS, seed + i) for i, (iso, n) in enumerate(shares) if n]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    assert not [c.error for c in clients if c.error], [c.error for c in clients]
    ids = [x for c in clients for x in c.alive]
    print("made", [c.made for c in clients], "alive", len(ids))
    assert len(ids) == MANY
    # each has its own address, and two ports that nobody else has
    inside = json.loads(engine.cli("insula", "network", "inspect", "churn").ok())[0]["Containers"]
    assert len({c["IPv4Address"] for c in inside.values()}) == len({c["IPv6Address"] for c in inside.values()}) == MANY
    ports = json.loads(engine.cli("insula", "inspect", *ids).ok())
    taken = [b["HostPort"] + key[-4:] for d in ports for key, v in d["NetworkSettings"]["Ports"].items() for b in v
             if b["HostIp"] == "0.0.0.0"]
    assert len(set(taken)) == len(taken) == 2 * MANY
    assert len(tables(engine, ["in" + i[:12] for i in ids])) >= MANY
    for i in range(0, len(ids), 20):
        engine.cli("insula", "rm", "-f", *ids[i:i + 20]).ok()
    # What an interface may send goes with the interface, a moment after the answer.
    wait_for(lambda: not tables(engine, ["in" + i[:12] for i in ids]))
    wait_for(lambda: "at " not in (engine.run_dir / "resolver/names").read_text())
    engine.cli("insula", "network", "rm", "churn").ok()
    wait_for(lambda: not tables(engine, [bridge]) and not os.path.exists(f"/sys/class/net/{bridge}"))
    wait_for(lambda: not host_state(engine.base) - before)
    wait_for(lambda: len(os.listdir(f"/proc/{engine.proc.pid}/fd")) <= fds + 1)
    assert not [d for d in os.listdir("/sys/class/net") if d[2:14] in {i[:12] for i in ids}]
