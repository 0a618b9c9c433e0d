"""The rows of the table, in groups that can be run alone. Each group starts what it needs, takes its figures in turns
and adds its rows to the report."""
import os
import re
import statistics
import subprocess
import tempfile
import time

import etcd_server
import harness
from servers import (VALUE_BYTES, Cluster, Fanout, Nginx, Redis, fill, in_turns, load, output_of, ratio, tool)

KEYS = 1000
WATCHERS = 10000
IDLE_S = 20
median = statistics.median


class Report:
    """What was measured: rows of the table, and everything that was counted for them."""

    def __init__(self):
        self.rows, self.raw = [], {}

    def keep(self, name, figures):
        self.raw[name] = figures
        return figures

    def add(self, what, measured, bar="", reached=None):
        verdict = "" if reached is None else "reached" if reached else "MISSED"
        self.rows.append((what, bar, measured, verdict))
        print("  %-58s %-22s %s  %s" % (what, bar, measured, verdict), flush=True)

    def rates(self, what, ours, other, other_name, at_least=None):
        """Requests per second of two sides, as a ratio."""
        mine, theirs = [run["per_second"] for run in ours], [run["per_second"] for run in other]
        figure = ratio(mine, theirs)
        self.add(what, "%.2f x (%d : %d /s)" % (figure, median(mine), median(theirs)),
                 ">= %g x %s" % (at_least, other_name) if at_least else "", at_least and figure >= at_least)

    def processor_time(self, what, ours, other):
        """Over all rounds: the kernel counts it in steps of 10 ms."""
        mine, theirs = [sum(run["cpu_us"] * run["answers"] for run in runs) / sum(run["answers"] for run in runs)
                        for runs in (ours, other)]
        self.add(what, "%.2f x (%.1f : %.1f us)" % (mine / theirs, mine, theirs))

    def latencies(self, what, ours, other, other_name, at_most=None):
        mine, theirs = [run["p99_us"] for run in ours], [run["p99_us"] for run in other]
        figure = ratio(mine, theirs)
        self.add(what, "%.2f x (%.2f : %.2f ms)" % (figure, median(mine) / 1000, median(theirs) / 1000),
                 "<= %g x %s" % (at_most, other_name) if at_most else "", at_most and figure <= at_most)


def sample(options, port, connections, puts, *more, keys=KEYS, cluster=None):
    """What takes one figure; of a cluster also the processor time of all its members per request."""
    def take():
        before = cluster.ticks() if cluster else 0
        result = load(port, "--puts", puts, "--connections", connections, "--keys", keys, "--seconds", options.seconds,
                      "--warm-up", options.seconds / 4, *more)
        if cluster:
            result["cpu_us"] = (cluster.ticks() - before) * 1e6 / os.sysconf("SC_CLK_TCK") / result["answers"]
        return result

    return take


def group_etcd(options, report):
    """One member beside Debian's."""
    with Cluster(options.ours, 1, options.dir) as ours, Cluster(options.real, 1, options.dir) as real:
        for cluster in (ours, real):
            fill(cluster.ports[0], KEYS)
        for puts, word in ((100, "PUT"), (0, "GET")):
            for connections in (1, 64, 256):
                figures = in_turns(options.rounds, sample(options, ours.ports[0], connections, puts, cluster=ours),
                                   sample(options, real.ports[0], connections, puts, cluster=real))
                title = "%s, 1 member, %d connection%s" % (word, connections, "" if connections == 1 else "s")
                barred = word == "PUT" and connections == 64
                report.keep(title, figures)
                report.rates(title, *figures, "etcd", 5 if barred else None)
                report.latencies(title + ", p99", *figures, "etcd", 0.5 if barred else None)
                report.processor_time(title + ", CPU per request", *figures)


