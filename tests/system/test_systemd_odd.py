#!/usr/bin/env python3
"""fleetd over real systemd where something is odd: files that somebody removed, starts that systemd refuses, names that the host
gives back, disks that are full."""
import re
import signal
import time

import harness
from harness import wait_for
from systemd_host import LINKS, UNITS, root_host, run

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
    for name in ("app.service", "late.service"):
        assert host.machine.exists("%s/.wanted/%s" % (UNITS, name))
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


@cases.case("a socket that systemd refuses to start says why, and is started when its service has ended")
def _():
    host = root_host()
    host.sleeper("talk.service")
    host.unit("talk.socket", "[Socket]\nListenStream=/run/talk.sock\n")
    status, out = host.ctl("start", "talk.service", "talk.socket", check=False)
    if status == 0:  # the socket came first
        host.is_state("talk.socket", "loaded", "active", "running")
        status, out = host.ctl("restart", "talk.socket", check=False)
    host.is_state("talk.service", "loaded", "active", "running")
    host.is_state("talk.socket", "loaded", "inactive", "dead")
    words = "systemd refused to start talk.socket: talk.service, which it starts, runs already"
    wait_for(lambda: words in host.ctl("start", "talk.socket", check=False)[1], 10, "the reason")
    status, out = host.ctl("start", "talk.socket", check=False)
    assert status == 1 and words in out and "has ended" not in out, (status, out)
    host.ctl("stop", "talk.service")
    host.is_state("talk.socket", "loaded", "active", "listening")
    host.ctl("start", "talk.service")
    host.is_state("talk.socket", "loaded", "active", "running")
    host.ctl("restart", "talk.socket", check=False)
    host.is_state("talk.socket", "loaded", "inactive", "dead")
    host.machine.systemctl("kill", "--signal=KILL", "talk.service")
    host.is_state("talk.socket", "loaded", "active", "listening")
    host.destroy("talk.socket", "talk.service")
    host.nothing_left("talk.socket", "talk.service")


@cases.case("what triggers a unit that is not there is started when that comes")
def _():
    host = root_host()
    host.unit("job.path", "[Path]\nPathExists=/run/no-such-thing\nUnit=job.service\n")
    host.unit("job.timer", "[Timer]\nOnCalendar=2199-01-01\nUnit=%p.service\n")
    host.unit("job.socket", "[Socket]\nListenStream=/run/job.sock\n")
    names = ("job.path", "job.timer", "job.socket")
    for name in names:
        status, out = host.ctl("start", name, check=False)
        assert status == 1 and "systemd refused to start %s: job.service, which it starts, is not loaded" % name in out, (status, out)
        host.is_state(name, "loaded", "inactive", "dead")
    host.sleeper("job.service")
    host.ctl("load", "job.service")
    host.is_state("job.path", "loaded", "active", "waiting")
    host.is_state("job.timer", "loaded", "active", "waiting")
    host.is_state("job.socket", "loaded", "active", "listening")
    for name in names:
        status, out = host.ctl("start", name)
        assert "refused" not in out, out
    host.destroy("job.path", "job.timer", "job.socket", "job.service")
    host.nothing_left("job.path", "job.timer", "job.socket", "job.service")
    # All at once, in the order that does not work at first.
    host.ctl("start", "job.path", "job.service", check=False)
    host.is_state("job.path", "loaded", "active", "running")
    host.is_state("job.service", "loaded", "active", "running")
    host.destroy("job.path", "job.service")
    host.nothing_left("job.path", "job.service")


@cases.case("a name that was refused is used once the host's unit that had it is gone")
def _():
    host = root_host()

    def take(*names):
        for name in names:
            host.machine.write("/etc/systemd/system/" + name, "[Service]\nExecStart=/bin/sleep 2000\n")
        host.machine.systemctl("daemon-reload")

    def give_back(*names):
        for name in names:
            host.machine.run(["rm", "/etc/systemd/system/" + name])
    take("mine.service", "also-mine.service", "late.service")
    host.machine.systemctl("start", "mine.service")
    host.sleeper("mine.service")
    host.sleeper("reach.service", install="[Install]\nAlias=also-mine.service\n")
    host.sleeper("late.service")
    names = ("mine.service", "reach.service", "late.service")
    host.ctl("start", *names, check=False)
    for name in names:
        host.is_state(name, "error", "failed", "failed")
    host.machine.systemctl("daemon-reload")
    give_back("mine.service", "also-mine.service")
    host.machine.systemctl("daemon-reload")
    # It runs still: not yet.
    host.is_state("reach.service", "loaded", "active", "running")
    assert host.state("mine.service") == ("error", "failed", "failed")
    host.machine.systemctl("stop", "mine.service")
    host.machine.systemctl("daemon-reload")
    host.is_state("mine.service", "loaded", "active", "running")
    assert host.machine.exists(UNITS + "/.wanted/mine.service")
    # Without systemd's having read its files again: when something is asked for.
    give_back("late.service")
    host.ctl("stop", "late")
    host.is_state("late.service", "loaded", "inactive", "dead")
    status, out = host.ctl("start", "late")
    host.is_state("late.service", "loaded", "active", "running")
    assert "unit of this host" not in host.ctl("status", "mine.service")[1]
    host.destroy(*names)
    host.nothing_left(*names)


