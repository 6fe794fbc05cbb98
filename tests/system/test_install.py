"""make install into a DESTDIR, file by file; the engine run from the installed place; uninstall leaves nothing."""
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest
from conftest import BUILD, IMAGES, ROOT, VM_DIR

PROGRAMS = {"usr/bin/insula", "usr/bin/insula-runtime", "usr/sbin/insulad",
            *(f"usr/lib/insula/{n}" for n in ("insula-shim", "vmwp", "insula-agent", "insula-init", "insula-puller",
                                              "insula-resolver", "insula-registry", "insula-tls",
                                              "insula-guest-image"))}
DATA = {"usr/share/man/man1/insula.1",
        *(f"usr/share/man/man8/{n}.8" for n in ("insulad", "insula-shim", "vmwp", "insula-agent", "insula-runtime",
                                                "insula-puller", "insula-resolver", "insula-registry", "insula-init",
                                                "insula-tls")),
        "usr/share/bash-completion/completions/insula", "usr/share/zsh/vendor-completions/_insula",
        "usr/share/fish/vendor_completions.d/insula.fish", "usr/share/insula/apparmor/insula-default",
        "usr/lib/systemd/system/insula.service", "usr/lib/systemd/system/insula.socket"}


def make(target, destdir, prefix="/usr"):
    subprocess.run(["make", "-C", str(ROOT), target, f"BUILD={BUILD}", f"DESTDIR={destdir}", f"PREFIX={prefix}"],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=400)


def files(top):
    return {str(p.relative_to(top)) for p in pathlib.Path(top).rglob("*") if not p.is_dir()}


def options():
    out = subprocess.run(["meson", "introspect", "--buildoptions", str(BUILD)], check=True, capture_output=True).stdout
    return {o["name"]: o["value"] for o in json.loads(out)}


@pytest.fixture(scope="module")
def base():
    """A directory in which dest/ is an installation; the build's own prefix is put back."""
    prefix = options()["prefix"]
    d = pathlib.Path(tempfile.mkdtemp(prefix="insula-install-"))
    try:
        make("install", d / "dest")
        yield d
    finally:
        subprocess.run(["meson", "configure", str(BUILD), f"-Dprefix={prefix}"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "--quiet", "-C", str(BUILD)], check=True)
        shutil.rmtree(d)


def test_files(base):
    dest = base / "dest"
    assert files(dest) == PROGRAMS | DATA
    for f in PROGRAMS | DATA:
        mode = stat.S_IMODE(os.stat(dest / f).st_mode)
        assert mode == (0o755 if f in PROGRAMS else 0o644), f
        assert os.stat(dest / f).st_size > 100, f


def test_unit_names_the_installed_daemon(base):
    unit = (base / "dest/usr/lib/systemd/system/insula.service").read_text()
    assert "ExecStart=/usr/sbin/insulad -H fd://" in unit and "@" not in unit
    assert "\nType=notify\n" in unit       # READY=1: test_activation_and_notification


def test_man_pages_and_completion_are_well_formed(base):
    for page in (p for p in DATA if "/man/" in p):
        r = subprocess.run(["man", "--warnings", "-l", str(base / "dest" / page)], capture_output=True, text=True,
                           env=dict(os.environ, MANPAGER="cat", MAN_KEEP_STDERR="1"))
        assert r.returncode == 0 and not r.stderr and "NAME" in r.stdout, (page, r.stderr)
    completion = base / "dest/usr/share/bash-completion/completions/insula"
    r = subprocess.run(["bash", "-c", f". {completion}; complete -p insula"], capture_output=True, text=True)
    assert r.returncode == 0 and "insula" in r.stdout, r.stderr
    for shell, path in (("zsh", "zsh/vendor-completions/_insula"), ("fish", "fish/vendor_completions.d/insula.fish")):
        r = subprocess.run([shell, "-n", str(base / "dest/usr/share" / path)], capture_output=True, text=True)
        assert r.returncode == 0 and not r.stderr, (shell, r.stderr)
    # fish can be asked without a terminal
    env = dict(os.environ, PATH=f"{base}/dest/usr/bin:{os.environ['PATH']}", HOME=str(base))
    script = f"source {base}/dest/usr/share/fish/vendor_completions.d/insula.fish; complete -C 'insula container st'"
    r = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, env=env)
    assert {"start", "stats", "stop"} <= set(r.stdout.split()), (r.stdout, r.stderr)


# The installation is laid over /usr in a mount namespace of its own; nothing of the build tree is named.
SESSION = r"""
set -eu
mount -t overlay overlay -o lowerdir="$BASE/dest/usr":/usr /usr
export PATH=/usr/sbin:/usr/bin:/sbin:/bin INSULA_DATA_ROOT=$BASE/data INSULA_EXEC_ROOT=$BASE/run
trap 'pid=$(cat "$BASE/run/insulad.pid") && kill "$pid" && tail --pid="$pid" -f /dev/null' EXIT
insula vm prepare --dir "$BASE/data/vm"
insula load -q -i "$IMAGES/busybox.tar"
readlink "/proc/$(cat "$BASE/run/insulad.pid")/exe"
insula run --rm --init busybox echo "process: hello"
insula run --rm --init --isolation=hyperv busybox echo "hyperv: hello"
id=$(insula run -d busybox sleep 100)
tr '\0' '\n' </proc/"$(insula inspect -f '{{.State.Pid}}' "$id")"/status | awk '/^PPid/ { print $2 }' >"$BASE/ppid"
readlink "/proc/$(cat "$BASE/ppid")/exe"
insula rm -f "$id" >/dev/null
insula-runtime --version
"""


def test_runs_from_the_installed_place(base):
    vm = base / "data/vm"
    vm.mkdir(parents=True)
    # The kernel is not fetched again; the initramfs is made anew, from the installed agent.
    for name in ("vmlinuz", "kernel-release"):
        shutil.copy(VM_DIR / name, vm / name)
    os.symlink(VM_DIR / "modules", vm / "modules")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "INSULA_"))}
    r = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", SESSION], cwd="/", text=True,
                       env=dict(env, BASE=str(base), IMAGES=str(IMAGES)), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=400)
    assert r.returncode == 0, r.stdout + r.stderr
    for line in ("/usr/sbin/insulad", "process: hello", "hyperv: hello", "/usr/lib/insula/insula-shim"):
        assert line in r.stdout.splitlines(), r.stdout + r.stderr
    assert "insula-runtime version" in r.stdout
    assert (vm / "initramfs.img").stat().st_size > 1000000


def test_uninstall_leaves_nothing(base):
    dest = base / "again"
    (dest / "usr/bin").mkdir(parents=True)
    (dest / "usr/bin/other").write_text("of another package\n")
    make("install", dest)
    make("install", dest)  # over itself
    assert files(dest) == PROGRAMS | DATA | {"usr/bin/other"}
    make("uninstall", dest)
    left = {str(p.relative_to(dest)) for p in dest.rglob("*")}
    assert left == {"usr", "usr/bin", "usr/bin/other"}
    make("uninstall", base / "dest")
    assert not (base / "dest").exists()


def test_prefix(base):
    make("install", base / "opt", prefix="/opt/insula")
    have = files(base / "opt")
    assert have == {f.replace("usr/", "opt/insula/", 1) for f in PROGRAMS | DATA}
    unit = (base / "opt/opt/insula/lib/systemd/system/insula.service").read_text()
    assert "ExecStart=/opt/insula/sbin/insulad" in unit
    make("uninstall", base / "opt", prefix="/opt/insula")
    assert not (base / "opt").exists()
