"""User-defined networks: what docker's commands say, traffic and names in and across both modes, connect and
disconnect while running, and what is left behind (nothing)."""
import ipaddress
import itertools
import json
import os
import subprocess
import time

import pytest

from conftest import BUILD, IMAGES, Cli, Engine, command_of, host_state, wait_for
from test_ports import machine  # noqa: F401  (the fixture)


def links():
    return set(os.listdir("/sys/class/net"))


@pytest.fixture
def nets(engine):
    """Makes networks of a test; when it is over they and their bridges are gone."""
    made = []

    def make(*args, cli="insula"):
        name = f"t{os.getpid()}-{len(made)}"
        nid = engine.cli(cli, "network", "create", *args, name).ok()
        made.append((name, nid))
        return name
    yield make
    for name, nid in made:
        left = engine.cli("insula", "ps", "-aq", "--filter", f"network={name}").ok().split()
        if left:
            engine.cli("insula", "rm", "-f", *left).ok()
        engine.cli("insula", "network", "rm", name).ok()
        assert f"in-{nid[:12]}" not in links()


def error(result):
    assert result.code != 0, result
    return result.err


def test_commands(engine, cli_name):
    def net(*args):
        return engine.cli(cli_name, "network", *args)
    name = "cmd-" + cli_name
    since = int(time.time())
    nid = net("create", "--label", "a=b", "--subnet", "10.78.0.0/24", "--ip-range", "10.78.0.128/25",
              "--gateway", "10.78.0.254", "--opt", "com.docker.network.driver.mtu=1400", name).ok()
    try:
        bridge = json.loads(subprocess.check_output(["ip", "-j", "addr", "show", f"in-{nid[:12]}"]))[0]
        assert [a["local"] for a in bridge["addr_info"] if a["family"] == "inet"] == ["10.78.0.254"]
        d = json.loads(net("inspect", name).ok())[0]
        assert d["Labels"] == {"a": "b"} and d["Driver"] == "bridge" and not d["Internal"] and d["Id"] == nid
        assert d["IPAM"]["Config"] == [{"Subnet": "10.78.0.0/24", "IPRange": "10.78.0.128/25", "Gateway": "10.78.0.254"}]
        assert net("ls", "-q", "--filter", "label=a=b").ok() == nid[:12]
        assert name in net("ls", "--filter", "type=custom", "--format", "{{.Name}}").ok().split()
        assert f"network with name {name} already exists" in error(net("create", name))
        assert "Pool overlaps with other one on this address space" in error(net("create", "--subnet", "10.78.0.0/16", "o"))
        assert "operation is not permitted on predefined host network" in error(net("create", "host"))
        assert "bridge is a pre-defined network and cannot be removed" in error(net("rm", "bridge"))
        assert "network nosuch not found" in error(net("rm", "nosuch"))
        assert "not supported by this version of insula" in error(net("create", "-d", "ipvlan", "x"))
        assert "it should be 10.79.0.0/24" in error(net("create", "--subnet", "10.79.0.1/24", "x"))
    finally:
        net("rm", name).ok()
    assert f"in-{nid[:12]}" not in links()
    events = engine.cli(cli_name, "events", "--since", since, "--until", int(time.time()) + 1, "--filter", f"network={name}",
                        "--format", "{{.Action}}").out.split()
    assert events == ["create", "destroy"]


def test_endpoint_errors(both, nets):
    net = nets("--subnet", "10.80.0.0/29")
    c = both.rund("--network", net, "--ip", "10.80.0.4", "busybox", "sleep", "1000")
    assert json.loads(both("inspect", c).ok())[0]["NetworkSettings"]["Networks"][net]["IPAddress"] == "10.80.0.4"
    assert f"network {net} id" in error(both("network", "rm", net)) and "has active endpoints" in error(both("network", "rm", net))
    assert "Address already in use" in error(both("run", "--rm", "--network", net, "--ip", "10.80.0.4", "busybox", "true"))
    assert "no configured subnet" in error(both("run", "--rm", "--network", net, "--ip", "10.81.0.4", "busybox", "true"))
    assert "user defined networks only" in error(both("run", "--rm", "--ip", "172.30.0.9", "busybox", "true"))
    assert f"endpoint with name" in error(both("network", "connect", net, c))
    assert "is not connected to the network" in error(both("network", "disconnect", "bridge", c))
    assert "host network" in error(both("network", "connect", "host", c))
    assert both("ps", "-q", "--no-trunc", "--filter", f"network={net}").ok() == c
    assert [*json.loads(both("network", "inspect", net).ok())[0]["Containers"]] == [c]