@cases.case("names as long as systemd takes them run, and a longer one is refused")
def _():
    host = root_host()
    names = ["%s.service" % ("n" * (size - len(".service"))) for size in (247, 248, 250, 255)]
    too_long = "n" * 248 + ".service"
    instance = "long@%s.service" % ("i" * (255 - len("long@.service")))
    options = [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1000"},
               {"section": "Install", "name": "WantedBy", "value": "multi-user.target"}]
    for name in names + [instance, too_long]:
        body = {"name": name, "desiredState": "launched", "options": options}
        assert host.api("PUT", "/fleet/v1/units/" + name, body)[0] == 201
    for name in names + [instance]:
        host.is_state(name, "loaded", "active", "running")
        assert host.machine.exists("%s/.wanted/%s" % (UNITS, name))
    host.is_state(too_long, "error", "failed", "failed")
    _, out = host.ctl("status", too_long, check=False)
    assert "a unit's name may have 255 bytes in systemd, and this has 256" in out, out
    host.destroy(instance, *names)
    assert host.api("DELETE", "/fleet/v1/units/" + too_long)[0] == 204
    host.nothing_left(instance, *names)


@cases.case("why a start failed is forgotten once the unit runs, whoever started it")
def _():
    host = root_host()
    host.unit("base.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/test -e /run/base-may\n")
    host.unit("side.service", "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    host.ctl("load", "base")
    host.ctl("start", "side", check=False)

    def start_error():
        found = re.search(r"X-Start-Error: (.*)", host.status_head("side.service"))
        return found and found[1]
    wait_for(lambda: start_error() == "A dependency job for side.service failed.", 10, "the reason")
    host.machine.run(["touch", "/run/base-may"])
    host.machine.systemctl("start", "side.service")
    host.is_state("side.service", "loaded", "active", "running")
    assert start_error() is None, start_error()
    host.machine.systemctl("stop", "side.service")
    host.is_state("side.service", "loaded", "inactive", "dead")
    assert start_error() is None, start_error()
    host.destroy("side", "base")
    host.nothing_left("side.service", "base.service")


@cases.case("a mount that is in use is not unloaded, and is asked to stop once a second; then it goes")
def _():
    host = root_host()
    host.unit("mnt.mount", "[Mount]\nWhat=tmpfs\nWhere=/mnt\nType=tmpfs\n")
    host.ctl("start", "mnt.mount")
    host.is_state("mnt.mount", "loaded", "active", "mounted")
    user = host.machine.start(["sh", "-c", "cd /mnt && exec sleep 1000"])
    wait_for(lambda: host.machine.run("ls -l /proc/*/cwd 2>/dev/null | grep -q '/mnt$'", check=False)[0] == 0, 10, "who uses it")
    host.ctl("destroy", "--no-block", "mnt.mount")
    words = "cannot unload mnt.mount: systemd could not stop it: see its journal"
    wait_for(lambda: words in host.log(), 10, "the reason")
    assert "started by something else" not in host.log()

    def tried():
        return sum("busy" in line for line in host.machine.journal("mnt.mount"))
    before, begun = tried(), time.monotonic()
    time.sleep(3.5)
    count = tried() - before
    assert 1 <= count <= time.monotonic() - begun + 2, count
    host.machine.run(["pkill", "-x", "-f", "sleep 1000"], check=False)
    harness.kill(user)
    host.is_state("mnt.mount", None)
    host.nothing_left("mnt.mount")


@cases.case("why a unit cannot be loaded is told by its machine, and it is loaded once it can be")
def _():
    host = root_host()
    host.sleeper("app.service")

    def told():
        return host.api("GET", "/flotilla/v1/units/app.service/status")
    host.machine.run("mkdir -p /run/fleet && mount -t tmpfs -o size=64k none /run/fleet && mkdir -p %s/.wanted" % UNITS)
    host.machine.run("cat /dev/zero >/run/fleet/full 2>/dev/null", check=False)
    host.ctl("start", "--no-block", "app")
    words = "Unit app.service could not be loaded: cannot write %s/app.service: No space left on device" % UNITS
    wait_for(lambda: told() == (404, {"error": {"code": 404, "message": words}}), 10, "the reason: %s" % (told(),))
    assert host.state("app.service") is None
    host.machine.run(["rm", "/run/fleet/full"])
    host.is_state("app.service", "loaded", "active", "running")
    assert "Active: active (running)" in host.ctl("status", "app")[1]
    host.destroy("app")
    host.nothing_left("app.service")
    host.machine.run(["umount", "/run/fleet"])


if __name__ == "__main__":
    run(cases)
