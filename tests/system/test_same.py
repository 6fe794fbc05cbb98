"""Every command gives the same in both modes: what it prints, what it complains of, its exit code, the shape of its
documents. Each scenario is carried out once under each isolation and the two accounts are compared line by line; what may
differ (ids, times, addresses) is written as a word first."""
import json
import os
import re
import shutil
import subprocess
import tarfile
import time

import pytest

from conftest import Cli, wait_for

WORDS = ((r"sha256:[0-9a-f]{64}", "DIGEST"), (r"\b[0-9a-f]{64}\b", "ID"), (r"\b[0-9a-f]{12}\b", "ID"),
         (r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC"), (r"\b10\.\d+\.\d+\.\d+|172\.\d+\.\d+\.\d+", "ADDRESS"),
         (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"), (r"(About a|Less than a|\d+) (second|minute)s?( ago)?", "AGE"))
UP = ["run", "-d", "--name", "xx", "busybox", "sleep", "100000"]
HELD = ["run", "-d", "--name", "xx", "busybox", "sh", "-c", "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.1; done"]
WRITE = "mkdir /d; echo one >/d/f; ln -s f /d/l; chmod 640 /d/f; mknod /d/p p; touch -d '2020-01-02 03:04:05' /d/f; rm /bin/cat; echo >>/etc/passwd"


def shown(*args):
    """A container that says how it finds things; args before the command are options."""
    return ["run", "--rm", *args[:-1], "busybox", "sh", "-c", args[-1]]


def tree(a, path):
    """What lies in a directory, or in an archive of one."""
    if path.endswith(".tar"):
        with tarfile.open(a.path(path)) as t:
            return sorted(f"{m.name} {m.mode:o} {m.uid}:{m.gid} {m.type} {m.linkname}" for m in t)
    return subprocess.run(["find", ".", "-printf", "%P %m %U:%G %y %l %s\\n"], cwd=a.path(path), capture_output=True,
                          text=True).stdout.splitlines()


def until(a, *args):
    """The command gives this at last."""
    *argv, last = args
    wait_for(lambda: a.c(*argv).out.strip() == last)
    return last


def shape(a, *args):
    """Which members its document has, and of what kind."""
    def walk(v, at):
        if isinstance(v, dict):
            for k in sorted(v):
                if k not in ("VirtualMachine", "GraphDriver"):
                    yield from walk(v[k], f"{at}.{re.sub('^[0-9a-f]{64}$', 'ID', k)}")
        elif isinstance(v, list):
            for x in v[:1]:
                yield from walk(x, at + "[]")
        else:
            yield f"{at} {type(v).__name__}"
    return list(walk(json.loads(a.c(*args).ok()), ""))


def api(a, path):
    """The members at the top of what the API answers, and one level below."""
    text = subprocess.run(["curl", "-s", "--unix-socket", str(a.c.engine.sock), "http://x" + path], capture_output=True, text=True).stdout
    return [f"{k} {sorted(v) if isinstance(v, dict) and k != 'memory_stats' else type(v).__name__}" for k, v in sorted(json.loads(text).items())
            if k not in ("VirtualMachine", "GraphDriver")]


def events(a, *args):
    return a.c("events", "--since", a.begin, "--until", f"{time.time():.6f}", "--filter", "container=xx",
               "--format", "{{.Type}} {{.Action}}", *args).ok().splitlines()


def ps(a, *args):
    """Lines of top without the pids."""
    return [re.sub(r"\b\d+\b", "N", re.sub(" +", " ", line)).strip() for line in a.c("top", "xx", *args).out.splitlines()]


SCENARIOS = {
    "files": [
        UP, ["exec", "xx", "sh", "-c", WRITE], ["diff", "xx"],
        ["cp", "TMP/in", "xx:/d/in"], ["cp", "TMP/in", "xx:/new"], ["cp", "xx:/d/.", "TMP/out"], (tree, "out"),
        ["cp", "-L", "xx:/d/l", "TMP/link"], ["cp", "xx:/nothing", "TMP/"], ["cp", "TMP/nothing", "xx:/"],
        ["cp", "TMP/in", "xx:/d/f/in"], ["cp", "TMP/in", "xx:/no/where/"], ["cp", "TMP/dir", "xx:/d/f"],
        ["cp", "xx:/d/f", "TMP/dir"], (tree, "dir"), ["exec", "xx", "stat", "-c", "%A %u:%g %s %N", "/d/f", "/d/l", "/new"],
        ["export", "-o", "TMP/up.tar", "xx"], (tree, "up.tar"), ["commit", "-m", "m", "-c", "ENV A=b", "xx", "same:1"],
        ["run", "--rm", "same:1", "sh", "-c", "echo $A; ls /d"], ["history", "--format", "{{.CreatedBy}} {{.Comment}}", "same:1"],
        ["rmi", "same:1"], ["stop", "-t", "0", "xx"], ["diff", "xx"], ["cp", "TMP/in", "xx:/d/in2"], ["cp", "xx:/d/in2", "TMP/in2"],
        ["export", "-o", "TMP/down.tar", "xx"], (tree, "down.tar"), ["start", "xx"], ["exec", "xx", "stat", "-c", "%A %u:%g %s %Y", "/d/f", "/d/in2"],
        ["diff", "xx"],
    ],
    "life": [
        ["create", "--name", "xx", "--hostname", "h", "-e", "A=b", "busybox", "sh", "-c", "hostname; echo $A; exit 5"],
        ["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "xx"], ["start", "-a", "xx"], ["wait", "xx"],
        ["logs", "xx"], ["start", "xx"], ["wait", "xx"], ["rm", "xx"], ["rm", "xx"], HELD, (until, "logs", "xx", "up"), ["pause", "xx"], ["pause", "xx"],
        ["ps", "--filter", "name=xx", "--format", "{{.Names}} {{.State}} {{.Command}}"], ["exec", "xx", "true"],
        ["stats", "--no-stream", "--format", "{{.Name}}", "xx"], ["unpause", "xx"], ["unpause", "xx"], ["rename", "xx", "y"],
        ["rename", "y", "xx"], ["rm", "xx"], ["kill", "-s", "NOTHING", "xx"], ["kill", "-s", "CONT", "xx"], ["stop", "-t", "60", "xx"], ["stop", "xx"], ["kill", "xx"],
        ["logs", "--tail", "1", "xx"], ["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", "xx"],
        ["restart", "-t", "0", "xx"], (until, "inspect", "-f", "{{.State.Running}}", "xx", "true"), ["port", "xx"], (events,), ["kill", "xx"], ["wait", "xx"],
    ],
    "errors": [
        ["run", "--rm", "busybox", "nothing"], ["run", "--rm", "busybox", "/etc/passwd"], ["run", "--rm", "busybox", "/etc"],
        ["run", "--rm", "-w", "/etc/passwd", "busybox", "true"], ["run", "--rm", "-u", "nobody1", "busybox", "true"],
        ["run", "--rm", "-u", "1:nogroup", "busybox", "true"], ["run", "--rm", "--network", "nothing", "busybox", "true"],
        ["run", "--rm", "--sysctl", "kernel.domainname=xx", "--sysctl", "vm.swappiness=1", "busybox", "true"],
        ["run", "--rm", "--cap-add", "NOTHING", "busybox", "true"], ["run", "--rm", "-m", "1k", "busybox", "true"],
        ["run", "--rm", "--cpus", "1000", "busybox", "true"], ["run", "--rm", "--ulimit", "nofile=2:1", "busybox", "true"],
        ["run", "--rm", "-v", "relative/x:/v", "busybox", "true"], ["run", "--rm", "--mount", "type=bind,src=/no/where,dst=/v", "busybox", "true"],
        ["run", "--rm", "--tmpfs", "/t:size=x", "busybox", "true"], ["run", "--rm", "--tmpfs", "t", "busybox", "true"],
        ["run", "--rm", "--security-opt", "seccomp=/no/where", "busybox", "true"], ["run", "--rm", "--security-opt", "x=y", "busybox", "true"],
        ["run", "--rm", "--restart", "always", "busybox", "true"], UP,
        ["exec", "xx", "nothing"], ["exec", "xx", "/etc/passwd"], ["exec", "-w", "/nothing", "xx", "true"], ["exec", "-u", "nobody1", "xx", "true"],
        ["exec", "nobody", "true"], ["update", "--cpus", "1000", "xx"], ["update", "-m", "1k", "xx"], ["commit", "xx", "UPPER"], UP,
    ],
    "options": [
        shown("--init", "ps -o pid,args | sed -n 2p"), shown("--read-only", "touch /x; touch /dev/shm/x && echo written"),
        shown("--read-only", "--tmpfs", "/t:size=1m,mode=700", "touch /t/x; grep ' /t ' /proc/mounts | sed s/,inode64//; stat -c %a /t"),
        shown("--shm-size", "3m", "df -k /dev/shm | tail -1"), shown("--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--sysctl", "kernel.msgmax=9000",
                                                                     "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"),
        shown("--ulimit", "nofile=100:200", "--ulimit", "core=0", "ulimit -n; ulimit -Hn; ulimit -c"), shown("grep Cap /proc/self/status"),
        shown("--cap-add", "SYS_TIME", "--cap-drop", "CHOWN", "grep Cap /proc/self/status; chown 1 /etc/passwd"),
        shown("--cap-drop", "ALL", "-u", "1000:1001", "--group-add", "7", "--group-add", "nogroup", "id; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status"),
        shown("--privileged", "grep -E 'Seccomp:' /proc/self/status; mkdir /m && mount -t tmpfs none /m && echo mounted"),
        shown("--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges", "grep -E 'NoNew|Seccomp:' /proc/self/status"),
        shown("--hostname", "h", "--domainname", "d", "--add-host", "a:1.2.3.4", "--dns", "9.9.9.9", "--dns-search", "s", "--dns-option", "ndots:3",
              "hostname; cat /proc/sys/kernel/domainname; cat /etc/hosts /etc/resolv.conf /etc/hostname"),
        shown("--network", "none", "ls /sys/class/net; cat /etc/hosts /etc/resolv.conf"), shown("ip -o link | cut -d: -f2 | cut -d@ -f1; ip route | cut -d' ' -f1-2"),
        shown("-u", "daemon", "-w", "/new/dir", "-e", "A", "-e", "B=c d", "id; pwd; env | grep -v -e HOSTNAME | sort"),
        shown("cut -d' ' -f2-4 /proc/mounts | sed 's/,.*//' | grep -v -e cgroup -e '^/ ' -e '^/etc/' -e '^/.dockerenv ' -e kcore -e sysrq | sort"),
        shown("cd /dev; stat -c '%A %u:%g %t:%T %N' *"), shown("for f in /proc/keys /proc/timer_list; do test -c $f && echo $f; done; ls -d /sys/firmware/*"),
        shown("--stop-signal", "INT", "--label", "a=b", "--oom-score-adj", "7", "--pids-limit", "50", "cat /proc/self/oom_score_adj; cat /proc/1/comm"),
        shown("--ipc", "private", "--cpuset-cpus", "0", "-m", "64m", "--cpus", "0.5", "echo started; nproc"),
        ["run", "--rm", "--entrypoint", "/bin/echo", "busybox", "a", "b"], ["run", "--rm", "-t", "busybox", "sh", "-c", "tty; stty size; exit 9"],
    ],
    "top": [
        ["run", "-d", "--name", "xx", "busybox", "sh", "-c", "sleep 1000 & exec sleep 2000"], (until, "exec", "xx", "sh", "-c", "ps -o args | grep -c '^sleep'", "2"),
        (ps, "-o", "pid,args"), (ps, "-o", "pid=P,comm"), (ps, "ax", "-o", "pid,user,args"), ["top", "xx", "-o", "comm"], ["top", "xx", "--nothing"],
        ["top", "nobody"], (api, "/containers/xx/stats?stream=0&one-shot=1"), ["kill", "xx"], ["wait", "xx"], ["top", "xx"],
    ],
    "limits": [
        ["run", "-d", "--name", "xx", "-m", "96m", "busybox", "sleep", "100000"], ["update", "-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "xx"],
        ["update", "-m", "128m", "xx"], ["update", "--restart", "on-failure:2", "xx"], ["update", "--pids-limit", "5", "xx"],
        ["exec", "xx", "sh", "-c", "for i in 1 2 3 4 5 6 7; do sleep 1 & done; wait"],
        ["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{json .HostConfig.RestartPolicy}}", "xx"],
        ["rm", "-f", "xx"], ["run", "--name", "xx", "-m", "32m", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"],
        ["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Error}}", "xx"], (events,),
    ],
    "health": [
        ["run", "-d", "--name", "xx", "--health-cmd", "test -e /well || { echo ill; exit 1; }", "--health-interval", "200ms", "--health-retries", "2",
         "busybox", "sleep", "100000"],
        (until, "inspect", "-f", "{{.State.Health.Status}}", "xx", "unhealthy"), ["ps", "--filter", "health=unhealthy", "--format", "{{.Names}} {{.Status}}"],
        ["inspect", "-f", "{{(index .State.Health.Log 0).Output}}{{(index .State.Health.Log 1).ExitCode}}", "xx"],
        ["exec", "xx", "touch", "/well"], (until, "inspect", "-f", "{{.State.Health.Status}}", "xx", "healthy"),
        ["inspect", "-f", "{{.State.Health.FailingStreak}}", "xx"],
    ],
    "restarts": [
        ["run", "-d", "--name", "xx", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo again; exit 4"],
        (until, "inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "xx", "2 exited"), ["logs", "xx"], (events, "--filter", "event=die"),
    ],
    "documents": [
        ["run", "-d", "--name", "xx", "-p", "127.0.0.1::80", "-v", "same:/v", "--label", "a=b", "busybox", "sleep", "100000"], (shape, "inspect", "xx"),
        (api, "/containers/xx/json?size=1"), ["inspect", "-f", "{{json .Mounts}} {{json .Config}} {{.HostConfig.ShmSize}} {{json .HostConfig.CapAdd}}", "xx"],
        ["ps", "--filter", "name=xx", "--format", "{{.Image}} {{.Command}} {{.Status}} {{.Names}} {{.Mounts}} {{.Networks}} {{.Labels}}"],
        ["ps", "-aq", "--filter", "ancestor=busybox"], ["rm", "-fv", "xx"], ["volume", "rm", "same"],
    ],
}


class Account:
    def __init__(self, c, tmp):
        self.c, self.tmp, self.begin = c, tmp, f"{time.time():.6f}"
        shutil.rmtree(tmp, ignore_errors=True)
        (tmp / "dir").mkdir(parents=True)
        (tmp / "out").mkdir()
        (tmp / "in").write_text("in\n")
        os.utime(tmp / "in", (1e9, 1e9))
        self.lines = []

    def path(self, name):
        return self.tmp / name

    def step(self, what):
        if callable(what[0]):
            self.lines.append((what[0].__name__, *what[1:]))
            got = what[0](self, *what[1:])
            self.lines += [got] if isinstance(got, str) else got
            return
        r = self.c(*(a.replace("TMP", str(self.tmp)) for a in what))
        text = f"{' '.join(what)}\nexit {r.code}\n{r.out}\n{r.err}".replace(str(self.tmp), "TMP")
        for pattern, word in WORDS:
            text = re.sub(pattern, word, text)
        # docker's CLI says of an upload that is refused how far it was, or does not; the tests of firewalls, which may
        # run beside this one, make warnings
        self.lines += [line for line in text.split("\n") if line and "on closed pipe" not in line and not line.startswith("WARNING: Chain")]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_both_modes_give_the_same(engine, cli_name, leaks, tmp_path, scenario):
    accounts = []
    for isolation in ("process", "hyperv"):
        c = Cli(engine, cli_name, isolation)
        a = Account(c, tmp_path / "files")
        try:
            for what in SCENARIOS[scenario]:
                a.step(what)
        finally:
            c.cleanup()
        accounts.append(a.lines)
    assert accounts[0] == accounts[1]
