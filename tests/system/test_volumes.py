"""Volumes, alike in both modes: -v, --mount in every form, --volumes-from, options of the local driver, prune."""
import os
import re
import subprocess

import pytest

from conftest import NO_IDMAP, Cli, command_of, descriptors, wait_for


@pytest.fixture
def cli(c, request):
    """Our CLI; the real one where the test says so, by name of its parameter."""
    c.name = getattr(request, "param", "insula")
    return c


both_clis = pytest.mark.parametrize("cli", ["insula", "docker"], indirect=True)


@pytest.fixture
def volume(cli):
    """Makes volumes that are gone after the test."""
    made = []

    def make(*args):
        made.append(cli("volume", "create", *args).ok())
        return made[-1]
    yield make
    cli.cleanup()
    for name in made:
        cli("volume", "rm", "-f", name)


def unmount(path):
    """The kernel lets go of what a container had open a moment after its end."""
    wait_for(lambda: subprocess.run(["umount", str(path)]).returncode == 0)


def refused(cli, *args):
    r = cli("create", *args, "busybox", "true")
    assert r.code != 0, r
    return r.err.strip()


@both_clis
@pytest.mark.parametrize("args, message", [
    (["--mount", "type=bind,src=/no/such,dst=/x"],
     'invalid mount config for type "bind": bind source path does not exist: /no/such'),
    (["--mount", "type=bind,src=/tmp,dst=/"],
     'invalid mount config for type "bind": invalid specification: destination can\'t be \'/\''),
    (["--mount", "type=bind,src=/tmp,dst=x"], "invalid mount path: 'x' mount path must be absolute"),
    (["--mount", "type=volume,dst=/x,readonly"],
     'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes'),
    (["--mount", "type=volume,src=v1,volume-subpath=../x,dst=/x"],
     'invalid mount config for type "volume": subpath must be a relative path within the volume'),
    (["--mount", "type=volume,src=v1,volume-driver=nfs,dst=/x"], 'error looking up volume plugin nfs: plugin "nfs" not found'),
    (["--mount", "type=cluster,src=v1,dst=/x"], 'invalid mount config for type "cluster": mount type unknown'),
    (["--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=often"], "invalid propagation mode: often"),
    (["-v", "vv:/x:idmap"], "idmap: containers have no user namespace that would say what is mapped"),
    (["-v", "/tmp:/x:idmap=uids=0-1;gids=0-1-1"], "idmap=uids=0-1;gids=0-1-1: must be uids=FILE-SEEN-COUNT[#...];gids=FILE-SEEN-COUNT[#...]"),
    (["-v", "/tmp:/x:idmap=uids=0-1-1"], "must be uids=FILE-SEEN-COUNT"),
    (["-v", "/tmp:/x:what"], "invalid mode: what"),
    (["-v", "/tmp:/x:ro,rw"], "invalid mode: ro,rw"),
    (["-v", "/tmp:/x", "-v", "/var:/x"], "Duplicate mount point: /x"),
    (["-v", "/tmp:/x/", "--mount", "type=tmpfs,dst=/x"], "Duplicate mount point: /x"),
    (["-v", "a!b:/x"], 'includes invalid characters for a local volume name'),
    (["-v", "vv:/x:rslave"], 'invalid mount config for type "volume": field BindOptions must not be specified'),
    (["--volumes-from", "nobody"], "No such container: nobody"),
    (["--volumes-from", "x:what"], "invalid mode: what"),
    (["--volumes-from", "x:nocopy"], "invalid mode: nocopy"),
    (["--volume-driver", "nfs", "-v", "vv:/x"], 'error looking up volume plugin nfs: plugin "nfs" not found'),
])
def test_refused(cli, args, message):
    assert message in refused(cli, *args)


