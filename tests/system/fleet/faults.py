"""What goes wrong: hosts without power, that hang, that are cut off; stores that stop; daemons that are killed and upgraded;
units that are bad. The same units run through all of it, and at the end nothing is left of them."""
import time

from fleet.images import PAGE
from fleet.lab import elapsed
from harness import quick_enough, wait_for

QUIET = ["quiet@1.service", "quiet@2.service", "quiet@3.service"]  # one on each host
WEB = ["apache@1.service", "apache@2.service"]                     # containers, on two hosts


class Work:
    """Units on all hosts: processes, and containers that answer. They go on from case to case."""

    def __init__(self, lab):
        self.lab = lab
        lab.sleeper("quiet@.service", "Conflicts=quiet@*.service")
        lab.example("apache@.service")
        lab.ctl("start", *QUIET, *WEB)
        self.look()

    def look(self):
        """Where all of it is now, and in which processes and containers."""
        self.hosts = {name: self.lab.runs(name, 20) for name in QUIET + WEB}
        for name in WEB:
            wait_for(lambda: self.answers(name, self.hosts[name]), 20, name + " to answer")
        self.pids = {name: host.processes(name) for name, host in self.hosts.items()}
        self.containers = {host: host.containers() for host in self.lab.hosts}
        return self

    @staticmethod
    def answers(name, host):
        # A container may answer before its engine calls it running.
        return host.get(8080 + int(name[7])) == PAGE and "apache-" + name[7] in host.containers()

    def on(self, host):
        return [name for name in self.hosts if self.hosts[name] is host]

    def untouched(self, *but):
        """Every unit that was not on those hosts runs in the same processes and containers."""
        for name, host in self.hosts.items():
            if host not in but:
                assert host.processes(name) == self.pids[name], name
        for host in self.lab.others(*but):
            assert self.containers[host].items() <= host.containers().items(), host.name

    def moved(self, host):
        """What was on the host, as far as it has a place, runs elsewhere and answers there."""
        for name in self.on(host):
            if name in WEB:
                other = wait_for(lambda: self.lab.elsewhere(name, host), 20, name + " elsewhere")
                wait_for(lambda: self.answers(name, other), 20, name + " to answer elsewhere")

    def single(self):
        """One copy of each in the end, by what fleet and what the hosts say; and it stays so."""
        for name in self.hosts:
            host = self.lab.runs(name, 20)
            assert name not in WEB or wait_for(lambda: self.answers(name, host), 20, name), name
        wait_for(lambda: sorted(name for host in self.lab.hosts for name in host.containers()) == ["apache-1", "apache-2"], 10,
                 "one container of each")


def work_on(lab):
    """What runs in this lab; started when it does not."""
    if not lab.work:
        lab.work = Work(lab)
    return lab.work.look()


def power_cases(case, lab):
    def lose_power(pick):
        """A host loses its power; seconds until its first unit runs elsewhere."""
        lab().sleeper("free@.service")
        work = work_on(lab())
        victim = wait_for(lambda: pick(work), 10, "a host to kill")
        lab().ctl("start", *["free@%d" % number for number in range(1, 7)])
        lost = [name for name in ("free@%d.service" % number for number in range(1, 7)) if lab().runs(name) is victim]
        assert lost
        begun = time.monotonic()
        victim.power_off()
        wait_for(lambda: all(lab().elsewhere(name) for name in lost), 20, "its units elsewhere")
        took_s = time.monotonic() - begun
        print("# [%s] a host without power: its units run elsewhere after %.2f s (agent_ttl %d s)" % (
            lab().kind, took_s, lab().ttl_s), flush=True)
        work.moved(victim)
        work.untouched(victim)
        places = {name: lab().where(name) for name in lost}
        victim.power_on()
        lab().all_present()
        work.single()
        assert {name: lab().where(name) for name in lost} == places, "they moved back"
        lab().ctl("destroy", "free@.service", "free@*")
        return took_s

    @case("a host loses its power: all that ran there is gone, and runs elsewhere; back with power it has no old copies",
          both=True)
    def _():
        quick_enough(lambda: lose_power(lambda work: next(work.hosts[name] for name in WEB
                                                          if work.hosts[name] is not lab().leader())),
                     lab().ttl_s + 1.5, "moving the units", starts_programs=True)

    @case("the host that leads the engine loses its power: the same", both=True)
    def _():
        quick_enough(lambda: lose_power(lambda work: lab().leader()), lab().ttl_s + 2.5, "moving the units",
                     starts_programs=True)


