"""A keeper that is driven through its socket, as fleetd does it, for the tests of the embedded supervisor."""
import atexit
import json
import os
import signal
import socket
import subprocess
import time

import harness
from harness import program, start, temp_dir, wait_for

MODES = {"with cgroups where they work": [], "without cgroups": ["--no-cgroups"]}


def descendants(pid):
    """All living processes below one, by way of their parents."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(read("/proc/%s/stat" % entry).rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                pass
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


class Keeper:
    running = []

    def __init__(self, *arguments, directory=None, around=()):
        self.dir = directory or temp_dir()
        self.socket = os.path.join(self.dir, "s")
        self.process = start(list(around) + [program("flotilla"), "keeper", "--socket", self.socket, "--dir",
                              os.path.join(self.dir, "state"), "--stay"] + list(arguments))
        Keeper.running.append(self)
        self.connect()

    def kill_all(self):
        """Units have sessions of their own: they are killed one by one, before their keeper."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            for pid in descendants(self.process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            harness.kill(self.process)

    def connect(self):
        def attempt():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.socket)
            return connection
        self.connection = wait_for(attempt, what="the keeper's socket")
        self.file = self.connection.makefile("rw")
        self.last_id = 0

    def call(self, op, **fields):
        """Answers the final line, with the text pieces joined and the units told before it."""
        self.last_id += 1
        self.file.write(json.dumps(dict(id=self.last_id, op=op, **fields)) + "\n")
        self.file.flush()
        text, units = "", {}
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the keeper closed the connection")
            answer = json.loads(line)
            if answer.get("id") == self.last_id and "text" in answer:
                text += answer["text"]
            elif answer.get("id") == self.last_id:
                answer.update(text=text, units=units)
                return answer
            elif answer.get("event") == "state":
                units[answer["unit"]["name"]] = answer["unit"]

    def load(self, name, text):
        assert self.call("load", name=name, text=text, hash="")["result"] == 0

    def start(self, name, text=None):
        if text is not None:
            self.load(name, text)
        return self.call("start", name=name)

    def state(self, name):
        return self.call("list")["units"].get(name)

    def wait(self, name, sub, timeout_s=10):
        def there():
            unit = self.state(name)
            return unit if unit and unit["sub"] == sub else None
        try:
            return wait_for(there, timeout_s, "%s to be %s" % (name, sub))
        except AssertionError as error:
            raise AssertionError("%s; it is %s; log:\n%s" % (error, self.state(name), self.log(name)))

    def log(self, name, lines=-1, output="short"):
        return self.call("journal", name=name, lines=lines, output=output)["text"]

    def stop(self, name):
        assert self.call("stop", name=name)["result"] == 0

    def end(self):
        """Stops all units and the keeper, and checks that nothing of it is left."""
        self.call("shutdown")
        assert self.process.wait(60) == 0


@atexit.register
def _kill_all():
    for keeper in Keeper.running:
        keeper.kill_all()


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read(path):
    with open(path) as file:
        return file.read()


def cgroup_of(pid, name):
    """The directory of a unit's cgroup, by one of its processes; None where the keeper can use none."""
    mounts = [line.split() for line in read("/proc/mounts").splitlines()]
    for line in read("/proc/%d/cgroup" % pid).splitlines():
        _, controllers, path = line.split(":", 2)
        roots = [fields[1] for fields in mounts if (fields[2] == "cgroup2" if not controllers else controllers in fields[3].split(","))]
        if controllers in ("", "name=systemd") and path.endswith("/" + name) and roots:
            return roots[0] + path
    return None


def for_each_mode(cases, name):
    """Makes the function, which gets a keeper, a case for each way in which a keeper tells processes apart."""
    def add(function):
        for mode, arguments in MODES.items():
            def run(arguments=arguments):
                keeper = Keeper(*arguments)
                try:
                    function(keeper)
                    keeper.end()
                finally:
                    keeper.kill_all()
            cases.case("%s (%s)" % (name, mode))(run)
        return function
    return add


def until_exists(path):
    """Words of a shell command, in a unit, that wait for a file: what takes time in a test takes it until the test says."""
    return "while [ ! -e %s ]; do sleep 0.02; done" % path


def touch(path):
    with open(path, "w"):
        pass
