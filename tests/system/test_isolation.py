"""What each container has of its own, and what it may not do, in both modes."""
import json
import os
import pathlib
import subprocess

import pytest
from conftest import host_mounts


def sh(c, script, *flags):
    return c("run", "--rm", *flags, "busybox", "sh", "-c", script)


def test_namespaces_are_the_containers_own(c):
    out = sh(c, "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; ps | wc -l; cat /proc/1/comm; true").ok()
    mine = {os.readlink(f"/proc/self/ns/{n}") for n in ("mnt", "pid", "net", "ipc", "uts", "cgroup")}
    lines = out.split("\n")
    if c.isolation == "process":
        assert not mine & set(lines[:6])
    assert lines[-1] == "sh"


def test_capabilities(c):
    caps = lambda *f: sh(c, "grep CapEff /proc/self/status", *f).ok().split()[1]
    assert caps() == "00000000a80425fb"
    assert caps("--cap-drop", "ALL") == "0" * 16
    assert caps("--cap-drop", "ALL", "--cap-add", "NET_RAW") == "0000000000002000"
    assert int(caps("--cap-add", "NET_ADMIN"), 16) & 1 << 12
    assert c("run", "--rm", "--cap-add", "NOSUCH", "busybox", "true").code == 125


def test_seccomp_and_no_new_privileges(c):
    assert sh(c, "grep Seccomp: /proc/self/status").ok().split()[1] == "2"
    assert sh(c, "grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges").ok().split()[1] == "1"
    r = sh(c, "unshare -m true")
    assert r.code != 0 and "not permitted" in r.err
    assert sh(c, "mount -t tmpfs x /tmp 2>&1").code != 0


def test_masked_and_read_only_paths(c):
    """What the kernel has of Docker's list is empty or read-only; what it lacks stays absent."""
    out = sh(c, "for f in kcore keys timer_list latency_stats interrupts; do [ ! -f /proc/$f ] || head -c 1 /proc/$f | wc -c; done;"
                "for d in acpi scsi; do [ ! -d /proc/$d ] || ls -A /proc/$d | wc -l; done; echo end;"
                "echo 1 > /proc/sys/kernel/panic; for f in sysrq-trigger; do [ ! -e /proc/$f ] || echo 1 > /proc/$f; done; echo done")
    masked, rest = out.out.split("end\n")
    assert set(masked.split()) <= {"0"}, out
    assert rest == "done\n" and "panic: Read-only file system" in out.err
    assert not [x for x in out.err.splitlines() if "Read-only file system" not in x], out.err


def test_privileged(c):
    out = sh(c, "grep CapEff /proc/self/status; mount -t tmpfs x /tmp && echo mounted", "--privileged").ok()
    assert "mounted" in out
    assert int(out.split()[1], 16) & 1 << 21
    if c.isolation == "hyperv":
        assert "/dev/vport" not in sh(c, "ls /dev/vport* 2>/dev/null; true", "--privileged").out


def test_read_only(c):
    r = sh(c, "touch /x", "--read-only")
    assert r.code != 0 and "Read-only file system" in r.err
    assert sh(c, "touch /tmp/x && echo ok", "--read-only", "--tmpfs", "/tmp").ok() == "ok"


