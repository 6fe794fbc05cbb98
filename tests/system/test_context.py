"""`insula context` and `docker context` are one thing: what either of them makes, the other one shows and uses."""
import hashlib
import io
import json
import os
import subprocess
import tarfile

import pytest
from conftest import docker_cli, program


@pytest.fixture
def cli(tmp_path):
    """cli(name, arguments...) with a configuration of the test's own: code, standard output, standard error."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "INSULA_"))}
    env.update(DOCKER_CONFIG=str(tmp_path / "docker"), HOME=str(tmp_path))

    def run(name, *args, **more):
        exe = program("insula") if name == "insula" else docker_cli()
        p = subprocess.run([exe, *map(str, args)], env=dict(env, **more), capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout, p.stderr
    return run


BOTH = pytest.mark.parametrize("one,other", [("insula", "docker"), ("docker", "insula")])


@BOTH
def test_what_one_makes_the_other_knows(cli, one, other):
    made = cli(one, "context", "create", "far.1", "--description", "two words", "--docker", "host=unix:///far/a.sock")
    assert made == (0, "far.1\n", 'Successfully created context "far.1"\n')
    assert cli(one, "context", "create", "copy", "--from", "far.1")[0] == 0
    assert cli(other, "context", "use", "far.1") == (0, "far.1\n", 'Current context is now "far.1"\n')
    assert cli(other, "context", "show") == cli(one, "context", "show") == (0, "far.1\n", "")
    for args in (["inspect"], ["inspect", "copy", "far.1"], ["ls", "-q"], ["inspect", "-f", "{{.Endpoints.docker.Host}}"]):
        assert cli(one, "context", *args) == cli(other, "context", *args), args
    line = next(x for x in cli(other, "context", "ls")[1].splitlines() if x.startswith("far.1"))
    assert line.split() == ["far.1", "*", "two", "words", "unix:///far/a.sock"]
    assert cli(one, "context", "update", "far.1", "--docker", "host=tcp://a:1") == (
        0, "far.1\n", 'Successfully updated context "far.1"\n')
    rows = [json.loads(x) for x in cli(other, "context", "ls", "--format", "json")[1].splitlines()]
    assert {r["Name"]: (r["DockerEndpoint"], r["Current"]) for r in rows if r["Name"] != "default"} == {
        "far.1": ("tcp://a:1", True), "copy": ("unix:///far/a.sock", False)}
    assert cli(one, "context", "rm", "copy") == (0, "copy\n", "")
    assert cli(one, "context", "rm", "-f", "far.1") == (0, "far.1\n", "")
    assert cli(other, "context", "show") == (0, "default\n", "") and cli(other, "context", "ls", "-q") == (0, "default\n", "")


@pytest.mark.parametrize("args", [
    ["create", "x"], ["create", "a b"], ["create", "default"], ["create", "there"], ["create", "new", "--docker", "nohost=1"],
    ["create", "new", "--docker", "host=foo"], ["rm", "default"], ["rm", "gone"], ["rm", "there"], ["rm", "-f", "gone"],
    ["use", "default"]])
def test_the_same_words(cli, args):
    assert cli("docker", "context", "create", "there")[0] == 0 and cli("docker", "context", "use", "there")[0] == 0
    assert cli("insula", "context", *args) == cli("docker", "context", *args)
    assert cli("insula", "context", "show")[0] == 0


def archive(path, *entries):
    """A tar file of (name, content); content None: a directory, "->x": a symbolic link."""
    with tarfile.open(path, "w") as t:
        for name, content in entries:
            i = tarfile.TarInfo(name)
            i.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE if content.startswith("->") else tarfile.REGTYPE
            i.linkname = content[2:] if i.type == tarfile.SYMTYPE else ""
            i.size = len(content) if i.type == tarfile.REGTYPE else 0
            t.addfile(i, io.BytesIO((content or "").encode()))
    return path


META = '{"Name":"x","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"tcp://a:1","SkipTLSVerify":false}}}'


@BOTH
def test_moved_to_another_home(cli, tmp_path, one, other):
    first = archive(tmp_path / "in.tar", ("meta.json", META), ("tls", None), ("tls/docker", None), ("tls/docker/ca.pem", "CA"),
                    ("tls/docker/key.pem", "KEY"))
    assert cli(one, "context", "import", "far", first) == (0, "far\n", 'Successfully imported context "far"\n')
    out = tmp_path / "out.tar"
    assert cli(one, "context", "export", "far", out) == (0, "", f'Written file "{out}"\n')
    assert out.stat().st_mode & 0o777 == 0o600
    assert cli(one, "context", "export", "far", out)[0] == 1
    assert cli(other, "context", "import", "near", out)[0] == 0
    for d in ("meta", "tls"):       # what either keeps is the same but for the name
        a, b = (next((tmp_path / "docker/contexts" / d).glob(hashlib.sha256(n.encode()).hexdigest())) for n in ("far", "near"))
        files = {p.relative_to(a): p.read_text() for p in a.rglob("*") if p.is_file()}
        assert {p.relative_to(b): p.read_text().replace("near", "far") for p in b.rglob("*") if p.is_file()} == files and files
    streams = [cli(n, "context", "export", "far", "-")[1].encode() + bytes(4096) for n in (one, other)]     # docker's has no end
    listed = [[(m.name, m.mode, m.isdir(), m.isfile() and t.extractfile(m).read()) for m in sorted(t, key=lambda m: m.name)]
              for t in (tarfile.open(fileobj=io.BytesIO(s)) for s in streams)]
    assert listed[0] == listed[1] and len(listed[0]) == 5


@pytest.mark.parametrize("name,entries,said", [
    ("there", [("meta.json", META)], 'context "there" already exists\n'),
    ("a b", [("meta.json", META)], None),
    ("new", [("other", "x")], "other: unexpected context file\n"),
    ("new", [("meta.json", "->/etc/passwd")], None),
    ("new", [("tls/docker/ca.pem", "x")], "invalid context: no metadata found\n"),
    ("new", [("meta.json", META), ("tls/../../evil", "x")], None),
    ("new", [("meta.json", META), ("tls/docker/../evil", "x")], None),
    ("new", [("meta.json", "[]")], None),
    ("new", [("meta.json", " " * (11 << 20))], None)])
def test_what_is_no_context(cli, tmp_path, name, entries, said):
    assert cli("docker", "context", "create", "there")[0] == 0
    bad = archive(tmp_path / "bad.tar", *entries)
    ours = cli("insula", "context", "import", name, bad)
    assert ours[0] == 1 and ours[1] == "" and ours[2].count("\n") == 1
    if said:
        assert ours[2] == said and cli("docker", "context", "import", name, bad) == ours
    assert cli("insula", "context", "ls", "-q")[1] == "default\nthere\n"
    assert not list(tmp_path.rglob("evil"))


def test_the_environment_goes_before(cli):
    assert cli("docker", "context", "create", "there")[0] == 0
    for name in ("insula", "docker"):
        code, _, err = cli(name, "context", "use", "there", DOCKER_HOST="unix:///x")
        assert code == 0 and 'Warning: DOCKER_HOST environment variable overrides the active context. To use "there"' in err
    ours, theirs = (json.loads(cli(n, "context", "inspect", "default", DOCKER_HOST="unix:///x")[1]) for n in ("insula", "docker"))
    assert ours == theirs and ours[0]["Endpoints"]["docker"]["Host"] == "unix:///x"


def test_a_context_that_is_gone(cli):
    """Nothing but the context itself stands in the way, so it can be put right."""
    assert cli("insula", "context", "create", "there")[0] == 0 and cli("insula", "context", "use", "there")[0] == 0
    assert cli("insula", "--context", "gone", "ps") == (
        1, "", 'Failed to initialize: unable to resolve docker endpoint: context "gone": context not found\n')
    code, out, err = cli("insula", "context", "use", "gone")
    assert (code, out) == (1, "") and err == 'context "gone": context not found\n'
    assert cli("insula", "context", "create", "tls", "--docker", "host=tcp://a:1,ca=/x")[0] == 1
    assert cli("insula", "context", "use", "default")[0] == 0
