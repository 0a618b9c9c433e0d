#!/usr/bin/env python3
"""curl and Debian's own etcdctl (v2 API) drive our servers, one member and three."""
import json
import os
import shutil
import subprocess
import threading

import etcd_server
from harness import Cases, kill, program, start, temp_dir, wait_for

cases = Cases()
ETCDCTL = shutil.which("etcdctl", path="/usr/bin:/usr/local/bin")
clusters = {}


def cluster(count):
    if count not in clusters:
        clusters[count] = etcd_server.Cluster(program("etcd"), count)
    return clusters[count]


def curl(*arguments):
    """(status, headers, body) of one curl call."""
    out = subprocess.run(["curl", "-s", "-S", "-i", "--max-time", "50"] + list(arguments), capture_output=True, timeout=60)
    assert out.returncode == 0, out.stderr
    head, body = out.stdout.decode().split("\r\n\r\n", 1)
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split(" ")[1]), headers, body


def etcdctl(endpoints, *arguments, stdin=None):
    """(status, stdout, stderr) of one call of Debian's etcdctl."""
    out = subprocess.run([ETCDCTL, "--timeout", "10s", "--total-timeout", "30s", "--endpoints", endpoints] + list(arguments),
                         capture_output=True, timeout=60, input=stdin, env={**os.environ, "ETCDCTL_API": "2"})
    return out.returncode, out.stdout.decode(), out.stderr.decode()


@cases.case("curl sets, reads, compares, lists and deletes keys on one member")
def curl_keys():
    url = cluster(1).endpoints() + "/v2/keys/curl"
    status, headers, body = curl("-X", "PUT", "-d", "value=hello world", url + "/a")
    assert status == 201 and headers["X-Etcd-Index"] == "4", (status, headers)
    assert json.loads(body)["node"]["value"] == "hello world"
    assert curl(url + "/a")[0] == 200
    status, _, body = curl("-X", "PUT", "-d", "value=x", "-d", "prevValue=other", url + "/a")
    assert status == 412 and json.loads(body)["cause"] == "[other != hello world]", body
    assert curl("-X", "POST", "-d", "value=1", url + "/queue")[0] == 201
    status, _, body = curl(url + "?recursive=true&sorted=true")
    assert [node["key"] for node in json.loads(body)["node"]["nodes"]] == ["/curl/a", "/curl/queue"], body
    assert curl("-X", "DELETE", url + "?recursive=true")[0] == 200
    assert curl(url)[0] == 404


@cases.case("a long poll is answered by the write that comes later")
def long_poll():
    url = cluster(1).endpoints() + "/v2/keys/poll"
    answer = []
    watcher = threading.Thread(target=lambda: answer.append(curl(url + "?wait=true")))
    watcher.start()
    store = cluster(1).endpoints() + "/v2/stats/store"
    wait_for(lambda: json.loads(etcd_server.call(store)[2])["watchers"] == 1, 10, "the watch to begin")
    curl("-X", "PUT", "-d", "value=now", url)
    watcher.join(60)
    assert json.loads(answer[0][2])["node"]["value"] == "now", answer
    wait_for(lambda: json.loads(etcd_server.call(store)[2])["watchers"] == 0, 10, "the watch to end")


@cases.case("a watcher that goes away is not counted any more")
def watcher_gone():
    store = cluster(1).endpoints() + "/v2/stats/store"
    process = start(["curl", "-s", "-N", cluster(1).endpoints() + "/v2/keys/gone?wait=true&stream=true"],
                    stdout=subprocess.DEVNULL)
    wait_for(lambda: json.loads(etcd_server.call(store)[2])["watchers"] == 1, 10, "the watch to begin")
    kill(process)
    wait_for(lambda: json.loads(etcd_server.call(store)[2])["watchers"] == 0, 10, "the watch to end")


