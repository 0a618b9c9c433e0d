"""The rows without hosts: the scheduler alone, and a thousand simulated machines on a real store."""
import json
import os
import subprocess
import threading
import time
import urllib.request

import etcd_server
import harness
from fleet.lab import UnixConnection
from servers import output_of, process_ticks

TTL_S = 30
DEAD = 10


def tool(name):
    return os.path.join(harness.BUILD, "tests", "bench", "fleet", "bench_fleet_" + name)


def group_scheduler(_, report):
    """Median of five: it has the processor to itself or not."""
    runs = report.keep("scheduler", [output_of([tool("scheduler")]) for _ in range(5)])
    nothing, more = sorted(run["from nothing ms"] for run in runs)[2], sorted(run["one more ms worst"] for run in runs)[2]
    each = sorted(run["one more ms median"] for run in runs)[2]
    report.add("scheduler alone: 10,000 units on 1,000 machines with conflicts and metadata, from nothing; one more",
               "stated limit 1,000 units, 100 machines", "<= 1 s; <= 1 ms",
               "%.2f s; %.3f ms (worst of 1,000: %.2f ms)" % (nothing / 1000, each, more), nothing <= 1000 and each <= 1)


class Followed:
    """What is published, followed by a watch: a look at all of it takes seconds, and the store's time."""

    def __init__(self, endpoint, published):
        self.states, self.changed = {}, threading.Condition()
        stream = urllib.request.urlopen(endpoint + "/v2/keys/_coreos.com/fleet/states?wait=true&recursive=true&stream=true")
        self.states = published()  # what the watch tells of before is told once more, and changes nothing for long
        threading.Thread(target=self._follow, args=[stream], daemon=True).start()

    def _follow(self, stream):
        for line in stream:
            event = json.loads(line)
            key = tuple(event["node"]["key"].rsplit("/", 2)[1:])
            with self.changed:
                if "value" in event["node"]:
                    self.states[key] = json.loads(event["node"]["value"])["subState"]
                else:
                    self.states.pop(key, None)
                self.changed.notify_all()

    def wait(self, units, begun, timeout_s):
        """Seconds from `begun` until so many units, and nothing else, are told to run."""
        with self.changed:
            if self.changed.wait_for(lambda: all_run(self.states, units), timeout_s):
                return time.monotonic() - begun
        return None


def all_run(states, units):
    return len(states) == units and set(states.values()) == {"running"} and len({name for name, _ in states}) == units