def test_no_address_left(both, nets):
    """Of a network that has room for one: who comes too late is told so and holds nothing, and what is given back is there again."""
    net = nets("--subnet", "10.80.1.0/30")
    first = both.rund("--network", net, "busybox", "sleep", "1000")
    before = host_state(both.engine.base)
    said = f"no available IPv4 addresses on this network's address pools: {net}"
    assert said in error(both("run", "--rm", "--network", net, "busybox", "true"))
    late = both("create", "--network", net, "busybox", "true").ok()
    for _ in range(2):
        assert said in error(both("start", late))
    assert both("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", late).ok() == "created 128"
    other = both.rund("busybox", "sleep", "1000")
    assert said in error(both("network", "connect", net, other))
    both("rm", "-f", other).ok()
    wait_for(lambda: host_state(both.engine.base) - before == {f"dir data/containers/{late}"})
    assert [*json.loads(both("network", "inspect", net).ok())[0]["Containers"]] == [first]
    # at once, though the interface of the last one is there for a moment yet
    both("rm", "-f", late, first).ok()
    for address in (["--ip", "10.80.1.2"], [], []):
        both("rm", "-f", both.rund("--network", net, *address, "busybox", "sleep", "1000")).ok()
    other, last = (both.rund("--network", x, "busybox", "sleep", "1000") for x in ("bridge", net))
    both("rm", "-f", last).ok()
    both("network", "connect", net, other).ok()


def test_from_none_to_another(both, nets):
    """Disconnected from none it takes a network, where it finds names; and back."""
    net = nets("--subnet", "10.80.3.0/29")
    both.rund("--network", net, "--name", f"peer-{net}", "busybox", "sleep", "1000")
    cid = both.rund("--network", "none", "busybox", "sleep", "1000")
    assert "private (none) mode" in error(both("network", "connect", net, cid))
    both("network", "disconnect", "none", cid).ok()
    assert "was started without a network: stop it to connect it to one" in error(both("network", "connect", net, cid))
    both("stop", "-t", "0", cid).ok()
    both("network", "connect", net, cid).ok()
    assert "private (none) mode" in error(both("network", "connect", "none", cid))
    both("start", cid).ok()
    both("exec", cid, "ping", "-c", "1", "-w", "20", f"peer-{net}").ok()
    assert [*json.loads(both("inspect", cid).ok())[0]["NetworkSettings"]["Networks"]] == [net]
    both("network", "disconnect", net, cid).ok()
    both("network", "connect", "none", cid).ok()
    both("restart", "-t", "0", cid).ok()
    assert both("exec", cid, "ls", "/sys/class/net").ok().split() == ["lo"]


@pytest.fixture
def secluded(tmp_path):
    """A daemon with a network namespace of its own: subnets that are taken there are not missing elsewhere."""
    e = Engine(tmp_path / "e")
    e.prefix = ["unshare", "-n"]
    e.start()
    yield e
    e.stop()


def test_no_subnet_left(secluded, cli_name):
    """Networks are made until there is no subnet; with the last the room for one is there again."""
    made, engine = [], secluded

    def links():
        return {x.split(":")[0].strip() for x in open(f"/proc/{engine.proc.pid}/net/dev") if ":" in x}
    try:
        for i in range(100):
            r = engine.cli(cli_name, "network", "create", f"many{i}")
            if r.code:
                break
            made.append(f"many{i}")
        assert r.code == 1 and "all predefined address pools have been fully subnetted" in r.err
        before = links()
        assert len(before) > len(made)
        assert engine.cli(cli_name, "network", "create", "more").code == 1 and links() == before
        engine.cli(cli_name, "network", "create", "--subnet", "10.80.2.0/24", "own").ok()
        engine.cli(cli_name, "network", "rm", "own", made.pop()).ok()
        engine.cli(cli_name, "network", "create", "again").ok()
        made.append("again")
    finally:
        engine.cli(cli_name, "network", "rm", *made)


SERVER = "httpd -f -p 80 -h /etc & exec /t/netserve udp:53000"


def datagrams(text):
    """How many have come, by /proc/net/snmp."""
    return int([x.split()[1] for x in text.splitlines() if x.startswith("Udp: ") and x.split()[1].isdigit()][0])


