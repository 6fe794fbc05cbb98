"""A machine without an engine: the guest kernel of the hyperv containers in a QEMU that was told nothing but a tap, on a
bridge of its own. What a container in a virtual machine gets of the network is compared with what this one gets.

Its memory and processors are those of a hyperv container without limits. It takes commands by its serial line."""
import os
import pathlib
import shutil
import subprocess

INIT = """#!/plain/busybox sh
export PATH=/plain/bin
/plain/busybox mkdir -p /plain/bin /proc /sys
/plain/busybox --install -s /plain/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m; done
ip link set lo up
ip addr add {address}/24 dev eth0
ip link set eth0 up
/plain/netserve sink:{port} &
echo READY
while read -r line; do echo "ANSWER $($line 2>&1 | tr '\\n' ' ')"; done
"""
BRIDGE, TAP, GATEWAY, ADDRESS = "plain0", "plaintap0", "10.250.0.1", "10.250.0.2"


class PlainVm:
    needs = ("qemu-system-x86_64", "cpio", "busybox")

    def __init__(self, place, base, guest, tools, port):
        self.at, self.gateway, self.address, self.port = place.at, GATEWAY, ADDRESS, port
        d = pathlib.Path(base) / "plain"
        (d / "plain").mkdir(parents=True)
        for exe in (shutil.which("busybox"), tools / "netask", tools / "netserve"):
            shutil.copy(exe, d / "plain")
        (d / "plain/init").write_text(INIT.format(address=ADDRESS, port=port))
        (d / "plain/init").chmod(0o755)
        with open(d / "initrd", "wb") as f:     # two archives in a row are one to the kernel
            f.write((guest / "initramfs.img").read_bytes())
            subprocess.run("find plain | cpio -o -H newc --quiet", shell=True, cwd=d, stdout=f, check=True)
        subprocess.run(self.at("sh", "-ec", f"""
            ip link add {BRIDGE} type bridge; ip addr add {GATEWAY}/24 dev {BRIDGE}; ip link set {BRIDGE} up
            ip tuntap add {TAP} mode tap vnet_hdr; ip link set {TAP} master {BRIDGE} up"""), check=True)
        self.proc = subprocess.Popen(
            self.at("qemu-system-x86_64", "-nodefaults", "-nographic", "-no-reboot", "-accel", "tcg", "-cpu", "max", "-m", "512",
                    "-smp", os.cpu_count(), "-kernel", guest / "vmlinuz", "-initrd", d / "initrd", "-append",
                    "quiet panic=-1 console=ttyS0 rdinit=/plain/init", "-serial", "stdio", "-netdev",
                    f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,netdev=n,romfile="),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.wait("READY")

    def wait(self, word):
        for line in self.proc.stdout:
            if word in line:
                return line.split(word, 1)[1].strip()
        raise RuntimeError("the plain machine has ended")

    def send(self, host, port, count, size):
        print("/plain/netask send", host, port, count, size, file=self.proc.stdin, flush=True)
        return self.wait("ANSWER ")

    def stop(self):
        self.proc.kill()
        self.proc.wait()
