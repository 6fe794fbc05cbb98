"""What the docker CLI is answered by dockerd 20.10 and by insulad, side by side: each flag of `create`, one after the
other, with what `inspect` shows of it field by field, then the commands around containers, networks and volumes.
What differs is named in the tables below with its reason, and has to differ as named: anything else is a fault."""
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests/system"), str(ROOT / "bench")]
import peers                    # noqa: E402
from chaos import call          # noqa: E402
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import IMAGES, Engine, Result, docker_cli, free_port      # noqa: E402

VERSION = "1.41"                # the latest of dockerd 20.10

# Fields that differ without any flag; a flag that has to do with one is compared all the same.
EVERYWHERE = {
    r"GraphDriver\.Data\..*": "each has directories of its own, under hyperv isolation a disk",
    r"HostConfig\.CgroupnsMode": "Docker's default is the host's under cgroup v1",
    r"HostConfig\.Isolation": "on Linux Docker has none",
    r"HostConfig\.KernelMemory(TCP)?": "newer Docker has left it out",
    r"HostConfig\.LogConfig\.Config.*": "logs are rotated by default",
    r"HostConfig\.MaskedPaths.*": "as newer Docker: more is hidden",
    r"HostConfig\.NetworkMode": "as newer Docker: the default has its name",
    r"HostConfig\.Runtime": "its own",
    r"VirtualMachine\..*": "hyperv isolation only",
}
# Fields that are never compared.
NEVER = {
    r"(.*\.)?(DNSNames.*|GwPriority|EnableIPv4)": "newer versions have it, this one has not",
    r".*\.NetworkID": "known from the creation on",
    r"NetworkSettings\.Sandbox(ID|Key)": "Docker keeps the namespace of a container that has ended, under a path of its own",
    r"(Hosts|Hostname|ResolvConf)Path": "there once the program has run, in Docker also when it could not",
    r"(State\.)?Pid": "of this host",
    r"State\.Error": "other programs say it",
}

