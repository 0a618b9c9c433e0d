"""What the black-box tests share: TAP output, temporary directories, free ports, processes that never outlive the test."""
import atexit
import http.client
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("FLOTILLA_BUILD", "")


def program(name):
    """Path of one of our programs in the build under test (FLOTILLA_BUILD names the build directory)."""
    path = os.path.join(BUILD, name)
    if not BUILD or not os.path.exists(path):
        sys.exit("harness: FLOTILLA_BUILD must name a build directory that holds %s" % name)
    return path


def _first_ephemeral_port():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        return int(file.read().split()[0])


def free_port():
    """A TCP port on 127.0.0.1 that nothing listens on now, and that no test gives out again while this process lives.

    It is below the ports that the system takes for outgoing connections: a server that is killed and started again finds
    its port free then, and nobody who tries to reach it meanwhile connects to himself."""
    while True:
        port = random.randrange(10000, _first_ephemeral_port())
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind("\0flotilla-test-port-%d" % port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        free_port.claims.append(claim)
        return port


free_port.claims = []


def temp_dir():
    path = tempfile.mkdtemp(prefix="flotilla-test-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


_started = []


def start(argv, **options):
    """Starts a process in a session of its own; it is killed, with all that it started, when the test ends."""
    process = subprocess.Popen(argv, start_new_session=True, **options)
    _started.append(process)
    return process


# What is started in the background of a shell ignores these, and would hand that on to every child.
for _number, _action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL),
                         (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(_number, _action)


def kill(process, sig=signal.SIGKILL):
    """Sends the signal and waits for the end; what does not end of it fails the case."""
    try:
        os.killpg(process.pid, sig)
    except ProcessLookupError:
        pass
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise AssertionError("%s does not end by signal %d" % (process.args, sig)) from None


@atexit.register
def _kill_all():
    for process in _started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    for process in _started:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


# How long a wait may take before it is given up: far longer than anything takes, so that only what never comes fails.
PATIENCE_S = 60


def wait_for(condition, timeout_s=20, what="condition", step_s=0.02):
    """Calls condition() until it answers something true, which is returned; raises when it never comes.

    timeout_s is what a quiet machine needs at most; a busy one is given four times that, and never less than PATIENCE_S. So
    this judges no time: what must be quick is measured (see quick_enough)."""
    patience_s = max(4 * timeout_s, PATIENCE_S)
    deadline = time.monotonic() + patience_s
    while True:
        last = None
        try:
            answer = condition()
            if answer:
                return answer
        except (OSError, ValueError, KeyError, AssertionError, http.client.HTTPException,
                subprocess.TimeoutExpired) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError("timed out after %gs waiting for %s (%s)" % (patience_s, what, last))
        time.sleep(step_s)


# What the start and end of the smallest program takes on a machine that does nothing else, with room to spare.
QUIET_START_S = 0.003


def slowness():
    """How many times slower than when it is quiet this machine starts programs now; 1 at least."""
    took = []
    for _ in range(9):
        begun = time.monotonic()
        subprocess.run(["/bin/true"], check=True)
        took.append(time.monotonic() - begun)
    return max(1, statistics.median(took) / QUIET_START_S)


def quick_enough(measure, limit_s, what, tries=3, starts_programs=False):
    """Judges a time: measure() answers the seconds that it took. Other work on the machine makes things slower, never faster,
    so one measurement within the limit is enough; each that is not is told. With starts_programs, where that is what takes the
    time, the limit is for a quiet machine, and larger by the factor by which this one is slower meanwhile."""
    told = []
    while len(told) < tries:
        before = slowness() if starts_programs else 1
        took_s = measure()
        allowed_s = limit_s * max(before, slowness() if starts_programs else 1)
        if took_s <= allowed_s:
            return took_s
        told.append("%.3f s (%.3f s allowed)" % (took_s, allowed_s))
        print("# %s took %s%s" % (what, told[-1], "; once more" if len(told) < tries else ""), flush=True)
    raise AssertionError("%s took too long each time: %s" % (what, ", ".join(told)))


class Cases:
    """Collects cases: `cases = Cases(); @cases.case("name")`; `cases.run()` prints TAP and exits."""

    def __init__(self):
        self.cases = []

    def case(self, name):
        def add(function):
            self.cases.append((name, function))
            return function
        return add

    def run(self):
        failed = 0
        print("1..%d" % len(self.cases), flush=True)
        for number, (name, function) in enumerate(self.cases, 1):
            try:
                function()
                print("ok %d - %s" % (number, name), flush=True)
            except Exception:
                failed += 1
                for line in traceback.format_exc().splitlines():
                    print("# " + line)
                print("not ok %d - %s" % (number, name), flush=True)
        sys.exit(1 if failed else 0)
