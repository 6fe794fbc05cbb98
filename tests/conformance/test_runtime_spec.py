"""What the OCI runtime specification 1.2 demands of a runtime on Linux: docs/CONFORMANCE.md lists each demand with
its number and the test here that shows it."""
import errno
import fcntl
import json
import os
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import BUILD, NO_IDMAP, wait_for  # noqa: E402
from test_runtime import Runtime, rt  # noqa: E402, F401  (rt is the fixture)


ATTACK = BUILD / "tests/attack"


def started(rt, cid, *args, **process):
    rt.write(list(args) or ["sleep", "1000"], **process)
    assert rt.create(cid) == 0 and rt("start", cid).returncode == 0


def output(rt, *args, cid="oci-out", **process):
    rt.write(list(args), **process)
    p = rt("run", cid)
    assert p.returncode == 0, p.stderr
    return p.stdout


def refused(rt, cid="oci-refused"):
    """create fails with one line and leaves nothing."""
    rt.ids.add(cid)
    with open(rt.bundle / "said", "w+") as said:   # no pipe: a container that is made after all would hold it
        p = subprocess.run(rt.command("create", cid), cwd=rt.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, timeout=60)
        said.seek(0)
        text = said.read()
    assert p.returncode != 0 and text.strip()
    assert rt("state", cid).returncode != 0
    return text


def refused_with(rt, path, value):
    """create fails because of the value at that path of the configuration."""
    at = rt.config
    for k in path[:-1]:
        at = at[k]
    at[path[-1]] = value
    rt.write()
    refused(rt)


# --- runtime.md ---

def test_state(rt):
    rt.config["annotations"] = {"org.example.key": "value"}
    started(rt, "oci-state")
    s = json.loads(rt("state", "oci-state").stdout)
    assert s["ociVersion"].startswith("1.") and s["id"] == "oci-state" and s["status"] == "running"
    assert s["bundle"] == str(rt.bundle) and s["annotations"] == {"org.example.key": "value"}
    assert os.readlink(f"/proc/{s['pid']}/ns/pid") != os.readlink("/proc/self/ns/pid")
    rt("kill", "oci-state", "KILL")
    wait_for(lambda: rt.status("oci-state") == "stopped")


@pytest.mark.parametrize("command", ["state", "create", "start", "kill", "delete"])
def test_an_id_must_be_given(rt, command):
    rt.write()
    assert rt(command).returncode != 0


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete"])
def test_a_container_that_is_not_there(rt, command):
    assert rt(command, "oci-nobody").returncode != 0


def test_create_wants_a_unique_id_and_starts_nothing(rt):
    rt.write(["touch", "/tmp/ran"])
    assert rt.create("oci-unique") == 0
    assert rt.status("oci-unique") == "created"
    assert rt.create("oci-unique") != 0 and rt.status("oci-unique") == "created"
    assert not (rt.bundle / "rootfs/tmp/ran").exists()
    rt("start", "oci-unique")
    wait_for((rt.bundle / "rootfs/tmp/ran").exists)


def test_the_configuration_is_read_at_create(rt):
    rt.write(["touch", "/tmp/first"])
    assert rt.create("oci-fixed") == 0
    rt.write(["touch", "/tmp/second"])
    assert rt("start", "oci-fixed").returncode == 0
    wait_for(lambda: rt.status("oci-fixed") == "stopped")
    assert os.listdir(rt.bundle / "rootfs/tmp") == ["first"]


def test_start_only_what_is_created(rt):
    started(rt, "oci-start")
    pid = json.loads(rt("state", "oci-start").stdout)["pid"]
    assert rt("start", "oci-start").returncode != 0
    assert json.loads(rt("state", "oci-start").stdout)["pid"] == pid
    rt("kill", "oci-start", "KILL")
    wait_for(lambda: rt.status("oci-start") == "stopped")
    assert rt("start", "oci-start").returncode != 0 and rt.status("oci-start") == "stopped"


def test_a_container_without_a_process_cannot_be_started(rt):
    del rt.config["process"]
    (rt.bundle / "config.json").write_text(json.dumps(rt.config))
    assert rt.create("oci-empty") == 0 and rt.status("oci-empty") == "created"
    p = rt("start", "oci-empty")
    assert p.returncode != 0 and "process: missing" in p.stderr and rt.status("oci-empty") == "created"
    assert "--process" in rt("exec", "oci-empty", "true").stderr
    assert rt("delete", "oci-empty").returncode == 0


def test_kill_sends_the_signal(rt):
    started(rt, "oci-kill", "sh", "-c", "trap 'touch /tmp/got; exit 0' USR1; touch /tmp/ready; while :; do busybox usleep 20000; done")
    wait_for((rt.bundle / "rootfs/tmp/ready").exists)
    assert rt("kill", "oci-kill", "USR1").returncode == 0
    wait_for(lambda: rt.status("oci-kill") == "stopped")
    assert (rt.bundle / "rootfs/tmp/got").exists()
    assert rt("kill", "oci-kill", "TERM").returncode != 0


def test_kill_reaches_a_created_container(rt):
    rt.write(["sleep", "1000"])
    assert rt.create("oci-killc") == 0 and rt("kill", "oci-killc", "KILL").returncode == 0
    wait_for(lambda: rt.status("oci-killc") == "stopped")


def test_delete_wants_a_stopped_container_and_frees_the_id(rt):
    started(rt, "oci-del")
    assert rt("delete", "oci-del").returncode != 0 and rt.status("oci-del") == "running"
    rt("kill", "oci-del", "KILL")
    wait_for(lambda: rt.status("oci-del") == "stopped")
    assert rt("delete", "oci-del").returncode == 0
    assert (rt.bundle / "rootfs/bin/busybox").exists()  # not made by create, so not deleted
    assert not list(pathlib.Path("/sys/fs/cgroup").glob("*/insula/oci-del"))
    assert output(rt, "echo", "again", cid="oci-del") == "again\n"


def test_delete_of_a_created_container_kills_it(rt):
    """The specification wants an error; engines rely on what runc and crun do."""
    rt.write(["sleep", "1000"])
    assert rt.create("oci-delc") == 0
    pid = json.loads(rt("state", "oci-delc").stdout)["pid"]
    assert rt("delete", "oci-delc").returncode == 0
    assert rt("state", "oci-delc").returncode != 0
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hooks(rt, tmp_path, failing=None):
    """Every hook writes its name and namespace into a log that the container sees as /tmp/log."""
    script = "echo $0 $(readlink /proc/self/ns/mnt) >>{}/log; [ $0 != {} ]"
    outside, inside = rt.bundle / "rootfs/tmp", "/tmp"
    rt.config["hooks"] = {
        k: [{"path": "/bin/sh", "args": ["sh", "-c", script.format(inside if k == "startContainer" else outside, failing), k]}]
        for k in HOOKS}
    os.symlink("busybox", rt.bundle / "rootfs/bin/readlink")
    return outside / "log"


