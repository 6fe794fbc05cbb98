"""Clients under whose hands the daemon is killed with -9, and the account that they keep of what they were told.

Each client leads containers through their lives and writes down what the daemon has answered: only that counts as a
fact. A request that was cut off may have been carried out or not. After each restart the account is compared with what
the daemon says, and what the daemon says with the processes, folders and addresses of the host."""
import http.client
import json
import os
import pathlib
import random
import re
import socket
import threading
import time

from conftest import wait_for

# It counts, twenty lines a second, until it is told to end (7), or to the end (code).
COUNT = "trap 'echo end; exit 7' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done"
BRIEF = "for i in 0 1 2 3; do echo line $i; sleep {pause}; done; echo end; exit {code}"
EXEC = "for i in 1 2 3; do echo part $i; sleep 0.05; done; exit {code}"


class Cut(Exception):
    """The daemon died meanwhile."""


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("insula", timeout=120)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def call(sock, method, path, body=None, raw=False):
    """Status and answer of one request."""
    c = Connection(sock)
    try:
        c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        data = r.read()
    except (OSError, http.client.HTTPException) as e:
        raise Cut(f"{method} {path}: {e!r}") from None
    finally:
        c.close()
    return r.status, data if raw else json.loads(data) if data else None


def frames(data):
    """What the multiplexed stream says, and whether it ends at the end of a frame."""
    out, at = b"", 0
    while at + 8 <= len(data):
        n = int.from_bytes(data[at + 4:at + 8], "big")
        out += data[at + 8:at + 8 + n]
        at += 8 + n
    return out.decode(), at == len(data)