@cases.case("version, health, machines, members, statistics and metrics answer")
def status():
    member = cluster(1).members[0]
    url = member.endpoint
    assert curl(url + "/version")[2] == '{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}'
    assert curl(url + "/health")[2] == '{"health": "true"}'
    assert curl(url + "/v2/machines")[2] == url
    members = json.loads(curl(url + "/v2/members")[2])["members"]
    assert [(m["name"], m["peerURLs"], m["clientURLs"]) for m in members] == [("infra0", [member.peer], [url])], members
    assert json.loads(curl(url + "/v2/members/leader")[2]) == members[0]
    self_stats = json.loads(curl(url + "/v2/stats/self")[2])
    assert self_stats["state"] == "StateLeader" and self_stats["leaderInfo"]["leader"] == members[0]["id"], self_stats
    assert json.loads(curl(url + "/v2/stats/leader")[2]) == {"leader": members[0]["id"], "followers": {}}
    assert "etcd_server_has_leader 1\n" in curl(url + "/metrics")[2]


@cases.case("a listing of 20 MB arrives whole while it is being written to")
def large_listing():
    url = cluster(1).endpoints()
    for number in range(40):
        assert etcd_server.call("%s/v2/keys/large/%02d" % (url, number), "PUT", "value=" + "x" * 500000)[0] == 201
    process = start(["curl", "-s", "--limit-rate", "20M", url + "/v2/keys/large?recursive=true"], stdout=subprocess.PIPE)
    for number in range(40):
        assert etcd_server.call("%s/v2/keys/large/%02d" % (url, number), "PUT", "value=y")[0] == 200
    body, _ = process.communicate(timeout=60)
    nodes = json.loads(body)["node"]["nodes"]
    assert len(nodes) == 40 and len({node["value"] for node in nodes}) in (1, 2), len(nodes)
    # From one moment: once one of the new values shows up, all that were written before it are new as well.
    changed = [node["value"] == "y" for node in nodes]
    assert changed == sorted(changed, reverse=True), changed
    assert etcd_server.call(url + "/v2/keys/large?recursive=true", "DELETE")[0] == 200


@cases.case("Debian's etcdctl works with one member")
def etcdctl_one():
    endpoints = cluster(1).endpoints()
    assert etcdctl(endpoints, "set", "/ctl/k", "v")[:2] == (0, "v\n")
    assert etcdctl(endpoints, "get", "/ctl/k")[:2] == (0, "v\n")
    assert etcdctl(endpoints, "ls", "--recursive", "/ctl")[:2] == (0, "/ctl/k\n")
    assert etcdctl(endpoints, "mk", "/ctl/k", "v")[0] == 4
    status, _, error = etcdctl(endpoints, "get", "/ctl/none")
    assert status == 4 and "100: Key not found (/ctl/none)" in error, error
    assert etcdctl(endpoints, "update", "/ctl/k", "w")[:2] == (0, "w\n")
    assert etcdctl(endpoints, "set", "--ttl", "60", "/ctl/t", "v")[0] == 0
    assert etcdctl(endpoints, "rm", "--recursive", "/ctl")[0] == 0
    status, out, _ = etcdctl(endpoints, "cluster-health")
    assert status == 0 and "cluster is healthy" in out, out
    status, out, _ = etcdctl(endpoints, "member", "list")
    assert status == 0 and "name=infra0" in out and "isLeader=true" in out, out


@cases.case("Debian's etcdctl works with three members, each of which answers any request")
def etcdctl_three():
    members = cluster(3).members
    for number, member in enumerate(members):
        assert etcdctl(member.endpoint, "set", "/three/%d" % number, member.name)[:2] == (0, member.name + "\n")
    for member in members:
        for number, other in enumerate(members):
            status, _, body = curl("%s/v2/keys/three/%d?quorum=true" % (member.endpoint, number))
            assert status == 200 and json.loads(body)["node"]["value"] == other.name, body
    wait_for(lambda: etcdctl(cluster(3).endpoints(), "cluster-health")[1].count("is healthy") == 4, 20, "a healthy cluster")
    status, out, _ = etcdctl(cluster(3).endpoints(), "member", "list")
    assert out.count("isLeader=true") == 1 and out.count("name=infra") == 3, out


@cases.case("the first user write of a fresh cluster of three has index 8")
def first_index():
    fresh = etcd_server.Cluster(program("etcd"), 3)
    wait_for(lambda: all(member.index() == 7 for member in fresh.members), 20, "the cluster's own events")
    status, headers, _ = etcd_server.call(fresh.members[1].endpoint + "/v2/keys/k", "PUT", "value=v")
    assert status == 201 and headers["X-Etcd-Index"] == "8", headers
    fresh.kill()


