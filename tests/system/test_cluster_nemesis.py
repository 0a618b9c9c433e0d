#!/usr/bin/env python3
"""Three members as real processes, and what befalls real machines: killed and stopped processes, cut networks, disks that fail,
are full or slow, wall clocks that jump. Checkpoints are written and sent all the while, and clients work; what they were told
is judged by the simulator's checker of linearizability. Afterwards everything goes on. FLOTILLA_ROUNDS=N repeats each fault N
times as often."""
import errno
import glob
import http.client
import os
import random
import signal
import subprocess
import time

import etcd_server
import net_world
from harness import Cases, kill, program, temp_dir, wait_for
from history import Clients, judge

net_world.enter()
cases = Cases()
ROUNDS = int(os.environ.get("FLOTILLA_ROUNDS", "1"))
EIO, ENOSPC = 5, 28
# Checkpoints come all the time, and take a while: what befalls a member befalls it in the middle of one, of the switch to it,
# and of the cut of its log.
CHECKPOINTS = ["--snapshot-count", "40"]
BALLAST = 6  # values of 100 kB


class World:
    """A cluster with a namespace, a data directory that is a mount of its own if wanted, and switches for faults per member."""

    def __init__(self, count=3, disk=None, extra=()):
        self.directory, self.net = temp_dir(), net_world.Net(count)
        names = ["infra%d" % i for i in range(count)]
        cluster = ",".join("%s=http://%s:2380" % (name, place.address) for name, place in zip(names, self.net.places))
        self.members = []
        for name, place in zip(names, self.net.places):
            data = os.path.join(self.directory, name)
            os.mkdir(data, 0o700)
            if disk:
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + disk, "tmpfs", data], check=True)
            env = {"LD_PRELOAD": program("tests/system/faults.so"), "FAULTS_DIR": data + "/",
                   "FAULTS_CONTROL": os.path.join(self.directory, name + ".disk"),
                   "FAULTS_CLOCK": os.path.join(self.directory, name + ".clock")}
            self.members.append(etcd_server.Member(program("etcd"), name, 2379, 2380, cluster, self.directory,
                                                   extra, place.address, place.prefix(), env))
        self.mounted = bool(disk)
        self.counts = {}  # (counter, process id): its value when it was last seen
        for member in self.members:
            member.start()
        for member in self.members:
            wait_for(member.ready, 30, member.name + " to serve")

    def clients(self, name, **options):
        return Clients([member.endpoint for member in self.members], name=name, **options)

    def leader(self):
        for number, member in enumerate(self.members):
            try:
                if member.process.poll() is None and member.state() == "StateLeader":
                    return number
            except (OSError, ValueError):
                pass
        return 0

    def switch(self, number, what, text=None):
        """Writes a control file of faults.so (text None: removes it), whole at once."""
        path = os.path.join(self.directory, "infra%d.%s" % (number, what))
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        with open(path + ".new", "w") as file:
            file.write(text + "\n")
        os.rename(path + ".new", path)

    def data(self, number):
        return os.path.join(self.directory, "infra%d" % number)

    def restart(self, number):
        self.members[number].start()
        wait_for(self.members[number].ready, 30, self.members[number].name + " is back")

    def look(self):
        """Remembers how many checkpoints have been written and received: a member that is killed begins to count anew."""
        for member in self.members:
            try:
                found = member.metrics()
                for name in "written", "received":
                    self.counts[name, member.process.pid] = found["etcd_checkpoints_%s_total" % name]
            except (OSError, http.client.HTTPException):
                pass

    def counted(self, name):
        return int(sum(value for (counter, _), value in self.counts.items() if counter == name))

    def outrun(self, number):
        """The other members, of which one leads, go on for so long that what this one needs next is cut from their logs.
        Answers the index that it is behind."""
        others = [member for member in self.members if member is not self.members[number]]
        last = max(member.metrics()["etcd_server_proposals_committed_total"] for member in others) + 20  # and what is under way

        def is_cut():
            for key in range(10):
                others[key % 2].request("PUT", "/v2/keys/bulk/%d" % key, "value=" + "B" * 100000, timeout=5)
            return all(member.metrics()["etcd_log_first_index"] > last for member in others)
        wait_for(is_cut, 20, "the logs of the others to be cut")
        return last

    def files(self, number, pattern):
        return set(glob.glob(os.path.join(self.data(number), "flotilla", "log", pattern)))

    def all_ready(self):
        for number, member in enumerate(self.members):
            if member.process.poll() is not None:
                member.start()
        for member in self.members:
            wait_for(member.ready, 30, member.name + " serves")

    def check_same(self):
        """All members have applied the same: their own answers to a listing are equal, indices included."""
        def same():
            listings = [etcd_server.call(m.endpoint + "/v2/keys/?recursive=true&sorted=true", timeout=5) for m in self.members]
            return len({(text, headers["X-Etcd-Index"]) for _, headers, text in listings}) == 1
        wait_for(same, 20, "equal stores")

    def close(self):
        for member in self.members:
            if member.process.poll() is None:
                member.kill()
        if self.mounted:
            for number in range(len(self.members)):
                subprocess.run(["umount", self.data(number)], check=True)
        for place in self.net.places:
            kill(place.holder)