@pytest.mark.parametrize("server_mode", ["process", "hyperv"])
def test_traffic_and_names(engine, isolation, server_mode, nets, leaks):
    """TCP, UDP and names between each pair of modes; aliases, short id, reverse; not from another network."""
    net, server, client = nets(), Cli(engine, "insula", server_mode), Cli(engine, "insula", isolation)
    name = f"srv-{isolation}-{server_mode}"
    try:
        s = server.rund("--network", net, "--name", name, "--network-alias", "web", "--hostname", "thehost",
                        "-v", f"{BUILD}/tests:/t:ro", "busybox", "sh", "-c", SERVER)
        ip = json.loads(server("inspect", s).ok())[0]["NetworkSettings"]["Networks"][net]["IPAddress"]
        c = client.rund("--network", net, "--network-alias", "cli", "busybox", "sleep", "1000")

        def run(*cmd):
            return client("exec", c, *cmd)
        wait_for(lambda: run("wget", "-qO-", f"http://{name}/hostname").out.strip() == "thehost")
        for other in ("web", "WEB", s[:12], "thehost", f"web.{net}"):
            assert f"Address: {ip}" in run("nslookup", "-type=a", other).out, other
        assert f"name = {name}.{net}" in run("nslookup", ip).out
        assert run("nslookup", "nosuchname").code != 0
        # a datagram there (tftp's, which the server answers in its own way) and one back
        before = datagrams(run("cat", "/proc/net/snmp").ok())
        run("timeout", "5", "tftp", "-g", "-r", "x", "-l", "/x", ip, "53000")
        assert datagrams(run("cat", "/proc/net/snmp").ok()) > before
        # a bulk of data arrives whole
        server("exec", s, "sh", "-c", "dd if=/dev/urandom of=/etc/big bs=1M count=4 2>/dev/null").ok()
        want = server("exec", s, "md5sum", "/etc/big").ok().split()[0]
        assert run("sh", "-c", "wget -qO- http://web/big | md5sum").ok().split()[0] == want
        # names go when their container goes
        server("rm", "-f", s).ok()
        wait_for(lambda: run("nslookup", "web").code != 0)
    finally:
        client.cleanup()
        server.cleanup()


def bridge_address(engine, network):
    """The bridge's own: it must not follow its ports, or neighbours lose the gateway."""
    name = "in-" + engine.cli("insula", "network", "inspect", "-f", "{{.Id}}", network).ok()[:12]
    try:
        return open(f"/sys/class/net/{name}/address").read().strip()
    except OSError:
        return None


def test_networks_are_apart(engine, isolation, nets, leaks):
    a, b, inner, c = nets(), nets(), nets("--internal"), Cli(engine, "insula", isolation)
    try:
        one = c.rund("--network", a, "--name", f"one-{isolation}", "busybox", "sleep", "1000")
        address = bridge_address(engine, a)
        two = c.rund("--network", b, "--network", inner, "--name", f"two-{isolation}", "busybox", "sleep", "1000")
        ip = json.loads(c("inspect", one).ok())[0]["NetworkSettings"]["Networks"][a]["IPAddress"]
        assert c("exec", two, "ping", "-c1", "-W1", ip).code != 0
        assert c("exec", two, "nslookup", f"one-{isolation}").code != 0
        assert "eth1" in c("exec", two, "ip", "-4", "addr").ok()
        # through another network it is reached, by name; and no more when that is taken away
        assert c("exec", one, "ip", "-4", "addr").out.count("inet ") == 2
        c("network", "connect", "--alias", "uno", b, one).ok()
        assert "eth1" in c("exec", one, "ip", "-4", "addr").ok()
        c("exec", two, "ping", "-c1", "-W5", "uno").ok()
        c("exec", one, "ping", "-c1", "-W5", f"two-{isolation}").ok()
        assert set(json.loads(c("inspect", one).ok())[0]["NetworkSettings"]["Networks"]) == {a, b}
        c("network", "disconnect", b, one).ok()
        assert c("exec", two, "nslookup", "uno").code != 0
        wait_for(lambda: "eth1" not in c("exec", one, "ip", "-4", "addr").ok())
        # again, and the first one goes
        c("network", "connect", b, one).ok()
        c("network", "disconnect", a, one).ok()
        c("exec", one, "ping", "-c1", "-W5", f"two-{isolation}").ok()
        c("exec", two, "ping", "-c1", "-W5", f"one-{isolation}").ok()
        assert bridge_address(engine, b).startswith("02:42:") and bridge_address(engine, a) in (address, None)
        # an internal network has no way out
        three = c.rund("--network", inner, "busybox", "sleep", "1000")
        assert "default" not in c("exec", three, "ip", "route").ok()
        c("exec", three, "ping", "-c1", "-W5", f"two-{isolation}").ok()
    finally:
        c.cleanup()


