#!/usr/bin/env python3
"""Members that come and go while the cluster is written to: by etcdctl, with real processes."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import etcd_server
import harness
from harness import Cases, free_port, program, wait_for

cases = Cases()
ETCD = program("etcd")
QUICK = ["--heartbeat-interval", "50", "--election-timeout", "500"]


def etcdctl(endpoints, *arguments):
    """(status, stdout, stderr) of our etcdctl."""
    out = subprocess.run([program("etcdctl"), "--endpoints", endpoints] + list(arguments), capture_output=True, timeout=60,
                         text=True)
    return out.returncode, out.stdout, out.stderr


class Growing:
    """A cluster whose members are those that run now."""

    def __init__(self, count=1, extra=()):
        self.extra = list(extra)
        cluster = etcd_server.Cluster(ETCD, count, self.extra)
        self.members = cluster.members
        self.directory = self.members[0].directory

    def endpoints(self):
        return ",".join(member.endpoint for member in self.members)

    def leader(self):
        return wait_for(lambda: next((m for m in self.members if m.process.poll() is None and
                                      m.state() == "StateLeader"), None), 20, "a leader")

    def ctl(self, *arguments):
        status, out, error = etcdctl(self.endpoints(), *arguments)
        assert status == 0, (arguments, out, error)
        return out

    def details(self, member=None):
        _, _, text = etcd_server.call((member or self.members[0]).endpoint + "/flotilla/members", timeout=2)
        return {m["id"]: m for m in json.loads(text)["members"]}

    def make(self, name, peer_port=None, command=("member", "add")):
        """A member that was added by etcdctl, with the environment that it printed; not started."""
        client, peer = free_port(), peer_port or free_port()
        out = self.ctl(*command, name, "http://127.0.0.1:%d" % peer)
        settings = dict(line.split("=", 1) for line in out.splitlines() if line.startswith("ETCD_"))
        assert settings["ETCD_NAME"] == '"%s"' % name and settings["ETCD_INITIAL_CLUSTER_STATE"] == '"existing"', out
        return etcd_server.Member(ETCD, name, client, peer, settings["ETCD_INITIAL_CLUSTER"].strip('"'), self.directory,
                                  self.extra + ["--initial-cluster-state", "existing"])

    def start(self, member):
        member.start()
        try:
            wait_for(member.ready, 20, "%s to serve" % member.name)
            wait_for(lambda: self.details(member)[member.id()]["votes"], 20, "%s to vote" % member.name)
        except AssertionError as error:
            raise AssertionError("%s; its log ends:\n%s" % (error, member.log_tail())) from None
        self.members.append(member)
        return member

    def add(self, name):
        return self.start(self.make(name))

    def remove(self, member):
        self.members.remove(member)
        self.ctl("member", "remove", member.id())

    def has_ended(self, member):
        status = member.process.wait(15)
        assert status == 0, (status, member.log_tail())

    def kill(self):
        for member in self.members:
            member.kill()


class Load:
    """Writes that never end, each tried on one member after the other, and what was acknowledged, or failed."""

    def __init__(self, cluster, threads=3):
        self.cluster = cluster
        self.failed = []
        self.acknowledged = [{} for _ in range(threads)]
        self.slowest_s = 0
        self.stopped = False
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        count, at = 0, time.monotonic()
        while not self.stopped:
            key, value = "/load/%d/%d" % (number, count % 500), str(count)
            for member in list(self.cluster.members):
                try:
                    status, _, text = etcd_server.call("%s/v2/keys%s" % (member.endpoint, key), "PUT", "value=" + value, timeout=5)
                except (OSError, etcd_server.http.client.HTTPException) as error:
                    self.failed.append((member.name, error))
                    continue
                if status in (200, 201):
                    self.acknowledged[number][key] = value
                    break
                self.failed.append((member.name, text))
            now = time.monotonic()
            self.slowest_s, at = max(self.slowest_s, now - at), now
            count += 1
            time.sleep(0.002)

    def check(self):
        """Stops it; every write that was acknowledged is there, on every member."""
        self.stopped = True
        for thread in self.threads:
            thread.join(20)
        for member in self.cluster.members:
            _, _, text = etcd_server.call(member.endpoint + "/v2/keys/load?recursive=true&quorum=true")
            there = {node["key"]: node["value"] for directory in json.loads(text)["node"]["nodes"]
                     for node in directory["nodes"]}
            for acknowledged in self.acknowledged:
                for key, value in acknowledged.items():
                    # One that was not acknowledged may have come later.
                    assert int(there[key]) >= int(value), (member.name, key, there[key], value)
        return sum(len(acknowledged) for acknowledged in self.acknowledged)


@cases.case("one member grows to three and five and shrinks to one again, under load, and nothing is lost")
def grow_and_shrink():
    cluster = Growing(1, ["--heartbeat-interval", "50", "--election-timeout", "500"])
    load = Load(cluster)
    for number in range(1, 5):
        cluster.add("infra%d" % number)
        if number in (2, 4):
            time.sleep(0.5)
    assert len(cluster.details()) == 5
    while len(cluster.members) > 1:
        leader = cluster.leader()  # each time the one that matters most
        cluster.remove(leader)
        cluster.has_ended(leader)
        wait_for(lambda: len(cluster.details()) == len(cluster.members), 10, "the members to know")
        cluster.leader()
    assert load.check() > 100
    print("# the slowest write took %.2f s" % load.slowest_s)
    cluster.kill()


@cases.case("a member that joins behind the begin of the log gets a checkpoint and its vote while all writes go on")
def joins_behind_the_log():
    cluster = Growing(3, ["--snapshot-count", "50"])
    for number in range(60):
        assert cluster.members[0].request("PUT", "/v2/keys/ballast/%d" % number, "value=" + "b" * 50000)[0] == 201
    wait_for(lambda: all(m.metrics()["etcd_log_first_index"] > 50 for m in cluster.members), 20, "the logs to be cut")
    term = cluster.leader().metrics()["etcd_server_raft_term"]
    load = Load(cluster)
    member = cluster.add("infra3")
    found = member.metrics()
    assert found["etcd_checkpoints_received_total"] > 0 and found["etcd_server_is_learner"] == 0, found
    assert load.check() > 50
    # No write failed, unless this machine was so slow that its members took a leader for lost.
    assert not load.failed or member.metrics()["etcd_server_raft_term"] != term, load.failed[:3]

    def same():
        answers = [etcd_server.call(m.endpoint + "/v2/keys/?recursive=true&sorted=true") for m in cluster.members]
        return len({(text, headers["X-Etcd-Index"]) for _, headers, text in answers}) == 1
    wait_for(same, 20, "the new member's data to equal the others'")
    gone = next(m for m in cluster.members[:3] if m is not cluster.leader())
    gone.kill()  # of the four three are needed
    cluster.members.remove(gone)
    written(member, "with-its-vote")
    cluster.kill()


@cases.case("a member that was added and did not start yet holds up nothing")
def unstarted():
    cluster = Growing()
    member = cluster.members[0]
    waiting = cluster.make("late")
    for number in range(20):
        assert etcd_server.call(member.endpoint + "/v2/keys/k", "PUT", "value=%d" % number)[0] in (200, 201)
    listed = cluster.ctl("member", "list")
    assert "[unstarted]: peerURLs=" + waiting.peer in listed, listed
    _, _, metrics = etcd_server.call(member.endpoint + "/metrics")
    assert "\netcd_server_learners 1\n" in metrics, metrics
    cluster.start(waiting)
    assert etcd_server.call(waiting.endpoint + "/v2/keys/k?quorum=true")[2].count('"value":"19"') == 1
    cluster.kill()


@cases.case("a dead member is replaced in one step, and all start again with flags of old")
def replace():
    cluster = Growing(3)
    load = Load(cluster)
    time.sleep(0.3)
    dead = next(member for member in cluster.members if member is not cluster.leader())
    dead_id = dead.id()
    cluster.members.remove(dead)
    dead.kill()
    # The same machine, made anew: same peer URL, empty directory.
    peer_port = int(dead.peer.rsplit(":", 1)[1])
    status, out, error = etcdctl(cluster.endpoints(), "member", "replace", dead_id, "anew", "http://127.0.0.1:1/x")
    assert status == 1 and "must not contain a path" in error, (status, out, error)
    successor = cluster.make("anew", peer_port, ("member", "replace", dead_id))
    assert cluster.details()[dead_id]["votes"], "the dead one keeps its vote until the other is there"
    cluster.start(successor)
    wait_for(lambda: dead_id not in cluster.details(), 10, "the dead member to be gone")
    assert len(cluster.details()) == 3
    status, _, error = etcdctl(cluster.endpoints(), "member", "replace", dead_id, "x", "http://127.0.0.1:1")
    assert status == 1 and "permanently removed" in error, error
    # The dead one comes back elsewhere: the others tell it that it is none of them, it stops, and does not start again.
    dead.argv[dead.argv.index("--listen-peer-urls") + 1] = "http://127.0.0.1:%d" % free_port()
    dead.start()
    assert dead.process.wait(15) == 0, dead.log_tail()
    dead.start()
    assert dead.process.wait(15) == 1
    assert "was removed from its cluster" in dead.log_tail(), dead.log_tail()
    load.check()
    load.cluster = cluster
    cluster.kill()
    for member in cluster.members:
        member.argv[member.argv.index("--initial-cluster") + 1] = "%s=%s,gone=http://127.0.0.1:1" % (member.name, member.peer)
        member.start()
    for member in cluster.members:
        wait_for(member.ready, 20, "%s after the restart" % member.name)
    assert load.check() > 50
    cluster.kill()


@cases.case("peer URLs are changed, and a removed leader is followed at once")
def update_and_remove():
    cluster = Growing(3)
    moved = next(member for member in cluster.members if member is not cluster.leader())
    url = "http://127.0.0.1:%d" % free_port()
    cluster.ctl("member", "update", moved.id(), url)
    moved.kill()
    for flag in ("--listen-peer-urls", "--initial-advertise-peer-urls"):
        moved.argv[moved.argv.index(flag) + 1] = url
    moved.start()
    wait_for(moved.ready, 20, "the member at its new URL")
    leader = cluster.leader()
    begun = time.monotonic()
    cluster.remove(leader)
    while True:
        try:
            if etcd_server.call(cluster.members[0].endpoint + "/v2/keys/next", "PUT", "value=1", timeout=5)[0] in (200, 201):
                break
        except OSError:
            pass
    taken = time.monotonic() - begun
    print("# removed, and written to the next leader, after %.2f s" % taken)
    assert taken < 5, taken
    cluster.has_ended(leader)
    cluster.kill()


def is_refused(member):
    try:
        etcd_server.call(member.endpoint + "/version", timeout=2)
    except OSError:
        return True
    return False


@cases.case("a member that was removed and may still be needed serves nobody, and ends when the others know")
def removed_and_needed():
    cluster = Growing(3, QUICK)
    gone = cluster.leader()
    away = next(member for member in cluster.members if member is not gone)
    away.kill()
    cluster.members.remove(away)
    cluster.remove(gone)
    wait_for(lambda: is_refused(gone), 10, "the removed member to send its clients elsewhere")
    time.sleep(2)
    assert gone.process.poll() is None, gone.log_tail()
    away.start()
    cluster.members.append(away)
    wait_for(away.ready, 20, "the member that was away")
    cluster.has_ended(gone)
    cluster.leader()
    assert len(cluster.details()) == 2
    cluster.kill()


def written(member, key, seconds=15):
    """Writes to one member as soon as it can, and that is before the time is over."""
    def attempt():
        return etcd_server.call("%s/v2/keys/%s" % (member.endpoint, key), "PUT", "value=1", timeout=5)[0] in (200, 201)

    try:
        wait_for(attempt, seconds, "a write to %s" % member.name)
    except AssertionError as error:
        raise AssertionError("%s; its log ends:\n%s" % (error, member.log_tail())) from None


def move(cluster, member):
    """By the book: tell the cluster, then start it at its new place."""
    url = "http://127.0.0.1:%d" % free_port()
    cluster.ctl("member", "update", member.id(), url)
    member.kill()
    for flag in ("--listen-peer-urls", "--initial-advertise-peer-urls"):
        member.argv[member.argv.index(flag) + 1] = url
    member.start()
    wait_for(member.ready, 20, "%s at its new URL" % member.name)


@cases.case("a member that was away while another was replaced is reached by that one, and counts when a third dies")
def away_from_replacement():
    cluster = Growing(3, QUICK)
    stays = cluster.leader()
    away, gone = [member for member in cluster.members if member is not stays]
    away.kill()
    cluster.members, gone_id = [stays], gone.id()
    successor = cluster.start(cluster.make("infra3", None, ("member", "replace", gone_id)))
    cluster.has_ended(gone)
    for _ in range(5):
        if cluster.leader() is successor:
            break
        stays.process.send_signal(signal.SIGTERM)  # which hands over
        stays.process.wait(10)
        stays.start()
        wait_for(stays.ready, 20, "%s to be back" % stays.name)
    assert cluster.leader() is successor
    written(successor, "while-away")
    away.start()
    written(away, "back")
    assert etcd_server.call(away.endpoint + "/v2/keys/while-away?quorum=true")[0] == 200
    assert successor.id() in cluster.details(away) and gone_id not in cluster.details(away)
    # Unless another one leads again by now.
    words = "which this member does not know (yet), connects"
    assert words in away.log_tail() or successor.state() != "StateLeader", away.log_tail()
    assert "\netcd_network_peer_strangers 0\n" in etcd_server.call(away.endpoint + "/metrics")[2]
    # Two of three are there.
    stays.kill()
    written(successor, "two-left")
    written(away, "two-left")
    cluster.members = [successor, away]
    cluster.kill()


@cases.case("a member that was away while all others moved is reached by them, whoever leads")
def away_from_moves():
    cluster = Growing(3, QUICK)
    away, *others = sorted(cluster.members, key=lambda member: member is cluster.leader())
    away.kill()
    cluster.members = others
    for member in others:
        move(cluster, member)
        cluster.leader()
    written(others[0], "while-away")
    away.start()
    written(away, "back")
    assert etcd_server.call(away.endpoint + "/v2/keys/while-away?quorum=true")[0] == 200
    leader = cluster.leader()
    leader.kill()
    cluster.members = [away] + [member for member in others if member is not leader]
    for member in cluster.members:
        written(member, "two-left")
    cluster.kill()


@cases.case("SIGTERM to a leader hands over before it ends")
def handover():
    harness.quick_enough(handover_once, 1, "a hand-over (the next write may take half as much more)")


def handover_once():
    cluster = Growing(3)
    leader = cluster.leader()
    others = [member for member in cluster.members if member is not leader]
    begun = time.monotonic()
    leader.process.send_signal(signal.SIGTERM)
    assert leader.process.wait(harness.PATIENCE_S) == -signal.SIGTERM
    ended = time.monotonic() - begun
    wait_for(lambda: etcd_server.call(others[0].endpoint + "/v2/keys/after", "PUT", "value=1", timeout=5)[0] in (200, 201),
             5, "a write")
    written = time.monotonic() - begun
    print("# it ended after %.3f s, the next write was answered after %.3f s" % (ended, written))
    cluster.kill()
    return max(ended, written / 1.5)


@cases.case("--strict-reconfig-check keeps the members that a quorum of started ones needs")
def strict():
    names = ["infra0", "infra1", "infra2"]
    ports = [(free_port(), free_port()) for _ in names]
    initial = ",".join("%s=http://127.0.0.1:%d" % (name, peer) for name, (_, peer) in zip(names, ports))
    directory = harness.temp_dir()
    members = [etcd_server.Member(ETCD, name, client, peer, initial, directory, ["--strict-reconfig-check"])
               for name, (client, peer) in list(zip(names, ports))[:2]]
    for member in members:
        member.start()
    for member in members:
        wait_for(member.ready, 30, "%s to serve" % member.name)
    url = members[0].endpoint + "/v2/members"

    def named():
        return {m["name"]: m["id"] for m in json.loads(etcd_server.call(url)[2])["members"]}

    ids = wait_for(lambda: set(named()) == {"infra0", "infra1", ""} and named(), 20, "two names")
    status, _, text = etcd_server.call(url + "/" + ids["infra1"], "DELETE")
    assert status == 500 and "not enough started members" in json.loads(text)["message"], (status, text)
    status, _, text = etcd_server.call(url, "POST", '{"peerURLs":["http://127.0.0.1:1"]}',
                                          headers={"Content-Type": "application/json"})
    assert status == 201, (status, text)  # it has no vote before it has caught up
    for gone in (json.loads(text)["id"], ids[""]):
        status, _, text = etcd_server.call(url + "/" + gone, "DELETE")
        assert status == 204, (status, text)
    status, _, text = etcd_server.call(url + "/" + ids["infra1"], "DELETE")
    assert status == 204, (status, text)
    status, _, text = etcd_server.call(url + "/" + ids["infra0"], "DELETE")
    assert status == 500 and "not enough started members" in json.loads(text)["message"], (status, text)
    for member in members:
        member.kill()


@cases.case("who may not join is told why")
def refusals():
    cluster = Growing()
    only = cluster.members[0]
    member = cluster.make("two")

    def refused(text, initial=None):
        other = etcd_server.Member(ETCD, "two", free_port(), int(member.peer.rsplit(":", 1)[1]),
                                   initial or "%s=%s,two=%s" % (only.name, only.peer, member.peer), cluster.directory,
                                   ["--initial-cluster-state", "existing"])
        other.start()
        assert other.process.wait(20) == 1, other.log_tail()
        assert text in other.log_tail(), other.log_tail()

    refused("must name the members of the running cluster", "two=" + member.peer)
    refused("answers", "x=http://127.0.0.1:%d,two=%s" % (free_port(), member.peer))
    refused("no member of the running cluster has the peer URLs of wrong",
            "%s=%s,two=%s,wrong=http://127.0.0.1:1" % (only.name, only.peer, member.peer))
    cluster.ctl("member", "remove", next(id for id, m in cluster.details().items() if not m["votes"]))
    refused("etcdctl member add two " + member.peer)
    # A member that lost its directory may not come back as who it was.
    second = cluster.add("three")
    second.kill()
    shutil.rmtree(os.path.join(second.directory, second.name))
    second.start()
    assert second.process.wait(20) == 1 and "member replace" in second.log_tail(), second.log_tail()
    cluster.kill()


cases.run()
