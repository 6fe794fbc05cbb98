"""The validation programs of opencontainers/runtime-tools, built from Debian's source package with Debian's Go.

Packages are only unpacked below the build directory; apt is asked with a configuration of its own, that names the host's
mirror with two further suites, and nothing is changed in the host's."""
import hashlib
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SOURCE, VERSION = "golang-github-opencontainers-runtime-tools", "0.9.0.109.ge931285-1"
SHA256 = "203989a1ea98cf2aaced79155bbda09270b20db19b03376dde91ab12e5e6a0fe"
GO = "1.23"
PACKAGES = (f"golang-{GO}-go", f"golang-{GO}-src", *(f"golang-{name}-dev" for name in """github-blang-semver github-google-uuid
    github-hashicorp-errwrap github-hashicorp-go-multierror github-mrunalp-fileutils github-opencontainers-selinux
    github-opencontainers-specs github-sirupsen-logrus github-urfave-cli github-xeipuuv-gojsonpointer
    github-xeipuuv-gojsonreference github-xeipuuv-gojsonschema gocapability golang-x-sys""".split()))
COUNT = 58
SUITES = """Types: deb
URIs: {mirror}
Suites: bookworm bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: {mirror}
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def sh(*argv, **kw):
    subprocess.run(list(map(str, argv)), check=True, stdin=subprocess.DEVNULL, **kw)


def host_mirror():
    """Where the host's apt gets bookworm from."""
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages"],
                         capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        codename, site = line.split()
        if codename == "bookworm":
            return site
    raise SystemExit("validation: apt has no suite bookworm: run apt-get update")


class Apt:
    """apt with an own list of suites."""

    def __init__(self, work):
        self.work = work
        for d in ("sources", "lists/partial", "cache/archives/partial"):
            (work / d).mkdir(parents=True, exist_ok=True)
        (work / "sources/suites.sources").write_text(SUITES.format(mirror=host_mirror()))
        at = {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": work / "sources", "Dir::State::lists": work / "lists",
              "Dir::Cache": work / "cache", "APT::Sandbox::User": "root"}
        self.options = [f"-o{k}={v}" for k, v in at.items()]

    def get(self, *words):
        sh("apt-get", *self.options, "-qq", *words, cwd=self.work)


def fetch(work):
    """The tree of unpacked packages, with the suite in its GOPATH."""
    apt = Apt(work / "apt")
    apt.get("update")
    apt.get("source", "--download-only", "--tar-only", f"{SOURCE}={VERSION}")
    [tar] = apt.work.glob(f"{SOURCE}_*.orig.tar.xz")
    if hashlib.sha256(tar.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"validation: {tar.name} is not the one that is known")
    apt.get("download", *PACKAGES)
    tree = work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for deb in apt.work.glob("*.deb"):
        sh("dpkg-deb", "-x", deb, tree)
    github = tree / "usr/share/gocode/src/github.com"
    (github / "opencontainers/runtime-tools").mkdir()
    sh("tar", "-xf", tar, "-C", github / "opencontainers/runtime-tools", "--strip-components=1")
    shutil.copytree(HERE / "tap", github / "mndrix/tap-go")
    return tree


def go_build(tree, to, what, tags=""):
    env = dict(os.environ, GO111MODULE="off", GOPATH=str(tree / "usr/share/gocode"), GOROOT=str(tree / f"usr/lib/go-{GO}"),
               GOCACHE=str(tree / "cache"), GOPROXY="off", GOTOOLCHAIN="local", GOFLAGS="", CGO_ENABLED="0")
    sh(tree / f"usr/lib/go-{GO}/bin/go", "build", "-ldflags=-s -w", f"-tags={tags}", "-o", to,
       f"github.com/opencontainers/runtime-tools/{what}", env=env)


def programs(suite):
    return sorted(p.name for p in (suite / "programs").iterdir())


def suite(build):
    """The directory with programs/, and runtimetest and the archive of a root, that each wants beside itself. Made once."""
    work = pathlib.Path(build).resolve() / "validation"
    done = work / "suite"
    if done.exists():
        return done
    tree = fetch(work)
    new = work / "new"
    shutil.rmtree(new, ignore_errors=True)
    (new / "programs").mkdir(parents=True)
    go_build(tree, new / "programs/", "validation/...")
    go_build(tree, new / "runtimetest", "cmd/runtimetest", "netgo,osusergo,urfave_cli_no_docs")
    arch = {"x86_64": "amd64"}[os.uname().machine]
    shutil.copy(tree / f"usr/share/gocode/src/github.com/opencontainers/runtime-tools/rootfs-{arch}.tar.gz", new)
    if len(programs(new)) != COUNT:
        raise SystemExit(f"validation: {len(programs(new))} programs instead of {COUNT}")
    new.rename(done)
    return done
