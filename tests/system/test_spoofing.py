"""What a hostile container may send into its network: nothing under another's MAC or address, nothing that makes it a
router or a DHCP server. Frames are sent as they are (tests/tools/attack.c), and looked for where they would arrive:
on the way out to a neighbour, and at the host."""
import ipaddress
import json
import os
import re
import select
import socket
import struct
import subprocess
import time

import pytest

from conftest import BUILD, Cli, wait_for

ATTACK = f"{BUILD}/tests:/t:ro"
ALL = "ff:ff:ff:ff:ff:ff"
ETH_P_ALL = 3


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ip(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    n = (n & 0xffff) + (n >> 16)
    return ~(n + (n >> 16)) & 0xffff


def eth(dst, src, kind, body):
    return mac(dst) + mac(src) + struct.pack("!H", kind) + body


def arp(dst, src, op, sha, spa, tha, tpa):
    return eth(dst, src, 0x806, struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + mac(sha) + ip(spa) + mac(tha) + ip(tpa))


def udp(sport, dport, body):
    return struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body


def tcp(sport, dport, body):
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 0x50, 2, 1024, 0, 0) + body


def ip4(src, dst, body, proto=17):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0) + ip(src) + ip(dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ip6(src, dst, body, proto=17):
    return struct.pack("!IHBB", 6 << 28, len(body), proto, 255) + ip(src) + ip(dst) + body


def icmp6(src, dst, kind, body):
    body = struct.pack("!BBH", kind, 0, 0) + body
    n = checksum(ip(src) + ip(dst) + struct.pack("!II", len(body), 58) + body)
    return ip6(src, dst, body[:2] + struct.pack("!H", n) + body[4:], 58)


def local(m):
    """The link-local address of a MAC."""
    b = mac(m)
    return str(ipaddress.ip_address(b"\xfe\x80" + b"\0" * 6 + bytes([b[0] ^ 2]) + b[1:3] + b"\xff\xfe" + b[3:]))


class Tap:
    """What passes interfaces of the host."""
    def __init__(self, *names):
        self.socks = []
        for n in names:
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            s.bind((n, ETH_P_ALL))
            self.socks.append(s)

    def seen(self, until, send):
        """All frames that pass while send() is called again and again, until `until` has passed everywhere."""
        got, missing, end = {s: [] for s in self.socks}, set(self.socks), time.time() + 60
        while missing:
            assert time.time() < end, "the honest frame does not arrive"
            send()
            while ready := select.select(self.socks, [], [], 0.5)[0]:
                for s in ready:
                    got[s].append(s.recv(4096))
                    if got[s][-1].startswith(until):
                        missing.discard(s)
        return [f for v in got.values() for f in v]

    def close(self):
        for s in self.socks:
            s.close()


class Place:
    """A container's place in the network."""
    def __init__(self, cli, cid, net):
        e = json.loads(cli("inspect", cid).ok())[0]["NetworkSettings"]["Networks"][net]
        self.ip6 = e["GlobalIPv6Address"]
        self.mac, self.ip, self.gateway, self.id = e["MacAddress"], e["IPAddress"], e["Gateway"], cid


def forged(me, you, gateway_mac):
    """What must not pass, by name."""
    other = "02:42:0a:0b:0c:0d"
    free = str(ipaddress.ip_address(me.ip) + 100)
    nd = struct.pack("!BB", 2, 1)       # the option "target link-layer address"
    return {
        "another's MAC": eth(you.mac, you.mac[:-2] + "ee", 0x800, ip4(me.ip, you.ip, udp(7, 7, b"mac"))),
        "the gateway's MAC": eth(you.mac, gateway_mac, 0x800, ip4(me.ip, you.ip, udp(7, 7, b"gwmac"))),
        "a free address": eth(you.mac, me.mac, 0x800, ip4(free, you.ip, udp(7, 7, b"free"))),
        "the gateway's address": eth(you.mac, me.mac, 0x800, ip4(me.gateway, you.ip, udp(7, 7, b"gw"))),
        "an address out there": eth(you.mac, me.mac, 0x800, ip4("198.51.100.7", you.ip, udp(7, 7, b"out"))),
        "TCP, another's MAC": eth(you.mac, you.mac[:-2] + "ee", 0x800, ip4(me.ip, you.ip, tcp(7, 7, b"mac"), 6)),
        "TCP, a free address": eth(you.mac, me.mac, 0x800, ip4(free, you.ip, tcp(7, 7, b"free"), 6)),
        "no address": eth(you.mac, me.mac, 0x800, ip4("0.0.0.0", you.ip, udp(7, 7, b"none"))),
        "127.0.0.1": eth(you.mac, me.mac, 0x800, ip4("127.0.0.1", you.ip, udp(7, 7, b"lo"))),
        "ARP: I am the gateway": arp(ALL, me.mac, 2, me.mac, me.gateway, ALL, you.ip),
        "ARP: I am you": arp(ALL, me.mac, 1, me.mac, you.ip, "00:00:00:00:00:00", you.ip),
        "ARP: I am there": arp(you.mac, me.mac, 2, other, me.ip, you.mac, you.ip),
        "DHCP server": eth(ALL, me.mac, 0x800, ip4(me.ip, "255.255.255.255", udp(67, 68, b"\2\1\6"))),
        "IPv6: router": eth("33:33:00:00:00:01", me.mac, 0x86dd, icmp6(local(me.mac), "ff02::1", 134, b"\x40\0\x07\x08" + b"\0" * 8)),
        "IPv6: redirect": eth(you.mac, me.mac, 0x86dd, icmp6(local(me.mac), local(you.mac), 137, b"\0" * 4 + ip("fd00::1") * 2)),
        "IPv6: I am you": eth("33:33:00:00:00:01", me.mac, 0x86dd,
                              icmp6(local(me.mac), "ff02::1", 136, b"\x20\0\0\0" + ip(local(you.mac)) + nd + mac(me.mac))),
        "IPv6: I am there": eth("33:33:00:00:00:01", me.mac, 0x86dd,
                                icmp6(me.ip6, "ff02::1", 136, b"\x20\0\0\0" + ip(you.ip6) + nd + mac(me.mac))),
        "IPv6: your address": eth(you.mac, me.mac, 0x86dd, ip6(you.ip6, you.ip6, udp(7, 7, b"v6"))),
        "IPv6: no address": eth(you.mac, me.mac, 0x86dd, ip6("::", you.ip6, udp(7, 7, b"v6"))),
        "IPv6: DHCP server": eth("33:33:00:00:00:01", me.mac, 0x86dd, ip6(me.ip6, "ff02::1", udp(547, 546, b"\2"))),
        "IPv6: another's address": eth(you.mac, me.mac, 0x86dd, ip6("fd00:77::77", local(you.mac), udp(7, 7, b"v6"))),
        "IPv6: TCP, your address": eth(you.mac, me.mac, 0x86dd, ip6(you.ip6, you.ip6, tcp(7, 7, b"v6"), 6)),
        "IPv6: TCP, another's MAC": eth(you.mac, you.mac[:-2] + "ee", 0x86dd, ip6(me.ip6, you.ip6, tcp(7, 7, b"v6"), 6)),
        "a VLAN tag": eth(you.mac, me.mac, 0x8100, struct.pack("!HH", 5, 0x800) + ip4(me.gateway, you.ip, udp(7, 7, b"vlan"))),
        "a bridge": eth("01:80:c2:00:00:00", me.mac, 0x27, b"\x42\x42\x03" + b"\0" * 35),
    }


@pytest.fixture
def network(engine):
    name = f"spoof{os.getpid()}"
    nid = engine.cli("insula", "network", "create", "--ipv6", name).ok()
    yield name, f"in-{nid[:12]}"
    engine.cli("insula", "network", "rm", name).ok()


def guard(bridge, port):
    """The bridge table that has this port."""
    for t in re.findall(r"table bridge (insula\S*)", subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout):
        text = subprocess.run(["nft", "list", "table", "bridge", t], capture_output=True, text=True).stdout
        if f'"{port}"' in text:
            return t, text
    return None, ""


def test_nothing_forged_leaves(engine, isolation, network, leaks):
    net, bridge = network
    a, v = Cli(engine, "insula", isolation), Cli(engine, "insula", "process")
    tap = None
    try:
        me = Place(a, a.rund("--network", net, "-v", ATTACK, "busybox", "sleep", "1000"), net)
        you = Place(v, v.rund("--network", net, "busybox", "sleep", "1000"), net)
        frames = forged(me, you, open(f"/sys/class/net/{bridge}/address").read().strip())
        honest = arp(ALL, me.mac, 1, me.mac, me.ip, "00:00:00:00:00:00", you.ip)
        tap = Tap("in" + you.id[:12], bridge)

        def send(*more):
            a("exec", me.id, "/t/attack", "frames", "eth0", *(f.hex() for f in (*frames.values(), *more))).ok()
        seen = tap.seen(honest, lambda: send(honest))
        passed = [n for n, f in frames.items() if any(s.startswith(f) for s in seen)]
        assert not passed
        for address in (you.ip, you.ip6):
            a("exec", me.id, "ping", "-c1", "-W5", address).ok()
        # It is the guard that holds, and nothing else.
        table = guard(bridge, "in" + me.id[:12])[0]
        subprocess.run(["nft", "flush", "chain", "bridge", table, "prerouting"], check=True)
        try:
            seen = tap.seen(honest, lambda: send(honest))
        finally:
            subprocess.run(["nft", "add", "rule", "bridge", table, "prerouting", "iifname", "@ports", "goto", "sender"], check=True)
        kept = [n for n, f in frames.items() if not any(s.startswith(f) for s in seen)]
        assert set(kept) <= {"a bridge", "a VLAN tag", "127.0.0.1"}      # the kernel takes or changes them itself
        # what is guarded goes with its container, and with its place in the network
        a("network", "connect", "bridge", me.id).ok()
        assert f'"in{me.id[:12]}a"' in guard(bridge, "in" + me.id[:12])[1]
        a("network", "disconnect", "bridge", me.id).ok()
        assert f'"in{me.id[:12]}a"' not in guard(bridge, "in" + me.id[:12])[1]
        a("rm", "-f", me.id).ok()
        wait_for(lambda: guard(bridge, "in" + me.id[:12]) == (None, ""))       # with its interface
    finally:
        if tap:
            tap.close()
        a.cleanup()
        v.cleanup()


def test_the_guard_comes_back(engine, isolation, network, leaks):
    """Somebody flushes all tables: what is guarded is guarded again."""
    net, bridge = network
    a = Cli(engine, "insula", isolation)
    try:
        me = a.rund("--network", net, "busybox", "sleep", "1000")
        port = "in" + me[:12]
        table, before = guard(bridge, port)
        assert before.count(f'"{port}"') == 7
        subprocess.run(["nft", "delete", "table", "bridge", table], check=True)
        end = time.time() + 60
        while guard(bridge, port)[1] != before:
            assert time.time() < end, guard(bridge, port)
            time.sleep(0.05)
    finally:
        a.cleanup()
