#!/usr/bin/env python3
"""fleetd over real systemd where something is odd: files that somebody removed, starts that systemd refuses, names that the host
gives back, disks that are full."""
import signal
import sys

import harness
from harness import wait_for
from machine import unavailable
from systemd_host import LINKS, UNITS, root_host

cases = harness.Cases()


def main_pids(host, *names):
    return {name: host.main_pid(name) for name in names}


@cases.case("a unit whose file somebody removed is still fleet's while it runs, and gets its file back")
def _():
    host = root_host()
    host.sleeper("app.service")
    host.sleeper("api.service", install="[Install]\nWantedBy=multi-user.target\n")
    host.ctl("start", "app", "api")
    names = ("app.service", "api.service")
    texts = {name: host.machine.read("%s/%s" % (UNITS, name)) for name in names}
    before = main_pids(host, *names)
    for name in names:
        host.machine.run(["rm", "%s/%s" % (UNITS, name)])
    host.machine.systemctl("daemon-reload")
    for name in names:
        wait_for(lambda: host.machine.exists("%s/%s" % (UNITS, name)), 10, "the file of " + name)
        assert host.machine.read("%s/%s" % (UNITS, name)) == texts[name]
        wait_for(lambda: host.machine.properties(name, "LoadState")["LoadState"] == "loaded", 10, "systemd to see it")
        host.is_state(name, "loaded", "active", "running")
    assert main_pids(host, *names) == before, "it was started again"
    host.destroy("app", "api")
    host.nothing_left(*names)
    assert not [pid for pid in before.values() if host.machine.exists("/proc/%d" % pid)], "a process was left"


@cases.case("directories of units that somebody removed are made anew, for what runs and for what comes")
def _():
    host = root_host()
    host.sleeper("app.service")
    host.ctl("start", "app")
    before = host.main_pid("app.service")
    host.machine.run(["rm", "-rf", "/run/fleet"])
    host.sleeper("late.service")
    host.ctl("start", "late")
    host.is_state("late.service", "loaded", "active", "running")
    wait_for(lambda: host.machine.exists(UNITS + "/app.service"), 10, "the file of app.service")
    host.is_state("app.service", "loaded", "active", "running")
    assert host.machine.exists(UNITS + "/.wanted/late.service")
    assert host.main_pid("app.service") == before
    host.machine.run(["rm", "-rf", "/run/fleet"])
    host.ctl("stop", "app")
    host.is_state("app.service", "loaded", "inactive", "dead")
    host.machine.run(["rm", "-rf", "/run/fleet"])
    host.machine.run(["rm", "-f", LINKS + "/app.service"])
    host.ctl("start", "app")
    host.is_state("app.service", "loaded", "active", "running")
    assert host.machine.exists(UNITS + "/app.service")
    host.destroy("app", "late")
    host.nothing_left("app.service", "late.service")


@cases.case("a unit whose file is gone is stopped and destroyed")
def _():
    host = root_host()
    host.sleeper("app.service")
    host.ctl("start", "app")
    before = host.main_pid("app.service")
    # What cannot be put back: something else stands where the directory was.
    host.machine.run("rm -rf /run/fleet && touch /run/fleet")
    host.machine.systemctl("daemon-reload")
    assert host.machine.properties("app.service", "LoadState")["LoadState"] == "not-found"
    host.is_state("app.service", "not-found", "active", "running")
    host.ctl("destroy", "app")
    host.is_state("app.service", None)
    wait_for(lambda: not host.machine.exists("/proc/%d" % before), 10, "the process to end")
    host.machine.run(["rm", "/run/fleet"])
    host.nothing_left("app.service")


@cases.case("a fleetd that was killed takes up what it started though the file is gone")
def _():
    host = root_host()
    host.sleeper("app.service")
    host.ctl("start", "app")
    before = host.main_pid("app.service")
    host.stop(signal.SIGKILL)
    host.machine.run(["rm", UNITS + "/app.service"])
    host.machine.systemctl("daemon-reload")
    host.start()
    wait_for(lambda: host.machine.exists(UNITS + "/app.service"), 10, "the file")
    host.is_state("app.service", "loaded", "active", "running")
    assert host.main_pid("app.service") == before, "it was started again"
    host.destroy("app")
    host.nothing_left("app.service")
    assert not host.machine.exists("/proc/%d" % before)


if __name__ == "__main__":
    if unavailable():
        print("# " + unavailable())
        sys.exit(1)
    if len(sys.argv) > 1:
        cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
    cases.run()