def test_created_and_stopped(both, nets):
    """Connecting a container that does not run takes effect at its start; as docker-compose does it."""
    a, b = nets(), nets()
    c = both("create", "--network", a, "busybox", "sleep", "1000").ok()
    both("network", "disconnect", a, c).ok()
    both("network", "connect", "--alias", "me", "--alias", c[:12], a, c).ok()
    both("network", "connect", b, c).ok()
    both("start", c).ok()
    try:
        got = json.loads(both("inspect", c).ok())[0]["NetworkSettings"]["Networks"]
        assert got[a]["Aliases"] == ["me", c[:12]] and got[b]["IPAddress"]
        assert "me" in got[a]["DNSNames"]
        both("exec", c, "nslookup", "-type=a", "me").ok()
        assert "eth1" in both("exec", c, "ip", "-4", "addr").ok()
    finally:
        both("rm", "-f", c).ok()


def test_the_daemon_dies(tmp_path):
    """Names and traffic go on without it; the next one finds the resolver, or makes another."""
    e = Engine(tmp_path / "e")
    e.start()
    c, out = Cli(e, "insula", "process"), tmp_path / "out"
    out.mkdir()
    try:
        e.cli("insula", "load", "-q", "-i", os.environ.get("INSULA_IMAGES", "build/images") + "/busybox.tar").ok()
        e.cli("insula", "network", "create", "n").ok()
        a = c.rund("--network", "n", "--name", "aa", "-v", f"{out}:/out", "busybox", "sh", "-c",
                   "while sleep 1; do nslookup -type=a bb >/x 2>&1 && ping -c1 -W1 bb >>/x && cp /x /out/seen; done")
        c.rund("--network", "n", "--name", "bb", "busybox", "sleep", "1000")
        wait_for(lambda: os.path.exists(out / "seen"))
        pid = int((e.run_dir / "resolver/lock").read_text().split()[0])
        e.kill9()
        os.unlink(out / "seen")
        wait_for(lambda: os.path.exists(out / "seen"))
        e.start()
        assert int((e.run_dir / "resolver/lock").read_text().split()[0]) == pid
        os.kill(pid, 9)
        wait_for(lambda: (e.run_dir / "resolver/lock").read_text().split()[:1] not in ([], [str(pid)]))
        wait_for(lambda: c("exec", a, "nslookup", "-type=a", "bb").code == 0)
        c.rund("--network", "n", "--name", "late", "busybox", "sleep", "1000")
        c("exec", a, "nslookup", "-type=a", "late").ok()
        assert "has active endpoints" in error(c("network", "rm", "n"))
    finally:
        c.cleanup()
        e.stop()
    wait_for(lambda: not [x for x in os.listdir("/proc") if x.isdigit() and str(tmp_path) in command_of(x)])


