#!/usr/bin/env python3
"""The validation programs of runtime-tools (suite.py) for insula-runtime, crun and runc, all in one run on the same host:
this one, or a machine (tests/nested/machine.py), where there are controllers, capabilities and security modules that
this one may lack.

	run.py --build BUILD [--on here|v1|v2|selinux]... [--program NAME]... [--runtime NAME]... [--keep FILE]

prints a line for each program, a table, and ends with `N passed, N failed`: a program has failed that insula-runtime does not
pass strictly anywhere, though a peer does or there is no reason in WHY."""
import argparse
import base64
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests/nested"))
from machine import Machine     # noqa: E402
from suite import suite         # noqa: E402

OURS = "insula-runtime"
PEERS = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}
# They report no points; what went wrong is said in an error block.
POINTLESS = ("hooks", "poststart", "poststart_fail", "poststop", "poststop_fail", "prestart", "prestart_fail")
# What insula-runtime does not pass, or not on each host where a peer does. R, L and C are rows of docs/CONFORMANCE.md.
NO_WEIGHTS = "reads blkio.weight and blkio.leaf_weight, which kernels have had no more since 5.0"
NO_KMEM = "wants a limit on kernel memory, which kernels have had no more since 5.16"
RACE = "passes by chance: "
WHY = {
    "delete": "wants an error for a container that is created: see R17",
    "hooks": "reads what its hooks wrote after it has removed the bundle: nobody passes",
    "killsig": RACE + "its signals race with the shell's trap",
    "linux_cgroups_blkio": NO_WEIGHTS,
    "linux_cgroups_relative_blkio": NO_WEIGHTS,
    "linux_cgroups_memory": NO_KMEM,
    "linux_cgroups_relative_memory": NO_KMEM,
    "linux_mount_label": "refused where SELinux is off: what cannot be applied is an error (R3, L14a); crun leaves it out",
    "linux_ns_itype": "see L12e; crun and runc leave the container's mounts on the host, also after delete",
    "misc_props": "its bundle lacks the program that it runs",
    "pidfile": RACE + "kills a program that may have ended",
    "poststart": RACE + "its hook races with the program's first write",
    "prestart": "wants prestart hooks at start; the specification has them at create",
    "process_capabilities_fail": "wants an error for an unknown capability (see C6), and prints no plan if it gets one: nobody passes",
    "process_rlimits": "Go raises RLIMIT_NOFILE before the program in the container looks at it",
    "process_rlimits_fail": "prints no plan if the runtime refuses, as it is to: nobody passes",
    "start": "counts it as a failure that start without process is an error, as R12a demands",
}
# What a host may lack; the machine v1 has it.
WHY_HERE = {
    "linux_process_apparmor_profile": "refused where AppArmor is off",
    "process_capabilities": "gives all capabilities, and the host may not have them all",
    **{f"linux_cgroups_{kind}{c}": f"wants the controller {n}" for kind in ("", "relative_")
       for c, n in (("hugetlb", "hugetlb"), ("network", "net_cls and net_prio"))},
}


class Outcome:
    """What one program said of one runtime. Passed: exit 0, a plan, no point that is not ok (but TODO); strictly: no error block
    either, where there are no points."""

    def __init__(self, r):
        points = re.findall(r"^(not ok|ok) \d+(.*)$", r["out"], re.M)
        # By TAP what is marked TODO is no failure: the suite fails one such point of its own, /dev/console's numbers, for everybody.
        self.bad = sum(p == "not ok" and not re.match(r" # TODO", d) for p, d in points)
        self.skipped = sum(bool(re.match(r" # SKIP", d)) for _, d in points)
        self.ok = len(points) - self.bad - self.skipped
        self.plan = re.search(r"^1\.\.\d+$", r["out"], re.M) is not None
        self.passed = r["code"] == 0 and self.plan and not self.bad
        self.strictly = self.passed and not (r["program"] in POINTLESS and '"error":' in r["out"])
        self.why = self.reason(r)

    def reason(self, r):
        if self.strictly:
            return ""
        bad = re.findall(r"^not ok \d+ - (.*)$", r["out"], re.M)
        blocks = re.findall(r'"error": "(.*)"', r["out"])
        said = [line for line in r["err"].splitlines() if not re.match(r"failed to|exit status|Clean: ", line)]
        words = bad[:1] or blocks[:1] or said[:1] or (["no plan"] if r["code"] == 0 else [f"exit {r['code']}"])
        more = [f"(and {len(bad) - 1} more)"] if len(bad) > 1 else []
        return " ".join(words + more)[:160]

    def __str__(self):
        word = "passed" if self.strictly else "error" if self.passed else "failed"
        return f"{word:7} {self.ok:4} ok {self.skipped:3} skipped {self.bad:3} not ok  {self.why}".rstrip()