def test_hooks_in_order_and_in_their_namespaces(rt, tmp_path):
    log = hooks(rt, tmp_path)
    rt.write()
    assert rt("run", "oci-hooks").returncode == 0
    seen = dict(x.split() for x in log.read_text().splitlines())
    assert tuple(seen) == HOOKS
    own = os.readlink("/proc/self/ns/mnt")
    for k in HOOKS:
        assert (seen[k] == own) == (k not in ("createContainer", "startContainer")), k


@pytest.mark.parametrize("failing", ["prestart", "createRuntime", "createContainer", "startContainer"])
def test_a_failing_hook_ends_the_container_and_poststop_follows(rt, tmp_path, failing):
    log = hooks(rt, tmp_path, failing)
    rt.write(["touch", "/tmp/ran"])
    assert rt("run", "oci-hookf").returncode != 0
    seen = [x.split()[0] for x in log.read_text().splitlines()]
    assert seen == [*HOOKS[:HOOKS.index(failing) + 1], "poststop"]
    assert not (rt.bundle / "rootfs/tmp/ran").exists()
    assert rt("state", "oci-hookf").returncode != 0


def test_a_failing_poststop_hook_does_not_stop_the_deletion(rt, tmp_path):
    """Nor the other hooks."""
    hooks(rt, tmp_path, "poststop")
    rt.config["hooks"]["poststop"].append({"path": "/bin/sh", "args": ["sh", "-c", f"echo second >{tmp_path}/second"]})
    rt.write()
    assert rt("run", "oci-hookp").returncode == 0
    assert rt("state", "oci-hookp").returncode != 0 and (tmp_path / "second").exists()


@pytest.mark.parametrize("version, ends", [("1.0.2", False), ("1.2.1", False), ("1.3.0", True), ("1.10.0-dev", True)])
def test_a_failing_poststart_hook(rt, tmp_path, version, ends):
    """Version 1.3 of the specification made an error of the warning."""
    rt.config["ociVersion"] = version
    rt.config["hooks"] = {"poststart": [{"path": "/bin/false"},
                                        {"path": "/bin/sh", "args": ["sh", "-c", f"echo second >{tmp_path}/second"]}]}
    rt.write(["sleep", "1000"])
    assert rt.create("oci-poststart") == 0
    p = rt("start", "oci-poststart")
    assert "poststart hook '/bin/false' failed with exit code 1" in p.stderr
    assert (p.returncode != 0) == ends and (tmp_path / "second").exists() != ends
    wait_for(lambda: rt.status("oci-poststart") == ("stopped" if ends else "running"))


# --- config.md ---

