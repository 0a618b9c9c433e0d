#!/usr/bin/env python3
"""Checkpoints of real members: a restart loads one instead of replaying everything, the log is cut behind it, a damaged one
is refused, one that a bad disk does not take is made later, and a member that was away for long gets one while writes go on."""
import errno
import glob
import json
import os
import signal
import socket
import threading
import urllib.request

import harness
from harness import Cases, wait_for
from etcd_server import Cluster, Member, call, ours

cases = Cases()
VALUE = "v" * 100000


def put(member, key, value, timeout=60):
    status, _, text = call("%s/v2/keys/%s" % (member.endpoint, key), "PUT", "value=" + value, timeout)
    assert status in (200, 201), (status, text)


def value_of(member, key, query=""):
    return json.loads(call("%s/v2/keys/%s%s" % (member.endpoint, key, query))[2])["node"]["value"]


def log_directory(member):
    return os.path.join(member.directory, member.name, "flotilla", "log")


def log_bytes(member):
    return sum(os.path.getsize(path) for path in glob.glob(os.path.join(log_directory(member), "*.wal")))


def disk_bytes(member):
    return sum(os.path.getsize(path) for path in glob.glob(os.path.join(log_directory(member), "*")))


def restart(member):
    member.kill()
    member.process.wait()
    member.start()
    wait_for(member.ready, 30, "%s to serve again" % member.name)


def fill(member, first, last, keys=10):
    for number in range(first, last):
        put(member, "fill/%d" % (number % keys), "%d-%s" % (number, VALUE))


class Failing:
    """A member whose disk refuses one kind of call on some of its files (see faults.c) until it is told otherwise."""

    def __init__(self, kind, error, skip, name):
        self.what, self.error, self.renamed = "%s %d %d %s" % (kind, error, skip, name), error, name == "log"
        release = os.environ.get("FLOTILLA_RELEASE", harness.BUILD)  # a sanitizer does not like to be preloaded
        directory, peer = harness.temp_dir(), harness.free_port()
        self.control = os.path.join(directory, "control")
        self.member = Member(os.path.join(release, "etcd"), "infra0", harness.free_port(), peer,
                             "infra0=http://127.0.0.1:%d" % peer, directory, ["--snapshot-count", "20"],
                             env={"LD_PRELOAD": os.path.join(release, "tests/system/faults.so"),
                                  "FAULTS_DIR": os.path.join(directory, "infra0/"), "FAULTS_CONTROL": self.control})
        self.member.start()

    def fail(self):
        with open(self.control + ".new", "w") as file:
            file.write(self.what + "\n")
        os.rename(self.control + ".new", self.control)

    def mend(self):
        os.unlink(self.control)

    def write(self, key):
        """Whether it was taken; else there is no space."""
        status, _, text = call("%s/v2/keys/%s" % (self.member.endpoint, key), "PUT", "value=1")
        is_full = self.error == errno.ENOSPC and status == 500 and "space exceeded" in text
        assert status in (200, 201) or is_full, (status, text)
        return not is_full

    def told(self):
        with open(os.path.join(self.member.directory, "infra0.log")) as log:
            return log.read()


# The data file, then the one that names it, at its place; last the directory, when it is there.
FAILURES = [("create", errno.EIO, 0, ".checkpoint"), ("write", errno.EIO, 0, ".checkpoint"),
            ("sync", errno.EIO, 0, ".checkpoint"), ("torn", errno.ENOSPC, 0, ".checkpoint"),
            ("create", errno.ENOSPC, 0, "CHECKPOINT"), ("rename", errno.EIO, 0, "CHECKPOINT"), ("sync", errno.EIO, 1, "log")]
failing = []


@cases.case("a checkpoint that the disk does not take ends nobody: the member says so, serves on, and keeps its log")
def _():
    failing.extend(Failing(*failure) for failure in FAILURES)
    for each in failing:
        wait_for(each.member.ready, 30, "the member with %s" % each.what)
        for number in range(10):
            put(each.member, "before/%d" % number, str(number))
        each.fail()
        for number in range(12):  # the last ones may meet the alarm of a full disk
            each.write("due/%d" % number)
    for each in failing:
        text = "a checkpoint could not be written (%s): the log cannot be cut; it is tried again" % os.strerror(each.error)
        wait_for(lambda: text in each.told(), 20, "%s after %s; its log is:\n%s" % (text, each.what, each.told()))
        found = each.member.metrics()
        assert found["etcd_checkpoints_written_total"] == found["etcd_checkpoint_index"] == 0, (each.what, found)
        assert os.path.exists(os.path.join(log_directory(each.member), "CHECKPOINT")) == each.renamed, each.what
        assert value_of(each.member, "before/9", "?quorum=true") == "9"
        if each.error == errno.ENOSPC:
            assert not each.write("more")
            assert call(each.member.endpoint + "/v2/keys/before/0", "DELETE")[0] == 200
        else:
            for number in range(30):
                assert each.write("meanwhile/%d" % number)
            assert each.member.metrics()["etcd_log_first_index"] == 1, each.what
        each.mend()