def test_daemons_that_want_the_same_subnet(tmp_path):
    """Each has chosen it when it started, and all make their bridges at the same moment: one gets it, the others take
    another before a container has an address."""
    engines = [Engine(tmp_path / str(i), ["--bip", "10.255.252.1/24"]) for i in range(4)]
    try:
        for e in engines:
            e.start()
            e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        made = [e.popen("insula", "network", "create", "n") for e in engines]
        run = [e.popen("insula", "run", "-d", "busybox", "sleep", "1000") for e in engines]
        assert not any(p.wait(120) for p in made + run)
        subnets = [json.loads(e.cli("insula", "network", "inspect", n).ok())[0]["IPAM"]["Config"][0]["Subnet"]
                   for e in engines for n in ("bridge", "n")]
        nets = [ipaddress.ip_network(s) for s in subnets]
        assert not [(a, b) for a, b in itertools.combinations(nets, 2) if a.overlaps(b)]
        assert "10.255.252.0/24" in subnets
        for e in engines:
            cid = e.cli("insula", "ps", "-q").ok()
            address = e.cli("insula", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", cid).ok()
            assert ipaddress.ip_address(address) in nets[2 * engines.index(e)]
    finally:
        for e in engines:
            e.cli("insula", "rm", "-f", *e.cli("insula", "ps", "-aq").out.split())
            e.cli("insula", "network", "rm", "n")
            e.stop()


@pytest.mark.parametrize("other", ["process", "hyperv"])
def test_macvlan(engine, isolation, other, nets, machine, leaks):  # noqa: F811
    """Neighbours of the host's neighbours: another machine on the wire of the parent, and a container of each mode."""
    parent, there = machine[0][-1], machine[2]
    wire = there.rsplit(".", 1)[0]
    net = nets("-d", "macvlan", "-o", f"parent={parent}", "--ipv6", "--subnet", f"{wire}.0/24", "--ip-range", f"{wire}.128/25",
               "--gateway", there, "--subnet", "fd97::/64", "--gateway", "fd97::2")
    subprocess.run(["ip", "-n", parent, "addr", "add", "fd97::2/64", "dev", "eth0", "nodad"], check=True)
    c, o, extra = Cli(engine, "insula", isolation), Cli(engine, "insula", other), nets()
    try:
        one = c.rund("--network", net, "busybox", "sleep", "1000")
        two = o.rund("--network", extra, "busybox", "sleep", "1000")
        o("network", "connect", net, two).ok()
        place = json.loads(o("inspect", two).ok())[0]["NetworkSettings"]["Networks"][net]
        for address in (there, place["IPAddress"], "fd97::2", place["GlobalIPv6Address"]):
            c("exec", one, "ping", "-c1", "-W5", address).ok()
        assert f"default via {there}" in c("exec", one, "ip", "route").ok()
        subprocess.run([*machine[0], "ping", "-c1", "-W5", place["IPAddress"]], check=True, capture_output=True)
        assert place["MacAddress"] in subprocess.run(["ip", "-n", parent, "neigh"], capture_output=True, text=True).stdout
        o("network", "disconnect", net, two).ok()
        assert c("exec", one, "ping", "-c1", "-W1", place["IPAddress"]).code != 0
        wait_for(lambda: "eth1" not in o("exec", two, "ip", "addr").ok())
        o("network", "connect", net, two).ok()
        o("exec", two, "ping", "-c1", "-W5", there).ok()
        assert "discarded when using macvlan" in c("create", "--network", net, "-p", "80", "busybox").err
        c("restart", "-t", "0", one).ok()
        c("exec", one, "ping", "-c1", "-W5", there).ok()
    finally:
        c.cleanup()
        o.cleanup()


def test_macvlan_is_checked(engine, cli_name):
    def net(*args):
        return error(engine.cli(cli_name, "network", "create", "-d", "macvlan", *args, "x"))
    assert "needs an interface of the host to share: -o parent=" in net()
    assert "the host has no interface nosuch0" in net("-o", "parent=nosuch0")
    assert "macvlan_mode=vepa is not supported" in net("-o", "parent=lo", "-o", "macvlan_mode=vepa")
    assert "option com.docker.network.bridge.name" in net("-o", "parent=lo", "-o", "com.docker.network.bridge.name=b")


def test_prune(engine, cli_name, nets):
    keep = nets()
    c = engine.cli("insula", "run", "-d", "--network", keep, "busybox", "sleep", "1000").ok()
    try:
        engine.cli(cli_name, "network", "create", "--label", "p", "gone-" + cli_name).ok()
        out = engine.cli(cli_name, "network", "prune", "-f", "--filter", "label=p").ok()
        assert out.split() == ["Deleted", "Networks:", "gone-" + cli_name]
        assert keep in engine.cli(cli_name, "network", "ls").out
    finally:
        engine.cli("insula", "rm", "-f", c).ok()


def test_a_sandbox_whose_owner_has_stopped(c, nets):
    """Others are in it still: its networks change for them, and the owner finds them changed when it comes back."""
    def addresses(cid):
        out = c("exec", cid, "ip", "-4", "-o", "addr", "show").ok()
        return sorted(line.split()[3] for line in out.splitlines() if "eth" in line)

    net = nets()
    owner = c.rund("busybox", "sleep", "100000")
    other = c.rund("--network", f"container:{owner}", "busybox", "sleep", "100000")
    first = addresses(other)
    c("stop", "-t", "0", owner).ok()
    c("network", "connect", net, owner).ok()
    both = addresses(other)
    assert len(both) == 2 and set(first) < set(both)
    assert "has active endpoints" in error(c("network", "rm", net))
    c("start", owner).ok()
    assert addresses(owner) == both
    c("stop", "-t", "0", owner).ok()
    c("network", "disconnect", net, owner).ok()
    assert addresses(other) == first
    c("start", owner).ok()
    assert addresses(owner) == first