@both_clis
def test_bind_forms(cli, tmp_path):
    (tmp_path / "f").write_text("host\n")
    (tmp_path / "one").write_text("single\n")
    r = cli("run", "--rm", "--mount", f"type=bind,source={tmp_path},target=/a,readonly,consistency=cached",
            "--mount", f"type=bind,src={tmp_path},dst=/b,bind-propagation=private,bind-recursive=disabled",
            "--mount", f"type=bind,src={tmp_path}/one,dst=/etc/one,ro",
            "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1750", "-v", f"{tmp_path}/made/here:/m", "busybox", "sh", "-c",
            "cat /a/f /etc/one; touch /a/x 2>/dev/null || echo ro; echo x > /etc/one 2>/dev/null || echo ro;"
            "echo guest > /b/g && cat /a/g; stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'; ls -d /m")
    assert r.ok().split("\n") == ["host", "single", "ro", "ro", "guest", "1750", "1024", "/m"]
    assert (tmp_path / "g").read_text() == "guest\n" and (tmp_path / "made/here").is_dir()
    # what cannot be is told in the user's words: the source is the host's path in both modes
    r = cli("run", "--rm", "-v", f"{tmp_path}:/etc/passwd", "busybox", "true")
    assert r.code == 125 and f'error mounting "{tmp_path}" to rootfs at "/etc/passwd": ' in r.err and "Not a directory" in r.err


@both_clis
def test_inspect_shows_mounts(cli, volume, tmp_path):
    volume("insp1")
    cid = cli("create", "-v", f"{tmp_path}:/b:ro,z", "-v", "insp1:/n:nocopy", "--mount", f"type=bind,src={tmp_path},dst=/s,bind-propagation=private",
              "--mount", "type=tmpfs,dst=/t", "busybox", "true")
    assert "'z' is ignored" in cid.err
    cid = cid.ok().split()[-1]
    cli.ids.append(cid)
    rows = cli("inspect", "-f", '{{range .Mounts}}{{.Type}} {{.Destination}} {{.Mode}} {{.RW}} {{.Propagation}}|{{end}}', cid).ok()
    assert sorted(rows.strip("|").split("|")) == ["bind /b ro,z false rprivate", "bind /s  true private", "tmpfs /t  true ", "volume /n nocopy true "]


def test_read_only_holds_below(cli, tmp_path):
    """Read-only goes for what is mounted below the source too; bind-recursive says otherwise."""
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", str(tmp_path / "sub")], check=True)
    try:
        out = cli("run", "--rm", "--mount", f"type=bind,src={tmp_path},dst=/a,readonly",
                  "--mount", f"type=bind,src={tmp_path},dst=/w,readonly,bind-recursive=writable",
                  "--mount", f"type=bind,src={tmp_path},dst=/n,bind-recursive=disabled", "busybox", "sh", "-c",
                  "touch /a/sub/x 2>/dev/null || echo ro; touch /w/y 2>/dev/null || echo ro; touch /w/sub/y && echo rw; ls /n/sub").ok()
        assert out.split() == ["ro", "ro", "rw"]
    finally:
        unmount(tmp_path / "sub")


@pytest.fixture
def shared(tmp_path):
    """A directory which is a shared mount of the host."""
    d = tmp_path / "shared"
    d.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", str(d)], check=True)
    subprocess.run(["mount", "--make-shared", str(d)], check=True)
    yield d
    unmount(d)


