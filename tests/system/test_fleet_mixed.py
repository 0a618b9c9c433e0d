#!/usr/bin/env python3
"""Clusters of fleet 1.0 (a model of its daemon) and ours: whoever leads, each unit runs once, everything is seen by everybody,
and nothing is left behind."""
import os
import sys
import time
import threading

from fleet_cluster import Cluster, sleepers
from fleet_old import OldFleetd
from harness import Cases, wait_for

cases = Cases()
STORES = os.environ.get("FLOTILLA_TEST_STORES", "debian,ours").split(",")
TTL = 5


class World:
    """One store, `ours` machines of ours (numbers 1 …), and old ones (8, 9)."""

    def __init__(self, kind, ours, old_first):
        self.cluster, self.old, self.copies, self.over = Cluster(kind, machines=0, ttl=TTL), {}, {}, threading.Event()
        if old_first:
            self.add_old(9)
            wait_for(self.old[9].leads, 10, "the old engine to lead")
        for number in range(1, ours + 1):
            self.cluster.add_machine(number)
        if ours:
            wait_for(lambda: len(self.cluster.present()) == ours + len(self.old), 10, "all machines")

    def add_old(self, number):
        self.old[number] = OldFleetd(self.cluster.store.url, "%d" % number * 32, "10.0.0.%d" % number,
                                     {"disk": "tape", "old": "yes"}, TTL)
        return self.old[number]

    def unit(self, name, seconds, fleet=""):
        self.cluster.unit(name, "/bin/sleep %d" % seconds, fleet)

    def count(self, name, seconds):
        def with_old():
            return sum(name in old.running() for old in list(self.old.values()))
        # A copy that moves while it is counted counts once.
        before, ours = with_old(), len(sleepers(seconds))
        return ours + min(before, with_old())

    def where(self, name):
        """Machine numbers that say the unit is active, as our API shows it."""
        return sorted(int(number) for number, state in self.cluster.states(name).get(name, {}).items()
                      if state[0] == "active")

    def watch_copies(self, units):
        """From now on notes how many copies of each unit there are at most."""
        def body():
            while not self.over.is_set():
                for name, seconds in units.items():
                    self.copies[name] = max(self.copies.get(name, 0), self.count(name, seconds))
                time.sleep(0.05)
        threading.Thread(target=body, daemon=True).start()

    def start(self, *names):
        self.cluster.ctl("start", "--no-block", *names)

    def stop(self):
        self.over.set()
        for old in self.old.values():
            old.kill()
        self.cluster.stop()


