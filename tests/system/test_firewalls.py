"""Beside another program's table that drops what is forwarded: what is said at create, and the opening that the daemon
makes where it is told to (--open-firewall). The daemon lives in a network namespace of its own, and with it Docker's
rules as dockerd writes them, or Debian's ufw or firewalld with settings of their own."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import IMAGES, Cli, Engine, free_port, wait_for
from test_ports import FROM_THERE, SERVER, serve

DOCKER = """iptables -P FORWARD DROP && iptables -N DOCKER-USER && iptables -A DOCKER-USER -j RETURN &&
    iptables -A FORWARD -j DOCKER-USER && ip6tables -P FORWARD DROP && ip6tables -N DOCKER-USER &&
    ip6tables -A DOCKER-USER -j RETURN && ip6tables -A FORWARD -j DOCKER-USER"""
BRIDGE = '{{index .Options "com.docker.network.bridge.name"}}'
NEAR, FAR = "198.19.77.1", "198.19.77.2"


class Walled:
    """A daemon in a namespace, and another machine."""
    def __init__(self, base):
        n = f"if{os.getpid() % 100000}"
        self.here, self.there = n + "a", n + "b"
        self.run(f"ip netns add {self.here} && ip netns add {self.there} && "
                 f"ip -n {self.here} link add eth0 type veth peer name eth0 netns {self.there} && "
                 f"ip -n {self.here} addr add {NEAR}/24 dev eth0 && ip -n {self.there} addr add {FAR}/24 dev eth0 && "
                 f"ip -n {self.here} addr add fd77::1/64 dev eth0 nodad && ip -n {self.there} addr add fd77::2/64 dev eth0 nodad && "
                 + " && ".join(f"ip -n {ns} link set {dev} up" for ns in (self.here, self.there) for dev in ("lo", "eth0")))
        self.engine = Engine(base)
        self.engine.prefix = ["nsenter", f"--net=/run/netns/{self.here}"]

    @staticmethod
    def run(script):
        return subprocess.run(script, shell=True, check=True, capture_output=True, text=True).stdout

    def inside(self, script):
        return subprocess.run([*self.engine.prefix, "sh", "-c", script], check=True, capture_output=True, text=True).stdout

    def start(self, *extra):
        self.engine.extra = list(extra)
        self.engine.start()
        self.engine.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()

    def ask(self, port, host=NEAR):
        r = subprocess.run(["nsenter", f"--net=/run/netns/{self.there}", "/usr/bin/python3", "-c", FROM_THERE, host, str(port)],
                           capture_output=True, text=True)
        return r.stdout.split(" ")[2:] == ["hello"]

    def stop(self):
        self.engine.stop()
        for ns in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", ns], check=False)


@pytest.fixture
def walled(tmp_path):
    w = Walled(tmp_path / "e")
    try:
        yield w
    finally:
        w.stop()


def server(c, name, port):
    """Created beside a server; what create has to say."""
    return c("create", "--network", name, "-p", f"{port}:80", *SERVER, *serve("tcp:80"))


def test_told_how_to_open(walled, isolation):
    walled.inside(DOCKER)
    walled.start()
    c, port = Cli(walled.engine, "insula", isolation), free_port()
    try:
        nid = c("network", "create", "--ipv6", "n").ok()
        made = server(c, "n", port)
        bridge = f"in-{nid[:12]}"
        c("start", made.ok()).ok()
        wait_for(lambda: c("exec", made.out.strip(), "sh", "-c", "echo up | nc -w 5 127.0.0.1 80").out.endswith("up\n"),
                 timeout=60)
        assert not walled.ask(port)
        for f, p in (("ip", "iptables"), ("ip6", "ip6tables")):
            want = f"{p} -I DOCKER-USER -i {bridge} -j ACCEPT; {p} -I DOCKER-USER -o {bridge} -j ACCEPT"
            assert f"Chain FORWARD of table {f} filter (Docker) drops what is forwarded to and from bridge {bridge}" in made.err
            assert f"Open it by: {want}" in made.err
            walled.inside(want)
        assert walled.ask(port) and walled.ask(port, "fd77::1")
        assert "drops" not in server(c, "n", free_port()).err
        # the default bridge is another one
        assert f"bridge {walled.engine.cli('docker', 'network', 'inspect', '-f', BRIDGE, 'bridge').ok()}" in c("create", "-p", "80", "busybox").err
    finally:
        c.cleanup()


LISTENER = """import socket
s = socket.create_server(("127.0.0.1", 7777))
while True:
    a = s.accept()[0]
    a.sendall(b"in")
    a.close()"""


def test_the_guard_alone_closes_the_loopback(walled, isolation):
    """A server at 127.0.0.1 of the host, where no other daemon has a guard: a container reaches it, by a bridge that takes
    such addresses, as soon as our rules are gone, and not while they are there."""
    walled.start()
    c = Cli(walled.engine, "insula", isolation)
    server = subprocess.Popen([*walled.engine.prefix, "/usr/bin/python3", "-c", LISTENER])
    try:
        cid = c.rund("--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.conf.all.route_localnet=1", "-p", "80", "busybox", "sleep", "1000")
        gateway = c("inspect", "-f", "{{.NetworkSettings.Gateway}}", cid).ok()
        c("exec", cid, "sh", "-c", f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via {gateway}").ok()
        bridge = walled.engine.cli("docker", "network", "inspect", "-f", BRIDGE, "bridge").ok()
        assert walled.inside(f"cat /proc/sys/net/ipv4/conf/{bridge}/route_localnet") == "1\n"
        wait_for(lambda: walled.inside("ss -Hltn sport = :7777"))
        table, = re.findall(r"table bridge (\S+)", walled.inside("nft list tables"))

        def comes_in():
            return c("exec", cid, "sh", "-c", "nc -w 5 127.0.0.1 7777 </dev/null").out == "in"
        assert not comes_in()
        walled.inside(f"nft flush chain bridge {table} prerouting")
        assert comes_in()
        walled.engine.stop()
        walled.engine.start()
        wait_for(lambda: "127.0.0.0/8 drop" in walled.inside(f"nft list chain bridge {table} prerouting"))
        assert not comes_in()
    finally:
        server.kill()
        server.wait()
        c.cleanup()


def test_opened(walled, isolation):
    walled.inside(DOCKER)
    walled.start("--open-firewall")
    c, port = Cli(walled.engine, "insula", isolation), free_port(n=2)
    try:
        bridge = f"in-{c('network', 'create', '--ipv6', 'n').ok()[:12]}"
        made = server(c, "n", port)
        assert "drops" not in made.err
        c("start", made.ok()).ok()
        wait_for(lambda: walled.ask(port), timeout=60)
        assert walled.ask(port, "fd77::1")
        first = server(c, "bridge", port + 1).ok()
        c("start", first).ok()
        wait_for(lambda: walled.ask(port + 1), timeout=60)
        rules = walled.inside("iptables -S DOCKER-USER; ip6tables -S DOCKER-USER")
        assert len(re.findall(f"-[io] {bridge} -j ACCEPT", rules)) == 4
        c("rm", "-f", made.out.strip(), first).ok()
        c("network", "rm", "n").ok()
        wait_for(lambda: bridge not in walled.inside("iptables -S DOCKER-USER; ip6tables -S DOCKER-USER"))
    finally:
        c.cleanup()
    walled.engine.stop()
    assert walled.inside("iptables -S DOCKER-USER") == "-N DOCKER-USER\n-A DOCKER-USER -j RETURN\n"
    assert "insula" not in walled.inside("nft list tables")


BUS = """<busconfig><listen>unix:path={0}/bus</listen><auth>EXTERNAL</auth><policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""


