#!/usr/bin/env python3
"""Watches under strain: thousands on one key, streams that are not read, watches that come and go while keys change."""
import json
import random
import resource
import socket
import threading
import time

import etcd_server
from harness import Cases, program, wait_for

cases = Cases()
clusters = []


def member():
    if not clusters:
        clusters.append(etcd_server.Cluster(program("etcd"), 1))
    return clusters[0].members[0]


def port():
    return int(member().endpoint.rsplit(":", 1)[1])


def put(key, value):
    status, headers, _ = etcd_server.call("%s/v2/keys/%s" % (member().endpoint, key), "PUT", "value=" + value)
    assert status in (200, 201), status
    return int(headers["X-Etcd-Index"])


def watchers():
    return json.loads(etcd_server.call(member().endpoint + "/v2/stats/store")[2])["watchers"]


def open_watch(path):
    sock = socket.create_connection(("127.0.0.1", port()))
    sock.sendall(b"GET /v2/keys/%s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    return sock


@cases.case("three thousand long polls on one key are all told of one write, each once")
def many():
    count = 3000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    socks = [open_watch("many?wait=true") for _ in range(count)]
    wait_for(lambda: watchers() == count, 20, "all watches")
    index = put("many", "now")
    wait_for(lambda: watchers() == 0, 20, "all to be told")
    for sock in socks:
        data = b""
        sock.settimeout(60)
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = sock.recv(65536)
            assert piece, data
            data += piece
        assert data.count(b'"action":"set"') == 1 and b'"modifiedIndex":%d' % index in data, data
        sock.close()


@cases.case("a stream that is not read is cut off in the end, and holds up neither writes nor other watches")
def slow():
    lazy = open_watch("slow?wait=true&stream=true&recursive=true")
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    eager = open_watch("slow?wait=true&stream=true&recursive=true")
    seen, sign = [], b'"action":"set"'

    def read():
        rest = b""
        while True:
            piece = eager.recv(1 << 20)
            if not piece:
                return
            rest += piece
            seen.append(rest.count(sign))
            # Of what was counted nothing may be counted again, and a sign may arrive in two pieces.
            rest = rest[max(len(rest) - len(sign) + 1, rest.rfind(sign) + len(sign) if sign in rest else 0):]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: watchers() == 2, 10, "both streams")
    value = "x" * 100000
    begun = time.monotonic()
    written = 0
    while watchers() == 2:
        put("slow/%d" % (written % 10), value)
        written += 1
        assert written < 2000, "the stream that is not read is still there after 200 MB"
    assert (time.monotonic() - begun) / written < 0.5, "writes were held up"
    wait_for(lambda: sum(seen) == written, 20, "the eager stream to have seen all")
    assert watchers() == 1
    lazy.close()
    eager.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: watchers() == 0, 10, "the last stream to end")


@cases.case("chained long polls with waitIndex miss no change, however fast keys change")
def chained():
    start = put("chain/begin", "0")
    last = [0]

    def write():
        for number in range(600):
            last[0] = put("chain/%d" % random.randrange(20), str(number))

    writer = threading.Thread(target=write)
    writer.start()
    index, seen, node = start + 1, [], {"value": None}
    while node["value"] != "599":
        status, _, body = etcd_server.call("%s/v2/keys/chain?wait=true&recursive=true&waitIndex=%d" % (member().endpoint, index))
        assert status == 200, body
        node = json.loads(body)["node"]
        seen.append(node["modifiedIndex"])
        index = node["modifiedIndex"] + 1
    writer.join()
    assert seen == list(range(start + 1, last[0] + 1)), "some changes were missed"


@cases.case("watches that come and go at random leave nothing behind")
def churn():
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    socks = []
    print("# seed %d" % seed)
    for step in range(1500):
        choice = rng.random()
        if choice < 0.5:
            path = "/".join(["churn"] + [str(rng.randrange(3)) for _ in range(rng.randrange(3))])
            flags = rng.choice(["wait=true", "wait=true&recursive=true", "wait=true&recursive=true&stream=true"])
            socks.append(open_watch(path + "?" + flags))
        elif choice < 0.8 and socks:
            socks.pop(rng.randrange(len(socks))).close()
        else:
            path = "/".join(["churn"] + [str(rng.randrange(3)) for _ in range(2)])
            method = rng.choice(["PUT", "DELETE"])
            etcd_server.call("%s/v2/keys/%s%s" % (member().endpoint, path, "?recursive=true" if method == "DELETE" else ""),
                             method, "value=v" if method == "PUT" else None)
    for sock in socks:
        sock.close()
    wait_for(lambda: watchers() == 0, 10, "all watches to be gone (seed %d)" % seed)


cases.run()