def test_memory_limit_kills(c):
    # One large buffer: growing byte by byte, a guest's kernel reclaims page by page before it gives up.
    cid = c.rund("-m", "32m", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    assert c("wait", cid).ok() == "137"
    assert c.state(cid, "OOMKilled") == "true"


def test_limits_are_set(c):
    out = sh(c, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
             "-m", "64m").ok()
    assert "67108864" in out.split()
    out = sh(c, "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true", "--cpus", "0.5").ok()
    assert out.split()[0] == "50000"


def test_limits_are_the_daemons_own(engine, c):
    """But for what is asked for; those of processes and signals go by the memory that there is."""
    def limits(text):
        return {line[:26].strip(): line[26:68].split() for line in text.strip().splitlines()[1:]}
    daemon = limits(pathlib.Path(f"/proc/{engine.proc.pid}/limits").read_text())
    args = ("--network", "none", "--ulimit", "nofile=100:200", "busybox", "cat", "/proc/self/limits")
    mine = limits(c("run", "--rm", *args).ok())
    assert mine.pop("Max open files") == ["100", "200"] and daemon.pop("Max open files")
    for name in ("Max processes", "Max pending signals"):
        mine.pop(name), daemon.pop(name)
    assert mine == daemon
    cid = c.rund("--network", "none", "busybox", "sleep", "1000")
    want = pathlib.Path(f"/proc/{engine.proc.pid}/limits").read_text().split("Max open files")[1].split()[:2]
    for get in (("exec", cid, "cat", "/proc/self/limits"), ("exec", cid, "cat", "/proc/1/limits")):
        assert limits(c(*get).ok())["Max open files"] == [str(min(int(w), 1 << 20)) for w in want]


def test_pids_limit(c):
    r = sh(c, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 3 & done; wait", "--pids-limit", "8")
    assert "can't fork" in r.err


def test_network_bridge(c):
    doc = json.loads(c("network", "inspect", "bridge").ok())[0]
    gw = doc["IPAM"]["Config"][0]["Gateway"]
    out = sh(c, f"ip -4 addr show eth0; ip route; ping -c 1 -W 5 {gw} >/dev/null && echo reached").ok()
    assert "inet " in out and f"default via {gw}" in out and "reached" in out


def test_containers_reach_each_other_across_modes(engine, c):
    from conftest import Cli
    other = Cli(engine, "insula", "process" if c.isolation == "hyperv" else "hyperv")
    cid = other.rund("busybox", "sleep", "1000")
    ip = other("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", cid).ok()
    assert "reached" in sh(c, f"ping -c 1 -W 10 {ip} >/dev/null && echo reached").ok()


def test_network_none(c):
    out = sh(c, "ip -o link | wc -l; ping -c 1 127.0.0.1 >/dev/null && echo lo", "--network", "none").ok()
    assert out.split() == ["1", "lo"]


def test_resolv_hosts_hostname(c):
    out = sh(c, "cat /etc/hosts; echo --; cat /etc/hostname; echo --; cat /etc/resolv.conf; hostname", "--hostname", "me").ok()
    hosts, hostname, rest = out.split("--\n")
    assert "127.0.0.1\tlocalhost" in hosts and "me" in hosts.split()
    assert hostname == "me\n"
    assert "nameserver" in rest


def test_volumes(c, tmp_path):
    d = tmp_path / "shared"
    d.mkdir()
    (d / "from-host").write_text("hello from the host\n")
    out = sh(c, "cat /v/from-host; echo back > /v/from-container", "-v", f"{d}:/v").ok()
    assert out == "hello from the host"
    assert (d / "from-container").read_text() == "back\n"
    r = sh(c, "touch /v/x", "-v", f"{d}:/v:ro")
    assert r.code != 0 and "Read-only file system" in r.err
    assert not (d / "x").exists()


def test_volume_single_file(c, tmp_path):
    f = tmp_path / "one"
    f.write_text("single\n")
    (tmp_path / "other").write_text("private\n")
    out = sh(c, "cat /one; ls / | grep -c other", "-v", f"{f}:/one:ro")
    assert out.out.split() == ["single", "0"]


def test_named_volume_outlives_the_container(c):
    sh(c, "echo kept > /data/f", "-v", "keepme:/data").ok()
    assert sh(c, "cat /data/f", "-v", "keepme:/data").ok() == "kept"
    assert c("volume", "rm", "keepme").ok() == "keepme"


def test_host_does_not_see_the_containers_mounts(engine, c):
    before = host_mounts(engine.base)
    c.rund("busybox", "sleep", "1000")
    assert host_mounts(engine.base) == before


def test_no_descriptor_leaks_into_the_container(c):
    out = sh(c, "ls -l /proc/self/fd | sed 1d | sed 's/.*-> //'", "-i").ok()
    assert not [x for x in out.split("\n") if x.startswith("/") and not x.startswith(("/proc", "/dev/null"))], out


def test_host_gateway(c):
    """--add-host NAME:host-gateway: the address of the host as the container reaches it."""
    out = sh(c, "grep outside /etc/hosts; ip route | awk '/^default/ {print $3}'", "--add-host", "outside:host-gateway").ok().split()
    assert out[1] == "outside" and out[0] == out[2]