# The flags; behind "=>" how the answers differ and why: refused (by us alone), words (both refuse), else the fields.
FLAGS = r"""
--add-host a:1.2.3.4 --add-host b:::1 --add-host c:host-gateway
--annotation a=b
-a stdout
-a stdin -a stderr -i
--blkio-weight 300                      => may: HostConfig.BlkioWeight, stderr; where the kernel has no weights Docker drops them
--blkio-weight-device {disk}:200        => may: HostConfig.BlkioWeightDevice.*, stderr; the same
--cap-add NET_ADMIN --cap-add cap_sys_time
--cap-add ALL --cap-drop net_raw
--cap-drop ALL
--cap-drop mknod
--cap-add NOPE
--cgroup-parent /x/y
--cgroupns host
--cgroupns private
--cgroupns foo
--cpu-count 2
--cpu-percent 50
--cpu-period 50000
--cpu-period 5
--cpu-quota 20000
--cpu-quota 5
--cpu-rt-period 1000000 --cpu-rt-runtime 1000   => refused; no real-time groups
--cpu-shares 512
--cpu-shares 1
--cpus 1.5
--cpus 1000
--cpus 0.0001                           => refused; Docker finds it at the start
--cpus 1 --cpu-quota 1000
--cpuset-cpus 0
--cpuset-cpus 9999                      => words; the numbers
--cpuset-cpus foo
--cpuset-mems 0
--cpuset-mems 7
--device /dev/null
--device /dev/null:/dev/foo:r
--device /dev/nope
--device-cgroup-rule 'c 1:3 mr'
--device-cgroup-rule foo
--device-read-bps {disk}:1mb
--device-read-iops {disk}:100
--device-write-bps {disk}:1mb
--device-write-iops {disk}:100
--device-write-iops /dev/nope:100       => refused; Docker finds it at the start
--disable-content-trust=false
--dns 1.1.1.1 --dns 8.8.8.8
--dns foo
--dns-option ndots:2
--dns-search example.com
--dns-search .
--domainname dom.example
-h host --domainname dom.example
-h host.example.com
--entrypoint /bin/sh
--entrypoint ''
-e A=b -e C
-e A=b -e A=c
-e PATH=/x
-e PATH
--env-file {env}
--expose 80 --expose 90/udp --expose 100-102
--gpus all                              => refused; Docker finds it at the start
--group-add 12 --group-add users
--health-cmd true
--health-cmd true --health-interval 2s --health-retries 4 --health-start-period 5s --health-timeout 3s
--health-interval 2s
--health-cmd true --health-interval 1us
--health-cmd true --health-start-interval 2s
--no-healthcheck
--no-healthcheck --health-cmd true
-h name
-h -bad
--init
-i
-it
--io-maxbandwidth 1m
--io-maxiops 5
--ip 10.1.2.3                           => refused; as newer Docker, which knows it at once
--ip6 fd00::3                           => refused; the same
--network net1 --ip 10.213.9.9
--network net1 --network-alias al1 --network-alias al2
--network name=net1,alias=x,ip=10.213.9.9
--network net1 --mac-address 02:42:0a:00:00:99
--network none
--network host
--network host -h foo
--network container:peer
--network container:peer -h foo
--network container:peer -p 80:80
--network container:nope
--network nope                          => refused; Docker finds it at the start
--network host -p 80:80
--network-alias foo
--ipc host
--ipc private
--ipc shareable
--ipc none
--ipc container:peer                    => refused; Docker finds it at the start
--ipc container:nope                    => words; what it was needed for
--ipc foo                               => refused; as newer Docker
--isolation default                     => HostConfig.Isolation; on Linux Docker has none
--isolation foo                         => words; ours has two
--kernel-memory 50m                     => refused; newer Docker has left it out
-l a=b -l c
--label-file {labels}
--link peer                             => refused; names are found without
--link-local-ip 169.254.1.2             => refused; not offered
--log-driver none
--log-driver local                      => HostConfig.LogConfig.Config.*; the driver's own rotation is told
--log-driver json-file --log-opt max-size=1m --log-opt max-file=3 --log-opt labels=a
--log-driver nope                       => words; ours lists those there are
--log-driver none --log-opt a=b
--log-driver json-file --log-opt foo=bar
--log-opt mode=non-blocking --log-opt max-buffer-size=4m
--log-opt max-size=foo                  => refused; Docker finds it at the start
--mac-address 02:42:0a:00:00:09
--mac-address foo
-m 64m
-m 1m
-m 64m --memory-swap 128m
-m 64m --memory-swap -1
-m 64m --memory-swap 32m
--memory-swap 64m
--memory-reservation 32m
-m 64m --memory-reservation 128m
--memory-reservation 1k
--memory-swappiness 10
--memory-swappiness 0
--memory-swappiness 101
--mount type=bind,src={bind},dst=/b
--mount type=bind,src=/nope/x,dst=/b
--mount type=volume,src=v1,dst=/v
--mount type=volume,dst=/v
--mount type=volume,src=v1,dst=/v,readonly,volume-nocopy
--mount type=volume,src=v2,dst=/v,volume-driver=local,volume-label=a=b,volume-opt=type=tmpfs,volume-opt=device=tmpfs
--mount type=tmpfs,dst=/t
--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770
--mount type=bind,src={bind},dst=rel
--mount type=volume,src=v1,dst=/
--mount type=bind,src={bind},dst=/b,bind-nonrecursive
--mount type=bind,src={bind},dst=/b --mount type=bind,src={bind},dst=/b
--name nm
--name /nm
--name -bad
--name a
--oom-kill-disable
-m 64m --oom-kill-disable
--oom-score-adj 500
--oom-score-adj 2000
--pid host
--pid container:peer
--pid container:nope                    => words; what it was needed for
--pid foo
--pids-limit 100
--pids-limit -1
--pids-limit 0
--platform linux/amd64
--privileged
--privileged --cap-drop mknod
-p 80
-p 8080:80
-p 127.0.0.1:8080:80/udp
-p 127.0.0.1::80
-p 8000-8001:80-81
-p '[::1]:8080:80'
-p 8000-8010:80
-P
-P --expose 80
-p 80 --expose 81
--pull never
--pull foo
-q
--read-only
--restart always
--restart on-failure
--restart on-failure:3
--restart unless-stopped
--restart no
--restart foo                           => words; as newer Docker
--restart always:3                      => words; as newer Docker
--restart always --rm
--rm
--runtime runc                          => refused; there is one runtime
--runtime nope                          => words; as newer Docker
--security-opt no-new-privileges
--security-opt seccomp=unconfined
--security-opt seccomp={seccomp}
--security-opt apparmor=unconfined      => AppArmorProfile; known at the start, where there is AppArmor
--security-opt label=disable
--security-opt label=type:foo           => refused; insula gives no labels, so it would promise what does not hold
--security-opt systempaths=unconfined
--security-opt foo
--security-opt foo=bar
--shm-size 32m
--shm-size 0
--stop-signal TERM
--stop-signal 9
--stop-signal SIGFOO
--stop-timeout 5
--stop-timeout -1
--storage-opt size=1G                   => words; not offered
--sysctl net.ipv4.ip_forward=1
--sysctl kernel.domainname=foo
--sysctl foo.bar=1
--network host --sysctl net.ipv4.ip_forward=1   => refused; as newer Docker
--tmpfs /t
--tmpfs /t:size=1m,mode=700
--tmpfs rel                             => words; said as of any mount
-t
--ulimit nofile=100:200
--ulimit nproc=100 --ulimit core=0
--ulimit nofile=200:100
-u 1:2
-u root
--userns host
--userns foo
--uts host                              => Config.Hostname; the name that it has
--uts host -h foo
--uts foo
-v /anon
-v v1:/v
-v v1:/v:ro
-v v1:/v:nocopy
-v {bind}:/b
-v {bind}:/b:ro,z                       => stderr; says that nothing is labelled
-v {bind}:/b:foo
-v {bind}:rel
-v {bind}/made:/b
-v v1:/v -v /anon -v {bind}:/b:ro --tmpfs /t
-v v1:/v:ro,rw
--volume-driver local -v /anon
--volume-driver nope -v v9:/anon        => words; Docker pulls the image again
--volumes-from peer
--volumes-from peer:ro
--volumes-from nope
--volumes-from peer:foo
-w /x
-w rel
-w /x/../y
"""

