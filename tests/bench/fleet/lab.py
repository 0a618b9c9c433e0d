"""Hosts whose PID 1 is systemd, a store, and fleetd on each host: what the rows on real hosts are measured in.

    lab = Lab("ours", ttl_s=30)                 # the store is one member beside the hosts
    lab = Lab("etcd", ttl_s=5, inside=True)     # a member of Debian's etcd on each host
    lab.start(["a.service", ...], TEXT)         # through fleetctl
    lab.hosts[0].call("GET", "/fleet/v1/units")

Must run in a world of its own (net_world.enter())."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import etcd_server
import harness
import net_world
from harness import wait_for
from machine import Machine

SOCKET = "/run/fleet.sock"
SLEEPER = "[Service]\nExecStart=/bin/sleep %d\n"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("fleet", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def process_ids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


class Host:
    """A machine with fleetd, which systemd runs as a service of the host."""

    def __init__(self, name, place, ttl_s):
        self.name, self.place, self.ttl_s, self.pid = name, place, ttl_s, 0
        self.machine = Machine(name, place)

    def endpoint(self):
        return "unix://" + self.machine.outside(SOCKET)

    def service(self, name, *argv):
        self.machine.write("/etc/systemd/system/%s.service" % name,
                           "[Service]\nExecStart=%s\nLimitNOFILE=20000\n" % " ".join(argv))
        self.machine.systemctl("daemon-reload")

    def configure(self, store_urls):
        self.machine.write("/etc/fleet/fleet.conf", "etcd_servers=%s\nagent_ttl=%ds\npublic_ip=%s\nlisten=unix://%s\n" %
                           (",".join(store_urls), self.ttl_s, self.place.address, SOCKET))
        self.service("fleet", harness.program("fleetd"), "--config", "/etc/fleet/fleet.conf")

    def start(self):
        self.machine.systemctl("start", "fleet.service")
        self.pid = wait_for(lambda: self.find("fleetd"), 10, "fleetd on " + self.name)
        wait_for(lambda: self.call("GET", "/fleet/v1/machines")[0] == 200, 10, "the API of " + self.name)

    def find(self, name):
        """The process of this name inside, by the number that it has outside."""
        space = os.readlink("/proc/%d/ns/pid" % self.machine.pid)
        for pid in process_ids():
            try:
                with open("/proc/%d/comm" % pid) as file:
                    if file.read().strip() == name and os.readlink("/proc/%d/ns/pid" % pid) == space:
                        return pid
            except OSError:
                pass
        return 0

    def kill_fleetd(self):
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def power_off(self):
        """As when power goes: not even the kernel says good-bye."""
        self.place.net.unplug(self.place.number)
        self.machine.kill()
        self.pid = 0

    def power_on(self):
        net_world.ip("link", "set", self.place.port, "up")
        self.machine.boot()

    def call(self, method, path, body=None, timeout=10):
        """(status, JSON) of one request to this fleetd."""
        connection = UnixConnection(self.machine.outside(SOCKET), timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def pages(self, path, member):
        """All of a listing."""
        found, token = [], ""
        while True:
            status, page = self.call("GET", path + ("?nextPageToken=" + token if token else ""))
            if status != 200:
                raise OSError("%s answers %d to %s" % (self.name, status, path))
            found += page.get(member) or []
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def states(self):
        return self.pages("/fleet/v1/state", "states")

    def state(self, name):
        page = self.call("GET", "/fleet/v1/state?unitName=" + name)[1]
        return (page.get("states") or [None])[0]

    def ctl(self, *words, check=True, timeout=120):
        done = subprocess.run([harness.program("fleetctl"), "--endpoint", self.endpoint()] + list(words),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout)
        assert not check or done.returncode == 0, (words[:3], done.returncode, done.stdout[-2000:])
        return done.stdout

    def pss_kb(self):
        with open("/proc/%d/smaps_rollup" % self.pid) as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def cpu_s(self):
        with open("/proc/%d/stat" % self.pid) as line:
            fields = line.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lab:
    made = 0

    def __init__(self, kind, ttl_s=30, count=3, inside=False):
        Lab.made += 1
        self.kind, self.ttl_s, self.inside, self.store = kind, ttl_s, inside, None
        self.program = etcd_server.REAL if kind == "etcd" else harness.program("etcd")
        self.net = net_world.Net(count)
        self.dir = harness.temp_dir()
        self.hosts = [Host("h%d-%d" % (Lab.made, i + 1), place, ttl_s) for i, place in enumerate(self.net.places)]
        if inside:
            self._start_members()
        else:
            self._start_store()
        for number, host in enumerate(self.hosts):
            # Where each host has a member, fleetd asks that first.
            host.configure(self.urls[number:] + self.urls[:number] if inside else self.urls)
        for host in self.hosts:
            host.start()
        wait_for(lambda: len(self.hosts[0].call("GET", "/fleet/v1/machines")[1]["machines"]) == count, 20, "all machines")
        wait_for(self.leader, 20, "a leader of the engine")

    def _start_store(self):
        address = "10.%d.0.254" % self.net.number
        client, peer = harness.free_port(), harness.free_port()
        self.store = etcd_server.Member(self.program, "store", client, peer, "store=http://%s:%d" % (address, peer),
                                        self.dir, host=address)
        self.store.start()
        wait_for(self.store.ready, 20, "the store")
        self.urls = [self.store.endpoint]

    def _start_members(self):
        cluster = ",".join("%s=http://%s:2380" % (host.name, host.place.address) for host in self.hosts)
        self.urls = ["http://%s:2379" % host.place.address for host in self.hosts]
        for host, url in zip(self.hosts, self.urls):
            peer = url.replace("2379", "2380")
            host.service("store", self.program, "--name", host.name, "--data-dir", "/var/lib/store", "--listen-client-urls",
                         url, "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls",
                         peer, "--initial-cluster", cluster, "--initial-cluster-state", "new", "--enable-v2")
            host.machine.systemctl("start", "store.service")
        wait_for(self.store_leader, 30, "a leader of the store")
        for url in self.urls:
            wait_for(lambda url=url: etcd_server.call(url + "/v2/keys/?quorum=true", timeout=2)[0] == 200, 20, "the store")

    def store_leader(self):
        """The host whose member leads the store (only with members inside)."""
        for host, url in zip(self.hosts, self.urls):
            if host.machine.pid and json.loads(etcd_server.call(url + "/v2/stats/self", timeout=2)[2])["state"] == "StateLeader":
                return host
        return None

    def key(self, path):
        """Value of a key below fleet's prefix, or None."""
        for url in self.urls:
            try:
                status, _, text = etcd_server.call(url + "/v2/keys/_coreos.com/fleet/" + path, timeout=2)
                return json.loads(text)["node"]["value"] if status == 200 else None
            except OSError:
                pass
        return None

    def leader(self):
        """The host that leads the engine."""
        value = self.key("lease/engine-leader")
        leads = json.loads(value)["MachineID"] if value else None
        return next((host for host in self.hosts if host.machine.id == leads), None)

    def submit(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def put(self, host, name, seconds, state="launched", more=()):
        """One unit through the API, as a client makes it."""
        options = [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep %d" % seconds}]
        options += [{"section": "X-Fleet", "name": key, "value": value} for key, value in more]
        status, body = host.call("PUT", "/fleet/v1/units/" + name, {"desiredState": state, "options": options})
        if status not in (201, 204):
            raise OSError("PUT of %s: %d %s" % (name, status, body))

    def running(self, host, among=None):
        """name -> machine ID of what is told to run (of these names)."""
        return {state["name"]: state["machineID"] for state in host.states()
                if state["systemdSubState"] == "running" and (among is None or state["name"] in among)}

    def clear(self, host):
        """Destroys all units; back when their processes are gone."""
        names = [unit["name"] for unit in host.pages("/fleet/v1/units", "units")]
        if names:
            host.ctl("destroy", *names)
        wait_for(lambda: not host.states(), 30, "the states to go")

    def close(self):
        for host in self.hosts:
            if host.machine.pid:
                host.machine.kill()
            shutil.rmtree(host.machine.dir, ignore_errors=True)
        if self.store:
            self.store.process.send_signal(signal.SIGCONT)
            self.store.kill()


def sleepers(seconds):
    """The processes `sleep SECONDS` of any host."""
    wanted = [b"/bin/sleep", b"%d" % seconds]
    return [pid for pid in process_ids() if command_line(pid) == wanted]


def until(condition, timeout_s, step_s=0.002):
    """Seconds until condition() holds; None when it never does in time."""
    begun = time.monotonic()
    while time.monotonic() - begun < timeout_s:
        try:
            if condition():
                return time.monotonic() - begun
        except (OSError, KeyError, ValueError, http.client.HTTPException):
            pass
        time.sleep(step_s)
    return None
