"""Published ports, alike in both modes: from the host, from another machine (a network namespace), from the
container itself; who may have a port; what is left when the daemon or the container is gone."""
import contextlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from conftest import BUILD, descriptors, free_port, wait_for

# tests/tools/netserve.c echoes, after a word on who asks and by which port.
SERVER = ("-v", f"{BUILD}/tests:/t:ro")


def serve(*ports):
    """What follows the options of `run`: a server at these ports."""
    return ["busybox", "/t/netserve", *ports]


def ask(host, port, timeout=5):
    """Who asks and by which port, as the container's server sees it, or None."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as s:
            s.sendall(b"hello")
            s.shutdown(socket.SHUT_WR)
            data = b""
            while got := s.recv(4096):
                data += got
    except OSError:
        return None
    peer, by, word = data.decode().split(" ") if data else ("", 0, None)
    return (peer, int(by)) if word == "hello" else None


def answers(host, port):
    """Waits until the server has come up."""
    return wait_for(lambda: ask(host, port, 2), timeout=60)


def host_address():
    """An address of this host that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("198.51.100.1", 9))
        return s.getsockname()[0]


def bindings(c, cid):
    return json.loads(c("inspect", "-f", "{{json .NetworkSettings.Ports}}", cid).ok())


def host_port(c, cid, key):
    return int(bindings(c, cid)[key][0]["HostPort"])


def inspect(c, cid, template):
    return c("inspect", "-f", template, cid).ok()


def table_of(engine):
    """Our nft table as text."""
    for t in re.findall(r"table ip (insula\S*)", subprocess.run(["nft", "list", "tables"], capture_output=True,
                                                                text=True).stdout):
        text = subprocess.run(["nft", "list", "table", "ip", t], capture_output=True, text=True).stdout
        if f'"{bridge_of(engine)}"' in text:
            return t, text
    return None, ""


def bridge_of(engine):
    return engine.cli("docker", "network", "inspect", "-f",
                      '{{index .Options "com.docker.network.bridge.name"}}', "bridge").ok()


def elements(engine):
    return sorted(re.findall(r"(?:tcp|udp|sctp) \. [0-9. ]+ : [0-9.]+ \. \d+", table_of(engine)[1]))


@pytest.fixture
def machine():
    """Another machine: a network namespace, linked with this host by a veth. Its prefix to run commands in it, the
    host's and its own address on that link, the host's end."""
    name = f"im{os.getpid() % 100000}"
    net = f"198.18.{os.getpid() % 256}"
    up = f"""ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name} &&
        ip addr add {net}.1/24 dev {name} && ip link set {name} up &&
        ip -n {name} addr add {net}.2/24 dev eth0 && ip -n {name} link set eth0 up && ip -n {name} link set lo up"""
    try:
        subprocess.run(up, shell=True, check=True)
        yield ["ip", "netns", "exec", name], f"{net}.1", f"{net}.2", name
    finally:
        subprocess.run(f"ip link del {name}; ip netns del {name}", shell=True, stderr=subprocess.DEVNULL)