# What a virtual machine cannot have is refused with the reason, whatever dockerd says.
IN_A_MACHINE = r"""
--cgroupns host
--device-cgroup-rule 'c 1:3 mr'
--ipc host
--network host
--network host -h foo
--network host -p 80:80
--pid host
--pid container:peer
--uts host
--uts host -h foo
"""

COMMANDS = r"""
volume create
volume create va
volume create va
volume create --label a=b --opt type=tmpfs --opt device=tmpfs --opt o=size=1m vb
volume create --driver nope vc
volume create -bad
volume create x
volume inspect va
volume inspect vb
volume ls --format json
volume ls --filter dangling=true --format {{{{.Name}}}}
volume inspect nope
volume rm nope
network create --subnet 10.214.0.0/24 n1
network create n1
network create --driver bridge --subnet 10.214.1.0/24 --gateway 10.214.1.9 --ip-range 10.214.1.64/26 --aux-address a=10.214.1.5 n2
network create --internal --attachable --label a=b --opt com.docker.network.bridge.name=brbeside --subnet 10.214.2.0/24 n3
network create --ipv6 --subnet fd00:7::/64 --subnet 10.214.3.0/24 n4
network create --driver nope n5                                 => words; which kind of plugin
network create --subnet 10.214.1.0/25 n6                        => words; as newer Docker
network create --subnet foo n7                                  => words; shorter
network create --subnet 10.214.7.0/24 --gateway 10.214.8.1 n8
network create --subnet 10.214.7.0/24 --ip-range 10.215.7.0/25 n9
network create --ingress n12                                    => words; no swarm
network create --scope swarm n13                                => words; no swarm
network create --config-only --subnet 10.214.14.0/24 n14        => refused; no swarm
network create --ipam-driver nope n15                           => words; ours has one
network create -bad
network create host
network inspect n1                                              => \[0\]\.IPAM\.Config\[0\]\.Gateway; ours tells which it took
network inspect n2
network inspect n3                                              => \[0\]\.IPAM\.Config\[0\]\.Gateway; the same
network inspect n4                                              => \[0\]\.IPAM\.Config\[.\]\.Gateway; the same
network inspect bridge                                          => \[0\]\.(IPAM\.Config\[0\]\..*|Options\.com.docker.network.bridge.name); of its own
network inspect host                                            => \[0\]\.IPAM\.Config; as newer Docker: null
network inspect none                                            => \[0\]\.IPAM\.Config; the same
network ls --no-trunc --filter name=n --filter driver=bridge --format json     => \[\d\]\.IPv4; of newer Docker
network inspect nope
network rm nope
network rm bridge
run -d --name r1 --label x=y -p 127.0.0.1:{port}:80 -v va:/v -m 64m --memory-swap 64m busybox sleep 1000
inspect r1
ps --no-trunc --filter name=r1 --format json                    => may: \[0\]\.(Status|RunningFor); seconds
images --format json                                            => \[0\]\.(VirtualS|S)ize; links are not counted
image inspect busybox                                           => \[0\]\.((VirtualS|S)ize|(Container)?Config\.Env.*|ContainerConfig\.Cmd.*|GraphDriver.*); the same, and what compose reads of the container is the image's
image inspect nope                                              => words; once
history --format json busybox                                   => may: \[0\]\.Size; the same
volume inspect va
port r1
exec r1 sh -c 'exit 3'
exec -d -e A=b -w / -u 1 r1 sleep 100
EXEC r1
exec r1 nope                                                    => words; names of programs
exec -w /nope r1 true                                           => words; names of programs
exec -u nobodyx r1 true
inspect r1
update -m 128m r1
update -m 128m --memory-swap 256m r1
update --pids-limit 50 --cpu-shares 100 --cpuset-cpus 0 --memory-reservation 16m --restart always r1
update --cpu-period 5 r1
update --cpu-quota 5 r1
update -m 1m r1
update --cpuset-cpus foo r1
update --restart foo r1                                         => words; as newer Docker
update nope
inspect r1
rename r1 peer2
rename nope peer3
rename peer2 -bad
rename peer2 peer2
pause peer2
pause peer2
exec peer2 true                                                 => words; by id, as newer Docker
inspect peer2
unpause peer2
unpause peer2
kill -s FOO peer2
kill nope
stop -t 0 peer2
stop peer2
kill peer2
pause peer2
exec peer2 true
top peer2
inspect peer2
start peer2
rm peer2                                                        => words; as newer Docker
rm -f peer2
rm nope
run --name e1 busybox nope                                      => words; as newer Docker, names of programs
inspect e1                                                      => LogPath; no log was begun
run --name e2 busybox /etc                                      => words; the same
inspect e2                                                      => LogPath; no log was begun
run --name e3 -w /x busybox sh -c 'exit 3'
inspect e3
run --name e4 -u nobodyx busybox true
inspect e4
run --name e5 --network none -u 1:1 busybox id
create --name e3 busybox
network connect n1 nope
network connect n2 e3 --ip 10.214.1.77 --alias q
network disconnect n2 e3
network disconnect n2 e3
network rm n1
ps -a --filter name=e --format json                             => may: \[\d\]\.(Status|RunningFor|Mounts); seconds, and what of an id is short
cp e2:/nope {out}
cp nope:/x {out}
diff nope
logs nope
commit nope
export nope -o {out}/x
tag nope x:y
tag busybox BAD
tag busybox x:y
rmi x:y
rmi nope
save nope -o {out}/x                                            => words; with its tag
pull BAD
wait nope
attach nope
attach e2
stats --no-stream nope
"""