@pytest.mark.parametrize("path, value", [
    (("ociVersion",), "2.0.0"), (("ociVersion",), "one"), (("root", "path"), "nowhere"),
    (("process", "cwd"), "relative"), (("process", "args"), []), (("process", "rlimits"), [{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
    (("process", "rlimits"), [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2),
    (("process", "rlimits"), [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
    (("linux", "namespaces"), [{"type": "pid"}, {"type": "pid"}]), (("linux", "namespaces"), [{"type": "nope"}]),
    (("linux", "namespaces"), [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/uts"}]),
    (("linux", "timeOffsets"), {"monotonic": {"secs": 1}}), (("linux", "rootfsPropagation"), "sideways"),
    (("linux", "devices"), [{"type": "x", "path": "/dev/x", "major": 1, "minor": 3}]),
    (("linux", "sysctl"), {"kernel.panic": "1"}), (("linux", "personality"), {"domain": "MSDOS"}),
], ids=lambda x: ".".join(x) if isinstance(x, tuple) else None)
def test_invalid_values_are_refused(rt, path, value):
    refused_with(rt, path, value)


def test_unknown_properties_and_annotations_are_ignored(rt):
    rt.config["com.example.unknown"] = {"a": 1}
    rt.config["linux"]["unknown"] = True
    rt.config["annotations"] = {"com.example.unknown": ""}
    assert output(rt, "echo", "ok") == "ok\n"


def test_root(rt):
    rt.config["root"] = {"path": str(rt.bundle / "rootfs"), "readonly": True}
    rt.write(["touch", "/x"])
    p = rt("run", "oci-root")
    assert p.returncode == 1 and "Read-only file system" in p.stderr


def test_mounts_in_the_listed_order(rt, tmp_path):
    for n in "ab":
        (tmp_path / n).mkdir()
        (tmp_path / n / n).touch()
    rt.config["mounts"] += [{"destination": "/mnt", "type": "bind", "source": str(tmp_path / "a"), "options": ["rbind", "ro"]},
                            {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "b"), "options": ["bind"]},
                            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid"]}]
    out = output(rt, "sh", "-c", "ls /mnt; grep -E ' /(mnt|t) ' /proc/mounts; busybox df -k /t".replace("grep", "busybox grep"))
    assert out.startswith("b\n") and " /t tmpfs rw,nosuid" in out and "size=64k" in out
    assert [x.split()[3].split(",")[0] for x in out.splitlines() if " /mnt " in x] == ["ro", "rw"]


def test_process(rt):
    out = output(rt, "sh", "-c", "echo $A $0; busybox pwd; id -u; id -g; id -G; umask; ulimit -n; ulimit -Hn", "zero",
                 env=["PATH=/bin", "A=b c"], cwd="/tmp", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 11, "hard": 22}],
                 user={"uid": 12, "gid": 34, "additionalGids": [56, 78], "umask": 0o27})
    assert out.split("\n")[:8] == ["b c zero", "/tmp", "12", "34", "34 56 78", "0027", "11", "22"]


def test_capabilities_and_no_new_privileges(rt):
    caps = {k: ["CAP_CHOWN", "CAP_KILL"] for k in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    caps["effective"] = ["CAP_CHOWN"]
    out = output(rt, "busybox", "grep", "-E", "^Cap|NoNew", "/proc/self/status", capabilities=caps, noNewPrivileges=True,
                 user={"uid": 1, "gid": 1})
    values = {k: int(v, 16) for k, v in (x.split(":") for x in out.splitlines())}
    assert values["CapBnd"] == values["CapPrm"] == values["CapAmb"] == 0x21 and values["NoNewPrivs"] == 1


def test_unknown_capabilities_are_a_warning(rt):
    rt.write(["echo", "ran"], capabilities={"bounding": ["CAP_TEST"], "permitted": ["CAP_TEST"]})
    p = rt("run", "oci-cap")
    assert p.stdout == "ran\n" and "CAP_TEST" in p.stderr


def test_names_of_the_machine(rt):
    rt.config.update(hostname="host-x", domainname="domain-x")
    assert output(rt, "busybox", "sh", "-c", "hostname; cat /proc/sys/kernel/domainname") == "host-x\ndomain-x\n"


# --- config-linux.md, runtime-linux.md ---

def test_default_devices_and_links(rt):
    out = output(rt, "sh", "-c", "for i in null zero full random urandom tty; do test -c /dev/$i && echo $i; done; "
                 "for i in fd stdin stdout stderr ptmx; do busybox readlink /dev/$i; done")
    assert out.split() == ["null", "zero", "full", "random", "urandom", "tty", "/proc/self/fd", "/proc/self/fd/0",
                           "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]


def test_devices(rt):
    rt.config["linux"]["devices"] = [{"type": "c", "path": "/dev/foo", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
                                     {"type": "p", "path": "/dev/pipe"}]
    assert output(rt, "busybox", "stat", "-c", "%A %u %g %t %T", "/dev/foo") == "crw-r----- 5 6 1 3\n"
    assert output(rt, "busybox", "stat", "-c", "%F", "/dev/pipe") == "fifo\n"


def test_namespaces_new_inherited_and_joined(rt):
    holder = subprocess.Popen(["unshare", "-u", "sleep", "1000"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/uts") != os.readlink("/proc/self/ns/uts"))
        del rt.config["hostname"]
        rt.config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}, {"type": "uts", "path": f"/proc/{holder.pid}/ns/uts"}]
        out = output(rt, "sh", "-c", "for i in mnt pid uts net ipc; do busybox readlink /proc/self/ns/$i; done").split()
        own = [os.readlink(f"/proc/self/ns/{n}") for n in ("mnt", "pid", "uts", "net", "ipc")]
        assert out[2] == os.readlink(f"/proc/{holder.pid}/ns/uts")
        assert out[3:] == own[3:] and out[0] != own[0] and out[1] != own[1]
    finally:
        holder.kill()
        holder.wait()


def test_masked_and_read_only_paths(rt):
    rt.config["linux"].update(maskedPaths=["/proc/meminfo", "/etc", "/not/there"], readonlyPaths=["/tmp"])
    (rt.bundle / "rootfs/etc/secret").write_text("secret")
    rt.write(["sh", "-c", "ls /etc; test -c /proc/meminfo && echo masked; touch /tmp/x"])
    p = rt("run", "oci-mask")
    assert p.stdout == "masked\n" and "Read-only file system" in p.stderr


def test_sysctl(rt):
    rt.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    assert output(rt, "cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax") == "1\n4096\n"


def test_cgroups_path(rt):
    rt.config["linux"].update(cgroupsPath="/insula/oci-path", resources={"pids": {"limit": 33}})
    started(rt, "oci-path")
    found = [p.read_text().strip() for p in pathlib.Path("/sys/fs/cgroup").glob("*/insula/oci-path/pids.max")] + \
        [p.read_text().strip() for p in pathlib.Path("/sys/fs/cgroup").glob("insula/oci-path/pids.max")]
    assert "33" in found


def test_seccomp(rt):
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
    rt.write(["busybox", "mkdir", "/tmp/d"])
    p = rt("run", "oci-seccomp")
    assert p.returncode == 1 and "not supported" in p.stderr


GETPID = {"x86_64": 39, "aarch64": 172}.get(os.uname().machine)


def calls(rt, nr, *args):
    """What a system call with one of these as its first argument gives, in a container."""
    shutil.copy(ATTACK, rt.bundle / "rootfs/attack")
    return [int(x) for x in output(rt, "/attack", "call", nr, *args, cid="oci-calls").split()]


@pytest.mark.parametrize("op, refused_", [
    ("NE", [0, 1, 5, 6, 9]), ("LT", [0, 1]), ("LE", [0, 1, 4]), ("EQ", [4]), ("GE", [4, 5, 6, 9]), ("GT", [5, 6, 9]), ("MASKED_EQ", [4, 5, 6])])
def test_seccomp_arguments(rt, op, refused_):
    """getpid takes no arguments, and a filter sees what is passed all the same."""
    arg = {"index": 0, "value": 4, "op": f"SCMP_CMP_{op}"}
    if op == "MASKED_EQ":
        arg.update(value=0xc, valueTwo=4)
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTBLK, "args": [arg]}]}
    values = [0, 1, 4, 5, 6, 9]
    assert calls(rt, str(GETPID), *map(str, values)) == [errno.ENOTBLK if v in refused_ else 0 for v in values]


def test_seccomp_arguments_of_one_rule_and_of_several(rt):
    """All of one rule must hold; of several rules, any."""
    both = [{"index": 0, "value": 3, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTBLK, "args": both},
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTBLK, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}
    assert calls(rt, str(GETPID), "0", "1", "2", "3", "4") == [0, errno.ENOTBLK, 0, errno.ENOTBLK, errno.ENOTBLK]


def test_seccomp_calls_that_the_profile_cannot_know(rt):
    """Newer than any call that it names: ENOSYS, by which programs find their way round. Others get what it says."""
    allowed = ["execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "readlinkat",
               "getrandom", "mprotect", "newfstatat", "fstat", "write", "exit_group", "exit", "capset", "capget", "prctl", "munmap", "mmap",
               "getcwd", "close", "read", "recvmsg", "sendmsg", "futex", "ioctl", "getpid", "clone3", "faccessat2", "fcntl", "close_range"]
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOTBLK,
                                     "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}
    assert calls(rt, "4000", "0") == [errno.ENOSYS]
    assert calls(rt, str({"x86_64": 102, "aarch64": 174}[os.uname().machine]), "0") == [errno.ENOTBLK]    # getuid


def test_only_the_standard_descriptors_are_open(rt):
    r, w = os.pipe()
    os.set_inheritable(w, True)
    rt.write(["ls", "/proc/self/fd"])
    p = rt("run", "oci-fds", close_fds=False)
    os.close(r), os.close(w)
    assert p.stdout.split() == ["0", "1", "2", "3"]  # 3: ls reads the directory


# --- features.md ---

def test_features(rt):
    f = json.loads(rt("features").stdout)
    assert f["ociVersionMin"].startswith("1.0") and f["ociVersionMax"] >= "1.2"
    assert set(HOOKS) <= set(f["hooks"]) and {"bind", "ro", "tmpcopyup"} <= set(f["mountOptions"])
    assert {"mount", "pid", "network", "uts", "ipc", "cgroup", "time", "user"} <= set(f["linux"]["namespaces"])


# --- scheduling, personality, labels, notifications ---

def test_scheduler_and_io_priority(rt):
    """Read by the kernel's own report: fields 18, 19, 40, 41 of stat; the I/O class by ionice."""
    os.symlink("busybox", rt.bundle / "rootfs/bin/ionice")
    out = output(rt, "sh", "-c", "busybox cut -d' ' -f19,41 /proc/self/stat; ionice -p $$", scheduler={"policy": "SCHED_BATCH", "nice": 7},
                 ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    assert out == "7 3\nbest-effort: prio 6\n"
    assert output(rt, "busybox", "cut", "-d ", "-f41", "/proc/self/stat", scheduler={"policy": "SCHED_IDLE"}) == "5\n"
    started(rt, "oci-sched")
    (rt.bundle / "p.json").write_text(json.dumps(dict(rt.config["process"], args=["ionice"], ioPriority={"class": "IOPRIO_CLASS_IDLE"})))
    assert rt("exec", "--process", str(rt.bundle / "p.json"), "oci-sched").stdout.startswith("idle")


@pytest.mark.parametrize("key, value", [
    ("scheduler", {}), ("scheduler", {"policy": "SCHED_BEST"}), ("scheduler", {"policy": "SCHED_OTHER", "nice": 20}),
    ("scheduler", {"policy": "SCHED_OTHER", "priority": 5}), ("scheduler", {"policy": "SCHED_FIFO", "priority": 100}),
    ("scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NOPE"]}), ("scheduler", {"policy": "SCHED_RR", "priority": 1, "runtime": 5}),
    ("ioPriority", {}), ("ioPriority", {"class": "IOPRIO_CLASS_BEST"}), ("ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}),
], ids=str)
def test_bad_scheduling_is_refused(rt, key, value):
    rt.write(**{key: value})
    assert f"process.{key}" in refused(rt)


@pytest.mark.parametrize("domain, machine", [("LINUX32", "i686"), ("LINUX", "x86_64")])
def test_personality(rt, domain, machine):
    rt.config["linux"]["personality"] = {"domain": domain}
    assert output(rt, "busybox", "uname", "-m") == machine + "\n"
    started(rt, "oci-pers")
    assert rt("exec", "oci-pers", "busybox", "uname", "-m").stdout == machine + "\n"


def test_labels_need_their_module(rt):
    """Where a security module is off, its labels are refused by name. Where they are on: tests/system/test_apparmor.py, test_selinux.py."""
    apparmor = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    wanted = [("process.selinuxLabel", {"selinuxLabel": "system_u:system_r:container_t:s0"})] if not os.path.exists("/sys/fs/selinux/enforce") else []
    if not apparmor.exists() or apparmor.read_text()[0] != "Y":
        wanted.append(("process.apparmorProfile", {"apparmorProfile": "nobody-knows"}))
    for word, process in wanted:
        rt.write(**process)
        assert word in refused(rt)
        rt.write(["sleep", "1000"])
    if wanted:
        rt.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0"
        rt.write()
        assert "linux.mountLabel" in refused(rt)
        del rt.config["linux"]["mountLabel"]
        started(rt, "oci-label")
        assert rt("exec", "--process-label", "x", "oci-label", "true").returncode != 0
        assert rt("exec", "--apparmor", "x", "oci-label", "true").returncode != 0


class Agent(threading.Thread):
    """A seccomp agent: takes the states, and answers every notification with an error number."""

    def __init__(self, path, errno_):
        super().__init__(daemon=True)
        self.errno, self.states, self.calls = errno_, [], []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen()

    def run(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            text, fds, _, _ = socket.recv_fds(conn, 65536, 4)
            conn.close()
            self.states.append(json.loads(text))
            threading.Thread(target=self.answer, args=fds, daemon=True).start()

    def answer(self, fd):
        """SECCOMP_IOCTL_NOTIF_RECV and _SEND, until the process is gone."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll()[0][1] & select.POLLHUP:
            req = bytearray(80)
            fcntl.ioctl(fd, 0xc0502100, req)
            uid, pid, _, nr = struct.unpack_from("=QIIi", req)
            self.calls.append((pid, nr))
            fcntl.ioctl(fd, 0xc0182101, bytearray(struct.pack("=QqiI", uid, 0, -self.errno, 0)))
        os.close(fd)


def notifying(rt, path):
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "for the agent",
                                     "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}
    if path:
        rt.config["linux"]["seccomp"]["listenerPath"] = str(path)


def test_seccomp_listener(rt, tmp_path):
    """ENOTBLK is nobody's answer but the agent's. The state comes with the listener, for the init and for an exec."""
    agent = Agent(tmp_path / "agent", errno.ENOTBLK)
    agent.start()
    notifying(rt, tmp_path / "agent")
    rt.config["annotations"] = {"a": "b"}
    started(rt, "oci-agent", "sh", "-c", "busybox mkdir /tmp/d 2>/tmp/said; sleep 1000")
    wait_for(lambda: (rt.bundle / "rootfs/tmp/said").exists() and "Block device" in (rt.bundle / "rootfs/tmp/said").read_text())
    p = rt("exec", "oci-agent", "busybox", "mkdir", "/tmp/e")
    assert p.returncode == 1 and "Block device" in p.stderr
    pid = json.loads(rt("state", "oci-agent").stdout)["pid"]
    first, second = agent.states
    assert first["fds"] == ["seccompFd"] and first["metadata"] == "for the agent" and first["pid"] == pid
    assert first["state"]["id"] == "oci-agent" and first["state"]["pid"] == pid and first["state"]["annotations"] == {"a": "b"}
    assert first["ociVersion"].startswith("1.") and first["state"]["status"] == "created" and first["state"]["bundle"] == str(rt.bundle)
    assert second["pid"] != pid and second["state"]["pid"] == pid and len(agent.calls) == 2
    agent.sock.close()


def test_seccomp_listener_that_is_not_there(rt, tmp_path):
    for path, word in ((None, "must be set"), (tmp_path / "nobody", "No such file"), (tmp_path, "refused")):
        notifying(rt, path)
        rt.write()
        said = refused(rt)
        assert "linux.seccomp.listenerPath" in said and word in said
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "dead"))
    notifying(rt, tmp_path / "dead")
    rt.write()
    assert "refused" in refused(rt)


def test_seccomp_flags_and_notifications_that_cannot_be(rt, tmp_path):
    notifying(rt, tmp_path)
    seccomp = rt.config["linux"]["seccomp"]
    for change, word in (({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction"), ({"flags": ["SECCOMP_FILTER_FLAG_NOPE"]}, "flags"),
                         ({"syscalls": [], "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "needs SCMP_ACT_NOTIFY"),
                         ({"syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]}, "sendmsg")):
        rt.config["linux"]["seccomp"] = {**seccomp, **change}
        rt.write()
        assert word in refused(rt)
    rt.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [
        "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    assert output(rt, "echo", "ok") == "ok\n"


# --- more of what must be refused, ignored or seen ---

@pytest.mark.parametrize("path, value", [
    (("hooks",), {"prestart": [{"path": "bin/true"}]}), (("hooks",), {"poststop": [{"path": "/bin/true", "timeout": 0}]}),
    (("hooks",), {"createRuntime": [{"path": "/bin/true", "timeout": -1}]}), (("hooks",), {"poststart": [{"args": ["true"]}]}),
    (("annotations",), {"": "x"}), (("annotations",), {"a": 1}), (("hostname",), 5), (("root",), {}), (("root",), None),
    (("linux", "maskedPaths"), ["relative"]), (("linux", "readonlyPaths"), ["relative"]),
    (("linux", "devices"), [{"type": "c", "path": "relative", "major": 1, "minor": 3}]),
    (("linux", "devices"), [{"type": "c", "path": "/tmp/is-a-file", "major": 1, "minor": 3}]),
    (("linux", "namespaces"), [{"type": "mount"}, {"type": "network", "path": "relative"}]),
    (("linux", "namespaces"), [{"type": "mount"}, {"type": "network", "path": "/nowhere"}]),
    (("linux", "seccomp"), {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}),
    (("linux", "seccomp"), {"defaultAction": "SCMP_ACT_NOPE"}), (("linux", "seccomp"), {}),
    (("linux", "seccomp"), {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
    (("linux", "resources"), {"pids": {"limit": "many"}}), (("linux", "resources"), {"devices": [{"allow": True, "access": "x"}]}),
    (("process", "capabilities"), {"bounding": "CAP_KILL"}), (("process", "user"), {"uid": -1, "gid": 0}), (("process", "env"), ["A=b", 5]),
    (("mounts",), [{"type": "tmpfs"}]), (("mounts",), [{"destination": "/x", "type": "tmpfs", "options": ["no-such-option"]}]),
], ids=lambda x: ".".join(x) if isinstance(x, tuple) else None)
def test_more_invalid_values_are_refused(rt, path, value):
    (rt.bundle / "rootfs/tmp/is-a-file").touch()
    refused_with(rt, path, value)


def test_console_size_without_a_terminal_is_ignored(rt):
    assert output(rt, "echo", "ok", consoleSize={"height": 24, "width": 80}) == "ok\n"


@pytest.mark.parametrize("value, flag", [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")])
def test_rootfs_propagation(rt, value, flag):
    rt.config["linux"]["rootfsPropagation"] = value
    root = next(x for x in output(rt, "cat", "/proc/self/mountinfo").splitlines() if x.split()[4] == "/")
    seen = root.split(" - ")[0]
    assert flag in seen and ("shared:" in seen) == (value == "shared")


def test_mount_propagation_and_recursive_options(rt, tmp_path):
    for n in ("private", "shared", "unbindable", "rro"):
        (tmp_path / n).mkdir()
        rt.config["mounts"].append({"destination": f"/mnt/{n}", "type": "bind", "source": str(tmp_path / n), "options": ["rbind", n]})
    lines = {x.split()[4]: x.split(" - ")[0].split() for x in output(rt, "cat", "/proc/self/mountinfo").splitlines()}
    assert any(f.startswith("shared:") for f in lines["/mnt/shared"]) and "unbindable" in lines["/mnt/unbindable"]
    assert not [f for f in lines["/mnt/private"] if f.startswith(("shared:", "master:"))]
    assert lines["/mnt/rro"][5].split(",")[0] == "ro"


@pytest.fixture
def nested(tmp_path):
    """A directory with mounts below it: beside each other, in each other, on top of each other, with a space in the name."""
    for n, flags in (("a", "noatime"), ("a/in", "nosuid,nodev"), ("b c", "noexec"), ("b c", "nodiratime")):
        (tmp_path / "top" / n).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(tmp_path / "top" / n)], check=True)
    yield tmp_path / "top"
    for n in ("b c", "b c", "a/in", "a"):
        subprocess.run(["umount", str(tmp_path / "top" / n)], check=True)


def test_recursive_options_reach_all_mounts_below_and_change_nothing_else(rt, nested):
    def options(destination, *words):
        rt.config["mounts"][-1:] = [{"destination": destination, "type": "bind", "source": str(nested), "options": ["rbind", *words]}]
        lines = (x.split() for x in output(rt, "cat", "/proc/self/mountinfo").splitlines())
        return [(x[4][len(destination):], set(x[5].split(","))) for x in lines if x[4].startswith(destination)]

    rt.config["mounts"].append({})
    plain = options("/plain")
    assert [n for n, _ in plain] == ["", "/a", "/a/in", "/b\\040c", "/b\\040c"]
    # What lies under another mount cannot be reached, and counts for nothing.
    top = lambda found: dict(found)     # noqa: E731
    for words, add, drop in ((["rro"], {"ro"}, {"rw"}), (["rnosuid", "rnodev"], {"nosuid", "nodev"}, set()),
                             (["rsuid", "rdev", "rexec"], set(), {"nosuid", "nodev", "noexec"}),
                             (["rstrictatime"], set(), {"noatime", "relatime"}), (["rnoatime"], {"noatime"}, {"relatime"}),
                             (["rnosymfollow"], {"nosymfollow"}, set())):
        assert top(options("/x", *words)) == {n: (o | add) - drop for n, o in top(plain).items()}, words
    # Without the r it is the first one only.
    assert top(options("/x", "ro", "nosuid")) == {n: (o | {"ro", "nosuid"}) - {"rw"} if n == "" else o for n, o in top(plain).items()}


def test_a_hook_that_takes_too_long(rt):
    rt.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    rt.write()
    assert "timed out" in refused(rt)


def test_hooks_get_their_arguments_and_environment(rt, tmp_path):
    rt.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["zero", "-c", f"echo $0 $1 $A $HOME >{tmp_path}/said", "one", "two"], "env": ["A=b"]}]}
    rt.write()
    assert rt("run", "oci-hooka").returncode == 0
    assert (tmp_path / "said").read_text() == "one two b\n"


# --- time namespaces ---

CLOCKS = "busybox cat /proc/uptime; busybox readlink /proc/self/ns/time; cat /proc/self/timens_offsets"


def clocks(text):
    """Uptime (the boottime clock), namespace and offsets, as CLOCKS prints them."""
    first, ns, *offsets = text.splitlines()
    return float(first.split()[0]), ns, {x.split()[0]: tuple(map(int, x.split()[1:])) for x in offsets}


def test_time_namespace_and_offsets(rt):
    """Of the init and of what is executed later in it; the host's clocks stay."""
    rt.config["linux"]["namespaces"].append({"type": "time"})
    rt.config["linux"]["timeOffsets"] = {"monotonic": {"secs": -7, "nanosecs": 5}, "boottime": {"secs": 864000}}
    before = float(open("/proc/uptime").read().split()[0])
    started(rt, "oci-time", "sh", "-c", f"({CLOCKS}) >/tmp/x; busybox mv /tmp/x /tmp/seen; sleep 1000")
    wait_for((rt.bundle / "rootfs/tmp/seen").exists)
    inside, ns, offsets = clocks((rt.bundle / "rootfs/tmp/seen").read_text())
    assert 864000 <= inside - before < 864100 and offsets == {"monotonic": (-7, 5), "boottime": (864000, 0)}
    pid = json.loads(rt("state", "oci-time").stdout)["pid"]
    assert ns == os.readlink(f"/proc/{pid}/ns/time") != os.readlink("/proc/self/ns/time")
    again, ns_exec, _ = clocks(rt("exec", "oci-time", "sh", "-c", CLOCKS).stdout)
    assert ns_exec == ns and again >= inside
    rt.config["linux"]["namespaces"][-1]["path"] = f"/proc/{pid}/ns/time"
    del rt.config["linux"]["timeOffsets"]
    joined, ns_joined, _ = clocks(output(rt, "sh", "-c", CLOCKS))
    assert ns_joined == ns and joined >= inside
    assert float(open("/proc/uptime").read().split()[0]) < 864000 + before


@pytest.mark.parametrize("offsets, path", [
    ({"realtime": {"secs": 1}}, None), ({"monotonic": {"secs": "1"}}, None), ({"monotonic": {"nanosecs": 10 ** 9}}, None),
    ({"monotonic": {"secs": -2 ** 62}}, None), ({"boottime": {"secs": 1}}, "/proc/self/ns/time"), ({}, "/proc/self/ns/uts"),
], ids=str)
def test_time_offsets_that_cannot_be(rt, offsets, path):
    rt.config["linux"]["namespaces"].append({"type": "time", **({"path": path} if path else {})})
    rt.config["linux"]["timeOffsets"] = offsets
    rt.write()
    refused(rt)


# --- user namespaces ---

def test_user_namespace(rt):
    """Ids inside and outside, of files too; the others of the container's namespaces are its own."""
    rt.in_user_namespace()
    caps = {k: ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_NET_ADMIN"] for k in ("bounding", "effective", "permitted")}
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; touch /tmp/mine; busybox ip link set lo up && echo up"
    out = output(rt, "sh", "-c", script, capabilities=caps, user={"uid": 0, "gid": 0, "additionalGids": [7, 8]})
    assert [x.split() for x in out.splitlines()] == [["0", "100000", "65536"]] * 2 + [["0"], ["0", "7", "8"], ["up"]]
    st = os.stat(rt.bundle / "rootfs/tmp/mine")
    assert (st.st_uid, st.st_gid) == (100000, 100000)
    out = output(rt, "busybox", "grep", "CapEff", "/proc/self/status", capabilities=caps)
    assert int(out.split()[1], 16) == 1 << 21 | 1 << 24 | 1 << 12
    started(rt, "oci-userns", "sleep", "1000", user={"uid": 5, "gid": 6})
    pid = json.loads(rt("state", "oci-userns").stdout)["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == 100005
    script = "id -u; id -g; busybox readlink /proc/self/ns/user; touch /proc/self/uid_map 2>&1; echo 0 0 1 >/proc/self/uid_map"
    p = rt("exec", "oci-userns", "sh", "-c", script)
    assert p.stdout.split()[:3] == ["5", "6", os.readlink(f"/proc/{pid}/ns/user")] and "permi" in p.stderr.lower()
    # Its root is nobody on the host, whatever capabilities it has.
    (rt.bundle / "secret").write_text("secret")
    os.chmod(rt.bundle / "secret", 0o600)
    rt.config["mounts"].append({"destination": "/secret", "type": "bind", "source": str(rt.bundle / "secret"), "options": ["bind"]})
    rt.write(["cat", "/secret"], capabilities={k: ["CAP_DAC_OVERRIDE"] for k in ("bounding", "effective", "permitted")})
    p = rt("run", "oci-userns2")
    assert p.returncode == 1 and "Permission denied" in p.stderr and not p.stdout


def test_user_namespace_has_its_mounts_and_devices(rt, tmp_path):
    """Devices are the host's, mounted; a source is reached that only the caller can reach; masks hold; the mounts of the
    host cannot be uncovered or changed."""
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    (private / "data/file").write_text("reached")
    os.chown(private, 4321, 4321)
    os.chmod(private, 0o700)
    rt.config["linux"]["devices"] = [{"type": "c", "path": "/dev/my-null", "major": 1, "minor": 3}, {"type": "p", "path": "/dev/pipe", "uid": 5}]
    rt.config["mounts"] += [{"destination": "/private", "type": "bind", "source": str(private / "data"), "options": ["rbind", "ro"]},
                            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]}]
    rt.config["linux"].update(maskedPaths=["/proc/meminfo", "/etc"], readonlyPaths=["/proc/sys"], sysctl={
        "user.max_pid_namespaces": "77", "net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"})
    rt.config["root"]["readonly"] = True
    rt.in_user_namespace()
    script = ("cat /private/file; echo x >/dev/null && echo null; busybox stat -c %t:%T /dev/my-null /proc/meminfo; busybox stat -c %F:%u /dev/pipe;"
              "cat /proc/sys/user/max_pid_namespaces /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; touch /t/x; ls /etc;"
              "for f in /private/x /x /etc/x; do touch $f || echo refused; done; mount -o remount,bind,rw / || echo locked")
    out = output(rt, "sh", "-c", script)
    assert out.split() == ["reachednull", "1:3", "1:3", "fifo:5", "77", "1", "4096"] + ["refused"] * 3 + ["locked"], out


@pytest.mark.parametrize("maps, word", [
    ({"uidMappings": []}, "linux.uidMappings"), ({"gidMappings": []}, "linux.gidMappings"),
    ({"uidMappings": [{"containerID": 1, "hostID": 1, "size": 1}]}, "process.user.uid"),
    ({"gidMappings": [{"containerID": 1, "hostID": 1, "size": 1}]}, "process.user.gid"),
    ({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 9}, {"containerID": 5, "hostID": 70, "size": 9}]}, "overlap"),
    ({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 0}]}, "linux.uidMappings[0].size"),
    ({"uidMappings": [{"containerID": 0, "hostID": 4294967295, "size": 2}]}, "linux.uidMappings[0].size"),
    ({"uidMappings": [{"containerID": 0, "size": 2}]}, "linux.uidMappings[0].hostID"),
], ids=str)
def test_id_mappings_that_cannot_be(rt, maps, word):
    rt.in_user_namespace()
    rt.config["linux"].update(maps)
    rt.write()
    assert word in refused(rt)


def test_id_mappings_need_a_user_namespace(rt):
    rt.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1}]
    rt.write()
    assert "linux.uidMappings" in refused(rt)
    del rt.config["linux"]["uidMappings"]
    rt.config["linux"]["sysctl"] = {"user.max_pid_namespaces": "77"}
    rt.write()
    assert "user namespace" in refused(rt)


def test_user_namespace_joined(rt, tmp_path):
    """By a container that makes other namespaces in it; and one of the host's that a new one makes use of."""
    rt.in_user_namespace()
    started(rt, "oci-owner")
    pid = json.loads(rt("state", "oci-owner").stdout)["pid"]
    second = Runtime(tmp_path / "second")
    second.in_user_namespace()
    spaces = second.config["linux"]["namespaces"]
    spaces[-1]["path"] = f"/proc/{pid}/ns/user"
    second.write()
    assert second("run", "oci-same").returncode == 0    # the same mappings are given: no contradiction
    second.config["linux"]["uidMappings"][0]["size"] -= 1
    second.write()
    assert "linux.uidMappings" in refused(second)
    for k in ("uidMappings", "gidMappings"):
        del second.config["linux"][k]
    look = "for i in user net pid ipc; do busybox readlink /proc/self/ns/$i; done; id -u; echo x >/dev/null; touch /tmp/x"
    try:
        out = output(second, "sh", "-c", look).split()
        its = {n: os.readlink(f"/proc/{pid}/ns/{n}") for n in ("user", "net", "pid", "ipc")}
        assert out[0] == its["user"] and not {out[1], out[2], out[3]} & set(its.values()) and out[4] == "0"
        assert os.stat(second.bundle / "rootfs/tmp/x").st_uid == 100000
        for ns in spaces:   # all of a pod's: also the pid namespace
            if ns["type"] in ("network", "pid", "ipc"):
                ns["path"] = f"/proc/{pid}/ns/{ns['type'].replace('network', 'net')}"
        assert output(second, "sh", "-c", look).split() == [*its.values(), "0"]
        started(second, "oci-pod")
        assert second("exec", "oci-pod", "sh", "-c", look).stdout.split() == [*its.values(), "0"]
    finally:
        for i in second.ids:
            second("delete", "-f", i)


def test_a_new_user_namespace_and_namespaces_of_the_host(rt):
    holder = subprocess.Popen(["unshare", "-n", "-u", "-i", "sleep", "1000"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/ipc") != os.readlink("/proc/self/ns/ipc"))
        rt.in_user_namespace()
        rt.config["mounts"] = [m for m in rt.config["mounts"] if m["destination"] != "/sys"]
        del rt.config["hostname"]
        rt.config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}, {"type": "user"}, {"type": "time"}] + [
            {"type": t, "path": f"/proc/{holder.pid}/ns/{f}"} for t, f in (("network", "net"), ("uts", "uts"), ("ipc", "ipc"))]
        look = "for i in net uts ipc user; do busybox readlink /proc/self/ns/$i; done"
        started(rt, "oci-mixed", "sh", "-c", f"({look}) >/tmp/x; busybox mv /tmp/x /tmp/seen; sleep 1000")
        wait_for((rt.bundle / "rootfs/tmp/seen").exists)
        seen = (rt.bundle / "rootfs/tmp/seen").read_text().split()
        assert seen[:3] == [os.readlink(f"/proc/{holder.pid}/ns/{n}") for n in ("net", "uts", "ipc")]
        assert seen[3] != os.readlink("/proc/self/ns/user")
        assert rt("exec", "oci-mixed", "sh", "-c", look).stdout.split() == seen
    finally:
        holder.kill()
        holder.wait()


def test_user_namespace_with_the_hosts_network(rt):
    """Not listed, so inherited; exec comes from the same one. Time offsets and the score of the OOM killer too."""
    rt.in_user_namespace()
    rt.config["linux"]["namespaces"] = [{"type": t} for t in ("mount", "pid", "user", "uts", "time")]
    rt.config["linux"]["timeOffsets"] = {"boottime": {"secs": 864000}}
    rt.config["mounts"][-1] = {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]}
    own = int(open("/proc/self/oom_score_adj").read())
    started(rt, "oci-hostnet", oomScoreAdj=own + 5)
    look = "busybox readlink /proc/self/ns/net; cat /proc/self/oom_score_adj; cat /proc/self/timens_offsets"
    out = rt("exec", "oci-hostnet", "sh", "-c", look).stdout.split()
    assert out[:2] == [os.readlink("/proc/self/ns/net"), str(own + 5)] and out[-3:] == ["boottime", "864000", "0"]
    assert float(rt("exec", "oci-hostnet", "cat", "/proc/uptime").stdout.split()[0]) > 864000
    pid = json.loads(rt("state", "oci-hostnet").stdout)["pid"]
    assert int(open(f"/proc/{pid}/oom_score_adj").read()) == own + 5


