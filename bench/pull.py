#!/usr/bin/python3
"""Pulling and unpacking an image of 300 MB in six layers from a registry on loopback, beside the peers, in one run.

The image is made of this machine's own files below /usr. Each engine pulls several such images, in turn with the others.
Nothing is removed before the end: ext4 without a journal looks for minutes for an inode among those that were just freed.
What others have written is on the disk before each. The last row is the limit: the time that `zcat | tar x` takes for the
largest layer."""
import argparse
import hashlib
import io
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib

import peers

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/system"))
LAYERS, LAYER_BYTES = 6, 50 << 20


def files():
    """Regular files below /usr of moderate size, in the order of the directories."""
    for top, dirs, names in os.walk("/usr"):
        dirs.sort()
        for n in sorted(names):
            p = pathlib.Path(top) / n
            if p.is_file() and not p.is_symlink() and 0 < p.stat().st_size < 8 << 20:
                yield p


def layer(source, salt):
    """A plain tar of LAYER_BYTES of files, which no other image has."""
    out, size = io.BytesIO(), 0
    with tarfile.open(fileobj=out, mode="w") as t:
        t.addfile(tarfile.TarInfo(f"image-{salt}"))
        for p in source:
            t.add(p, recursive=False)
            size += p.stat().st_size
            if size >= LAYER_BYTES:
                break
    return out.getvalue()


def make_image(where, salt):
    """An OCI layout; returns the path of its largest layer."""
    blobs = where / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": "sha256:" + digest, "size": len(data)}
    source, layers, diffs = files(), [], []
    for _ in range(LAYERS):
        plain = layer(source, salt)
        diffs.append("sha256:" + hashlib.sha256(plain).hexdigest())
        z = zlib.compressobj(6, zlib.DEFLATED, 31)
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **put(z.compress(plain) + z.flush())})
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = put(json.dumps({"architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}).encode())
    manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": layers}).encode())
    (where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (where / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest, "annotations": {"org.opencontainers.image.ref.name": "big"}}]}))
    return blobs / max(layers, key=lambda d: d["size"])["digest"][7:]


class Peak(threading.Thread):
    """The largest sum of resident memory of the processes with these names that carry a word in their command line or
    whose parent is the daemon."""

    def __init__(self, names, parent):
        super().__init__(daemon=True)
        self.names, self.parent, self.kib, self.over = names, str(parent), 0, False

    def run(self):
        while not self.over:
            total = 0
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    s = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status") if ":\t" in line)
                except OSError:
                    continue
                if s["Name"].strip() in self.names and s["PPid"].strip() == self.parent:
                    total += int(s.get("VmRSS", "0 kB").split()[0])
            self.kib = max(self.kib, total)
            time.sleep(0.02)


def timed(argv, env=None):
    t = time.perf_counter()
    p = subprocess.run(list(map(str, argv)), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    if p.returncode:
        raise RuntimeError(p.stderr.decode(errors="replace")[-300:])
    return time.perf_counter() - t


class Registry:
    """Debian's docker-registry inside the peers' namespaces, over the same files as another."""

    def __init__(self, place, first):
        self.proc = subprocess.Popen(place.at("docker-registry", "serve", first.base / "config.yml"), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)

    def stop(self):
        self.proc.terminate()
        self.proc.wait(20)


def skopeo_umoci(place, base):
    def pull(ref):
        out = pathlib.Path(tempfile.mkdtemp(prefix="umoci-", dir=base))
        t = timed(place.at("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{ref}", f"oci:{out}/layout:big"))
        return t + timed(["umoci", "unpack", "--image", f"{out}/layout:big", out / "bundle"])
    return pull


def zcat_tar(base, largest):
    out = tempfile.mkdtemp(prefix="tar-", dir=base)
    return timed(["sh", "-c", f"zcat < {largest} | tar x -C {out}"])


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--runs", type=int, default=3)
    a = ap.parse_args()
    os.environ["INSULA_BUILD"] = os.environ.get("INSULA_BUILD") or str(pathlib.Path(a.build).resolve())
    import conftest as h
    import registry as r
    base = pathlib.Path(tempfile.mkdtemp(prefix="insula-bench-"))
    place, e, started, times, peak = peers.Place(), h.Engine(base / "insula"), [], {}, 0
    try:
        reg = r.Registry(base / "registry")
        started.append(reg)
        started.append(Registry(place, reg))
        e.start()
        ways = {"insula": lambda ref: timed(e.argv("insula", "pull", "-q", ref), e.env())}
        for kind in (peers.Docker, peers.Podman):
            why = peers.missing(kind.needs)
            if why:
                print(f"{kind.__name__} takes no part: {why}")
                continue
            p = kind(place, base, h.IMAGES / "busybox.tar")
            started.append(p)
            extra = ("--tls-verify=false", "--signature-policy", p.policy) if kind is peers.Podman else ()
            ways[kind.__name__.lower()] = lambda ref, p=p, x=extra: timed(p.command("pull", "-q", *x, ref), p.env)
        if not peers.missing(("skopeo", "umoci")):
            ways["skopeo + umoci"] = skopeo_umoci(place, base)
        for n in range(a.runs):
            ref, image = f"{reg.host}/bench/big:{n}", base / f"image-{n}"
            largest = make_image(image, n)
            subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{image}:big", f"docker://{ref}"], check=True)
            for name, pull in {**ways, "zcat | tar x of the largest layer": lambda _: zcat_tar(base, largest)}.items():
                watch = Peak(("insula-puller", "insula-registr"), e.proc.pid) if name == "insula" else None
                os.sync()
                if watch:
                    watch.start()
                times.setdefault(name, []).append(pull(ref))
                if watch:
                    watch.over = True
                    peak = max(peak, watch.kib)
        ours = statistics.median(times["insula"])
        print("| who | seconds (fastest) | to ours |\n| --- | --- | --- |")
        for name, t in times.items():
            print(f"| {name} | {statistics.median(t):.2f} ({min(t):.2f}) | {statistics.median(t) / ours:.2f} |")
        print(f"\npeak memory of insula-registry and insula-puller together: {peak / 1024:.1f} MiB (budget 64)")
    finally:
        for s in reversed(started):
            s.stop()
        e.stop()
        place.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
