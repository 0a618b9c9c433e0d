#!/usr/bin/env python3
"""A disk that runs full, on a small file system of its own: the member refuses what grows the store and says so, deletes go
through, reads and restarts work, and with space again it goes on by itself."""
import json
import os
import subprocess
import sys
import time

import harness
from harness import Cases, wait_for
from etcd_server import Cluster, call, ours

INSIDE = "FLOTILLA_TEST_INSIDE"
if os.environ.get(INSIDE) is None:
    # A mount namespace of our own, so that what is mounted goes with us.
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], stderr=subprocess.DEVNULL)
    words = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if os.getuid() != 0 and probe.returncode != 0:
        print("1..0 # SKIP no namespaces here")
        sys.exit(0)
    os.environ[INSIDE] = "1"
    os.execvp(words[0], words + [sys.executable] + sys.argv)

cases = Cases()
MEGABYTE = 1 << 20


def on_small_disk(megabytes):
    """A one-member cluster whose data directory is a tmpfs of that size."""
    cluster = Cluster(ours(), 1)
    member = cluster.members[0]
    member.kill()
    member.process.wait()
    data = os.path.join(member.directory, member.name)
    harness.shutil.rmtree(data)
    os.mkdir(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=700" % megabytes, "none", data], check=True)
    member.start()
    wait_for(member.ready, 30, "the member to serve from its small disk")
    return cluster, member, data


def put(member, key, size):
    return call("%s/v2/keys/%s" % (member.endpoint, key), "PUT", "value=" + "v" * size, 20)


def alarm(member):
    for line in call(member.endpoint + "/metrics")[2].splitlines():
        if line.startswith("etcd_server_space_alarm "):
            return int(line.split()[1])
    raise KeyError("no such metric")


def refused(member, key):
    status, _, text = put(member, key, 200000)
    if status in (200, 201):
        return False
    body = json.loads(text)
    assert status == 500 and body["errorCode"] == 300, (status, text)
    assert body["cause"] == "etcdserver: mvcc: database space exceeded", text
    return True


def ends(member, timeout_s):
    """Whether the alarm ends by itself: a checkpoint under way gives back the log before it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if alarm(member) == 0:
            return True
        time.sleep(0.1)
    return False


def fill(member, most, patience_s=0):
    """Writes until it is refused, and the alarm stays for so long; how many writes were taken."""
    for number in range(most):
        while refused(member, "fill/%d" % number):
            if not ends(member, patience_s):
                return number
    raise AssertionError("%d writes were taken" % most)


@cases.case("a full disk: growth is refused with an alarm, deletes go through, and it recovers by itself")
def _():
    cluster, member, data = on_small_disk(100)
    taken = fill(member, 600, 8)
    assert taken > 100, taken
    assert alarm(member) >= 1
    status, _, text = call(member.endpoint + "/health")
    assert status == 503 and json.loads(text) == {"health": "false", "reason": "ALARM NOSPACE"}, (status, text)
    assert "not enough space left on the disk" in member.log_tail(), member.log_tail()
    for number in range(0, taken, 2):
        status, _, text = call("%s/v2/keys/fill/%d" % (member.endpoint, number), "DELETE")
        assert status == 200, (number, status, text, alarm(member), os.listdir(data + "/flotilla/log"), member.log_tail())
    assert call(member.endpoint + "/v2/keys/fill/1?quorum=true")[0] == 200
    member.kill()
    member.process.wait()
    member.start()
    wait_for(member.ready, 30, "the member to serve again from a full disk")
    assert call(member.endpoint + "/v2/keys/fill/0")[0] == 404
    assert call(member.endpoint + "/v2/keys/fill/1")[0] == 200
    # Room is made from outside: the disk grows.
    subprocess.run(["mount", "-o", "remount,size=300m", data], check=True)
    wait_for(lambda: alarm(member) == 0, 30, "the alarm to end")
    assert call(member.endpoint + "/health")[0] == 200
    assert put(member, "more", 200000)[0] == 201
    cluster.kill()


@cases.case("a disk that the store has filled, alarm by alarm, gives space back when keys are deleted")
def _():
    cluster, member, _ = on_small_disk(150)
    taken = fill(member, 1000, 2)
    assert taken > 100, taken
    status, _, text = call("%s/v2/keys/fill?recursive=true" % member.endpoint, "DELETE")
    assert status == 200, (status, text)
    wait_for(lambda: put(member, "again", 1000)[0] in (200, 201), 60, "writes to be taken again")
    cluster.kill()


@cases.case("an identity that cannot be written: the member serves, says so, and writes it when it can")
def _():
    cluster = Cluster(ours(), 1)
    member = cluster.members[0]
    own = os.path.join(member.directory, member.name, "flotilla")
    identity = os.path.join(own, "identity")
    wait_for(lambda: "log yes" in open(identity).read(), 10, "the identity to tell of the log")
    member.kill()
    member.process.wait()
    with open(identity, "r+") as file:
        text = file.read().replace("log yes", "log no")
        file.seek(0)
        file.truncate()
        file.write(text)
    # Only what a running member needs can be written.
    for path in own, own + "/log", own + "/LOCK":
        subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", own], check=True)
    member.start()
    wait_for(member.ready, 30, "the member to serve")
    wait_for(lambda: "does not know that this member has a log" in member.log_tail(), 10, "the warning")
    assert put(member, "key", 10)[0] == 201
    assert "log no" in open(identity).read()
    subprocess.run(["mount", "-o", "remount,bind,rw", own], check=True)
    wait_for(lambda: "log yes" in open(identity).read(), 20, "the identity to be written after all")
    assert put(member, "key", 10)[0] == 200
    cluster.kill()


cases.run()
