#!/usr/bin/env python3
"""Three members as real processes under write load: any of them is killed with SIGKILL, again and again. No acknowledged
write is lost, no linearizable read is stale, and writes go on soon after each kill."""
import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.parse

from harness import Cases, free_port, kill, program, start, temp_dir, wait_for

cases = Cases()
KILLS = 20
WRITERS, READERS = 4, 3


class Member:
    def __init__(self, name, directory):
        self.name, self.dir = name, os.path.join(directory, name)
        self.client, self.peer = free_port(), free_port()
        self.process = None

    def start(self, members):
        cluster = ",".join("%s=http://127.0.0.1:%d" % (m.name, m.peer) for m in members)
        client, peer = "http://127.0.0.1:%d" % self.client, "http://127.0.0.1:%d" % self.peer
        self.process = start([program("etcd"), "--name", self.name, "--data-dir", self.dir, "--listen-client-urls", client,
                              "--advertise-client-urls", client, "--listen-peer-urls", peer,
                              "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster],
                             stdout=open(self.dir + ".log", "a"), stderr=subprocess.STDOUT)

    def request(self, method, path, body=None, timeout_s=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.client, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def state(self):
        return self.request("GET", "/v2/stats/self", timeout_s=1)[1]["state"]


class Register:
    """One key with one writer, who writes 1, 2, 3 …: what a read may answer follows from what was acknowledged."""

    def __init__(self, key):
        self.key = key
        self.lock = threading.Lock()
        self.acknowledged = 0  # the last value whose write was answered with success
        self.attempted = 0     # the last value whose write was begun
        self.seen = 0          # the largest value that a finished read has answered

    def floor(self):
        with self.lock:
            return max(self.acknowledged, self.seen)


class Load:
    def __init__(self, members):
        self.members, self.stop, self.problems = members, threading.Event(), []
        self.registers = [Register("/load/%d" % i) for i in range(WRITERS)]
        self.writes = self.reads = 0
        self.last_ack = time.monotonic()
        self.threads = [threading.Thread(target=self.write, args=(i,)) for i in range(WRITERS)]
        self.threads += [threading.Thread(target=self.read, args=(i,)) for i in range(READERS)]
        for thread in self.threads:
            thread.start()

    def write(self, number):
        register, turn = self.registers[number], number
        while not self.stop.is_set():
            value = register.attempted + 1
            register.attempted = value
            try:
                status, _ = self.members[turn % 3].request("PUT", "/v2/keys" + register.key,
                                                           urllib.parse.urlencode({"value": value}))
            except (OSError, http.client.HTTPException, ValueError):
                status = None
            if status in (200, 201):
                with register.lock:
                    register.acknowledged = value
                self.writes += 1
                self.last_ack = time.monotonic()
            else:
                turn += 1
                time.sleep(0.02)

    def read(self, number):
        turn = number
        while not self.stop.is_set():
            register = self.registers[turn % WRITERS]
            floor = register.floor()
            try:
                status, body = self.members[turn % 3].request("GET", "/v2/keys%s?quorum=true" % register.key)
            except (OSError, http.client.HTTPException, ValueError):
                status = None
            if status == 200:
                value = int(body["node"]["value"])
                ceiling = register.attempted
                if not floor <= value <= ceiling:
                    self.problems.append("%s read %d, but %d had been seen and %d begun" %
                                         (register.key, value, floor, ceiling))
                with register.lock:
                    register.seen = max(register.seen, value)
                self.reads += 1
            elif status == 404 and floor > 0:
                self.problems.append("%s is gone, but %d had been acknowledged" % (register.key, floor))
            turn += 1
            time.sleep(0.002)

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.problems, "\n".join(self.problems[:10])


def start_cluster():
    directory = temp_dir()
    members = [Member("m%d" % i, directory) for i in range(3)]
    for member in members:
        member.start(members)
    wait_for(lambda: any(m.state() == "StateLeader" for m in members), 20, "a leader")
    return members


def leader_of(members):
    for member in members:
        try:
            if member.process.poll() is None and member.state() == "StateLeader":
                return member
        except (OSError, http.client.HTTPException, ValueError):
            pass
    return None


def check_final(members, load):
    for register in load.registers:
        for member in members:
            def settled(m=member, r=register):
                status, body = m.request("GET", "/v2/keys%s?quorum=true" % r.key)
                return (status, body) if status == 200 else None
            _, body = wait_for(settled, 20, "a read of " + register.key)
            value = int(body["node"]["value"])
            assert register.acknowledged <= value <= register.attempted, (register.key, value, register.acknowledged)


@cases.case("no acknowledged write is lost and no linearizable read is stale when any member is killed, %d times" % KILLS)
def killed_again_and_again():
    members = start_cluster()
    load = Load(members)
    gaps = []
    try:
        for round_number in range(KILLS):
            time.sleep(0.5)
            # Every other time the leader, else the members in turn.
            victim = (leader_of(members) if round_number % 2 else None) or members[round_number % 3]
            killed = time.monotonic()
            kill(victim.process, signal.SIGKILL)
            wait_for(lambda: load.last_ack > killed + 0.001, 20, "a write after the kill of " + victim.name)
            gaps.append(load.last_ack - killed)
            time.sleep(0.3)
            victim.start(members)
            wait_for(lambda: victim.request("GET", "/health", timeout_s=1)[0] == 200, 30, victim.name + " is back")
    finally:
        load.finish()
    check_final(members, load)
    print("# %d writes and %d reads; after a kill the next write was acknowledged in %.2f s (median), %.2f s (worst)" %
          (load.writes, load.reads, sorted(gaps)[len(gaps) // 2], max(gaps)))
    assert load.writes > 200 and load.reads > 200


@cases.case("all three killed at once come back with everything that was acknowledged")
def all_killed():
    members = start_cluster()
    load = Load(members)
    time.sleep(2)
    for member in members:
        kill(member.process, signal.SIGKILL)
    load.finish()
    for member in members:
        member.start(members)
    wait_for(lambda: leader_of(members), 20, "a leader")
    check_final(members, load)


@cases.case("a stopped leader is replaced, and serves nothing stale when it goes on")
def stopped_leader():
    members = start_cluster()
    load = Load(members)
    try:
        time.sleep(0.5)
        leader = leader_of(members)
        os.kill(leader.process.pid, signal.SIGSTOP)
        others = [member for member in members if member is not leader]
        wait_for(lambda: leader_of(others), 20, "a new leader")
        stopped = time.monotonic()
        wait_for(lambda: load.last_ack > stopped, 20, "a write under the new leader")
        os.kill(leader.process.pid, signal.SIGCONT)
        time.sleep(1.5)
    finally:
        load.finish()
    check_final(members, load)


@cases.case("without a majority nothing is acknowledged, and afterwards everything goes on")
def no_majority():
    members = start_cluster()
    assert members[0].request("PUT", "/v2/keys/a", "value=1")[0] == 201
    for member in members[1:]:
        kill(member.process, signal.SIGKILL)
    time.sleep(2)
    try:
        status = members[0].request("PUT", "/v2/keys/a", "value=2", timeout_s=20)[0]
    except OSError:
        status = None
    assert status not in (200, 201), status
    # A plain read is local and keeps working, as etcd's does.
    assert members[0].request("GET", "/v2/keys/a")[1]["node"]["value"] == "1"
    members[1].start(members)
    wait_for(lambda: leader_of(members), 20, "a leader")
    wait_for(lambda: members[0].request("PUT", "/v2/keys/b", "value=3")[0] in (200, 201), 20, "a write")


cases.run()