class Life:
    """One container, and what is known of it. None = nobody knows."""

    def __init__(self, name, isolation, kind, rng):
        self.name, self.isolation, self.kind, self.id = name, isolation, kind, None
        self.exists, self.started, self.stopped, self.code = False, False, False, None
        self.asked_stop = self.asked_rm = False
        self.execs = {}         # id -> the code that it ends with
        counts = kind in ("count", "again")
        self.want = 7 if counts else rng.randrange(1, 120)
        script = COUNT if counts else BRIEF.format(pause=rng.choice((0, 0.02, 0.1)), code=self.want)
        self.config = {
            "Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": {"/data": {}},
            "HostConfig": {"Isolation": isolation, "AutoRemove": kind == "auto", "Memory": 64 << 20,
                           "NetworkMode": rng.choice(("none", "bridge", "chaos")),
                           "RestartPolicy": {"Name": "always" if kind == "again" else "no"}}}
        if self.config["HostConfig"]["NetworkMode"] != "none" and rng.random() < 0.5:
            self.config["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
            self.config["ExposedPorts"] = {"80/tcp": {}}

    def __repr__(self):
        known = {k: v for k, v in vars(self).items() if k not in ("config", "execs", "name")}
        return f"{self.name} {known}"


class Client(threading.Thread):
    """Leads one container after the other through its life; waits while the daemon is being looked at."""

    def __init__(self, chaos, number, isolation):
        super().__init__(daemon=True)
        self.chaos, self.number, self.isolation = chaos, number, isolation
        self.rng = random.Random(chaos.rng.random())
        self.lives, self.error, self.done, self.cuts = [], None, 0, 0

    def call(self, method, path, body=None, want=(200, 201, 204), raw=False):
        status, answer = call(self.chaos.sock, method, path, body, raw)
        assert status in want, f"{method} {path}: {status} {answer}"
        return status, answer

    def pause(self, most):
        time.sleep(self.rng.random() * most)

    def create(self, life):
        life.exists = None
        _, answer = self.call("POST", f"/containers/create?name={life.name}", life.config)
        life.id, life.exists = answer["Id"], True

    def begin(self, life):
        life.started = None
        status, _ = self.call("POST", f"/containers/{life.name}/start", want=(204, 304, 404))
        assert status != 404 or life.kind == "auto", life
        life.started = status != 404 or None

    def exec(self, life):
        code = self.rng.randrange(100)
        status, answer = self.call("POST", f"/containers/{life.name}/exec", {
            "Cmd": ["sh", "-c", EXEC.format(code=code)], "AttachStdout": True}, (201, 409, 404))
        if status != 201:
            return self.must_be_ended(life, status)
        xid = answer["Id"]
        status, data = self.call("POST", f"/exec/{xid}/start", {"Detach": False, "Tty": False}, (200, 409, 404), raw=True)
        if status != 200:
            return self.must_be_ended(life, status)
        said, whole = frames(data)
        lines = said.split("\n")
        if said.startswith("OCI runtime exec failed"):
            return self.must_be_ended(life, said)
        assert whole and lines[:-1] == [f"part {i + 1}" for i in range(len(lines) - 1)], (life, said)
        # It was begun, and then all of it is heard, or the daemon died before that.
        assert len(lines) in (1, 4) or life.kind not in ("count", "again"), (life, said)
        if len(lines) < 4:
            return
        life.execs[xid] = code
        status, x = self.call("GET", f"/exec/{xid}/json", want=(200, 404))
        if status == 200:
            # What has said its last word may still be ended with its container.
            allowed = (code,) if life.kind in ("count", "again") else (code, 137)
            assert not x["Running"] and x["ExitCode"] in allowed, (life, x)

    def must_be_ended(self, life, status):
        """It ends by itself, so that may be no error."""
        assert life.kind not in ("count", "again"), (life, status)

    def stop(self, life):
        # The first of its namespace ignores a signal that it has no handler for yet.
        wait_for(lambda: self.call("GET", f"/containers/{life.name}/logs?stdout=1&tail=1", raw=True)[1])
        life.asked_stop = True
        status, _ = self.call("POST", f"/containers/{life.name}/stop?t=60", want=(204, 304, 404))
        assert status != 404 or life.kind == "auto", life
        life.stopped = True

    def wait(self, life):
        status, answer = self.call("POST", f"/containers/{life.name}/wait", want=(200, 404))
        assert status == 200 or life.kind == "auto", life
        if status == 200:
            assert answer["StatusCode"] == life.want, (life, answer)
            life.code = life.want

    def remove(self, life, force):
        life.asked_rm = True
        life.exists = None
        status, answer = self.call("DELETE", f"/containers/{life.name}?v=1" + "&force=1" * force, want=(204, 404, 409))
        assert status == 204 or life.kind == "auto", (life, status, answer)
        if status == 204:
            life.exists = False

    def live(self, life):
        """One step after the other; the daemon may die in each."""
        self.create(life)
        self.begin(life)
        for _ in range(self.rng.randrange(3)):
            self.exec(life)
            self.pause(0.1)
        if life.kind in ("count", "again"):
            if self.rng.random() < 0.3:
                return self.remove(life, True)
            self.stop(life)
        if life.kind != "again":
            self.wait(life)
        if life.kind != "auto" and self.rng.random() < 0.7:
            self.remove(life, False)

    def settle(self):
        """What was cut off goes on; in the end the oldest are removed."""
        for life in self.lives:
            if life.exists and not life.started:
                self.begin(life)
            if life.kind != "auto" and life.asked_rm and life.exists:
                self.remove(life, True)
        running = [x for x in self.lives if x.exists and x.kind != "auto"]
        for life in running[:max(0, len(running) - 3)]:
            self.remove(life, True)
        self.lives = [x for x in self.lives if x.exists is not False]

    def run(self):
        try:
            while self.chaos.enter(self):
                try:
                    self.settle()
                    kind = self.rng.choice(("count", "count", "brief", "auto", "again"))
                    life = Life(f"c{self.number}-{self.done}-{self.cuts}", self.isolation, kind, self.rng)
                    self.lives.append(life)
                    self.live(life)
                    self.done += 1
                except Cut:
                    self.cuts += 1
                self.chaos.leave(self)
        except Exception as e:
            self.error = e
            self.chaos.leave(self)


class Chaos:
    """The clients, the killing and the audit."""

    def __init__(self, engine, clients, seed):
        self.engine, self.sock = engine, engine.sock
        self.rng = random.Random(seed)
        self.gate = threading.Condition()
        self.open, self.over, self.inside = True, False, set()
        self.clients = [Client(self, i, isolation) for i, isolation in enumerate(clients)]
        self.facts = {"kills": 0, "running": 0, "codes": 0, "lines": 0, "execs": 0}

    # ---- the gate: no client is at work while the daemon is being looked at ----

    def enter(self, client):
        with self.gate:
            while not self.open and not self.over:
                self.gate.wait()
            if not self.over:
                self.inside.add(client)
            return not self.over

    def leave(self, client):
        with self.gate:
            self.inside.discard(client)
            self.gate.notify_all()

    def close(self):
        with self.gate:
            self.open = False

    def gather(self):
        with self.gate:
            while self.inside:
                assert self.gate.wait(120), f"clients hang: {[c.lives[-1] for c in self.inside]}"
        errors = [c.error for c in self.clients if c.error]
        if errors:
            raise errors[0]

    def reopen(self):
        with self.gate:
            self.open = True
            self.gate.notify_all()

    # ---- killing ----

    def kill(self):
        """At a random moment of the load, and now and then while the next daemon comes up."""
        time.sleep(self.rng.random() * self.rng.choice((0.1, 0.5, 1.5)))
        self.close()
        self.engine.kill9()
        for _ in range(self.rng.choice((0, 0, 0, 1, 2))):
            self.engine.spawn()
            time.sleep(self.rng.random() * 0.1)
            self.engine.kill9()
            self.facts["kills"] += 1
        self.facts["kills"] += 1
        if self.rng.random() < 0.3:
            time.sleep(self.rng.random())       # some end while there is none
        self.engine.start()
        self.gather()

    # ---- the audit ----

    def get(self, path, raw=False):
        status, answer = call(self.sock, "GET", path, raw=raw)
        return answer if status == 200 else None

    def audit(self):
        for life in [x for c in self.clients for x in c.lives]:
            self.audit_life(life)
        self.audit_host()

    def audit_life(self, life):
        """What the daemon has answered still holds, and what it may have done it has done whole or not at all."""
        info = self.get(f"/containers/{life.name}/json")
        if info is None:
            assert life.exists is not True or (life.kind == "auto" and life.started is not False), f"lost: {life!r}"
            life.exists = False
            return
        assert life.exists is not False, f"back again: {life!r}"
        assert life.id in (None, info["Id"]), life
        life.exists, life.id = True, info["Id"]
        state = info["State"]
        if state["Status"] == "created":
            assert not life.started, (life, state)
            return
        assert life.started is not False, (life, state)
        life.started = True
        lines = self.log(life)
        if life.kind in ("count", "again") and not (life.asked_stop or life.asked_rm):
            assert state["Running"], (life, state)
        if state["Running"]:
            self.facts["running"] += 1
            assert not (life.stopped or life.code is not None), (life, state)
            assert wait_for(lambda: self.log(life)), life
        elif life.kind != "again":
            forced = life.asked_rm and life.kind == "count"
            assert state["ExitCode"] in ((life.want, 137) if forced else (life.want,)), (life, state)
            assert not state["Error"], (life, state)
            assert forced or lines[-1] == "end", (life, lines[-3:])
            self.facts["codes"] += 1
        for xid, code in life.execs.items():
            x = self.get(f"/exec/{xid}/json")
            assert x is None or x["Running"] or x["ExitCode"] == code or not state["Running"], (life, xid, x, code)
            self.facts["execs"] += 1

    def log(self, life):
        """Its lines, each there once and in order (a container that is started again begins anew)."""
        data = self.get(f"/containers/{life.name}/logs?stdout=1", raw=True)
        if data is None:
            assert life.kind == "auto", life
            return ["end"]
        said, whole = frames(data)
        assert whole and (not said or said.endswith("\n")), (life, said[-40:])
        lines, want = said.split("\n")[:-1], 0
        for line in lines:
            if life.kind == "again" and line == "line 0":
                want = 0
            assert line == f"line {want}" or line == "end", (life, lines[-10:])
            want = 0 if line == "end" and life.kind == "again" else want + 1
        self.facts["lines"] += len(lines)
        return lines

    def audit_host(self):
        """Each supervisor serves a container that runs, each container that runs has one; and so for the rest."""
        wait_for(lambda: not self.differences())

    def differences(self):
        """What does not fit together; empty once all that is under way has been done."""
        base, out = self.engine.base, []
        listed = self.get("/containers/json?all=1")
        ids = {x["Id"] for x in listed}
        busy = {x["Id"] for x in listed if x["State"] in ("running", "restarting")}
        run = {x["Id"] for x in listed if x["State"] == "running"}
        served = supervised(base)
        moving = busy - run         # between two starts: with a supervisor or without
        if served - moving != run - moving:
            out.append(f"supervisors {served} for {run}")
        for sub, want in (("data/containers", ids), ("run/sandboxes", run)):
            have = set(os.listdir(base / sub))
            if have - moving != want - moving:
                out.append(f"{sub}: {have ^ want}")
        if os.listdir(base / "data/trash"):
            out.append("trash")
        nets = {n: set(self.get(f"/networks/{n}")["Containers"]) for n in ("bridge", "chaos")}
        if not set().union(*nets.values()) <= busy:
            out.append(f"addresses of {set().union(*nets.values()) - busy}")
        out += [f"cgroup {g}" for g in cgroups() if g[:64] in self.seen(ids) and g[:64] not in busy]
        shown = [self.get(f"/containers/{i}/json") for i in ids]
        used = {m["Name"] for x in shown if x for m in x["Mounts"]}
        volumes = {v["Name"] for v in self.get("/volumes")["Volumes"] or ()}
        if volumes != used or set(os.listdir(base / "data/volumes")) != used:
            out.append(f"volumes {volumes ^ used}, {set(os.listdir(base / 'data/volumes')) ^ used}")
        self.last = out
        return out

    def seen(self, ids):
        self.ever = getattr(self, "ever", set()) | ids
        return self.ever

    # ---- all of it ----

    def enough(self, least):
        """On a slow machine more time is needed until something has happened."""
        return self.facts["kills"] >= least and any(c.done for c in self.clients) and any(c.cuts for c in self.clients)

    def run(self, kills, seconds=None, least=0):
        """So many kills or so many seconds, but no fewer kills than `least`, nor before anything was done or cut off."""
        end = time.time() + (seconds or 1e9)
        for c in self.clients:
            c.start()
        try:
            while self.facts["kills"] < kills and time.time() < end or not self.enough(least):
                self.kill()
                self.audit()
                self.reopen()
            self.close()
            self.gather()
            self.audit()
        except AssertionError as e:
            raise AssertionError(f"{e}\nafter {self.facts}, last: {getattr(self, 'last', None)}") from None
        finally:
            with self.gate:
                self.over = True
                self.gate.notify_all()
        for x in self.get("/containers/json?all=1"):
            call(self.sock, "DELETE", f"/containers/{x['Id']}?force=1&v=1")
        wait_for(lambda: not self.differences())
        self.facts["lives"] = sum(c.done for c in self.clients)
        self.facts["cut off"] = sum(c.cuts for c in self.clients)


def supervised(base):
    """Ids of the sandboxes of this daemon that have a supervisor."""
    out = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            argv = pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if argv[0] in ("insula-shim", "vmwp") and "--sandbox" in argv and any(a.startswith(str(base)) for a in argv):
            out.add(argv[argv.index("--sandbox") + 1])
    return out


def cgroups():
    """Names below /insula of all hierarchies."""
    out = set()
    for top in ("/sys/fs/cgroup", *[f"/sys/fs/cgroup/{d}" for d in os.listdir("/sys/fs/cgroup")]):
        if os.path.isdir(top + "/insula"):
            out.update(d for d in os.listdir(top + "/insula") if re.match("[0-9a-f]{64}", d))
    return out
