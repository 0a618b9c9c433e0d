"""The same hosts as dev machines: `flotilla dev` with a Docker engine on each, our store, and units in the supervisor."""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess

import harness
from dev_cluster import Dev
from fleet import images
from fleet.lab import METADATA, Host, Lab
from fleet_cluster import processes
from harness import wait_for
from keeper import descendants

NETWORK = "172.17.8"


def enter_network(pid):
    """Goes on in the network namespace of that process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/%d/ns/net" % pid) as file:
        assert libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class DevHost(Host):
    def __init__(self, lab, number):
        self.lab, self.number, self.name = lab, number, "core-%02d" % number
        self.ip, self.cut_off, self.hangs = "%s.%d" % (NETWORK, 100 + number), False, False
        self.launcher, self.started, self.uids = True, [], {"root": 0}
        self.unit_dir, self.seen = lab.unit_dir, {}
        self._furnish()

    def _furnish(self):
        self.pid = self.lab.pid(self.number)
        self.id = self.read("/etc/machine-id").strip()
        self.plain_settings = self.read("/etc/fleet/fleet.conf")
        self.configure()
        wait_for(lambda: self.api("GET", "/fleet/v1/machines")[0] == 200, 10, "fleetd of " + self.name)
        self.reload()
        wait_for(lambda: self.containers() is not None, 20, "Docker on " + self.name)

    def inside(self, argv, user=None, env=None):
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        return ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--", "env", "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home", "USER=root"] + words

    def put_unit(self, name, text):
        with open(os.path.join(self.unit_dir, name), "w") as file:
            file.write(text)

    def take(self, ours, path):
        return ours  # /tmp is everybody's

    def configure(self, *lines):
        self.settings = list(lines)
        metadata = [] if any(line.startswith("metadata=") for line in lines) else ["metadata=" + METADATA[self.number]]
        self.write("/etc/fleet/fleet.conf", self.plain_settings + "".join(line + "\n" for line in metadata + self.settings))

    def reload(self):
        self.signal("fleetd", "HUP")

    def files_left(self):
        return self.run("find /run/fleet/supervisor/units -type f 2>/dev/null", check=False)[1].splitlines()

    def strays(self):
        """What the supervisor still runs."""
        keepers = [pid for pid in self.processes() if "keeper" in processes().get(pid, (0, []))[1]]
        return ["process %d" % pid for keeper in keepers for pid in descendants(keeper)]

    def processes(self, unit=None):
        """Of a unit the main process, as it is called inside; of the whole machine all, as they are called outside."""
        if not unit:
            return [self.pid] + descendants(self.pid)
        if not self.hangs:  # else nobody answers, and nothing changes
            self.seen[unit] = [int(pid) for pid in re.findall(r"Main PID: (\d+) \([^)=]*\)$", self.status(unit), re.M)]
        return self.seen.get(unit, [])

    def status(self, unit):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.PATIENCE_S)
            connection.connect(self.outside("/run/fleet/supervisor/keeper.sock"))
            connection.sendall((json.dumps({"op": "status", "name": unit}) + "\n").encode())
            text = ""
            for line in connection.makefile():
                answer = json.loads(line)
                text += answer.get("text", "")
                if "result" in answer:
                    break
        return text

    def log(self):
        with open(os.path.join(self.lab.dev.dir, "d", str(self.number), "log", "fleetd.log"), errors="replace") as file:
            return file.read()

    # ---- what happens to it ----

    def _signal_all(self, number):
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def freeze(self):
        self.hangs = True
        # Twice: what was started meanwhile is stopped too.
        self._signal_all(signal.SIGSTOP)
        self._signal_all(signal.SIGSTOP)

    def thaw(self):
        self._signal_all(signal.SIGCONT)
        self.hangs = False

    def cut(self):
        self.cut_off = True
        subprocess.run(["ip", "link", "set", "machine%d" % self.number, "down"], check=True)

    def power_off(self):
        self.and_all_is_gone(self.kill)

    def kill(self):
        self.lab.control("kill %d" % self.number)
        self.launcher = self.pid = None

    def boot(self):
        self.lab.control("start %d" % self.number)
        self.launcher = True
        self._furnish()

    def repair(self):
        self.run("pkill -CONT -x etcd", check=False)


class DevLab(Lab):
    supervised = True

    def __init__(self, ttl_s):
        self.ttl_s, self.kind, self.work = ttl_s, "ours", None
        self.address, self.unit_dir = NETWORK + ".100", harness.temp_dir()
        self.dev = Dev(agent_ttl_s=ttl_s, more=["--docker", "--docker-mirror", "http://%s:%d" % (self.address, images.PORT)])
        enter_network(self.pid(0))
        images.serve(self.address)
        self.hosts = [DevHost(self, number) for number in (1, 2, 3)]
        images.put(self.hosts[0], self.address)
        self.all_present()

    def control(self, line):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(self.dev.dir, "d", "control"))
            connection.sendall((line + "\n").encode())
            answer = connection.makefile().read().strip()
        assert answer.startswith("ok"), (line, answer)
        return answer

    def pid(self, number):
        return int(self.control("pid %d" % number).split()[1])

    def use(self, kind):
        assert kind == "ours"

    def heal(self):
        for host in self.hosts:
            if host.cut_off:
                subprocess.run(["ip", "link", "set", "machine%d" % host.number, "up"], check=True)
            host.cut_off = False
