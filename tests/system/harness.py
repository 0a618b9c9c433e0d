"""What the black-box tests share: TAP output, temporary directories, free ports, processes that never outlive the test."""
import atexit
import os
import shutil
import signal
import socket
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


def free_port():
    """A TCP port on 127.0.0.1 that nothing listens on now, and that this process does not give out twice."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in free_port.given:
            free_port.given.add(port)
            return port


free_port.given = set()


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
    """Sends the signal and waits for the end; what does not end of it within half a minute fails the case."""
    try:
        os.killpg(process.pid, sig)
    except ProcessLookupError:
        pass
    try:
        process.wait(30)
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


def wait_for(condition, timeout_s=20, what="condition", step_s=0.02):
    """Calls condition() until it answers something true, which is returned; raises after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        last = None
        try:
            answer = condition()
            if answer:
                return answer
        except (OSError, ValueError, KeyError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError("timed out after %gs waiting for %s (%s)" % (timeout_s, what, last))
        time.sleep(step_s)


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
