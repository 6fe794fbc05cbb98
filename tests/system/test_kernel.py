"""Kernels, or filters of an outer container, without the system calls that insula needs: refused, by name."""
import subprocess

import pytest

from conftest import BUILD, program

NEEDED = {"openat2": "5.6", "open_tree": "5.2", "move_mount": "5.2", "fsopen": "5.2", "fsconfig": "5.2",
          "fsmount": "5.2", "pidfd_open": "5.3"}


def without(call, *argv):
    return subprocess.run([BUILD / "tests" / "enosys", call, *map(str, argv)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("call", NEEDED)
def test_a_kernel_without_it_is_refused(call, tmp_path):
    p = without(call, program("insula-runtime"), "--root", tmp_path / "rt", "list")
    assert p.returncode == 1
    assert p.stderr == f"insula-runtime: this kernel is too old: needs {call} (Linux {NEEDED[call]})\n"
    p = without(call, program("insulad"), "--data-root", tmp_path / "data", "--exec-root", tmp_path / "run",
                "-H", f"unix://{tmp_path}/run/insula.sock")
    assert p.returncode == 1
    assert p.stderr.endswith(f"this kernel is too old: insula needs {call} (Linux {NEEDED[call]})\n")


def test_a_kernel_without_what_has_a_substitute_is_not(tmp_path):
    p = without("clone3,close_range,mount_setattr,setns_pidfd", program("insula-runtime"), "--root", tmp_path / "rt", "list", "-q")
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "")