class Ufw:
    """Debian's, in the namespace, with a copy of its settings instead of the host's."""
    name, table = "ufw", "FORWARD of table ip filter"

    def __init__(self, walled, place):
        self.walled, self.place = walled, place
        shutil.copytree("/etc/ufw", place / "etc")
        (place / "bin/ufw").write_text("#!/bin/sh\nexec unshare -m --propagation private sh -ec 'mount --bind "
                                       f"{place}/etc /etc/ufw; exec /usr/sbin/ufw \"$@\"' ufw \"$@\"\n")
        (place / "bin/ufw").chmod(0o755)
        walled.inside("ufw --force enable")

    def settings(self):
        return (self.place / "etc/user.rules").read_text() + (self.place / "etc/user6.rules").read_text()

    def stop(self):
        pass


class Firewalld:
    """Debian's, in the namespace, with settings and a bus of its own."""
    name, table = "firewalld", "filter_FORWARD of table inet firewalld"

    def __init__(self, walled, place):
        self.place, self.procs = place, []
        shutil.copytree("/etc/firewalld", place / "etc")
        (place / "bus.conf").write_text(BUS.format(place))
        address = f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={place}/bus"
        (place / "bin/firewall-cmd").write_text(f"#!/bin/sh\n{address} exec /usr/bin/firewall-cmd \"$@\"\n")
        (place / "bin/firewall-cmd").chmod(0o755)
        log = open(place / "log", "wb")
        self.procs.append(subprocess.Popen(["dbus-daemon", f"--config-file={place}/bus.conf", "--nofork", "--nopidfile"], stderr=log))
        wait_for(lambda: (place / "bus").exists())
        self.procs.append(subprocess.Popen(
            [*walled.engine.prefix, "env", address, "/usr/sbin/firewalld", "--nofork", "--nopid", "--system-config", place / "etc",
             "--log-file", place / "fw.log"], stdout=log, stderr=log))
        wait_for(lambda: subprocess.run([place / "bin/firewall-cmd", "--state"], capture_output=True).returncode == 0)

    def settings(self):
        f = self.place / "etc/zones/trusted.xml"
        return f.read_text() if f.exists() else ""

    def stop(self):
        for p in self.procs[::-1]:
            p.terminate()
            p.wait(60)


