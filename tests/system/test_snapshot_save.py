#!/usr/bin/env python3
"""`etcdctl snapshot` where something is in its way: servers that fall silent, other saves to the same file, signals, and words
that are no names of files."""
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import harness
from harness import Cases, wait_for
from etcd_server import Cluster, call, ours

cases = Cases()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Scripted:
    """A server that answers each request by what `answer(connection)` does."""

    def __init__(self, answer):
        self.answer, self.asked = answer, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            connection = self.listener.accept()[0]
            connection.recv(4096)
            self.asked.set()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                self.answer(connection)
            except OSError:  # the client has gone
                pass


def stalls(connection):
    connection.sendall(HEAD % 100000 + b"four")
    threading.Event().wait(60)


def save(*words, **options):
    """A started `etcdctl WORDS`; what it prints goes to pipes."""
    return harness.start([harness.program("etcdctl")] + list(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         **options)


def etcdctl(*words, expect=0, cwd=None):
    """(stdout, stderr) of one call."""
    process = save(*words, cwd=cwd)
    out, error = process.communicate(timeout=harness.PATIENCE_S)
    assert process.returncode == expect, (words, process.returncode, out, error)
    return out, error


def contents(path):
    with open(path, "rb") as file:
        return file.read()


member = Cluster(ours(), 1).members[0]
for number in range(20):
    assert call("%s/v2/keys/k%d" % (member.endpoint, number), "PUT", "value=" + "v" * 3000)[0] == 201


@cases.case("a save that stalls and fails leaves alone what another one has saved meanwhile")
def _():
    path = os.path.join(harness.temp_dir(), "saved")
    go_on = threading.Event()

    def answer(connection):
        connection.sendall(HEAD % 1000)
        go_on.wait(60)
        connection.sendall(b"\x55" * 500)

    server = Scripted(answer)
    slow = save("--endpoints", server.endpoint, "snapshot", "save", path)
    assert server.asked.wait(20)
    etcdctl("--endpoints", member.endpoint, "snapshot", "save", path)
    good = contents(path)
    go_on.set()
    _, error = slow.communicate(timeout=harness.PATIENCE_S)
    assert slow.returncode == 1 and "unexpected EOF" in error, (slow.returncode, error)
    assert contents(path) == good and os.listdir(os.path.dirname(path)) == ["saved"]
    etcdctl("snapshot", "status", path)


@cases.case("four saves to one file at the same time are all well")
def _():
    path = os.path.join(harness.temp_dir(), "same")
    saves = [save("--endpoints", member.endpoint, "snapshot", "save", path) for _ in range(4)]
    for process in saves:
        _, error = process.communicate(timeout=harness.PATIENCE_S)
        assert process.returncode == 0, error
    etcdctl("snapshot", "status", path)
    assert os.listdir(os.path.dirname(path)) == ["same"] and os.stat(path).st_mode & 0o777 == 0o600


@cases.case("a save that a signal ends leaves nothing behind")
def _():
    server = Scripted(stalls)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        directory = harness.temp_dir()
        process = save("--endpoints", server.endpoint, "snapshot", "save", os.path.join(directory, "saved"))
        wait_for(lambda: [name for name in os.listdir(directory) if os.path.getsize(os.path.join(directory, name)) == 4], 20,
                 "the first bytes")
        process.send_signal(number)
        process.communicate(timeout=harness.PATIENCE_S)
        assert process.returncode == -number and os.listdir(directory) == [], (process.returncode, os.listdir(directory))


@cases.case("a server that says nothing is given up: one that stops in the middle, one that is stopped; the next one is asked")
def _():
    path = os.path.join(harness.temp_dir(), "saved")
    stopped = Cluster(ours(), 1).members[0]
    stopped.process.send_signal(signal.SIGSTOP)
    both = Scripted(stalls).endpoint + "," + stopped.endpoint
    _, error = etcdctl("--timeout", "2s", "--endpoints", both, "snapshot", "save", path, expect=1)
    assert "nothing came for 2000 ms" in error and "timeout awaiting response headers" in error and "--timeout" in error, error
    assert os.listdir(os.path.dirname(path)) == []
    etcdctl("--timeout", "1s", "--endpoints", both + "," + member.endpoint, "snapshot", "save", path)
    etcdctl("snapshot", "status", path)
    stopped.kill()


@cases.case("the whole may take longer than a request to a key, unless --total-timeout says so")
def _():
    path = os.path.join(harness.temp_dir(), "saved")
    etcdctl("--endpoints", member.endpoint, "snapshot", "save", path)
    good = contents(path)

    def drips(connection):
        connection.sendall(HEAD % len(good))
        for at in range(0, len(good), 10):
            connection.sendall(good[at:at + 10])
            time.sleep(0.05)

    def pauses(connection):
        connection.sendall(HEAD % len(good) + good[:1000])
        time.sleep(1.2)
        connection.sendall(good[1000:])

    _, error = etcdctl("--total-timeout", "400ms", "--endpoints", Scripted(drips).endpoint, "snapshot", "save", path + "2", expect=1)
    assert "Client.Timeout exceeded" in error and "--total-timeout is over" in error and "waits longer" not in error, error
    etcdctl("--endpoints", Scripted(pauses).endpoint, "snapshot", "save", path + "2")
    assert contents(path + "2") == good


@cases.case("what the server says when it refuses is told")
def _():
    def refuses(connection):
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 27\r\n\r\n{\"message\":\"try it later\"}\r\n")

    path = os.path.join(harness.temp_dir(), "saved")
    _, error = etcdctl("--endpoints", Scripted(refuses).endpoint, "snapshot", "save", path, expect=1)
    assert "answers with status 503: {\"message\":\"try it later\"}\n" in error, error


@cases.case("words with a dash are flags, unless they stand behind --")
def _():
    directory = harness.temp_dir()
    for command in ("save", "status", "restore"):
        for words in (["--help"], ["file", "-h"]):
            out, error = etcdctl("snapshot", command, *words, cwd=directory)
            assert "snapshot restore FILE" in out and not error, (words, out, error)
        _, error = etcdctl("--endpoints", member.endpoint, "snapshot", command, "file", "--frob", expect=1, cwd=directory)
        assert "flag provided but not defined: -frob" in error and "etcdctl snapshot help" in error, error
        for words in ([], ["a", "b"], [""]):
            out, error = etcdctl("--endpoints", member.endpoint, "snapshot", command, *words, expect=1, cwd=directory)
            assert "snapshot restore FILE" in error and not out, (command, words, out, error)
    assert os.listdir(directory) == []
    etcdctl("--endpoints", member.endpoint, "snapshot", "save", "--", "--help", cwd=directory)
    assert os.listdir(directory) == ["--help"]
    etcdctl("snapshot", "status", "--", "--help", cwd=directory)


@cases.case("what is no regular file is neither replaced nor read, and why is said")
def _():
    directory = harness.temp_dir()
    names = {name: os.path.join(directory, name) for name in ("directory", "pipe", "link", "socket", "device", "file")}
    os.mkdir(names["directory"])
    os.mkfifo(names["pipe"])
    with open(names["file"], "w") as file:
        file.write("mine")
    os.symlink("file", names["link"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(names["socket"])
    try:
        os.mknod(names["device"], stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        del names["device"]
    for name, path in names.items():
        if name != "file":
            _, error = etcdctl("--endpoints", member.endpoint, "snapshot", "save", path, expect=1)
            assert "%s is a " % path in error and name in error and "another file" in error, error
        if name in ("directory", "pipe", "device"):
            for words in (["status", path], ["restore", path, "--data-dir", os.path.join(directory, "never")]):
                _, error = etcdctl("snapshot", *words, expect=1)
                assert "%s is a " % path in error and name in error, error
    assert sorted(os.listdir(directory)) == sorted(names) and contents(names["file"]) == b"mine"
    assert stat.S_ISFIFO(os.lstat(names["pipe"]).st_mode) and os.path.islink(names["link"])
    _, error = etcdctl("--endpoints", member.endpoint, "snapshot", "save", os.path.join(directory, "no", "file"), expect=1)
    assert "No such file or directory" in error, error


@cases.case("the status comes as a line, as a table with titles, and as JSON")
def _():
    path = os.path.join(harness.temp_dir(), "saved")
    etcdctl("--endpoints", member.endpoint, "snapshot", "save", path)
    line = etcdctl("snapshot", "status", path)[0]
    assert line == etcdctl("snapshot", "status", "-w", "simple", path)[0]
    digest, index, keys, size = line.strip().split(", ")
    table = etcdctl("snapshot", "status", path, "--write-out=table")[0].splitlines()
    assert len(table) == 5 and table[0] == table[2] == table[4] and len(set(map(len, table))) == 1, table
    assert [cell.strip() for cell in table[1].split("|")[1:-1]] == ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], table
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == [digest, index, keys, size], table
    found = json.loads(etcdctl("snapshot", "status", "-w", "json", path)[0])
    assert found == {"hash": int(digest, 16), "revision": int(index), "totalKey": int(keys),
                     "totalSize": os.path.getsize(path)}, found
    _, error = etcdctl("snapshot", "status", "-w", "yaml", path, expect=1)
    assert "simple, table or json" in error, error


cases.run()
