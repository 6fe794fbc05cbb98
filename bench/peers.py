"""The other engines and runtimes, each with roots of its own below one directory, in a mount and a network
namespace of their own: they change nothing of the host's and need no systemd.

The controller-less cgroup2 mount of a hybrid host is absent there, because crun refuses to run beside it."""
import os
import pathlib
import shutil
import subprocess
import time

PLACE = """
set -e
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
ip link set lo up
echo ready
exec sleep 100000
"""


class Place:
    """The namespaces; at() puts a command into them."""

    GROUPS = ("docker", "default", "libpod_parent", "bench")  # what the engines make and leave, by parent's name
    UNDER_ONE = ("--cgroup-parent", "/bench")       # of any engine's daemon: its containers are beside the others'

    def __init__(self):
        self.before = self.groups()
        self.holder = subprocess.Popen(["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", PLACE],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no namespaces for the peers")

    def at(self, *argv):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-n", "--", *map(str, argv)]

    @classmethod
    def groups(cls):
        top = pathlib.Path("/sys/fs/cgroup")
        return {g for name in cls.GROUPS for g in [top / name, *top.glob(f"*/{name}")] if g.is_dir()}

    def stop(self):
        self.holder.kill()
        self.holder.wait()
        for g in self.groups() - self.before:
            for d in [*sorted(g.rglob("*"), key=lambda d: len(d.parts), reverse=True), g]:
                if d.is_dir():
                    try:
                        d.rmdir()
                    except OSError:  # somebody else has come to use it
                        pass


class Docker:
    """dockerd with its own containerd."""
    needs = ("dockerd", "containerd", "runc")

    def __init__(self, place, base, image, extra=()):
        self.base = pathlib.Path(base) / "docker"
        self.base.mkdir()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        self.env["DOCKER_HOST"] = f"unix://{self.base}/docker.sock"
        self.client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else shutil.which("docker")
        self.log = open(self.base / "log", "wb")
        self.proc = subprocess.Popen(
            place.at("dockerd", "--data-root", self.base / "data", "--exec-root", self.base / "exec", "-H",
                     f"unix://{self.base}/docker.sock", "--pidfile", self.base / "pid", *extra),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.time() + 120
        while subprocess.run([self.client, "version"], env=self.env, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode:
            if time.time() > end or self.proc.poll() is not None:
                self.stop()
                raise RuntimeError("dockerd does not start: " + (self.base / "log").read_text()[-300:])
            time.sleep(0.1)
        self("load", "-q", "-i", image)

    def command(self, *args):
        return [self.client, *map(str, args)]

    def run(self, *args, **kw):
        return subprocess.run(self.command(*args), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120, **kw)

    def __call__(self, *args):
        r = self.run(*args)
        if r.returncode:
            raise RuntimeError(f"docker {args[0]}: {r.stderr.strip()}")
        return r.stdout.strip()

    def stop(self):
        if self.proc.poll() is None:
            left = self.run("ps", "-aq").stdout.split()
            if left:
                self.run("rm", "-f", *left)
        self.proc.terminate()
        self.proc.wait(60)
        self.log.close()


class Podman:
    # Raising the limits that podman asks for by default needs CAP_SYS_RESOURCE.
    LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    needs = ("podman", "conmon", "crun")

    def __init__(self, place, base, image, extra=()):
        self.base = pathlib.Path(base) / "podman"
        self.env, self.place, self.extra = dict(os.environ), place, list(extra)
        self.policy = pathlib.Path(base) / "policy.json"
        self.policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self("load", "-q", "--signature-policy", self.policy, "-i", image)

    def command(self, *args):
        # --tmpdir and the volume path keep podman's own state off the host's.
        return self.place.at("podman", "--root", self.base / "root", "--runroot", self.base / "run", "--tmpdir",
                             self.base / "tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
                             *self.extra, *args)

    def run(self, *args, **kw):
        return subprocess.run(self.command(*args), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120, **kw)

    def __call__(self, *args):
        r = self.run(*args)
        if r.returncode:
            raise RuntimeError(f"podman {args[0]}: {r.stderr.strip()}")
        return r.stdout.strip()

    def stop(self):
        self.run("rm", "-f", "-a", "-t", "0")


class Containerd:
    """containerd by itself, driven by ctr."""
    needs = ("containerd", "ctr", "runc")

    def __init__(self, place, base, image):
        self.base, self.place = pathlib.Path(base) / "containerd", place
        self.base.mkdir()
        (self.base / "config.toml").write_text(
            f'version = 2\nroot = "{self.base}/root"\nstate = "{self.base}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{self.base}/sock"\n')
        self.log = open(self.base / "log", "wb")
        self.proc = subprocess.Popen(place.at("containerd", "-c", self.base / "config.toml"),
                                     stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.time() + 120
        while self.run("version").returncode:
            if time.time() > end or self.proc.poll() is not None:
                self.proc.kill()
                raise RuntimeError("containerd does not start: " + (self.base / "log").read_text()[-300:])
            time.sleep(0.1)
        self("images", "import", image)

    def command(self, *args):
        return self.place.at("ctr", "-a", self.base / "sock", *args)

    def run(self, *args, **kw):
        return subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120, **kw)

    def __call__(self, *args):
        r = self.run(*args)
        if r.returncode:
            raise RuntimeError(f"ctr {' '.join(map(str, args))}: {r.stderr.strip()}")
        return r.stdout.strip()

    def stop(self):
        for task in self.run("task", "ls", "-q").stdout.split():
            self.run("task", "rm", "-f", task)
        self.proc.terminate()
        self.proc.wait(60)
        self.log.close()


def missing(needs):
    """Why a peer cannot take part, or None."""
    absent = [p for p in needs if not shutil.which(p)]
    return f"not installed: {' '.join(absent)}" if absent else None