def says_that_it_cannot_write(host):
    """Of a unit that the others do not miss: what the store was sent may yet be done when it goes on."""
    status, body = host.api("PUT", "/fleet/v1/units/later.service", {
        "desiredState": "inactive", "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/true"}]})
    assert status == 503, (status, body)


def outage_cases(case, lab, freeze_s):
    def two_copies_then_one(strike, mend):
        work = work_on(lab())
        victim = next(work.hosts[name] for name in WEB if work.hosts[name] is not lab().leader())
        here = {name: work.pids[name] for name in work.on(victim)}
        strike(victim)
        work.moved(victim)
        work.untouched(victim)
        # Nobody can stop what runs there.
        assert {name: victim.processes(name) for name in here} == here
        mend(victim)
        wait_for(lambda: not any(victim.processes(name) for name in here if name in WEB), 20, "the end of the old copies")
        lab().all_present()
        work.single()

    @case("a host hangs and wakes again: its units run elsewhere, and its own copies end", both=True)
    def _():
        two_copies_then_one(lambda host: host.freeze(), lambda host: host.thaw())

    @case("a host is cut off: its units run on there, and elsewhere; when it is back there is one of each", both=True)
    def _():
        def look(host):
            host.cut()
            # It tells what it knows and does nothing that it cannot vouch for.
            assert host.api("GET", "/fleet/v1/units")[0] == 200
            says_that_it_cannot_write(host)
        two_copies_then_one(look, lambda host: lab().heal())
        lab().ctl("destroy", "later*")

    @case("the store stops for %d s: units untouched; afterwards all is as before, and at once" % freeze_s, both=True)
    def _():
        def stop_store():
            work = work_on(lab())
            places = dict(work.hosts)
            lab().together(lambda host: host.signal("etcd", "STOP"))
            try:
                until = time.monotonic() + freeze_s
                while time.monotonic() < until:
                    time.sleep(1)
                    work.untouched()
                    assert lab().hosts[0].api("GET", "/fleet/v1/state")[0] == 200, "it is told from memory"
                says_that_it_cannot_write(lab().hosts[0])
            finally:
                lab().together(lambda host: host.signal("etcd", "CONT"))
            lab().sleeper("after.service")

            def started():
                return lab().hosts[0].ctl("start", "after", check=False)[0] == 0
            took_s = elapsed(lambda: wait_for(started, 20, "the API to write again"))
            print("# [%s] the store back to a unit started: %.2f s" % (lab().kind, took_s), flush=True)
            lab().all_present()
            time.sleep(1)
            work.untouched()
            work.single()
            assert {name: lab().runs(name) for name in places} == places
            lab().ctl("destroy", "after", "later*")
            return took_s
        # A store of three that stood still may have to elect first.
        quick_enough(stop_store, 2.5, "the store's return", starts_programs=True)


