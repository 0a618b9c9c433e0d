"""One-member and larger etcd servers for the black-box tests: ours, or Debian's real one with --enable-v2."""
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request

import harness

REAL = shutil.which("etcd", path="/usr/bin:/usr/local/bin")


def ours():
    """Path of our server, or None while this build has none."""
    path = os.path.join(harness.BUILD, "etcd")
    return path if os.path.exists(path) else None


def call(url, method="GET", body=None, timeout=60, headers=None):
    """(status, headers, text) of one HTTP request; etcd's errors are answers too."""
    request = urllib.request.Request(url, method=method, data=body.encode() if body is not None else None,
                                     headers=headers or {})
    if body is not None and "Content-Type" not in (headers or {}):
        request.add_header("Content-Type", "application/x-www-form-urlencoded")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode("utf-8", "replace")


class Member:
    """One server. prefix: words in front of its command line; env: variables on top of ours."""

    def __init__(self, program, name, client_port, peer_port, cluster, directory, extra=(), host="127.0.0.1", prefix=(),
                 env=None):
        self.name = name
        self.program = program
        self.endpoint = "http://%s:%d" % (host, client_port)
        self.peer = "http://%s:%d" % (host, peer_port)
        self.directory = directory
        self.process = None
        self.env = env
        self.argv = list(prefix) + [program, "--name", name, "--data-dir", os.path.join(directory, name),
                     "--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint,
                     "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
                     "--initial-cluster", cluster, "--initial-cluster-state", "new", "--enable-v2"] + list(extra)

    def start(self):
        log = open(os.path.join(self.directory, self.name + ".log"), "ab")
        self.process = harness.start(self.argv, stdout=log, stderr=log, stdin=harness.subprocess.DEVNULL,
                                     env=dict(os.environ, **self.env) if self.env else None)
        log.close()

    def kill(self):
        harness.kill(self.process)

    def request(self, method, path, body=None, timeout=60):
        """(status, decoded JSON) of one request to this member."""
        status, _, text = call(self.endpoint + path, method, body, timeout)
        return status, json.loads(text or "null")

    def state(self):
        return self.request("GET", "/v2/stats/self", timeout=3)[1]["state"]

    def metrics(self):
        """What /metrics tells: names and numbers."""
        text = call(self.endpoint + "/metrics", timeout=5)[2]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")}

    def id(self):
        for member in json.loads(call(self.endpoint + "/v2/members")[2])["members"]:
            if member["name"] == self.name:
                return member["id"]
        raise KeyError("%s is not among its members" % self.name)

    def index(self):
        return int(call(self.endpoint + "/v2/keys/")[1]["X-Etcd-Index"])

    def ready(self):
        """True when it answers and the cluster has a leader (a linearizable read succeeds)."""
        return call(self.endpoint + "/v2/keys/?quorum=true", timeout=2)[0] == 200 and bool(self.id())

    def log_tail(self):
        with open(os.path.join(self.directory, self.name + ".log"), errors="replace") as log:
            return log.read()[-2000:]


class Cluster:
    def __init__(self, program, count=1, extra=()):
        directory = harness.temp_dir()
        names = ["infra%d" % i for i in range(count)]
        ports = [(harness.free_port(), harness.free_port()) for _ in names]
        cluster = ",".join("%s=http://127.0.0.1:%d" % (name, peer) for name, (_, peer) in zip(names, ports))
        self.members = [Member(program, name, client, peer, cluster, directory, extra)
                        for name, (client, peer) in zip(names, ports)]
        for member in self.members:
            member.start()
        for member in self.members:
            try:
                harness.wait_for(member.ready, 30, "%s to serve" % member.name)
            except AssertionError as error:
                raise AssertionError("%s; its log ends:\n%s" % (error, member.log_tail()))

    def endpoints(self):
        return ",".join(member.endpoint for member in self.members)

    def leader(self, members=None):
        """The member that says it leads, of those given that run, or None."""
        for member in members or self.members:
            try:
                if member.process.poll() is None and member.state() == "StateLeader":
                    return member
            except (OSError, ValueError, http.client.HTTPException):
                pass
        return None

    def kill(self):
        for member in self.members:
            member.kill()
