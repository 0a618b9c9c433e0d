#!/usr/bin/env python3
"""Clients and peers that mean harm, or are broken: too large, malformed, slow, pipelined without reading, thousands that come
and go, watchers and readers that never read; peers that speak nonsense. The member answers clearly or cuts them off, stays
small, and serves others meanwhile. Data directories that are another's are refused. Memory and times are judged on the
release build, everything else with sanitizers."""
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

import etcd_server
import harness
from harness import Cases, free_port, start, temp_dir, wait_for

cases = Cases()
RELEASE = os.path.join(os.environ.get("FLOTILLA_RELEASE", harness.BUILD), "etcd")
MB = 1 << 20

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def member(program=None, name="infra0", directory=None, prefix=(), cluster=None, peer_port=None, extra=()):
    peer = peer_port or free_port()
    return etcd_server.Member(program or RELEASE, name, free_port(), peer, cluster or "%s=http://127.0.0.1:%d" % (name, peer),
                              directory or temp_dir(), prefix=prefix, extra=extra)


def started(*arguments, **options):
    one = member(*arguments, **options)
    one.start()
    try:
        wait_for(one.ready, 30, "the member")
    except AssertionError as error:
        raise AssertionError("%s; its log ends:\n%s" % (error, one.log_tail()))
    return one


def port_of(url):
    return int(url.rsplit(":", 1)[1])


def connect(port, receive_bytes=None):
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    return connection


def read_all(connection, timeout_s=20):
    """What comes until the other end closes."""
    connection.settimeout(timeout_s)
    answer = b""
    try:
        while True:
            piece = connection.recv(1 << 20)
            if not piece:
                return answer
            answer += piece
    except (ConnectionResetError, BrokenPipeError):
        return answer


def memory_mb(one):
    with open("/proc/%d/smaps_rollup" % one.process.pid) as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    raise KeyError("Pss")


def descriptors(one):
    return len(os.listdir("/proc/%d/fd" % one.process.pid))


def check_serves(one, slowest_s=6.0, count=50):
    """Writes and reads of an honest client, each on a connection of its own; answers the slowest."""
    worst = 0
    for number in range(count):
        begun = time.monotonic()
        status, body = one.request("PUT", "/v2/keys/honest", "value=%d" % number)
        assert status in (200, 201), (status, body)
        status, body = one.request("GET", "/v2/keys/honest?quorum=true")
        assert status == 200 and body["node"]["value"] == str(number), (status, body)
        worst = max(worst, time.monotonic() - begun)
    assert worst < slowest_s, "an honest client waited for %.1f s" % worst
    return worst


def check_small(one, before_mb, more_mb, what):
    now_mb = memory_mb(one)
    print("# %s: %.1f MB before, %.1f MB with it" % (what, before_mb, now_mb))
    assert now_mb < before_mb + more_mb, "%s: %.1f MB, was %.1f MB" % (what, now_mb, before_mb)


def begin_peak(one):
    with open("/proc/%d/clear_refs" % one.process.pid, "w") as file:
        file.write("5")


def peak_mb(one):
    with open("/proc/%d/status" % one.process.pid) as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise KeyError("VmHWM")


def check_peak(one, before_mb, more_mb, what):
    peak = peak_mb(one)
    print("# %s: %.1f MB before, at most %.1f MB with it" % (what, before_mb, peak))
    assert peak < before_mb + more_mb, "%s: %.1f MB, was %.1f MB" % (what, peak, before_mb)


def put_head(path="/v2/keys/x", *lines):
    return ("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n%s\r\n" %
            (path, "".join(line + "\r\n" for line in lines))).encode()


def exchange(port, pieces):
    """What is answered to this, as far as the other end takes it, until it closes."""
    with connect(port) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return read_all(connection)


