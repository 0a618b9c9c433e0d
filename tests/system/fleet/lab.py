"""Three hosts as CoreOS had them: real systemd, a Docker engine, a member of the store and fleetd on each, an address each, and
our programs in /usr/bin. fleetd runs by the units that are packaged with it (share/systemd). All that a host runs dies with
its PID 1, and comes from its own disk when it is started again."""
import concurrent.futures
import json
import os
import re
import select
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import harness
import net_world
from fleet import images
from fleet_cluster import Keys, UnixConnection
from harness import wait_for
from machine import Machine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DOCKER = {"/usr/sbin/dockerd": "docker.io", "/usr/sbin/iptables": "iptables", "/usr/bin/docker-registry": "docker-registry",
          "/bin/busybox": "busybox-static", "/usr/sbin/sshd": "openssh-server", "/usr/bin/etcd": "etcd-server"}
METADATA = {1: "disk=ssd,region=us-east-1", 2: "disk=hdd,region=us-east-1", 3: "disk=ssd,region=us-east-1"}


def missing():
    """What this system would need; None if nothing."""
    paths = [path for path in DOCKER if not os.path.exists(path)]
    return "not installed here: " + ", ".join(DOCKER[path] for path in paths) if paths else None


class Host(Machine):
    unit_dir = "/root/units"  # where fleetctl is called

    def __init__(self, lab, number):
        self.lab, self.number = lab, number
        place = lab.net.places[number - 1]
        self.ip, self.cut_off, self.hangs = place.address, False, False
        # Debian's etcd is at /usr/bin/etcd; ours is started from where it was built.
        names = ("flotilla", "fleetd", "fleetctl", "etcdctl", "confd")
        super().__init__("core-%02d" % number, network=place, machine_id="%dd%030d" % (number, number),
                         show=[os.path.dirname(os.path.dirname(os.path.abspath(__file__)))],
                         programs={name: harness.program(name) for name in names})

    # ---- its disk, which lies in ours ----

    def path(self, path):
        return os.path.join(self.dir, "disk", path.lstrip("/"))

    def put_unit(self, name, text):
        self.put(self.unit_dir + "/" + name, text)

    def put(self, path, text):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as file:
            file.write(text)

    def take(self, ours, path):
        """Our file, for a process of the host's; its path there."""
        shutil.copy(ours, self.path(path))
        return path

    # ---- its parts ----

    def set_up(self, ttl_s):
        """What a cloud's user-data does: the host's own files, and the services that start with it."""
        with open(self.path("/etc/group"), "a") as file:
            file.write("docker:x:999:\nsshd:x:998:\n")
        with open(self.path("/etc/passwd"), "a") as file:
            file.write("sshd:x:998:998::/run/sshd:/usr/sbin/nologin\ncore:x:0:0:CoreOS:/root:/bin/sh\n")
        with open(self.path("/etc/shadow"), "a") as file:
            file.write("sshd:*:19000:0:99999:7:::\ncore:*:19000:0:99999:7:::\n")
        with open(self.path("/etc/hosts"), "a") as file:
            file.writelines("%s core-%02d\n" % (place.address, place.number + 1) for place in self.lab.net.places)
        os.makedirs(self.path(self.unit_dir), exist_ok=True)
        self.put("/etc/environment", "COREOS_PUBLIC_IPV4=%s\nCOREOS_PRIVATE_IPV4=%s\n" % (self.ip, self.ip))
        # Containers whose first process hears no signal would be waited for for 90 s.
        self.put("/etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStopSec=8\n")
        self.put("/etc/docker/daemon.json", json.dumps({
            "registry-mirrors": ["http://%s:%d" % (self.lab.address, images.PORT)],
            "insecure-registries": [self.lab.address + "/24"]}))
        self.configure("agent_ttl=%ds" % ttl_s)
        share = os.path.join(ROOT, "share", "systemd")
        with open(os.path.join(share, "fleet.service.in")) as file:
            self.put("/etc/systemd/system/fleet.service", file.read().replace("@bindir@", "/usr/bin"))
        self.take(os.path.join(share, "fleet.socket"), "/etc/systemd/system/fleet.socket")
        self._set_up_ssh()
        self.systemctl("daemon-reexec")  # reads system.conf too
        self.systemctl("enable", "--quiet", "docker.service", "sshd.service", "fleet.socket", check=False)
        self.systemctl("start", "sshd.service", "fleet.socket")
        try:
            self.systemctl("start", "docker.service")
            self.run(["docker", "info"])
        except AssertionError as error:
            raise RuntimeError("no Docker engine runs inside %s (a machine of namespaces): %s\n%s" % (
                self.name, error, self.run("journalctl --no-pager -q -n 40 -u docker -u containerd")[1])) from None

    def _set_up_ssh(self):
        self.put("/etc/ssh/sshd_config", "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/user.pub\nStrictModes no\n"
                 "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\n")
        self.put("/etc/ssh/ssh_config", "Host *\n  IdentityFile /etc/ssh/user\n")
        for name in ("host", "user", "user.pub"):
            self.take(os.path.join(self.lab.keys, name), "/etc/ssh/" + name)
            os.chmod(self.path("/etc/ssh/" + name), 0o600)
        with open(os.path.join(self.lab.keys, "host.pub")) as file:
            self.put("/root/.fleetctl/known_hosts", "10.* " + file.read())
        self.put("/etc/systemd/system/sshd.service", "[Service]\nRuntimeDirectory=sshd\nExecStart=/usr/sbin/sshd -D -e\n"
                 "KillMode=process\n[Install]\nWantedBy=multi-user.target\n")

    def configure(self, *lines):
        """What fleetd is to know beside the host's address, from its next start or reload on."""
        self.settings = list(lines)
        metadata = [] if any(line.startswith("metadata=") for line in lines) else ["metadata=" + METADATA[self.number]]
        self.put("/etc/fleet/fleet.conf", "".join(line + "\n" for line in [
            'etcd_servers="http://127.0.0.1:2379"', "public_ip=" + self.ip, "verbosity=1"] + metadata + self.settings))

    def set_store(self, kind):
        """The member of a store of that kind, in place of another one's."""
        members = ",".join("core-%02d=http://%s:2380" % (place.number + 1, place.address) for place in self.lab.net.places)
        self.put("/etc/systemd/system/etcd.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\n"
                 "ExecStart=%s --name %s --data-dir /var/lib/etcd-%s "
                 "--listen-client-urls http://0.0.0.0:2379,http://0.0.0.0:4001 --advertise-client-urls http://%s:2379 "
                 "--listen-peer-urls http://%s:2380 --initial-advertise-peer-urls http://%s:2380 --initial-cluster %s "
                 "--enable-v2\nRestart=always\nRestartSec=100ms\n"
                 "[Install]\nWantedBy=multi-user.target\n" % (
                     "/usr/bin/etcd" if kind == "debian" else harness.program("etcd"), self.name, kind, self.ip, self.ip,
                     self.ip, members))
        self.systemctl("daemon-reload")
        self.systemctl("enable", "--quiet", "etcd.service", "fleet.service")
        self.systemctl("start", "--no-block", "etcd.service", "fleet.service")

    # ---- what is asked of it ----

    def _call(self, path, method, url, body=None, timeout=30):
        connection = UnixConnection(self.outside(path), timeout)
        try:
            connection.request(method, url, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None

    def api(self, method, url, body=None):
        """(status, answer) of fleetd's API at this host's socket."""
        return self._call("/run/fleet.sock", method, url, body)

    def ctl(self, *words, check=True, timeout=60):
        """fleetctl, as on the slides, among the unit files; (exit status, both outputs)."""
        status, out, err = self.run(["sh", "-c", 'cd "$0" && exec fleetctl "$@"', self.unit_dir] + list(words), check=False,
                                    timeout=timeout)
        assert not check or status == 0, (self.name, words, status, out, err)
        return status, out + err

    def get(self, port):
        """What the web server at this port answers, None if none does."""
        try:
            with urllib.request.urlopen("http://%s:%d/" % (self.ip, port), timeout=3) as answer:
                return answer.read().decode()
        except (OSError, ValueError):
            return None

    def containers(self, every=False):
        """Name -> ID of those that run, with `every` of all that there are."""
        status, found = self._call("/run/docker.sock", "GET", "/containers/json?all=%d" % every)
        assert status == 200, (self.name, found)
        return {container["Names"][0].lstrip("/"): container["Id"] for container in found}

    def files_left(self):
        """What fleet wrote for units."""
        return self.run("find /run/fleet/units -type f; find /run/systemd/system -lname '/run/fleet/units/*'")[1].splitlines()

    def strays(self):
        """Of what processes are that belong to no service of the host's."""
        group, found = self.outside("/sys/fs/cgroup"), set()
        for path, _, _ in os.walk(group):
            name = os.path.basename(path)
            if name.endswith((".service", ".scope")) and name != "init.scope" and self.processes(name):
                template = name.split("@")[0] + "@.service"
                if not any(os.path.exists(where + one) for one in (name, template)
                           for where in (self.path("/etc/systemd/system/"), "/lib/systemd/system/")):
                    found.add(name)
        return sorted(found)

    def reload(self):
        """fleetd reads its configuration again."""
        self.systemctl("reload", "fleet.service")

    def daemon_pid(self):
        return int(self.run(["pgrep", "-x", "fleetd"], check=False)[1] or 0)

    def signal(self, program, name):
        self.run(["pkill", "-" + name, "-x", program])

    def log(self):
        return "\n".join(self.journal("fleet.service"))

    def status(self, unit):
        """What the manager of units itself says, also while fleetd is away."""
        return self.run(["systemctl", "status", "--no-pager", "-n", "20", unit], check=False)[1]

    # ---- what happens to it ----

    def cut(self):
        """No other host and none of their stores can be reached; the lab's registry of images can."""
        self.cut_off = True
        self.lab.net.isolate(self.number - 1)

    def freeze(self):
        super().freeze()
        self.hangs = True

    def thaw(self):
        super().thaw()
        self.hangs = False

    def power_off(self):
        """And nothing of it runs any more."""
        self.and_all_is_gone(self.kill)
        self.network.forget()

    def and_all_is_gone(self, act):
        """After this none of the processes lives that the host, its units and its containers have now."""
        watch = select.poll()
        names, fds = {}, []
        for pid in self.processes():
            try:
                fds.append(os.pidfd_open(pid))
                with open("/proc/%d/comm" % pid) as file:
                    names[fds[-1]] = "%d %s" % (pid, file.read().strip())
            except (ProcessLookupError, FileNotFoundError):
                continue
            watch.register(fds[-1], select.POLLIN)  # readable when it has ended
        assert names
        act()
        ended = {fd for fd, _ in watch.poll(0)}
        left = [name for fd, name in names.items() if fd not in ended]
        for fd in fds:
            os.close(fd)
        assert not left, "of %s these still run: %s" % (self.name, left)

    def repair(self):
        self.run("pkill -CONT -x etcd; rm -rf /etc/systemd/system/fleet.service.d; systemctl daemon-reload; "
                 "systemctl start docker fleet.socket fleet.service", check=False)

    def power_on(self):
        self.boot()
        wait_for(lambda: self.api("GET", "/fleet/v1/machines")[0] == 200, 10, "fleetd of " + self.name)


class Lab(Keys):
    """The hosts, and the store that they have together."""

    supervised = False  # units run in systemd

    def __init__(self, ttl_s):
        self.ttl_s, self.kind = ttl_s, None
        self.work = None  # what runs from case to case (faults.py)
        self.net = net_world.Net(3)
        self.address = "10.%d.0.254" % self.net.number
        self.keys = harness.temp_dir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(self.keys, name)], check=True)
        images.serve(self.address)
        self.hosts = [Host(self, number) for number in (1, 2, 3)]
        self.together(lambda host: host.set_up(ttl_s))
        images.put(self.hosts[0], self.address)

    def together(self, act):
        """The same on all hosts that have power, at once."""
        with concurrent.futures.ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(act, self.live()))

    def live(self):
        return [host for host in self.hosts if host.launcher]

    def others(self, *hosts):
        return [host for host in self.live() if host not in hosts]

    def reachable(self):
        return next(host for host in self.live() if not host.cut_off and not host.hangs)

    @property
    def url(self):
        return "http://%s:2379" % self.reachable().ip

    def use(self, kind):
        """All hosts go over to a new store of that kind."""
        if self.kind:
            self.together(lambda host: host.systemctl("stop", "fleet.service", "etcd.service"))
        self.kind = kind
        self.together(lambda host: host.set_store(kind))
        self.all_present()

    def all_present(self):
        wait_for(lambda: all(len(host.api("GET", "/fleet/v1/machines")[1].get("machines", [])) == len(self.hosts)
                             for host in self.live()), 20, "all hosts to know each other")

    # ---- units ----

    def unit(self, name, text):
        """A unit file that fleetctl finds on every host."""
        for host in self.hosts:
            host.put_unit(name, text)

    def text(self, name):
        """The unit of the slides, as printed."""
        with open(os.path.join(ROOT, "examples", "units", name)) as file:
            return file.read()

    def example(self, name):
        self.unit(name, self.text(name))

    def sleeper(self, name, fleet="", more=""):
        self.unit(name, "[Service]\nExecStart=/bin/sleep infinity\n%s\n[X-Fleet]\n%s\n" % (more, fleet))

    def ctl(self, *words, **options):
        return self.reachable().ctl(*words, **options)

    def states(self, name, host=None):
        """Host number -> (active, sub), as fleet says."""
        body = (host or self.reachable()).api("GET", "/fleet/v1/state?unitName=" + name)[1]
        return {self.by_id(state["machineID"]).number: (state["systemdActiveState"], state["systemdSubState"])
                for state in body.get("states", [])}

    def by_id(self, machine_id):
        return next(host for host in self.hosts if host.id == machine_id)

    def copies(self, name):
        """The numbers of the hosts where the unit has processes, whatever fleet says."""
        return [host.number for host in self.live() if host.processes(name)]

    def where(self, name):
        """The one host that the unit runs on, None if it is none or not one."""
        numbers = self.copies(name)
        return self.hosts[numbers[0] - 1] if len(numbers) == 1 else None

    def runs(self, name, timeout_s=10):
        """Waits until fleet says that it runs on one host, and it does; that host."""
        def there():
            told = [number for number, state in self.states(name).items() if state == ("active", "running")]
            return len(told) == 1 and told == self.copies(name)
        wait_for(there, timeout_s, name + " to run")
        return self.where(name)

    def elsewhere(self, name, *hosts):
        """The other host that the unit runs on by what fleet and the host itself say; None if there is none yet."""
        for host in self.others(*hosts):
            if host.processes(name) and self.states(name).get(host.number) == ("active", "running"):
                return host
        return None

    def leader(self):
        value = self.key("lease/engine-leader")
        return self.by_id(json.loads(value)["MachineID"]) if value else None

    def heal(self):
        self.net.heal()
        for host in self.hosts:
            host.cut_off = False

    # ---- the end of what a case did ----

    def tell(self):
        """What each host says of the units, and what its daemon said last: what a failed case is understood by."""
        for host in self.live():
            if host.hangs:
                continue
            try:
                print("# %s, containers %s:" % (host.name, " ".join(host.containers())))
                for state in host.api("GET", "/fleet/v1/state")[1].get("states", []):
                    print("#   %-24s on core-%02d: %s %s; has processes on %s" % (
                        state["name"], self.by_id(state["machineID"]).number, state["systemdActiveState"],
                        state["systemdSubState"], self.copies(state["name"])))
                    if state["systemdActiveState"] == "failed" and state["machineID"] == host.id:
                        print(host.status(state["name"]))
                print("\n".join("#   " + line for line in host.log().splitlines()[-40:]), flush=True)
            except (OSError, ValueError, KeyError, AssertionError, StopIteration) as error:
                print("# %s does not tell: %r" % (host.name, error), flush=True)

    def recover(self):
        """After a case that failed somewhere: all hosts are well, and no unit is left to be in the way of the next."""
        self.tell()
        self.heal()
        self.work = None
        for host in self.hosts:
            if not host.launcher:
                host.boot()
            elif host.hangs:
                host.thaw()
            host.repair()
        self.all_present()
        names = [unit["name"] for unit in self.hosts[0].api("GET", "/fleet/v1/units")[1].get("units", [])]
        if names:
            self.ctl("destroy", *names)
        self.together(lambda host: host.run("docker rm -f $(docker ps -aq)", check=False))

    def destroy(self, *names):
        self.ctl("destroy", *names)
        self.nothing_left()

    def keys_left(self):
        found = []

        def walk(node):
            for child in node.get("nodes", []):
                # What a machine's part of the assignment index is there with, units or not.
                if not re.fullmatch(".*/assigned/[0-9a-f]{32}(/epoch)?", child["key"]):
                    found.append(child["key"])
                walk(child)
        for directory in ("job", "states", "state", "assigned"):
            try:
                walk(self.request("GET", "/v2/keys/_coreos.com/fleet/%s?recursive=true&quorum=true" % directory)["node"])
            except urllib.error.HTTPError as error:
                assert error.code == 404, error
        return found

    def nothing_left(self):
        """After the end of all units there is none of their keys, files, links, processes and containers."""
        left = []

        def no_keys():
            left[:] = self.keys_left()
            return not left
        try:
            wait_for(no_keys, 10, "the keys to go")
        except AssertionError as error:
            raise AssertionError("%s: %s" % (error, " ".join(left[:12]))) from None

        def clean(host):
            left[:] = host.files_left() + host.strays() + list(host.containers(every=True))
            return not left
        for host in self.live():
            try:
                wait_for(lambda: clean(host), 10, "files, processes and containers to go from " + host.name)
            except AssertionError as error:
                raise AssertionError("%s: %s" % (error, " ".join(left))) from None


def elapsed(function):
    begun = time.monotonic()
    function()
    return time.monotonic() - begun
