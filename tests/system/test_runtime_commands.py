"""insula-runtime: every command with its options and output, as callers of runc and crun use them."""
import json
import os
import pathlib
import pty
import re
import select
import socket
import subprocess
import threading
import time

import pytest
from conftest import program, rmdir, wait_for
from test_runtime import rt  # noqa: F401 (a fixture)

LOOP = ["sh", "-c", "while :; do sleep 0.05; done"]


def start(rt, cid, args=LOOP, **process):
    rt.write(args, **process)
    assert rt.create(cid) == 0
    assert rt("start", cid).returncode == 0


def gone(pid):
    """Ended: not there, or a zombie that its parent has not looked at yet."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z"
    except OSError:
        return True


class Console:
    """What --console-socket talks to: takes the terminal's master."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen()
        self.path, self.master = path, None
        self.thread = threading.Thread(target=self.take)
        self.thread.start()

    def take(self):
        conn, _ = self.sock.accept()
        _, fds, _, _ = socket.recv_fds(conn, 64, 1)
        self.master = fds[0]
        conn.close()

    def read(self):
        self.thread.join(60)
        return drain(self.master)


def drain(fd, until=None):
    out = b""
    while select.select([fd], [], [], 60)[0]:
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        out += data
        if until and until in out:
            break
    return out.decode()


# --- list, state, ps ---