def runtimes(a, ours):
    return [f"{n}={path}" for n, path in ((OURS, ours), *PEERS.items()) if not a.runtime or n in a.runtime]


def here(a, programs):
    """On this host."""
    results = pathlib.Path(a.build) / "validation/results"
    env = dict(os.environ, PROGRAMS=" ".join(programs))
    subprocess.run([HERE / "runner.py", suite(a.build), results, *runtimes(a, f"{a.build}/src/runtime/insula-runtime")], env=env, check=True)
    return results.read_text()


PROFILE = "profile acme_secure_profile flags=(attach_disconnected) { capability, network, mount, umount, pivot_root, ptrace, signal, file, }\n"
# Each boot: words for its kernel. Debian's has AppArmor on, unless told otherwise.
V1 = "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
BOOTS = {"v1": V1, "v2": "", "selinux": V1 + " selinux=1 security=selinux enforcing=0"}
BODY = """
modprobe bfq                                            # block I/O weights
ip link add eth0 type veth peer name eth1               # a second interface is wanted to be there
mountpoint -q /sys/kernel/security || mount -t securityfs s /sys/kernel/security
if grep -q security=selinux /proc/cmdline; then
    mount -t selinuxfs s /sys/fs/selinux
    dd if=validation/policy of=/sys/fs/selinux/load bs=64M
else
    validation/apparmor_parser --config-file validation/parser.conf -r validation/profile
fi
JOBS=2 PROGRAMS='{programs}' python3 tests/validation/runner.py validation/suite - {runtimes}
"""


def policy(work):
    """The tests' own one, with the label of the suite's in it."""
    text = (ROOT / "tests/data/selinux.cil").read_text()
    names = [f"c{i}" for i in range(1024)]
    text = re.sub(r"^\(category c\d\)\n", "", text, flags=re.M)
    text = text.replace("(categoryorder (c0 c1 c2 c3))", "\n".join(f"(category {n})" for n in names) + f"\n(categoryorder ({' '.join(names)}))")
    text = text.replace("(range c0 c3)", f"(range c0 {names[-1]})")
    text += "(type svirt_sandbox_file_t)\n(roletype object_r svirt_sandbox_file_t)\n"
    (work / "policy.cil").write_text(text)
    subprocess.run(["secilc", "-o", work / "policy", "-f", "/dev/null", work / "policy.cil"], check=True)
    return work / "policy"


def with_libraries(exes):
    """The same, place in the machine -> file, with what the programs are linked to."""
    libs = re.findall(r"(/\S+) \(0x", "".join(subprocess.run(["ldd", e], capture_output=True, text=True, check=True).stdout for e in exes.values()))
    return {**exes, **{lib.lstrip("/"): pathlib.Path(lib) for lib in libs}}