FROM_THERE = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
s.sendall(b"hello")
s.shutdown(socket.SHUT_WR)
print(s.makefile().read(), end="")
"""


def ask_from(machine, host, port):
    r = subprocess.run([*machine[0], "/usr/bin/python3", "-c", FROM_THERE, host, str(port)], capture_output=True, text=True)
    peer, by, word = r.stdout.split(" ") if r.stdout and r.returncode == 0 else ("", 0, None)
    return (peer, int(by)) if word == "hello" else None


def test_reached_from_everywhere(engine, c, machine):
    port = free_port()
    cid = c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    answers("127.0.0.1", port)
    assert ask(host_address(), port)
    assert ask("::1", port)
    assert ask_from(machine, machine[1], port)
    gateway = inspect(c, cid, "{{.NetworkSettings.Gateway}}")
    for host in (gateway, host_address()):	# hairpin: its own port, by the host's addresses
        assert c("exec", cid, "sh", "-c", f"echo me | nc -w 5 {host} {port}").ok().endswith(" 80 me")
    other = c.rund("busybox", "sleep", "1000")
    assert c("exec", other, "sh", "-c", f"echo it | nc -w 5 {gateway} {port}").ok().endswith(" 80 it")
    c("rm", "-f", cid).ok()
    assert ask("127.0.0.1", port) is None and ask("::1", port) is None
    assert not elements(engine)


def test_the_caller_is_seen(c, machine):
    """No proxy stands between: the container sees the address of the other machine."""
    port = free_port()
    cid = c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    gateway = inspect(c, cid, "{{.NetworkSettings.Gateway}}")
    assert answers("127.0.0.1", port) == (gateway, 80)
    assert ask_from(machine, machine[1], port) == (machine[2], 80)


def test_one_address(c, machine):
    port = free_port(n=2)
    c.rund("-p", f"127.0.0.1:{port}:80", "-p", f"{machine[1]}:{port + 1}:80", *SERVER, *serve("tcp:80"))
    answers("127.0.0.1", port)
    answers(machine[1], port + 1)
    assert ask_from(machine, machine[1], port + 1)
    assert ask(machine[1], port) is None and ask("127.0.0.1", port + 1) is None and ask("::1", port) is None
    assert ask_from(machine, machine[1], port) is None
    # Nor by sending packets for 127.0.0.1 over the wire.
    subprocess.run([*machine[0], "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route add table 77 "
                    f"127.0.0.1 via {machine[1]} dev eth0; ip rule add pref 0 to 127.0.0.1 table 77; "
                    "ip rule add pref 1 lookup local; ip rule del pref 0 lookup local"], check=True)
    assert ask_from(machine, "127.0.0.1", port) is None


def test_ipv6_addresses(c):
    port = free_port(n=2)
    cid = c.rund("-p", f"[::1]:{port}:80", "-p", f"[::]:{port + 1}:80", *SERVER, *serve("tcp:80"))
    answers("::1", port)
    answers("::1", port + 1)
    assert ask("127.0.0.1", port) is None and ask("127.0.0.1", port + 1) is None
    assert bindings(c, cid)["80/tcp"] == [{"HostIp": "::1", "HostPort": str(port)},
                                          {"HostIp": "::", "HostPort": str(port + 1)}]


def test_bulk_over_the_relay(c):
    """Half-close and back-pressure: what goes in by ::1 comes back whole."""
    port = free_port()
    c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    answers("::1", port)
    sent = os.urandom(1 << 20) * 4
    with socket.create_connection(("::1", port), timeout=20) as s:
        def send():
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
        t = threading.Thread(target=send)
        t.start()
        got = b""
        while part := s.recv(1 << 16):
            got += part
        t.join()
    assert got.split(b" ", 2)[2] == sent


def udp_ask(family, host, port):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        s.connect((host, port))
        try:
            s.send(b"hello")
            return s.recv(100).endswith(b" 7000 hello")
        except OSError:
            return None


def test_udp(engine, c, machine):
    port = free_port()
    cid = c.rund("-p", f"{port}:7000/udp", *SERVER, *serve("udp:7000"))
    wait_for(lambda: udp_ask(socket.AF_INET, "127.0.0.1", port), timeout=60)
    wait_for(lambda: udp_ask(socket.AF_INET, host_address(), port))
    wait_for(lambda: udp_ask(socket.AF_INET6, "::1", port))
    there = ("import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(1);"
             "s.connect((sys.argv[1],int(sys.argv[2]))); s.send(b'hello'); print(s.recv(99).decode())")
    wait_for(lambda: subprocess.run([*machine[0], "/usr/bin/python3", "-c", there, machine[1], str(port)],
                                    capture_output=True, text=True).stdout == f"{machine[2]} 7000 hello\n")
    assert c("port", cid).ok().splitlines() == [f"7000/udp -> 0.0.0.0:{port}", f"7000/udp -> [::]:{port}"]


def test_a_client_of_datagrams_is_led_anew(c, machine):
    """It keeps sending from one port, before, while and after there is somebody: with no pause that the kernel would
    forget it in."""
    port = free_port()
    code = ("import socket,sys,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(0.1)\n"
            "while 1:\n try:\n  s.sendto(b'hello',(sys.argv[1],int(sys.argv[2]))); print(s.recv(99).decode(),flush=True)\n"
            " except OSError: pass\n time.sleep(0.05)\n")
    client = subprocess.Popen([*machine[0], "/usr/bin/python3", "-c", code, machine[1], str(port)], stdout=subprocess.PIPE,
                              text=True)
    try:
        for by in (7000, 7001):
            other = c.rund("busybox", "sleep", "1000")	# the next has another address
            cid = c.rund("-p", f"{port}:{by}/udp", *SERVER, *serve(f"udp:{by}"))
            wait_for(lambda: client.stdout.readline() == f"{machine[2]} {by} hello\n")
            c("rm", "-f", cid).ok()
    finally:
        client.kill()
        client.wait()


def test_sctp(engine, c):
    port = free_port()
    cid = c.rund("-p", f"{port}:80/sctp", "busybox", "sleep", "1000")
    address = inspect(c, cid, "{{.NetworkSettings.IPAddress}}")
    assert elements(engine) == [f"sctp . {port} : {address} . 80"]
    assert bindings(c, cid) == {"80/sctp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}
    r = c("run", "-p", f"[::1]:{port}:80/sctp", "busybox", "true")
    assert r.code == 125 and "SCTP ports are published at IPv4 addresses only" in r.err


def test_what_is_told(both):
    first = free_port(n=4)
    cid = both.rund("-p", f"{first}-{first + 1}:80-81", "-p", f"{first + 2}:{first + 2}/udp", "-p", f"127.0.0.1:{first + 3}:90",
                    "--expose", "99", "busybox", "sleep", "1000")
    both_families = lambda p: [{"HostIp": "0.0.0.0", "HostPort": str(p)}, {"HostIp": "::", "HostPort": str(p)}]
    assert bindings(both, cid) == {
        "80/tcp": both_families(first), "81/tcp": both_families(first + 1),
        f"{first + 2}/udp": both_families(first + 2),
        "90/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(first + 3)}], "99/tcp": None}
    assert json.loads(inspect(both, cid, "{{json .HostConfig.PortBindings}}"))["90/tcp"] == \
        [{"HostIp": "127.0.0.1", "HostPort": str(first + 3)}]
    assert both("port", cid, "80").ok().splitlines() == [f"0.0.0.0:{first}", f"[::]:{first}"]
    assert both("port", cid, f"{first + 2}/udp").ok().splitlines() == [f"0.0.0.0:{first + 2}", f"[::]:{first + 2}"]
    r = both("port", cid, "99")
    assert r.code == 1 and "o public port '99" in r.err
    shown = both("ps", "--format", "{{.Ports}}").ok().split(", ")
    assert set(shown) == {"99/tcp", f"0.0.0.0:{first}->80/tcp", f"[::]:{first}->80/tcp", f"0.0.0.0:{first + 1}->81/tcp",
                          f"[::]:{first + 1}->81/tcp", f"0.0.0.0:{first + 2}->{first + 2}/udp",
                          f"[::]:{first + 2}->{first + 2}/udp", f"127.0.0.1:{first + 3}->90/tcp"}
    for flt, hit in ((f"publish={first}", 1), (f"publish={first}/udp", 0), (f"publish={first + 2}/udp", 1), ("publish=80", 0),
                     (f"publish={first - 1}-{first + 1}", 1), ("publish=99", 0), ("expose=99", 1), ("expose=100-200/tcp", 0),
                     ("expose=80-99/tcp", 1)):
        assert len(both("ps", "-q", "--filter", flt).ok().split()) == hit, flt
    r = both("ps", "--filter", "publish=nonsense")
    assert r.code == 1 and "invalid" in r.err
    both("kill", cid).ok()
    wait_for(lambda: both.state(cid, "Running") == "false")
    assert bindings(both, cid) == {} and both("ps", "-a", "--format", "{{.Ports}}").ok() == ""
    assert both("port", cid).ok() == ""


def test_ranges_are_compressed_as_docker_does(engine, c):
    first = free_port(n=4)
    c.rund("-p", f"127.0.0.1:{first}-{first + 3}:{first}-{first + 3}", "busybox", "sleep", "1000")
    for cli in ("insula", "docker"):
        assert engine.cli(cli, "ps", "--format", "{{.Ports}}").ok() == f"127.0.0.1:{first}-{first + 3}->{first}-{first + 3}/tcp"


def test_random_port(c):
    cid = c.rund("-p", "80", "--expose", "81", "-P", *SERVER, *serve("tcp:80", "tcp:81"))
    low, high = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())
    ports = {k: host_port(c, cid, k) for k in ("80/tcp", "81/tcp")}
    assert len(set(ports.values())) == 2 and all(low <= p <= high for p in ports.values())
    for k, p in ports.items():
        assert answers("127.0.0.1", p)[1] == int(k[:2])
        assert {b["HostPort"] for b in bindings(c, cid)[k]} == {str(p)}
    c("restart", "-t", "0", cid).ok()
    again = {k: host_port(c, cid, k) for k in ("80/tcp", "81/tcp")}
    assert again != ports
    answers("127.0.0.1", again["80/tcp"])
    assert ask("127.0.0.1", ports["80/tcp"]) is None


def test_one_of_a_range(c):
    first = free_port(n=2)
    got = []
    for _ in range(2):
        cid = c.rund("-p", f"{first}-{first + 1}:80", "busybox", "sleep", "1000")
        got.append(host_port(c, cid, "80/tcp"))
    assert got == [first, first + 1]
    r = c("run", "-p", f"{first}-{first + 1}:80", "busybox", "true")
    assert r.code == 125 and "all ports are allocated" in r.err


def test_taken_by_ours(c):
    port = free_port()
    cid = c.rund("--name", f"first{port}", "-p", f"{port}:80", "busybox", "sleep", "1000")
    for spec, told in ((f"{port}:81", "0.0.0.0"), (f"127.0.0.1:{port}:81", "127.0.0.1")):
        r = c("run", "--name", f"second{port}", "-p", spec, "busybox", "true")
        assert r.code == 125
        assert re.search(rf"driver failed programming external connectivity on endpoint second{port} \([0-9a-f]{{64}}\): "
                         rf"Bind for {re.escape(told)}:{port} failed: port is already allocated", r.err)
        assert inspect(c, f"second{port}", "{{.State.Status}} {{.State.ExitCode}}") == "created 128"
        c("rm", f"second{port}").ok()
    c("run", "--rm", "-p", f"{port}:80/udp", "busybox", "true").ok()	# another protocol is another port
    c("stop", "-t", "0", cid).ok()
    c("run", "--rm", "-p", f"{port}:80", "busybox", "true").ok()	# at once
    c("start", cid).ok()


def test_taken_by_another_program(c):
    port = free_port()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen()
        r = c("run", "--rm", "-p", f"{port}:80", "busybox", "true")
        assert r.code == 125
        assert f"listen tcp4 0.0.0.0:{port}: bind: address already in use" in r.err
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", port))
        r = c("run", "--rm", "-p", f"{port}:80/udp", "busybox", "true")
        assert f"listen udp4 0.0.0.0:{port}: bind: address already in use" in r.err
    r = c("run", "--rm", "-p", f"203.0.113.7:{port}:80", "busybox", "true")
    assert f"listen tcp4 203.0.113.7:{port}: bind: cannot assign requested address" in r.err
    c("run", "--rm", "-p", f"{port}:80", "-p", f"{port}:80/udp", "busybox", "true").ok()


def test_no_other_program_takes_it(c):
    port = free_port()
    c.rund("-p", f"{port}:80", "-p", f"{port}:80/udp", "busybox", "sleep", "1000")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1")):
            with socket.socket(family, kind) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    s.bind((host, port))
                    s.listen()


def test_restart_of_the_daemon_and_kill(engine, c):
    """Traffic goes on, connections stay, and what ended meanwhile leaves nothing."""
    port = free_port(n=2)
    cid = c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    gone = c.rund("-p", f"{port + 1}:80", "busybox", "sleep", "1000")
    answers("127.0.0.1", port)
    before, told = elements(engine), bindings(c, cid)
    assert len(before) == 2
    pid = inspect(c, gone, "{{.State.Pid}}")
    sup = subprocess.run(["pgrep", "-f", "--", f"--sandbox {gone}"], capture_output=True, text=True).stdout.split()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        assert s.recv(100).endswith(b" 80 ")

        def echo(word):
            s.sendall(word)
            return s.recv(100) == word
        assert echo(b"one")
        engine.kill9()
        assert echo(b"two")
        assert ask("127.0.0.1", port) and ask("::1", port)
        assert sup
        for p in sup:
            with contextlib.suppress(ProcessLookupError):       # one takes the other along
                os.kill(int(p), 9)
        engine.start()
        assert echo(b"three")
        assert ask("127.0.0.1", port)
        assert bindings(c, cid) == told
        wait_for(lambda: len(elements(engine)) == 1)
        engine.stop()
        assert echo(b"four")
        engine.start()
        assert echo(b"five") and len(elements(engine)) == 1
    c("rm", "-f", cid, gone).ok()
    assert not elements(engine)


def test_our_table_is_renewed(engine, c, machine):
    """Somebody flushes all rules: ours come back, with what is published; while they are away the supervisor relays."""
    port = free_port()
    cid = c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    answers("127.0.0.1", port)
    table = table_of(engine)[0]
    gateway = inspect(c, cid, "{{.NetworkSettings.Gateway}}")
    for daemon in (True, False):
        if not daemon:
            engine.kill9()
        subprocess.run(["nft", "delete", "table", "ip", table], check=True)
        assert ask("127.0.0.1", port)
        if not daemon:
            assert ask_from(machine, machine[1], port) == (gateway, 80)
            engine.start()
        wait_for(lambda: ask_from(machine, machine[1], port) == (machine[2], 80))
        assert len(elements(engine)) == 1


def test_a_host_firewall_can_say_no(engine, c, machine):
    port = free_port()
    c.rund("-p", f"{port}:80", *SERVER, *serve("tcp:80"))
    answers("127.0.0.1", port)
    assert ask_from(machine, machine[1], port)
    table = table_of(engine)[0]
    subprocess.run(["nft", "add", "rule", "ip", table, "insula-user", "ip", "saddr", machine[2], "drop"], check=True)
    try:
        assert ask_from(machine, machine[1], port) is None
        assert ask("127.0.0.1", port)
        engine.stop()	# a daemon that is renewed keeps the rule
        engine.start()
        c.rund("-p", "80", "busybox", "true")
        assert "insula-user" in table_of(engine)[1] and machine[2] in table_of(engine)[1]
    finally:
        subprocess.run(["nft", "flush", "chain", "ip", table, "insula-user"], check=True)
    assert ask_from(machine, machine[1], port)


def test_warned_of_a_firewall(engine, c, machine):
    """A table of somebody else that drops what is forwarded: told at create, with the command that opens it. Of one
    interface only: other tests run beside this one."""
    port = free_port()
    bridge = bridge_of(engine)
    name = f"fw{os.getpid()}"
    drop = f"""table inet {name} {{ chain f {{ type filter hook forward priority 10; policy drop;
        iifname != "{machine[0][-1]}" oifname != "{machine[0][-1]}" accept
        }}
        }}"""
    subprocess.run(["nft", "-f", "-"], input=drop, text=True, check=True)
    try:
        cid = c("create", "-p", f"{port}:80", *SERVER, *serve("tcp:80"))
        want = f"nft insert rule inet {name} f iifname {bridge} accept; nft insert rule inet {name} f oifname {bridge} accept"
        assert want in cid.err and f"Chain f of table inet {name} drops" in cid.err
        c("start", cid.ok()).ok()
        answers("127.0.0.1", port)
        assert ask_from(machine, machine[1], port) is None
        subprocess.run(want, shell=True, check=True)
        assert ask_from(machine, machine[1], port)
        assert name not in c("create", "-p", "80", "busybox", "true").err
    finally:
        subprocess.run(["nft", "delete", "table", "inet", name], check=True)


def knocks(server, start, sent):
    """Whether a connection that this command asks for arrives at our server, in the second after it was sent."""
    p = start()
    server.settimeout(1)
    try:
        wait_for(sent)
        server.accept()[0].close()
        return True
    except TimeoutError:
        return False
    finally:
        p.kill()
        p.communicate(timeout=60)


@contextlib.contextmanager
def loopback_counter():
    """How many frames for 127/8 have come to bridges, before anybody drops them."""
    name = f"count{os.getpid()}"
    rules = f"""table bridge {name} {{ chain c {{ type filter hook prerouting priority -400
        ip daddr 127.0.0.0/8 counter
        }}
        }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield lambda: int(re.search(r"packets (\d+)", subprocess.run(["nft", "list", "table", "bridge", name], capture_output=True,
                                                                     text=True, check=True).stdout)[1])
    finally:
        subprocess.run(["nft", "delete", "table", "bridge", name], check=True)


def comes_in(server, way):
    """As knocks(), of a frame that was sent and has come to a bridge. Which table drops it there is not looked into: each
    insulad of the host has a guard (test_firewalls.py has one alone)."""
    with loopback_counter() as count:
        return knocks(server, way, lambda: count() > 0)


def test_host_loopback_is_closed_to_containers(engine, c, machine):
    """route_localnet is on for the bridge: a container that sends packets for 127.0.0.1 to the bridge gets nothing, nor
    does what somebody has plugged into the bridge."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cid = c.rund("--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.conf.all.route_localnet=1", "-p", "80", "busybox",
                     "sleep", "1000")
        gateway, prefix = inspect(c, cid, "{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}}").split()
        c("exec", cid, "sh", "-c", "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via " + gateway).ok()
        free = ipaddress.ip_network(f"{gateway}/{prefix}", strict=False)[-2]
        subprocess.run(["ip", "link", "set", machine[3], "master", bridge_of(engine)], check=True)
        subprocess.run([*machine[0], "sh", "-ec", f"""ip addr add {free}/{prefix} dev eth0; ip addr del 127.0.0.1/8 dev lo
            echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.1 via {gateway}"""], check=True)
        ways = [lambda: c.popen("exec", cid, "nc", "-w", "2", "127.0.0.1", port, stdin=subprocess.DEVNULL),
                lambda: subprocess.Popen([*machine[0], "/usr/bin/python3", "-c", FROM_THERE, "127.0.0.1", str(port)],
                                         stderr=subprocess.DEVNULL)]
        assert [comes_in(server, w) for w in ways] == [False, False]
        engine.stop()
        engine.start()
        c.rund("-p", "80", "busybox", "true")
        assert [comes_in(server, w) for w in ways] == [False, False]


def test_ports_follow_the_default_route(engine, c, machine):
    """Docker's rule: published ports lead into the network that has the default route, whichever that is by now."""
    port, nets = free_port(), [f"follow{os.getpid()}{x}" for x in "ab"]
    for n in nets:
        engine.cli("insula", "network", "create", n).ok()
    try:
        cid = c.rund("--network", nets[0], "-p", f"{port}:80", "-p", "81", *SERVER, *serve("tcp:80", "tcp:81"))

        def target(net):
            return inspect(c, cid, "{{(index .NetworkSettings.Networks \"%s\").IPAddress}}" % net)

        def led_to(net):
            other = host_port(c, cid, "81/tcp")
            wait_for(lambda: ask_from(machine, machine[1], port) == (machine[2], 80))
            wait_for(lambda: ask_from(machine, machine[1], other) == (machine[2], 81))
            assert all(f" : {target(net)} . " in x for x in elements(engine)) and len(elements(engine)) == 2
            assert ask("::1", port)
        led_to(nets[0])
        c("network", "connect", nets[1], cid).ok()      # behind the other, by name
        led_to(nets[0])
        c("network", "disconnect", nets[0], cid).ok()
        led_to(nets[1])
        c("network", "connect", nets[0], cid).ok()      # and before it
        led_to(nets[0])
        c("network", "disconnect", nets[1], cid).ok()
        c("network", "disconnect", nets[0], cid).ok()   # nowhere: they are let go
        assert not elements(engine) and bindings(c, cid)["80/tcp"] is None
        socket.create_server(("0.0.0.0", port)).close()
        c("network", "connect", "--gw-priority", "5", nets[1], cid).ok()
        led_to(nets[1])
        c("network", "connect", nets[0], cid).ok()
        led_to(nets[1])
    finally:
        c.cleanup()
        for n in nets:
            engine.cli("insula", "network", "rm", n).ok()


def test_refused(both):
    for spec, why in (("70000:80", "invalid"), ("80:0", "invalid"), ("300.0.0.1:80:80", "invalid"), ("80-81:90-92", "invalid")):
        r = both("create", "-p", spec, "busybox", "true")
        assert r.code in (1, 125) and why in r.err.lower(), spec
    port = free_port()
    r = both("create", "--network", "none", "-p", f"{port}:80", "busybox", "true")
    assert r.ok() and "Published ports are discarded when using none network mode" in r.err


def test_default_address(engine, c, tmp_path):
    """--ip of the daemon."""
    port = free_port(n=2)
    engine.stop()
    engine.extra += ["--ip", "127.0.0.1"]
    try:
        engine.start()
        cid = c.rund("-p", f"{port}:80", "-p", f"0.0.0.0:{port + 1}:80", "busybox", "sleep", "1000")
        assert [b["HostIp"] for b in bindings(c, cid)["80/tcp"]] == ["127.0.0.1", "0.0.0.0"]
        c("rm", "-f", cid).ok()
    finally:
        engine.stop()
        del engine.extra[-2:]
        engine.start()


def test_many_ports_of_one_container(engine, isolation, c):
    """Each is an element and a socket; all go at once."""
    first = free_port(n=100)
    cid = c.rund("-p", f"127.0.0.1:{first}-{first + 99}:1000-1099", "busybox", "sleep", "1000")
    assert len(elements(engine)) == 100
    sup = subprocess.run(["pgrep", "-f", "--", f"--sandbox {cid}"], capture_output=True, text=True).stdout.split()[0]
    assert len([to for to in descriptors(sup).values() if to.startswith("socket:")]) >= 100
    c("rm", "-f", cid).ok()
    assert not elements(engine)
    assert free_port()
    with socket.create_server(("127.0.0.1", first + 50)):
        pass
