#!/usr/bin/env python3
"""`etcdctl snapshot`: a running store saved to a file while writes go on, the file checked, and a new cluster made from it."""
import http.client
import json
import os
import socket
import subprocess
import threading

import formats
import harness
from harness import Cases, wait_for
from etcd_server import Cluster, Member, call, ours

cases = Cases()


def etcdctl(*words, endpoint=None, expect=0):
    """(stdout, stderr) of one call."""
    argv = [harness.program("etcdctl")] + (["--endpoints", endpoint] if endpoint else []) + list(words)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == expect, (argv, done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


def put(member, key, value):
    status, _, text = call("%s/v2/keys/%s" % (member.endpoint, key), "PUT", "value=" + value)
    assert status in (200, 201), (status, text)


def value_of(member, key):
    return json.loads(call("%s/v2/keys/%s?quorum=true" % (member.endpoint, key))[2])["node"]["value"]


def restored(names, path, directory):
    """A started cluster of these names from the snapshot."""
    ports = [(harness.free_port(), harness.free_port()) for _ in names]
    cluster = ",".join("%s=http://127.0.0.1:%d" % (name, peer) for name, (_, peer) in zip(names, ports))
    members = []
    for name, (client, peer) in zip(names, ports):
        member = Member(ours(), name, client, peer, cluster, directory, ["--initial-cluster-token", "again"])
        etcdctl("snapshot", "restore", path, "--name", name, "--data-dir", os.path.join(directory, name),
                "--initial-cluster", cluster, "--initial-advertise-peer-urls", member.peer,
                "--initial-cluster-token", "again")
        members.append(member)
    for member in members:
        member.start()
    for member in members:
        wait_for(member.ready, 30, "%s to serve" % member.name)
    return members


@cases.case("a snapshot saved under load holds all that was acknowledged before, and becomes a new cluster")
def _():
    cluster = Cluster(ours(), 3)
    directory = harness.temp_dir()
    path = os.path.join(directory, "saved")
    for number in range(300):
        put(cluster.members[number % 3], "k%d" % number, "v%d" % number)
    done = threading.Event()

    def write():
        number = 0
        while not done.is_set():
            put(cluster.members[0], "busy", str(number))
            number += 1

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    out, _ = etcdctl("snapshot", "save", path, endpoint=cluster.members[1].endpoint)
    done.set()
    writer.join(20)
    assert path in out, out
    assert os.stat(path).st_mode & 0o777 == 0o600
    words = etcdctl("snapshot", "status", path)[0].strip().split(", ")
    assert len(words) == 4 and int(words[1]) >= 300 and int(words[2]) >= 300, words
    put(cluster.members[0], "k0", "later")
    members = restored(["new0", "new1"], path, directory)
    for number in range(0, 300, 23):
        assert value_of(members[number % 2], "k%d" % number) == "v%d" % number
    found = {member["name"] for member in json.loads(call(members[0].endpoint + "/v2/members")[2])["members"]}
    assert found == {"new0", "new1"}, found
    put(members[1], "more", "1")
    for member in members:
        member.kill()
        member.process.wait()
        member.start()
    for member in members:
        wait_for(member.ready, 30, "%s to serve again" % member.name)
    assert value_of(members[0], "more") == "1" and value_of(cluster.members[0], "k0") == "later"
    for member in members:
        member.kill()
    cluster.kill()


@cases.case("help tells of it")
def _():
    assert "\n   snapshot\t" in etcdctl("help")[0]
    for words in (["help", "snapshot"], ["snapshot", "help"], ["snapshot", "--help"]):
        assert "snapshot restore FILE" in etcdctl(*words)[0] and "new for each restore" in etcdctl(*words)[0], words
    assert "snapshot restore FILE" in etcdctl("snapshot", "frob", expect=1)[1]


@cases.case("a damaged, cut or foreign file is refused, or one of a newer format, and so is a directory in use")
def _():
    cluster = Cluster(ours(), 1)
    member = cluster.members[0]
    directory = harness.temp_dir()
    path, bad = os.path.join(directory, "saved"), os.path.join(directory, "bad")
    put(member, "key", "v" * 3000)
    etcdctl("snapshot", "save", path, endpoint=member.endpoint)
    with open(path, "rb") as file:
        whole = file.read()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        with open(bad, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        error = etcdctl("snapshot", "status", bad, expect=1)[1]
        assert bad in error, error
        error = etcdctl("snapshot", "restore", bad, "--data-dir", os.path.join(directory, "never"), expect=1)[1]
        assert bad in error and not os.path.exists(os.path.join(directory, "never")), error
    for wrong in (whole[:-1], whole + b"x", b""):
        with open(bad, "wb") as file:
            file.write(wrong)
        etcdctl("snapshot", "status", bad, expect=1)
    for part, told in {"manifest": "the checkpoint is of format 2, this version knows 1: use a newer version",
                       "section": "the checkpoint has a section of kind 1, version 2, which this version does not know: "
                                  "use a newer version"}.items():
        newer = formats.newer_manifest(whole, part)
        with open(bad, "wb") as file:
            file.write(newer)
        never = os.path.join(directory, "never")
        for words in ["status", bad], ["restore", bad, "--data-dir", never]:
            error = etcdctl("snapshot", *words, expect=1)[1]
            assert error == "Error:  %s: %s\n" % (bad, told), error
        assert open(bad, "rb").read() == newer and not os.path.exists(never)
    error = etcdctl("snapshot", "restore", path, "--data-dir", os.path.join(member.directory, member.name), expect=1)[1]
    assert "in use" in error, error
    for words in (["--name", "a\nmember 1"], ["--name", "a", "--initial-cluster", "a=http://h:1,b\nc=http://h:2"]):
        error = etcdctl("snapshot", "restore", path, "--data-dir", os.path.join(directory, "never"), *words, expect=1)[1]
        assert "must not contain control characters" in error and not os.path.exists(os.path.join(directory, "never")), error
    error = etcdctl("snapshot", "save", path, endpoint="http://127.0.0.1:%d" % harness.free_port(), expect=1)[1]
    assert "refused" in error and open(path, "rb").read() == whole, error
    cluster.kill()


@cases.case("a snapshot whose name cannot be made durable is not called saved")
def _():
    release = os.environ.get("FLOTILLA_RELEASE", harness.BUILD)  # a sanitizer does not like to be preloaded
    cluster = Cluster(ours(), 1)
    directory = os.path.realpath(harness.temp_dir())
    path, control = os.path.join(directory, "saved"), os.path.join(harness.temp_dir(), "control")
    put(cluster.members[0], "key", "1")
    argv = [os.path.join(release, "etcdctl"), "--endpoints", cluster.members[0].endpoint, "snapshot", "save", path]
    env = dict(os.environ, LD_PRELOAD=os.path.join(release, "tests/system/faults.so"), FAULTS_DIR=directory,
               FAULTS_CONTROL=control)
    for synced, expected in ((0, "cannot write"), (1, "save it somewhere else"), (2, None)):
        with open(control, "w") as file:
            file.write("sync 5 %d\n" % synced)
        done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode == 0) == (expected is None), (synced, done)
        assert ("saved at" in done.stdout) == (expected is None) and (expected or "") in done.stderr, (synced, done)
    cluster.kill()


@cases.case("a client that reads nothing holds nothing up, and too many of them are told so")
def _():
    # The release: what a sanitizer keeps of freed memory is no matter of ours.
    cluster = Cluster(os.path.join(os.environ.get("FLOTILLA_RELEASE", harness.BUILD), "etcd"), 1, ["--snapshot-count", "50"])
    member = cluster.members[0]
    for number in range(80):
        put(member, "big%d" % number, "v" * 200000)
    host, port = member.endpoint[len("http://"):].split(":")
    slow = []
    for _ in range(4):
        connection = socket.create_connection((host, int(port)), 10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /flotilla/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.append(connection)
    for connection in slow:
        assert connection.recv(12) == b"HTTP/1.1 200", "each is served"
    status, _, text = call(member.endpoint + "/flotilla/snapshot")
    assert status == 503 and "too many" in text, (status, text)
    for number in range(200):
        put(member, "small", str(number))
    with open("/proc/%d/status" % member.process.pid) as file:
        resident = int([line for line in file if line.startswith("VmRSS")][0].split()[1])
    assert resident < 100000, "%d kB resident" % resident
    for connection in slow:
        connection.close()

    def saves():
        try:
            answer = call(member.endpoint + "/flotilla/snapshot", timeout=30)
            return answer[0] == 200 and len(answer[2]) > 0
        except (OSError, http.client.HTTPException):
            return False

    wait_for(saves, 20, "a place to be free again")
    cluster.kill()


cases.run()
