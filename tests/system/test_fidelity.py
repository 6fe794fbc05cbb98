"""What files do for their users: the same in both modes, on the root, on a volume and on a bind mount. One program
(tests/tools/fidelity.c) prints a line for each of some 150 checks; what differs between the modes stands below,
each with its reason, and in docs/VOLUMES.md."""
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, Cli, wait_for

# A check of hyperv that answers otherwise than process isolation does: (process, hyperv), and why.
# Of shares, the cause is Debian 12's virtiofsd; of the root file system, the age of its kernel.
SHARED = {
    # virtiofsd does not know it: a program that wants a file without a name makes one and unlinks it
    "O_TMPFILE": ("ok", "EOPNOTSUPP"),
    "link a file without a name": ("ok", "EOPNOTSUPP"),
    # virtiofsd refuses every lock that may wait, and counts flock(LOCK_UN) among them, so that none is ever taken for
    # granted; locks that do not wait are shared with the host (test_locks_across_the_wall)
    "flock": ("ok", "EOPNOTSUPP"),
    "flock that is taken": ("EAGAIN", "ok"),	# nobody holds it: see above
    "flock that waits": ("ok", "EOPNOTSUPP"),
    "flock shared": ("ok", "EOPNOTSUPP"),
    "flock of a shared one": ("EAGAIN", "ok"),
    "unlock": ("ok", "EOPNOTSUPP"),
    "posix lock that may wait": ("ok", "EOPNOTSUPP"),
}
ROOT = {
    # overlayfs knows it since Linux 6.3, the guest's kernel is 6.1
    "O_TMPFILE": ("ok", "EOPNOTSUPP"),
    "link a file without a name": ("ok", "EOPNOTSUPP"),
}
EXPECTED = {"root": ROOT, "volume": SHARED, "bind": SHARED}


def lines(text):
    return dict(x.rsplit(": ", 1) for x in text.splitlines())


@pytest.fixture(scope="module")
def answers(engine, tmp_path_factory):
    """mode -> place -> check -> result. One container in each mode does all."""
    host = tmp_path_factory.mktemp("fidelity")
    shutil.copy(BUILD / "tests/fidelity", host / "fidelity")
    out = {}
    for mode in ("process", "hyperv"):
        c = Cli(engine, "insula", mode)
        many = host / mode / "many"
        many.mkdir(parents=True)
        for i in range(10000):
            (many / f"file-{i:05}").touch()
        cid = c("run", "-d", "-v", f"{host}/fidelity:/fidelity:ro", "-v", f"{host}/{mode}:/bind", "-v", f"{host}/{mode}/many:/volume/x/many", "-v", f"fid-{mode}:/volume",
                "busybox", "sleep", "1000").ok()
        try:
            out[mode] = {p: lines(c("exec", cid, "sh", "-c", f"mkdir -p {d}; exec /fidelity {d}").ok()) for p, d in (("root", "/root/here"), ("volume", "/volume/x"), ("bind", "/bind"))}
        finally:
            c("rm", "-f", cid)
            c("volume", "rm", "-f", f"fid-{mode}")
    return out


@pytest.mark.parametrize("place", ["root", "volume", "bind"])
def test_same_in_both_modes(answers, place):
    process, hyperv = answers["process"][place], answers["hyperv"][place]
    assert len(process) > 150
    differ = {k: (process.get(k), hyperv.get(k)) for k in process | hyperv if process.get(k) != hyperv.get(k)}
    for check, (p, h) in sorted(differ.items()):
        print(f"{place}: {check}: process {p}, hyperv {h}")
    assert differ == EXPECTED[place]


LOCK = """import fcntl, sys
f = open(sys.argv[1], "r+")
getattr(fcntl, sys.argv[2])(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["flock", "lockf"])
def test_locks_across_the_wall(engine, leaks, tmp_path, kind):
    """A lock that the host, and so a process container, holds is held for a machine too, and the other way round."""
    (tmp_path / "f").write_text("x")
    shutil.copy(BUILD / "tests/fidelity", tmp_path / "fidelity")
    c = Cli(engine, "insula", "hyperv")
    try:
        cid = c.rund("-v", f"{tmp_path}:/d", "busybox", "sleep", "1000")

        def guest(*args):
            return c.popen("exec", "-i", cid, "/d/fidelity", "--lock", kind, "/d/f", stdin=subprocess.PIPE)

        def host():
            return subprocess.Popen([sys.executable, "-c", LOCK, tmp_path / "f", kind], text=True, stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for holder, other in ((host, guest), (guest, host)):
            with holder() as h:
                assert h.stdout.readline() == "locked\n"
                with other() as o:
                    out, err = o.communicate(timeout=60)
                    assert out == "" and o.returncode != 0 and "temporarily unavailable" in err, (out, err)
                h.stdin.close()

            def let_go():       # by the end of its holder; a machine's kernel does not wait until the host has heard of it
                with other() as o:
                    said = o.stdout.readline()
                    o.stdin.close()
                return said == "locked\n"
            wait_for(let_go)
    finally:
        c.cleanup()
