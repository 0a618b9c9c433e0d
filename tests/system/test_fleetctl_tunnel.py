#!/usr/bin/env python3
"""fleetctl's ways through another host: fd-forward, which fleet 1.0 runs there, and --tunnel through a real sshd."""
import os
import pwd
import shlex
import signal
import socket
import subprocess
import threading
import time

import harness
from certificates import Authority
from fleet_cluster import Cluster, Machine, processes

cases = harness.Cases()
cluster = Cluster("ours", machines=0)
API_PORT, TLS_PORT = harness.free_port(), harness.free_port()
AUTHORITY = Authority()
CERT, KEY = AUTHORITY.issue("fleet", "DNS:fleet.test,DNS:localhost")
MACHINE = Machine(cluster, 1, public_ip="127.0.0.1", api_certfile=CERT, api_keyfile=KEY,
                  also_listen="http://127.0.0.1:%d,https://127.0.0.1:%d" % (API_PORT, TLS_PORT))
USER = pwd.getpwuid(os.getuid()).pw_name
# A name that only the far host knows, where this user may make one.
FAR_NAME = "fleet.test" if os.getuid() == 0 else "localhost"


class Sshd:
    """A real sshd on loopback, which lets this user in with the key of `ssh`."""

    def __init__(self, name):
        self.port, directory = harness.free_port(), harness.temp_dir()
        key = os.path.join(directory, "host")
        make_key(key)
        with open(key + ".pub") as file:
            self.known = "[127.0.0.1]:%d %s" % (self.port, file.read())
        self.log_path = os.path.join(directory, name + ".log")
        config = os.path.join(directory, "config")
        with open(config, "w") as file:
            file.write("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s.pub\nStrictModes no\nUsePAM no\n"
                       "PidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nSetEnv PATH=%s:/usr/bin:/bin\n" %
                       (self.port, key, USER_KEY, os.path.abspath(harness.BUILD)))
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", config]
        if os.getuid() == 0:  # wants a directory in /run, which is made in a /run of its own
            hosts = os.path.join(directory, "hosts")
            with open(hosts, "w") as file:
                file.write("127.0.0.1 localhost %s\n" % FAR_NAME)
            argv = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && mount --bind %s /etc/hosts "
                    "&& exec %s" % (hosts, " ".join(argv))]
        with open(self.log_path, "w") as log:
            harness.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        harness.wait_for(lambda: socket.create_connection(("127.0.0.1", self.port)).close() or True, 10, "sshd")

    def logins(self):
        with open(self.log_path) as file:
            return file.read().count("Accepted publickey")


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)


HOME = harness.temp_dir()
USER_KEY = os.path.join(HOME, "user")
KNOWN = os.path.join(HOME, "known hosts")  # a name that has to be quoted
make_key(USER_KEY)
BASTION, FAR = Sshd("bastion"), Sshd("far")
with open(KNOWN, "w") as known:
    known.write(BASTION.known + FAR.known)
# OpenSSH's client as it is, but for what it would read of this user's own configuration.
os.mkdir(os.path.join(HOME, "bin"))
with open(os.path.join(HOME, "bin", "ssh"), "w") as script:
    script.write('#!/bin/sh\nexec /usr/bin/ssh -F %s "$@"\n' % os.path.join(HOME, "config"))
os.chmod(os.path.join(HOME, "bin", "ssh"), 0o755)
with open(os.path.join(HOME, "config"), "w") as config:
    config.write("IdentityFile %s\nIdentitiesOnly yes\nGlobalKnownHostsFile none\n" % USER_KEY)
ENVIRONMENT = dict(os.environ, PATH=os.path.join(HOME, "bin") + ":" + os.environ["PATH"], HOME=HOME)
GLOBALS = ["--tunnel=127.0.0.1:%d" % BASTION.port, "--ssh-username=" + USER, "--known-hosts-file=" + KNOWN]