def test_standard_streams_of_a_user_namespace_open_again(rt):
    """/dev/stdout is a pipe of the host's root; for init and exec."""
    rt.in_user_namespace()
    assert output(rt, "sh", "-c", "echo again >/dev/stdout", user={"uid": 12, "gid": 12}) == "again\n"
    started(rt, "oci-again", "sleep", "1000")
    assert rt("exec", "-u", "7:7", "oci-again", "sh", "-c", "echo again >/dev/stdout").stdout == "again\n"


# --- idmapped mounts ---

RANGE = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.fixture
def owned(rt):
    """A directory of the bundle, with a file of the host's user 5 and a mount of its own below."""
    d = rt.bundle / "owned"
    (d / "below").mkdir(parents=True)
    (d / "file").touch()
    os.chown(d / "file", 5, 6)
    subprocess.run(["mount", "--bind", str(d), str(d / "below")], check=True)
    yield d
    subprocess.run(["umount", str(d / "below")], check=True)


def idmapped(rt, options, seen, maps=None, user=True):
    """seen: owners of the file, of the same one by the mount below, and of what the container makes there as the host sees it."""
    if user:
        rt.in_user_namespace()
    rt.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "owned", "options": ["rbind", *options], **(maps or {})})
    rt.write(["sh", "-c", "busybox stat -c %u:%g /mnt/file /mnt/below/file; touch /mnt/made"])
    if NO_IDMAP:
        assert "Linux 5.12" in refused(rt)
        return
    p = rt("run", "oci-idmap")
    made = rt.bundle / "owned/made"
    found = [*p.stdout.split(), f"{made.stat().st_uid}:{made.stat().st_gid}" if made.exists() else None]
    assert found[:len(seen)] == seen, p.stderr


