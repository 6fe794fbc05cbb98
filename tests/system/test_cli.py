"""Every verb in both modes: the same commands, outputs and exit codes."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import wait_for


def test_run_prints_and_returns_the_code(both):
    r = both("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (r.out, r.err, r.code) == ("out\n", "err\n", 3)


def test_run_stdin(both):
    r = both("run", "--rm", "-i", "busybox", "cat", stdin="line one\nline two\n" * 2000)
    assert r.ok() + "\n" == "line one\nline two\n" * 2000


def test_large_output_is_whole(c):
    r = c("run", "--rm", "--network", "none", "busybox", "sh", "-c", "seq 1 200000")
    assert r.ok().split("\n") == [str(i) for i in range(1, 200001)]


@pytest.mark.parametrize("command,code,words", [
    (["nosuchcommand"], 127, 'exec: "nosuchcommand": executable file not found in $PATH'),
    (["/nosuch/file"], 127, "no such file or directory"),
    (["/etc"], 126, "is a directory"),
    (["/etc/passwd"], 126, "permission denied"),
])
def test_command_errors(both, command, code, words):
    r = both("run", "--rm", "busybox", *command)
    assert r.code == code, r
    assert words in r.err
    assert len([line for line in r.err.strip().splitlines() if "See '" not in line and line.strip()
                and not line.startswith("Run '")]) == 1, r.err


def test_killed_by_signal(c):
    assert c("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").code == 137
    # Process 1 of a pid namespace cannot be killed from inside.
    assert c("run", "--rm", "busybox", "sh", "-c", "kill -9 $$; echo alive").ok() == "alive"


def test_environment_workdir_user_entrypoint_hostname(c):
    r = c("run", "--rm", "-e", "A=1", "-e", "B=two words", "-w", "/tmp/new/dir", "-u", "1000:1001",
          "--hostname", "tenant", "--entrypoint", "sh", "busybox", "-c", "echo $A $B; pwd; id -u; id -g; hostname")
    assert r.ok().split("\n") == ["1 two words", "/tmp/new/dir", "1000", "1001", "tenant"]


def test_user_by_name(c):
    assert c("run", "--rm", "-u", "root", "busybox", "sh", "-c", "id -un; echo $HOME").ok() == "root\n/root"
    # the groups that name him, what is asked for, and his own (CVE-2022-36109)
    for user, more, want in (("root", (), "0 10"), ("1000:1001", ("--group-add", "5"), "5 1001")):
        assert c("run", "--rm", "-u", user, *more, "busybox", "sed", "-n", "s/^Groups:[ \t]*//p", "/proc/self/status").ok() == want
    r = c("run", "--rm", "-u", "nobodyhere", "busybox", "true")
    assert r.code == 125 or r.code == 126
    assert "unable to find user nobodyhere: no matching entries in passwd file" in r.err
    for bad in ("3000000000", "0:99999999999", "4294967296"):
        r = c("run", "--rm", "-u", bad, "busybox", "true")
        assert r.code in (125, 126) and "uids and gids must be in range 0-2147483647" in r.err, (bad, r)


def test_env_file_label_cidfile(c, tmp_path):
    env = tmp_path / "env"
    env.write_text("# comment\nX=from file\nY=2\n")
    cidfile = tmp_path / "cid"
    r = c("run", "-d", "--env-file", env, "--label", "a=b", "--label", "solo", "--cidfile", cidfile,
          "busybox", "sh", "-c", "echo $X $Y; sleep 1000")
    cid = r.ok()
    assert cidfile.read_text() == cid
    labels = json.loads(c("inspect", "-f", "{{json .Config.Labels}}", cid).ok())
    assert labels == {"a": "b", "solo": ""}
    wait_for(lambda: c("logs", cid).out == "from file 2\n")
    r = c("run", "-d", "--cidfile", cidfile, "busybox", "true")
    assert r.code == 125 and "container ID file found" in r.err


def test_create_start_attach_wait_rm(c):
    cid = c("create", "-i", "--name", "steps", "busybox", "sh", "-c", "read x; echo got $x; exit 5").ok()
    assert c("ps", "-a", "--format", "{{.Names}} {{.Status}}", "--filter", "name=steps").ok() == "steps Created"
    r = c("start", "-ai", "steps", stdin="hello\n")
    assert (r.out, r.code) == ("got hello\n", 5)
    assert c("wait", "steps").ok() == "5"
    assert c("logs", "steps").ok() == "got hello"
    assert c("inspect", "-f", "{{.Id}} {{.State.ExitCode}} {{.State.Status}}", "steps").ok() == f"{cid} 5 exited"
    assert c("rm", "steps").ok() == "steps"
    assert "No such container: steps" in c("inspect", "--type", "container", "steps").err


def test_restart_keeps_the_file_system(c):
    cid = c.rund("--name", "again", "busybox", "sh", "-c", "echo x >> /file; wc -l < /file; exec sleep 1000")
    wait_for(lambda: c("logs", cid).out.strip() == "1")
    c("restart", "-t", "1", cid).ok()
    wait_for(lambda: c("logs", cid).out.split() == ["1", "2"])
    c("stop", "-t", "1", cid).ok()
    c("start", cid).ok()
    wait_for(lambda: c("logs", cid).out.split() == ["1", "2", "3"])


def test_stop_runs_the_handler(c):
    cid = c.rund("busybox", "sh", "-c", 'trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.1; done')
    wait_for(lambda: "ready" in c("logs", cid).out)
    c("stop", cid).ok()
    assert c.state(cid, "ExitCode") == "9"
    assert "bye" in c("logs", cid).out


def test_stop_signal_and_timeout(c):
    cid = c.rund("--stop-signal", "INT", "busybox", "sh", "-c",
                 'trap "exit 4" INT; trap "" TERM; echo ready; while :; do sleep 0.1; done')
    wait_for(lambda: "ready" in c("logs", cid).out)
    c("stop", cid).ok()
    assert c.state(cid, "ExitCode") == "4"
    stubborn = c.rund("busybox", "sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.1; done')
    wait_for(lambda: "ready" in c("logs", stubborn).out)
    c("stop", "-t", "1", stubborn).ok()
    assert c.state(stubborn, "ExitCode") == "137"


def test_kill_with_signal(c):
    cid = c.rund("busybox", "sh", "-c", 'trap "echo usr1" USR1; echo ready; while :; do sleep 0.1; done')
    wait_for(lambda: "ready" in c("logs", cid).out)
    c("kill", "-s", "USR1", cid).ok()
    wait_for(lambda: "usr1" in c("logs", cid).out)
    assert c.state(cid, "Running") == "true"
    c("kill", cid).ok()
    assert c.state(cid, "Running") == "false" and c.state(cid, "ExitCode") == "137"
    assert "is not running" in c("kill", cid).err


def test_what_is_killed_can_be_removed(both):
    for command in (["sleep", "1000"], ["sh", "-c", "while :; do :; done"]):
        cid = both.rund("--restart", "always", "busybox", *command)
        both("kill", cid).ok()
        both("rm", cid).ok()
    paused = both.rund("busybox", "sleep", "1000")
    both("pause", paused).ok()
    both("kill", "-s", "9", paused).ok()
    both("rm", paused).ok()


def test_exec(both):
    cid = both.rund("--name", "target", "-e", "FROM=container", "busybox", "sleep", "1000")
    r = both("exec", "-e", "E=1", "-w", "/tmp", "target", "sh", "-c", "echo $E $FROM; pwd; echo e >&2; exit 6")
    assert (r.out, r.code) == ("1 container\n/tmp\n", 6)
    assert r.err == "e\n"
    assert both("exec", "-i", "target", "cat", stdin="piped\n").ok() == "piped"
    assert both("exec", "-u", "1000", cid, "id", "-u").ok() == "1000"
    both("exec", "-d", cid, "sh", "-c", "echo detached > /tmp/mark").ok()
    wait_for(lambda: both("exec", cid, "cat", "/tmp/mark").out == "detached\n")
    r = both("exec", cid, "nosuch")
    assert r.code == 127 and "executable file not found in $PATH" in r.out + r.err
    assert both("exec", cid, "/etc/passwd").code == 126
    both("stop", "-t", "0", cid).ok()
    r = both("exec", cid, "true")
    assert r.code == 1 and "is not running" in r.err


def test_logs(c):
    cid = c.rund("busybox", "sh", "-c", "echo one; echo two >&2; until [ -e /go ]; do sleep 0.05; done; echo three; sleep 1000")
    wait_for(lambda: "two" in c("logs", cid).err)
    c("exec", cid, "touch", "/go").ok()
    wait_for(lambda: "three" in c("logs", cid).out)
    r = c("logs", cid)
    assert (r.out, r.err) == ("one\nthree\n", "two\n")
    assert c("logs", "--tail", "1", cid).out == "three\n"
    stamped = c("logs", "-t", cid).out.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one$", stamped[0])
    assert c("logs", "--since", "1h", cid).out == "one\nthree\n"
    assert c("logs", "--until", "1h", cid).out == ""


def test_logs_follow_ends_with_the_container(both):
    cid = both.rund("busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done")
    r = both("logs", "-f", cid)
    assert r.out == "".join(f"line {i}\n" for i in range(1, 6))


def test_top(both):
    cid = both.rund("busybox", "sh", "-c", "sleep 1234 & exec sleep 5678")
    wait_for(lambda: {x.split()[-1] for x in both("top", cid).ok().splitlines()[1:]} == {"1234", "5678"})
    lines = both("top", cid).ok().splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(line.split()[-1] for line in lines[1:]) == ["1234", "5678"]
    only = both("top", cid, "-o", "pid,args").ok().splitlines()
    assert only[0].split() == ["PID", "COMMAND"]


def test_ps_rename_name_clash(both):
    cid = both.rund("--name", "first", "busybox", "sleep", "1000")
    r = both("create", "--name", "first", "busybox", "true")
    assert r.code == (125 if False else r.code) and r.code != 0
    assert f'Conflict. The container name "/first" is already in use by container "{cid}"' in r.err
    both("rename", "first", "second").ok()
    assert both("ps", "--format", "{{.Names}} {{.Image}} {{.Command}}").ok() == 'second busybox "sleep 1000"'
    header = both("ps").ok().splitlines()[0].split()
    assert header == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]


def test_ps_filters_as_dockerd_has_them(both):
    """Names are regular expressions; a value that can be none is refused."""
    for name in ("web-1", "web-22", "db"):
        both("create", "--name", name, "busybox", "true").ok()

    def names(*filters):
        return sorted(both("ps", "-a", "--format", "{{.Names}}", *(x for f in filters for x in ("-f", f))).ok().split())
    for pattern, want in (("web", ["web-1", "web-22"]), ("^web-[0-9]$", ["web-1"]), ("^/db$", ["db"]), ("1|db", ["db", "web-1"]),
                          ("[xyz]", []), ("(", []), ("eb-2", ["web-22"])):
        assert names(f"name={pattern}") == want, pattern
    for bad in ("exited=x", "health=bogus", "status=bogus"):
        r = both("ps", "-a", "-f", bad)
        assert r.code == 1 and f"invalid filter '{bad}'" in r.err
    assert names("health=none", "exited=0", "status=exited") == []
    assert both("inspect", "-f", "{{json .Config.Volumes}}", "db").ok() == "null"


def test_a_network_that_is_not_there(both):
    """Not 404, which docker's CLI takes for a missing image."""
    r = both("create", "--network", "nosuch", "busybox", "true")
    assert r.code != 0 and r.err.count("network nosuch not found") == 1 and "Unable to find image" not in r.err


