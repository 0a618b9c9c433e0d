"""A machine whose PID 1 is systemd with our store and fleetd on it, and fleetctl: what the tests of units in systemd share."""
import json
import os
import signal
import subprocess
import sys

import harness
from harness import wait_for
from machine import Machine, unavailable

UNITS = "/run/fleet/units"
LINKS = "/run/systemd/system"


class Host:
    """One machine with a store and fleetd, as root or as the user fleet."""

    def __init__(self, name="m1", user=None, **config):
        self.machine, self.user, self.config = Machine(name), user, config
        self.store = self.fleetd = None
        self.home = "/home/" + user if user else "/root"
        self.socket = "/run/fleet.sock" if not user else self.home + "/fleet.sock"
        self.start_store()

    def start_store(self):
        self.store = self.machine.start([harness.program("etcd"), "--data-dir", "/root/store"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for(lambda: self.machine.run(["curl", "-sf", "http://127.0.0.1:2379/health"])[0] == 0, 10, "the store")

    def start(self, *arguments, within=()):
        """With these arguments; run by the command `within` if there is one."""
        config = {"listen": "unix://" + self.socket, "agent_ttl": "5s", "verbosity": "1",
                  "agent_data_dir": self.home + "/data", **self.config}
        text = "".join("%s=%s\n" % pair for pair in config.items())
        self.machine.write(self.home + "/fleet.conf", text, user=self.user)
        with open(os.path.join(self.machine.dir, "fleetd"), "ab") as log:
            self.fleetd = self.machine.start(
                list(within) + [harness.program("fleetd"), "--config", self.home + "/fleet.conf"] + list(arguments), user=self.user,
                stdout=log, stderr=log)
        wait_for(lambda: "machines" in self.api("GET", "/fleet/v1/machines")[1], 10, "fleetd")
        return self

    def pid(self):
        """Of fleetd, inside."""
        return self.machine.run(["pgrep", "-x", "fleetd"])[1].strip()

    def switches(self, pid):
        """How often this process, by its number inside, has gone to sleep."""
        status = self.machine.read("/proc/%s/status" % pid)
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def stop(self, number=signal.SIGTERM):
        # The signal is for fleetd, not for who brought it inside.
        self.machine.run(["pkill", "-%d" % number, "-x", "fleetd"])
        status, self.fleetd = self.fleetd.wait(harness.PATIENCE_S), None
        assert number != signal.SIGTERM or status == 0, (status, self.log()[-3000:])
        assert "Sanitizer" not in self.log(), self.log()[-5000:]

    def log(self):
        with open(os.path.join(self.machine.dir, "fleetd")) as file:
            return file.read()

    def api(self, method, path, body=None):
        out = self.machine.run(["curl", "-s", "--unix-socket", self.socket, "-X", method, "-w", "\n%{http_code}"]
                               + (["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else [])
                               + ["http://fleet" + path])[1]
        text, status = out.rsplit("\n", 1)
        return int(status), json.loads(text) if text else {}

    def status_head(self, name):
        """What this machine answers to a question for the unit's status, before the text."""
        return self.machine.run(["curl", "-s", "-o", "/dev/null", "-D", "-", "--unix-socket", self.socket,
                                 "http://fleet/flotilla/v1/units/%s/status" % name])[1]

    def ctl(self, *arguments, check=True, timeout=60):
        """fleetctl in the directory of the unit files: (exit status, both outputs)."""
        inside = ["sh", "-c", 'mkdir -p /root/units && cd /root/units && exec "$@"', "sh"]
        status, out, err = self.machine.run(inside + [harness.program("fleetctl"), "--endpoint", "unix://" + self.socket]
                                            + list(arguments), check=False, timeout=timeout)
        assert not check or status == 0, (arguments, status, out, err, self.log()[-3000:])
        return status, out + err

    def unit(self, name, text):
        self.machine.write("/root/units/" + name, text)

    def sleeper(self, name, more="", install=""):
        self.unit(name, "[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sleep 1000\n%s\n%s" % (name, more, install))

    def want(self, name, state):
        status, body = self.api("PUT", "/fleet/v1/units/" + name, {"desiredState": state})
        assert status == 204, (status, body)

    def state(self, name):
        """(load, active, sub) as published."""
        status, body = self.api("GET", "/fleet/v1/state?unitName=" + name)
        assert status == 200, (status, body)
        for state in body.get("states", []):
            return state["systemdLoadState"], state["systemdActiveState"], state["systemdSubState"]
        return None

    def is_state(self, name, *state):
        wait_for(lambda: self.state(name) == (state if state[0] else None), 10, "%s to be %s" % (name, state))

    def main_pid(self, name):
        return int(self.machine.properties(name, "MainPID", user=self.user)["MainPID"])

    def reloads(self):
        """How often systemd has read its files again."""
        self.machine.run(["journalctl", "--sync"])
        return int(self.machine.run("journalctl --quiet _PID=1 | grep -c Reloading", check=False)[1])

    def destroy(self, *names):
        self.ctl("destroy", *names)

    def nothing_left(self, *names):
        for name in names:
            wait_for(lambda: not self.machine.exists("%s/%s" % (UNITS, name)), 10, "the file of %s to go" % name)
            assert not self.machine.exists("%s/.wanted/%s" % (UNITS, name))
            assert self.machine.run("find /run/systemd/system -name '%s*'" % name)[1] == ""
            assert self.machine.properties(name, "ActiveState")["ActiveState"] == "inactive"

    def end(self):
        if self.fleetd:
            self.stop()
        self.machine.scrap()


hosts = {}


def root_host():
    if "root" not in hosts:
        hosts["root"] = Host().start()
    return hosts["root"]


def run(cases):
    """All of them, or those with one of the program's arguments in their names."""
    if unavailable():
        print("# " + unavailable())
        sys.exit(1)
    if len(sys.argv) > 1:
        cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
    cases.run()
