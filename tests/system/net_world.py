"""A network of one's own for the black-box tests: the test runs in namespaces of its own, and each member of a cluster in
one more, all on one bridge. Links are cut as networks cut them: silently, in one direction or both."""
import os
import subprocess
import sys

import harness

ENTERED = "FLOTILLA_TEST_WORLD"


def enter():
    """Goes on in network and mount namespaces of its own (in a user namespace too, if not root). Call first."""
    if not os.environ.get(ENTERED):
        os.environ[ENTERED] = "1"
        own = ["unshare", "--net", "--mount"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
        os.execvp("unshare", own + ["--", sys.executable] + sys.argv)
    ip("link", "set", "lo", "up")


def ip(*words, inside=None):
    """ip(8), in the namespace of the process `inside` if given."""
    prefix = ["nsenter", "-t", str(inside), "--net", "--"] if inside else []
    done = subprocess.run(prefix + ["ip"] + list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, "ip %s: %s" % (" ".join(words), done.stdout)
    return done.stdout


class Place:
    """Where one member runs: a namespace with an address."""

    def __init__(self, net, number):
        self.net, self.number = net, number
        self.address = "10.%d.0.%d" % (net.number, number + 1)
        self.port = "v%d-%d" % (net.number, number)  # our end of its link
        self.holder = harness.start(["unshare", "--net", "sleep", "infinity"])
        pid = self.holder.pid
        harness.wait_for(lambda: os.readlink("/proc/%d/ns/net" % pid) != os.readlink("/proc/self/ns/net"), 10, "a namespace")
        ip("link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        ip("link", "set", self.port, "master", net.bridge, "up")
        ip("link", "set", "lo", "up", inside=pid)
        ip("addr", "add", self.address + "/24", "dev", "eth0", inside=pid)
        ip("link", "set", "eth0", "up", inside=pid)

    def forget(self):
        """What ran here had no power any more: none of its other interfaces and rules is left."""
        pid = self.holder.pid
        for line in ip("-o", "link", "show", inside=pid).splitlines():
            name = line.split(": ")[1].split("@")[0]
            if name not in ("lo", "eth0"):
                ip("link", "del", name, inside=pid)
        if os.path.exists("/usr/sbin/iptables"):
            for words in (["-F"], ["-X"], ["-t", "nat", "-F"], ["-t", "nat", "-X"], ["-P", "FORWARD", "ACCEPT"]):
                subprocess.run(self.prefix() + ["iptables"] + words, check=True)

    def prefix(self):
        return ["nsenter", "-t", str(self.holder.pid), "--net", "--"]


class Net:
    made = 0

    def __init__(self, count):
        Net.made += 1
        self.number = 100 + Net.made
        self.bridge = "br%d" % self.number
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", "10.%d.0.254/24" % self.number, "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        self.places = [Place(self, number) for number in range(count)]
        self.dropped = set()

    def drop(self, sender, receiver):
        """What this one sends to that one goes nowhere from now on."""
        ip("neigh", "replace", self.places[receiver].address, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud",
           "permanent", inside=self.places[sender].holder.pid)
        self.dropped.add((sender, receiver))

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, number):
        for other in range(len(self.places)):
            if other != number:
                self.cut(number, other)

    def unplug(self, number):
        """No member and no client reaches it, and it sees that its link is down."""
        ip("link", "set", self.places[number].port, "down")

    def heal(self):
        for sender, receiver in self.dropped:
            ip("neigh", "del", self.places[receiver].address, "dev", "eth0", inside=self.places[sender].holder.pid)
        self.dropped.clear()
        for place in self.places:
            ip("link", "set", place.port, "up")
