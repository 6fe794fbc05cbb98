"""Podman with --runtime insula-runtime."""
import time

import pytest
from conftest import IMAGE, RUNTIME, terminal


@pytest.fixture(scope="module")
def podman(place, base):
    import peers
    p = peers.Podman(place, base, IMAGE, ("--runtime", RUNTIME))
    p.start = lambda *a: p.run("run", *p.LIMITS, *a)
    yield p
    p.stop()


def test_run(podman):
    r = podman.start("--rm", "busybox", "sh", "-c", "echo $container; exit 7")
    assert (r.stdout, r.returncode) == ("podman\n", 7), r.stderr
    r = podman.start("--rm", "--network", "none", "--init", "busybox", "ps")
    assert "/run/podman-init -- ps" in r.stdout, r.stderr
    assert "/dev/pts/0" in terminal(podman.command("run", *podman.LIMITS, "--rm", "-t", "busybox", "tty"))


def test_exit_codes_of_commands_that_cannot_run(podman):
    r = podman.start("--rm", "busybox", "/nope")
    assert r.returncode == 127 and "OCI runtime attempted to invoke a command that was not found" in r.stderr
    r = podman.start("--rm", "busybox", "/etc")
    assert r.returncode == 126 and "OCI permission denied" in r.stderr


def test_life(podman):
    assert podman.start("-d", "--name", "life", "--memory", "64m", "--cpus", "0.5", "busybox", "sleep", "1000").returncode == 0
    status = lambda: podman("inspect", "-f", "{{.State.Status}}", "life")
    assert "sleep 1000" in podman("exec", "life", "ps")
    assert podman.run("exec", "life", "sh", "-c", "exit 4").returncode == 4
    assert "/dev/pts/0" in terminal(podman.command("exec", "-t", "life", "tty"))
    assert "67.11MB" in podman("stats", "--no-stream", "life")
    assert "sleep 1000" in podman("top", "life")
    podman("pause", "life")
    assert status() == "paused"
    podman("unpause", "life")
    podman("update", "--cpus", "1", "life")
    podman("stop", "-t", "0", "life")
    assert podman("inspect", "-f", "{{.State.ExitCode}}", "life") == "137"
    podman("start", "life")
    assert status() == "running"
    podman("kill", "life")
    assert podman("wait", "life") == "137"
    podman("rm", "life")


def test_read_only_root_has_writable_copies(podman):
    """Podman asks for tmpcopyup of /tmp, /var/tmp and each --tmpfs."""
    r = podman.start("--rm", "--read-only", "--tmpfs", "/etc", "--user", "1000", "busybox", "sh", "-c",
                     "grep -c root: /etc/passwd; touch /tmp/x && echo written; touch /x")
    assert r.stdout.split() == ["1", "written"] and "Read-only file system" in r.stderr, r.stderr
    r = podman.start("--rm", "--tmpfs", "/bin:ro,exec", "busybox", "sh", "-c", "grep -c ' /bin tmpfs' /proc/mounts; touch /bin/x")
    assert r.stdout.split() == ["1"] and "Read-only file system" in r.stderr, r.stderr


def test_confinement(podman):
    r = podman.start("--rm", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000", "busybox",
                     "grep", "-E", "CapEff|CapBnd|NoNewPrivs|Seccomp:", "/proc/self/status")
    values = dict(x.split(":\t") for x in r.stdout.splitlines())
    assert values == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}


def test_pod(podman):
    podman("pod", "create", "--name", "pod")
    r = podman.start("--rm", "--pod", "pod", "busybox", "hostname")
    assert r.stdout == "pod\n", r.stderr
    podman("pod", "rm", "-f", "pod")


def remove(podman, name):
    """With ids of its own: Podman 4.3 may find the container's /dev/shm busy just after its end, with any runtime (with
    crun ten times in 200), and has it free a moment later."""
    podman("kill", name)
    end = time.time() + 60
    while (r := podman.run("rm", "-f", name)).returncode:
        assert "userdata/shm: device or resource busy" in r.stderr and time.time() < end, r.stderr
        time.sleep(0.2)


def test_user_namespaces(podman, tmp_path):
    """Of its own, of another container, and with a directory whose ids are mapped."""
    maps = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    r = podman.start("--rm", *maps, "busybox", "sh", "-c", "cat /proc/self/uid_map; id -u; echo x >/dev/null && touch /x && stat -c %u /x; echo out >/dev/stdout")
    assert r.stdout.split() == ["0", "100000", "65536", "0", "0", "out"], r.stderr
    r = podman.start("--rm", *maps, "--user", "33:44", "-t", "busybox", "sh", "-c", "id -u; id -g; test -t 0 && echo terminal")
    assert r.stdout.split() == ["33", "44", "terminal"], r.stderr
    assert podman.start("-d", "--name", "mapped", *maps, "busybox", "sleep", "1000").returncode == 0
    assert podman("exec", "mapped", "id", "-u") == "0"
    r = podman.start("--rm", "--userns", "container:mapped", "busybox", "cat", "/proc/self/uid_map")
    assert r.stdout.split() == ["0", "100000", "65536"], r.stderr
    remove(podman, "mapped")
    r = podman.start("--rm", *maps, "-v", f"{tmp_path}:/v:idmap", "busybox", "sh", "-c", "touch /v/f; stat -c %u /v/f")
    assert r.stdout == "0\n" and (tmp_path / "f").stat().st_uid == 0, r.stderr
