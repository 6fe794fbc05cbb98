"""Files of containers: cp both ways, diff, export; of running and stopped containers, alike in both modes."""
import io
import os
import subprocess
import tarfile
import time

import pytest

from conftest import wait_for


@pytest.fixture
def cli(both):
    return both


@pytest.fixture(params=["running", "created"])
def state(request):
    return request.param


def make(cli, state, *args):
    if state == "running":
        return cli.rund(*args, "busybox", "sleep", "1000")
    cid = cli("create", *args, "busybox", "sleep", "1000").ok()
    cli.ids.append(cid)
    return cid


def names(tar):
    return [m.name for m in tarfile.open(fileobj=io.BytesIO(tar)).getmembers()]


def raw(cli, *args):
    """Standard output as bytes."""
    p = subprocess.run(cli.engine.argv(cli.name, *args), env=cli.engine.env(), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=180)
    assert p.returncode == 0, p.stderr
    return p.stdout


def test_cp_both_ways(cli, state, tmp_path):
    cid = make(cli, state)
    src = tmp_path / "dir"
    (src / "sub").mkdir(parents=True)
    (src / "file").write_text("hello\n")
    (src / "sub" / "empty").touch()
    os.symlink("file", src / "link")
    os.link(src / "file", src / "hard")
    (src / "big").write_bytes(os.urandom(3 << 20))
    os.chmod(src / "file", 0o4751)
    os.utime(src / "sub", (1000000000, 1000000000))
    cli("cp", src, f"{cid}:/root/").ok()
    back = tmp_path / "back"
    back.mkdir()
    cli("cp", f"{cid}:/root/dir", back).ok()
    assert (back / "dir/file").read_text() == "hello\n"
    assert (back / "dir/big").read_bytes() == (src / "big").read_bytes()
    assert os.readlink(back / "dir/link") == "file"
    assert (back / "dir/file").stat().st_mode & 0o7777 == 0o4751
    assert (back / "dir/file").stat().st_ino == (back / "dir/hard").stat().st_ino
    assert (back / "dir/sub").stat().st_mtime == 1000000000
    # the content of a directory, into one that exists
    cli("cp", f"{src}/.", f"{cid}:/tmp").ok()
    assert names(raw(cli, "cp", f"{cid}:/tmp/sub", "-")) == ["sub", "sub/empty"]
    # a single file under another name
    cli("cp", src / "file", f"{cid}:/root/renamed").ok()
    cli("cp", f"{cid}:/root/renamed", tmp_path / "out").ok()
    assert (tmp_path / "out").read_text() == "hello\n"


def test_cp_links_stay_inside(cli, state, tmp_path):
    """Symbolic links of a container lead into the container, whatever they say."""
    cid = make(cli, state)
    evil = tmp_path / "evil"
    evil.mkdir()
    os.symlink("../../../../../../../../etc", evil / "etc")
    os.symlink(str(tmp_path), evil / "out")
    (tmp_path / "secret").write_text("host\n")
    cli("cp", evil, f"{cid}:/root/").ok()
    r = cli("cp", f"{cid}:/root/evil/out/secret", tmp_path / "stolen")
    assert r.code == 1 and "Could not find the file" in r.err
    (tmp_path / "x").write_text("x")
    cli("cp", tmp_path / "x", f"{cid}:/root/evil/etc/").ok()
    assert not os.path.exists("/etc/x")
    assert names(raw(cli, "cp", f"{cid}:/etc/x", "-")) == ["x"]
    t = tarfile.open(fileobj=io.BytesIO(raw(cli, "cp", f"{cid}:/root/evil/etc", "-")))
    assert t.getmembers()[0].issym()
    assert "etc/passwd" in names(raw(cli, "cp", "-L", f"{cid}:/root/evil/etc", "-"))


def test_cp_errors(cli, state, tmp_path):
    cid = make(cli, state)
    (tmp_path / "f").write_text("x")
    (tmp_path / "d").mkdir()
    r = cli("cp", f"{cid}:/nope", tmp_path)
    assert r.code == 1 and f"Could not find the file /nope in container {cid}" in r.err
    r = cli("cp", tmp_path / "f", f"{cid}:/nope/x")
    assert r.code == 1 and "Could not find the file /nope in container" in r.err
    r = cli("cp", tmp_path / "d", f"{cid}:/etc/passwd")
    assert r.code == 1 and "cannot copy directory" in r.err
    r = cli("cp", tmp_path / "f", "nobody:/x")
    assert r.code == 1 and "No such container: nobody" in r.err
    (tmp_path / "d/passwd").mkdir()
    r = cli("cp", f"{tmp_path}/d/.", f"{cid}:/etc")
    assert r.code == 1 and 'cannot overwrite non-directory "/etc/passwd" with directory "/etc"' in r.err
    # nothing of this has touched the container
    assert cli("diff", cid).ok() == ""


def test_cp_read_only(cli, state, tmp_path):
    (tmp_path / "f").write_text("x")
    cid = make(cli, state, "--read-only", "-v", f"{tmp_path}:/ro:ro")
    r = cli("cp", tmp_path / "f", f"{cid}:/root/")
    assert r.code == 1 and "container rootfs is marked read-only" in r.err
    r = cli("cp", tmp_path / "f", f"{cid}:/ro/")
    assert r.code == 1 and "mounted volume is marked read-only" in r.err
    assert names(raw(cli, "cp", f"{cid}:/ro/f", "-")) == ["f"]


