"""Podman of an ordinary user, with --runtime insula-runtime: it runs in the user namespace that Podman has made, as
root of that, and has no control groups."""
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import pytest
from conftest import IMAGE, ROOT, RUNTIME, terminal

sys.path.append(str(ROOT / "tests/system"))
from subids import subordinate  # noqa: E402

USER = pwd.getpwnam("news")
RANGE = 3100000


@pytest.fixture(scope="module")
def podman(place):
    import peers

    class Rootless(peers.Podman):
        def command(self, *args):
            b = self.base
            return self.place.at("setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups", "env", "-i",
                                 "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={b}/home", f"XDG_RUNTIME_DIR={b}/run",
                                 f"USER={USER.pw_name}", f"LOGNAME={USER.pw_name}", "TERM=xterm", "podman", "--root", b / "root",
                                 "--runroot", b / "runroot", "--tmpdir", b / "tmp", "--storage-driver", "vfs", "--cgroup-manager",
                                 "cgroupfs", "--events-backend", "none", "--runtime", b / "insula-runtime", *args)

        def start(self, *args):
            return self.run("run", "--network", "none", *self.LIMITS, *args)

    top = pathlib.Path(tempfile.mkdtemp(prefix="insula-rootless-"))
    top.chmod(0o755)
    b = top / "podman"
    for d in (b, b / "home", b / "run", b / "tmp"):
        d.mkdir()
    # From a place that the user can reach.
    shutil.copy(RUNTIME, b / "insula-runtime")
    shutil.copy(IMAGE, b / "image.tar")
    subprocess.run(["chown", "-R", f"{USER.pw_uid}:{USER.pw_gid}", str(b)], check=True)
    with subordinate(USER.pw_name, RANGE, 65536):
        p = Rootless(place, top, b / "image.tar")
        yield p
        p.stop()
        pause = b / "tmp/pause.pid"     # of the process that holds its user namespace
        if pause.exists():
            os.kill(int(pause.read_text()), 9)
    shutil.rmtree(top, ignore_errors=True)


def test_run(podman):
    r = podman.start("--rm", "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map; exit 7")
    assert r.stdout.split() == ["0", "0", str(USER.pw_uid), "1", "1", str(RANGE), "65536"] and r.returncode == 7, r.stderr
    assert "/dev/pts/0" in terminal(podman.command("run", "--network", "none", *podman.LIMITS, "--rm", "-t", "busybox", "tty"))
    assert podman.start("--rm", "busybox", "/nope").returncode == 127


def test_life(podman):
    assert podman.start("-d", "--name", "life", "--user", "33:44", "busybox", "sleep", "1000").returncode == 0
    assert podman("exec", "life", "sh", "-c", "id -u; id -g; exit 0").split() == ["33", "44"]
    assert podman.run("exec", "life", "sh", "-c", "exit 4").returncode == 4
    assert "sleep 1000" in podman("top", "life")
    state = podman.base / "run/insula-runtime"
    assert len(os.listdir(state)) == 1 and state.stat().st_uid == USER.pw_uid
    podman("stop", "-t", "0", "life")
    assert podman("inspect", "-f", "{{.State.ExitCode}}", "life") == "137"
    podman("start", "life")
    podman("rm", "-f", "-t", "0", "life")
    assert os.listdir(state) == []


def test_a_user_namespace_inside(podman):
    r = podman.start("--rm", "--userns", "keep-id", "busybox", "id", "-u")
    assert r.stdout == f"{USER.pw_uid}\n", r.stderr


def test_confinement(podman):
    r = podman.start("--rm", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only", "--user", "1000", "busybox",
                     "sh", "-c", "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x")
    values = dict(x.split(":\t") for x in r.stdout.splitlines())
    assert values == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert "Read-only file system" in r.stderr