def add_cases(kind):
    def case(name):
        return cases.case("%s [%s]" % (name, kind))

    @case("under a 1.0 engine: units are placed on both kinds, run once, and are seen by all; ours takes over when it dies")
    def _():
        world = World(kind, 2, old_first=True)
        try:
            units = {"m%d.service" % number: 73100 + number for number in range(6)}
            for name, seconds in units.items():
                world.unit(name, seconds)
            world.unit("everywhere.service", 73120, "Global=true")
            world.watch_copies(units)
            world.start("everywhere", *units)
            wait_for(lambda: all(len(world.where(name)) == 1 for name in units), 30, "all units, as ours shows them")
            wait_for(lambda: world.where("everywhere.service") == [1, 2, 9], 30, "the global unit")
            assert {number for name in units for number in world.where(name)} == {1, 2, 9}
            assert world.old[9].leads() and world.cluster.store.key("lease/states") is None
            assert world.cluster.store.key("assigned/%s/epoch" % world.cluster.machine(1).id) is None
            # Under a 1.0 engine its timings rule: nothing of ours takes the lease from a leader that lives.
            on_old = [name for name in units if world.where(name) == [9]]
            assert on_old
            world.old[9].kill()
            begun = time.monotonic()
            wait_for(lambda: world.cluster.leader() in (1, 2), 20, "ours to lead")
            for name in on_old:
                wait_for(lambda: world.where(name) in ([1], [2]), 20, name + " elsewhere")
            assert time.monotonic() - begun < 15
            wait_for(lambda: world.cluster.store.key("lease/states"), 30, "states that last")
            wait_for(lambda: world.where("everywhere.service") == [1, 2], 10, "the state of the dead machine gone")
            # Who counts them may not have come to each yet.
            wait_for(lambda: all(world.copies.get(name) for name in units), 10, "a look at each unit's copies")
            assert all(count == 1 for count in world.copies.values()), world.copies
            assert world.cluster.store.key("engine/version") == "1"
            world.cluster.ctl("destroy", "everywhere", *units)
            for directory in ("states", "job"):
                wait_for(lambda: not world.cluster.store.request("GET", "/v2/keys/_coreos.com/fleet/" + directory)["node"]
                         .get("nodes"), 10, "no directory left in " + directory)
            assert not any(sleepers(seconds) for seconds in units.values())
        finally:
            world.stop()

    @case("under our engine: a 1.0 machine gets units and runs them, and what it wipes out of the registry comes back")
    def _():
        world = World(kind, 2, old_first=False)
        try:
            wait_for(lambda: world.cluster.leader(), 10, "ours to lead")
            world.unit("before.service", 73200)
            world.unit("wide.service", 73201, "Global=true")
            world.start("before", "wide")
            wait_for(lambda: len(world.where("before.service")) == 1 and world.where("wide.service") == [1, 2], 10, "both units")
            wait_for(lambda: world.cluster.store.key("lease/states"), 30, "states that last")
            old = world.add_old(8)
            assert not old.leads()
            wait_for(lambda: world.cluster.store.key("lease/states") is None, 10, "the word taken back")
            wait_for(lambda: world.where("wide.service") == [1, 2, 8], 20, "the global unit there too")
            world.unit("tape.service", 73202, "MachineMetadata=disk=tape")
            world.unit("sides.service", 73203, "MachineOf=tape.service")
            world.start("tape", "sides")
            wait_for(lambda: old.running() >= {"tape.service", "sides.service"}, 20, "the units it was given")
            wait_for(lambda: world.where("tape.service") == [8], 10, "its state")
            # It removes the states of all machines with its own.
            world.cluster.store.delete("states/wide.service?recursive=true")
            wait_for(lambda: world.where("wide.service") == [1, 2, 8], 2 * TTL, "all states again")
            # It leaves in good order: its units go, ours stay, states last again.
            world.old.pop(8).terminate()
            wait_for(lambda: world.where("wide.service") == [1, 2] and world.where("tape.service") == [], 20, "its end")
            wait_for(lambda: world.cluster.store.key("lease/states"), 30, "states that last, again")
            wait_for(lambda: world.where("wide.service") == [1, 2], 10, "our states")
            assert len(sleepers(73200)) == 1 and len(sleepers(73201)) == 2
            world.cluster.ctl("destroy", "before", "wide", "tape", "sides")
        finally:
            world.stop()

    @case("a newer engine/version: neither a 1.0 engine nor ours leads, and units stay as they are")
    def _():
        world = World(kind, 1, old_first=True)
        try:
            world.unit("mixed.service", 73400)
            world.start("mixed")
            wait_for(lambda: len(world.where("mixed.service")) == 1, 30, "the unit")
            world.cluster.store.set("engine/version", "2")
            wait_for(lambda: not world.old[9].leads(), 10, "the old engine to stand down")
            wait_for(lambda: "engine/version is newer than this engine" in world.cluster.machine_of(1).log(), 30,
                     "ours to take the lease, and look")
            wait_for(lambda: not world.cluster.store.has("lease/engine-leader"), 15, "its lease to run out")
            world.unit("late.service", 73401)
            world.start("late")
            time.sleep(2)
            assert not world.cluster.store.has("lease/engine-leader") and not world.old[9].leads()
            assert world.where("late.service") == [] and len(world.where("mixed.service")) == 1
            assert world.cluster.store.key("engine/version") == "2"
            # Back to what both know: both look again by themselves.
            world.cluster.store.set("engine/version", "1")
            wait_for(lambda: len(world.where("late.service")) == 1, 30, "the unit that waited")
            # Raised under ours, which leads: as machines that are upgraded later would do it.
            world.old.pop(9).terminate()
            wait_for(lambda: world.cluster.leader() == 1, 30, "ours to lead")
            world.cluster.store.set("engine/version", "2")
            wait_for(lambda: not world.cluster.store.has("lease/engine-leader"), 5, "ours to give the lease back")
            world.cluster.store.set("engine/version", "1")
            wait_for(lambda: world.cluster.leader() == 1, 10, "ours to lead again")
            world.cluster.ctl("destroy", "mixed", "late")
        finally:
            world.stop()

    @case("machine by machine from 1.0 to ours and back: each unit runs once all the time")
    def _():
        world = World(kind, 0, old_first=True)
        try:
            world.add_old(8)
            world.cluster.add_machine(1)
            units = {"move%d.service" % number: 73300 + number for number in range(3)}
            for name, seconds in units.items():
                world.unit(name, seconds)
            world.watch_copies(units)
            world.start(*units)
            wait_for(lambda: all(len(world.where(name)) == 1 for name in units), 30, "all units")
            for number in (8, 9):
                world.old.pop(number).terminate()
                world.cluster.add_machine(number - 6)
                there = [[1], [2], [3]] + ([[9]] if number == 8 else [])
                wait_for(lambda: all(world.where(name) in there for name in units), 30,
                         "all units, without machine %d" % number)
            wait_for(lambda: world.cluster.leader() in (1, 2, 3), 20, "ours to lead")
            wait_for(lambda: world.cluster.store.key("lease/states"), 30, "states that last")
            # And back.
            world.add_old(9)
            for number in (3, 2, 1):
                world.cluster.machine_of(number).kill_fleetd(15)
                wait_for(lambda: all(world.count(name, seconds) == 1 for name, seconds in units.items()), 40,
                         "all units, without machine %d" % number)
            wait_for(lambda: world.old[9].running() == set(units) and world.old[9].leads(), 20, "all on the old one, which leads")
            assert all(count == 1 for count in world.copies.values()), world.copies
        finally:
            world.stop()


for store in STORES:
    add_cases(store)
if len(sys.argv) > 1:
    cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
cases.run()
