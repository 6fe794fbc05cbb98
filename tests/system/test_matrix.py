"""Each pair of modes, and the host and another machine before each mode: TCP, UDP, both families, many connections, bulk,
datagrams larger than a packet. tests/tools/netask.c compares every byte."""
import json
import subprocess

import pytest

from conftest import BUILD, Cli, free_port, wait_for
from test_ipv6 import endpoint, machine6  # noqa: F401
from test_networks import nets  # noqa: F401
from test_ports import SERVER, bindings, host_port, machine, serve  # noqa: F401

ASK = f"{BUILD}/tests/netask"
# how, how often, how many bytes each: many connections, bulk, small datagrams, datagrams in fragments
FULL = (("tcp", 1000, 100), ("tcp", 1, 8 << 20), ("udp", 50, 100), ("udp", 5, 8000))
LIGHT = (("tcp", 20, 100), ("tcp", 1, 1 << 20), ("udp", 10, 100), ("udp", 2, 8000))
PORTS = {"tcp": 80, "udp": 7000}


@pytest.fixture
def server(engine, nets, leaks, request):  # noqa: F811
    """A server of this mode with published ports, in a network of its own with IPv6 and packets of 1400 bytes."""
    cli, net = Cli(engine, "insula", request.param), nets("--ipv6", "--opt", "com.docker.network.driver.mtu=1400")
    cid = cli.rund("--network", net, "--name", f"matrix-{request.param}", "-p", "80", "-p", "7000/udp", *SERVER,
                   *serve("tcp:80", "udp:7000"))
    wait_for(lambda: subprocess.run([ASK, "tcp", "127.0.0.1", str(host_port(cli, cid, "80/tcp")), "1", "1"],
                                    capture_output=True).returncode == 0, timeout=60)
    yield cli, cid, net
    cli.cleanup()


BOTH = pytest.mark.parametrize("server", ["process", "hyperv"], indirect=True)


@BOTH
def test_from_a_container(engine, isolation, server):
    cli, cid, net = server
    c = Cli(engine, "insula", isolation)
    try:
        client = c.rund("--network", net, *SERVER, "busybox", "sleep", "1000")
        assert "mtu 1400" in c("exec", client, "ip", "link", "show", "eth0").ok()
        e = endpoint(cli, cid, net)
        assert e["IPAddress"] in c("exec", client, "nslookup", "-type=a", f"matrix-{cli.isolation}").ok()
        for address, loads in ((e["IPAddress"], FULL), (e["GlobalIPv6Address"], LIGHT)):
            for kind, count, size in loads:
                r = c("exec", client, "/t/netask", kind, address, PORTS[kind], count, size)
                assert r.out.strip() == str(count), (address, kind, count, size, r)
    finally:
        c.cleanup()


@BOTH
def test_from_the_host_and_another_machine(server, machine6, machine):  # noqa: F811
    """By the published ports."""
    cli, cid, _ = server
    places = [(machine[0], machine[1], FULL), (machine[0], machine6[1], LIGHT)]
    places += [([], h, LIGHT) for h in ("127.0.0.1", "::1", machine[1], machine6[1])]
    for prefix, address, loads in places:
        for kind, count, size in loads:
            ports = {b["HostIp"]: b["HostPort"] for b in bindings(cli, cid)[f"{PORTS[kind]}/{kind}"]}
            port = ports["::" if ":" in address else "0.0.0.0"]
            r = subprocess.run([*prefix, ASK, kind, address, port, str(count), str(size)], capture_output=True, text=True)
            assert r.stdout.strip() == str(count), (prefix, address, kind, count, size, r)