@both_clis
def test_propagation_to_the_host(cli, shared):
    """What a container mounts below a shared bind shows on the host, and stays there, as with Docker."""
    (shared / "sub").mkdir()
    args = ["--privileged", "--mount", f"type=bind,src={shared},dst=/a,bind-propagation=rshared", "busybox", "sh", "-c",
            "mount -t tmpfs inner /a/sub && touch /a/sub/f && sleep 1000"]
    if cli.isolation == "hyperv":
        return refused_with(cli, args, "propagation 'rshared': what is mounted in a virtual machine is its own kernel's and cannot appear on the host")
    cid = cli.rund(*args)
    wait_for(lambda: (shared / "sub/f").exists())
    cli("rm", "-f", cid).ok()
    assert (shared / "sub/f").exists()
    unmount(shared / "sub")
    # one that only looks, running or not, takes nothing of the host's away
    subprocess.run(["mount", "-t", "tmpfs", "x", str(shared / "sub")], check=True)
    (shared / "sub/kept").touch()
    cid = cli("create", "-v", f"{shared}:/a:rshared", "busybox", "ls", "/a/sub").ok()
    cli.ids.append(cid)
    assert cli("start", "-a", cid).ok() == "kept"
    cli("cp", f"{cid}:/a/sub/kept", str(shared / "copy")).ok()
    cli("rm", cid).ok()
    assert (shared / "copy").exists() and (shared / "sub/kept").exists()
    unmount(shared / "sub")


def refused_with(cli, args, message):
    r = cli("create", *args)
    assert r.code != 0 and message in r.err, r


@both_clis
def test_nothing_to_propagate(cli, tmp_path):
    """Docker's refusal, where the host's mount would pass nothing on."""
    d = tmp_path / "private"
    d.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", str(d)], check=True)
    subprocess.run(["mount", "--make-private", str(d)], check=True)
    try:
        r = cli("run", "--rm", "-v", f"{d}:/a:rslave", "busybox", "true")
        assert r.code == 125 and f"path {d} is mounted on {d} but it is not a shared or slave mount" in r.err
        if cli.isolation == "process":
            r = cli("run", "--rm", "-v", f"{d}:/a:shared", "busybox", "true")
            assert r.code == 125 and f"path {d} is mounted on {d} but it is not a shared mount" in r.err
    finally:
        unmount(d)


@both_clis
def test_mapped_ids(cli, volume, tmp_path):
    """Owners on the disk are seen as others, and what the container makes comes to the disk as theirs."""
    d = tmp_path / "owned"
    d.mkdir(mode=0o755)
    os.chown(d, 5000, 6000)
    (d / "f").write_text("x")
    os.chown(d / "f", 5001, 6001)
    (d / "other").write_text("x")
    maps = "idmap=uids=5000-0-100;gids=6000-0-100"
    script = "stat -c %u:%g /d /d/f /d/other; touch /d/new && chown 7:8 /d/new && stat -c %u:%g /d/new"
    r = cli("run", "--rm", "-v", f"{d}:/d:{maps}", "busybox", "sh", "-c", script)
    if NO_IDMAP and cli.isolation == "process":
        assert r.code == 125 and "idmapped mounts are not there before Linux 5.12" in r.err
        return
    out = r.ok()
    assert out.split() == ["0:0", "1:1", "65534:65534", "7:8"]
    st = os.stat(d / "new")
    assert (st.st_uid, st.st_gid) == (5007, 6008)
    volume("mapped")
    point = cli("volume", "inspect", "-f", "{{.Mountpoint}}", "mapped").ok()
    os.chown(point, 5000, 6000)
    assert cli("run", "--rm", "-v", f"mapped:/d:nocopy,{maps}", "busybox", "sh", "-c", "stat -c %u:%g /d; touch /d/n").ok() == "0:0"
    assert os.stat(f"{point}/n").st_uid == 5000
    if cli.name == "insula":
        assert cli("run", "--rm", "--mount", f"type=bind,src={d},dst=/d,{maps}", "busybox", "stat", "-c", "%u", "/d/f").ok() == "1"


