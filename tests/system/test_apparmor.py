"""AppArmor, where it is on (lsm_host.py). The profile is the one that is installed; runtime and engine are tried."""
import pathlib
import shutil

import lsm_host
import pytest
from conftest import ROOT

# What the profile forbids and the capabilities given would allow.
ATTEMPT = "cat /proc/self/attr/current; mount -t tmpfs t /tmp 2>/dev/null && echo mounted; (echo 1 >/proc/sys/vm/swappiness) 2>/dev/null && echo wrote; true"
SCRIPT = f"""
attempt='{ATTEMPT}'
engine
fact loaded cat /sys/kernel/security/apparmor/profiles
run="insula run --rm --network none --cap-add SYS_ADMIN --security-opt systempaths=unconfined"
fact default $run busybox sh -c "$attempt"
fact unconfined $run --security-opt apparmor=unconfined busybox sh -c "$attempt"
fact privileged $run --privileged busybox cat /proc/self/attr/current
fact missing $run --security-opt apparmor=not-loaded busybox true
insula run -d --name xx --network none busybox sleep 1000 >/dev/null
fact exec insula exec xx cat /proc/self/attr/current
fact inspect insula inspect -f '{{{{.AppArmorProfile}}}}' xx
insula rm -f xx >/dev/null
cd /bundle
for i in insula-default not-loaded none; do fact runtime-$i insula-runtime run --config $i.json c; done
insula-runtime run -d --config sleep.json d >/dev/null 2>&1
fact runtime-exec insula-runtime exec --apparmor insula-default d cat /proc/self/attr/current
"""


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    parser = pathlib.Path(shutil.which("apparmor_parser", path="/usr/sbin:/sbin"))
    root = lsm_host.tree(tmp_path_factory.mktemp("machine"), {"sbin/apparmor_parser": parser})
    lsm_host.put_files(root, {"usr/local/share/insula/apparmor/insula-default": ROOT / "contrib/apparmor/insula-default"})
    lsm_host.put(root, "etc/apparmor/parser.conf", "", 0o644)
    lsm_host.rootfs(root)
    caps = ("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    for name in ("insula-default", "not-loaded"):
        lsm_host.config(root, name, ["sh", "-c", ATTEMPT], caps, apparmorProfile=name)
    lsm_host.config(root, "none", ["sh", "-c", ATTEMPT], caps)
    lsm_host.config(root, "sleep", ["sleep", "1000"], caps)
    return lsm_host.boot(root, SCRIPT, "apparmor=1 security=apparmor")


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
