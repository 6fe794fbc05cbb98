"""The demonstration that must always work, with each CLI, looking at the host's process list."""
import os
import re
import subprocess
import time

import pexpect
import pytest
from conftest import wait_for


def host_processes():
    out = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            out[int(pid)] = (open(f"/proc/{pid}/comm").read().strip(), open(f"/proc/{pid}/cmdline", errors="replace").read())
        except OSError:
            pass
    return out


def pings():
    return {p for p, (comm, cmd) in host_processes().items() if "ping\0localhost" in cmd}


def workers(cid):
    return {p for p, (comm, cmd) in host_processes().items() if comm == "vmwp" and cid in cmd}


def top_pids(text):
    lines = text.splitlines()
    col = lines[0].split().index("PID")
    return [int(line.split()[col]) for line in lines[1:] if "ping" in line]


@pytest.mark.parametrize("isolation", ["process"], indirect=True)
def test_process_container_is_on_the_host(both):
    before = pings()
    cid = both.rund("busybox", "ping", "localhost")
    pid = wait_for(lambda: top_pids(both("top", cid).ok()))[0]
    assert pid in pings() - before
    assert subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True).stdout.startswith("ping")


@pytest.mark.parametrize("isolation", ["hyperv"], indirect=True)
def test_hyperv_container_is_not(both):
    pings_before = pings()
    cid = both.rund("busybox", "ping", "localhost")
    wait_for(lambda: top_pids(both("top", cid).ok()))
    assert pings() == pings_before
    assert len(workers(cid)) == 1
    both("rm", "-f", cid).ok()
    wait_for(lambda: not workers(cid))


@pytest.mark.parametrize("isolation", ["hyperv"], indirect=True)
def test_interactive_shell_has_another_kernel(both):
    argv = both.engine.argv(both.name, *both.args(["run", "-it", "--rm", "busybox", "sh"]))
    t = pexpect.spawn(argv[0], argv[1:], env=both.engine.env(), timeout=120, encoding="utf-8")
    t.expect("# ")
    t.sendline("uname -r")
    t.expect(r"(\d+\.\d+[^\r\n]*)\r\n")
    assert t.match.group(1) != os.uname().release
    t.sendline("exit 7")
    t.expect(pexpect.EOF)
    t.close()
    assert t.exitstatus == 7


def test_inspect_shows_the_mode(both):
    cid = both.rund("busybox", "sleep", "1000")
    assert both("inspect", "-f", "{{.HostConfig.Isolation}}", cid).ok() == both.isolation
    assert both("ps", "-q", "--no-trunc", "--filter", f"isolation={both.isolation}").ok().split() == [cid]
    uname = both("exec", cid, "uname", "-r").ok()
    assert (uname == os.uname().release) == (both.isolation == "process")