def run_case(name, faults, rounds, checkpoints=True, flags=(), **options):
    """A cluster under load; `faults(world, clients, round, rng)` is called again and again. Answers the world, which is over.
    checkpoints: whether they come all the time, or by default when the log or the disk is large."""
    world = World(extra=list(flags) + (CHECKPOINTS if checkpoints else []), **options)
    clients = world.clients(name)
    rng = random.Random(name)
    try:
        clients.wait_for_write()
        for number in range(BALLAST if checkpoints else 0):
            path = "/v2/keys/ballast/%d" % number
            wait_for(lambda: world.members[0].request("PUT", path, "value=" + "b" * 100000)[0] < 300, 20, "a value of ballast")
        for number in range(rounds * ROUNDS):
            faults(world, clients, number, rng)
            world.look()
        world.all_ready()
        clients.wait_for_write()
        if checkpoints:
            wait_for(lambda: all(member.metrics()["etcd_checkpoint_index"] > 0 for member in world.members), 20, "checkpoints")
    finally:
        clients.stop()
    world.look()
    print("# %d rounds; %d checkpoints written, %d received; %s" %
          (rounds * ROUNDS, world.counted("written"), world.counted("received"), clients.finish()))
    world.check_same()
    world.close()
    return world


@cases.case("the judge lets good histories pass, and catches stale reads, lost and doubled writes and wrong orders")
def judge_itself():
    good = ["a set 1 2 1 - 0 ok 5", "a get 3 4 - - 1 ok 0", "a set 5 9 2 - - unknown 0", "a get 6 7 - - 2 ok 0",
            "a get 8 9 - - 2 ok 0", "b create 1 2 7 - 0 ok 6", "b create 3 4 8 - - exists 0", "b cas 5 6 9 7 7 ok 8",
            "b cas 7 8 10 7 9 mismatch 0", "b cad 9 10 - 9 9 ok 9", "b delete 11 12 - - 0 missing 0",
            "a set 20 30 11 - 2 failed 0"]
    status, text = judge(good)
    assert status == 0 and text == "linearizable: 11 operations on 2 keys\n", (status, text)
    for line, bad in [("a get 10 11 - - 1 ok 0", "a stale read"),
                      ("a get 10 11 - - 0 ok 0", "an acknowledged write that is gone"),
                      ("a get 10 11 - - 11 ok 0", "a write that failed and yet happened"),
                      ("a get 10 11 - - 77 ok 0", "a value from nowhere"),
                      ("b cas 13 14 12 7 7 ok 10", "a swap of a value that was replaced"),
                      ("b update 13 14 12 - 9 ok 10", "an update of a key that was deleted"),
                      ("a set 10 11 12 - 2 ok 4", "a later write with an earlier index")]:
        status, text = judge(good + [line])
        assert status == 1 and "not linearizable" in text and "> line " in text, (bad, status, text)
    for line in ["a get 1 2 - - 1 ok", "a get 1 2 - - 1 good 0", "a set 1 2 0 - 0 ok 1", "a get 3 2 - - 1 ok 0", "nonsense"]:
        assert judge([line])[0] == 2, line


