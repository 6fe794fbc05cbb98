"""The supervisor of process sandboxes, driven over its socket as insulad drives it, but without insulad."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from conftest import program, wait_for
from supervisor import (A_ERR, A_IN, A_MUX, A_OUT, CREATED, EXITED, RUNNING, STDIN, STDIN_ONCE, TTY, Refused, Supervisor,
                        decode, demux, wait_gone)

ALL = A_IN | A_OUT | A_ERR | A_MUX
ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT, ERR_CMD_NOT_FOUND = 2, 4, 5, 9


def shim():
    return os.environ.get("INSULA_SHIM") or program("insula-shim")


@pytest.fixture
def sup():
    base = tempfile.mkdtemp(prefix="insula-sup-")
    s = Supervisor(shim(), base)
    try:
        yield s
        s.stop()
        text = open(os.path.join(base, "shim.log")).read()
        assert "Sanitizer" not in text and "runtime error" not in text, text
    finally:
        s.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def d(sup):
    """A daemon with the sandbox (no network) set up."""
    daemon = sup.daemon()
    daemon.request("SANDBOX", sandbox="sb", net="own")
    yield daemon
    daemon.close()


def run(sup, d, ctr, args, flags=0, attach=A_OUT | A_ERR | A_MUX, **kw):
    """Create, attach, start; returns the attached client."""
    sup.create(d, ctr, args, flags, **kw)
    c = sup.attach(d, ctr, attach)
    d.request("START", ctr=ctr)
    return c


def sh(script):
    return ["/bin/sh", "-c", script]


def test_hello_tells_who_it_is(sup):
    d = sup.daemon()
    assert d.hello["kind"] == "process" and d.hello["sandbox"] == "sb" and d.hello["version"] == 1
    status = open(f"/proc/{d.hello['pid']}/status").read()
    assert "Name:\tinsula-shim" in status
    assert os.readlink(f"/proc/{d.hello['pid']}/cwd") == "/"
    assert os.getsid(d.hello["pid"]) == d.hello["pid"]
    fds = {os.readlink(f"/proc/{d.hello['pid']}/fd/{n}") for n in "01"}
    assert fds == {"/dev/null"}


def test_run_to_the_end(sup, d):
    c = run(sup, d, "c1", sh("echo out; echo err >&2; exit 7"), files=["hosts", "127.0.0.1 localhost\n"])
    assert demux(c.read_all()) == (b"out\n", b"err\n")
    st = d.wait_state("c1", EXITED)
    assert st["exit_code"] == 7 and not st["oom"] and st["error"] == ""
    assert st["exited_ns"] >= st["started_ns"] > 0
    assert [x[2] for x in d.history] == [CREATED, RUNNING, EXITED]
    assert sup.record("c1") == st
    assert (sup.base / "c1/hosts").read_text() == "127.0.0.1 localhost\n"
    assert sorted((x["log"], x["stream"]) for x in sup.log_lines("c1")) == [("err\n", "stderr"), ("out\n", "stdout")]
    assert sup.log_path("c1").stat().st_mode & 0o777 == 0o640
    d.request("DELETE", ctr="c1")
    assert sup.wait_end() == 0
    assert sup.record("c1")["exit_code"] == 7		# stays for the daemon
    assert str(sup.base) not in open("/proc/self/mountinfo").read()


def test_signals_give_exit_codes(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    with pytest.raises(Refused) as e:
        d.request("DELETE", ctr="c1")
    assert e.value.kind == ERR_CONFLICT
    d.request("KILL", ctr="c1", signo=9)
    assert d.wait_state("c1", EXITED)["exit_code"] == 137
    with pytest.raises(Refused) as e:
        d.request("KILL", ctr="c1", signo=9)
    assert e.value.kind == ERR_CONFLICT


def test_signals_have_their_default_meaning_in_a_container(sup, d):
    c = run(sup, d, "c1", ["/bin/cat", "/proc/self/status"])
    status = dict(line.split(":\t", 1) for line in demux(c.read_all())[0].decode().splitlines())
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) == int(status["SigCgt"], 16) == 0


def test_a_command_that_is_not_there(sup, d):
    with pytest.raises(Refused) as e:
        sup.create(d, "c1", ["/bin/nonesuch"])
    assert e.value.kind == ERR_CMD_NOT_FOUND and "no such file or directory" in str(e.value)
    assert ("c1", "") not in d.states
    with pytest.raises(Refused) as e:
        d.request("START", ctr="c1")
    assert e.value.kind == ERR_NOT_FOUND and str(e.value) == "No such container: c1"
    d.close()
    assert sup.wait_end() == 0


def test_broken_messages_end_the_connection(sup, d):
    bad = sup.daemon()
    bad.sock.sendall(b"\4\0\0\0\5\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff")
    with pytest.raises((EOFError, ConnectionError)):
        bad.request("PS", ctr="c1")
    with pytest.raises(Refused):
        d.request("CREATE", ctr="c1", spec="{", bundle=str(sup.base / "c1"))
    run(sup, d, "c2", ["/bin/true"])		# the other one goes on
    assert d.wait_state("c2", EXITED)["exit_code"] == 0


def test_stdin_once_ends_with_the_first_client(sup, d):
    c = run(sup, d, "c1", ["/bin/cat"], STDIN | STDIN_ONCE, ALL)
    big = os.urandom(300000)
    c.send(b"hello")
    c.send(big)
    c.half_close()
    assert demux(c.read_all()) == (b"hello" + big, b"")
    assert d.wait_state("c1", EXITED)["exit_code"] == 0


def test_stdin_stays_open_for_the_next_client(sup, d):
    c = run(sup, d, "c1", ["/bin/cat"], STDIN, ALL)
    c.send(b"one\n")
    c.half_close()
    assert c.read_until(b"one\n")
    c2 = sup.attach(d, "c1", ALL, preread=b"two\n")
    assert c2.read_until(b"two\n") and c.read_until(b"two\n")		# both see the output
    d.request("KILL", ctr="c1", signo=9)
    assert c.read_all() == b"" and c2.read_all() == b""
    assert d.wait_state("c1", EXITED)["exit_code"] == 137


def test_a_client_that_leaves_has_said_everything(sup, d):
    c = run(sup, d, "c1", sh("sleep 0.5; wc -c"), STDIN | STDIN_ONCE, A_IN)
    data = b"x" * 500000
    c.sock.setblocking(True)
    sender = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=c.sock.fileno())
    c.close()
    sender.stdin.write(data)
    sender.stdin.close()		# ends, and with it the whole connection
    d.wait_state("c1", EXITED)
    assert sup.log_lines("c1")[0]["log"] == "500000\n"
    sender.wait(60)


def test_no_stdin_is_an_empty_one(sup, d):
    sup.create(d, "c1", ["/bin/cat"])
    c = sup.attach(d, "c1", ALL)
    c.send(b"ignored")		# before it starts: once it has ended, nobody takes it
    d.request("START", ctr="c1")
    assert c.read_all() == b""
    assert d.wait_state("c1", EXITED)["exit_code"] == 0


def test_input_that_nobody_took_does_not_spoil_the_end(sup, d):
    """The client reads all of the output and then its end, never a reset; what it sends later is refused."""
    sup.create(d, "c1", sh("echo done"), STDIN | STDIN_ONCE)
    c = sup.attach(d, "c1", A_IN | A_OUT)
    c.sock.setblocking(False)
    with pytest.raises(BlockingIOError):		# more than the socket and the pipe hold
        while True:
            c.send(b"x" * 65536)
    c.sock.settimeout(60)
    d.request("START", ctr="c1")
    assert c.read_all() == b"done\n"
    with pytest.raises(BrokenPipeError):
        c.send(b"late")


def test_output_of_a_fast_container_is_complete(sup, d):
    c = run(sup, d, "c1", ["/bin/seq", "1", "200000"])
    out = demux(c.read_all())[0]
    want = "".join(f"{i}\n" for i in range(1, 200001))
    assert out.decode() == want
    d.wait_state("c1", EXITED)
    assert "".join(x["log"] for x in sup.log_lines("c1")) == want


def test_a_slow_client_holds_the_container_and_no_memory(sup, d):
    c = run(sup, d, "c1", sh("echo start; head -c 20000000 /dev/zero; echo end"), attach=A_OUT)
    first = c.read_until(b"start\n")
    time.sleep(0.7)
    assert d.states["c1", ""]["state"] == RUNNING and sup.rss_kb() < 8000 + 40000 * ("asan" in shim())
    other = sup.daemon()		# meanwhile it answers
    assert other.wait_state("c1", RUNNING)
    rest = c.read_all()
    assert len(first + rest) == len("start\n") + 20000000 + len("end\n") and rest.endswith(b"end\n")
    assert d.wait_state("c1", EXITED)["exit_code"] == 0


def test_a_client_that_goes_frees_the_container(sup, d):
    c = run(sup, d, "c1", sh("head -c 3000000 /dev/zero; sleep 0.3; exit 3"), attach=A_OUT)
    time.sleep(0.3)
    c.close()
    assert d.wait_state("c1", EXITED)["exit_code"] == 3


def test_an_exit_is_told_though_a_client_never_reads(sup, d):
    c = run(sup, d, "c1", sh("head -c 250000 /dev/zero; exit 4"), attach=A_OUT)
    assert d.wait_state("c1", EXITED)["exit_code"] == 4
    d.request("DELETE", ctr="c1")
    assert len(c.read_all()) == 250000		# still all there for it
    assert sup.wait_end() == 0


def test_tty(sup, d):
    keys = b"\x10\x11"
    sup.create(d, "c1", ["/bin/sh"], TTY | STDIN, rows=33, cols=77)
    c = sup.attach(d, "c1", A_IN | A_OUT, keys=keys)
    d.request("START", ctr="c1")
    c.send(b"stty size; echo typed\n")
    out = c.read_until(b"\r\ntyped\r\n")
    assert b"33 77" in out
    d.request("RESIZE", ctr="c1", rows=10, cols=120)
    c.send(b"stty size; echo now\n")
    assert b"10 120" in c.read_until(b"\r\nnow\r\n")
    c.send(b"echo a\x10b\n")		# half of the keys is no detach
    assert c.read_until(b"b\r\n")
    c.send(b"\x10")
    time.sleep(0.1)
    c.send(b"\x11")
    assert c.read_all() is not None
    d.request("PS", ctr="c1")
    assert d.detached == [{"sandbox": "sb", "ctr": "c1", "exec": ""}]
    again = sup.attach(d, "c1", A_IN | A_OUT, keys=keys)
    again.send(b"exit 9\n")
    again.read_all()
    assert d.wait_state("c1", EXITED)["exit_code"] == 9
    assert "\r\ntyped\r\n" in "".join(x["log"] for x in sup.log_lines("c1"))


def test_a_half_closed_terminal_goes_on(sup, d):
    sup.create(d, "c1", sh("sleep 0.3; echo after"), TTY | STDIN | STDIN_ONCE)
    c = sup.attach(d, "c1", A_IN | A_OUT)
    d.request("START", ctr="c1")
    c.half_close()
    assert c.read_all() == b"after\r\n"


def test_resize_before_there_is_a_terminal(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    with pytest.raises(Refused):
        d.request("RESIZE", ctr="c1", rows=1, cols=1)
    sup.create_exec(d, "c1", "e1", ["/bin/sh"], TTY | STDIN, rows=5, cols=6)
    with pytest.raises(Refused):
        d.request("RESIZE", ctr="c1", exec="e1", rows=1, cols=1)
    c = sup.attach(d, "c1", A_IN | A_OUT, "e1")
    d.request("START", ctr="c1", exec="e1")
    d.request("RESIZE", ctr="c1", exec="e1", rows=40, cols=100)
    c.send(b"stty size; exit\n")
    assert b"40 100" in c.read_all()


def test_exec(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    sup.create_exec(d, "c1", "e1", sh("cat; echo err >&2; exit 5"), STDIN)
    c = sup.attach(d, "c1", ALL, "e1", preread=b"early ")
    c.send(b"bird")		# before it is started
    c.half_close()
    time.sleep(0.1)
    pid = int.from_bytes(d.request("START", ctr="c1", exec="e1"), "little")
    assert pid > 1
    assert demux(c.read_all()) == (b"early bird", b"err\n")
    st = d.wait_state("c1", EXITED, "e1")
    assert st["exit_code"] == 5 and st["pid"] == pid
    assert not (sup.dir / "exit-e1").exists() and sup.log_lines("c1") == []
    d.request("DELETE", ctr="c1", exec="e1")
    with pytest.raises(Refused) as e:
        d.request("START", ctr="c1", exec="e1")
    assert str(e.value) == "No such exec instance: e1"
    assert d.states["c1", ""]["state"] == RUNNING


def test_exec_of_a_missing_command_says_so_in_its_stream(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    sup.create_exec(d, "c1", "e1", ["/bin/nonesuch"])
    c = sup.attach(d, "c1", A_OUT | A_ERR | A_MUX, "e1")
    with pytest.raises(Refused) as e:
        d.request("START", ctr="c1", exec="e1")
    assert e.value.kind == ERR_CMD_NOT_FOUND
    out = demux(c.read_all())[0].decode()
    assert out.startswith("OCI runtime exec failed: exec failed: unable to start container process: exec: \"/bin/nonesuch\"")
    assert out.endswith(": unknown\r\n")
    assert d.wait_state("c1", EXITED, "e1")["exit_code"] == 127


def test_execs_end_with_their_container(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    sup.create_exec(d, "c1", "e1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1", exec="e1")
    d.request("KILL", ctr="c1", exec="e1", signo=15)
    assert d.wait_state("c1", EXITED, "e1")["exit_code"] == 143
    sup.create_exec(d, "c1", "e2", ["/bin/sleep", "100"])
    d.request("START", ctr="c1", exec="e2")
    d.request("KILL", ctr="c1", signo=9)
    assert d.wait_state("c1", EXITED)["exit_code"] == 137
    assert d.wait_state("c1", EXITED, "e2")["exit_code"] == 137
    with pytest.raises(Refused) as e:
        sup.create_exec(d, "c1", "e3", ["/bin/true"])
    assert e.value.kind == ERR_CONFLICT and str(e.value) == "container c1 is not running"


def test_users_by_name_come_from_the_image(sup, d):
    c = run(sup, d, "c1", sh("id; echo $HOME"), user="web")
    assert demux(c.read_all())[0] == b"uid=33(web) gid=34(web) groups=8(mail),34(web)\n/srv\n"
    with pytest.raises(Refused) as e:
        sup.create(d, "c2", ["/bin/true"], user="nobody-here")
    assert str(e.value) == "unable to find user nobody-here: no matching entries in passwd file"


def test_ps(sup, d):
    sup.create(d, "c1", sh("sleep 100 & exec sleep 200"))
    before = int(time.time())
    d.request("START", ctr="c1")
    rows = wait_for(lambda: (lambda r: len(r) == 2 and all((x["comm"], x["state"]) == ("sleep", "S") for x in r) and r)(d.ps("c1")))
    assert [int(r["pid"]) for r in rows] == sorted(int(r["pid"]) for r in rows)
    assert [r["args"].rsplit(" ", 1)[1] for r in rows] == ["200", "100"]
    for r in rows:
        assert r["uid"] == r["gid"] == r["tty"] == "0" and r["nice"] == str(os.nice(0)) and r["comm"] == "sleep" and r["state"] == "S"
        assert before - 2 < int(r["start"]) < time.time() + 2 and int(r["rss"]) > 0 and int(r["vsz"]) > 0
    assert rows[1]["ppid"] == rows[0]["pid"] and rows[0]["pid"] == str(d.states["c1", ""]["pid"])
    assert os.path.exists(f"/proc/{rows[0]['pid']}")		# the host sees the same processes


def test_a_daemon_killed_is_not_missed(sup, d):
    """Whatever happens while no daemon is there is told to the next one."""
    c = run(sup, d, "c1", sh("echo one; sleep 0.6; echo two; exit 6"))
    sup.create(d, "c2", ["/bin/sleep", "100"])
    d.request("START", ctr="c2")
    d.close()
    assert demux(c.read_all())[0] == b"one\ntwo\n"		# clients do not notice
    new = sup.daemon()
    assert new.wait_state("c1", EXITED)["exit_code"] == 6
    pid = new.wait_state("c2", RUNNING)["pid"]
    assert [x["log"] for x in sup.log_lines("c1")] == ["one\n", "two\n"]
    new.close()
    os.kill(pid, signal.SIGKILL)
    assert sup.wait_end() == 0		# all have exited, nobody is connected
    assert sup.record("c1")["exit_code"] == 6 and sup.record("c2")["exit_code"] == 137


def test_two_daemons_at_once(sup, d):
    other = sup.daemon()
    run(sup, d, "c1", sh("exit 2"))
    assert d.wait_state("c1", EXITED)["exit_code"] == other.wait_state("c1", EXITED)["exit_code"] == 2


def test_a_created_container_waits_without_a_daemon(sup, d):
    sup.create(d, "c1", sh("echo started"))
    d.close()
    time.sleep(0.3)
    new = sup.daemon()
    new.wait_state("c1", CREATED)
    new.request("START", ctr="c1")
    assert new.wait_state("c1", EXITED)["exit_code"] == 0
    assert [x["log"] for x in sup.log_lines("c1")] == ["started\n"]


def test_a_created_container_can_be_deleted(sup, d):
    sup.create(d, "c1", ["/bin/true"])
    d.request("DELETE", ctr="c1")
    assert sup.wait_end() == 0
    assert not (sup.dir / "exit-c1").exists()


def test_attach_to_an_exited_container_changes_nothing(sup, d):
    run(sup, d, "c1", sh("exit 3"))
    st = d.wait_state("c1", EXITED)
    assert sup.attach(d, "c1", ALL).read_all() == b""
    with pytest.raises(Refused):
        d.request("START", ctr="c1")
    assert sup.daemon().wait_state("c1", EXITED) == st == sup.record("c1")


def test_output_that_outlives_the_container_is_bounded(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    sup.create_exec(d, "c1", "e1", sh("echo first; sleep 100 & exit 0"))
    c = sup.attach(d, "c1", A_OUT, "e1")
    d.request("START", ctr="c1", exec="e1")
    t = time.time()
    assert d.wait_state("c1", EXITED, "e1")["exit_code"] == 0
    assert 1 < time.time() - t < 60		# and not the 100 s of what holds its output
    assert c.read_all() == b"first\n"


def test_term_ends_the_sandbox_in_order(sup, d):
    c = run(sup, d, "c1", sh("echo there; sleep 100"))
    assert c.read_until(b"there\n")
    for s in (signal.SIGHUP, signal.SIGINT):
        sup.proc.send_signal(s)
    time.sleep(0.2)
    assert sup.proc.poll() is None
    sup.proc.terminate()
    assert d.wait_state("c1", EXITED)["exit_code"] == 137
    assert sup.wait_end() == 0
    assert sup.record("c1")["exit_code"] == 137
    assert c.read_all() == b""


def test_shutdown_request(sup, d):
    run(sup, d, "c1", ["/bin/sleep", "100"])
    d.request("SHUTDOWN", sandbox="sb")
    assert d.wait_state("c1", EXITED)["exit_code"] == 137
    assert sup.wait_end() == 0


def test_a_killed_supervisor_takes_its_containers_along(sup, d):
    run(sup, d, "c1", ["/bin/sleep", "100"])
    pid = d.wait_state("c1", RUNNING)["pid"]
    sup.proc.kill()
    sup.proc.wait()
    assert wait_gone(f"/proc/{pid}")


def test_several_containers_share_the_sandbox(sup, d):
    nets = []
    for ctr in ("c1", "c2"):
        sup.create(d, ctr, ["/bin/sleep", "100"])
        d.request("START", ctr=ctr)
        pid = d.wait_state(ctr, RUNNING)["pid"]
        nets.append((os.readlink(f"/proc/{pid}/ns/net"), os.readlink(f"/proc/{pid}/ns/ipc")))
    assert nets[0] == nets[1] and nets[0][0] != os.readlink("/proc/self/ns/net")
    for ctr in ("c1", "c2"):
        d.request("KILL", ctr=ctr, signo=9)
        d.wait_state(ctr, EXITED)
        assert sup.proc.poll() is None
        d.request("DELETE", ctr=ctr)
    assert sup.wait_end() == 0


def test_many_layers_and_odd_names(sup, d):
    lower = [str(sup.layer)]
    for i in range(120):
        p = sup.base / f"a layer, with: odd name {i}"
        p.mkdir()
        (p / f"f{i}").write_text(str(i))
        lower.insert(0, str(p))
    c = run(sup, d, "c1", sh("echo /f* | wc -w"), lower=lower)
    assert demux(c.read_all())[0].strip() == b"120"


@pytest.fixture
def bridge():
    """A bridge in a network namespace of the test's own would need the shim there too: names are unique instead."""
    name = f"insup{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", "10.213.7.1/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


