#!/usr/bin/env python3
"""fleetctl's ways through another host: fd-forward, which fleet 1.0 runs there, and --tunnel through a real sshd."""
import os
import socket
import subprocess
import threading
import time

import harness
from fleet_cluster import Cluster

cases = harness.Cases()
cluster = Cluster("ours", machines=1)
MACHINE = cluster.machine(1)


class Peer:
    """A Unix socket whose one connection is the business of a function."""

    def __init__(self, serve):
        self.path = os.path.join(harness.temp_dir(), "peer.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.answer = None
        self.thread = threading.Thread(target=self._run, args=(serve,), daemon=True)
        self.thread.start()

    def _run(self, serve):
        connection = self.listener.accept()[0]
        self.answer = serve(connection)
        connection.close()


def read_all(connection):
    pieces = []
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def forward(path, **options):
    return harness.start([harness.program("fleetctl"), "fd-forward", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, **options)


def cpu_s(pid):
    with open("/proc/%d/stat" % pid) as file:
        words = file.read().rsplit(") ", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def assert_idle(process, what):
    before = cpu_s(process.pid)
    time.sleep(1)
    assert cpu_s(process.pid) - before < 0.3, "%s: it runs all the time" % what


GET = b"GET /fleet/v1/machines HTTP/1.1\r\nHost: domain-sock\r\n%s\r\n"


@cases.case("fd-forward carries requests to fleetd's socket, and ends when stdin has ended")
def _():
    process = forward(MACHINE.socket)
    for _ in range(2):
        process.stdin.write(GET % b"")
        process.stdin.flush()
        text = b""
        while not text.endswith(b"}]}") and not text.endswith(b"}]}\n"):
            piece = os.read(process.stdout.fileno(), 1 << 16)
            assert piece, text
            text += piece
        assert text.startswith(b"HTTP/1.1 200") and MACHINE.id.encode() in text, text
    assert_idle(process, "with nothing to do")
    process.stdin.close()
    assert process.wait(harness.PATIENCE_S) == 0 and process.stdout.read() == b"" and process.stderr.read() == b""


@cases.case("fd-forward brings the whole answer when stdin ends before it")
def _():
    for more in (b"", b"Connection: close\r\n"):
        done = subprocess.run([harness.program("fleetctl"), "fd-forward", MACHINE.socket], input=GET % more, capture_output=True,
                              timeout=harness.PATIENCE_S)
        assert done.returncode == 0 and done.stderr == b"", done
        assert done.stdout.startswith(b"HTTP/1.1 200") and MACHINE.id.encode() in done.stdout, done


@cases.case("fd-forward carries much, both ways, and hands each end on")
def _():
    def late_answer(connection):
        text = read_all(connection)  # until the end of stdin has come
        connection.sendall(text)
        return len(text)

    data = os.urandom(8 << 20)
    peer = Peer(late_answer)
    done = subprocess.run([harness.program("fleetctl"), "fd-forward", peer.path], input=data, capture_output=True,
                          timeout=harness.PATIENCE_S)
    assert done.returncode == 0 and done.stdout == data and peer.answer == len(data), (done.returncode, len(done.stdout))


@cases.case("fd-forward waits without running for a reader of stdout that is slow, though the server has closed")
def _():
    data = os.urandom(1 << 20)
    process = forward(Peer(lambda connection: connection.sendall(data)).path)
    assert_idle(process, "with a full stdout")
    assert process.stdout.read() == data and process.wait(harness.PATIENCE_S) == 0


@cases.case("fd-forward takes what is said after the server's own end")
def _():
    def half_closing(connection):
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)

    peer = Peer(half_closing)
    process = forward(peer.path)
    assert process.stdout.read() == b""  # the end was handed on
    assert_idle(process, "with a server that only listens")
    process.stdin.write(b"late")
    process.stdin.close()
    assert process.wait(harness.PATIENCE_S) == 0
    peer.thread.join(harness.PATIENCE_S)
    assert peer.answer == b"late", peer.answer


@cases.case("fd-forward ends when the server is gone, or the reader of stdout")
def _():
    process = forward(Peer(lambda connection: None).path)
    assert process.wait(harness.PATIENCE_S) == 0
    process = forward(Peer(read_all).path)
    process.stdout.close()
    assert process.wait(harness.PATIENCE_S) == 0 and process.stderr.read() == b""


@cases.case("fd-forward says what is wrong in the words of fleet 1.0")
def _():
    def run(*arguments):
        done = subprocess.run([harness.program("fleetctl"), "fd-forward"] + list(arguments), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.PATIENCE_S)
        return done.returncode, done.stdout, done.stderr

    assert run() == (1, "", "Provide a single argument\n")
    assert run("/a", "/b") == (1, "", "Provide a single argument\n")
    assert run("/nope") == (0, "", "Failed dialing remote address: dial unix /nope: connect: no such file or directory\n")
    assert run("/" + "x" * 200)[2].endswith(": connect: invalid argument\n")


cases.run()
