#!/usr/bin/env python3
"""Tests in a machine of their own: Debian 12 with its own kernel, systemd, cgroup v2 and a true /dev/kvm.

The outer machine is emulated (QEMU's TCG emulates AMD-V), so it runs anywhere, slowly; the machines of hyperv
containers inside it run on KVM. It is made with mmdebstrap from the packages that apt is configured with, and
boots the guest kernel of the build. What is not for it: tests that tell host and guest by the kernel's release,
which is the same there.

	run.py --build BUILD

prints what pytest says inside and ends with `N passed, N failed`."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = """systemd systemd-sysv dbus udev kmod iproute2 nftables qemu-system-x86 qemu-system-common seabios erofs-utils
    e2fsprogs procps python3 python3-pytest python3-pexpect python3-docker busybox-static iputils-ping psmisc libjson-c5
    uidmap libsqlite3-0 libseccomp2 libarchive13 libssl3 libcurl4""".split()
MODULES = ["kvm_amd", "loop", "overlay", "fuse", "tun", "bridge", "veth", "nf_tables"]
RUNTIME = "tests/system/test_runtime.py tests/system/test_runtime_commands.py tests/system/test_runtime_limits.py tests/system/test_runtime_rootless.py"
PROCESS = "tests/system/test_isolation.py -k 'process'"
# Each boot: its name, further words for the kernel, and pytest's arguments, one run each.
BOOTS = {
    "v2": ("", [
        RUNTIME + " -k 'not frozen_cgroup_is_refused'",
        PROCESS,
        "tests/system/test_demo.py -k 'insula and not another_kernel and not shows_the_mode'",
        "tests/nested/test_kvm.py",
        "tests/nested/test_systemd.py",
    ]),
    # Every hierarchy is of version 1: an older host, or one whose administrator wants it so.
    "v1": ("systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1", [
        RUNTIME,
        PROCESS,
        "tests/nested/test_systemd.py -k process",
    ]),
}
TOOLS = ("enosys", "fault", "attack")
SECONDS = 1500

UNIT = """[Unit]
Description=tests of insula
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/opt/insula/run
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStopPost=/sbin/poweroff -f
"""
RUN = """#!/bin/bash
cd /opt/insula
exec </dev/null
for m in {modules}; do modprobe $m; done
export INSULA_BUILD=$PWD/build INSULA_VM_DIR=$PWD/build/guest INSULA_IMAGES=$PWD/build/images INSULA_TEST_SECONDS=600
export PYTHONDONTWRITEBYTECODE=1
for word in $(cat /proc/cmdline); do
    case $word in insula.boot=*) boot=${{word#*=}} ;; esac
done
case $boot in
{runs}
esac
echo nested: done
"""
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in /modules/*; do /bin/busybox insmod $m; done
/bin/busybox mount -t ext4 /dev/vda /new
exec /bin/busybox switch_root /new /lib/systemd/systemd
"""


def sh(*argv, **kw):
    subprocess.run(list(map(str, argv)), check=True, stdin=subprocess.DEVNULL, **kw)


def put(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def base_system(work):
    tar = work / "base.tar"
    if not tar.exists():
        sh("mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(PACKAGES), "bookworm", work / "new.tar")
        (work / "new.tar").rename(tar)
    return tar


def root_disk(work, build):
    """Its files come from the host; the file system is made whole, and mounted by nobody but the machine."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    sh("tar", "-xf", base_system(work), "-C", root, "--exclude=./dev/*")
    opt = root / "opt/insula"
    release = (build / "guest/kernel-release").read_text().strip()
    shutil.copytree(build / "guest/modules", root / "lib/modules" / release, symlinks=True)
    for d in ("tests", "tools"):
        shutil.copytree(ROOT / d, opt / d, ignore=shutil.ignore_patterns("__pycache__"))
    for p in [*(build / "src").rglob("*"), *(build / "tests" / t for t in TOOLS)]:
        if p.is_file() and os.access(p, os.X_OK) and p.suffix not in (".so", ".a"):
            to = opt / "build" / p.relative_to(build)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(p, to)
    shutil.copytree(build / "guest", opt / "build/guest", ignore=shutil.ignore_patterns("modules"))
    shutil.copytree(build / "images", opt / "build/images")
    # What `make install` installs, below /usr/local.
    sh("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", root)
    pytest = "python3 -m pytest -q -p no:cacheprovider --color=no --tb=short -rs "
    runs = "".join(f"{name})\n" + "".join(f"{pytest}{r}\n" for r in runs) + ";;\n" for name, (_, runs) in BOOTS.items())
    put(opt / "run", RUN.format(modules=" ".join(MODULES), runs=runs), 0o755)
    put(root / "etc/systemd/system/nested.service", UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "nested.service").symlink_to("../nested.service")
    put(root / "etc/hostname", "nested\n")
    disk = work / "root.ext4"
    disk.unlink(missing_ok=True)
    with open(disk, "wb") as f:
        f.truncate(6 << 30)
    sh("/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", root, disk)
    shutil.rmtree(root)
    return disk


def initramfs(work, build):
    """Enough to find the disk: the drivers are modules of the distribution's kernel."""
    d, modules = work / "initramfs", build / "guest/modules"
    shutil.rmtree(d, ignore_errors=True)
    for sub in ("bin", "dev", "new", "modules"):
        (d / sub).mkdir(parents=True)
    shutil.copy("/bin/busybox", d / "bin/busybox")
    order = []
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, deps = line.partition(":")
        if re.search(r"/virtio_(pci|blk)\.ko", path):
            order += [*reversed(deps.split()), path]
    for i, path in enumerate(dict.fromkeys(order)):
        to = d / "modules" / f"{i:02}-{os.path.basename(path)}"
        shutil.copy(modules / path, to)
        if to.suffix == ".xz":
            sh("xz", "-d", to)
    put(d / "init", INIT, 0o755)
    image = work / "initramfs.img"
    sh("sh", "-c", f"find . | cpio --quiet -o -H newc >{image}", cwd=d)
    return image


def boot(work, build, disk, image, name):
    """What it said, and whether it was let to its end: ctrl-c is how its caller says that there is no time left."""
    out = work / "out"
    out.unlink(missing_ok=True)
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", "pc",
            "-cpu", "EPYC,+svm,+npt", "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "6144",
            "-kernel", build / "guest/vmlinuz", "-initrd", image, "-drive", f"file={disk},if=virtio,format=raw,snapshot=on",
            "-append", "console=ttyS0 quiet panic=-1 systemd.show_status=false tsc=reliable no_timer_check "
            f"insula.boot={name} {BOOTS[name][0]}",
            "-serial", f"file:{work}/console", "-serial", f"file:{out}"]
    cut = False
    try:
        subprocess.run(list(map(str, argv)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print("nested: out of time")
    except KeyboardInterrupt:
        cut = True
    return out.read_text(errors="replace") if out.exists() else "", cut


def result(name, text, cut):
    """What its runs say: passed, failed. A skipped test has failed."""
    runs = BOOTS[name][1]
    sums = re.findall(r"^(?=.*(?:passed|failed|error)).* in [\d.]+s.*$", text, re.M)
    passed = sum(int(n) for line in sums for n in re.findall(r"(\d+) passed", line))
    failed = sum(int(n) for line in sums for n in re.findall(r"(\d+) (?:failed|error|skipped)", line))
    if not cut and (len(sums) != len(runs) or "nested: done" not in text):
        print(f"nested: {len(sums)} of {len(runs)} runs ended")
        failed += 1
    return passed, failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--boot", choices=BOOTS, action="append")
    a = ap.parse_args()
    build = pathlib.Path(a.build).resolve()
    work = build / "nested"
    work.mkdir(exist_ok=True)
    disk, image = root_disk(work, build), initramfs(work, build)
    passed = failed = 0
    for name in a.boot or BOOTS:
        text, cut = boot(work, build, disk, image, name)
        print(f"-- boot {name}\n{text}", flush=True)
        p, f = result(name, text, cut)
        passed, failed = passed + p, failed + f
        if cut:
            break
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
