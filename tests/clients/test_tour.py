"""A tour of eighty commands of the docker CLI, in both modes: one after the other, as a user would type them. Debian's
older CLI makes the same tour."""
import pathlib
import re
import shlex
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import *          # noqa: F401,F403,E402  its fixtures
from conftest import IMAGES, Engine, free_port, host_state, wait_clean       # noqa: E402

# The command; behind "=>" what it must say (a regular expression for all of its output, "~" first: for a part of it),
# behind "!" the exit code that it must end with. {x} is filled in; "as x" keeps the output.
TOUR = r"""
version -f '{{{{.Server.Os}}}}/{{{{.Client.Os}}}}'          => linux/linux
info -f '{{{{.Isolation}}}}'                                => {isolation}
load -q -i {busybox}                                        => Loaded image: busybox:latest
images --format '{{{{.Repository}}}}:{{{{.Tag}}}}'          => busybox:latest
images -q                                                   => [0-9a-f]{{12}}
image inspect -f '{{{{.Os}}}}' busybox                      => linux
history --no-trunc -q busybox                               => (?s)sha256:[0-9a-f]{{64}}.*
tag busybox mine:1                                          =>
image ls -q --filter reference='mine:*'                     => [0-9a-f]{{12}}
run --rm busybox echo hello                                 => hello
run --rm busybox sh -c 'exit 7'                             => ! 7
run --rm busybox nothing-here                               => ~executable file not found ! 127
run --rm busybox /etc                                       => ~permission denied|is a directory ! 126
run --rm -e A=b -w /tmp -u 7:8 -h name busybox sh -c 'echo $A $PWD $(id -u):$(id -g) $(hostname)' => b /tmp 7:8 name
run --rm --read-only --tmpfs /t busybox sh -c 'touch /x; touch /t/x && echo ok' => ok
run --rm -m 64m busybox sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true' => .*
run --rm --init busybox ps -o comm                          => (?s)COMMAND.*
run --rm --entrypoint echo busybox from here                => from here
run --rm --label a=b --name gone busybox true               =>
run --rm -i busybox cat < typed                             => typed
network create back                                         => [0-9a-f]{{64}}
network create --internal --subnet 10.201.7.0/24 inner      => [0-9a-f]{{64}}
network ls --format '{{{{.Name}}}}'                         => (?s)back\nbridge\nhost\ninner\nnone
network inspect -f '{{{{.Internal}}}}' inner                => true
volume create store                                         => store
volume ls -q                                                => store
volume inspect -f '{{{{.Driver}}}}' store                   => local
create --name first -v store:/data --network back busybox sh -c 'trap "exit 3" TERM; echo said; echo begun > /data/x; while :; do sleep 0.1; done' => [0-9a-f]{{64}} as first
ps -a --format '{{{{.Names}}}} {{{{.Status}}}}'             => first Created
start first                                                 => first
ps -q --no-trunc                                            => {first}
ps --filter name=first --filter status=running --format '{{{{.Image}}}}' => busybox
port first                                                  =>
exec first sh -c 'until test -s /data/x; do sleep 0.1; done; cat /data/x' => begun
exec -e X=y -w /data first sh -c 'echo $X; ls'              => (?s)y\nx
exec -u 1 first id -u                                       => 1
exec first sh -c 'exit 9'                                   => ! 9
exec first missing                                          => ~executable file not found ! 127
exec -d first touch /data/detached                          =>
top first                                                   => ~sleep
logs --since 1h first                                       => said
top first -o pid,comm                                       => ~PID
stats --no-stream --format '{{{{.Name}}}}' first            => first
inspect -f '{{{{.HostConfig.Isolation}}}}' first            => {isolation}
inspect -f '{{{{.State.Running}}}} {{{{.Config.Image}}}}' first => true busybox
inspect --size -f '{{{{.SizeRw}}}}' first                   => [1-9]\d*
ps -s --format '{{{{.Size}}}}'                              => \S+B \(virtual \S+B\)
cp {file} first:/copied                                     => .*
cp first:/copied -                                          => ~content of the file
diff first                                                  => (?s).*A /copied.*
network connect --alias also inner first                    =>
run --rm --network inner busybox ping -c 1 -w 20 also       => ~1 packets received
network disconnect inner first                              =>
pause first                                                 => first
ps --format '{{{{.Status}}}}'                               => .*\(Paused\)
unpause first                                               => first
update --memory 128m --memory-swap 256m --restart on-failure:2 first => first
inspect -f '{{{{.HostConfig.Memory}}}}' first               => 134217728
rename first second                                         =>
kill -s CHLD second                                         => second
rm second                                                   => ~cannot remove container ! 1
stop -t 30 second                                           => second
wait second                                                 => 3
start second                                                => second
restart -t 30 second                                        => second
logs --tail 1 second                                        => said
logs -t second                                              => ~\d{{4}}-\d\d-\d\dT\S+Z said
commit -m text -c 'CMD ["cat", "/copied"]' second mine:2    => sha256:[0-9a-f]{{64}}
run --rm mine:2                                             => content of the file
export second -o {out}/root.tar                             =>
import -c 'CMD ["echo", "imported"]' {out}/root.tar mine:3  => sha256:[0-9a-f]{{64}}
run --rm mine:3                                             => imported
save mine:2 -o {out}/mine.tar                               =>
rmi mine:2                                                  => ~Untagged: mine:2
load -i {out}/mine.tar                                      => Loaded image: mine:2
run -d --name web -p 127.0.0.1:{port}:80 --restart always --health-cmd true busybox httpd -f -p 80 => [0-9a-f]{{64}}
port web 80/tcp                                             => 127.0.0.1:{port}
ps --filter publish={port} --format '{{{{.Names}}}}'        => web
events --since 1h --until {soon} --filter container=web --filter event=start --format '{{{{.Action}}}}' => start
system df --format '{{{{.Type}}}}'                          => ~Images
container ls -aq --filter label=none                        =>
rm -f web second                                            => (?s)web\nsecond
container prune -f                                          => Total reclaimed space: 0B
network prune -f                                            => (?s)Deleted Networks:\n.*
volume rm store                                             => store
volume prune -f                                             => ~Total reclaimed space
rmi mine:1 mine:2 mine:3                                    => ~Untagged: mine:1
image prune -f                                              => ~Total reclaimed space
inspect first                                               => ~[Nn]o such object: first ! 1
ps -aq                                                      =>
"""