def machine(a, programs):
    work = pathlib.Path(a.build) / "validation"
    (work / "profile").write_text(PROFILE)
    (work / "parser.conf").write_text("")
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin")
    exes = {p.lstrip("/"): pathlib.Path(p) for p in PEERS.values()} | {"opt/insula/validation/apparmor_parser": pathlib.Path(parser)}
    files = {**with_libraries(exes), "opt/insula/validation/suite": suite(a.build), "opt/insula/validation/policy": policy(work),
             **{f"opt/insula/validation/{n}": work / n for n in ("profile", "parser.conf")}}
    ours = "/opt/insula/build/src/runtime/insula-runtime"
    return Machine(a.build, BODY.format(programs=" ".join(programs), runtimes=" ".join(runtimes(a, ours))), files)


def on_machine(m, name, seconds):
    """What it could not do in time is missing: the machine is emulated."""
    text, _ = m.boot(BOOTS[name] + " mitigations=off", seconds)
    found = re.findall(r"^result: (\S+)\r?$", text, re.M)
    if not found:
        raise SystemExit(f"validation: the machine {name} said no results:\n{text[-3000:]}")
    return "".join(gzip.decompress(base64.b64decode(x)).decode() + "\n" for x in found)


def show(name, outcomes):
    """outcomes: (program, runtime) -> Outcome, all of one host."""
    print(f"-- {name}")
    for (program, runtime), o in sorted(outcomes.items()):
        print(f"{program:34} {runtime:15} {o}")
    print(f"\n| runtime, {name} | passed | strictly | of these by chance | points ok, skipped, not ok |\n|---|---|---|---|---|")
    for runtime in dict.fromkeys(r for _, r in outcomes):
        mine = [o for (_, r), o in outcomes.items() if r == runtime]
        lucky = [p for (p, r), o in outcomes.items() if r == runtime and o.strictly and WHY.get(p, "").startswith(RACE)]
        print(f"| {runtime} | {sum(o.passed for o in mine)} | {sum(o.strictly for o in mine)} | {', '.join(lucky) or 'none'} | "
              f"{sum(o.ok for o in mine)}, {sum(o.skipped for o in mine)}, {sum(o.bad for o in mine)} |")
    print(flush=True)


def judge(hosts):
    """Passed and failed programs."""
    programs = sorted({p for outcomes in hosts.values() for p, r in outcomes if r == OURS})
    reasons = {**WHY, **(WHY_HERE if list(hosts) == ["here"] else {})}
    failed = 0
    for p in programs:
        won = {r: [h for h, outcomes in hosts.items() if (p, r) in outcomes and outcomes[p, r].strictly] for r in (OURS, *PEERS)}
        better = [f"{r} on {h}" for r in PEERS for h in won[r] if h not in won[OURS] and (p, OURS) in hosts[h]]
        if not won[OURS] or better:
            peers = "; passed by " + ", ".join(better) if better else ""
            print(f"not passed: {p}: {reasons.get(p, 'no reason is known')}{peers}")
        failed += p not in reasons and bool(better or not won[OURS])
    return len(programs) - failed, failed


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build")
    ap.add_argument("--on", choices=["here", *BOOTS], action="append")
    ap.add_argument("--program", action="append", default=[])
    ap.add_argument("--runtime", action="append", default=[], choices=[OURS, *PEERS])
    ap.add_argument("--minutes", type=float, default=120, help="for one machine; what has no time is left out")
    ap.add_argument("--keep", help="what the programs said, one JSON object a line")
    a = ap.parse_args()
    a.build = str(pathlib.Path(a.build).resolve())
    subprocess.run([ROOT / "tools/install-deps", "validation"], check=True)
    hosts, m = {}, None
    for name in a.on or ["here"]:
        if name != "here":
            m = m or machine(a, a.program)
        text = here(a, a.program) if name == "here" else on_machine(m, name, a.minutes * 60)
        if a.keep:
            with open(a.keep, "a") as f:
                f.writelines(json.dumps({"host": name, **json.loads(line)}) + "\n" for line in text.splitlines())
        hosts[name] = {(r["program"], r["runtime"]): Outcome(r) for r in map(json.loads, text.splitlines())}
        show(name, hosts[name])
    passed, failed = judge(hosts)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