def ctl(*arguments, known=KNOWN):
    """(exit status, stdout, stderr) of fleetctl through the bastion."""
    done = subprocess.run([harness.program("fleetctl")] + GLOBALS + ["--known-hosts-file=" + known] + list(arguments),
                          env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


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


@cases.case("the tunnel of a fleet 1.0, which is fd-forward on the far side, reaches fleetd")
def _():
    command = "fleetctl fd-forward " + shlex.quote(MACHINE.socket)
    done = subprocess.run(["ssh", "-p", str(BASTION.port), "-o", 'UserKnownHostsFile="%s"' % KNOWN, USER + "@127.0.0.1", command],
                          env=ENVIRONMENT, input=GET % b"", capture_output=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 0 and done.stdout.startswith(b"HTTP/1.1 200"), done
    assert MACHINE.id.encode() in done.stdout, done


@cases.case("--tunnel reaches fleetd's socket on another host")
def _():
    before = BASTION.logins()
    status, out, err = ctl("--endpoint=" + MACHINE.endpoint, "list-machines", "--full", "--no-legend")
    assert (status, err) == (0, "") and out.startswith(MACHINE.id), (status, out, err)
    assert BASTION.logins() == before + 1


@cases.case("--tunnel leads to a socket whatever its name")
def _():
    path = os.path.join(harness.temp_dir(), "a:b\\c %h%%.sock")
    os.symlink(MACHINE.socket, path)
    status, out, err = ctl("--endpoint=unix://" + path, "list-machines", "--full", "--no-legend")
    assert (status, err) == (0, "") and out.startswith(MACHINE.id), (status, out, err)


@cases.case("--tunnel reaches an http endpoint from the far host, by the name that it has there")
def _():
    status, out, err = ctl("--endpoint=http://%s:%d" % (FAR_NAME, API_PORT), "list-machines", "--full", "--no-legend")
    assert (status, err) == (0, "") and out.startswith(MACHINE.id), (status, out, err)
    status, out, err = ctl("--endpoint=http://%s:%d" % (FAR_NAME, harness.free_port()), "list-machines")
    assert status == 1 and out == "" and "Connection refused" in err and "/tmp/" not in err, (status, out, err)


@cases.case("--tunnel reaches an https endpoint, whose certificate must be for its own name")
def _():
    def ask(host, *more):
        return ctl("--endpoint=https://%s:%d" % (host, TLS_PORT), *more, "list-machines", "--full", "--no-legend")

    status, out, err = ask(FAR_NAME, "--ca-file=" + AUTHORITY.cert)
    assert (status, err) == (0, "") and out.startswith(MACHINE.id), (status, out, err)
    status, out, err = ask("127.0.0.1", "--ca-file=" + AUTHORITY.cert)
    assert status == 1 and out == "" and "x509: " in err and "127.0.0.1" in err, (status, out, err)
    status, out, err = ask(FAR_NAME)
    assert status == 1 and out == "" and "x509: certificate signed by unknown authority" in err, (status, out, err)


@cases.case("--tunnel with --driver=etcd works on the registry of a store that only the far host reaches")
def _():
    store = "http://%s:%d" % (FAR_NAME, cluster.store.port)
    for endpoints in (store, "http://%s:%d,%s" % (FAR_NAME, harness.free_port(), store)):
        etcd = ["--driver=etcd", "--endpoint=" + endpoints]
        status, out, err = ctl(*etcd, "list-machines", "--full", "--no-legend")
        assert status == 0 and out.startswith(MACHINE.id), (endpoints, status, out, err)
        cluster.unit("t.service", "/bin/sleep 71900")
        status, out, err = ctl(*etcd, "start", os.path.join(cluster.units, "t.service"))
        assert status == 0 and "Unit t.service launched on " in out, (endpoints, status, out, err)
        before = FAR.logins()
        # Its machine is asked by ssh: from here its fleetd may be out of reach.
        told = ctl(*etcd, "status", "--ssh-port=%d" % FAR.port, "t.service")
        assert FAR.logins() == before + 1, (endpoints, told)
        status, out, err = ctl(*etcd, "destroy", "t.service")
        assert status == 0 and "Destroyed t.service" in out, (endpoints, status, out, err)


@cases.case("--driver=etcd asks each endpoint of the store before it says that none answers")
def _():
    def ask(*endpoints):
        return subprocess.run([harness.program("fleetctl"), "--driver=etcd", "--endpoint=" + ",".join(endpoints), "list-machines",
                               "--full", "--no-legend"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=harness.PATIENCE_S)

    dead = ["http://127.0.0.1:%d" % harness.free_port() for _ in range(2)]
    done = ask(*dead, cluster.store.url)
    assert done.returncode == 0 and done.stdout.startswith(MACHINE.id), done
    begun = time.monotonic()
    done = ask(*dead)
    assert done.returncode == 1 and dead[0] + ": dial tcp" in done.stderr and "connection refused" in done.stderr, done
    assert time.monotonic() - begun < 7 * harness.slowness(), "who waited was not told"


@cases.case("a tunnel to nowhere is told in time")
def _():
    status, out, err = ctl("--ssh-username=no-such-user", "--endpoint=" + MACHINE.endpoint, "list-machines")
    assert status == 1 and out == "" and "no tunnel through 127.0.0.1:%d" % BASTION.port in err, (status, out, err)


@cases.case("nothing of a tunnel stays behind when fleetctl is ended by a signal")
def _():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asked = threading.Event()

        def silent(connection):
            connection.recv(1)
            asked.set()
            read_all(connection)

        peer = Peer(silent)
        process = harness.start([harness.program("fleetctl")] + GLOBALS + ["--endpoint=unix://" + peer.path, "list-machines"],
                                env=ENVIRONMENT, stdin=subprocess.DEVNULL)
        assert asked.wait(harness.PATIENCE_S)
        ssh = [argv for _, argv in processes().values() if any(peer.path in word for word in argv) and "-L" in argv]
        sockets = {argv[argv.index("-L") + 1].split(":")[0] for argv in ssh}
        assert len(sockets) == 1 and all(os.path.exists(path) for path in sockets), ssh
        process.send_signal(number)
        assert process.wait(harness.PATIENCE_S) == -number
        assert not os.path.exists(os.path.dirname(sockets.pop()))
        harness.wait_for(lambda: not any(peer.path in word for _, argv in processes().values() for word in argv), 5, "no ssh")


@cases.case("ssh through --tunnel checks the host keys of both hosts with the same file")
def _():
    far = ["--endpoint=" + MACHINE.endpoint, "ssh", "--ssh-port=%d" % FAR.port, MACHINE.id[:8], "echo", "over", "there"]
    before = BASTION.logins(), FAR.logins()
    assert ctl(*far) == (0, "over there\n", "")
    assert (BASTION.logins(), FAR.logins()) == (before[0] + 2, before[1] + 1)  # the API, and the way to the machine
    assert ctl("--strict-host-key-checking=false", *far, known="/dev/null/none") == (0, "over there\n", "")
    for known in (BASTION.known, FAR.known):
        path = os.path.join(HOME, "one")
        with open(path, "w") as file:
            file.write(known)
        status, out, err = ctl(*far, known=path)
        assert status != 0 and out == "" and "Host key verification failed" in err, (known, status, out, err)


cases.run()