def test_cp_volume(cli, state, tmp_path):
    """Volumes belong to what cp sees, and do not to what the container has written."""
    cid = make(cli, state, "-v", "/data")
    (tmp_path / "f").write_text("in the volume")
    cli("cp", tmp_path / "f", f"{cid}:/data/").ok()
    assert names(raw(cli, "cp", f"{cid}:/data", "-")) == ["data", "data/f"]
    if state == "created":
        cli("start", cid).ok()
    assert cli("exec", cid, "cat", "/data/f").ok() == "in the volume"
    assert "data/f" not in names(raw(cli, "export", cid))


def test_stopped_and_started_again(cli, tmp_path):
    """What was copied into a stopped container is there when it runs, and the other way round."""
    cid = make(cli, "created")
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran > /root/out\n")
    os.chmod(tmp_path / "run.sh", 0o755)
    cli("cp", tmp_path / "run.sh", f"{cid}:/root/").ok()
    cli("start", cid).ok()
    cli("exec", cid, "/root/run.sh").ok()
    cli("kill", cid).ok()
    cli("cp", f"{cid}:/root/out", tmp_path / "out").ok()
    assert (tmp_path / "out").read_text() == "ran\n"
    assert cli("diff", cid).ok().splitlines() == ["C /root", "A /root/out", "A /root/run.sh"]
    cli("rm", cid).ok()


def test_owner(cli, state, tmp_path):
    """-a gives everything to the container's user; without it the numbers are kept."""
    (tmp_path / "f").write_text("x")
    os.chown(tmp_path / "f", 3000001, 77)
    cid = make(cli, state, "-u", "nobody")
    for flags in ([], ["-a"]):
        cli("cp", *flags, tmp_path / "f", f"{cid}:/tmp/f").ok()
        m = tarfile.open(fileobj=io.BytesIO(raw(cli, "cp", f"{cid}:/tmp/f", "-"))).getmembers()[0]
        assert (m.uid, m.gid) == ((65534, 65534) if flags else (3000001, 77))


def test_diff_and_export(cli, tmp_path):
    cid = make(cli, "running")
    script = "rm /bin/vi; rm -r /var/spool; mkdir -p /new/dir; echo x > /new/f; touch /etc/passwd; echo y >> /etc/group;" \
             "rm -r /home; mkdir /home; ln -s /new/f /new/l"
    cli("exec", cid, "sh", "-c", script).ok()
    want = cli("diff", cid).ok().splitlines()
    assert [x for x in want if "/home" not in x] == [
        "C /bin", "D /bin/vi", "C /etc", "C /etc/group", "C /etc/passwd", "A /new", "A /new/dir", "A /new/f", "A /new/l",
        "C /var", "D /var/spool"]
    cli("stop", "-t", "0", cid).ok()
    assert cli("diff", cid).ok().splitlines() == want
    got = names(raw(cli, "export", cid))
    assert {"new/f", "new/dir", "etc/group", "bin/sh"} <= set(got) and "bin/vi" not in got and "var/spool" not in got
    cli("export", "-o", tmp_path / "x.tar", cid).ok()
    assert names((tmp_path / "x.tar").read_bytes()) == got


def test_archive_api(engine, isolation, request):
    """The header of HEAD and GET, as clients decode it."""
    import docker
    c = docker.DockerClient(base_url=f"unix://{engine.sock}")
    ctr = c.containers.create("busybox", "sleep 1000", isolation=isolation)
    try:
        chunks, stat = ctr.get_archive("/etc")
        assert stat["name"] == "etc" and stat["mode"] == 0o755 | 1 << 31 and stat["linkTarget"] == ""
        assert "etc/passwd" in names(b"".join(chunks))
        assert ctr.put_archive("/tmp", b"".join(ctr.get_archive("/etc/passwd")[0]))
        assert ctr.diff() == [{"Path": "/tmp", "Kind": 0}, {"Path": "/tmp/passwd", "Kind": 1}] or \
            ctr.diff() == [{"Path": "/tmp/passwd", "Kind": 1}]
        with pytest.raises(docker.errors.NotFound):
            ctr.get_archive("/nope")
        with pytest.raises(docker.errors.APIError, match="extraction point is not a directory"):
            ctr.put_archive("/etc/passwd", b"".join(ctr.get_archive("/etc/group")[0]))
    finally:
        ctr.remove(force=True)
        c.close()


def test_events(cli, tmp_path):
    start = int(time.time()) - 1
    cid = make(cli, "running")
    (tmp_path / "f").touch()
    cli("cp", tmp_path / "f", f"{cid}:/tmp/").ok()
    cli("cp", f"{cid}:/tmp/f", tmp_path / "g").ok()
    raw(cli, "export", cid)

    def seen():
        got = cli("events", "--since", start, "--until", int(time.time()) + 1, "--filter", f"container={cid}",
                  "--format", "{{.Action}}").ok().splitlines()
        return {"extract-to-dir", "archive-path", "export"} <= set(got)
    wait_for(seen)