@pytest.fixture(params=[Ufw, Firewalld], ids=["ufw", "firewalld"])
def real(request, walled, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    fw = request.param(walled, tmp_path)
    try:
        yield fw
    finally:
        walled.engine.stop()
        fw.stop()


def goes_out(walled, c, cid):
    """Whether it reaches another machine."""
    far = ["nsenter", f"--net=/run/netns/{walled.there}", "/usr/bin/python3", "-c", LISTENER.replace("127.0.0.1", FAR)]
    with subprocess.Popen(far) as p:
        try:
            wait_for(lambda: walled.run(f"ip netns exec {walled.there} ss -Hltn sport = :7777"))
            return c("exec", cid, "sh", "-c", f"nc -w 4 {FAR} 7777 </dev/null").out == "in"
        finally:
            p.kill()


def has_names(c, cid):
    return c("exec", cid, "nslookup", "-type=a", "peer").code == 0


def test_told_how_to_open_the_real_ones(walled, real, isolation):
    walled.start()
    c, port = Cli(walled.engine, "insula", isolation), free_port()
    try:
        bridge = f"in-{c('network', 'create', 'n').ok()[:12]}"
        made = server(c, "n", port)
        c("start", made.ok()).ok()
        peer = c.rund("--network", "n", "--name", "peer", "busybox", "sleep", "1000")
        assert f"Chain {real.table} ({real.name}) drops what is forwarded to and from bridge {bridge}" in made.err
        assert ("drops what containers on bridge" in made.err) == (not has_names(c, peer)) == (real.name == "ufw")
        assert not goes_out(walled, c, peer) and bridge not in real.settings()
        for command in re.findall("Open it by: (.*)", made.err):
            walled.inside(command)
        assert bridge in real.settings() and goes_out(walled, c, peer) and has_names(c, peer)
        wait_for(lambda: walled.ask(port), timeout=60)
        assert "drops" not in server(c, "n", free_port()).err
    finally:
        c.cleanup()


def test_the_real_ones_are_opened(walled, real, isolation):
    walled.start("--open-firewall")
    c, port = Cli(walled.engine, "insula", isolation), free_port()
    try:
        bridge = f"in-{c('network', 'create', '--ipv6', 'n').ok()[:12]}"
        made = server(c, "n", port)
        assert "drops" not in made.err and bridge in real.settings()
        c("start", made.ok()).ok()
        peer = c.rund("--network", "n", "--name", "peer", "busybox", "sleep", "1000")
        wait_for(lambda: walled.ask(port) and walled.ask(port, "fd77::1"), timeout=60)
        assert goes_out(walled, c, peer) and has_names(c, peer)
        c("rm", "-f", made.out.strip(), peer).ok()
        c("network", "rm", "n").ok()
        wait_for(lambda: bridge not in real.settings() + walled.inside("nft list ruleset"))
    finally:
        c.cleanup()


def test_names_behind_a_wall_of_ones_own(walled, isolation):
    """A chain that nobody has a command for: the rule that is told opens it, and its port outlives the machine's restart."""
    walled.inside("nft 'add table inet own; add chain inet own i { type filter hook input priority 0; policy drop; }'")
    walled.start()
    c = Cli(walled.engine, "insula", isolation)
    try:
        c("network", "create", "n").ok()
        peer = c("create", "--network", "n", "--name", "peer", "busybox", "sleep", "1000")
        c("start", peer.ok()).ok()
        assert "Chain i of table inet own drops what containers on bridge" in peer.err and not has_names(c, "peer")
        walled.inside(re.search("Open it by: (.*)", peer.err)[1])
        assert has_names(c, "peer")
        assert "drops" not in c("create", "--network", "n", "busybox").err
        c.cleanup()
        walled.engine.stop()
        shutil.rmtree(walled.engine.run_dir)
        walled.engine.start()
        c.rund("--network", "n", "--name", "peer", "busybox", "sleep", "1000")
        assert has_names(c, "peer")
    finally:
        c.cleanup()
