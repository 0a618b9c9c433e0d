"""A fleet cluster on one machine, for the black-box tests: one store, several fleetds with own machine IDs, sockets and
keepers. A machine is "gone" when its fleetd, its keeper and all that the keeper started are killed at once."""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import harness


def processes():
    """pid -> (parent, arguments) of everything that runs."""
    table = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as file:
                fields = file.read().rsplit(")", 1)[1].split()
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                arguments = file.read().split(b"\0")[:-1]
        except (OSError, IndexError):
            continue
        if fields[0] != "Z":
            table[int(pid)] = (int(fields[1]), [a.decode("utf-8", "replace") for a in arguments])
    return table


def sleepers(seconds):
    """PIDs of the processes `sleep SECONDS`, which this test's units run (see own_sleep)."""
    return sorted(pid for pid, (_, argv) in processes().items()
                  if len(argv) == 2 and argv[0].endswith("sleep") and argv[1] == "%s.%d" % (seconds, os.getpid()))


def own_sleep(text):
    """The text of a unit, where every sleep can be told from those of another run of the tests on this machine."""
    return re.sub(r"/bin/sleep ([0-9%i]+)", r"/bin/sleep \1.%d" % os.getpid(), text)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("domain-sock", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Keys:
    """What is in a store, asked of the member at self.url."""

    def request(self, method, path, **form):
        data = "&".join("%s=%s" % (k, urllib.request.quote(str(v), safe="")) for k, v in form.items()).encode()
        request = urllib.request.Request(self.url + path, data=data or None, method=method)
        if data:
            request.add_header("Content-Type", "application/x-www-form-urlencoded")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def node(self, path):
        """A fleet key or directory, or None."""
        try:
            return self.request("GET", "/v2/keys/_coreos.com/fleet/%s?quorum=true" % path)["node"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def has(self, path):
        return self.node(path) is not None

    def key(self, path):
        """Value of a fleet key, or None."""
        return (self.node(path) or {}).get("value")

    def set(self, path, value, **more):
        return self.request("PUT", "/v2/keys/_coreos.com/fleet/" + path, value=value, **more)

    def delete(self, path):
        return self.request("DELETE", "/v2/keys/_coreos.com/fleet/" + path)


class Store(Keys):
    """One etcd: Debian's, or ours."""

    def __init__(self, kind="debian"):
        self.kind = kind
        self.dir = harness.temp_dir()
        self.port, self.peer = harness.free_port(), harness.free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.start()

    def start(self):
        peer = "http://127.0.0.1:%d" % self.peer
        binary = "/usr/bin/etcd" if self.kind == "debian" else harness.program("etcd")
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = harness.start(
            [binary, "--enable-v2", "--name", "s1", "--data-dir", os.path.join(self.dir, "data"),
             "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", "s1=" + peer],
            stdout=self.log, stderr=self.log)
        harness.wait_for(lambda: self.request("GET", "/v2/keys/?quorum=true"), 20, "the store")

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        harness.kill(self.process)


class Machine:
    def __init__(self, cluster, number, silent=False, **config):
        """With `silent` nobody asks its API."""
        self.number, self.silent = number, silent
        self.dir = harness.temp_dir()
        self.id = config.pop("machine_id", "%daaaaaaabbbbccccddddeeeeffff000%d" % (number, number))
        self.ip = "10.0.0.%d" % number
        self.socket = os.path.join(self.dir, "fleet.sock")
        self.endpoint = "unix://" + self.socket
        self.supervisor = os.path.join(self.dir, "sup")
        self.config = {
            "etcd_servers": cluster.store.url, "machine_id": self.id, "public_ip": self.ip, "listen": self.endpoint,
            "peer_listen": "127.0.0.1:0", "agent_data_dir": os.path.join(self.dir, "data"),
            "supervisor_dir": self.supervisor, "agent_ttl": "%ds" % cluster.ttl, "verbosity": "1",
            "unit_manager": "supervisor",
            "metadata": "hostname=n%d,disk=%s" % (number, "hdd" if number == 2 else "ssd")}
        also = config.pop("also_listen", None)
        self.config.update(config)
        if also:
            self.config["listen"] += "," + also
        self.process = None
        atexit.register(self.kill)
        self.start()

    def start(self, *arguments):
        path = os.path.join(self.dir, "fleet.conf")
        with open(path, "w") as file:
            for key, value in self.config.items():
                file.write("%s=%s\n" % (key, value))
        log = open(os.path.join(self.dir, "log"), "ab")
        self.process = harness.start([harness.program("fleetd"), "--config", path] + list(arguments), stdout=log,
                                     stderr=log)
        # The socket of an earlier life may still lie there: an answer counts.
        if not self.silent:
            harness.wait_for(lambda: self.api("GET", "/fleet/v1/machines")[0] == 200, 10,
                             "the API of machine %d" % self.number)

    def log(self):
        with open(os.path.join(self.dir, "log")) as file:
            return file.read()

    def keeper_tree(self):
        table = processes()
        tree = [pid for pid, (_, argv) in table.items() if "keeper" in argv and
                os.path.join(self.supervisor, "keeper.sock") in argv]
        for pid in tree:
            tree.extend(child for child, (parent, _) in table.items() if parent == pid and child not in tree)
        return tree

    def kill_fleetd(self, number=signal.SIGKILL):
        if self.process:
            harness.kill(self.process, number)
            self.process = None

    def kill(self):
        """The power goes."""
        self.kill_fleetd()
        # The keepers are stopped first, so that they start nothing between the look and the kill.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in self.keeper_tree():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass

    def api(self, method, path, body=None, timeout=60):
        """(status, parsed body or None) from this machine's API."""
        connection = UnixConnection(self.socket, timeout)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None


class Cluster:
    def __init__(self, kind="debian", machines=3, ttl=5):
        self.ttl = ttl
        self.units = harness.temp_dir()
        # The machines' addresses lead nowhere: where fleetctl goes by ssh it shall not look for them.
        self.bin = harness.temp_dir()
        with open(os.path.join(self.bin, "ssh"), "w") as file:
            file.write("#!/bin/sh\necho 'ssh: no machine of this test has one' >&2\nexit 255\n")
        os.chmod(os.path.join(self.bin, "ssh"), 0o755)
        self.store = Store(kind)
        self.machines = [Machine(self, number) for number in range(1, machines + 1)]
        if machines:
            harness.wait_for(lambda: len(self.present()) == machines, 10, "all machines")

    def unit(self, name, service, fleet="", more=""):
        with open(os.path.join(self.units, name), "w") as file:
            file.write("%s[Service]\nExecStart=%s\n" % (more, own_sleep(service)))
            if fleet:
                file.write("\n[X-Fleet]\n%s\n" % fleet)

    def ctl(self, *arguments, machine=None, timeout=60, check=True, **env):
        """Runs fleetctl in the directory of the unit files; (exit status, stdout, stderr)."""
        machine = machine or next(m for m in self.machines if m.process)
        environment = {**os.environ, "PATH": self.bin + ":" + os.environ["PATH"], "FLEETCTL_ENDPOINT": machine.endpoint, **env}
        done = subprocess.run([harness.program("fleetctl")] + list(arguments), cwd=self.units, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, text=True)
        if check:
            assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done.returncode, done.stdout, done.stderr

    def running(self):
        return [m for m in self.machines if m.process]

    def present(self):
        status, body = self.running()[0].api("GET", "/fleet/v1/machines")
        return [m["id"] for m in body.get("machines", [])] if status == 200 else []

    def states(self, name=None, machine=None):
        """unit name -> {machine number: (active, sub)}."""
        machine = machine or self.running()[0]
        status, body = machine.api("GET", "/fleet/v1/state" + ("?unitName=" + name if name else ""))
        assert status == 200, (status, body)
        table = {}
        for state in body.get("states", []):
            number = int(state["machineID"][0])
            table.setdefault(state["name"], {})[number] = (state["systemdActiveState"], state["systemdSubState"])
        return table

    def where(self, name, machine=None):
        """Number of the machine that the unit runs on, or None."""
        hosts = [n for n, state in self.states(name, machine).get(name, {}).items() if state[0] == "active"]
        return hosts[0] if len(hosts) == 1 else None

    def leader(self):
        value = self.store.key("lease/engine-leader")
        return int(json.loads(value)["MachineID"][0]) if value else None

    def destroy_all(self):
        status, body = self.running()[0].api("GET", "/fleet/v1/units")
        names = [u["name"] for u in body.get("units", [])]
        if names:
            self.ctl("destroy", *names)
        harness.wait_for(lambda: not self.states(), 15, "all states gone")

    def machine(self, number):
        return self.machines[number - 1]

    def add_machine(self, number):
        self.machines.append(Machine(self, number))
        return self.machines[-1]

    def machine_of(self, number):
        return next(machine for machine in self.machines if machine.number == number)

    def revive(self, number):
        """A machine that was killed comes back (rebooted: nothing of its units is left)."""
        machine = self.machine(number)
        shutil.rmtree(machine.supervisor, ignore_errors=True)
        machine.start()
        harness.wait_for(lambda: machine.id in self.present(), 15, "machine %d back" % number)

    def stop(self):
        for machine in self.machines:
            machine.kill()
        self.store.kill()