@cases.case("any members are killed with SIGKILL, one, two or all at once")
def killed():
    def faults(world, clients, number, rng):
        victims = [world.leader()] if number % 2 else rng.sample(range(3), 1 + number % 3)
        for victim in victims:
            kill(world.members[victim].process, signal.SIGKILL)
        time.sleep(rng.random() * 0.3)
        for victim in victims:
            world.restart(victim) if len(victims) == 1 else world.members[victim].start()
        clients.wait_for_write()
    run_case("killed", faults, 9)


@cases.case("members stop in the middle of what they do and go on later, one or two at a time")
def stopped():
    def faults(world, clients, number, rng):
        victims = [world.leader()] if number % 2 == 0 else rng.sample(range(3), 1 + number % 2)
        for victim in victims:
            os.kill(world.members[victim].process.pid, signal.SIGSTOP)
        time.sleep(0.2 + rng.random() * 1.2)
        for victim in rng.sample(victims, len(victims)):
            os.kill(world.members[victim].process.pid, signal.SIGCONT)
            time.sleep(rng.random() * 0.05)
        clients.wait_for_write()
    run_case("stopped", faults, 6)


@cases.case("links are cut in one direction or both, and unplugged: leaders cut off, deaf, mute, in a chain, flapping")
def partitioned():
    def faults(world, clients, number, rng):
        leader, net = world.leader(), world.net
        others = [other for other in range(3) if other != leader]
        shape = number % 6
        if shape == 0:
            net.isolate(leader)
        elif shape == 1:
            for other in others:
                net.drop(leader, other)
        elif shape == 2:
            for other in others:
                net.drop(other, leader)
        elif shape == 3:
            net.cut(leader, rng.choice(others))
        elif shape == 4:
            net.unplug(leader)
        else:
            for _ in range(4):
                net.isolate(rng.randrange(3))
                time.sleep(0.1 + rng.random() * 0.2)
                net.heal()
                time.sleep(rng.random() * 0.2)
        time.sleep(1.3)
        if shape not in (2, 4):  # a deaf leader keeps its followers until it notices; an unplugged one keeps a client
            clients.wait_for_write(what="a write in spite of the cut")
        net.heal()
        clients.wait_for_write(what="a write after the cut is healed")
    run_case("partitioned", faults, 6)


