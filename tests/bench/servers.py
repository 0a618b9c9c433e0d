"""What the benchmarks start and drive: clusters of our etcd and of Debian's, Redis, nginx, and the programs beside this
file that make load or show a limit."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
import etcd_server
import harness

VALUE_BYTES = 256
PUT_ONE = (b"PUT /v2/keys/first HTTP/1.1\r\nHost: bench\r\nContent-Length: 7\r\n"
           b"Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=1")


def tool(name):
    return os.path.join(harness.BUILD, "tests", "bench", "bench_" + name)


def output_of(argv):
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError("%s failed with status %d" % (os.path.basename(argv[0]), done.returncode))
    return json.loads(done.stdout)


def load(port, *options):
    """One run of the load generator; requests that fail fail the benchmark."""
    result = output_of([tool("load"), "--port", port, "--value-bytes", VALUE_BYTES] + list(options))
    if result["errors"]:
        raise RuntimeError("%d requests failed (port %d, %s)" % (result["errors"], port, " ".join(map(str, options))))
    return result


def fill(port, keys, connections=64):
    load(port, "--fill", "--keys", keys, "--connections", connections, "--seconds", 0)


def process_ticks(pid):
    with open("/proc/%d/stat" % pid) as line:
        fields = line.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Cluster:
    """Members of one cluster in a directory of their own below options.dir."""

    def __init__(self, program, count, directory):
        self.directory = tempfile.mkdtemp(prefix="flotilla-bench-", dir=directory)
        ports = [(harness.free_port(), harness.free_port()) for _ in range(count)]
        cluster = ",".join("m%d=http://127.0.0.1:%d" % (i, peer) for i, (_, peer) in enumerate(ports))
        self.members = [etcd_server.Member(program, "m%d" % i, client, peer, cluster, self.directory)
                        for i, (client, peer) in enumerate(ports)]
        self.ports = [client for client, _ in ports]
        begun = time.monotonic()
        for member in self.members:
            member.start()
        self.first_write_ms = self.wait_first_write(begun)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for member in self.members:
            member.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_first_write(self, begun, timeout_s=120):
        """Asks every millisecond, with nothing between the socket and the clock; answers the milliseconds since."""
        while time.monotonic() - begun < timeout_s:
            try:
                with harness.socket.create_connection(("127.0.0.1", self.ports[0]), 10) as connection:
                    connection.sendall(PUT_ONE)
                    if connection.recv(4096).startswith(b"HTTP/1.1 20"):
                        return (time.monotonic() - begun) * 1000
            except OSError:
                pass
            time.sleep(0.001)
        raise RuntimeError("no write within %d s; the log ends:\n%s" % (timeout_s, self.members[0].log_tail()))

    def leader(self):
        """Position of the leader: load goes there, so that forwarding is not measured."""
        for member in self.members:
            try:
                status, _, text = etcd_server.call(member.endpoint + "/v2/members/leader", timeout=2)
            except OSError:
                continue
            name = json.loads(text).get("name") if status == 200 else None
            for i, other in enumerate(self.members):
                if other.name == name and other.process.poll() is None:
                    return i
        return None

    def port(self):
        return self.ports[harness.wait_for(lambda: [self.leader()] if self.leader() is not None else None, 30,
                                           "a leader")[0]]

    def pids(self):
        return [member.process.pid for member in self.members]

    def pss_kb(self):
        """Of all members together."""
        total = 0
        for pid in self.pids():
            with open("/proc/%d/smaps_rollup" % pid) as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total

    def ticks(self):
        return sum(process_ticks(pid) for pid in self.pids())

    def written_bytes(self):
        total = 0
        for pid in self.pids():
            with open("/proc/%d/io" % pid) as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
        return total

    def settle(self, timeout_s=60):
        """Until nothing goes on in the background any more, such as a checkpoint."""
        deadline, quiet = time.monotonic() + timeout_s, 0
        while quiet < 3 and time.monotonic() < deadline:
            before = self.ticks()
            time.sleep(0.5)
            quiet = quiet + 1 if self.ticks() - before <= 1 else 0


class Single:
    """A server that is no etcd: a process with a port and a directory."""

    def __init__(self, directory):
        self.directory = tempfile.mkdtemp(prefix="flotilla-bench-", dir=directory)
        os.chmod(self.directory, 0o755)
        self.port = harness.free_port()
        self.process = harness.start(self.argv(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_for(lambda: harness.socket.create_connection(("127.0.0.1", self.port), 1).close() is None, 20,
                         self.__class__.__name__)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.kill(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis(Single):
    def argv(self):
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync",
                "always", "--save", "", "--dir", self.directory]


class Nginx(Single):
    """One worker, no access log, a body that is always the same."""

    def __init__(self, directory, body_bytes):
        self.body_bytes = body_bytes
        super().__init__(directory)

    def argv(self):
        config = os.path.join(self.directory, "nginx.conf")
        with open(config, "w") as file:
            file.write("daemon off; worker_processes 1; pid %s/pid; error_log /dev/null; events { worker_connections 4096; }\n"
                       "http { access_log off; keepalive_requests 100000000; default_type application/json;\n"
                       "server { listen 127.0.0.1:%d; location / { return 200 \"%s\"; } } }\n" %
                       (self.directory, self.port, "x" * self.body_bytes))
        return ["nginx", "-e", "/dev/null", "-p", self.directory, "-c", config]


class Fanout:
    """N clients that wait, at a server or at the bare loop; round() is one change told to all."""

    def __init__(self, watchers, *options):
        self.process = harness.start([tool("fanout"), "--watchers", str(watchers)] + [str(word) for word in options],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.read()["ready"] == watchers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        harness.kill(self.process)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the watchers ended")
        return json.loads(line)

    def round(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.read()


def in_turns(rounds, *measures):
    """Takes each measure once per round, in alternating order, so that what else goes on on the machine meets all of
    them alike; answers a list of figures for each."""
    figures = [[] for _ in measures]
    for number in range(rounds):
        order = range(len(measures)) if number % 2 == 0 else reversed(range(len(measures)))
        for i in order:
            figures[i].append(measures[i]())
    return figures


def commit():
    """Of the sources, for the raw figures; -dirty when they differ from it."""
    if not shutil.which("git"):
        return "unknown"
    done = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "unknown"


def keep_results(name, lines, raw):
    """What was printed, and the raw figures beside it, in tests/bench/results/."""
    path = os.path.join(HERE, "results", "%s-%s" % (name, time.strftime("%Y%m%d-%H%M%S")))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".txt", "w") as file:
        file.write("\n".join(lines) + "\n")
    with open(path + ".json", "w") as file:
        json.dump(raw, file, indent=1)
        file.write("\n")
    print("\nraw figures: " + path + ".json")


def ratio(figures, others):
    """The median of the ratios of each round."""
    return statistics.median(one / other for one, other in zip(figures, others))