def daemon_cases(case, lab):
    @case("fleetd is killed here and upgraded there: units run on, requests wait, and no machine is ever missed",
          both=True, needs_systemd=True)
    def _():
        work = work_on(lab())
        victim, upgraded, watcher = lab().hosts
        before = victim.daemon_pid(), upgraded.daemon_pid()
        victim.signal("fleetd", "KILL")
        upgraded.systemctl("restart", "fleet.service")
        # A connection that comes meanwhile waits in fleet.socket.
        status, body = upgraded.api("GET", "/fleet/v1/state")
        assert status == 200, (status, body)
        until = time.monotonic() + lab().ttl_s + 1
        while time.monotonic() < until:
            assert len(watcher.api("GET", "/fleet/v1/machines")[1]["machines"]) == 3
            time.sleep(0.2)
        for host, old in zip((victim, upgraded), before):
            assert host.daemon_pid() not in (0, old) and "registered as machine" in host.log().rsplit(" is up", 1)[-1]
        work.untouched()
        work.single()

    @case("fleetd with another configuration (--config FILE) is stopped by SIGTERM: its units are handed over",
          needs_systemd=True)
    def _():
        work = work_on(lab())
        victim = work.hosts[WEB[0]]
        drop_in = "/etc/systemd/system/fleet.service.d/hand-over.conf"
        victim.put("/etc/fleet/other.conf", open(victim.path("/etc/fleet/fleet.conf")).read() + "keep_units_on_stop=false\n")
        victim.put(drop_in, "[Service]\nExecStart=\nExecStart=/usr/bin/fleetd --config /etc/fleet/other.conf\n")
        victim.systemctl("daemon-reload")
        victim.systemctl("restart", "fleet.service")
        wait_for(lambda: len(victim.api("GET", "/fleet/v1/machines")[1]["machines"]) == 3 and
                 "registered as machine" in victim.log().rsplit(" is up", 1)[-1], 10, "the daemon")
        work.untouched()
        took_s = elapsed(lambda: victim.systemctl("stop", "fleet.service"))
        assert not any(victim.processes(name) for name in work.hosts), "something runs on"
        wait_for(lambda: not victim.containers(), 5, "their containers to be gone")
        work.moved(victim)
        work.untouched(victim)
        print("# [%s] handed over in %.2f s" % (lab().kind, took_s), flush=True)
        victim.run(["rm", drop_in])
        victim.systemctl("daemon-reload")
        victim.systemctl("start", "fleet.service")
        lab().all_present()
        work.single()

    @case("the daemon that leads the engine dies and stays away: another one decides", both=True, needs_systemd=True)
    def _():
        leader = wait_for(lambda: lab().leader(), 10, "a leader")
        lab().sleeper("pending.service")
        leader.put("/etc/systemd/system/fleet.service.d/once.conf", "[Service]\nRestart=no\n")
        leader.systemctl("daemon-reload")
        try:
            leader.signal("fleetd", "KILL")
            begun = time.monotonic()
            other = lab().others(leader)[0]
            other.ctl("start", "--no-block", "pending")
            wait_for(lambda: any(state == ("active", "running") for state in lab().states("pending.service", other).values()), 20,
                     "the unit to run")
            print("# [%s] the leader's daemon killed: a pending unit runs after %.2f s" % (
                lab().kind, time.monotonic() - begun), flush=True)
        finally:
            leader.run(["rm", "/etc/systemd/system/fleet.service.d/once.conf"])
            leader.systemctl("daemon-reload")
            leader.systemctl("start", "fleet.service")
        lab().all_present()
        lab().runs("pending.service")
        lab().ctl("destroy", "pending")

    @case("SIGHUP reads metadata again, and units follow it")
    def _():
        lab().sleeper("tape.service", "MachineMetadata=disk=tape")
        lab().sleeper("every.service", "Global=true\nMachineMetadata=disk=ssd")
        lab().ctl("start", "--no-block", "tape", "every")
        wait_for(lambda: lab().copies("every.service") == [1, 3], 10, "the global unit on two")
        host = lab().hosts[2]
        settings = host.settings
        host.configure(*settings, "metadata=disk=tape")
        host.reload()
        assert lab().runs("tape.service") is host
        wait_for(lambda: lab().copies("every.service") == [1], 10, "the global unit on one")
        host.configure(*settings)
        host.reload()
        wait_for(lambda: lab().copies("every.service") == [1, 3] and not lab().copies("tape.service"), 10, "all as before")
        lab().ctl("destroy", "tape", "every")