@cases.case("the leader tells how long its followers take, the others refuse")
def followers():
    three = cluster(3)
    leader = wait_for(three.leader, 20, "a leader")
    for number in range(20):
        assert leader.request("PUT", "/v2/keys/followers/%d" % number, "value=1")[0] == 201
    status, told = leader.request("GET", "/v2/stats/leader")
    others = [member for member in three.members if member is not leader]
    assert status == 200 and told["leader"] == leader.id(), told
    assert sorted(told["followers"]) == sorted(member.id() for member in others), told
    for follower in told["followers"].values():
        latency = follower["latency"]
        assert follower["counts"]["success"] > 0 and follower["counts"]["fail"] >= 0, told
        assert 0 < latency["minimum"] <= latency["average"] <= latency["maximum"] < 60000, told
        assert latency["minimum"] <= latency["current"] <= latency["maximum"] and latency["standardDeviation"] >= 0, told
    assert others[0].request("GET", "/v2/stats/leader") == (403, {"message": "not current leader"})


@cases.case("a watch on a follower sees what is written through another member")
def watch_elsewhere():
    members = cluster(3).members
    answer = []
    watcher = threading.Thread(target=lambda: answer.append(curl(members[2].endpoint + "/v2/keys/far?wait=true&recursive=true")))
    watcher.start()
    wait_for(lambda: json.loads(etcd_server.call(members[2].endpoint + "/v2/stats/store")[2])["watchers"] == 1, 10, "the watch")
    assert curl("-X", "PUT", "-d", "value=1", members[0].endpoint + "/v2/keys/far/away")[0] == 201
    watcher.join(60)
    assert json.loads(answer[0][2])["node"]["key"] == "/far/away", answer


@cases.case("a member comes back after kill -9 with all that was acknowledged")
def restart():
    fresh = etcd_server.Cluster(program("etcd"), 1)
    member = fresh.members[0]
    for number in range(50):
        assert etcd_server.call("%s/v2/keys/r/%d" % (member.endpoint, number), "PUT", "value=%d" % number)[0] == 201
    before = member.index()
    member.kill()
    member.start()
    wait_for(member.ready, 20, "the member")
    nodes = json.loads(curl(member.endpoint + "/v2/keys/r")[2])["node"]["nodes"]
    assert len(nodes) == 50
    wait_for(lambda: member.index() == before + 1, 10, "the member to publish itself again")
    fresh.kill()


def refused(*arguments):
    out = subprocess.run([program("etcd")] + list(arguments), capture_output=True, timeout=60)
    assert out.returncode == 1, (out.returncode, out.stderr)
    return out.stderr.decode()


@cases.case("a data directory that cannot be used is refused with what is wrong and what to do")
def data_directories():
    directory = temp_dir()
    urls = ["--listen-client-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:1",
            "--listen-peer-urls", "http://127.0.0.1:0"]
    os.makedirs(directory + "/real/member/wal")
    error = refused("--data-dir", directory + "/real", *urls)
    assert "original etcd" in error and "another --data-dir" in error, error
    running = cluster(1).members[0]
    error = refused("--data-dir", os.path.join(running.directory, running.name), *urls)
    assert "in use by another process" in error and str(running.process.pid) in error, error
    fresh = etcd_server.Cluster(program("etcd"), 1)
    member = fresh.members[0]
    identity = os.path.join(member.directory, member.name, "flotilla", "identity")
    wait_for(lambda: "log yes" in open(identity).read(), 10, "the log to be marked")
    fresh.kill()
    shutil.rmtree(os.path.join(member.directory, member.name, "flotilla", "log"))
    error = refused(*member.argv[1:])
    assert "is damaged" in error and "--rebuild" in error and "restore a backup" in error, error
    with open(directory + "/file", "w"):
        pass
    assert "is not a directory" in refused("--data-dir", directory + "/file", *urls)


@cases.case("SIGTERM ends the process by the signal")
def sigterm():
    fresh = etcd_server.Cluster(program("etcd"), 1)
    process = fresh.members[0].process
    process.terminate()
    assert process.wait(60) == -15


cases.run()
