"""IPv6 in networks, alike in both modes: subnets and addresses, what inspect says, traffic and names across the modes,
published ports that keep the caller's address, the way out."""
import ipaddress
import json
import os
import re
import socket
import subprocess

import pytest

from conftest import Cli, free_port, wait_for
from test_networks import error, links, nets  # noqa: F401  (the fixture)
from test_ports import SERVER, FROM_THERE, ask, bindings, machine, serve, udp_ask  # noqa: F401

PREFIX = f"fd98:{os.getpid() % 0xffff:x}"


@pytest.fixture
def machine6(machine):  # noqa: F811
    """The other machine, its prefix to run commands, the host's IPv6 address on that link, its own."""
    name = machine[0][-1]
    subprocess.run(f"ip addr add {PREFIX}::1/64 dev {name} nodad && ip -n {name} addr add {PREFIX}::2/64 dev eth0 nodad",
                   shell=True, check=True)
    return machine[0], f"{PREFIX}::1", f"{PREFIX}::2"


def ask_from(machine, host, port):  # noqa: F811
    r = subprocess.run([*machine[0], "/usr/bin/python3", "-c", FROM_THERE, host, str(port)], capture_output=True, text=True)
    return r.stdout.split(" ") if r.returncode == 0 else None


def endpoint(cli, cid, net):
    return json.loads(cli("inspect", cid).ok())[0]["NetworkSettings"]["Networks"][net]


def elements6(bridge):
    """Published ports of the table that knows this bridge."""
    listing = subprocess.run(["nft", "list", "tables", "ip6"], capture_output=True, text=True).stdout
    for t in re.findall(r"insula\S*", listing):
        text = subprocess.run(["nft", "list", "table", "ip6", t], capture_output=True, text=True).stdout
        if f'"{bridge}"' in text:
            return re.findall(r"(?:tcp|udp) \. \d+ : fd[0-9a-f:]+ \. \d+", text)
    return []


def test_addresses(both, nets):  # noqa: F811
    net = nets("--ipv6", "--subnet", "10.82.0.0/24", "--subnet", "fd82::/64", "--gateway", "fd82::99", "--ip-range", "fd82::8000/113")
    d = json.loads(both("network", "inspect", net).ok())[0]
    assert d["EnableIPv6"] and d["IPAM"]["Config"] == [
        {"Subnet": "10.82.0.0/24", "Gateway": "10.82.0.1"},
        {"Subnet": "fd82::/64", "IPRange": "fd82::8000/113", "Gateway": "fd82::99"}]
    fixed = both.rund("--network", net, "--ip6", "fd82::44", "busybox", "sleep", "1000")
    e = endpoint(both, fixed, net)
    assert (e["GlobalIPv6Address"], e["GlobalIPv6PrefixLen"], e["IPv6Gateway"]) == ("fd82::44", 64, "fd82::99")
    assert "fd82::44/64" in both("exec", fixed, "ip", "-6", "addr").ok()
    assert "default via fd82::99 dev eth0" in both("exec", fixed, "ip", "-6", "route").ok()
    both("exec", fixed, "ping", "-c1", "-W5", "fd82::99").ok()
    assert "fd82::44" in both("exec", fixed, "cat", "/etc/hosts").ok()
    inside = json.loads(both("network", "inspect", net).ok())[0]["Containers"][fixed]
    assert inside["IPv6Address"] == "fd82::44/64"
    if both.isolation == "hyperv":
        return      # the rest is said before anything of a mode begins
    free = both.rund("--network", net, "busybox", "sleep", "1000")
    assert ipaddress.ip_address(endpoint(both, free, net)["GlobalIPv6Address"]) in ipaddress.ip_network("fd82::8000/113")
    assert "Address already in use" in error(both("run", "--rm", "--network", net, "--ip6", "fd82::44", "busybox", "true"))
    assert "Address already in use" in error(both("create", "--network", net, "--ip6", "fd82::99", "busybox", "true"))
    assert "no configured subnet" in error(both("create", "--network", net, "--ip6", "fd83::1", "busybox", "true"))
    for args, why in ((["--subnet", "fd84::/64"], "IPv6 is not enabled"), (["--ipv6", "--subnet", "fd82::/48"], "Pool overlaps"),
                      (["--ipv6", "--subnet", "fd84::1/64"], "it should be fd84::/64")):
        assert why in error(both("network", "create", *args, "x")), args