def test_idmap_by_the_containers_user_namespace(rt, owned):
    """The source is relative to the bundle."""
    idmapped(rt, ["idmap"], ["5:6", "65534:65534", "0:0"])


def test_ridmap_reaches_the_mounts_below(rt, owned):
    idmapped(rt, ["ridmap"], ["5:6", "5:6", "0:0"])


def test_idmap_by_mappings_of_the_mount(rt, owned):
    maps = {"uidMappings": [{"containerID": 0, "hostID": 100050, "size": 9}], "gidMappings": [{"containerID": 6, "hostID": 100100, "size": 1}]}
    idmapped(rt, [], ["55:100", "65534:65534"], maps)


def test_idmap_without_a_user_namespace(rt, owned):
    maps = {"uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 5, "hostID": 77, "size": 1}], "gidMappings": RANGE}
    idmapped(rt, ["ridmap"], ["77:100006"] * 2, maps, user=False)


def test_idmap_in_a_joined_user_namespace(rt, owned, tmp_path):
    first = Runtime(tmp_path / "first")
    try:
        first.in_user_namespace()
        started(first, "oci-first")
        pid = json.loads(first("state", "oci-first").stdout)["pid"]
        rt.in_user_namespace()
        rt.config["linux"]["namespaces"][-1]["path"] = f"/proc/{pid}/ns/user"
        idmapped(rt, ["ridmap"], ["5:6", "5:6", "0:0"], user=False)
    finally:
        first("delete", "-f", "oci-first")


@pytest.mark.parametrize("text, seen", [("uids=0-100050-9;gids=0-100100-9", "55:106"), ("uids=0-100000-5#5-100070-2;gids=@0-3-9", "70:9")])
def test_idmap_as_crun_writes_it(rt, owned, text, seen):
    idmapped(rt, [f"idmap={text}"], [seen])


@pytest.mark.parametrize("mount, word", [
    ({"options": ["rbind", "idmap"]}, "user namespace"), ({"uidMappings": RANGE}, "together"), ({"gidMappings": RANGE}, "together"),
    ({"type": "tmpfs", "source": "tmpfs", "uidMappings": RANGE, "gidMappings": RANGE, "options": []}, "only bind mounts"),
    ({"source": "/proc", "uidMappings": RANGE, "gidMappings": RANGE}, "cannot be idmapped"),
    ({"options": ["rbind", "idmap=uids=0-1-2"]}, "understood"), ({"options": ["rbind", "idmap=uids=0-1;gids=0-1-2"]}, "understood"),
    ({"options": ["rbind", "idmap=uids=@0-1-2;gids=0-1-2"]}, "understood"),
], ids=str)
def test_idmapped_mounts_that_cannot_be(rt, owned, mount, word):
    rt.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "owned", "options": ["rbind"], **mount})
    rt.write()
    said = refused(rt)
    assert word in said or (NO_IDMAP and "Linux 5.12" in said)