@cases.case("members away for longer than the log is kept, or who sends them a checkpoint, are killed and stopped meanwhile")
def outrun():
    def faults(world, clients, number, rng):
        leader = world.leader()
        away = rng.choice([other for other in range(3) if other != leader])
        member = world.members[away]
        if number % 2:
            world.net.isolate(away)
        else:
            kill(member.process, signal.SIGKILL)
        last, before = world.outrun(away), world.files(away, "*.checkpoint")
        if number % 2:
            world.net.heal()
        else:
            member.start()
        wait_for(lambda: world.files(away, "*.checkpoint") - before, 20, "a checkpoint to come in", 0.002)
        time.sleep(rng.random() * 0.05)
        victim = [world.leader(), away][number // 2 % 2]
        if number % 3:
            kill(world.members[victim].process, signal.SIGKILL)
            time.sleep(rng.random() * 0.3)
            world.restart(victim)
        else:
            os.kill(world.members[victim].process.pid, signal.SIGSTOP)
            time.sleep(1.3)
            os.kill(world.members[victim].process.pid, signal.SIGCONT)
        clients.wait_for_write()
        wait_for(lambda: member.metrics()["etcd_log_first_index"] > last, 30, "%s to have caught up" % member.name)
        if number:
            wait_for(lambda: not any(world.files(each, "0000000000000001.wal") for each in range(3)), 20, "segments to go")
    world = run_case("outrun", faults, 5, disk="100m")
    assert world.counted("received") > 0


DISK_FAULTS = [("sync", EIO, "Input/output error"), ("write", EIO, "Input/output error"), ("torn", EIO, "Input/output error"),
               ("write", ENOSPC, "No space left on device"), ("torn", ENOSPC, "No space left on device")]


@cases.case("a disk whose writes or syncs fail ends the member with a clear message, and nothing that was told is lost")
def failing_disk():
    def faults(world, clients, number, rng):
        call, error, text = DISK_FAULTS[number % len(DISK_FAULTS)]
        victim = world.leader() if number % 2 == 0 else rng.randrange(3)
        member = world.members[victim]
        at = os.path.getsize(os.path.join(world.directory, member.name + ".log"))
        world.switch(victim, "disk", "%s %d %d" % (call, error, rng.randrange(20)))
        wait_for(lambda: member.process.poll() is not None, 20, "the end of %s after %s fails" % (member.name, call))
        with open(os.path.join(world.directory, member.name + ".log")) as log:
            log.seek(at)
            told = log.read()
        assert member.process.returncode == 1 and text in told, (member.process.returncode, told)
        clients.wait_for_write(what="a write by the other two")
        world.switch(victim, "disk")
        world.restart(victim)
    run_case("failing", faults, 6)


@cases.case("disks that are full: errors are told, nothing that was acknowledged is lost, and all goes on when there is space")
def full_disk():
    def fill(world, number, left_bytes):
        """A file takes all space but so much. To be called again as the log is cut and gives some back."""
        state = os.statvfs(world.data(number))
        with open(os.path.join(world.data(number), "ballast"), "ab") as file:
            take = state.f_bavail * state.f_bsize - left_bytes
            if take > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), take)
                except OSError as error:  # the member took some of it in between
                    if error.errno != errno.ENOSPC:
                        raise

    def large_value(number):
        return "%06d" % number * 50000

    def write_until_refused(world, victims):
        """Large values to the victims until one ends or refuses; what was acknowledged, and the refusal."""
        acknowledged = {}
        for member in world.members:  # an alarm of the round before ends within moments
            wait_for(lambda m=member: m.request("GET", "/health")[0] == 200, 30, member.name + " without an alarm")
        for number in range(240):
            for victim in victims if number >= 5 else []:  # the first ones come before anything is short
                fill(world, victim, 1000000)
            if any(world.members[victim].process.poll() is not None for victim in victims):
                return acknowledged, None
            for member in [world.members[victim] for victim in victims]:
                try:
                    status, body = member.request("PUT", "/v2/keys/large/%d" % number, "value=" + large_value(number), timeout=3)
                except (OSError, ValueError):
                    continue
                if status >= 400:
                    return acknowledged, (number, member.name, body)
                acknowledged[number] = large_value(number)
                break
        raise AssertionError("72 MB went into a disk that is full")

    def faults(world, clients, number, rng):
        victims = [world.leader()] if number % 2 == 0 else [0, 1, 2]
        acknowledged, refusal = write_until_refused(world, victims)
        assert acknowledged, refusal
        if len(victims) == 1:
            clients.wait_for_write(what="a write by the other two")
        for victim in victims:
            member = world.members[victim]
            # Refusing is as good as ending, but no member may go on in silence.
            assert member.process.poll() is None or "space" in member.log_tail(), member.log_tail()
            os.unlink(os.path.join(world.data(victim), "ballast"))
        world.all_ready()
        clients.wait_for_write(what="a write when there is space")
        for member in world.members:
            for key, value in acknowledged.items():
                status, body = member.request("GET", "/v2/keys/large/%d?quorum=true" % key)
                assert status == 200 and body["node"]["value"] == value, (member.name, key, status)
        world.members[0].request("DELETE", "/v2/keys/large?recursive=true")
    run_case("full", faults, 2, checkpoints=False, disk="100m")