class Swarm:
    """A store, a fleetd that leads and gets no units, and the machines of bench_fleet_swarm."""

    def __init__(self, machines):
        self.dir = harness.temp_dir()
        client, peer = harness.free_port(), harness.free_port()
        self.store = etcd_server.Member(harness.program("etcd"), "store", client, peer, "store=http://127.0.0.1:%d" % peer,
                                        self.dir)
        self.store.start()
        harness.wait_for(self.store.ready, 20, "the store")
        self.socket = os.path.join(self.dir, "fleet.sock")
        self.fleetd = self._start_fleetd()
        harness.wait_for(lambda: "MachineID" in etcd_server.call(
            self.store.endpoint + "/v2/keys/_coreos.com/fleet/lease/engine-leader", timeout=5)[2], 20, "the engine's lease")
        with open(os.path.join(self.dir, "swarm.log"), "ab") as log:
            self.process = harness.start([tool("swarm"), self.store.endpoint, self.socket, str(machines), str(TTL_S)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.events, self.seen = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _start_fleetd(self):
        path = os.path.join(self.dir, "fleet.conf")
        with open(path, "w") as config:
            config.write("etcd_servers=%s\nmachine_id=%s\npublic_ip=127.0.0.1\nlisten=unix://%s\npeer_listen=127.0.0.1:0\n"
                         "agent_ttl=%ds\nagent_data_dir=%s/data\nsupervisor_dir=%s/supervisor\nunit_manager=supervisor\n" %
                         (self.store.endpoint, "f" * 32, self.socket, TTL_S, self.dir, self.dir))
        with open(os.path.join(self.dir, "fleetd.log"), "ab") as log:
            return harness.start([harness.program("fleetd"), "--config", path], stdout=log, stderr=log)

    def _read(self):
        for line in self.process.stdout:
            if line[:1] != "{":
                continue
            with self.seen:
                self.events.append(json.loads(line))
                self.seen.notify_all()

    def command(self, text):
        """Gives a command; the time, and how many events had come before."""
        with self.seen:
            before = len(self.events)
        begun = time.monotonic()
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return begun, before

    def wait(self, name, after, timeout_s, holds=lambda event: True):
        """The next such event that comes after so many others; None when it does not."""
        with self.seen:
            found = lambda: next((e for e in self.events[after:] if e["event"] == name and holds(e)), None)
            return found() if self.seen.wait_for(found, timeout_s) else None

    def published(self):
        """unit and machine -> sub state of what the store's keys tell."""
        text = etcd_server.call(self.store.endpoint + "/v2/keys/_coreos.com/fleet/states?recursive=true", timeout=60)[2]
        return {tuple(leaf["key"].rsplit("/", 2)[1:]): json.loads(leaf["value"])["subState"]
                for node in json.loads(text)["node"].get("nodes", []) for leaf in node.get("nodes", [])}

    def wait_reported(self, units, begun, timeout_s):
        """Seconds from `begun` until so many units, and nothing else, are told to run."""
        while time.monotonic() - begun < timeout_s:
            looked, published = time.monotonic(), self.published()
            if all_run(published, units):
                return looked - begun
            time.sleep(0.5)
        return None

    def call(self, path):
        connection = UnixConnection(self.socket, 60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def memory_kb(self):
        """Of the process that leads the engine: (PSS, the most it ever had)."""
        found = {}
        for name in ("smaps_rollup", "status"):
            with open("/proc/%d/%s" % (self.fleetd.pid, name)) as lines:
                found.update(line.split(":", 1) for line in lines if line.startswith(("Pss:", "VmHWM:")))
        return [int(found[name].split()[0]) for name in ("Pss", "VmHWM")]

    def cpu_s(self):
        ticks = os.sysconf("SC_CLK_TCK")
        return {name: process_ticks(pid) / ticks for name, pid in
                (("store", self.store.process.pid), ("engine", self.fleetd.pid), ("machines", self.process.pid))}

    def lease(self):
        return etcd_server.call(self.store.endpoint + "/v2/keys/_coreos.com/fleet/lease/engine-leader", timeout=60)[2]

    def another_leader(self):
        """The engine dies, and the one that comes after it reads everything: seconds until it leads, and until it has read."""
        harness.kill(self.fleetd)
        before, begun = self.lease(), time.monotonic()
        self.fleetd = self._start_fleetd()
        harness.wait_for(lambda: "MachineID" in self.lease() and self.lease() != before, 120, "another lease")
        leads = time.monotonic() - begun
        harness.wait_for(lambda: self.units_known() is not None, 120, "the registry, read")
        return leads, time.monotonic() - begun

    def units_known(self):
        try:
            return json.loads(self.call("/fleet/v1/units")).get("units")
        except (OSError, ValueError):
            return None

    def close(self):
        self.process.stdin.close()
        for process in (self.process, self.fleetd, self.store.process):
            harness.kill(process)


def measure_swarm(options, told):
    swarm = Swarm(options.machines)
    try:
        told["registered"] = swarm.wait("registered", 0, 120)
        begun, before = swarm.command("units %d" % options.units)
        told["asked"] = swarm.wait("asked", before, 600)
        told["running"] = swarm.wait("running", before, 600)
        told["all placed and reported s"] = swarm.wait_reported(options.units, begun, 900)
        told["CPU s"], told["engine kB [PSS, peak]"] = swarm.cpu_s(), swarm.memory_kb()
        told["begun"] = begun
        followed = Followed(swarm.store.endpoint, swarm.published)
        time.sleep(10)
        begun, before = swarm.command("die %d" % DEAD)
        told["died"] = swarm.wait("died", before, 60)
        told["running again"] = swarm.wait("running", before, TTL_S + 300)
        told["elsewhere and reported s"] = followed.wait(options.units, begun, TTL_S + 300)
        told["engine kB [PSS, peak] after"] = swarm.memory_kb()
        told["CPU s after"] = swarm.cpu_s()
        told["another leader s [leads, has read]"] = swarm.another_leader()
        time.sleep(10)
        told["another leader kB [PSS, peak]"] = swarm.memory_kb()
        told["engine's metrics"] = [line for line in swarm.call("/metrics").splitlines() if line.startswith("fleet_e")]
    finally:
        swarm.close()
        for name in ("swarm.log", "fleetd.log"):
            with open(os.path.join(swarm.dir, name)) as log:
                told[name] = log.read().splitlines()[-40:]


def group_swarm(options, report):
    told = report.keep("swarm", {})
    measure_swarm(options, told)
    placed, moved, peak = (told["all placed and reported s"], told["elsewhere and reported s"],
                           max(told["engine kB [PSS, peak] after"]) / 1000)
    text = lambda value: "never" if value is None else "%.1f s" % value
    report.add("{:,} simulated machines, {:,} units through the real store: all placed and reported; then {} machines "
               "die".format(options.machines, options.units, DEAD), "impossible",
               "<= 120 s; <= ttl + 5 s; engine <= 500 MB",
               "%s; ttl %d: %s; engine %.0f MB at most" % (text(placed), TTL_S, text(moved), peak),
               placed is not None and placed <= 120 and moved is not None and moved <= TTL_S + 5 and peak <= 500)
    leads, read = told["another leader s [leads, has read]"]
    peak = max(told["another leader kB [PSS, peak]"]) / 1000
    report.add("the engine's fleetd killed there and started again: it leads, and has read {:,} units".format(options.units),
               "impossible", "engine <= 500 MB", "%.1f s, %.1f s; %.0f MB at most" % (leads, read, peak), peak <= 500)
