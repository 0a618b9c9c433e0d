#!/usr/bin/env python3
"""A member whose data is damaged says so and what to do, and `etcd --rebuild` gets it anew from the others: with the same
directory, name and flags, under a new id, while writes go on; nothing is lost and the damaged files are kept."""
import glob
import json
import os
import shutil
import threading
import time

import formats
import harness
from harness import Cases, wait_for
from etcd_server import Cluster, call, ours

cases = Cases()


def put(member, key, value):
    status, _, text = call("%s/v2/keys/%s" % (member.endpoint, key), "PUT", "value=" + value)
    assert status in (200, 201), (status, text)


def value_of(member, key):
    return json.loads(call("%s/v2/keys/%s?quorum=true" % (member.endpoint, key))[2])["node"]["value"]


def own(member):
    return os.path.join(member.directory, member.name, "flotilla")


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 4]))


def damage_log(member):
    path = sorted(name for name in glob.glob(own(member) + "/log/0*.wal"))[0]
    flip(path, 300)
    return path


def damage_checkpoint(member):
    path = glob.glob(own(member) + "/log/*.checkpoint")[0]
    flip(path, os.path.getsize(path) // 2)
    return path


def lose_sector(member, path):
    """A page in the middle of the file cannot be read from now on; what is written under its name later can be."""
    # The release: a sanitizer does not like to be preloaded.
    release = os.environ.get("FLOTILLA_RELEASE", harness.BUILD)
    member.argv[0] = os.path.join(release, "etcd")
    with open(path, "rb") as file:
        size = len(file.read().rstrip(b"\0"))
    member.env = {"LD_PRELOAD": os.path.join(release, "tests/system/faults.so"),
                  "FAULTS_SECTOR": "%d %d" % (os.stat(path).st_ino, size // 2 // 4096 * 4096)}
    return path


def lose_log_sector(member):
    return lose_sector(member, sorted(glob.glob(own(member) + "/log/0*.wal"))[0])


def lose_checkpoint_sector(member):
    """First of the file that names the others, which is refused as well."""
    lose_sector(member, own(member) + "/log/CHECKPOINT")
    member.start()
    assert member.process.wait(20) == 1
    said = member.log_tail()
    assert "CHECKPOINT" in said and "Input/output error" in said and "--rebuild" in said, said
    return lose_sector(member, glob.glob(own(member) + "/log/*.checkpoint")[0])


def start_with(member, *words):
    argv, member.argv = member.argv, member.argv + list(words)
    member.start()
    member.argv = argv


def members_of(member):
    return {entry["id"]: entry["name"] for entry in json.loads(call(member.endpoint + "/v2/members")[2])["members"]}


class Writer(threading.Thread):
    def __init__(self, member):
        super().__init__(daemon=True)
        self.member, self.last, self.problem, self.ended = member, 0, None, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.005):
            try:
                put(self.member, "counter", str(self.last + 1))
                self.last += 1
            except Exception as error:  # told to the case
                self.problem = error
                return

    def stop(self):
        self.ended.set()
        self.join(20)
        assert not self.problem, self.problem
        return self.last


def rebuilt(damage, checkpoints):
    cluster = Cluster(ours(), 3, ["--snapshot-count", "60"] if checkpoints else [])
    for number in range(200):
        put(cluster.members[0], "k%d" % number, "v%d" % number)
    victim = cluster.members[2]
    other = cluster.members[0]
    if checkpoints:
        assert value_of(victim, "k199") == "v199"  # it has all of them: no further one comes due

        def settled():
            found = victim.metrics()
            return (not found["etcd_checkpoint_writing"] and len(glob.glob(own(victim) + "/log/*.checkpoint")) == 1 and
                    found["etcd_server_proposals_applied_total"] - found["etcd_checkpoint_index"] < 60)
        wait_for(settled, 10, "the last checkpoint that is due")
    before = members_of(other)
    victim.kill()
    victim.process.wait()
    path = damage(victim)
    victim.start()
    assert victim.process.wait(20) == 1
    text = victim.log_tail().splitlines()[-1]
    assert os.path.basename(path) in text and "--rebuild" in text, text
    if victim.env:
        assert "Input/output error" in text and "check the disk" in text, text
    wait_for(lambda: cluster.leader([cluster.members[0], cluster.members[1]]), 20, "a leader of the other two")
    writer = Writer(other)
    start_with(victim, "--rebuild")
    wait_for(victim.ready, 30, "the member to serve again")
    wait_for(lambda: set(members_of(other).values()) == {"infra0", "infra1", "infra2"} and len(members_of(other)) == 3,
             30, "the new member in the place of the old one")
    last = writer.stop()
    after = members_of(other)
    gone, new = set(before) - set(after), set(after) - set(before)
    assert len(gone) == len(new) == 1, (before, after)
    assert after[new.pop()] == before[gone.pop()] == "infra2"
    assert last > 0 and int(value_of(victim, "counter")) == last
    for number in range(0, 200, 17):
        assert value_of(victim, "k%d" % number) == "v%d" % number
    aside = glob.glob(own(victim) + "/damaged-*/" + os.path.basename(path))
    assert len(aside) == 1, os.listdir(own(victim))
    assert "damaged-" in victim.log_tail(), victim.log_tail()
    # What goes as it should is no error in any log: that others still look for the old member at this address.
    for member in cluster.members:
        with open(os.path.join(member.directory, member.name + ".log"), errors="replace") as file:
            lines = [line for line in file.read().splitlines() if " error: " in line]
        assert not [line for line in lines if "was looked for" in line], lines
    # It votes: with one of the others gone it makes the majority. And --rebuild does nothing to what is sound.
    victim.kill()
    victim.process.wait()
    start_with(victim, "--rebuild")
    wait_for(victim.ready, 30, "the member to serve once more")
    assert "nothing is damaged" in victim.log_tail()
    cluster.members[1].kill()
    wait_for(lambda: cluster.leader([other, victim]), 20, "a leader")
    put(other, "end", "1")
    assert value_of(victim, "end") == "1"
    cluster.kill()


@cases.case("a damaged log: refused with file and command, rebuilt under writes, nothing lost")
def _():
    rebuilt(damage_log, False)


@cases.case("a log with a page that cannot be read: the same, and the disk is to be checked")
def _():
    rebuilt(lose_log_sector, False)


@cases.case("a checkpoint with such a page, or its manifest: the same")
def _():
    rebuilt(lose_checkpoint_sector, True)


@cases.case("a damaged checkpoint: the same")
def _():
    rebuilt(damage_checkpoint, True)


def everything(directory):
    found = {}
    for path in glob.glob(directory + "/**", recursive=True):
        if os.path.isfile(path) and os.path.basename(path) != "LOCK":
            with open(path, "rb") as file:
                found[path] = file.read()
    return found


def refuses(member, parts, *words):
    """The member's start with these words ends at once with a line of all these parts, and changes nothing."""
    before = everything(own(member))
    start_with(member, *words)
    assert member.process.wait(20) == 1, member.log_tail()
    line = member.log_tail().splitlines()[-1]
    for part in parts:
        assert part in line, (parts, words, line)
    assert everything(own(member)) == before, (parts, words)


def refuses_newer(member, path, newer, told):
    """With a file of a newer format, told so without and with --rebuild, which would put aside what is damaged."""
    with open(path, "rb") as file:
        whole = file.read()
    with open(path, "wb") as file:
        file.write(newer(whole))
    refuses(member, [told, "newer version"])
    refuses(member, [told, "newer version"], "--rebuild")
    with open(path, "wb") as file:
        file.write(whole)


@cases.case("a manifest that is damaged, cut or empty is told by name, and a newer format is left alone by --rebuild too")
def _():
    cluster = Cluster(ours(), 1, ["--snapshot-count", "20"])
    member = cluster.members[0]
    for number in range(60):
        put(member, "k%d" % number, "v%d" % number)
    manifest = own(member) + "/log/CHECKPOINT"
    wait_for(lambda: os.path.exists(manifest), 10, "a checkpoint")
    member.kill()
    member.process.wait()
    with open(manifest, "rb") as file:
        whole = file.read()
    for what in [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:] for at in range(0, len(whole), max(1, len(whole) // 6))] + \
            [whole[:-1], whole[:len(whole) // 2], b"", whole + b"x"]:
        with open(manifest, "wb") as file:
            file.write(what)
        refuses(member, ["CHECKPOINT", "--rebuild"])
    with open(manifest, "wb") as file:
        file.write(whole)
    for part, told in {"file": "CHECKPOINT is of format 2, this version knows 1",
                       "membership": "CHECKPOINT: it holds the membership in format 3, this version knows up to 2"}.items():
        refuses_newer(member, manifest, lambda data: formats.newer_checkpoint(data, part), told)
    segment = sorted(glob.glob(own(member) + "/log/0*.wal"))[-1]
    refuses_newer(member, segment, formats.newer_segment,
                  "log segment %s has format 2, this program reads up to 1" % os.path.basename(segment))
    identity = own(member) + "/identity"
    with open(identity) as file:
        lines = file.read()
    for version in ("2", "12345678901234"):
        with open(identity, "w") as file:
            file.write(lines.replace("version 1\n", "version %s\n" % version))
        for words in ([], ["--rebuild"]):
            refuses(member, ["has format %s, this program knows up to 1" % version, "newer version"], *words)
    with open(identity, "w") as file:
        file.write(lines)
    member.start()
    wait_for(member.ready, 30, "the member to serve again")
    assert value_of(member, "k59") == "v59"
    cluster.kill()


@cases.case("no quorum of the others: nothing is changed; a log that was taken away: rebuilt as well")
def _():
    cluster = Cluster(ours(), 3)
    victim = cluster.members[2]
    put(cluster.members[0], "key", "1")
    for number in range(10):
        put(cluster.members[0], "large%d" % number, "v" * 50000)
    wait_for(lambda: os.path.exists(own(victim) + "/log/spare.wal"), 10, "a segment made ahead of time")
    wait_for(lambda: "log yes" in open(own(victim) + "/identity").read(), 10, "the identity to tell of the log")
    for member in cluster.members[1:]:
        member.kill()
        member.process.wait()
    # The segments alone: what was made ahead of time is no log either.
    for path in glob.glob(own(victim) + "/log/0*.wal"):
        os.remove(path)
    assert "spare.wal" in os.listdir(own(victim) + "/log")
    victim.start()
    assert victim.process.wait(20) != 0
    assert "nothing of it, is left" in victim.log_tail() and "--rebuild" in victim.log_tail(), victim.log_tail()
    shutil.rmtree(own(victim) + "/log")
    identity = open(own(victim) + "/identity").read()
    start_with(victim, "--rebuild")
    assert victim.process.wait(60) != 0
    assert "a quorum of them must be there" in victim.log_tail(), victim.log_tail()
    assert open(own(victim) + "/identity").read() == identity
    victim.start()  # and without it never as the old member
    assert victim.process.wait(20) != 0
    cluster.members[1].start()
    wait_for(cluster.members[1].ready, 30, "the second member")
    start_with(victim, "--rebuild")
    wait_for(victim.ready, 30, "the member to serve again")
    assert value_of(victim, "key") == "1"
    cluster.kill()


def half_replaced(interrupted):
    """A member whose data is lost while it has another's place to take, and no vote yet."""
    cluster = Cluster(ours(), 3)
    victim, other = cluster.members[2], cluster.members[0]
    put(other, "key", "1")
    wait_for(lambda: "log yes" in open(own(victim) + "/identity").read(), 10, "the identity to tell of the log")
    victim.kill()
    victim.process.wait()
    old = next(id for id, name in members_of(other).items() if name == victim.name)
    body = json.dumps({"peerURLs": [victim.peer]})
    status, _, text = call("%s/flotilla/members/%s/replace" % (other.endpoint, old), "POST", body,
                           headers={"Content-Type": "application/json"})
    assert status == 201, (status, text)
    lost = json.loads(text)["id"]
    with open(own(victim) + "/identity") as file:
        lines = file.read().replace("member %s\n" % old, "member %s\n" % lost)
    with open(own(victim) + "/identity", "w") as file:
        file.write(lines)
    shutil.rmtree(own(victim) + "/log")
    if interrupted:
        with open(own(victim) + "/taken-back", "w") as file:
            file.write("%s %s\n" % (lost, old))
        assert call("%s/v2/members/%s" % (other.endpoint, lost), "DELETE")[0] == 204
    time.sleep(1.1)  # ids are made of the second
    start_with(victim, "--rebuild")
    wait_for(victim.ready, 30, "the member to serve again")
    wait_for(lambda: set(members_of(other).values()) == {"infra0", "infra1", "infra2"} and len(members_of(other)) == 3,
             30, "the new member in the place of the old one")
    assert not {old, lost} & set(members_of(other)), (old, lost, members_of(other))
    assert value_of(victim, "key") == "1" and not os.path.exists(own(victim) + "/taken-back")
    cluster.kill()


@cases.case("data lost before the member had the vote of the one that it replaces: another one takes the place")
def _():
    half_replaced(False)


@cases.case("the same, interrupted when it had been taken back")
def _():
    half_replaced(True)


cases.run()