@cases.case("what is too large is refused with the right status, and its connection closed")
def too_large():
    one = started(harness.program("etcd"))
    port = port_of(one.endpoint)
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head, bad = b"431 Request Header Fields Too Large", b"400 Bad Request"
    form = b'{"errorCode":210,"message":"Invalid POST form","cause":"%s",'
    for what, pieces, status, text in [
            ("a request line", [b"GET /v2/keys/" + b"a" * 2 * MB + b" HTTP/1.1\r\n"], 431, head),
            ("a header", [b"GET /version HTTP/1.1\r\nHost: x\r\nX-Fill: " + b"y" * 2 * MB], 431, head),
            ("headers", [b"GET /version HTTP/1.1\r\nHost: x\r\n"] + [b"X-%d: y\r\n" % i for i in range(3000)], 431, head),
            ("a method", [b"M" * 100000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n"], 400, bad),
            ("a body by its length", [put_head("/v2/keys/x", "Content-Length: 100000000"), b"value="], 400,
             form % b"http: POST too large"),
            ("a body by one byte", [put_head("/v2/keys/x", "Content-Length: %d" % (10 * MB + 1), "Connection: close"),
                                    b"v" * (10 * MB + 1)], 400, form % b"http: POST too large"),
            ("a length that is no number of 64 bits", [put_head("/v2/keys/x", "Content-Length: " + "9" * 30)], 400, bad),
            ("a chunked body without end", [put_head("/v2/keys/x", "Transfer-Encoding: chunked")] + [chunk] * 400, 400,
             form % b"http: POST too large"),
            ("a chunk size", [put_head("/v2/keys/x", "Transfer-Encoding: chunked"), b"f" * 40 + b"\r\n"], 400, bad),
            ("a key", [b"PUT /v2/keys/" + b"k" * (MB - 50) + b" HTTP/1.0\r\n\r\n"], 400, form % b"key too long"),
            ("a member's name", [put_head("/v2/members/" + "7" * 5000, "Content-Length: 0", "Connection: close")], 404,
             b'{"message":"No such member: ' + b"7" * 5000 + b'"}')]:
        # Whoever is still sending gets the answer too, but for one who stands still for seconds, as a busy machine lets it.
        answer = next(filter(None, (exchange(port, pieces) for _ in range(3))), b"")
        start, _, body = answer.partition(b"\r\n\r\n")
        assert start.split(b" ", 2)[1:2] == [b"%d" % status] and body.startswith(text), (what, start[:200], body[:200])
    # What is as large as it may be.
    assert one.request("PUT", "/v2/keys/" + "k" * 100000, "value=1")[0] == 201
    status, body = one.request("PUT", "/v2/keys/large", "value=" + "v" * (10 * MB - 6), timeout=60)
    assert status == 201 and len(body["node"]["value"]) == 10 * MB - 6, status
    check_serves(one, slowest_s=20, count=5)
    one.kill()


@cases.case("ten megabytes of JSON where a small order is expected are refused unread, in little memory and time")
def large_orders():
    one = started()
    port = port_of(one.endpoint)
    items = b'{"a":[' + b"{}," * (10 * MB // 3 - 10) + b"{}]}"
    begin_peak(one)
    before, begun = peak_mb(one), time.monotonic()
    for line in ("POST /v2/members", "PUT /v2/members/1", "PUT /v2/%6dembers/1", "POST /flotilla/members/1/replace", "PUT /config/local/log",
                 "PUT /v2/auth/users/u"):
        framings = [("Content-Length: %d" % len(items), items), ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(items), items))]
        for framing, body in framings if "POST" in line else framings[:1]:
            with connect(port) as connection:
                connection.sendall(("%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n" % (line, framing)).encode())
                try:
                    connection.sendall(body)
                except (ConnectionResetError, BrokenPipeError):
                    pass
                answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 413 ") and b"request body too large" in answer, (line, framing, answer[:300])
    taken = time.monotonic() - begun
    assert taken < 25, "%.1f s for 8 refusals" % taken
    check_peak(one, before, 12, "8 orders of 10 MB")
    # What a key needs is still taken, and a body that nobody asked for does not matter.
    assert one.request("PUT", "/v2/k%65ys/large", "value=" + "v" * 9 * MB)[0] == 201
    status, answer = one.request("GET", "/v2/keys/large?quorum=true", "x" * MB)
    assert status == 200 and len(answer["node"]["value"]) == 9 * MB
    status, answer = one.request("GET", "/v2/keys/large?wait=true&waitIndex=%d" % answer["node"]["modifiedIndex"])
    assert status == 200 and len(answer["node"]["value"]) == 9 * MB
    assert one.request("DELETE", "/v2/keys/large", "x" * MB)[0] == 200
    one.kill()


@cases.case("large requests that wait for a quorum take bounded memory, and each gets an answer")
def waiting_for_a_quorum():
    peer = free_port()
    one = member(peer_port=peer, cluster="infra0=http://127.0.0.1:%d,infra1=http://127.0.0.1:%d" % (peer, free_port()))
    one.start()
    wait_for(lambda: etcd_server.call(one.endpoint + "/version", timeout=2)[0] == 200, 20, "the member")
    begin_peak(one)
    before, port, waiting = peak_mb(one), port_of(one.endpoint), []
    body = b"value=" + b"v" * 9 * MB
    for _ in range(16):
        for line in (b"GET /v2/keys/a?quorum=true", b"DELETE /v2/keys/a", b"PUT /v2/keys/a"):
            connection = connect(port)
            try:
                connection.sendall(b"%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                                   b"Content-Length: %d\r\n\r\n%s" % (line, len(body), body))
            except (ConnectionResetError, BrokenPipeError):
                pass
            waiting.append(connection)
    answers = {}
    for connection in waiting:
        answer = read_all(connection)
        status, text = answer[9:12], answer.partition(b"\r\n\r\n")[2]
        assert status in (b"500", b"503") and (b"etcdserver: " in text or b"nothing was done, try again later" in text), answer[:500]
        answers[text[:90]] = answers.get(text[:90], 0) + 1
        connection.close()
    print("# answers: %s" % answers)
    check_peak(one, before, 256 + 40, "48 requests of 9 MB without a quorum")
    assert etcd_server.call(one.endpoint + "/version")[0] == 200
    one.kill()


WRITES_THAT_WAIT = 16384  # on one member, in any number of bytes up to 64 MiB


@cases.case("more writes than may wait for a quorum are refused at once, in words, and those that wait go on when there is one")
def too_many_requests():
    names, directory = ["infra0", "infra1", "infra2"], temp_dir()
    peers = [free_port() for _ in names]
    initial = ",".join("%s=http://127.0.0.1:%d" % pair for pair in zip(names, peers))
    # The one that is asked has so much patience that nothing is given up on before it is full: 5 s and two election timeouts.
    cluster = [member(None, name, directory, (), initial, peer, ["--election-timeout", "50000"] if name == "infra0" else [])
               for name, peer in zip(names, peers)]
    for each in cluster:
        each.start()
    for each in cluster:
        wait_for(each.ready, 30, "the member")
    one, others = cluster[0], cluster[1:]

    def signal_others(number):
        for each in others:
            os.kill(each.process.pid, number)

    def begin(key, value):
        connection = connect(port_of(one.endpoint))
        length = "Content-Length: %d" % len(b"value=" + value)
        connection.sendall(put_head("/v2/keys/" + key, "Connection: close", length) + b"value=" + value)
        return connection

    def check_refused(value):
        begun = time.monotonic()
        status, _, text = etcd_server.call(one.endpoint + "/v2/keys/refused", "PUT", "value=" + value)
        assert (status, text) == (500, '{"errorCode":300,"message":"Raft Internal Error",'
                                       '"cause":"etcdserver: too many requests","index":0}\n'), (status, text)
        assert time.monotonic() - begun < 5, "it waited with the others"
        assert one.request("GET", "/v2/keys/before")[1]["node"]["value"] == "1"

    def check_answer(connection):
        with connection:
            connection.settimeout(harness.PATIENCE_S)
            answer = connection.recv(100)
        assert answer.startswith((b"HTTP/1.1 200 OK", b"HTTP/1.1 201 Created")), answer

    assert one.request("PUT", "/v2/keys/before", "value=1")[0] == 201
    if hard < WRITES_THAT_WAIT + 1000:
        print("# with %d open files (ulimit -Hn) there cannot be %d" % (hard, WRITES_THAT_WAIT))
    else:
        before = memory_mb(one)
        signal_others(signal.SIGSTOP)
        waiting = [begin("few/%d" % (number % 10), b"%d" % number) for number in range(WRITES_THAT_WAIT)]
        wait_for(lambda: one.metrics()["etcd_server_proposals_pending"] >= WRITES_THAT_WAIT, 20, "all to wait")
        check_refused("1")
        status, _, text = etcd_server.call(one.endpoint + "/v2/members", "POST", '{"peerURLs":["http://127.0.0.1:1"]}',
                                           headers={"Content-Type": "application/json"})
        assert (status, text) == (500, '{"message":"etcdserver: too many requests"}'), (status, text)
        check_small(one, before, 160, "%d writes that wait for a quorum" % WRITES_THAT_WAIT)
        signal_others(signal.SIGCONT)
        for connection in waiting:
            check_answer(connection)
        for number in range(10):
            assert one.request("GET", "/v2/keys/few/%d?quorum=true" % number)[0] == 200
    # The limit of bytes.
    signal_others(signal.SIGSTOP)
    waiting = [begin("large/%d" % number, b"v" * 9 * MB) for number in range(7)]
    wait_for(lambda: one.metrics()["etcd_server_pending_bytes"] > 63 * MB, 20, "all to wait")
    check_refused("v" * 2 * MB)
    waiting.append(begin("small", b"1"))  # there is still room for that
    wait_for(lambda: one.metrics()["etcd_server_proposals_pending"] == 8, 20, "it to wait")
    signal_others(signal.SIGCONT)
    check_answer(waiting[0])
    assert one.process.poll() is None and one.request("GET", "/v2/keys/refused")[0] == 404, one.log_tail()
    for each in cluster:
        each.kill()


@cases.case("random damage to requests is answered with an error or cut off, whatever it is")
def malformed():
    one = started(harness.program("etcd"))
    port, rng = port_of(one.endpoint), random.Random(4)
    sound = [put_head("/v2/keys/m?prevExist=false", "Content-Length: 7") + b"value=1",
             b"GET /v2/keys/?recursive=true&sorted=true HTTP/1.1\r\nHost: x\r\n\r\n",
             b"DELETE /v2/keys/m?prevValue=1 HTTP/1.1\r\nHost: x\r\n\r\n",
             put_head("/v2/keys/m", "Transfer-Encoding: chunked") + b"3\r\nval\r\n4\r\nue=2\r\n0\r\n\r\n",
             b"POST /v2/keys/queue HTTP/1.0\r\nContent-Length: 7\r\n\r\nvalue=x"]
    for _ in range(600):
        data = bytearray(rng.choice(sound) + rng.choice(sound))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            how = rng.randrange(4)
            if how == 0:
                data[at] = rng.randrange(256)
            elif how == 1:
                del data[at:at + rng.randrange(1, 20)]
            elif how == 2:
                data[at:at] = bytes(rng.choice([b"\0", b"\r\n", b" ", b"%", b"%00", b"\xff", b"../", b":", b"0" * 30]))
            else:
                data[at:at] = data[rng.randrange(len(data)):][:rng.randrange(40)]
        with connect(port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1."), (bytes(data), answer[:200])
    assert one.process.poll() is None, one.log_tail()
    check_serves(one, slowest_s=20, count=5)
    one.kill()


@cases.case("two thousand clients that send a byte now and then hold little memory and stop nobody")
def slow_clients():
    one = started()
    port, request = port_of(one.endpoint), put_head("/v2/keys/slow", "Content-Length: 7") + b"value=1"
    before = memory_mb(one)
    slow = [connect(port) for _ in range(2000)]
    for at in range(30):
        for number, connection in enumerate(slow):
            # A third sends bytes of a head, a third is inside a body, a third says nothing.
            if number % 3 == 0:
                connection.send(request[at:at + 1])
            elif number % 3 == 1:
                connection.send(request[:-7] if at == 0 else request[-7 + at // 6:][:1] if at % 6 == 0 else b"")
    worst = check_serves(one)
    check_small(one, before, 25, "2000 slow clients (%.0f ms for the slowest honest request)" % (worst * 1000))
    for connection in slow:
        connection.close()
    wait_for(lambda: descriptors(one) < 60, 20, "their descriptors")
    one.kill()


@cases.case("ninety uploads that stand still cost no more than all clients together may hold")
def held_uploads():
    one = started()
    port = port_of(one.endpoint)
    before = memory_mb(one)
    head = put_head("/v2/keys/held", "Content-Length: %d" % (9 * MB)) + b"value="
    held, piece = [], b"v" * MB
    for _ in range(90):
        connection = connect(port)
        connection.sendall(head)
        connection.setblocking(False)
        held.append([connection, 6 * MB])
    deadline = time.monotonic() + 25
    while any(left for _, left in held) and time.monotonic() < deadline:
        for entry in held:
            try:
                if entry[1]:
                    entry[1] -= entry[0].send(piece[:entry[1]])
            except BlockingIOError:
                pass
            except OSError:
                entry[1] = 0
    assert not any(left for _, left in held), "the member does not take what it is sent"
    check_serves(one)
    check_small(one, before, 256 + 80, "90 uploads of 6 MB that stand still")
    assert "the slowest are cut off" in one.log_tail(), one.log_tail()
    for connection, _ in held:
        connection.close()
    one.kill()


@cases.case("five thousand pipelined requests whose answers nobody reads take bounded memory, and keep their order when read")
def pipelined():
    one = started()
    port = port_of(one.endpoint)
    one.request("PUT", "/v2/keys/big", "value=" + "b" * 20000)
    before = memory_mb(one)
    connections = []
    for _ in range(20):
        connection = connect(port, 4096)
        connection.setblocking(False)
        connections.append(connection)
        data = b"GET /v2/keys/big HTTP/1.1\r\nHost: x\r\n\r\n" * 5000
        try:
            while data:
                data = data[connection.send(data):]
        except BlockingIOError:
            pass
    worst = check_serves(one)
    check_small(one, before, 40, "20 clients with up to 5000 requests of 20 kB each unread (slowest honest %.0f ms)" % (worst * 1000))
    for connection in connections:
        connection.close()
    with connect(port) as connection:
        connection.sendall(b"".join(put_head("/v2/keys/order", "Content-Length: %d" % len(b"value=%d" % i)) + b"value=%d" % i +
                                    b"GET /v2/keys/order HTTP/1.1\r\nHost: x\r\n\r\n" for i in range(1000)) +
                           b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(connection)
    at = -1
    for i in range(1000):
        for action in (b'"action":"set"', b'"action":"get"'):
            at = answer.find(action, at + 1)
            assert at >= 0, (i, action)
            node = answer.index(b'"value":"', at)
            assert answer[node:].startswith(b'"value":"%d"' % i), (i, answer[at:at + 200])
    one.kill()


@cases.case("fifty readers of a large answer and watchers of large events who never read take bounded memory")
def never_reading():
    one = started()
    port = port_of(one.endpoint)
    for i in range(60):
        assert one.request("PUT", "/v2/keys/tree/%d" % i, "value=" + "t" * 100000)[0] == 201
    before = memory_mb(one)
    silent = [connect(port, 4096) for _ in range(50)]
    for connection in silent:
        connection.sendall(b"GET /v2/keys/tree?recursive=true HTTP/1.1\r\nHost: x\r\n\r\n")
    watchers = [connect(port, 4096) for _ in range(50)]
    for connection in watchers:
        connection.sendall(b"GET /v2/keys/watched?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n")
    worst = check_serves(one)
    check_small(one, before, 110, "50 large answers unread (slowest honest %.0f ms)" % (worst * 1000))
    for i in range(100):
        assert one.request("PUT", "/v2/keys/watched/%d" % (i % 5), "value=" + "w" * 100000)[0] in (200, 201)
    worst = check_serves(one)
    # The values themselves are in the event history: 100 of 100 kB.
    check_small(one, before, 256 + 60, "and 50 watchers behind by 10 MB each (slowest honest %.0f ms)" % (worst * 1000))
    for connection in silent + watchers:
        connection.close()
    wait_for(lambda: descriptors(one) < 60, 20, "their descriptors")
    check_small(one, before, 60, "and all of them gone")
    one.kill()


@cases.case("readers of large answers who read nothing hold few of them open: others wait a little, or are told to come again")
def large_answers_held():
    one = started()
    port = port_of(one.endpoint)
    for i in range(6):
        assert one.request("PUT", "/v2/keys/tree/%d" % i, "value=" + "t" * MB)[0] == 201
    question = b"GET /v2/keys/tree?recursive=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def silent(count):
        readers = [connect(port, 4096) for _ in range(count)]
        for connection in readers:
            connection.sendall(question)
        return readers

    readers, begun = silent(40), time.monotonic()
    wait_for(lambda: one.metrics()["etcd_http_large_answers_postponed"] == 8, 10, "the others to wait")
    assert one.metrics()["etcd_http_large_answers"] == 32
    answer = b"HTTP/1.1 503 "
    while answer.startswith(b"HTTP/1.1 503 ") and time.monotonic() - begun < 15:  # as it may be while the machine is busy
        with connect(port) as connection:
            connection.sendall(question)
            answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"t" * MB) == 6 and answer.endswith(b"0\r\n\r\n"), answer[:300]
    print("# an honest one behind 40 of them had waited for %.1f s" % (time.monotonic() - begun))
    assert "too many large answers are read too slowly" in one.log_tail(), one.log_tail()
    check_serves(one, slowest_s=3, count=5)
    readers += silent(120)
    answers = [connection.recv(1000) for connection in readers[-50:]]
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    # Some of them may get a place in the moment in which their time is up.
    assert len(refused) > 10 and all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers if answer not in refused), answers
    assert all(b"too many large answers are being read from this member" in answer for answer in refused), refused
    assert one.metrics()["etcd_http_large_answers"] <= 32
    for connection in readers:
        connection.close()
    wait_for(lambda: one.metrics()["etcd_http_large_answers"] == one.metrics()["etcd_http_large_answers_postponed"] == 0, 10, "their end")
    one.kill()


@cases.case("ten thousand connections that are opened and dropped, in every state, leave nothing behind")
def dropped():
    one = started()
    rng, port, peer = random.Random(5), port_of(one.endpoint), port_of(one.peer)
    starts = [b"", b"G", b"GET /v2/keys/ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n",
              put_head("/v2/keys/a", "Content-Length: 7") + b"value=1", put_head("/v2/keys/a", "Content-Length: 9000") + b"value",
              b"GET /v2/keys/a?quorum=true HTTP/1.1\r\nHost: x\r\n\r\n" * 3, b"\x16\x03\x01"]
    reset = struct.pack("ii", 1, 0)
    for number in range(10000):
        if number == 5000:  # what is kept for reuse is there by now
            check_serves(one)
            before, files = memory_mb(one), descriptors(one)
        connection = connect(peer if number % 5 == 0 else port)
        data = rng.choice(starts)
        if data:
            connection.send(data)
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.close()
    check_serves(one)
    wait_for(lambda: descriptors(one) <= files + 2, 20, "descriptors as before")
    check_small(one, before, 5, "after 10000 connections that were dropped")
    one.kill()


@cases.case("when all places are taken honest clients are still served, writes go on, and the log says so")
def no_descriptors():
    # With so few open files the log still gets its own.
    one = started(prefix=["prlimit", "--nofile=300:300"])
    port = port_of(one.endpoint)
    idle = []
    for _ in range(600):
        connection = connect(port)
        connection.send(b"GET ")
        idle.append(connection)
    wait_for(lambda: "all places for connections are taken" in one.log_tail(), 20, "the log line")
    # The others stand in front of it, and each may be silent for a second before it loses its place.
    check_serves(one, slowest_s=20, count=1)
    check_serves(one, slowest_s=5, count=10)
    for i in range(40):  # enough for new segments of the log
        assert one.request("PUT", "/v2/keys/fill/%d" % i, "value=" + "f" * 100000)[0] == 201
    assert descriptors(one) <= 300
    for connection in idle:
        connection.close()
    check_serves(one)
    one.kill()


@cases.case("watches cannot take all places: more are refused in words, and all else is served")
def watches_everywhere():
    one = started(prefix=["prlimit", "--nofile=300:300"])
    port = port_of(one.endpoint)
    watches = []
    for _ in range(400):
        connection = connect(port)
        connection.send(b"GET /v2/keys/none?wait=true HTTP/1.1\r\nHost: x\r\n\r\n")
        watches.append(connection)
    wait_for(lambda: "watches have taken all places" in one.log_tail(), 20, "the log line")
    check_serves(one, slowest_s=5, count=10)
    assert etcd_server.call(one.endpoint + "/health", timeout=5)[0] == 200
    status, _, text = etcd_server.call(one.endpoint + "/v2/keys/none?wait=true", timeout=5)
    assert status == 503 and "too many watches are open on this member: ask another member" in text, (status, text)
    assert one.metrics()["etcd_store_watchers"] == 132
    for connection in watches[:2]:  # their places are free again
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        connection.close()
    wait_for(lambda: one.metrics()["etcd_store_watchers"] == 130, 5, "places")
    with connect(port) as connection:
        connection.sendall(b"GET /v2/keys/told?wait=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert one.request("PUT", "/v2/keys/told", "value=1")[0] == 201
        assert b'"key":"/told"' in read_all(connection)
    for connection in watches:
        connection.close()
    one.kill()


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


def hello(one, cluster=None, sender=1, to=None, kind="small", urls=None):
    return ("GET /flotilla/peer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: flotilla-peer/1\r\n"
            "X-Etcd-Cluster-ID: %s\r\nX-Server-From: %s\r\nX-Server-To: %s\r\nX-Peer-Stream: %s\r\n%s\r\n" %
            (cluster, sender, to or one.id(), kind, "X-PeerURLs: %s\r\n" % urls if urls else "")).encode()


@cases.case("peers that speak nonsense, are strangers, claim another's id, or send half or huge frames disturb no cluster")
def hostile_peers():
    cluster = etcd_server.Cluster(harness.program("etcd"), 3)
    target = cluster.members[0]
    port = port_of(target.peer)
    cluster_id = etcd_server.call(target.endpoint + "/v2/keys/")[1]["X-Etcd-Cluster-Id"]
    own, other = target.id(), cluster.members[1].id()
    assert target.request("PUT", "/v2/keys/before", "value=1")[0] == 201
    for what, data, status in [("a stranger", hello(target, cluster_id, "abc", own), 403),
                               ("another cluster", hello(target, "abc", other, own), 412),
                               ("who means another member", hello(target, cluster_id, other, "abc"), 412),
                               ("itself", hello(target, cluster_id, own, own), 403),
                               ("a stream of no kind", hello(target, cluster_id, other, own, "huge"), 400),
                               ("a large body", b"POST /members HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 405)]:
        with connect(port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (what, answer[:300])
    rng = random.Random(6)
    envelope = struct.pack("<B", 1) + struct.pack("<Q", int(cluster_id, 16))
    for what, data in [("nonsense", b"".join(frame(bytes(rng.randrange(256) for _ in range(rng.randrange(300)))) for _ in range(50))),
                       ("empty frames", frame(b"") * 1000),
                       ("half an envelope", frame(envelope)),
                       ("a huge frame", struct.pack("<I", 0xffffffff) + b"x" * 100000),
                       ("half a frame", struct.pack("<I", 15 * MB) + b"x" * 5 * MB),
                       ("half a length", b"\x01\x02")]:
        for kind in ("small", "bulk"):
            with connect(port) as connection:
                connection.sendall(hello(target, cluster_id, other, own, kind))
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 101 "), (what, answer[:300])
    for number in range(1500):
        connection = connect(port)
        connection.send(hello(target, cluster_id, other, own) if number % 3 == 0 else b"GET /mem" if number % 3 == 1 else b"\0")
        connection.close()
    log = open(os.path.join(target.directory, target.name + ".log")).read()
    assert "sends what is no message of this cluster" in log and "sent a message above" in log, log[-3000:]
    assert log.count("\n") < 100, "the log was flooded"
    for one in cluster.members:
        assert one.process.poll() is None, one.log_tail()
        wait_for(lambda m=one: m.request("PUT", "/v2/keys/after", "value=1")[0] in (200, 201), 20, "a write")
        assert one.request("GET", "/v2/keys/before?quorum=true")[1]["node"]["value"] == "1"
    cluster.kill()


@cases.case("peer connections with slow heads are dropped, and half frames on many of them take bounded memory")
def slow_peers():
    cluster = etcd_server.Cluster(RELEASE, 3)
    target, other, third = cluster.members
    port, nowhere = port_of(target.peer), "http://127.0.0.1:%d" % free_port()
    cluster_id = etcd_server.call(target.endpoint + "/v2/keys/")[1]["X-Etcd-Cluster-Id"]
    ids = [one.id() for one in cluster.members]
    check_serves(target, count=5)
    before, slow, held = memory_mb(target), [], []

    def begin_head():
        slow.append(connect(port))
        slow[-1].send(b"GET /flo")

    def next_bytes():
        for connection in slow:
            try:
                connection.send(b"t")
            except OSError:
                pass

    def hold_halves(senders):
        """Connections of these senders, all let in; each sends half a frame of 15 MB, as far as it is taken."""
        halves = []
        for sender in senders:
            for kind in "small", "bulk":
                connection = connect(port)
                connection.sendall(hello(target, cluster_id, sender, ids[0], kind, nowhere))
                assert connection.recv(100).startswith(b"HTTP/1.1 101 "), (sender, kind)
                connection.setblocking(False)
                held.append(connection)
                halves.append([connection, memoryview(struct.pack("<I", 15 * MB) + bytes(15 * MB // 2))])
        while any(left for _, left in halves):
            for half in halves:
                try:
                    half[1] = half[1][half[0].send(half[1]):]
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError):  # another one took its place
                    half[1] = b""

    # More than there are places: a member that comes back finds one, and counts.
    for _ in range(400):
        begin_head()
    other.kill()
    other.start()
    wait_for(other.ready, 30, "the member")
    third.kill()
    wait_for(lambda: target.request("PUT", "/v2/keys/two", "value=1", timeout=5)[0] in (200, 201), 20, "a write by two")
    third.start()
    # The last 8 strangers are there, and members; each with two connections.
    hold_halves(ids[1:])
    for batch in range(2):
        next_bytes()
        time.sleep(1.1)  # 8 new ones a second are let in
        hold_halves("%x" % (8 * batch + number + 1) for number in range(8))
    assert target.metrics()["etcd_network_peer_strangers"] == 8
    check_small(target, before, 20 * 7.5 + 40, "half frames on %d peer connections" % len(held))
    check_serves(target, count=5)
    for connection in slow:
        assert read_all(connection) == b""  # its time is up, or its place was needed
    for connection in held:
        connection.close()
    wait_for(lambda: target.metrics()["etcd_network_peer_strangers"] == 0, 20, "the strangers to go")
    check_small(target, before, 20, "and all of them gone")
    for one in cluster.members:
        wait_for(lambda m=one: m.request("PUT", "/v2/keys/after", "value=1", timeout=5)[0] in (200, 201), 20, "a write")
    cluster.kill()


@cases.case("a data directory of another member or cluster is refused by name, and one in use cannot be used twice")
def foreign_directories():
    cluster = etcd_server.Cluster(harness.program("etcd"), 3)
    assert cluster.members[0].request("PUT", "/v2/keys/a", "value=1")[0] == 201
    first, second = cluster.members[:2]
    out = subprocess.run(first.argv, capture_output=True, timeout=20)
    assert out.returncode == 1 and b"is in use by another process" in out.stderr, out
    second.kill()
    first.kill()
    own = os.path.join(second.directory, second.name)
    shutil.move(own, own + ".kept")
    shutil.copytree(os.path.join(first.directory, first.name), own)
    out = subprocess.run(second.argv, capture_output=True, timeout=20)
    assert out.returncode == 1 and b"belongs to member" in out.stderr and b"--data-dir" in out.stderr, out
    stranger = started(harness.program("etcd"))
    stranger.kill()
    shutil.rmtree(own)
    shutil.copytree(os.path.join(stranger.directory, stranger.name), own)
    out = subprocess.run(second.argv, capture_output=True, timeout=20)
    assert out.returncode == 1 and b"of cluster" in out.stderr, out
    # Only its log comes from elsewhere: the files themselves say whose they are.
    shutil.rmtree(own)
    shutil.copytree(own + ".kept", own)
    shutil.rmtree(os.path.join(own, "flotilla", "log"))
    shutil.copytree(os.path.join(first.directory, first.name, "flotilla", "log"), os.path.join(own, "flotilla", "log"))
    out = subprocess.run(second.argv, capture_output=True, timeout=20)
    assert out.returncode == 1 and b"belongs to" in out.stderr, out
    shutil.rmtree(own)
    shutil.move(own + ".kept", own)
    for one in (first, second):
        one.start()
    for one in cluster.members:
        wait_for(one.ready, 30, "the member")
        assert one.request("GET", "/v2/keys/a?quorum=true")[1]["node"]["value"] == "1"
    cluster.kill()


@cases.case("closed standard streams and signals of terminals and pipes do no harm")
def odd_surroundings():
    # Descriptors 0 to 2 must not become files of the store: what is meant for a person would be written into them.
    one = started(harness.program("etcd"), prefix=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    with connect(port_of(one.peer)) as connection:  # makes it complain
        connection.sendall(b"GET /flotilla/peer HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
    assert [os.readlink("/proc/%d/fd/%d" % (one.process.pid, fd)) for fd in range(3)] == ["/dev/null"] * 3
    one.process.send_signal(signal.SIGPIPE)
    check_serves(one, slowest_s=20, count=3)
    one.kill()
    one.start()
    wait_for(one.ready, 30, "the member")
    assert one.request("GET", "/v2/keys/honest")[1]["node"]["value"] == "2"
    one.process.send_signal(signal.SIGHUP)
    assert one.process.wait(10) == -signal.SIGHUP


cases.run()