def flat(v, path=""):
    """Path and value of each leaf."""
    if isinstance(v, (dict, list)) and v:
        for k, x in v.items() if isinstance(v, dict) else ((f"[{i}]", x) for i, x in enumerate(v)):
            yield from flat(x, f"{path}{k}" if k[0] == "[" or not path else f"{path}.{k}")
    else:
        yield path, v


def differences(a, b):
    a, b = dict(flat(a)), dict(flat(b))
    return {k: (a.get(k, "absent"), b.get(k, "absent")) for k in sorted(a.keys() | b.keys())
            if (a.get(k, "absent"), type(a.get(k))) != (b.get(k, "absent"), type(b.get(k)))}


def lines(table):
    for line in filter(None, table.splitlines()):
        command, _, verdict = line.partition("=>")
        yield command.strip(), verdict.partition(";")[0].strip()


def named(path, patterns):
    return any(re.fullmatch(p, path) for p in patterns)


class Side:
    """One of the two engines, its answers freed of what cannot be the same."""

    def __init__(self, env, sock, data, known):
        self.env, self.sock, self.data, self.known = dict(env, DOCKER_API_VERSION=VERSION), sock, data, known
        self.name = {}
        self.cli("create", "--name", "peer", "-v", "/pv", "-v", "pvol:/pn:ro", "busybox", "sleep", "1000").ok()
        self.cli("network", "create", "--subnet", "10.213.9.0/24", "net1").ok()

    def cli(self, *args):
        return Result(subprocess.run([docker_cli(), *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                                     text=True, timeout=120))

    def api(self, method, path):
        c = http.client.HTTPConnection("engine")
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.connect(str(self.sock))
        c.request(method, f"/v{VERSION}{path}")
        body = c.getresponse().read()
        c.close()
        return json.loads(body) if body else None

    def neutral(self, text):
        text = text.replace(str(self.data), "DATA")
        text = re.sub(r"\b172\.\d\d\.0\.", "BRIDGE.", text)        # ours is another if others have it
        text = re.sub(r"[0-9a-f]{64}", "ID", text)
        text = re.sub(r"\b[0-9a-f]{12}\b", "SHORT", text)
        text = re.sub(r"\d{4}-\d\d-\d\d[T ][0-9:.]+(Z|\+00:00| \+0000 UTC)", "TIME", text)
        return re.sub(r"02:42:ac:[0-9a-f:]+", "MAC", text)

    def document(self, doc, name):
        """Of a container. The CLI itself shuffles some lists."""
        doc = json.loads(self.neutral(json.dumps(doc)))
        doc["Name"] = doc["Name"] if name else "/NAME"
        (doc["Mounts"] or []).sort(key=lambda m: m["Destination"])
        for o, k in ((doc["Config"], "Env"), (doc["HostConfig"], "Binds")):
            o[k] = sorted(o[k]) if o[k] else o[k]
        return doc

    def refusal(self, r):
        text = r.err.split("\n\nRun 'docker")[0]
        return self.neutral(text).replace("docker: ", "").strip().rstrip(".").lower()

    def create(self, flags):
        """What inspect shows of a container that these are given to, or why there is none."""
        r = self.cli("create", *shlex.split(flags.format(**self.known)), "busybox", "sh")
        if r.code:
            return self.refusal(r)
        cid = r.out.split()[-1]
        doc = self.document(self.api("GET", f"/containers/{cid}/json"), "--name" in flags)
        self.api("DELETE", f"/containers/{cid}?v=1")
        return dict(doc, stderr=self.neutral(r.err).strip())

    def execs(self, name):
        ids = self.api("GET", f"/containers/{name}/json")["ExecIDs"] or []
        return [json.loads(self.neutral(json.dumps(self.api("GET", f"/exec/{i}/json")))) for i in ids]

    def command(self, command):
        argv = shlex.split(command.format(**self.known))
        if argv[0] == "EXEC":
            return self.execs(argv[1])
        r = self.cli(*argv)
        if r.code:
            return f"{r.code} {self.refusal(r)}"
        if argv[0] == "inspect":
            return self.document(json.loads(r.out)[0], True)
        text = self.neutral(r.out)
        if argv[-1] != "json" and argv[-2] != "json" and "inspect" not in argv:
            return {"stdout": text}
        docs = json.loads(text) if text.startswith("[") else [json.loads(x) for x in text.splitlines()]
        return sorted(docs, key=lambda d: d.get("Name") or d.get("Names") or "")

    def streams(self):
        """What an exec says, with and without a terminal, to a client that wants frames and to one that does not."""
        said = []
        for terminal in (False, True):
            for raw in (False, True):
                body = {"Cmd": ["sh", "-c", "echo out; sleep 1; echo err >&2"], "AttachStdout": True, "AttachStderr": True, "Tty": terminal}
                xid = call(self.sock, "POST", "/containers/streams/exec", body)[1]["Id"]
                code, data = call(self.sock, "POST", f"/exec/{xid}/start", {"Detach": False, "Tty": raw}, raw=True)
                said.append((terminal, raw, code, unframed(data)))
        return said


def unframed(data):
    """What came on which stream; bytes without frames as they are."""
    said = {}
    while data[:1] in (b"\1", b"\2"):
        n = int.from_bytes(data[4:8], "big")
        said[data[0]] = said.get(data[0], b"") + data[8:8 + n]
        data = data[8 + n:]
    return said or data


def judge(ours, theirs, verdict, base):
    """What is wrong with the two answers, given how they are to differ; None if nothing."""
    if isinstance(ours, str) or isinstance(theirs, str):
        kind = "" if ours == theirs else "refused" if not isinstance(theirs, str) else \
               "words" if isinstance(ours, str) else "accepted"
        return None if kind == verdict else f"{kind or 'the same'}:\n    ours   {ours}\n    theirs {theirs}"
    may = verdict.startswith("may:")
    patterns = [p.strip() for p in verdict.removeprefix("may:").split(", ")]
    found = {k: v for k, v in differences(ours, theirs).items() if base.get(k) != v and not named(k.removeprefix("[0]."), NEVER)}
    wrong = {k: v for k, v in found.items() if not named(k, patterns)}
    if not wrong and verdict and not may and not found:
        return "the same"
    return "".join(f"\n    {k}: {a!r}, theirs {b!r}" for k, (a, b) in wrong.items()) or None


@pytest.fixture(scope="module")
def base():
    d = pathlib.Path(tempfile.mkdtemp(prefix="insula-beside-"))
    (d / "env").write_text("# c\nA=b\nC\n  D=e f \n")
    (d / "labels").write_text("a=b\nc\n")
    (d / "bind").mkdir()
    (d / "out").mkdir()
    (d / "seccomp").write_text('{"defaultAction":"SCMP_ACT_ALLOW"}')
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="module")
def known(base):
    disk = next(f"/dev/{x}" for x in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{x}"))
    return {k: base / k for k in ("env", "labels", "bind", "seccomp", "out")} | {"disk": disk, "port": free_port()}


@pytest.fixture(scope="module")
def docker(base, known):
    """All answers of dockerd, which is asked once."""
    place = peers.Place()
    d = None
    try:
        d = peers.Docker(place, base, IMAGES / "busybox.tar")
        side = Side(dict(d.env, DOCKER_CONFIG=str(base)), d.base / "docker.sock", d.base / "data", known)
        signal.alarm(600)
        said = [side.command(command) for command, _ in lines(COMMANDS)]
        side.cli("run", "-d", "--name", "streams", "busybox", "sleep", "1000").ok()
        streams = side.streams()
        yield {flags: side.create(flags) for flags, _ in [("", ""), *lines(FLAGS)]}, said, streams
    finally:
        if d:
            d.stop()
        place.stop()


@pytest.fixture
def ours(isolation, base, known):
    e = Engine(base / isolation, ["--exec-opt", f"isolation={isolation}"])
    e.subnet = "172.17.0.1/16"
    e.start()
    try:
        e.cli("insula", "load", "-q", "-i", IMAGES / "busybox.tar").ok()
        yield Side(e.env(), e.sock, e.data, known)
        e.cli("insula", "rm", "-fv", *e.cli("insula", "ps", "-aq").out.split())
    finally:
        e.stop()
        shutil.rmtree(e.base)


def test_flags_of_create(docker, ours, isolation):
    signal.alarm(600)
    theirs, wrong = docker[0], []
    bare = ours.create("")
    base = differences(bare, theirs[""])
    unknown = [k for k in base if not named(k, [*EVERYWHERE, *NEVER])]
    assert not unknown, {k: base[k] for k in unknown}
    machine = {flags for flags, _ in lines(IN_A_MACHINE)} if isolation == "hyperv" else set()
    for flags, verdict in lines(FLAGS):
        mine = ours.create(flags)
        if flags in machine:
            fault = None if isinstance(mine, str) and "virtual machine" in mine else f"not refused: {mine}"
        else:
            fault = judge(mine, theirs[flags], verdict, base)
        wrong += [f"{flags}: {fault}"] if fault else []
    assert not wrong, "\n".join(wrong)


def test_streams_of_exec(docker, ours):
    ours.cli("run", "-d", "--name", "streams", "busybox", "sleep", "1000").ok()
    assert ours.streams() == docker[2] and docker[2][1] == (False, True, 200, b"out\n")


def test_commands(docker, ours, isolation):
    signal.alarm(600)
    wrong, bare = [], None
    for (command, verdict), theirs in zip(lines(COMMANDS), docker[1]):
        mine = ours.command(command)
        if command.startswith("inspect ") and bare is None:
            bare = differences(mine, theirs)
            bare = {k: v for k, v in bare.items() if named(k, EVERYWHERE)}
        fault = judge(mine, theirs, verdict, bare or {})
        wrong += [f"{command}: {fault}"] if fault else []
    assert not wrong, "\n".join(wrong)
