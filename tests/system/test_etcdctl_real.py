#!/usr/bin/env python3
"""Our etcdctl drives Debian's real etcd (--enable-v2), one member and three, and our own etcd where this build has it:
the commands of the slides, failover, watches over the death of the member that serves them, members added and removed."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import etcd_server
import harness

ETCDCTL = harness.program("etcdctl")
# Longer than the defaults of one and five seconds: a busy disk must not decide.
PATIENCE = ["--timeout", "10s", "--total-timeout", "30s"]
REAL_ETCDCTL = shutil.which("etcdctl", path="/usr/bin:/usr/local/bin")
cases = harness.Cases()


def environment(endpoints):
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return dict(env, ETCDCTL_ENDPOINTS=endpoints)


def ctl(endpoints, *argv, stdin="", status=0, stderr=None):
    """Runs etcdctl and answers its stdout."""
    done = subprocess.run([ETCDCTL] + PATIENCE + list(argv), env=environment(endpoints), input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)
    if done.returncode != status or (stderr is not None and not re.search(stderr, done.stderr)):
        raise AssertionError("%r: status %d, stdout %r, stderr %r" % (argv, done.returncode, done.stdout, done.stderr))
    return done.stdout


def watchers(cluster):
    return sum(json.loads(etcd_server.call(member.endpoint + "/v2/stats/store")[2])["watchers"] for member in cluster.members)


def start_watch(cluster, *argv):
    """Starts a command that watches, and waits until it does; answers the process and what reads its output."""
    harness.wait_for(lambda: watchers(cluster) == 0, what="earlier watches to be gone")
    directory = harness.temp_dir()
    path = os.path.join(directory, "out")
    with open(path, "wb") as out:
        process = harness.start([ETCDCTL] + PATIENCE + list(argv), env=environment(cluster.endpoints()),
                                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    harness.wait_for(lambda: watchers(cluster) == 1 or process.poll() is not None, what="the watch")
    return process, lambda: open(path, errors="replace").read()


def equal(actual, expected):
    if actual != expected:
        raise AssertionError("expected %r, got %r" % (expected, actual))


def the_slides(cluster):
    e = cluster.endpoints()
    equal(ctl(e, "set", "/foo/bar", "Hello world", "--ttl", "60"), "Hello world\n")
    equal(ctl(e, "get", "/foo/bar"), "Hello world\n")
    equal(ctl(e, "update", "/foo/bar", stdin="Hello again"), "Hello again\n")
    ctl(e, "update", "/foo/missing", "dingo", status=4, stderr=r"^Error:  100: Key not found \(/foo/missing\) \[\d+\]\n$")
    equal(ctl(e, "set", "/foo/car", "x"), "x\n")
    equal(sorted(ctl(e, "ls", "/foo").split()), ["/foo/bar", "/foo/car"])
    equal(sorted(ctl(e, "ls", "--recursive", "/").split()), ["/foo", "/foo/bar", "/foo/car"])
    process, output = start_watch(cluster, "exec-watch", "/foo/bar", "--", "sh", "-c", "env | grep ETCD_WATCH | sort")
    ctl(e, "set", "/foo/bar", "Dingo")
    harness.wait_for(lambda: "VALUE=Dingo" in output(), what="the first command")
    equal(ctl(e, "rm", "/foo/bar"), "PrevNode.Value: Dingo\n")
    harness.wait_for(lambda: output().count("ETCD_WATCH_VALUE=\n") == 1, what="the second command")
    equal(re.sub(r"INDEX=\d+", "INDEX=N", output()),
          "ETCD_WATCH_ACTION=set\nETCD_WATCH_KEY=/foo/bar\nETCD_WATCH_MODIFIED_INDEX=N\nETCD_WATCH_VALUE=Dingo\n"
          "ETCD_WATCH_ACTION=delete\nETCD_WATCH_KEY=/foo/bar\nETCD_WATCH_MODIFIED_INDEX=N\nETCD_WATCH_VALUE=\n")
    process.send_signal(signal.SIGINT)
    equal(process.wait(60), 0)
    ctl(e, "rm", "--recursive", "/foo")


def an_interrupted_exec_watch_leaves_its_commands(cluster):
    e = cluster.endpoints()
    go = os.path.join(harness.temp_dir(), "go")
    process, output = start_watch(cluster, "exec-watch", "/long", "--", "sh", "-c",
                                  "echo begun; while [ ! -e %s ]; do sleep 0.1; done; echo done" % go)
    ctl(e, "set", "/long", "1")
    ctl(e, "set", "/long", "2")
    harness.wait_for(lambda: output().count("begun") == 2, what="both commands")
    process.send_signal(signal.SIGINT)
    equal(process.wait(60), 0)
    open(go, "w").close()
    harness.wait_for(lambda: output().count("done") == 2, what="their ends")
    equal(output(), "begun\nbegun\ndone\ndone\n")
    # At a terminal they are interrupted, too, and end at the same time.
    for number in range(5):
        process, output = start_watch(cluster, "exec-watch", "/long", "--", "sh", "-c", "echo begun; sleep 1000")
        ctl(e, "set", "/long", str(number))
        harness.wait_for(lambda: output() == "begun\n", what="the command")
        os.killpg(process.pid, signal.SIGINT)
        equal(process.wait(60), 0)
    ctl(e, "rm", "/long")


def a_ttl_expires_and_the_watch_sees_it(cluster):
    e = cluster.endpoints()
    made = json.loads(ctl(e, "-o", "json", "set", "/ttl", "gone soon", "--ttl", "1"))
    # From there on, since the watch may begin after the end.
    process, output = start_watch(cluster, "-o", "json", "watch", "--after-index", str(made["node"]["modifiedIndex"]), "/ttl")
    equal(process.wait(60), 0)
    equal(json.loads(output())["action"], "expire")
    ctl(e, "get", "/ttl", status=4, stderr="100: Key not found")


def a_refresh_keeps_the_key_and_wakes_nobody(cluster):
    e = cluster.endpoints()
    ctl(e, "set", "/kept", "alive", "--ttl", "4")
    process, output = start_watch(cluster, "watch", "--forever", "/kept")
    for _ in range(10):
        time.sleep(0.5)
        refresh = etcd_server.call(cluster.members[0].endpoint + "/v2/keys/kept?prevExist=true", "PUT", "refresh=true&ttl=4")
        equal(refresh[0], 200)
    equal(ctl(e, "get", "/kept"), "alive\n")
    ctl(e, "set", "/kept", "changed")
    harness.wait_for(lambda: output(), what="the change")
    equal(output(), "changed\n")
    process.send_signal(signal.SIGINT)
    equal(process.wait(60), 0)


def a_large_value_and_many_keys_come_back_whole(cluster):
    e = cluster.endpoints()
    value = "".join("%07d\n" % i for i in range(50000))
    ctl(e, "set", "/big", stdin=value)
    equal(ctl(e, "get", "/big"), value + "\n")
    for i in range(300):
        etcd_server.call(cluster.members[0].endpoint + "/v2/keys/many/k%04d" % i, "PUT", "value=%d" % i)
    equal(ctl(e, "ls", "--sort", "/many").split(), ["/many/k%04d" % i for i in range(300)])
    ctl(e, "rm", "--recursive", "/many")
    ctl(e, "rm", "/big")


def debians_etcdctl_reads_what_ours_wrote(cluster):
    e = cluster.endpoints()
    ctl(e, "set", "/odd key/\u00e9?#%&=+", "a b+c&d\n<e>")
    done = subprocess.run([REAL_ETCDCTL, "-o", "json", "get", "/odd key/\u00e9?#%&=+"],
                          env=dict(environment(e), ETCDCTL_API="2"), stdout=subprocess.PIPE, text=True, timeout=60)
    theirs = json.loads(done.stdout)
    equal(theirs["node"]["value"], "a b+c&d\n<e>")
    equal(json.loads(ctl(e, "-o", "json", "get", "/odd key/\u00e9?#%&=+")), theirs)
    ctl(e, "rm", "--recursive", "/odd key")


def only_one_of_many_creators_wins(cluster):
    e = cluster.endpoints()
    processes = [harness.start([ETCDCTL] + PATIENCE + ["mk", "/lock", "owner%d" % i], env=environment(e), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(8)]
    answers = [process.communicate(timeout=60) for process in processes]
    winners = [out for process, (out, _) in zip(processes, answers) if process.returncode == 0]
    equal(len(winners), 1)
    equal([process.returncode for process in processes].count(4), 7)
    equal(ctl(e, "get", "/lock"), winners[0])
    ctl(e, "rm", "/lock")


def cluster_health_and_member_list_name_every_member(cluster):
    e = cluster.endpoints()
    health = harness.wait_for(lambda: ctl(e, "cluster-health"), 30, "a healthy cluster")
    for member in cluster.members:
        if "member %s is healthy: got healthy result from %s\n" % (member.id(), member.endpoint) not in health:
            raise AssertionError("%s is missing in %r" % (member.name, health))
    equal(health.splitlines()[-1], "cluster is healthy")
    lines = ctl(e, "member", "list").splitlines()
    equal(len(lines), len(cluster.members))
    equal(sum("isLeader=true" in line for line in lines), 1)
    for member in cluster.members:
        wanted = "%s: name=%s peerURLs=%s clientURLs=%s isLeader=" % (member.id(), member.name, member.peer, member.endpoint)
        equal(sum(line.startswith(wanted) for line in lines), 1)


def a_watch_outlives_the_member_that_serves_it(cluster):
    """Members are killed and started one after the other while a writer goes on; no event is lost or doubled."""
    e = cluster.endpoints()
    process, output = start_watch(cluster, "watch", "--forever", "/counter")
    written, stop = [], threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            done = subprocess.run([ETCDCTL] + PATIENCE + ["set", "/counter", str(number)],
                                  env=environment(e), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60)
            if done.returncode == 0:
                written.append(number)
            time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for member in cluster.members:
            time.sleep(1)
            member.kill()
            time.sleep(2.5)
            member.start()
            harness.wait_for(member.ready, 30, member.name)
            goal = len(written) + 5
            harness.wait_for(lambda: len(written) >= goal, 60, "writes to go on")
    finally:
        stop.set()
        writer.join()
    ctl(e, "set", "/counter", "end")
    harness.wait_for(lambda: output().endswith("end\n"), 30, "the last event")
    process.send_signal(signal.SIGINT)
    equal(process.wait(60), 0)
    seen = [int(line) for line in output().split()[:-1]]
    equal(seen, sorted(set(seen)))
    equal(sorted(set(written) - set(seen)), [])


def commands_go_to_the_members_that_live(cluster):
    e = cluster.endpoints()
    cluster.members[0].kill()
    try:
        harness.wait_for(lambda: ctl(e, "set", "/alive", "yes") == "yes\n", 30, "a write without one member")
        for _ in range(6):
            equal(ctl(e, "get", "/alive"), "yes\n")
        health = harness.wait_for(lambda: ctl(e, "cluster-health"), 30, "a healthy cluster")
        if "is unreachable: [%s] are all unreachable" % cluster.members[0].endpoint not in health:
            raise AssertionError(health)
        ctl(cluster.members[0].endpoint, "get", "/alive", status=2, stderr="connection refused")
    finally:
        cluster.members[0].start()
        harness.wait_for(cluster.members[0].ready, 30, "the member to come back")


def members_are_added_updated_and_removed(cluster):
    e = cluster.endpoints()
    port = harness.free_port()
    # etcd refuses a member while it has not seen all others for five seconds.
    added = harness.wait_for(lambda: ctl(e, "member", "add", "new one", "http://127.0.0.1:%d" % port), 30, "the addition",
                             step_s=0.5)
    match = re.match(r"Added member named new one with ID ([0-9a-f]+) to cluster\n\nETCD_NAME=\"new one\"\n"
                     r"ETCD_INITIAL_CLUSTER=\"(.*)\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n$", added)
    if not match or "new one=http://127.0.0.1:%d" % port not in match.group(2).split(","):
        raise AssertionError(added)
    if "%s[unstarted]: peerURLs=http://127.0.0.1:%d\n" % (match.group(1), port) not in ctl(e, "member", "list"):
        raise AssertionError("the added member is not listed")
    equal(ctl(e, "member", "update", match.group(1), "http://127.0.0.1:%d" % harness.free_port()),
          "Updated member with ID %s in cluster\n" % match.group(1))
    equal(ctl(e, "member", "remove", match.group(1)), "Removed member %s from cluster\n" % match.group(1))
    ctl(e, "member", "remove", match.group(1), status=1, stderr="^Couldn't find a member in the cluster with an ID of")
    equal(len(ctl(e, "member", "list").splitlines()), len(cluster.members))


def credentials_open_a_server_with_authentication(cluster):
    """Users are made by HTTP: etcdctl's own auth commands come later."""
    e = cluster.members[0].endpoint
    as_json = {"Content-Type": "application/json"}
    etcd_server.call(e + "/v2/auth/users/root", "PUT", json.dumps({"user": "root", "password": "r:pw"}), headers=as_json)
    basic = {"Authorization": "Basic " + __import__("base64").b64encode(b"root:r:pw").decode()}
    equal(etcd_server.call(e + "/v2/auth/enable", "PUT", headers=basic)[0], 200)
    try:
        guest = json.dumps({"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}})
        equal(etcd_server.call(e + "/v2/auth/roles/guest", "PUT", guest, headers=dict(as_json, **basic))[0], 200)
        refused = r"^Error:  110: The request requires user authentication \(Insufficient credentials\) \[0\]\n$"
        ctl(e, "set", "/a", "v", status=4, stderr=refused)
        ctl(e, "watch", "/a", status=4, stderr=refused)
        ctl(e, "-u", "root:wrong", "set", "/a", "v", status=4, stderr=refused)
        equal(ctl(e, "-u", "root:r:pw", "set", "/a", "v"), "v\n")
        equal(ctl(e, "-u", "root", "get", "/a", stdin="r:pw\n"), "Password: \nv\n")
    finally:
        equal(etcd_server.call(e + "/v2/auth/enable", "DELETE", headers=basic)[0], 200)


def history_that_is_cleared_is_an_error(cluster):
    e = cluster.members[0].endpoint
    for i in range(1010):
        etcd_server.call(e + "/v2/keys/many", "PUT", "value=%d" % i)
    ctl(e, "watch", "--after-index", "5", "/many", status=4,
        stderr=r"^Error:  401: The event in requested index is outdated and cleared \(the requested history has been "
               r"cleared \[\d+/6\]\) \[\d+\]\n$")


EVERYWHERE = [the_slides, an_interrupted_exec_watch_leaves_its_commands, a_ttl_expires_and_the_watch_sees_it,
              a_refresh_keeps_the_key_and_wakes_nobody, a_large_value_and_many_keys_come_back_whole,
              only_one_of_many_creators_wins, cluster_health_and_member_list_name_every_member,
              history_that_is_cleared_is_an_error]
THREE = [the_slides, only_one_of_many_creators_wins, cluster_health_and_member_list_name_every_member,
         commands_go_to_the_members_that_live, a_watch_outlives_the_member_that_serves_it]
REAL_ONLY = {1: [credentials_open_a_server_with_authentication], 3: [members_are_added_updated_and_removed]}


def add(label, program, count, scenarios):
    """The cluster is started by its first case and lives until the test ends."""
    made = []

    def run(scenario):
        if not made:
            made.append(etcd_server.Cluster(program, count))
        scenario(made[0])

    for scenario in scenarios:
        cases.cases.append(("%s, %d member%s: %s" % (label, count, "" if count == 1 else "s",
                                                     scenario.__name__.replace("_", " ")),
                            lambda scenario=scenario: run(scenario)))


if etcd_server.REAL:
    readers = [debians_etcdctl_reads_what_ours_wrote] if REAL_ETCDCTL else []
    add("real etcd", etcd_server.REAL, 1, EVERYWHERE + readers + REAL_ONLY[1])
    add("real etcd", etcd_server.REAL, 3, REAL_ONLY[3] + THREE)
if etcd_server.ours():
    readers = [debians_etcdctl_reads_what_ours_wrote] if REAL_ETCDCTL else []
    add("our etcd", etcd_server.ours(), 1, EVERYWHERE + readers)
    add("our etcd", etcd_server.ours(), 3, THREE)
cases.run()
