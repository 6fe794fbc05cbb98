"""dockerd with insula-runtime as an added runtime and as the default one."""
import pytest
from conftest import IMAGE, RUNTIME, terminal


@pytest.fixture(scope="module")
def docker(place, base):
    import peers
    d = peers.Docker(place, base, IMAGE, ("--add-runtime", f"insula={RUNTIME}", "--default-runtime", "insula"))
    yield d
    d.stop()


def test_run(docker):
    assert "insula" in docker("info", "-f", "{{.DefaultRuntime}}")
    r = docker.run("run", "--rm", "busybox", "sh", "-c", "hostname; exit 7")
    assert len(r.stdout.strip()) == 12 and r.returncode == 7, r.stderr
    assert docker("run", "--rm", "--runtime", "insula", "busybox", "echo", "hello") == "hello"
    assert "-- ps" in docker("run", "--rm", "--init", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "busybox", "ps")
    assert "/dev/pts/0" in terminal(docker.command("run", "--rm", "-t", "busybox", "tty"), docker.env)


@pytest.mark.parametrize("command, code, text", [("/nope", 127, "no such file or directory"),
                                                 ("/etc", 126, "permission denied")])
def test_exit_codes_of_commands_that_cannot_run(docker, command, code, text):
    r = docker.run("run", "--rm", "busybox", command)
    assert r.returncode == code and text in r.stderr


def test_life(docker):
    docker("run", "-d", "--name", "life", "--health-cmd", "true", "--health-interval", "1s", "busybox", "sleep", "1000")
    state = lambda f: docker("inspect", "-f", "{{.State.%s}}" % f, "life")
    assert "sleep 1000" in docker("exec", "life", "ps")
    assert docker.run("exec", "life", "sh", "-c", "exit 4").returncode == 4
    assert "/dev/pts/0" in terminal(docker.command("exec", "-t", "life", "tty"), docker.env)
    assert "sleep 1000" in docker("top", "life")
    docker("pause", "life")
    assert state("Status") == "paused"
    docker("unpause", "life")
    docker("update", "--cpus", "1", "-m", "100m", "--memory-swap", "100m", "life")
    assert "100MiB" in docker("stats", "--no-stream", "life")
    docker("restart", "-t", "0", "life")
    assert state("Running") == "true"
    docker("kill", "life")
    assert docker("wait", "life") == "137"
    docker("rm", "life")


def test_privileged_has_the_hosts_devices_and_its_own_terminals(docker):
    out = docker("run", "--rm", "--privileged", "busybox", "sh", "-c",
                 "mkdir /m && mount -t tmpfs x /m && readlink /dev/ptmx; ls /dev | wc -l")
    link, count = out.split()
    assert link == "pts/ptmx" and int(count) > 15


def test_options(docker):
    assert "1,   3" in docker("run", "--rm", "--security-opt", "seccomp=unconfined", "--device", "/dev/null:/dev/foo",
                              "--sysctl", "net.ipv4.ip_forward=1", "busybox", "ls", "-l", "/dev/foo")
    assert docker("run", "--rm", "--pid", "host", "--network", "host", "--ipc", "host", "--uts", "host", "busybox",
                  "echo", "shared") == "shared"
    r = docker.run("run", "--rm", "--read-only", "--tmpfs", "/t", "--cap-drop", "ALL", "--user", "1000", "-v",
                   f"{IMAGE.parent}:/x:ro", "busybox", "sh", "-c", "ls /x; id -u; touch /x/y")
    assert IMAGE.name in r.stdout and "1000" in r.stdout and "Read-only file system" in r.stderr
