"""SELinux, where it is on (lsm_host.py), with a policy of our own (tests/data/selinux.cil): runtime and engine are
tried. In it containers may read container_file_t of their own categories, and their own /proc/self, and nothing else."""
import pathlib
import shutil
import subprocess

import lsm_host
import pytest
from conftest import ROOT

USER = "system_u:system_r:"
HOST, LABEL, OTHER = USER + "unconfined_t:s0", USER + "container_t:s0:c1,c2", USER + "container_t:s0:c3"
FILE = "system_u:object_r:container_file_t:s0:c1,c2"
NOBODY = USER + "nobody_t:s0"
ATTEMPT = "cat /proc/self/attr/current && echo; for i in mine others secret host; do cat /$i 2>/dev/null; done; true"
MOUNTS = [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
          {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
          {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
          {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
          {"destination": "/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
          {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
          {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
LABELLED = ("/dev", "/dev/null", "/dev/pts", "/dev/pts/ptmx", "/dev/mqueue", "/tmp", "/tmp/new", "/up", "/up/one", "/masked")
SCRIPT = f"""
mount -t selinuxfs s /sys/fs/selinux
dd if=/opt/policy of=/sys/fs/selinux/load bs=1M 2>/dev/null
fact enforcing cat /sys/fs/selinux/enforce
fact own cat /proc/self/attr/current
cd /bundle
chcon -R system_u:object_r:container_file_t:s0 rootfs
chcon {FILE} rootfs/mine
chcon system_u:object_r:container_file_t:s0:c3 rootfs/others
chcon system_u:object_r:secret_t:s0 rootfs/secret
chcon system_u:object_r:host_t:s0 rootfs/host
umount /sys/fs/cgroup
mount -t tmpfs c /sys/fs/cgroup && mkdir /sys/fs/cgroup/pids && mount -t cgroup -o pids pids /sys/fs/cgroup/pids
fact mounts-v1 insula-runtime run --config mounts.json c
rmdir /sys/fs/cgroup/pids/insula; umount /sys/fs/cgroup/pids /sys/fs/cgroup
mount -t cgroup2 c /sys/fs/cgroup
for i in label unlabelled nnp userns refused mounts mounts-userns terminal; do fact $i insula-runtime run --config $i.json c; done
rmdir /sys/fs/cgroup/insula
for i in invalid word mount-invalid; do
    fact $i sh -c "insula-runtime create --config $i.json c >/run/out 2>&1; echo \\$? \\$(cat /run/out)"
    fact $i-left sh -c 'ls /run/insula-runtime; find /sys/fs/cgroup -mindepth 1 -type d'
    insula-runtime delete -f c 2>/dev/null
done
insula-runtime run -d --config sleep.json c >/dev/null 2>&1
exec="insula-runtime exec"
fact exec $exec c sh -c '{ATTEMPT}'
fact exec-own $exec --process-label {OTHER} c sh -c '{ATTEMPT}'
fact exec-invalid $exec --process-label {NOBODY} c true
fact escape $exec c sh -c 'printf %s {HOST} >/proc/self/attr/exec; /bin/stat -Lc %C /proc/self'
insula-runtime delete -f c
insula-runtime run -d --config sleep-userns.json c >/dev/null 2>&1
fact exec-userns $exec c sh -c '{ATTEMPT}'
insula-runtime delete -f c
echo 0 >/sys/fs/selinux/enforce
fact permissive insula-runtime run --config label.json c
echo 1 >/sys/fs/selinux/enforce
engine
run="insula run --rm --network none"
fact engine $run -v vol:/etc busybox cat /proc/self/attr/current
fact engine-disabled $run --security-opt label=disable busybox cat /proc/self/attr/current
fact engine-type $run --security-opt label=type:container_t busybox true
"""


def bundles(root):
    top = lsm_host.rootfs(root)
    for name in ("mine", "others", "secret", "host", "up/one", "masked/one"):
        lsm_host.put(top, name, name + "\n", 0o644)
    lsm_host.put_files(top, lsm_host.with_libraries({"bin/stat": pathlib.Path("/usr/bin/stat")}))

    def put(name, args=("sh", "-c", ATTEMPT), label=LABEL, mounts=(), linux=None, **process):
        if label:
            process["selinuxLabel"] = label
        lsm_host.config(root, name, list(args), (), mounts, linux, **process)

    kinds = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")]
    userns = {"namespaces": kinds, **{k: [{"containerID": 0, "hostID": 100000, "size": 65536}] for k in ("uidMappings", "gidMappings")}}
    masked = {"maskedPaths": ["/proc/kcore", "/masked"], "readonlyPaths": ["/proc/sys"]}
    dev = MOUNTS[:1]
    show = ["sh", "-c", f"echo >/tmp/new; /bin/stat -c %n=%C /sys /sys/fs/cgroup {' '.join(LABELLED)}"]
    put("label")
    put("unlabelled", label=None)
    put("nnp", noNewPrivileges=True)
    put("userns", mounts=dev, linux={**userns, **masked})
    put("refused", label=USER + "other_t:s0")
    put("invalid", label=NOBODY)
    put("word", label="unconfined")
    put("mount-invalid", linux={"mountLabel": NOBODY})
    put("sleep", ["sleep", "1000"])
    put("sleep-userns", ["sleep", "1000"], mounts=dev, linux={**userns, **masked})
    put("mounts", show, None, MOUNTS, {"mountLabel": FILE, **masked})
    put("terminal", ["/bin/stat", "-c", "%n=%C", "/dev/console"], LABEL, MOUNTS, {"mountLabel": FILE}, terminal=True)
    put("mounts-userns", show, None, MOUNTS, {"mountLabel": FILE, **userns, **masked})


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("machine")
    subprocess.run(["secilc", "-o", tmp / "policy", "-f", tmp / "contexts", ROOT / "tests/data/selinux.cil"], check=True)
    root = lsm_host.tree(tmp, {"opt/chcon": pathlib.Path("/usr/bin/chcon")})
    shutil.copy(tmp / "policy", root / "opt/policy")
    bundles(root)
    return lsm_host.boot(root, SCRIPT, "selinux=1 security=selinux enforcing=1")


def test_the_policy_holds(facts):
    assert facts["enforcing"] == "1" and facts["own"] == HOST, facts
    assert facts["unlabelled"] == f"{HOST} mine others secret host"


def test_a_container_gets_its_label(facts):
    """And with it what the policy gives: its own files, neither those of another nor those of the host."""
    for k in ("label", "nnp", "userns", "exec", "exec-userns"):
        assert facts[k] == f"{LABEL} mine", (k, facts)
    assert facts["exec-own"] == f"{OTHER} others"
    # It is SELinux that denies them.
    assert facts["permissive"] == f"{LABEL} mine others secret host"


def test_a_container_cannot_leave_its_label(facts):
    assert facts["escape"] == "sh: /bin/stat: Permission denied", facts


def test_mounts_get_the_mount_label(facts):
    for k in ("mounts", "mounts-userns", "mounts-v1"):
        shown = dict(x.split("=") for x in facts[k].split())
        # Device nodes of a user namespace are the host's own.
        other = {"/sys", "/sys/fs/cgroup"} - ({"/sys/fs/cgroup"} if k == "mounts-v1" else set()) | ({"/dev/null"} if k == "mounts-userns" else set())
        assert shown == {p: "system_u:object_r:host_t:s0" if p in other else FILE for p in ("/sys", "/sys/fs/cgroup", *LABELLED)}, (k, facts)
    assert facts["terminal"] == f"/dev/console={FILE}"


def test_a_label_that_the_policy_does_not_know(facts):
    for k, key, label in (("invalid", "process.selinuxLabel", NOBODY), ("word", "process.selinuxLabel", "unconfined"),
                          ("mount-invalid", "linux.mountLabel", NOBODY)):
        assert facts[k] == f'1 insula-runtime: {key}: "{label}" is no label of this host\'s SELinux policy', facts
        assert facts[f"{k}-left"] == ""
    assert facts["exec-invalid"] == f'insula-runtime: process.selinuxLabel: "{NOBODY}" is no label of this host\'s SELinux policy'


def test_a_label_that_the_policy_does_not_let_us_take(facts):
    assert facts["refused"] == f"insula-runtime: exec /bin/sh: permission denied as {USER}other_t:s0", facts


def test_the_engine_sets_no_labels(facts):
    """As Docker's without --selinux-enabled; but a label that is asked for is refused."""
    assert facts["engine"] == facts["engine-disabled"] == HOST, facts
    assert "--security-opt label=type:container_t: insula gives no SELinux labels to containers" in facts["engine-type"]
