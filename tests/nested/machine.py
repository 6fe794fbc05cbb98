"""An outer machine: Debian 12 with its own kernel, systemd, cgroup v2 and a true /dev/kvm.

It is emulated (QEMU's TCG emulates AMD-V), so it runs anywhere, slowly; machines of hyperv containers inside it run
on KVM. It is made with mmdebstrap from the packages that apt is configured with, and boots the guest kernel of the
build. What is run in it, /opt/insula/run, is its caller's."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = """systemd systemd-sysv dbus udev kmod iproute2 nftables qemu-system-x86 qemu-system-common seabios erofs-utils
    e2fsprogs procps python3 python3-pytest python3-pexpect python3-docker busybox-static iputils-ping psmisc libjson-c5
    uidmap libsqlite3-0 libseccomp2 libarchive13 libssl3 libcurl4""".split()
MODULES = ["kvm_amd", "loop", "overlay", "fuse", "tun", "bridge", "veth", "nf_tables"]
TOOLS = ("enosys", "fault", "attack")
# The last line. What comes after it is nobody's test: a machine that does not manage to power off is ended.
DONE = "nested: done"
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
{body}
echo {done}
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


def root_disk(work, build, body, files):
    """Its files come from the host; the file system is made whole, and mounted by nobody but the machine."""
    root = work / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    sh("tar", "-xf", base_system(work), "-C", root, "--exclude=./dev/*")
    opt = root / "opt/insula"
    release = (build / "guest/kernel-release").read_text().strip()
    shutil.copytree(build / "guest/modules", root / "lib/modules" / release, symlinks=True)
    for d in ("tests", "tools", "bench"):
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
    for to, source in files.items():
        if os.path.lexists(root / to):
            continue                            # a library that it has; some are links into the host
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / to)
    put(opt / "run", RUN.format(modules=" ".join(MODULES), body=body, done=DONE), 0o755)
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


class Machine:
    """body: what is run in it, in bash, from a directory that has tests, tools, bench and build. files: further ones, their
    place in it -> where they come from."""

    def __init__(self, build, body, files=None):
        self.build = pathlib.Path(build).resolve()
        self.work = self.build / "nested"
        self.work.mkdir(exist_ok=True)
        self.lock = open(self.work / "lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)        # one at a time: they share the disk and what the machine says
        self.disk, self.image = root_disk(self.work, self.build, body, files or {}), initramfs(self.work, self.build)

    def boot(self, words="", seconds=1500):
        """What it said, and whether it was let to its end: ctrl-c is how its caller says that there is no time left.
        words: further ones for its kernel."""
        out = self.work / "out"
        out.unlink(missing_ok=True)
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-machine", "pc",
                "-cpu", "EPYC,+svm,+npt", "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "6144",
                "-kernel", self.build / "guest/vmlinuz", "-initrd", self.image,
                "-drive", f"file={self.disk},if=virtio,format=raw,snapshot=on",
                "-append", f"console=ttyS0 quiet panic=-1 systemd.show_status=false tsc=reliable no_timer_check {words}",
                "-serial", f"file:{self.work}/console", "-serial", f"file:{out}"]
        said = lambda: out.read_text(errors="replace") if out.exists() else ""      # noqa: E731
        p = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + seconds
        cut = False
        try:
            while p.poll() is None and time.monotonic() < end:
                time.sleep(1)
                if DONE in said():
                    end = min(end, time.monotonic() + 30)
        except KeyboardInterrupt:
            cut = True
        if p.poll() is None:
            p.kill()
            p.wait()
        if DONE not in said() and not cut:
            print("nested: out of time, or ended before its time")
        return said(), cut