def test_bridge(sup, bridge):
    d = sup.daemon()
    veth = f"v{os.getpid() % 100000}"
    first = dict(name="eth0", bridge=bridge, ifname=veth, mac="02:42:0a:d5:07:02", addresses=["10.213.7.2/24"],
                 gateways=["10.213.7.1"], mtu=1400)
    d.request("SANDBOX", sandbox="sb", net="own", nics=[first])
    link = json.loads(subprocess.check_output(["ip", "-j", "-d", "link", "show", veth]))[0]
    assert link["master"] == bridge and link["linkinfo"]["info_slave_data"]["hairpin"] is True
    c = run(sup, d, "c1", sh("ip addr; ip route"))
    out = demux(c.read_all())[0].decode()
    assert "eth0" in out and "10.213.7.2/24" in out and "mtu 1400" in out and "02:42:0a:d5:07:02" in out
    assert "default via 10.213.7.1 dev eth0" in out and "127.0.0.1/8" in out
    d.wait_state("c1", EXITED)
    # further ones come and go
    second = dict(first, name="eth1", ifname=veth + "b", mac="02:42:0a:d5:07:03", addresses=["10.213.7.3/24"],
                  gateways=[])
    for nics in [first, second], [second]:
        d.request("NETWORK", sandbox="sb", nics=nics)
        assert {i for i in (veth, veth + "b") if os.path.exists(f"/sys/class/net/{i}")} == {n["ifname"] for n in nics}
    with pytest.raises(Refused, match="find bridge 'nonesuch'"):
        d.request("NETWORK", sandbox="sb", nics=[second, dict(first, bridge="nonesuch")])
    d.request("DELETE", ctr="c1")
    assert not os.path.exists(f"/sys/class/net/{veth}b")
    assert not os.path.exists(f"/sys/class/net/{veth}")		# before the answer: the address may be given away now
    assert sup.wait_end() == 0


def test_a_sandbox_without_its_bridge_leaves_nothing(sup):
    d = sup.daemon()
    with pytest.raises(Refused) as e:
        d.request("SANDBOX", sandbox="sb", net="own",
                  nics=[dict(name="eth0", bridge="nonesuch", ifname="vnonesuch", addresses=["10.1.1.1/8"])])
    assert "find bridge 'nonesuch': No such device" in str(e.value)
    assert not os.path.exists("/sys/class/net/vnonesuch")
    d.close()
    assert sup.wait_end() == 0


def test_exit_records_are_messages(sup, d):
    run(sup, d, "c1", sh("exit 1"))
    d.wait_state("c1", EXITED)
    raw = (sup.dir / "exit-c1").read_bytes()
    assert decode("TASK_STATE", raw)["exit_code"] == 1
    assert [p.name for p in sup.dir.iterdir() if p.name.startswith("exit")] == ["exit-c1"]		# no temporary left


def test_memory(sup, d):
    sup.create(d, "c1", ["/bin/sleep", "100"])
    d.request("START", ctr="c1")
    d.wait_state("c1", RUNNING)
    if "asan" not in shim():
        wait_for(lambda: sup.rss_kb() <= 1024)