@cases.case("the log is cut behind checkpoints, and a restart loads the newest one")
def _():
    cluster = Cluster(ours(), 1, ["--snapshot-count", "100"])
    member = cluster.members[0]
    for first in range(0, 1000, 100):  # one after the other: they rest between, the longer the slower the disk is
        fill(member, first, first + 100)
        wait_for(lambda: member.metrics()["etcd_checkpoint_index"] >= first, 10, "a checkpoint")
    found = member.metrics()
    assert found["etcd_checkpoints_written_total"] >= 5, found
    assert found["etcd_log_first_index"] > 500, found
    # 100 MB were written; what is left: the segments in use and the spare one. (The checkpoint itself holds the history.)
    wait_for(lambda: log_bytes(member) < 60e6, 10, "the log to be cut (%d bytes)" % log_bytes(member))
    wait_for(lambda: member.metrics()["etcd_log_disk_bytes"] == log_bytes(member), 10, "the metric to tell what is there")
    restart(member)
    assert member.metrics()["etcd_checkpoint_index"] >= 900
    assert "loaded the checkpoint of index" in member.log_tail(), member.log_tail()
    for number in range(990, 1000):
        assert value_of(member, "fill/%d" % (number % 10)).startswith("%d-" % number)
    fill(member, 1000, 1010)
    restart(member)
    assert value_of(member, "fill/9").startswith("1009-")
    cluster.kill()


@cases.case("the disk follows the data down: large values that were deleted leave the checkpoint too")
def _():
    cluster = Cluster(ours(), 1, ["--snapshot-count", "100"])
    member = cluster.members[0]
    fill(member, 0, 600, keys=600)
    wait_for(lambda: member.metrics()["etcd_checkpoint_index"] >= 500, 10, "a checkpoint")
    wait_for(lambda: sum(map(os.path.getsize, glob.glob(log_directory(member) + "/*.checkpoint"))) > 40e6, 10,
             "a large checkpoint")
    assert call(member.endpoint + "/v2/keys/fill?recursive=true", "DELETE")[0] == 200
    for number in range(1300):  # more events than the history keeps, so that it lets go of the values as well
        put(member, "small", str(number))
    wait_for(lambda: sum(map(os.path.getsize, glob.glob(log_directory(member) + "/*.checkpoint"))) < 1e6, 10,
             "a small checkpoint")
    wait_for(lambda: disk_bytes(member) < 60e6, 10, "a small log")
    cluster.kill()


