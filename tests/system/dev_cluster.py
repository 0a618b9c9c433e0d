"""A cluster of dev machines for the black-box tests."""
import os
import shutil
import subprocess

from harness import program, start, temp_dir, wait_for


class Dev:
    """A cluster, run by this user or by `user` (a name) in a user namespace."""

    def __init__(self, user=None, machines=3, agent_ttl_s=5, flotilla=None, more=()):
        self.dir = temp_dir()
        self.flotilla = flotilla or program("flotilla")
        self.prefix = []
        if user:
            os.chmod(self.dir, 0o755)
            shutil.chown(self.dir, user)
            self.prefix = ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", "env", "-i",
                           "PATH=" + os.environ["PATH"], "HOME=/"]
        self.log = os.path.join(temp_dir(), "hub.log")
        self.hub = start(self.prefix + [self.flotilla, "dev", "--dir", os.path.join(self.dir, "d"), "--machines", str(machines),
                                        "--agent-ttl", "%ds" % agent_ttl_s] + list(more),
                         stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        wait_for(lambda: "Talk to the cluster" in open(self.log).read() or self.hub.poll() is not None, 20, "the machines")
        assert self.hub.poll() is None, open(self.log).read()

    def run(self, *words, timeout_s=60):
        done = subprocess.run(self.prefix + [self.flotilla, "dev", "--dir", os.path.join(self.dir, "d")] + list(words),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                              timeout=timeout_s, cwd="/")
        return done.returncode, done.stdout

    def on(self, machine, *words):
        return self.run("exec", str(machine), *words)

    def stop(self):
        status, output = self.run("stop")
        assert status == 0, output
        assert self.hub.wait(60) == 0

    def units(self, machine):
        """What fleetctl list-units says on that machine: {unit: (machine's number, active, sub)}."""
        found = {}
        status, output = self.on(machine, "fleetctl", "list-units", "--no-legend", "--full")
        if status == 0:
            for line in output.splitlines():
                fields = [field for field in line.split("\t") if field]
                if len(fields) == 4:
                    # A machine that is gone has no address any more: 0.
                    number = int(fields[1].rsplit(".", 1)[1]) - 100 if "." in fields[1] else 0
                    found[fields[0]] = (number, fields[2], fields[3])
        return found

    def running(self, machine, names):
        now = self.units(machine)
        return all(now.get(name, (0, "", ""))[1:] == ("active", "running") for name in names)