def test_list(rt):
    start(rt, "oci-b")
    start(rt, "oci-a", ["true"])
    wait_for(lambda: rt.status("oci-a") == "stopped")
    assert rt("list", "--quiet").stdout.split() == ["oci-a", "oci-b"]
    lines = rt("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    a, b = lines[1].split(), lines[2].split()
    assert a[:4] == ["oci-a", "0", "stopped", str(rt.bundle)] and a[5] == "root"
    assert b[0] == "oci-b" and int(b[1]) > 1 and b[2] == "running"
    docs = json.loads(rt("list", "--format", "json").stdout)
    assert [(d["id"], d["status"]) for d in docs] == [("oci-a", "stopped"), ("oci-b", "running")]
    assert docs[0]["rootfs"] == str(rt.bundle / "rootfs") and docs[0]["owner"] == "root"
    assert rt("list", "-f", "xml").returncode == 1


def test_state_has_annotations(rt):
    rt.config["annotations"] = {"a.b": "c"}
    start(rt, "oci-state")
    d = json.loads(rt("state", "oci-state").stdout)
    assert d["annotations"] == {"a.b": "c"} and d["ociVersion"] == "1.2.0" and d["status"] == "running"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z$", d["created"])


def test_ps(rt):
    start(rt, "oci-ps", ["sh", "-c", "sleep 1000 & wait"])
    wait_for(lambda: len(json.loads(rt("ps", "--format", "json", "oci-ps").stdout)) == 2)
    pids = json.loads(rt("ps", "--format", "json", "oci-ps").stdout)
    assert json.loads(rt("state", "oci-ps").stdout)["pid"] in pids
    lines = rt("ps", "oci-ps").stdout.splitlines()
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"] and len(lines) == 3
    lines = rt("ps", "oci-ps", "-o", "pid,args").stdout.splitlines()
    assert lines[0].split()[0] == "PID" and sorted(int(x.split()[0]) for x in lines[1:]) == sorted(pids)
    assert "sleep 1000" in "\n".join(lines)
    assert "PID field" in rt("ps", "oci-ps", "-o", "args").stderr


# --- kill, delete, run ---

def test_kill_names_and_all(rt):
    start(rt, "oci-kill", ["sh", "-c", "trap 'echo got > /tmp/usr1' USR1; echo >/tmp/ready; while :; do sleep 0.05; done"])
    got = rt.bundle / "rootfs/tmp/usr1"
    # The first of a pid namespace does not get a signal for which it has no handler yet.
    wait_for((rt.bundle / "rootfs/tmp/ready").exists)
    for name in ("USR1", "SIGUSR1", "sigusr1", "10"):
        wait_for(lambda: not subprocess.run(["rm", "-f", got]).returncode)
        assert rt("kill", "oci-kill", name).returncode == 0
        wait_for(got.exists)
    assert "unknown signal" in rt("kill", "oci-kill", "NOPE").stderr
    assert rt("kill", "--all", "oci-kill", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-kill") == "stopped")
    assert rt("kill", "oci-kill", "TERM").returncode == 1
    assert rt("kill", "--all", "oci-kill", "KILL").returncode == 0


def test_kill_all_reaches_processes_of_a_shared_pid_namespace(rt):
    rt.config["linux"]["namespaces"] = [n for n in rt.config["linux"]["namespaces"] if n["type"] != "pid"]
    start(rt, "oci-host", ["sh", "-c", "sleep 1000 & sleep 1000 & exit 0"])
    wait_for(lambda: rt.status("oci-host") == "stopped")
    pids = json.loads(rt("ps", "-f", "json", "oci-host").stdout)
    assert len(pids) == 2
    assert rt("kill", "-a", "oci-host", "KILL").returncode == 0
    wait_for(lambda: all(gone(p) for p in pids))
    assert rt("delete", "oci-host").returncode == 0


def test_delete_force(rt):
    start(rt, "oci-del")
    p = rt("delete", "oci-del")
    assert p.returncode == 1 and "cannot delete container 'oci-del' that is running" in p.stderr
    assert rt("delete", "--force", "oci-del").returncode == 0
    assert rt("delete", "--force", "oci-del").returncode == 0
    assert rt("delete", "oci-del").returncode == 1


def test_kill_and_delete_by_regular_expression(rt):
    """As crun has it: whatever the pattern finds in an id."""
    for cid in ("oci-re-1", "oci-re-2", "oci-other"):
        start(rt, cid)
    assert rt("kill", "--regex", "^oci-re-[0-9]$", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-re-1") == rt.status("oci-re-2") == "stopped")
    assert rt.status("oci-other") == "running"
    p = rt("delete", "--regex", "oci-(re|other)")
    assert p.returncode == 1 and "oci-other' that is running" in p.stderr
    assert rt("list", "-q").stdout.split() == ["oci-other"]
    assert rt("delete", "-f", "--regex", "oci-.*").returncode == 0
    assert rt("list", "-q").stdout == ""
    p = rt("delete", "--regex", "oci-(")
    assert p.returncode == 1 and "invalid regular expression 'oci-('" in p.stderr


def test_run_keep_and_detach(rt, tmp_path):
    rt.write(["sh", "-c", "exit 4"])
    assert rt("run", "--keep", "oci-keep").returncode == 4
    assert rt.status("oci-keep") == "stopped"
    assert rt("delete", "oci-keep").returncode == 0
    rt.write(LOOP)
    out = open(tmp_path / "out", "w")
    p = subprocess.run([program("insula-runtime"), "--root", str(rt.root), "run", "-d", "--pid-file", tmp_path / "pid",
                        "oci-det"], cwd=rt.bundle, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    rt.ids.add("oci-det")
    assert p.returncode == 0
    assert json.loads(rt("state", "oci-det").stdout)["pid"] == int((tmp_path / "pid").read_text())


def test_a_failed_pid_file_leaves_nothing(rt):
    rt.write(LOOP)
    p = rt("run", "--pid-file", "/nonexistent/pid", "oci-nopid")
    assert p.returncode == 1 and "write pid file '/nonexistent/pid'" in p.stderr
    assert "does not exist" in rt("state", "oci-nopid").stderr


def test_run_with_a_terminal_in_the_foreground(rt):
    """Without --console-socket the terminal is joined with our own."""
    rt.write(["sh", "-c", "read x; echo got=$x; exit 9"], terminal=True)
    rt.ids.add("oci-tty")
    master, slave = pty.openpty()
    p = subprocess.Popen([program("insula-runtime"), "--root", str(rt.root), "run", "oci-tty"], cwd=rt.bundle,
                         stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.write(master, b"hello\r")
    text = drain(master, b"got=hello")
    assert "got=hello" in text
    assert p.wait(60) == 9
    os.close(master)


def test_console_socket(rt, tmp_path):
    rt.write(["sh", "-c", "echo tty; exit 0"], terminal=True)
    rt.ids.add("oci-con")
    assert "without --console-socket" in rt("create", "oci-con").stderr
    c = Console(tmp_path / "console")
    assert rt("create", "--console-socket", c.path, "oci-con").returncode == 0
    assert rt("start", "oci-con").returncode == 0
    assert c.read() == "tty\r\n"


# --- exec ---

def test_exec_options(rt):
    start(rt, "oci-exec")
    show = "echo $X $(pwd); id"
    p = rt("exec", "--env", "X=y", "--cwd", "/tmp", "--user", "12:34", "--additional-gids", "56", "-g", "78", "oci-exec",
           "sh", "-c", show)
    assert p.stdout.splitlines()[0] == "y /tmp"
    assert "uid=12 gid=34 groups=56,78" in p.stdout
    assert rt("exec", "--cwd", "tmp", "oci-exec", "true").returncode == 1
    assert rt("exec", "-g", "x", "oci-exec", "true").returncode == 1
    assert rt("exec", "oci-exec").returncode == 1


def status(rt, key, *options):
    out = rt("exec", *options, "oci-exec", "cat", "/proc/self/status").stdout
    return re.search(rf"^{key}:\s+(\S+)", out, re.M).group(1)


def test_exec_privileges(rt):
    start(rt, "oci-exec", capabilities={k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")})
    assert int(status(rt, "CapEff"), 16) == 1 << 5
    assert int(status(rt, "CapEff", "--cap", "CAP_NET_RAW"), 16) == 1 << 5 | 1 << 13
    assert int(status(rt, "CapBnd", "-c", "CAP_NET_RAW", "-c", "CAP_CHOWN"), 16) == 1 | 1 << 5 | 1 << 13
    assert status(rt, "NoNewPrivs") == "0"
    assert status(rt, "NoNewPrivs", "--no-new-privs") == "1"


def test_exec_preserves_descriptors(rt, tmp_path):
    start(rt, "oci-fds")
    f = open(tmp_path / "f", "w+")
    os.dup2(f.fileno(), 3, inheritable=True) if f.fileno() != 3 else os.set_inheritable(3, True)

    def call(*o):
        return subprocess.run([program("insula-runtime"), "--root", str(rt.root), "exec", *o, "oci-fds", "sh", "-c",
                               "echo kept >&3"], pass_fds=(3,), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert call().returncode != 0
    assert call("--preserve-fds", "1").returncode == 0
    assert (tmp_path / "f").read_text() == "kept\n"
    assert call("--preserve-fds", "-1").returncode == 1


def test_exec_from_a_file(rt, tmp_path):
    start(rt, "oci-file")
    doc = {"args": ["sh", "-c", "echo $V; cat /proc/self/oom_score_adj; ulimit -n; exit 5"], "cwd": "/tmp",
           "env": ["PATH=/bin", "V=w"], "oomScoreAdj": 700, "user": {"uid": 0, "gid": 0},
           "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]}
    (tmp_path / "p.json").write_text(json.dumps(doc))
    p = rt("exec", "--process", tmp_path / "p.json", "oci-file")
    assert (p.stdout, p.returncode) == ("w\n700\n33\n", 5)
    doc["cwd"] = 3
    (tmp_path / "p.json").write_text(json.dumps(doc))
    assert "cwd: expected string" in rt("exec", "-p", tmp_path / "p.json", "oci-file").stderr


def test_exec_detached(rt, tmp_path):
    start(rt, "oci-detach")
    t = time.monotonic()
    p = subprocess.run([program("insula-runtime"), "--root", str(rt.root), "exec", "-d", "--pid-file", tmp_path / "pid",
                        "oci-detach", "sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert p.returncode == 0 and time.monotonic() - t < 60
    pid = int((tmp_path / "pid").read_text())
    assert pid in json.loads(rt("ps", "-f", "json", "oci-detach").stdout)
    rt("delete", "-f", "oci-detach")
    wait_for(lambda: gone(pid))


def test_exec_terminal(rt, tmp_path):
    start(rt, "oci-extty")
    c = Console(tmp_path / "console")
    assert rt("exec", "--tty", "--console-socket", c.path, "oci-extty", "sh", "-c", "tty=$(readlink /proc/self/fd/0); "
              "test -t 0 && echo yes").returncode == 0
    assert c.read() == "yes\r\n"
    assert "without --console-socket" in rt("exec", "-t", "-d", "oci-extty", "true").stderr


def test_exec_in_a_group_of_its_own(rt):
    start(rt, "oci-sub")
    p = rt("exec", "--cgroup", "below", "oci-sub", "cat", "/proc/self/cgroup")
    assert p.returncode == 0 and "/below" in p.stdout
    assert rt("exec", "--cgroup", "../../x", "oci-sub", "true").returncode == 1
    # The groups go with the container: the fixture looks for them.


def test_exec_in_what_does_not_run(rt):
    start(rt, "oci-over", ["true"])
    wait_for(lambda: rt.status("oci-over") == "stopped")
    assert "stopped container" in rt("exec", "oci-over", "true").stderr
    assert "does not exist" in rt("exec", "oci-nobody", "true").stderr


# --- cgroups ---

def test_relative_cgroups_path(rt):
    """Below the caller's own group, and found again by a caller elsewhere."""
    rt.config["linux"]["cgroupsPath"] = "oci-relative/leaf"
    start(rt, "oci-rel")
    pid = json.loads(rt("state", "oci-rel").stdout)["pid"]
    own = dict(re.findall(r"^\d+:(\w[^:]*):(.*)$", pathlib.Path("/proc/self/cgroup").read_text(), re.M))
    theirs = dict(re.findall(r"^\d+:(\w[^:]*):(.*)$", pathlib.Path(f"/proc/{pid}/cgroup").read_text(), re.M))
    assert all(theirs[c] == own[c].rstrip("/") + "/oci-relative/leaf" for c in ("memory", "pids", "cpu") if c in own)
    other = pathlib.Path("/sys/fs/cgroup/memory/oci-elsewhere")
    if other.parent.is_dir():
        other.mkdir()
        try:
            subprocess.run(["sh", "-c", f"echo $$ > {other}/cgroup.procs; exec {program('insula-runtime')} --root {rt.root} "
                            "delete -f oci-rel"], check=True)
        finally:
            wait_for(lambda: rmdir(other))
    else:
        rt("delete", "-f", "oci-rel")
    left = [pathlib.Path(d) for d, _, _ in os.walk("/sys/fs/cgroup") if d.endswith("/oci-relative")]
    assert not [d for d in left if (d / "leaf").exists()]
    for d in left:
        d.rmdir()


def test_a_group_with_processes_is_refused(rt):
    start(rt, "oci-first")
    rt.config["linux"]["cgroupsPath"] = "/insula/oci-first"
    rt.write()
    p = rt("run", "oci-second")
    assert p.returncode == 1 and re.search(r"cgroup '/insula/oci-first' is not empty: \d process", p.stderr)
    assert rt.status("oci-first") == "running"


@pytest.mark.parametrize("resources, words", [
    ({"network": {"classID": "x"}}, "linux.resources.network.classID: expected integer"),
    ({"rdma": {"mlx": {"hcaHandles": -1}}}, "linux.resources.rdma.mlx.hcaHandles: value out of range"),
    ({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}, "linux.resources.hugepageLimits[0].pageSize: invalid page size"),
    ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "huge page limit"),
    ({"blockIO": {"weightDevice": [{"major": 1}]}}, "linux.resources.blockIO.weightDevice[0].minor: missing"),
    ({"unified": {"../x": "1"}}, "unified"),
    ({"cpu": {"idle": 2}}, "linux.resources.cpu.idle: value out of range")])
def test_limits_that_cannot_be_had(rt, resources, words):
    rt.config["linux"]["resources"] = resources
    rt.write()
    p = rt("run", "oci-limit")
    assert p.returncode == 1 and words in p.stderr
    assert rt("state", "oci-limit").returncode == 1


def test_no_cgroup(rt):
    """As crun has it: the container stays in the caller's groups."""
    rt.write(LOOP)
    plain = rt.command
    rt.command = lambda *a: [*plain()[:3], "--cgroup-manager", "disabled", *map(str, a)]
    assert rt.create("oci-nocg") == 0
    rt.command = plain
    assert rt("start", "oci-nocg").returncode == 0
    pid = json.loads(rt("state", "oci-nocg").stdout)["pid"]
    assert "insula" not in pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    assert rt("exec", "oci-nocg", "echo", "in").stdout == "in\n"
    for command in ("pause", "update"):
        assert "has no cgroup" in rt(command, "oci-nocg").stderr
    assert "has no cgroup" in rt("events", "--stats", "oci-nocg").stderr
    assert rt("exec", "--cgroup", "x", "oci-nocg", "true").returncode == 1
    assert rt("delete", "-f", "oci-nocg").returncode == 0
    wait_for(lambda: gone(pid))
    assert "unknown cgroup manager 'x'" in rt("--cgroup-manager", "x", "list").stderr


def test_intel_rdt_without_the_hardware(rt):
    if "resctrl" in pathlib.Path("/proc/self/mounts").read_text():
        words = "linux.intelRdt.closID: class 'nosuch' does not exist"
    else:
        words = "linux.intelRdt: this host has no resctrl file system mounted"
    rt.config["linux"]["intelRdt"] = {"closID": "nosuch"}
    rt.write()
    p = rt("run", "oci-rdt")
    assert p.returncode == 1 and words in p.stderr


# --- options of mounts that are crun's own ---

def test_links_as_sources_and_targets(rt, tmp_path):
    """src-nofollow and dest-nofollow mount links and on links; copy-symlink makes one."""
    (tmp_path / "f").write_text("file\n")
    (tmp_path / "l").symlink_to("/etc/elsewhere")
    root = rt.bundle / "rootfs"
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/elsewhere").write_text("elsewhere\n")
    (root / "at").symlink_to("/etc/elsewhere")
    (root / "same").symlink_to("/etc/elsewhere")

    def bind(source, target, *options):
        return {"destination": target, "type": "bind", "source": str(tmp_path / source), "options": ["bind", *options]}
    base = rt.config["mounts"]
    rt.config["mounts"] = [*base, bind("f", "/at", "dest-nofollow"), bind("l", "/copied/link", "copy-symlink"),
                           bind("l", "/same", "copy-symlink"), bind("l", "/itself", "src-nofollow", "dest-nofollow")]
    rt.write(["sh", "-c", "cat /at /etc/elsewhere; for i in /copied/link /same /itself; do busybox readlink $i; done"])
    p = rt("run", "oci-links")
    assert p.stdout.splitlines() == ["file", "elsewhere", *["/etc/elsewhere"] * 3], p.stderr
    # Without the option the link is followed, inside the root.
    rt.config["mounts"] = [*base, bind("f", "/at")]
    rt.write(["cat", "/etc/elsewhere"])
    assert rt("run", "oci-links").stdout == "file\n"
    (root / "same").unlink()
    (root / "same").write_text("")
    rt.config["mounts"] = [*base, bind("l", "/same", "copy-symlink")]
    rt.write(["true"])
    p = rt("run", "oci-links")
    assert p.returncode == 1 and "copy-symlink: something else is there already" in p.stderr


# --- messages, documents ---

def test_log(rt, tmp_path):
    rt.write(["nosuch"])
    log = tmp_path / "log"
    p = rt("--log", log, "--log-format", "json", "run", "oci-log")
    assert p.returncode == 127
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error" and 'exec: "nosuch"' in line["msg"] and line["time"]
    assert 'exec: "nosuch"' in p.stderr
    rt("--log", log, "--log-format", "text", "state", "oci-none")
    assert "container 'oci-none' does not exist" in log.read_text().splitlines()[-1]
    assert rt("--log-format", "xml", "list").returncode == 1


def test_spec(rt, tmp_path):
    b = tmp_path / "b"
    b.mkdir()
    assert rt("spec", "--bundle", b).returncode == 0
    doc = json.loads((b / "config.json").read_text())
    assert doc["process"]["args"] == ["sh"] and doc["root"] == {"path": "rootfs", "readonly": True}
    assert {n["type"] for n in doc["linux"]["namespaces"]} == {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    p = rt("spec", "--bundle", b)
    assert p.returncode == 1 and "config.json exists" in p.stderr
    # What it writes runs.
    os.rename(rt.bundle / "rootfs", b / "rootfs")
    doc["process"].update(terminal=False, args=["echo", "of spec"])
    (b / "config.json").write_text(json.dumps(doc))
    p = rt("run", "--bundle", b, "oci-spec")
    assert (p.stdout, p.returncode, p.stderr) == ("of spec\n", 0, "")


def test_spec_for_ordinary_users(rt, tmp_path):
    assert rt("spec", "--rootless", "-b", tmp_path).returncode == 0
    doc = json.loads((tmp_path / "config.json").read_text())
    kinds = {n["type"] for n in doc["linux"]["namespaces"]}
    assert "user" in kinds and "network" not in kinds and "resources" not in doc["linux"]
    assert doc["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.getuid(), "size": 1}]
    pts = next(m for m in doc["mounts"] if m["destination"] == "/dev/pts")
    assert not [o for o in pts["options"] if o.startswith("gid=")]


def test_features(rt):
    f = json.loads(rt("features").stdout)
    assert f["ociVersionMin"] == "1.0.0" and f["ociVersionMax"].startswith("1.")
    assert f["hooks"] == ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    assert {"ro", "rbind", "nosuid", "rro"} <= set(f["mountOptions"])
    lin = f["linux"]
    assert {"pid", "network", "mount", "ipc", "uts", "cgroup"} <= set(lin["namespaces"])
    assert "CAP_SYS_ADMIN" in lin["capabilities"]
    assert lin["cgroup"]["v1"] and lin["cgroup"]["v2"] and isinstance(lin["cgroup"]["systemd"], bool)
    assert {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"} <= set(lin["seccomp"]["actions"])
    assert "SCMP_CMP_MASKED_EQ" in lin["seccomp"]["operators"] and "SCMP_ARCH_X86_64" in lin["seccomp"]["archs"]
    assert set(lin["seccomp"]["supportedFlags"]) <= set(lin["seccomp"]["knownFlags"])
    for k in ("apparmor", "selinux", "intelRdt"):
        assert isinstance(lin[k]["enabled"], bool)
    assert isinstance(lin["mountExtensions"]["idmap"]["enabled"], bool)


def test_help_and_unknown_words(rt):
    text = rt("--help").stdout
    for c in "create start state kill delete run exec list ps pause resume update events spec features".split():
        assert re.search(rf"^  {c} ", text, re.M)
        p = rt(c, "--help")
        assert p.returncode == 0 and p.stdout.startswith(f"Usage:  insula-runtime {c}")
    assert "unknown command 'frobnicate'" in rt("frobnicate").stderr
    assert "unknown flag: --frob" in rt("list", "--frob").stderr


# --- run ---

def test_run_passes_signals_on(rt):
    rt.write(["sh", "-c", "trap 'echo got; exit 3' TERM; touch /tmp/ready; while :; do sleep 0.05; done"])
    rt.ids.add("oci-sig")
    p = subprocess.Popen(rt.command("run", "oci-sig"), cwd=rt.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    wait_for((rt.bundle / "rootfs/tmp/ready").exists)
    p.terminate()
    assert p.communicate(timeout=60)[0] == "got\n" and p.returncode == 3
    assert "does not exist" in rt("state", "oci-sig").stderr


def test_run_ends_as_its_process_was_ended(rt):
    rt.write(["sh", "-c", "kill -KILL $$"])
    assert rt("run", "oci-end").returncode in (0, 137)      # the kernel spares the first of a pid namespace
    rt.config["linux"]["namespaces"] = [n for n in rt.config["linux"]["namespaces"] if n["type"] != "pid"]
    rt.write(["sh", "-c", "kill -KILL $$"])
    assert rt("run", "oci-end").returncode == 137


def test_run_with_descriptors_and_another_config(rt, tmp_path):
    rt.write(["sh", "-c", "echo kept >&3"], oomScoreAdj=600)
    os.rename(rt.bundle / "config.json", tmp_path / "other.json")
    f = open(tmp_path / "f", "w+")
    os.dup2(f.fileno(), 3, inheritable=True) if f.fileno() != 3 else os.set_inheritable(3, True)

    def run(*o):
        return subprocess.run(rt.command("run", "--config", tmp_path / "other.json", "--bundle", rt.bundle, *o, "oci-rfd"),
                              pass_fds=(3,), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run().returncode != 0
    assert run("--preserve-fds", "1").returncode == 0
    assert (tmp_path / "f").read_text() == "kept\n"
    assert "invalid number" in run("--preserve-fds", "-1").stderr


def test_oom_score_of_init_and_exec(rt):
    start(rt, "oci-score", oomScoreAdj=600)
    pid = json.loads(rt("state", "oci-score").stdout)["pid"]
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == "600\n"
    assert rt("exec", "oci-score", "cat", "/proc/self/oom_score_adj").stdout == "600\n"