def unit_cases(case, lab):
    @case("bad units, and one that waits long to start, delay no other")
    def _():
        lab().unit("aaa.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=no/such\n")
        lab().unit("aab.service", "[Service]\nExecStart=relative/path\n")
        lab().unit("aac.service", "[Service]\nExecStartPre=/usr/bin/docker pull no/such\nExecStart=/usr/bin/docker run no/such\n")
        lab().unit("aad.service", "[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/sleep infinity\n")
        bad = ["aaa.service", "aab.service", "aac.service", "aad.service"]
        lab().sleeper("zzz@.service", "Conflicts=zzz@*.service")
        good = ["zzz@%d.service" % number for number in (1, 2, 3)]
        lab().ctl("start", "--no-block", *bad)
        took_s = elapsed(lambda: lab().ctl("start", *good))
        for name in good:
            lab().runs(name)
        # The supervisor leaves out what [Install] says.
        aaa = ("active", "running") if lab().supervised else ("failed", "failed")
        for name, state in (("aad.service", ("activating", "start-pre")), ("aaa.service", aaa),
                            ("aab.service", ("inactive", "dead")), ("aac.service", ("failed", "failed"))):
            wait_for(lambda: list(lab().states(name).values()) == [state], 10, "%s to be %s, %s" % (name, *state))
        status, out = lab().ctl("start", "aaa", check=False)
        assert lab().supervised or (status == 1 and "no/such" in out), (status, out)
        print("# [%s] three good units after four bad ones: %.2f s" % (lab().kind, took_s), flush=True)
        lab().ctl("destroy", "aa?", "zzz@*")

    @case("restart replaces process and container")
    def _():
        work = work_on(lab())
        lab().ctl("restart", *WEB, QUIET[0])
        for name in WEB + QUIET[:1]:
            host = lab().runs(name)
            assert host is work.hosts[name] and host.processes(name) != work.pids[name]
        for name in WEB:
            wait_for(lambda: work.answers(name, work.hosts[name]), 10, name)
            label = "apache-" + name[7]
            assert work.hosts[name].containers()[label] != work.containers[work.hosts[name]][label]
        work.single()

    @case("an engine that is stopped stops the units that require it, and only these", needs_systemd=True)
    def _():
        work = work_on(lab())
        host = work.hosts[WEB[0]]
        host.systemctl("stop", "docker.service", "docker.socket")
        wait_for(lambda: lab().states(WEB[0])[host.number][0] in ("failed", "inactive"), 10, "the unit's end")
        assert lab().copies(QUIET[1]) and lab().copies(QUIET[2]) and lab().copies(QUIET[0])
        host.systemctl("start", "docker.service")
        lab().ctl("stop", WEB[0])
        lab().ctl("start", WEB[0])
        wait_for(lambda: work.answers(WEB[0], lab().runs(WEB[0])), 10, WEB[0])
        work.single()

    @case("a unit that is called like one of the host's is refused, and the host's stays as it is", needs_systemd=True)
    def _():
        taken = ["ssh.service", "docker.service", "etcd.service", "fleet.service"]
        before = {host: {name: host.properties(name, "MainPID", "FragmentPath", "ActiveState") for name in taken}
                  for host in lab().hosts}
        for name in taken:
            lab().sleeper(name)
        status, out = lab().ctl("start", *taken, check=False)
        assert status == 1, (status, out)
        for name in taken:
            assert name + " is a unit of this host" in lab().ctl("status", name, check=False)[1]
        lab().ctl("destroy", *taken)
        assert before == {host: {name: host.properties(name, "MainPID", "FragmentPath", "ActiveState") for name in taken}
                          for host in lab().hosts}


def add_cases(case, lab, long):
    unit_cases(case, lab)
    daemon_cases(case, lab)
    outage_cases(case, lab, 45 if long else 7)
    power_cases(case, lab)

    @case("after all that units can be destroyed, and nothing is left of any", both=True)
    def _():
        work_on(lab())
        lab().work = None
        lab().destroy("*")
