#!/usr/bin/env python3
"""test [--quick|--long] [-k WORD]: installs what is missing, builds with sanitizers, runs all tests.

  --quick   unit tests, data-driven tests and a short simulation, under two minutes: the inner loop
  --long    the soak: longer simulation and fuzzing on top of everything
  -k WORD   only the test programs whose name contains WORD

Every test program speaks TAP; the last line is `N passed, N failed`. Exit status 0 only when nothing failed."""
import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = min(os.cpu_count() or 1, 8)
ASAN = os.path.join(ROOT, "build", "asan")
RELEASE = os.path.join(ROOT, "build", "release")
FUZZ = os.path.join(ROOT, "build", "fuzz")
PROGRAMS = ["etcd", "etcdctl", "fleetd", "fleetctl", "confd"]
print_lock = threading.Lock()


def say(text):
    with print_lock:
        print(text, flush=True)


def step(title, argv):
    """A step of the build: quiet when it goes well, its output and the end of the run when it does not."""
    begun = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    say("%-60s %s  %.0f s" % (title, "ok" if done.returncode == 0 else "FAILED", time.monotonic() - begun))
    if done.returncode != 0:
        say(done.stdout[-20000:])
    return done.returncode == 0


def build(directory, options, env=None, targets=()):
    if not os.path.exists(os.path.join(directory, "build.ninja")):
        shutil.rmtree(directory, ignore_errors=True)
        prefix = ["env"] + ["%s=%s" % item for item in (env or {}).items()]
        if not step("configure " + os.path.relpath(directory, ROOT), prefix + ["meson", "setup", directory, ROOT] + options):
            return False
    return step("build " + os.path.relpath(directory, ROOT), ["ninja", "-C", directory] + list(targets))


class Program:
    """One test program: what runs, where its build is, how long it may take."""

    def __init__(self, name, argv, timeout_s, env=None):
        self.name, self.argv, self.timeout_s, self.env = name, argv, timeout_s, env or {}


# They move hundreds of megabytes between simulated members: with sanitizers only in the soak.
HEAVY = ["test_sim_transfer", "test_sim_flow", "test_sim_disks", "test_sim_pace"]


def unit_programs(soak):
    found = []
    for path in sorted(glob.glob(os.path.join(ASAN, "tests", "test_*"))
                       + glob.glob(os.path.join(ASAN, "tests", "sim", "test_*"))):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            if os.path.basename(path) in HEAVY and not soak:
                path = os.path.join(RELEASE, "tests", "sim", os.path.basename(path))
            found.append(Program("unit/" + os.path.basename(path)[5:], [path], 300, {"CMOCKA_MESSAGE_OUTPUT": "TAP"}))
    return found


# Black-box tests that judge times run the release build, all others the one with sanitizers.
TIMED = {"test_cluster_faults", "test_cluster_nemesis", "test_fleet_cluster", "test_members", "test_dev",
         "test_dev_failover", "test_demo", "test_snapshot_save", "test_fleet_lab", "test_fleet_lab_dev"}
# Hundreds of short calls, most of whose time is the start of the sanitizers: those meet them in the soak, in the
# unit tests and test_etcdctl_real.
MANY_CALLS = {"test_etcdctl_golden", "test_fleetctl_golden"}


# Black-box tests that compare what is said, not when (or allow for seconds), and that share nothing with each other; the
# longest first. They wait for their servers for a good part of the time, so there is one more of them than processors.
SIDE_BY_SIDE = ["test_systemd", "test_systemd_odd", "test_demo", "test_etcdctl_golden", "test_supervisor_types", "test_confd_run", "test_etcdctl_real",
                "test_hostile", "test_checkpoints", "test_rebuild", "test_disk_space", "test_supervisor_units", "test_supervisor_triggers", "test_etcd_refusals", "test_etcd_golden",
                "test_fleetctl_golden", "test_supervisor", "test_confd_deck", "test_supervisor_exec", "test_confd_golden",
                "test_etcd_curl", "test_etcd_differential", "test_fleet_api", "test_tls", "test_etcd_watch", "test_fleetctl_ssh",
                "test_fleetctl_tunnel",
                "test_snapshot", "test_rooms", "test_snapshot_save", "test_release"]


