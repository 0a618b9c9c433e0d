"""A model of fleet 1.0's daemon: its operations on the registry, in their order and with their timings, and units that are only
names. What it does wrong it does wrong here too (a state is removed for all machines, a change within a second of another is
seen late), since a mixed cluster has to live with it."""
import fnmatch
import hashlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

PREFIX = "/v2/keys/_coreos.com/fleet"
INTERVAL_S = 2.0  # engine_reconcile_interval
LEASE_S = 10      # five of those
AGENT_S = 5.0


class Refused(Exception):
    """etcd's error, by its code."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Registry:
    def __init__(self, url):
        self.url = url

    def call(self, method, path, query="", timeout=5, **form):
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(self.url + PREFIX + path + query, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)["node"]
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["errorCode"])

    def value(self, path):
        try:
            return self.call("GET", path, "?quorum=true").get("value")
        except Refused as refused:
            if refused.code == 100:
                return None
            raise

    def tree(self, path):
        """relative path -> value of everything below."""
        found = {}

        def walk(node):
            for child in node.get("nodes", []):
                if child.get("dir"):
                    walk(child)
                else:
                    found[child["key"][len("/_coreos.com/fleet" + path) + 1:]] = child.get("value", "")
        try:
            walk(self.call("GET", path, "?recursive=true&quorum=true"))
        except Refused as refused:
            if refused.code != 100:
                raise
        return found

    def set(self, path, value, ttl=None, **more):
        form = dict(value=value, **more)
        if ttl:
            form["ttl"] = ttl
        return self.call("PUT", path, **form)

    def delete(self, path, query=""):
        try:
            self.call("DELETE", path, query)
        except Refused as refused:
            if refused.code not in (100, 101):
                raise


class Unit:
    def __init__(self, name, raw, desired, target):
        self.name, self.desired, self.target = name, desired, target
        self.hash = hashlib.sha1(raw.encode()).hexdigest()
        self.options, section = [], ""
        for line in raw.splitlines():
            if line.startswith("["):
                section = line[1:-1]
            elif "=" in line and section == "X-Fleet":
                key, value = line.split("=", 1)
                self.options.append((key, value.strip()))

    def values(self, key):
        return [value for name, value in self.options if name == key]

    def is_global(self):
        return bool(self.values("Global")) and self.values("Global")[-1].lower() in ("true", "yes", "1", "on", "t")

    def patterns(self, key):
        return [pattern for value in self.values(key) for pattern in value.split()]

    def conflicts(self, other):
        return self.name != other.name and (
            any(fnmatch.fnmatchcase(other.name, pattern) for pattern in self.patterns("Conflicts")) or
            any(fnmatch.fnmatchcase(self.name, pattern) for pattern in other.patterns("Conflicts")))

    def fits(self, machine):
        wanted = {}
        for pair in self.values("MachineMetadata"):
            key, _, value = pair.strip('"').partition("=")
            wanted.setdefault(key, []).append(value)
        metadata = machine.get("Metadata") or {}
        return all(metadata.get(key) in values for key, values in wanted.items())

    def able(self, machine, placed):
        ids = self.values("MachineID")
        if ids and ids[0] not in (machine["ID"], machine["ID"][:8]):
            return False
        there = [unit for unit in placed if unit.target == machine["ID"]]
        return self.fits(machine) and all(any(unit.name == peer for unit in there) for peer in self.values("MachineOf")) and \
            not any(self.conflicts(unit) for unit in there)


class OldFleetd:
    def __init__(self, url, machine_id, ip, metadata=None, ttl=5, engine=True):
        self.registry, self.id, self.ttl, self.engine = Registry(url), machine_id, ttl, engine
        self.object = json.dumps({"ID": machine_id, "PublicIP": ip, "Metadata": metadata or {},
                                  "Capabilities": {"DISABLE_ENGINE": not engine, "GRPC": False}, "Version": "1.0.0"})
        self.units = {}  # name -> [hash, asked to start]: what its systemd has
        self.lease_index, self.dead = None, False
        self.published, self.published_at = {}, 0
        self.agent_event, self.engine_event = threading.Event(), threading.Event()
        self.register()
        self.threads = [threading.Thread(target=body, daemon=True) for body in (
            self.watch, lambda: self.loop(self.engine_pass, self.engine_event, INTERVAL_S) if engine else None,
            lambda: self.loop(self.agent_pass, self.agent_event, AGENT_S), lambda: self.loop(self.publish, None, 1.0),
            lambda: self.loop(self.beat, None, ttl / 2))]
        for thread in self.threads:
            thread.start()

    def running(self):
        return {} if self.dead else {name for name, (_, started) in dict(self.units).items() if started}

    def leads(self):
        return not self.dead and self.lease_index is not None

    def kill(self):
        """The power goes."""
        self.dead = True
        for thread in self.threads:
            thread.join(10)

    def terminate(self):
        """SIGTERM: everything is unloaded and taken back."""
        names = list(self.units)
        self.kill()
        for name in names:
            self.unload(name)
        if self.lease_index:
            self.registry.delete("/lease/engine-leader", "?prevIndex=%d" % self.lease_index)
        self.registry.delete("/machines/%s/object" % self.id)

    def loop(self, step, event, seconds):
        while not self.dead:
            try:
                step()
            except (Refused, OSError, ValueError, http.client.HTTPException):
                pass
            until = time.monotonic() + seconds
            while not self.dead and time.monotonic() < until and not (event and event.is_set()):
                time.sleep(0.05)
            if event:
                event.clear()

    def watch(self):
        """One event for each poll, without an index, and a rest after each: what comes meanwhile is missed."""
        while not self.dead:
            try:
                node = self.registry.call("GET", "/job/", "?wait=true&recursive=true", timeout=2)
                if node["key"].rsplit("/", 1)[1] in ("target", "target-state"):
                    self.agent_event.set()
                    self.engine_event.set()
                time.sleep(1)
            except (OSError, ValueError, Refused, KeyError, http.client.HTTPException):
                time.sleep(0.2)

    # ---- presence ----

    def register(self):
        while True:
            try:
                self.registry.set("/machines/%s/object" % self.id, self.object, self.ttl, prevExist="false")
                return
            except Refused:
                time.sleep(1)

    def beat(self):
        path = "/machines/%s/object" % self.id
        try:
            self.registry.set(path, self.object, self.ttl, prevExist="true")
        except Refused:
            self.registry.set(path, self.object, self.ttl, prevExist="false")

    # ---- what there is ----

    def read_units(self):
        jobs, texts, units = self.registry.tree("/job"), self.registry.tree("/unit"), []
        for path, value in jobs.items():
            name, _, field = path.partition("/")
            if field != "object":
                continue
            digest = bytes(json.loads(value)["UnitHash"]).hex()
            raw = json.loads(texts.get(digest, '{"Raw":""}'))["Raw"]
            unit = Unit(name, raw, jobs.get(name + "/target-state", "inactive"), jobs.get(name + "/target"))
            unit.hash = digest
            units.append(unit)
        return sorted(units, key=lambda unit: unit.name)

    def read_machines(self):
        tree = self.registry.tree("/machines")
        return {json.loads(value)["ID"]: json.loads(value) for path, value in tree.items() if path.endswith("/object")}

    # ---- engine ----

    def engine_pass(self):
        version = self.registry.value("/engine/version")
        if version is not None and int(version) > 1:
            self.lease_index = None
            return
        if version is None:
            self.registry.set("/engine/version", "1", prevExist="false")
        mine = json.dumps({"MachineID": self.id, "Version": 1}, separators=(",", ":"))
        try:
            if self.lease_index:
                self.lease_index = self.registry.set("/lease/engine-leader", mine, LEASE_S,
                                                     prevIndex=self.lease_index)["modifiedIndex"]
            else:
                self.lease_index = self.registry.set("/lease/engine-leader", mine, LEASE_S,
                                                     prevExist="false")["modifiedIndex"]
        except Refused:
            self.lease_index = None
            return
        self.reconcile()

    def reconcile(self):
        units, machines = self.read_units(), self.read_machines()
        for unit in units:
            if not unit.target:
                continue
            machine = machines.get(unit.target)
            if unit.desired == "inactive" or not machine or not unit.able(machine, units):
                self.registry.delete("/job/%s/target" % unit.name, "?prevValue=" + unit.target)
                unit.target = None
        for unit in units:
            if unit.target or unit.desired == "inactive" or unit.is_global():
                continue
            load = {machine: sum(other.target == machine or (other.is_global() and other.fits(machines[machine]))
                                 for other in units if other.desired != "inactive") for machine in machines}
            for machine in sorted(machines, key=lambda one: (load[one], one)):
                if unit.able(machines[machine], units):
                    self.registry.set("/job/%s/target" % unit.name, machine, prevExist="false")
                    unit.target = machine
                    break

    # ---- agent ----

    def agent_pass(self):
        own = json.loads(self.object)
        wanted = {unit.name: unit for unit in self.read_units() if unit.desired != "inactive" and
                  (unit.fits(own) if unit.is_global() else unit.target == self.id)}
        for name in list(self.units):
            if name not in wanted or self.units[name][0] != wanted[name].hash:
                self.unload(name)
        for name, unit in wanted.items():
            launched = unit.desired == "launched"
            if name not in self.units:
                self.units[name] = [unit.hash, False]
            if launched and not self.units[name][1]:
                self.registry.set("/job/%s/job-state" % name, self.id, self.ttl)
                self.units[name][1] = True
            elif not launched and self.units[name][1]:
                self.registry.delete("/job/%s/job-state" % name)
                self.units[name][1] = False

    def unload(self, name):
        self.registry.delete("/job/%s/job-state" % name)
        del self.units[name]
        self.published.pop(name, None)
        self.registry.delete("/state/" + name)
        self.registry.delete("/states/" + name, "?recursive=true")  # for all machines

    def publish(self):
        again = time.monotonic() - self.published_at > self.ttl / 2
        if again:
            self.published_at = time.monotonic()
        for name, (digest, started) in list(self.units.items()):
            state = json.dumps({"loadState": "loaded", "activeState": "active" if started else "inactive",
                                "subState": "running" if started else "dead", "machineState": {
                                    "ID": self.id, "PublicIP": "", "Metadata": None, "Capabilities": None, "Version": ""},
                                "unitHash": digest}, separators=(",", ":"))
            if not again and self.published.get(name) == state:
                continue
            self.registry.set("/state/" + name, state, self.ttl)
            self.registry.set("/states/%s/%s" % (name, self.id), state, self.ttl)
            self.published[name] = state
            if again and started:
                self.registry.set("/job/%s/job-state" % name, self.id, self.ttl)