def group_redis(options, report):
    with Cluster(options.ours, 1, options.dir) as ours, Redis(options.dir) as redis:
        fill(ours.ports[0], KEYS)
        for connections in (64, 256):
            figures = in_turns(options.rounds, sample(options, ours.ports[0], connections, 100),
                               sample(options, redis.port, connections, 100, "--resp"))
            title = "PUT, 1 member, %d connections, beside Redis" % connections
            report.rates(title, *report.keep(title, figures), "Redis always", 1.2)


def group_log(options, report):
    """One client beside the bare append and sync. The record is as long as ours in the log."""
    with Cluster(options.ours, 1, options.dir) as ours:
        fill(ours.ports[0], KEYS)
        bare = [tool("handover"), "--dir", options.dir, "--seconds", options.seconds, "--bytes", 384]
        figures = in_turns(options.rounds, sample(options, ours.ports[0], 1, 100), lambda: output_of(bare))
        report.rates("PUT, 1 connection", *report.keep("append", figures), "append + fdatasync", 0.6)


def group_nginx(options, report):
    with Cluster(options.ours, 1, options.dir) as ours:
        fill(ours.ports[0], KEYS)
        body = etcd_server.call(ours.members[0].endpoint + "/v2/keys/bench/k000500")[2]
        with Nginx(options.dir, len(body)) as nginx:
            for connections in (64, 256):
                figures = in_turns(options.rounds, sample(options, ours.ports[0], connections, 0),
                                   sample(options, nginx.port, connections, 0))
                title = "GET, %d connections" % connections
                report.rates(title, *report.keep(title + " nginx", figures), "nginx static", 0.7)


def group_quorum(options, report):
    with Cluster(options.ours, 1, options.dir) as ours:
        fill(ours.ports[0], KEYS)
        for connections in (64, 256, 1):
            figures = in_turns(options.rounds, sample(options, ours.ports[0], connections, 0, "--quorum"),
                               sample(options, ours.ports[0], connections, 0))
            title = "quorum GET, 1 member, %d connection%s" % (connections, "" if connections == 1 else "s")
            report.rates(title, *report.keep(title, figures), "own GET", 0.9 if connections > 1 else None)


def group_three(options, report):
    """Three members on one machine; load goes to the leader."""
    with Cluster(options.ours, 3, options.dir) as ours, Cluster(options.real, 3, options.dir) as real:
        ports = [ours.port(), real.port()]
        for port in ports:
            fill(port, KEYS)
        for puts, word, more in ((100, "PUT", ()), (0, "quorum GET", ("--quorum",))):
            for connections in (64, 256, 1):
                figures = in_turns(options.rounds, sample(options, ports[0], connections, puts, *more, cluster=ours),
                                   sample(options, ports[1], connections, puts, *more, cluster=real))
                title = "%s, 3 members, %d connection%s" % (word, connections, "" if connections == 1 else "s")
                report.rates(title, *report.keep(title, figures), "etcd", 5 if connections == 64 else None)
                report.processor_time(title + ", CPU per request", *figures)