# One after the other, beside the rest: clusters of fleetds that share nothing with those, and mostly wait for timeouts.
FLEETS = ["test_fleet_cluster", "test_fleet_mixed", "test_fleetctl_outcomes", "test_fleet_lab_dev"]
# Whose cases are the same for each store: a program for each.
STORES = {"test_fleet_cluster": ["debian", "ours"]}


def system_programs(names, soak):
    released = TIMED if soak else TIMED | MANY_CALLS
    timeout_s = 900 * int(os.environ.get("FLOTILLA_ROUNDS", "1"))
    found = []
    for name in names:
        env = {"FLOTILLA_BUILD": RELEASE if name in released else ASAN, "FLOTILLA_RELEASE": RELEASE}
        argv = [sys.executable, os.path.join(ROOT, "tests", "system", name + ".py")]
        for store in STORES.get(name, [None]):
            found.append(Program("system/" + name[5:] + ("_" + store if store else ""), argv, timeout_s,
                                 dict(env, FLOTILLA_TEST_STORES=store) if store else env))
    return found


def other_names():
    """One after the other: they measure times, or share the machine's namespaces. Most of the time they wait for timeouts."""
    names = [os.path.basename(path)[:-3] for path in sorted(glob.glob(os.path.join(ROOT, "tests", "system", "test_*.py")))]
    return [name for name in names if name not in SIDE_BY_SIDE + FLEETS]


def sim_programs(seconds):
    """The simulators: of the store, and of fleets: there the same seeds each time but in the soak."""
    script = [os.path.join(ROOT, "scripts", "sim"), "--build", RELEASE, "--tap"]
    fleet = ["--fleet"] + (["--seconds", str(seconds)] if seconds > 120 else ["--seed", "1", "--seeds", str(3 * seconds)])
    return [Program("sim", script + ["--seconds", str(seconds)], seconds + 300),
            Program("sim/fleet", script + fleet, seconds + 300)]


def fuzz_wanted(word):
    sources = glob.glob(os.path.join(ROOT, "tests", "fuzz", "fuzz_*.c"))
    return any(word in "fuzz/" + os.path.basename(path)[5:-2] for path in sources)


def fuzz_programs(seconds):
    found = []
    for path in sorted(glob.glob(os.path.join(FUZZ, "tests", "fuzz", "fuzz_*"))):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            found.append(Program("fuzz/" + os.path.basename(path)[5:],
                                 [sys.executable, os.path.join(ROOT, "tests", "fuzz", "run.py"), path, str(seconds)],
                                 seconds + 120))
    return found