def steps():
    for line in filter(None, TOUR.splitlines()):
        command, want = line.split("=>", 1)
        want, _, code = want.partition(" ! ")
        want, _, kept = want.partition(" as ")
        command, _, stdin = command.partition(" < ")
        yield command.strip(), stdin.strip() or None, want.strip(), int(code or 0), kept.strip()


@pytest.fixture
def own(tmp_path, isolation):
    e = Engine(tmp_path / "engine", ["--exec-opt", f"isolation={isolation}"])
    e.start()
    before = host_state(e.base)
    yield e
    wait_clean(e, before)
    e.stop()


def test_tour_with_docker(own, isolation, tmp_path):
    signal.alarm(900)
    (tmp_path / "file").write_text("content of the file\n")
    known = {"isolation": isolation, "busybox": IMAGES / "busybox.tar", "port": free_port(), "out": tmp_path, "file": tmp_path / "file"}
    done, wrong = 0, []
    try:
        for command, stdin, want, code, kept in steps():
            argv = shlex.split(command.format(soon=int(time.time()) + 1, **known))
            r = own.cli("docker", *argv, stdin=stdin)
            said = (r.out + r.err if code else r.out).strip()
            want = want.format(**known)
            match = re.search(want[1:], said) if want.startswith("~") else re.fullmatch(want, said)
            if r.code != code or not match:
                wrong.append(f"{command}\nwanted {code} {want!r}, got {r!r}")
            known.update({kept: said} if kept else {})
            done += 1
    finally:
        ids = own.cli("insula", "ps", "-aq").out.split()
        if ids:
            own.cli("insula", "rm", "-f", *ids)
    assert not wrong, "\n".join(wrong)
    assert done >= 80