def group_memory(options, report):
    """From empty to many keys, and what so many keys do to writes and to a restart."""
    many, few = options.many_keys, options.many_keys // 10
    with Cluster(options.ours, 1, options.dir) as large, Cluster(options.ours, 1, options.dir) as empty:
        time.sleep(1)
        pss = {"empty": large.pss_kb()}
        report.add("memory, empty (PSS)", "%.1f MB" % (pss["empty"] / 1000), "<= 5 MB", pss["empty"] <= 5000)
        fill(empty.ports[0], KEYS)
        for keys, bar_mb in ((few, few * 600 // 10**6), (many, many * 480 // 10**6)):
            begun = time.monotonic()
            fill(large.ports[0], keys, 256)
            fill_s = time.monotonic() - begun
            large.settle()
            pss[keys] = large.pss_kb()
            report.add("memory, {:,} keys (PSS)".format(keys), "%.0f MB (filled in %.0f s)" % (pss[keys] / 1000, fill_s),
                       "<= %d MB" % bar_mb, pss[keys] <= bar_mb * 1000)
        figures = in_turns(options.rounds, sample(options, large.ports[0], 64, 100, keys=many),
                           sample(options, empty.ports[0], 64, 100))
        report.keep("memory", pss)
        report.rates("PUT with {:,} keys present, 64 connections".format(many), *report.keep("PUT many", figures), "empty",
                     0.9)
        times, cpu = [], []
        for _ in range(5):
            large.settle()
            large.members[0].kill()
            begun = time.monotonic()
            large.members[0].start()
            times.append(large.wait_first_write(begun))
            cpu.append(large.ticks() / os.sysconf("SC_CLK_TCK"))
        report.keep("restart ms", times)
        report.keep("restart CPU s", cpu)
        report.add("restart with {:,} keys to first write, median of {}".format(many, len(times)),
                   "%.2f s (CPU %.2f s)" % (median(times) / 1000, median(cpu)), "<= 2 s", median(times) <= 2000)
        large.settle()
        report.add("memory after that restart (PSS)", "%.0f MB" % (large.pss_kb() / 1000))


def group_start(options, report):
    def first_write(program):
        with Cluster(program, 1, options.dir) as cluster:
            return cluster.first_write_ms

    ours, real = report.keep("start ms", in_turns(options.rounds, lambda: first_write(options.ours),
                                                  lambda: first_write(options.real)))
    report.add("start to first write, 1 member", "%.0f ms (etcd: %.0f ms)" % (median(ours), median(real)), "<= 50 ms",
               median(ours) <= 50)


def group_watch(options, report):
    with Cluster(options.ours, 1, options.dir) as ours:
        before = ours.pss_kb()
        with Fanout(WATCHERS, "--port", ours.ports[0]) as watchers:
            each = (ours.pss_kb() - before) / WATCHERS
            told = watchers.round()["bytes"]
            watchers.round()
            with Fanout(WATCHERS, "--bare", "--bytes", told) as bare:
                bare.round()
                mine, loop = report.keep("fanout", in_turns(options.rounds * 3, watchers.round, bare.round))
    mine, loop = [run["ms"] for run in mine], [run["ms"] for run in loop]
    figure = ratio(mine, loop)
    report.add("{:,} watchers on one key, write to last one told".format(WATCHERS),
               "%.2f x (%.0f : %.0f ms)" % (figure, median(mine), median(loop)), "<= 1.5 x bare loop", figure <= 1.5)
    report.keep("kB per idle watcher", each)
    report.add("memory per idle watcher (PSS)", "%.2f kB" % each, "<= 3 kB", each <= 3)


def next_write_ms(ports):
    """Time until a write is acknowledged by any of these members: a client every 10 ms."""
    begun, sockets = time.monotonic(), []
    try:
        for number in range(3000):
            connection = harness.socket.socket()
            connection.settimeout(0.05)
            try:
                connection.connect(("127.0.0.1", ports[number % len(ports)]))
                connection.sendall(b"PUT /v2/keys/failover HTTP/1.1\r\nHost: bench\r\nContent-Length: 7\r\n"
                                   b"Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=1")
                connection.setblocking(False)
                sockets.append(connection)
            except OSError:
                connection.close()
            deadline = begun + (number + 1) * 0.01
            while True:
                for one in sockets:
                    try:
                        if one.recv(64).startswith(b"HTTP/1.1 20"):
                            return (time.monotonic() - begun) * 1000
                    except OSError:
                        pass
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.001)
        raise RuntimeError("no write within 30 s after the leader was killed")
    finally:
        for one in sockets:
            one.close()


def group_failover(options, report):
    times = []
    with Cluster(options.ours, 3, options.dir) as ours:
        for _ in range(options.failovers):
            ours.port()
            for member in ours.members:
                harness.wait_for(member.ready, 30, "%s to serve" % member.name)
            time.sleep(0.3)
            leader = ours.leader()
            ours.members[leader].kill()
            times.append(next_write_ms([port for i, port in enumerate(ours.ports) if i != leader]))
            ours.members[leader].start()
    report.keep("failover ms", times)
    report.add("leader killed to next acknowledged write, median of %d" % len(times),
               "%.2f s (worst %.2f s)" % (median(times) / 1000, max(times) / 1000), "<= 1.5 s", median(times) <= 1500)


class Device:
    """The device below a directory: its own file system on a loop device where we may make one, so that every sector is
    ours; else what the kernel counts for the processes."""

    def __init__(self, directory):
        self.directory, self.image, self.name = directory, None, None
        if os.geteuid() != 0:
            return
        image = tempfile.NamedTemporaryFile(prefix="flotilla-bench-", dir=directory)
        image.truncate(2 << 30)
        point = tempfile.mkdtemp(prefix="flotilla-bench-", dir=directory)
        if (subprocess.run(["mkfs.ext4", "-q", "-F", image.name], stderr=subprocess.DEVNULL).returncode == 0 and
                subprocess.run(["mount", "-o", "loop", image.name, point], stderr=subprocess.DEVNULL).returncode == 0):
            self.directory, self.image = point, image
            self.name = os.path.basename(os.path.realpath("/sys/dev/block/%d:%d" % (
                os.major(os.stat(point).st_dev), os.minor(os.stat(point).st_dev))))
        else:
            os.rmdir(point)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.image:
            subprocess.run(["umount", self.directory], check=True)
            os.rmdir(self.directory)
            self.image.close()

    def written(self, cluster):
        if not self.name:
            return cluster.written_bytes()
        os.sync()
        with open("/sys/block/%s/stat" % self.name) as line:
            return int(line.read().split()[6]) * 512

    def how(self):
        return "sectors of a loop device" if self.name else "write_bytes of the process"


def group_device(options, report):
    with Device(options.dir) as device, Cluster(options.ours, 1, device.directory) as ours:
        before = device.written(ours)
        result = load(ours.ports[0], "--puts", 100, "--connections", 64, "--keys", 10000, "--requests", 300000,
                      "--seconds", 120, "--warm-up", 0)
        bytes_each = (device.written(ours) - before) / result["answers"]
        figure = bytes_each / (len("/bench/k000000") + VALUE_BYTES)
        report.keep("device", {"bytes per write": bytes_each, "how": device.how(), "load": result})
        report.add("bytes to the device per byte of key + value", "%.2f (%s)" % (figure, device.how()), "<= 4", figure <= 4)


def group_idle(options, report):
    """A lone member and a cluster of three at rest, with keys and without clients."""
    with Cluster(options.ours, 1, options.dir) as one, Cluster(options.ours, 3, options.dir) as three:
        for cluster in (one, three):
            fill(cluster.port(), KEYS)
            cluster.settle(10)
        before = [(cluster.ticks(), cluster.written_bytes()) for cluster in (one, three)]
        time.sleep(IDLE_S)
        after = [(cluster.ticks(), cluster.written_bytes()) for cluster in (one, three)]
        members = (1, 3)
        cpu = [100 * (b[0] - a[0]) / os.sysconf("SC_CLK_TCK") / IDLE_S / count for a, b, count in zip(before, after, members)]
        written = [b[1] - a[1] for a, b in zip(before, after)]
    report.keep("idle", {"cpu percent": cpu, "bytes": written})
    report.add("idle CPU, a lone member : one of three", "%.2f : %.2f %%" % tuple(cpu), "<= 0.5 %", max(cpu) <= 0.5)
    report.add("idle disk writes in %d s" % IDLE_S, "%d : %d bytes" % tuple(written), "none", not any(written))


GROUPS = {re.sub("^group_", "", name): function for name, function in list(globals().items()) if name.startswith("group_")}