def run(program):
    """Runs one program; answers (passed, failed)."""
    begun = time.monotonic()
    env = dict(os.environ, **program.env)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    env.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    process = subprocess.Popen(program.argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace")
    timed_out = []

    def give_up():
        timed_out.append(True)
        # First politely, so that what the test itself started is stopped by it.
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(10)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    timer = threading.Timer(program.timeout_s, give_up)
    timer.start()
    output = process.communicate()[0]
    timer.cancel()
    passed = len(re.findall(r"^ok\b", output, re.M))
    failed = len(re.findall(r"^not ok\b", output, re.M))
    plans = [int(count) for count in re.findall(r"^1\.\.(\d+)", output, re.M)]
    problem = None
    if timed_out:
        problem = "ran longer than %d s" % program.timeout_s
    elif passed + failed < sum(plans) or not plans:
        problem = "ended after %d of %d cases with status %d" % (passed + failed, sum(plans), process.returncode)
    elif process.returncode != 0 and not failed:
        problem = "exit status %d" % process.returncode
    if problem:
        failed += 1
    state = "ok    " if not failed else "FAILED"
    say("%s %-40s %5d passed %3d failed %6.1f s%s" %
        (state, program.name, passed, failed, time.monotonic() - begun, "  (%s)" % problem if problem else ""))
    if failed:
        say("\n".join("    " + line for line in output[-15000:].splitlines()))
    return passed, failed


def run_all(programs, jobs):
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for good, bad in pool.map(run, programs):
            passed += good
            failed += bad
    return passed, failed


def added(counts):
    return sum(good for good, _ in counts), sum(bad for _, bad in counts)


def run_lanes(lanes):
    """Each lane, a function that answers what it counted, beside the others."""
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        return [lane.result() for lane in [pool.submit(lane) for lane in lanes]]


def check_format():
    files = sorted(glob.glob(os.path.join(ROOT, "src", "**", "*.[ch]"), recursive=True)
                   + glob.glob(os.path.join(ROOT, "include", "**", "*.h"), recursive=True)
                   + glob.glob(os.path.join(ROOT, "tests", "**", "*.[ch]"), recursive=True))
    return step("clang-format", ["clang-format", "--dry-run", "--Werror"] + files)


class Run:
    """One run of everything that is wanted; each step answers (passed, failed)."""

    def __init__(self, word, soak):
        self.word, self.soak = word, soak

    def run(self, programs, jobs):
        return run_all([program for program in programs if self.word in program.name], jobs)

    def system(self, names, jobs):
        return self.run(system_programs(names, self.soak), jobs)

    def builds(self, quick):
        targets = (["flotilla", "tests/sim/sim", "tests/sim/fleet/fleet-sim", "tests/system/check_history", "tests/system/faults.so"]
                   + ["tests/sim/" + name for name in HEAVY] + [name + ".1" for name in PROGRAMS + ["etcdctl-snapshot"]])
        checks = [build(ASAN, ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1", "-Dwerror=true"]),
                  build(RELEASE, ["-Dwerror=true"], targets=targets)] + ([] if quick else [check_format()])
        return checks.count(True), checks.count(False)

    def fuzz_build(self):
        if not fuzz_wanted(self.word):
            return 0, 0
        good = build(FUZZ, ["-Dfuzz=true", "-Dtests=true", "-Doptimization=1", "-Dwerror=true", "-Db_lundef=false"],
                     {"CC": "clang"}, ["-j1", "fuzz"])
        return int(good), int(not good)

    def one_processor(self):
        """What needs one processor all the time, and no more."""
        counts = [self.fuzz_build(), self.run(sim_programs(1800 if self.soak else 120), 1)]
        return added(counts + ([] if self.soak else [self.run(fuzz_programs(10), 1)]))

    def all(self, quick):
        counts = [self.builds(quick), self.run(unit_programs(self.soak), JOBS)]
        if quick:
            return added(counts + [self.run(sim_programs(10), 1)])
        counts.append(self.system(SIDE_BY_SIDE, JOBS + 1))
        # Two of the three wait for timeouts most of the time, so that times can be judged beside the one that does not.
        counts += run_lanes([lambda: self.system(other_names(), 1), lambda: self.system(FLEETS, 1), self.one_processor])
        if self.soak:
            counts.append(self.run(fuzz_programs(600), JOBS))
        return added(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("-k", metavar="WORD", default="")
    options = parser.parse_args()
    if options.long:
        os.environ.setdefault("FLOTILLA_ROUNDS", "5")  # of each fault in test_cluster_nemesis.py; test_fleet_lab.py does more
    # A shell that starts this in the background has it ignore these, and every test's children would inherit that.
    for number, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL),
                           (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, action)
    if subprocess.call([os.path.join(ROOT, "scripts", "deps"), "test"]) != 0:
        return 1
    begun = time.monotonic()
    passed, failed = Run(options.k, options.long).all(options.quick)
    say("took %.0f s" % (time.monotonic() - begun))
    print("%d passed, %d failed" % (passed, failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