@pytest.mark.parametrize("mode, seen", [("rslave", True), ("rprivate", False)])
def test_propagation_from_the_host(cli, tmp_path, mode, seen):
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path), str(tmp_path)], check=True)
    subprocess.run(["mount", "--make-shared", str(tmp_path)], check=True)
    try:
        cid = cli.rund("--mount", f"type=bind,src={tmp_path},dst=/a,bind-propagation={mode}", "busybox", "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "x", str(tmp_path / "sub")], check=True)
        (tmp_path / "sub" / "late").touch()
        try:
            if seen:
                wait_for(lambda: cli("exec", cid, "ls", "/a/sub").out.strip() == "late")
            else:
                assert cli("exec", cid, "ls", "/a/sub").ok() == ""
        finally:
            cli("rm", "-f", cid)
            unmount(tmp_path / "sub")
    finally:
        unmount(tmp_path)


def test_copy_up_and_nocopy(cli, volume):
    """A new volume starts with what the image has there; an image of our own with a VOLUME."""
    volume("fillme"), volume("leave")
    out = cli("run", "--rm", "-v", "fillme:/etc", "-v", "leave:/bin2:nocopy", "--mount", "type=volume,src=leave,dst=/root,volume-nocopy",
              "busybox", "sh", "-c", "test -s /etc/passwd && ls -a /root | wc -l")
    assert "Duplicate" not in out.err and out.ok() == "2"
    assert "root" in cli("run", "--rm", "-v", "fillme:/x", "busybox", "cat", "/x/passwd").ok()


def test_subpath(cli, volume):
    volume("subs")
    cli("run", "--rm", "-v", "subs:/v", "busybox", "sh", "-c",
        "mkdir -p /v/a/b; echo in > /v/a/b/f; echo out > /v/secret; ln -s / /v/root; ln -s /etc /v/a/etc").ok()
    sub = "type=volume,src=subs,dst=/s,volume-subpath="
    assert cli("run", "--rm", "--mount", sub + "a/b", "busybox", "sh", "-c", "cat /s/f; ls /s/..|grep -c secret").out == "in\n0\n"
    assert cli("run", "--rm", "--mount", sub + "a/b/f,readonly", "busybox", "sh", "-c", "cat /s; echo x >/s || echo ro").out == "in\nro\n"
    # a link that a container left leads nowhere but into the volume
    assert cli("run", "--rm", "--mount", sub + "root", "busybox", "cat", "/s/secret").ok() == "out"
    r = cli("run", "--rm", "--mount", sub + "a/etc", "busybox", "ls", "/s")
    assert r.code != 0 and "No such file or directory" in r.err
    r = cli("run", "--rm", "--mount", sub + "nothing", "busybox", "ls", "/s")
    assert r.code == 125 and "cannot access path 'nothing' in '" in r.err and "No such file or directory" in r.err


@both_clis
def test_volumes_from(cli, volume, tmp_path):
    volume("vfrom"), volume("other")
    (tmp_path / "f").write_text("bound\n")
    first = cli("create", "-v", "vfrom:/v", "-v", f"{tmp_path}:/b:ro", "-v", "/anon", "--tmpfs", "/t", "busybox", "sh", "-c",
                "echo v > /v/f; echo a > /anon/f").ok()
    cli.ids.append(first)
    cli("start", "-a", first).ok()
    out = cli("run", "--rm", "--volumes-from", first, "-v", "other:/v", "busybox", "sh", "-c",
              "ls /v; cat /b/f /anon/f; touch /b/x 2>/dev/null || echo ro; ls -d /t 2>/dev/null").out
    assert out.split() == ["bound", "a", "ro"]
    out = cli("run", "--rm", "--volumes-from", first[:12] + ":ro", "busybox", "sh", "-c", "cat /v/f; touch /v/x 2>/dev/null || echo ro").ok()
    assert out.split() == ["v", "ro"]
    r = cli("volume", "rm", "vfrom")
    assert r.code == 1 and f"remove vfrom: volume is in use - [{first}]" in r.err


def test_rm_takes_anonymous_volumes(cli):
    def anonymous(cid):
        return cli("inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", cid).ok()
    kept = cli("create", "-v", "/a", "busybox", "true").ok()
    gone = cli("create", "-v", "/a", "busybox", "true").ok()
    names = anonymous(kept), anonymous(gone)
    cli("rm", kept).ok(), cli("rm", "-v", gone).ok()
    assert cli("volume", "inspect", names[0]).code == 0 and cli("volume", "inspect", names[1]).code == 1
    assert "no such volume" in cli("volume", "inspect", names[1]).err
    cli("volume", "rm", names[0]).ok()


@both_clis
def test_prune_and_filters(cli, volume):
    volume("pr-used", "--label", "set=p"), volume("pr-free", "--label", "set=p", "--label", "kind=x")
    cid = cli("create", "-v", "pr-used:/v", "-v", "/anon", "busybox", "true").ok()
    cli.ids.append(cid)
    free = cli("create", "-v", "/a", "busybox", "true").ok()
    name = cli("inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", free).ok()
    cli("rm", free).ok()

    def ls(*filters):
        return set(cli("volume", "ls", "-q", *[x for f in filters for x in ("--filter", f)]).ok().split())
    assert ls("label=set=p") == {"pr-used", "pr-free"}
    assert ls("label=set=p", "dangling=true") == {"pr-free"} and ls("label=set=p", "dangling=false") == {"pr-used"}
    assert ls("label=set=p", "name=free") == {"pr-free"} and ls("label=kind") == {"pr-free"} and ls("label=set=p", "driver=nfs") == set()
    out = cli("volume", "prune", "-f").ok()
    assert name in out and "pr-free" not in out and "Total reclaimed space" in out
    assert "pr-free" not in cli("volume", "prune", "-af", "--filter", "label!=kind=x").ok()
    out = cli("volume", "prune", "-af", "--filter", "label=set=p").ok()
    assert "Deleted Volumes:" in out and "pr-free" in out and "pr-used" not in out
    assert ls("label=set=p") == {"pr-used"}
    assert "invalid filter 'until'" in cli("volume", "prune", "-f", "--filter", "until=1h").err


def mounted(engine, name):
    return f"/volumes/{name}/_data " in open("/proc/self/mountinfo").read()


def test_driver_options(cli, engine, volume, tmp_path):
    """A tmpfs that two containers share; a directory by its own name; both are gone with the last container."""
    (tmp_path / "f").write_text("dir\n")
    volume("optmp", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=750")
    volume("opdir", "--opt", "type=none", "--opt", "o=bind,ro", "--opt", f"device={tmp_path}")
    a = cli.rund("-v", "optmp:/t", "-v", "opdir:/d", "busybox", "sleep", "1000")
    assert mounted(engine, "optmp") and mounted(engine, "opdir")
    b = cli.rund("--volumes-from", a, "busybox", "sleep", "1000")
    cli("exec", a, "sh", "-c", "echo shared > /t/f").ok()
    out = cli("exec", b, "sh", "-c", "cat /t/f /d/f; touch /d/x 2>/dev/null || echo ro; stat -c %a /t").ok()
    assert out.split() == ["shared", "dir", "ro", "750"]
    cli("rm", "-f", a).ok()
    assert mounted(engine, "optmp") and cli("exec", b, "cat", "/t/f").ok() == "shared"
    assert '"o":"size=1m,mode=750"' in cli("volume", "inspect", "-f", "{{json .Options}}", "optmp").ok()
    cli("rm", "-f", b).ok()
    wait_for(lambda: not mounted(engine, "optmp") and not mounted(engine, "opdir"))
    assert (tmp_path / "f").exists()


@both_clis
def test_driver_options_of_mount(cli, engine, volume, tmp_path):
    (tmp_path / "f").write_text("dir\n")
    # the real CLI reads commas as Go's csv does
    m = f'type=volume,src=opmount,dst=/d,volume-label=a=b,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={tmp_path}'
    assert cli("run", "--rm", "--mount", m, "busybox", "cat", "/d/f").ok() == "dir"
    assert cli("volume", "inspect", "-f", "{{.Labels.a}}", "opmount").ok() == "b"
    wait_for(lambda: not mounted(engine, "opmount"))
    cli("volume", "rm", "opmount").ok()


@pytest.mark.parametrize("options, message", [
    (["-o", "type=tmpfs"], 'missing required option: "device"'),
    (["-o", "what=x"], 'invalid option: "what"'),
])
def test_driver_options_refused(cli, options, message):
    assert message in cli("volume", "create", *options, "opbad").err


def test_driver_options_that_do_not_mount(cli, volume):
    volume("opnone", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such/dir")
    r = cli("run", "--rm", "-v", "opnone:/x", "busybox", "true")
    assert r.code == 125 and "failed to mount local volume: mount /no/such/dir:" in r.err and "o such file or directory" in r.err


def test_one_volume_in_both_modes(engine, leaks, volume_name="both"):
    """What one mode writes the other reads, at once after a close; an open file sees it after a new open."""
    p, h = Cli(engine, "insula", "process"), Cli(engine, "insula", "hyperv")
    try:
        a = p.rund("-v", "both:/v", "busybox", "sleep", "1000")
        b = h.rund("-v", "both:/v", "busybox", "sleep", "1000")
        for i in range(5):
            p("exec", a, "sh", "-c", f"echo p{i} > /v/f; mkdir -p /v/d{i}").ok()
            assert h("exec", b, "sh", "-c", f"cat /v/f; ls -d /v/d{i}").ok().split() == [f"p{i}", f"/v/d{i}"]
            h("exec", b, "sh", "-c", f"echo h{i} > /v/f; rmdir /v/d{i}; mv /v/f /v/g; mv /v/g /v/f").ok()
            assert p("exec", a, "sh", "-c", f"cat /v/f; ls -d /v/d{i} 2>/dev/null || echo gone").ok().split() == [f"h{i}", "gone"]
    finally:
        p.cleanup(), h.cleanup()
        p("volume", "rm", "-f", "both")


def test_jail_of_the_file_server(engine, leaks, tmp_path):
    """What serves a share has namespaces of its own, a filter, few capabilities, and nothing but the share to see."""
    (tmp_path / "f").write_text("x")
    h = Cli(engine, "insula", "hyperv")
    try:
        cid = h.rund("-v", f"{tmp_path}:/d:ro", "busybox", "sleep", "1000")
        def below(parent, name):
            found = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    comm, rest = open(f"/proc/{pid}/stat").read().split("(", 1)[1].rsplit(")", 1)
                    if comm == name and (not parent or rest.split()[1] == parent):
                        found.append(pid)
                except OSError:
                    continue
            return found
        worker = [p for p in below(None, "vmwp") if cid[:12] in command_of(p)]
        servers = [s for w in worker for p in below(w, "virtiofsd") for s in below(p, "virtiofsd")]
        assert len(servers) == 1, (worker, servers)
        status = dict(x.split(":\t", 1) for x in open(f"/proc/{servers[0]}/status").read().splitlines() if ":\t" in x)
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, MKNOD, SETFCAP: what a server of files needs
        needed = sum(1 << n for n in (0, 1, 3, 4, 6, 7, 27, 31))
        assert int(status["CapEff"], 16) & ~needed == 0 and int(status["CapBnd"], 16) & ~needed == 0
        for ns in ("mnt", "pid", "net"):
            assert os.readlink(f"/proc/{servers[0]}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}")
        assert os.listdir(f"/proc/{servers[0]}/root") == ["f"]
        # QEMU, the guest's memory, its log, what it serves and its own threads
        opened = set(descriptors(servers[0]).values())
        assert all(re.fullmatch(r"/|/\d+/task|/\d+/fd|/dev/null|anon_inode:.*|socket:.*|pipe:.*|/memfd:.*", x) for x in opened), opened
    finally:
        h.cleanup()