@cases.case("disks that the store itself fills: growth is refused, deletes are taken, and all goes on behind them")
def filled_by_the_store():
    def faults(world, clients, number, rng):
        count, refusals, size = 0, 0, [300000, 100000, 20000][number % 3]
        while refusals < 3:  # one alone may be over in a moment, with the next checkpoint
            try:
                status, body = rng.choice(world.members).request("PUT", "/v2/keys/fill/%d" % count, "value=" + "x" * size, timeout=5)
            except (OSError, ValueError):
                continue
            count, refusals = count + (status < 400), 0 if status < 400 else refusals + 1
            assert status < 400 or "space exceeded" in body["cause"], body
            time.sleep(0.5 if refusals else 0)
        # Two checkpoints and a little log share the disk, but less than half of it would be a waste.
        assert 30 << 20 < count * size < 75 << 20, (count, size)
        status, body = rng.choice(world.members).request("DELETE", "/v2/keys/fill?recursive=true", timeout=10)
        assert status == 200, body
        clients.wait_for_write(what="a write behind the deletes")
        for member in world.members:
            wait_for(lambda m=member: m.request("GET", "/health")[0] == 200, 60, member.name + " without an alarm")
    run_case("filled", faults, 2, checkpoints=False, disk="100m")


@cases.case("a leader whose disk becomes slow hands over to one whose disk is quicker, writes are fast, and it stays like that")
def slow_disk():
    name, delay_s = "etcd_server_slow_disk_handovers_total", 0.4  # more than half an election timeout

    def faults(world, clients, number, rng):
        before, slow = [member.metrics()[name] for member in world.members], None

        def handed_over():
            nonlocal slow
            if slow is not None and world.members[slow].metrics()[name] > before[slow]:
                return True
            leader = world.leader()
            if leader != slow and world.members[leader].state() == "StateLeader":  # or on a busy machine the next one
                if slow is not None:
                    world.switch(slow, "disk")
                world.switch(leader, "disk", "slow %d 0 .wal" % (delay_s * 1000))
                slow = leader
            return False
        wait_for(handed_over, 20, "leadership to be handed over")
        wait_for(lambda: world.leader() != slow and world.members[slow].state() == "StateFollower", 10, "the next leader")
        clients.wait_for_write()
        at = len(clients.ops)
        time.sleep(2)
        took = sorted((op.return_ns - op.call_ns) / 1e9 for op in clients.ops[at:] if op.outcome == "ok" and op.kind != "get")
        assert len(took) > 10 and took[len(took) // 2] < delay_s / 2, took
        # Another one may do so once more: on a busy machine any disk is slow now and then.
        after = [member.metrics()[name] for member in world.members]
        assert after[slow] == before[slow] + 1 and sum(after) <= sum(before) + 2, (before, after, slow)
        assert world.members[slow].state() != "StateLeader"
        log = world.members[slow].log_tail()
        assert "the disk of the log is slow here (a write takes " in log, log
        world.switch(slow, "disk")
    run_case("slow", faults, 1, flags=["--heartbeat-interval", "50", "--election-timeout", "500"])


@cases.case("wall clocks that jump by hours disturb nothing, and keys expire by the time that has passed")
def clock_jumps():
    def faults(world, clients, number, rng):
        writer = world.members[rng.randrange(3)]
        key = "/v2/keys/ttl/%d" % number
        begun = time.monotonic()
        assert writer.request("PUT", key, "value=1&ttl=3")[0] == 201
        for victim in range(3) if number % 2 else [world.leader()]:
            world.switch(victim, "clock", str(rng.choice([-86400, -3600, -10, 10, 3600, 86400 * 30])))
        clients.wait_for_write()
        while time.monotonic() < begun + 2.5:
            status, body = writer.request("GET", key + "?quorum=true")
            assert status == 200 or time.monotonic() > begun + 2.5, (status, body, time.monotonic() - begun)
            time.sleep(0.1)
        wait_for(lambda: writer.request("GET", key + "?quorum=true")[0] == 404, 3, "the key's end")
    run_case("jumping", faults, 3)


cases.run()