def test_a_prefix_of_its_own(engine, nets):  # noqa: F811
    """Without a subnet each network gets a /64 of the daemon's unique local prefix."""
    found = []
    for _ in range(2):
        config = json.loads(engine.cli("insula", "network", "inspect", nets("--ipv6")).ok())[0]["IPAM"]["Config"]
        found.append(ipaddress.ip_network(config[1]["Subnet"]))
    assert all(n.prefixlen == 64 and n.network_address in ipaddress.ip_network("fd00::/8") for n in found)
    assert found[0] != found[1] and found[0].supernet(new_prefix=48) == found[1].supernet(new_prefix=48)


@pytest.mark.parametrize("server_mode", ["process", "hyperv"])
def test_traffic_and_names(engine, isolation, server_mode, nets, leaks):  # noqa: F811
    net, server, client = nets("--ipv6"), Cli(engine, "insula", server_mode), Cli(engine, "insula", isolation)
    try:
        s = server.rund("--network", net, "--network-alias", "web", *SERVER, *serve("tcp:80"))
        ip6 = endpoint(server, s, net)["GlobalIPv6Address"]
        c = client.rund("--network", net, "busybox", "sleep", "1000")
        mine = endpoint(client, c, net)["GlobalIPv6Address"]

        def run(script):
            return client("exec", c, "sh", "-c", script)
        wait_for(lambda: run(f"echo hello | nc -w 5 {ip6} 80").out.strip() == f"{mine} 80 hello", timeout=60)
        assert f"Address: {ip6}" in run("nslookup -type=aaaa web").ok()
        assert f"name = " in run(f"nslookup {ip6}").ok()
        run("ping -6 -c1 -W5 web").ok()
        run(f"ping -6 -c1 -W5 -s 4000 {ip6}").ok()        # in fragments
    finally:
        client.cleanup()
        server.cleanup()


def test_published(engine, c, nets, machine6):  # noqa: F811
    """By IPv6 too no proxy stands between, but for ::1."""
    net, port = nets("--ipv6"), free_port()
    bridge = "in-" + c("network", "inspect", "-f", "{{.Id}}", net).ok()[:12]
    cid = c.rund("--network", net, "-p", f"{port}:80", "-p", f"{port}:7000/udp", *SERVER, *serve("tcp:80", "udp:7000"))
    wait_for(lambda: ask("127.0.0.1", port, 2), timeout=60)
    assert ask_from(machine6, machine6[1], port) == [machine6[2], "80", "hello"]
    assert ask(machine6[1], port) and ask("::1", port)
    wait_for(lambda: udp_ask(socket.AF_INET6, machine6[1], port))
    assert {b["HostIp"] for b in bindings(c, cid)["80/tcp"]} == {"0.0.0.0", "::"}
    e = endpoint(c, cid, net)
    # hairpin, and from another network of ours
    for host in (e["IPv6Gateway"], machine6[1]):
        assert c("exec", cid, "sh", "-c", f"echo me | nc -w 5 {host} {port}").ok().endswith(" 80 me")
    other = c.rund("--network", nets("--ipv6"), "busybox", "sleep", "1000")
    assert c("exec", other, "sh", "-c", f"echo it | nc -w 5 {machine6[1]} {port}").ok().endswith(" 80 it")
    assert c("exec", other, "ping", "-c1", "-W1", e["GlobalIPv6Address"]).code != 0     # but not past that
    assert len(elements6(bridge)) == 2
    engine.kill9()
    assert ask_from(machine6, machine6[1], port) == [machine6[2], "80", "hello"]
    engine.start()
    assert ask_from(machine6, machine6[1], port) == [machine6[2], "80", "hello"]
    c("rm", "-f", cid).ok()
    assert ask(machine6[1], port) is None and not elements6(bridge)


def test_the_way_out(engine, c, nets, machine6):  # noqa: F811
    """The other machine knows nothing of our subnets: it sees the host. An internal network has no way out."""
    server = subprocess.Popen([*machine6[0], "/usr/bin/python3", "-c",
                               "import socket\nl=socket.create_server(('::',99),family=socket.AF_INET6)\nprint('up',flush=True)\n"
                               "while 1:\n s,a=l.accept()\n s.sendall(a[0].encode())\n s.close()\n"], stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline()
        cid = c.rund("--network", nets("--ipv6"), "busybox", "sleep", "1000")
        assert c("exec", cid, "nc", "-w", "5", machine6[2], 99).ok() == machine6[1]
        inner = c.rund("--network", nets("--ipv6", "--internal"), "busybox", "sleep", "1000")
        assert "default" not in c("exec", inner, "ip", "-6", "route").ok()
        assert c("exec", inner, "nc", "-w", "2", machine6[2], 99).code != 0
    finally:
        server.kill()
        server.wait()
