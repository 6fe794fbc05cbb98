"""AppArmor, where it is on: in a small machine with Debian's kernel (the guest's), as a host that insula runs on. The
profile is the one that is installed; runtime and engine are tried, and one line a fact comes back over the console."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import BUILD, IMAGES, ROOT, VM_DIR, built

PROGRAMS = ("insulad", "insula", "insula-shim", "insula-runtime", "insula-puller")
# What the profile forbids and the capabilities given would allow.
ATTEMPT = "cat /proc/self/attr/current; mount -t tmpfs t /tmp 2>/dev/null && echo mounted; (echo 1 >/proc/sys/vm/swappiness) 2>/dev/null && echo wrote; true"
INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t tmpfs root /new
cp -a /bin /sbin /lib /lib64 /usr /opt /etc /bundle /new/
mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/var
exec switch_root /new /opt/host
"""
HOST = """#!/bin/busybox sh
export PATH=/bin:/sbin:/opt
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t securityfs s /sys/kernel/security
mount -t cgroup2 c /sys/fs/cgroup
insmod /opt/overlay.ko; ip link set lo up
exec </dev/null >/dev/console 2>&1
fact() {{ name=$1; shift; echo "FACT $name $("$@" 2>&1 | tr '\\n\\r' '  ')"; }}
{insulad} --data-root /var/insula --exec-root /run/insula --isolation process >/run/log 2>&1 &
export DOCKER_HOST=unix:///run/insula/insula.sock
n=0; until {insula} version >/dev/null 2>&1 || [ $n = 300 ]; do n=$((n+1)); usleep 100000; done
fact loaded cat /sys/kernel/security/apparmor/profiles
{insula} load -q -i /opt/busybox.tar >/dev/null
run="{insula} run --rm --network none --cap-add SYS_ADMIN --security-opt systempaths=unconfined"
fact default $run busybox sh -c '{attempt}'
fact unconfined $run --security-opt apparmor=unconfined busybox sh -c '{attempt}'
fact privileged $run --privileged busybox cat /proc/self/attr/current
fact missing $run --security-opt apparmor=not-loaded busybox true
{insula} run -d --name xx --network none busybox sleep 1000 >/dev/null
fact exec {insula} exec xx cat /proc/self/attr/current
fact inspect {insula} inspect -f '{{{{.AppArmorProfile}}}}' xx
{insula} rm -f xx >/dev/null
cd /bundle
for i in insula-default not-loaded none; do fact runtime-$i {runtime} run --config $i.json c; done
{runtime} run -d --config sleep.json d >/dev/null 2>&1
fact runtime-exec {runtime} exec --apparmor insula-default d cat /proc/self/attr/current
fact log cat /run/log
echo FACT end
poweroff -f
"""


def libraries(exe):
    out = subprocess.run(["ldd", exe], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def put(root, path, text, mode=0o755):
    p = root / path
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_text(text)
    p.chmod(mode)


def bundle(root):
    rootfs = root / "bundle/rootfs"
    for d in ("bin", "proc", "dev", "tmp"):
        (rootfs / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    for a in ("sh", "cat", "mount", "sleep"):
        os.symlink("busybox", rootfs / "bin" / a)
    caps = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    config = {"ociVersion": "1.0.2", "root": {"path": "rootfs"},
              "process": {"user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"], "cwd": "/", "args": ["sh", "-c", ATTEMPT],
                          "capabilities": {k: caps for k in ("bounding", "effective", "permitted")}},
              "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
              "linux": {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]}}
    for name in ("none", "insula-default", "not-loaded", "sleep"):
        if name in ("insula-default", "not-loaded"):
            config["process"]["apparmorProfile"] = name
        else:
            config["process"].pop("apparmorProfile", None)
        if name == "sleep":
            config["process"]["args"] = ["sleep", "1000"]
        put(root, f"bundle/{name}.json", json.dumps(config), 0o644)


def initramfs(tmp):
    root = tmp / "root"
    for d in ("bin", "sbin", "lib", "lib64", "etc", "new", "usr/sbin"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for a in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if a != "busybox":
            os.symlink("/bin/busybox", root / "bin" / a)
    exes = {p: built(p) for p in PROGRAMS}
    # Beside each other as in the build, where insulad looks for them.
    files = {f"opt/{p.relative_to(BUILD)}": p for p in exes.values()}
    files["sbin/apparmor_parser"] = pathlib.Path(shutil.which("apparmor_parser", path="/usr/sbin:/sbin"))
    for exe in list(files.values()):
        files.update({lib.lstrip("/"): pathlib.Path(lib) for lib in libraries(exe)})
    files["usr/local/share/insula/apparmor/insula-default"] = ROOT / "contrib/apparmor/insula-default"
    files["opt/overlay.ko"] = next((VM_DIR / "modules").rglob("overlay.ko"))
    files["opt/busybox.tar"] = IMAGES / "busybox.tar"
    for to, source in files.items():
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / to)
    at = {p.replace("-", "_"): f"/opt/{exe.relative_to(BUILD)}" for p, exe in exes.items()}
    put(root, "init", INIT)
    put(root, "opt/host", HOST.format(attempt=ATTEMPT, runtime=at.pop("insula_runtime"), **at))
    put(root, "etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
    put(root, "etc/apparmor/parser.conf", "", 0o644)
    bundle(root)
    subprocess.run("find . | cpio -o -H newc --quiet > ../initramfs", shell=True, cwd=root, check=True)
    return tmp / "initramfs"


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    image = initramfs(tmp_path_factory.mktemp("machine"))
    p = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-nographic", "-no-reboot", "-net", "none",
                        "-kernel", str(VM_DIR / "vmlinuz"), "-initrd", str(image),
                        "-append", "console=ttyS0 quiet panic=-1 apparmor=1 security=apparmor"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=200)
    found = dict(m.groups() for m in re.finditer(r"FACT (\S+) ?(.*?)\s*$", p.stdout, re.M))
    assert "end" in found, p.stdout[-3000:]
    return found


def test_the_profile_is_loaded(facts):
    assert "insula-default (enforce)" in facts["loaded"], facts


def test_containers_run_under_it(facts):
    assert facts["default"] == facts["runtime-insula-default"] == "insula-default (enforce)", facts
    assert facts["exec"] == facts["runtime-exec"] == "insula-default (enforce)"
    assert facts["inspect"] == "insula-default"


def test_those_that_are_asked_to_run_without(facts):
    assert facts["unconfined"] == facts["runtime-none"] == "unconfined mounted wrote", facts
    assert facts["privileged"] == "unconfined"


def test_a_profile_that_is_not_loaded(facts):
    for k in ("missing", "runtime-not-loaded"):
        assert "cannot set the AppArmor profile 'not-loaded'" in facts[k], facts