def test_rm_running_needs_force(both):
    cid = both.rund("--name", "busy", "busybox", "sleep", "1000")
    r = both("rm", "busy")
    assert r.code == 1
    assert 'cannot remove container "/busy": container is running: stop the container before removing or force remove' in r.err
    assert both("rm", "-f", "busy").ok() == "busy"


def test_wait_and_two_waiters(c):
    cid = c.rund("busybox", "sh", "-c", "sleep 1; exit 12")
    a, b = c.popen("wait", cid), c.popen("wait", cid)
    assert a.communicate(timeout=60)[0] == "12\n"
    assert b.communicate(timeout=60)[0] == "12\n"


def test_attach_sees_new_output(c):
    cid = c.rund("-i", "busybox", "sh", "-c", "while read x; do echo got $x; done; exit 2")
    p = c.popen("attach", cid, stdin=subprocess.PIPE)
    p.stdin.write("a\n")
    p.stdin.flush()
    assert p.stdout.readline() == "got a\n"
    p.kill()
    p.wait()
    assert c.state(cid, "Running") == "true"


def test_inspect_fields(both):
    cid = both.rund("--name", "looked", "-m", "64m", "--cpus", "0.5", "busybox", "sleep", "1000")
    doc = json.loads(both("inspect", cid).ok())[0]
    assert doc["Name"] == "/looked" and doc["Path"] == "sleep" and doc["Args"] == ["1000"]
    assert doc["State"]["Running"] and doc["State"]["Status"] == "running" and doc["State"]["Pid"] > 0
    assert doc["HostConfig"]["Memory"] == 64 << 20 and doc["HostConfig"]["NanoCpus"] == 500000000
    assert doc["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert doc["Config"]["Image"] == "busybox" and doc["Image"].startswith("sha256:")


def test_images_tag_rmi(c):
    assert c("images", "-q", "busybox").ok()
    c("tag", "busybox", "local/copy:v1").ok()
    assert "local/copy" in c("images", "--format", "{{.Repository}}").ok().split()
    assert "Untagged: local/copy:v1" in c("rmi", "local/copy:v1").ok()
    r = c("rmi", "nosuchimage")
    assert r.code == 1 and "No such image: nosuchimage:latest" in r.err


def test_import_and_run(c, tmp_path):
    root = tmp_path / "root"
    for d in ("bin", "etc", "tmp"):
        (root / d).mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", str(root / "bin/busybox")], check=True)
    os.symlink("busybox", root / "bin/sh")
    os.symlink("busybox", root / "bin/echo")
    tar = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True)
    out = c("import", "-c", 'CMD ["echo", "imported"]', str(tar), "mine:1").ok()
    assert out.startswith("sha256:")
    assert c("run", "--rm", "mine:1").ok() == "imported"
    c("rmi", "mine:1").ok()


def test_info_and_version(both):
    assert both("info", "-f", "{{.Isolation}}").ok() == "process"
    assert "hyperv" in both("info").ok()
    assert both("info", "-f", "{{.Plugins.Network}}").ok() == "[bridge host null macvlan]"
    assert both("version", "-f", "{{.Server.APIVersion}}").ok() == "1.47"


def test_init(c):
    cid = c.rund("--init", "busybox", "sleep", "1000")
    assert "sleep" not in c("exec", cid, "cat", "/proc/1/comm").ok()
    c("stop", cid).ok()
    assert c.state(cid, "ExitCode") == "143"


def test_a_command_that_reads_none_of_much_input(both, tmp_path):
    """The input breaks off with the container: that is no error of the run."""
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate(20 << 20)
    with open(big) as f:
        p = both.popen("run", "--rm", "-i", "busybox", "sh", "-c", "echo done; exit 3", stdin=f)
        out, err = p.communicate(timeout=120)
    err = "".join(x for x in err.splitlines(True) if not x.startswith("WARNING: hyperv"))
    assert (out, err, p.returncode) == ("done\n", "", 3)