@pytest.mark.parametrize("path", [None, "/proc/self/ns/mnt"], ids=["inherited", "own"])
def test_a_mount_namespace_of_its_own_is_required(rt, path):
    """docs/decisions/0010: refused by name, and nothing is mounted where others see it."""
    rt.config["linux"]["namespaces"] = [n for n in rt.config["linux"]["namespaces"] if n["type"] != "mount"]
    if path:
        rt.config["linux"]["namespaces"].append({"type": "mount", "path": path})
    rt.write()
    before = open("/proc/self/mountinfo").read().count(str(rt.bundle))
    assert "mount namespace" in refused(rt)
    assert open("/proc/self/mountinfo").read().count(str(rt.bundle)) == before == 0


def test_mount_namespace_joined(rt):
    """The root is made, and moved, in the namespace that is given; the runtime's own stays as it is."""
    holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", "echo there; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        path = f"/proc/{holder.pid}/ns/mnt"
        rt.config["linux"]["namespaces"] = [n for n in rt.config["linux"]["namespaces"] if n["type"] != "mount"]
        rt.config["linux"]["namespaces"].append({"type": "mount", "path": path})
        started(rt, "oci-joined")
        assert str(rt.bundle) not in open("/proc/self/mountinfo").read()
        p = rt("exec", "oci-joined", "sh", "-c", "busybox readlink /proc/self/ns/mnt; echo written >/tmp/x && cat /tmp/x; pwd")
        assert p.stdout.split() == [os.readlink(path), "written", "/"], p.stderr
        assert (rt.bundle / "rootfs/tmp/x").exists()
    finally:
        holder.kill()
        holder.wait()


def test_a_bind_mount_takes_no_options_of_a_file_system(rt, tmp_path):
    """They are left out, as mount(2) leaves them out, and the warning names them."""
    (tmp_path / "f").touch()
    rt.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": ["bind", "mode=755"]})
    rt.write(["ls", "/mnt"])
    p = rt("run", "oci-data")
    assert p.returncode == 0 and "f" in p.stdout.split() and "'mode=755' is left out" in p.stderr


def test_user_namespaces_that_the_host_does_not_give(rt):
    """As root of a user namespace in which no more may be made; without one the container runs there, with bound devices."""
    rt.prefix = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    assert output(rt, "sh", "-c", "echo x >/dev/null && busybox stat -c %t:%T /dev/zero") == "1:5\n"
    for k in ("uidMappings", "gidMappings"):
        rt.config["linux"][k] = [{"containerID": 0, "hostID": 0, "size": 1}]
    rt.config["linux"]["namespaces"].append({"type": "user"})
    rt.write()
    assert "sysctl user.max_user_namespaces" in refused(rt)
