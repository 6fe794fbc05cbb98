"""A small machine with Debian's kernel (the guest's) and a security module on, as a host that insula runs on. A script
runs in it as the first process, and one line a fact comes back over the console."""
import json
import os
import pathlib
import re
import shutil
import subprocess

from conftest import BUILD, IMAGES, VM_DIR, built

PROGRAMS = ("insulad", "insula", "insula-shim", "insula-runtime", "insula-puller")
INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t tmpfs root /new
cp -a /bin /sbin /lib /lib64 /usr /opt /etc /bundle /new/
mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/var
exec switch_root /new /opt/host
"""
BEGIN = """#!/bin/busybox sh
export PATH=/bin:/sbin:/opt
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t securityfs s /sys/kernel/security
mount -t cgroup2 c /sys/fs/cgroup
insmod /opt/overlay.ko; ip link set lo up
exec </dev/null >/dev/console 2>&1
fact() { name=$1; shift; echo "FACT $name $("$@" 2>&1 | tr '\\n\\r' '  ')"; }
export DOCKER_HOST=unix:///run/insula/insula.sock
engine() {
    insulad --data-root /var/insula --exec-root /run/insula --isolation process >/run/log 2>&1 &
    engine_pid=$!
    n=0; until insula version >/dev/null 2>&1 || [ $n = 1200 ]; do n=$((n+1)); usleep 100000; done
    insula load -q -i /opt/busybox.tar >/dev/null
}
"""
END = """
fact log cat /run/log
echo FACT end
poweroff -f
"""
ROOT_MOUNTS = [{"destination": "/proc", "type": "proc", "source": "proc"}]


def libraries(exe):
    out = subprocess.run(["ldd", exe], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", out)


def with_libraries(files):
    """The same, place in the machine -> file, with what the programs are linked to."""
    more = {lib.lstrip("/"): pathlib.Path(lib) for exe in files.values() for lib in libraries(exe)}
    return {**files, **more}


def put(root, path, text, mode=0o755):
    p = root / path
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_text(text)
    p.chmod(mode)


def put_files(root, files):
    for to, source in files.items():
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / to)


def rootfs(root):
    """The directory of a bundle's root, with busybox in it."""
    path = root / "bundle/rootfs"
    for d in ("bin", "proc", "sys", "dev", "tmp"):
        (path / d).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for a in ("sh", "cat", "mount", "sleep", "true"):
        os.symlink("busybox", path / "bin" / a)
    return path


def config(root, name, args, caps=(), mounts=(), linux=None, **process):
    """NAME.json beside that root."""
    caps = list(caps)
    namespaces = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]
    text = {"ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"], "cwd": "/", "args": args,
                        "capabilities": {k: caps for k in ("bounding", "effective", "permitted")}, **process},
            "mounts": [*ROOT_MOUNTS, *mounts], "linux": {"namespaces": namespaces, **(linux or {})}}
    put(root, f"bundle/{name}.json", json.dumps(text), 0o644)


def tree(tmp, files):
    """The beginning of the machine's root: the programs as they were built, busybox, and files (place -> source)."""
    root = tmp / "root"
    for d in ("bin", "sbin", "lib", "lib64", "etc", "new", "usr/sbin", "bundle"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for a in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
        if a != "busybox":
            os.symlink("/bin/busybox", root / "bin" / a)
    # Beside each other as in the build, where insulad looks for them.
    exes = {f"opt/{built(p).relative_to(BUILD)}": built(p) for p in PROGRAMS}
    for to in exes:
        os.symlink("/" + to, root / "bin" / pathlib.Path(to).name)
    put_files(root, with_libraries({**exes, **files}))
    put_files(root, {"opt/overlay.ko": next((VM_DIR / "modules").rglob("overlay.ko")), "opt/busybox.tar": IMAGES / "busybox.tar"})
    put(root, "init", INIT)
    put(root, "etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
    return root


def boot(root, script, append):
    """The facts of the script, by name, in a machine with that root and those words for its kernel."""
    put(root, "opt/host", BEGIN + script + END)
    subprocess.run("find . | cpio -o -H newc --quiet > ../initramfs", shell=True, cwd=root, check=True)
    # With an end of its own: what was said until then is shown below.
    p = subprocess.run(["timeout", "400", "qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-nographic", "-no-reboot", "-net", "none",
                        "-kernel", str(VM_DIR / "vmlinuz"), "-initrd", str(root.parent / "initramfs"),
                        "-append", f"console=ttyS0 quiet panic=-1 {append}"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    found = dict(m.groups() for m in re.finditer(r"FACT (\S+) ?(.*?)\s*$", p.stdout, re.M))
    assert "end" in found, p.stdout[-3000:]
    return found