@cases.case("a damaged checkpoint is refused with what to do, and nothing is changed")
def _():
    cluster = Cluster(ours(), 1, ["--snapshot-count", "50"])
    member = cluster.members[0]
    fill(member, 0, 120)
    wait_for(lambda: member.metrics()["etcd_checkpoint_index"] >= 70, 10, "a checkpoint")
    wait_for(lambda: len(glob.glob(log_directory(member) + "/*.checkpoint")) == 1, 10, "the old one to go")
    member.kill()
    member.process.wait()
    path = glob.glob(log_directory(member) + "/*.checkpoint")[0]
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    before = {name: os.path.getmtime(name) for name in glob.glob(log_directory(member) + "/*")}
    member.start()
    assert member.process.wait(60) != 0
    text = member.log_tail()
    assert os.path.basename(path) in text and "damaged" in text and "--rebuild" in text, text
    assert before == {name: os.path.getmtime(name) for name in glob.glob(log_directory(member) + "/*")}
    with open(path, "r+b") as file:  # mended, it starts
        file.seek(os.path.getsize(path) // 2)
        file.write(byte)
    member.start()
    wait_for(member.ready, 30, "the member to serve again")
    assert value_of(member, "fill/9").startswith("119-")
    cluster.kill()


class Writer(threading.Thread):
    """Writes 1, 2, 3 ... until it is told to stop; remembers the longest wait."""

    def __init__(self, member):
        super().__init__(daemon=True)
        self.member, self.last, self.problem, self.ended = member, 0, None, threading.Event()
        self.start()

    def run(self):
        while not self.ended.is_set():
            try:
                put(self.member, "counter", str(self.last + 1), timeout=60)
                self.last += 1
            except Exception as error:  # told to the case
                self.problem = error
                return

    def stop(self):
        self.ended.set()
        self.join(60)
        assert not self.problem, self.problem
        return self.last


def follower(cluster):
    leader = wait_for(cluster.leader, 20, "a leader")
    return leader, [member for member in cluster.members if member is not leader][0]


@cases.case("a member that was away for long gets a checkpoint while writes go on")
def _():
    cluster = Cluster(ours(), 3, ["--snapshot-count", "50"])
    leader, away = follower(cluster)
    away.kill()
    away.process.wait()
    fill(leader, 0, 300)
    wait_for(lambda: leader.metrics()["etcd_log_first_index"] > 100, 10, "the log to be cut")
    writer = Writer(leader)
    away.start()
    wait_for(away.ready, 30, "the member to serve again")
    wait_for(lambda: away.metrics()["etcd_checkpoints_received_total"] >= 1, 30, "the transfer")
    wait_for(lambda: sum(member.metrics()["etcd_checkpoints_sent_total"] for member in cluster.members if member is not away) >= 1,
             10, "its sender to know")
    last = writer.stop()
    assert last > 0
    assert int(value_of(away, "counter", "?quorum=true")) == last
    for number in range(290, 300):
        assert value_of(away, "fill/%d" % (number % 10)).startswith("%d-" % number)
    wait_for(lambda: away.index() == leader.index(), 10, "the same index")
    restart(away)
    assert int(value_of(away, "counter")) == last
    cluster.kill()


@cases.case("watches on a member that takes a checkpoint over end, and a new one goes on")
def _():
    cluster = Cluster(ours(), 3, ["--snapshot-count", "50"])
    leader, away = follower(cluster)
    put(leader, "watched", "0")
    value_of(away, "watched", "?quorum=true")  # it has it too: the watch must not be answered by this write
    answers = []
    # More than are ended in one turn; some of their clients leave meanwhile.
    others = [socket.create_connection(("127.0.0.1", int(away.endpoint.rsplit(":", 1)[1])), 60) for _ in range(600)]
    for other in others:
        other.sendall(b"GET /v2/keys/others?wait=true HTTP/1.1\r\nHost: test\r\n\r\n")

    def watch():
        with urllib.request.urlopen(away.endpoint + "/v2/keys/watched?wait=true", timeout=60) as answer:
            answers.append(answer.read().decode())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wait_for(lambda: away.metrics()["etcd_store_watchers"] == 1 + len(others), 10, "the watches")
    away.process.send_signal(signal.SIGSTOP)
    for other in others[::7]:
        other.close()
    fill(leader, 0, 400)
    wait_for(lambda: leader.metrics()["etcd_log_first_index"] > 100, 10, "the log to be cut")
    away.process.send_signal(signal.SIGCONT)
    wait_for(lambda: away.metrics()["etcd_checkpoints_received_total"] >= 1, 30, "the transfer")
    watcher.join(60)
    assert answers == [""], answers
    for number, other in enumerate(others):
        if number % 7:
            text = b""
            while not text.endswith(b"\r\n0\r\n\r\n"):
                piece = other.recv(4096)
                assert piece, text
                text += piece
            other.close()
    wait_for(lambda: away.metrics()["etcd_store_watchers"] == 0, 10, "all watches to end")
    index = away.index()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wait_for(lambda: away.metrics()["etcd_store_watchers"] == 1, 10, "the next watch")
    put(leader, "watched", "1")
    watcher.join(60)
    assert '"value":"1"' in answers[1], (index, answers)
    cluster.kill()


@cases.case("of the members whose checkpoints failed, each has written one since its disk is well again")
def _():
    for each in failing:
        member = each.member
        wait_for(lambda: member.metrics()["etcd_checkpoints_written_total"] > 0, 30, "a checkpoint after %s" % each.what)
        wait_for(lambda: member.metrics()["etcd_log_first_index"] > 20, 10, "the log to be cut after %s" % each.what)
        wait_for(lambda: call(member.endpoint + "/health")[0] == 200, 30, "health after %s" % each.what)
        put(member, "after", "1")
        wait_for(lambda: len(glob.glob(log_directory(member) + "/*.checkpoint")) == 1, 10, "the failed one to go")
        restart(member)
        assert "loaded the checkpoint of index" in member.log_tail(), member.log_tail()
        assert value_of(member, "before/9") == "9" and value_of(member, "after") == "1", each.what
        member.kill()


cases.run()
