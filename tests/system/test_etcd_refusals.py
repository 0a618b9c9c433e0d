#!/usr/bin/env python3
"""What the server refuses: flags that make no sense, starts that cannot go on, bytes that are no request. Nothing half-done
stays behind, and the message names the flag or file."""
import os
import random
import signal
import socket
import subprocess
import time

import etcd_server
from harness import Cases, free_port, kill, program, start, temp_dir, wait_for

cases = Cases()


def run(*arguments, **env):
    out = subprocess.run([program("etcd")] + list(arguments), capture_output=True, timeout=60, cwd=temp_dir(),
                         env=dict(os.environ, **env))
    return out.returncode, out.stderr.decode(errors="replace")


@cases.case("flags and variables that make no sense are refused by name")
def flags():
    own = ["--initial-advertise-peer-urls", "http://127.0.0.1:1", "--initial-cluster"]
    for status, part, arguments in [
            (2, "flag provided but not defined: -bogus", ["--bogus"]),
            (2, "flag needs an argument: -name", ["--name"]),
            (1, "--name: a member's name must not contain control characters", ["--name", "nl\nmember 1"]),
            (2, 'invalid value "abc" for flag -heartbeat-interval', ["--heartbeat-interval=abc"]),
            (1, "'word' is not a valid flag", ["--debug", "word"]),
            (1, "--election-timeout[100ms]", ["--election-timeout", "100"]),
            (1, "--heartbeat-interval[0ms] must be", ["--heartbeat-interval", "0"]),
            (1, "--listen-client-urls: URL scheme must be http or https: foo", ["--listen-client-urls", "foo",
                                                                               "--advertise-client-urls", "http://h:1"]),
            (1, "--listen-peer-urls: ", ["--listen-peer-urls", "http://127.0.0.1:99999"]),
            (1, "--advertise-client-urls is required", ["--listen-client-urls", "http://127.0.0.1:1"]),
            (1, "TLS is not supported yet", ["--listen-peer-urls", "https://127.0.0.1:1"]),
            (1, "--initial-cluster-state", ["--initial-cluster-state", "old"]),
            (1, 'incomplete entry "default" (expected name=URL)', own + ["default"]),
            (1, 'couldn\'t find local name "default"', own + ["a=http://127.0.0.1:1"]),
            (1, "different URLs in --initial-cluster", own + ["default=http://127.0.0.1:2"]),
            (1, "have the same peer URLs", own + ["default=http://127.0.0.1:1,b=http://127.0.0.1:1"]),
            (1, "--cert-file: TLS is not supported yet", ["--cert-file", "x"]),
            (1, "--discovery: ", ["--discovery", "http://127.0.0.1:1/x"])]:
        code, text = run(*arguments)
        assert code == status and part in text, (arguments, code, text)
        assert text.count("\n") <= 2, text
    code, text = run(ETCD_HEARTBEAT_INTERVAL="abc")
    assert code == 2 and "ETCD_HEARTBEAT_INTERVAL" in text, (code, text)


def member(client_port=None):
    directory, name = temp_dir(), "infra0"
    peer = free_port()
    return etcd_server.Member(program("etcd"), name, client_port or free_port(), peer,
                              "%s=http://127.0.0.1:%d" % (name, peer), directory)


@cases.case("a start that fails because a port is taken leaves a data directory that works")
def port_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        one = member(taken.getsockname()[1])
        for _ in range(3):
            out = subprocess.run(one.argv, capture_output=True, timeout=60)
            assert out.returncode == 1 and b"address already in use" in out.stderr, out
    one.start()
    wait_for(one.ready, 20, "the member")
    one.kill()


@cases.case("a first start that is killed at any moment can be made again")
def killed_at_start():
    rng = random.Random(1)
    for _ in range(40):
        one = member()
        one.start()
        time.sleep(rng.random() * 0.06)
        one.kill()
        one.start()
        try:
            wait_for(one.ready, 20, "the member")
        except AssertionError as error:
            raise AssertionError("%s; its log ends:\n%s" % (error, one.log_tail()))
        one.kill()


@cases.case("a data directory that cannot be written to is refused by name")
def unwritable():
    code, text = run("--data-dir", "/proc/flotilla-test")
    assert code == 1 and "cannot write to data directory /proc/flotilla-test" in text, (code, text)


def ask(port, data, silence_s=0.3):
    """What comes back, until the other end closes or is silent for a moment."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(silence_s)
        try:
            connection.sendall(data)
            while True:
                piece = connection.recv(65536)
                if not piece:
                    return answer
                answer += piece
        except OSError:
            return answer


@cases.case("bytes that are no request are answered with 400 or cut off, on both ports, and the member goes on")
def nonsense():
    one = member()
    one.start()
    wait_for(one.ready, 20, "the member")
    rng = random.Random(2)
    put = b"PUT /v2/keys/x HTTP/1.1\r\nHost: x\r\n"
    for port in (int(one.endpoint.rsplit(":", 1)[1]), int(one.peer.rsplit(":", 1)[1])):
        for data in [bytes(rng.randrange(256) for _ in range(3000)), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
                     put + b"Content-Length: 100\r\nContent-Length: 5\r\n\r\nhello",
                     put + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                     put + b"Content-Length: -5\r\n\r\nhello", b"GET /version HTTP/1.1\r\n\r\n"]:
            answer = ask(port, data)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), (port, data[:60], answer[:100])
        assert ask(port, b"GET / HTTP/9.9\r\n\r\n", 20).startswith(b"HTTP/1.1 505 ")
        # A header without end is not collected for ever.
        answer = ask(port, b"GET /version HTTP/1.1\r\nHost: x\r\n" + b"X-Fill: " + b"y" * (4 << 20))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    upgrade = b"GET /flotilla/peer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: flotilla-peer/1\r\n"
    answer = ask(int(one.peer.rsplit(":", 1)[1]), upgrade + b"X-Etcd-Cluster-ID: 1\r\nX-Server-From: 2\r\n\r\n", 20)
    assert answer.startswith(b"HTTP/1.1 412 ") and b"cluster ID mismatch" in answer, answer
    assert one.request("PUT", "/v2/keys/a", "value=1")[0] == 201
    one.kill()


@cases.case("members of two clusters refuse one another and say which is which")
def two_clusters():
    directory = temp_dir()
    peers = [free_port() for _ in range(3)]
    urls = ["http://127.0.0.1:%d" % port for port in peers]
    # The first two know each other; the third has the second in a cluster of its own.
    first = "m0=%s,m1=%s" % (urls[0], urls[1])
    other = "m1=%s,m2=%s" % (urls[1], urls[2])
    members = [etcd_server.Member(program("etcd"), "m%d" % i, free_port(), peers[i], first if i < 2 else other, directory)
               for i in range(3)]
    for one in members:
        one.start()
    wait_for(members[1].ready, 20, "the first cluster")
    wait_for(lambda: "refuses this member (status 412): cluster ID mismatch" in members[2].log_tail(), 20, "the refusal")
    assert "refused a peer connection from 127.0.0.1" in members[1].log_tail()
    assert members[2].request("PUT", "/v2/keys/a", "value=1", timeout=60)[0] not in (200, 201)
    for one in members:
        one.kill()


@cases.case("SIGINT ends the process by the signal, also in the middle of writes")
def sigint():
    one = member()
    one.start()
    wait_for(one.ready, 20, "the member")
    load = start(["sh", "-c", "while curl -s -X PUT -d value=1 %s/v2/keys/a >/dev/null; do :; done" % one.endpoint])
    time.sleep(0.3)
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(60) == -signal.SIGINT
    kill(load)


cases.run()
