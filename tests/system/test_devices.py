"""Devices of the host in a container. Under hyperv a block device is a disk of the machine, and what is a function of
the kernel is the guest kernel's."""
import contextlib
import os
import stat
import subprocess

import pytest

from conftest import wait_for


def losetup(*args):
    return subprocess.run(["losetup", *map(str, args)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture
def loop(tmp_path):
    """loop(...) -> a block device of the host, and the file behind it."""
    with contextlib.ExitStack() as stack:
        def make(*options, megabytes=8):
            f = tmp_path / f"disk{len(list(tmp_path.iterdir()))}"
            with open(f, "wb") as out:
                out.truncate(megabytes << 20)
            dev = losetup("-f", "--show", *options, f)
            stack.callback(lambda: subprocess.run(["losetup", "-d", dev], stderr=subprocess.DEVNULL))
            return dev, f
        yield make


def is_free(dev, f):
    """Nobody has it open any more: detaching it works at once."""
    return str(f) not in losetup("-l", "-n", "-O", "BACK-FILE", "-a")


def test_a_block_device(c, loop):
    dev, f = loop()
    with open(dev, "r+b") as out:
        out.write(b"from the host\n")
        os.fsync(out)
    cid = c.rund("--device", f"{dev}:/dev/xvda", "busybox", "sleep", "1000")
    look = c("exec", cid, "sh", "-c", "head -1 /dev/xvda; stat -c '%F %a' /dev/xvda; blockdev --getsize64 /dev/xvda").ok()
    assert look.splitlines() == ["from the host", "block special file 600", str(8 << 20)]
    c("exec", cid, "sh", "-c", "echo from the container | dd of=/dev/xvda bs=512 seek=8 conv=fsync 2>/dev/null").ok()
    assert subprocess.check_output(["dd", f"if={dev}", "bs=512", "skip=8", "count=1", "status=none"]).startswith(b"from the container\n")
    assert c("inspect", "-f", "{{json .HostConfig.Devices}}", cid).ok() == \
        '[{"PathOnHost":"%s","PathInContainer":"/dev/xvda","CgroupPermissions":"rwm"}]' % dev
    # what was written without a sync is there after the end
    c("exec", cid, "sh", "-c", "echo unsynced | dd of=/dev/xvda bs=512 seek=9 2>/dev/null").ok()
    c("rm", "-f", cid).ok()
    assert subprocess.check_output(["dd", f"if={dev}", "bs=512", "skip=9", "count=1", "status=none"]).startswith(b"unsynced\n")
    losetup("-d", dev)
    wait_for(lambda: is_free(dev, f))


@pytest.mark.parametrize("end", ["umount /m", "true"], ids=["unmounted", "left mounted"])
def test_a_file_system_on_it(c, loop, end):
    """What a container with the right to mount does with a disk, twice; what it leaves mounted is written too."""
    dev, f = loop(megabytes=16)
    subprocess.run(["mkfs.ext4", "-q", dev], check=True)
    m = ["--privileged", "--device", f"{dev}:/dev/data", "busybox"]
    assert c("run", "--rm", *m, "sh", "-c", f"mkdir /m && mount -t ext4 /dev/data /m && echo kept > /m/f && {end}").ok() == ""
    assert c("run", "--rm", *m, "sh", "-c", "mkdir /m && mount -t ext4 /dev/data /m && cat /m/f").ok() == "kept"


def test_rights(c, loop):
    """Reading alone; and a device that cannot be written."""
    dev, _ = loop()
    script = "head -c1 /dev/d >/dev/null && echo reads; echo x 2>/dev/null >/dev/d && echo writes; true"
    assert c("run", "--rm", "--device", f"{dev}:/dev/d:r", "busybox", "sh", "-c", script).ok() == "reads"
    assert c("run", "--rm", "--device", f"{dev}:/dev/d", "busybox", "sh", "-c", script).ok().split() == ["reads", "writes"]
    frozen, _ = loop("-r")
    assert c("run", "--rm", "--device", f"{frozen}:/dev/d", "busybox", "sh", "-c",
             "head -c1 /dev/d >/dev/null && echo reads; dd if=/dev/zero of=/dev/d bs=512 count=1 conv=fsync 2>/dev/null && echo writes; true").ok() == "reads"


def test_several_and_a_directory(c, loop, tmp_path):
    """Two disks by way of a directory, a third by a link, in their places; restarted, they are there again."""
    devs = [loop()[0] for _ in range(3)]
    d = tmp_path / "nodes"
    (d / "below").mkdir(parents=True)
    for i, dev in enumerate(devs):
        with open(dev, "r+b") as out:
            out.write(b"disk %d\n" % i)
            os.fsync(out)
    for name, dev in (("a", devs[0]), ("below/b", devs[1])):
        os.mknod(d / name, 0o640 | stat.S_IFBLK, os.stat(dev).st_rdev)
    (d / "not a device").write_text("")
    link = tmp_path / "link"
    link.symlink_to(devs[2])
    cid = c.rund("--device", f"{d}:/dev/many", "--device", f"{link}:/dev/linked", "busybox", "sleep", "1000")
    script = "head -1 -q /dev/many/a /dev/many/below/b /dev/linked; ls /dev/many; stat -c %a /dev/many/a"
    expected = ["disk 0", "disk 1", "disk 2", "a", "below", "640"]
    assert c("exec", cid, "sh", "-c", script).ok().splitlines() == expected
    c("restart", "-t", "0", cid).ok()
    assert c("exec", cid, "sh", "-c", script).ok().splitlines() == expected


def test_functions_of_the_kernel(c):
    """They are devices by name only: each kernel has its own."""
    out = c("run", "--rm", "--device", "/dev/fuse", "--device", "/dev/net/tun", "--device", "/dev/zero:/dev/nought",
            "--cap-add", "NET_ADMIN", "busybox", "sh", "-c",
            "exec 3<>/dev/fuse && echo fuse; exec 4<>/dev/net/tun && echo tun; head -c3 /dev/nought | wc -c").ok()
    assert out.split() == ["fuse", "tun", "3"]


def test_other_character_devices(c):
    """A port of the host is its own in process mode only."""
    r = c("create", "--device", "/dev/ttyS0:/dev/modem", "busybox", "sh", "-c", "stat -c '%F %t:%T' /dev/modem")
    if c.isolation == "hyperv":
        assert r.code in (1, 125) and ("--device /dev/ttyS0: a character device of the host cannot be handed into a virtual machine, "
                                       "which has a kernel of its own; use --isolation=process") in r.err
    else:
        assert c("start", "-a", r.ok()).ok() == "character special file 4:40"


def test_rules(c):
    """Without a rule a container may not open what it makes itself."""
    make = "mknod /x c 4 64; (: <>/x) 2>&1 | grep -c 'not permitted'; true"
    rule = ["--device-cgroup-rule", "c 4:* rmw"]
    r = c("create", *rule, "busybox", "sh", "-c", make)
    if c.isolation == "hyperv":
        assert r.code in (1, 125) and "--device-cgroup-rule 'c 4:* rmw': numbers of the host's devices mean others in a virtual machine" in r.err
    else:
        assert c("start", "-a", r.ok()).ok() == "0"
    assert c("run", "--rm", "busybox", "sh", "-c", make).ok() == "1"


@pytest.mark.parametrize("args, message", [
    (["--device", "/no/such"], 'error gathering device information while adding custom device "/no/such": No such file or directory'),
    (["--device", "/etc/passwd"], 'error gathering device information while adding custom device "/etc/passwd": not a device node'),
    (["--device", "/etc/default"], 'error gathering device information while adding custom device "/etc/default": not a device node'),
    (["--gpus", "all"], "--gpus (HostConfig.DeviceRequests) is not supported by this version of insula"),
])
def test_refusals(c, args, message):
    r = c("run", "--rm", *args, "busybox", "true")
    assert r.code == 125 and message in r.err, r


def test_bad_rules(c):
    for rule in ("x 1:1 r", "c 1 r", "c 1:1", "c 1:1 rwmr", "c a:1 r", "c 1:1 x", "c 1:99999999999 r"):
        r = c("create", "--device-cgroup-rule", rule, "busybox")
        assert r.code != 0 and f"invalid device cgroup rule format: '{rule}'" in r.err, rule


def test_privileged_has_the_hosts(c, loop):
    """As Docker's; a virtual machine has no devices of the host unless they are named."""
    dev, _ = loop()
    name = os.path.basename(dev)
    out = c("run", "--rm", "--privileged", "busybox", "sh", "-c", f"test -b /dev/{name} && echo there; ls -l /dev/null | head -c1").ok()
    assert out.split() == (["there", "c"] if c.isolation == "process" else ["c"])
