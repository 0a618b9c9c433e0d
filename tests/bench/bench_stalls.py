#!/usr/bin/env python3
"""Measures what the upkeep of a large state costs the writes that go on: p99 of PUT, in windows of a second, while nothing
else happens, while a checkpoint is written (and the log cut behind it), while a snapshot is saved (`etcdctl snapshot save`,
for which a checkpoint is written too), and while one is sent to a follower that was away. State hashes are compared every 64 entries, so in each of the windows.

  bench_stalls.py [--keys 1000000] [--connections 64] [--seconds 10] [--dir DIR] [--no-results]

Three members on this machine, 256-byte values, load on the leader. The bar: within twice the quiet value, in the
median of the windows. What is printed, and every window, is written to tests/bench/results/.
FLOTILLA_BUILD names the (release) build directory."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
import etcd_server
import harness
from servers import Cluster, commit, fill, keep_results, output_of, tool


def metrics(member):
    found = {}
    for line in etcd_server.call(member.endpoint + "/metrics", timeout=30)[2].splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


class Bench:
    def __init__(self, options):
        self.options = options
        self.servers = Cluster(etcd_server.ours(), 3, options.dir)
        self.port = self.servers.port()
        self.leader = self.servers.members[self.servers.ports.index(self.port)]
        self.away = [member for member in self.servers.members if member is not self.leader][0]
        self.seed = 0

    def fill(self):
        fill(self.port, self.options.keys)

    def window(self):
        self.seed += 1
        return output_of([tool("load"), "--port", self.port, "--connections", self.options.connections, "--keys",
                          self.options.keys, "--seconds", 1, "--warm-up", 0, "--seed", self.seed])

    def windows(self, wanted, count):
        """Windows in all of which `wanted(metrics before, metrics after)` held."""
        found, end = [], time.monotonic() + 120
        before = metrics(self.leader)
        while len(found) < count and time.monotonic() < end:
            result = self.window()
            after = metrics(self.leader)
            if wanted(before, after):
                found.append(result)
            before = after
        return found

    def save(self):
        """The windows while the leader is asked for a snapshot."""
        found = []
        path = os.path.join(self.servers.directory, "saved")
        process = subprocess.Popen([harness.program("etcdctl"), "--endpoints", self.leader.endpoint, "snapshot", "save", path],
                                   stdout=subprocess.DEVNULL)
        while process.poll() is None:
            found.append(self.window())
        os.unlink(path)
        return found if process.returncode == 0 else []

    def transfer(self):
        """The windows from the start of a member that was away to the end of its transfer."""
        harness.kill(self.away.process)
        has = metrics(self.leader)["etcd_server_proposals_applied_total"]
        deadline = time.monotonic() + 300
        while metrics(self.leader)["etcd_log_first_index"] <= has and time.monotonic() < deadline:
            self.window()
        self.away.start()
        sent = metrics(self.leader)["etcd_checkpoints_sent_total"]
        found, deadline = [], time.monotonic() + 120
        while time.monotonic() < deadline:
            found.append(self.window())
            if metrics(self.leader)["etcd_checkpoints_sent_total"] > sent:
                break
        return found


def line(title, windows, quiet):
    if not windows:
        return "%-28s not seen" % title
    p99 = [window["p99_us"] / 1000 for window in windows]
    middle = statistics.median(p99)
    text = "%-28s %3d windows  PUT/s %8.0f  p99 median %7.2f ms  worst window %7.2f ms  longest %7.2f ms" % (
        title, len(windows), statistics.median(window["per_second"] for window in windows), middle, max(p99),
        max(window["max_us"] for window in windows) / 1000)
    return text + ("" if quiet is None else "  %.2f x quiet" % (middle / quiet))


def measure(bench, options):
    """Prints as it goes; answers the lines, and the windows of each kind."""
    lines, kinds = [], {}

    def tell(text):
        lines.append(text)
        print(text, flush=True)

    def took(title, windows, base):
        kinds[title] = windows
        tell(line(title, windows, base))

    bench.fill()
    time.sleep(5)
    tell("%d keys, %d connections, 3 members, commit %s, load average %.1f" %
         (options.keys, options.connections, commit(), os.getloadavg()[0]))
    quiet = bench.windows(lambda a, b: not a["etcd_checkpoint_writing"] and not b["etcd_checkpoint_writing"] and
                          a["etcd_checkpoint_index"] == b["etcd_checkpoint_index"], options.seconds)
    base = statistics.median(window["p99_us"] / 1000 for window in quiet) if quiet else None
    took("quiet", quiet, None)
    took("a checkpoint is written",
         bench.windows(lambda a, b: a["etcd_checkpoint_writing"] or b["etcd_checkpoint_writing"] or
                       a["etcd_checkpoint_index"] != b["etcd_checkpoint_index"], options.seconds), base)
    took("a snapshot is saved", bench.save(), base)
    took("a checkpoint is transferred", bench.transfer(), base)
    return lines, kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10, help="windows of a kind that are wanted")
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--no-results", action="store_true", help="print only, write no file")
    options = parser.parse_args()
    if not os.path.exists(tool("load")):
        sys.exit("bench_stalls: FLOTILLA_BUILD must name a release build with bench_load")
    bench = Bench(options)
    try:
        lines, kinds = measure(bench, options)
    finally:
        bench.servers.close()
    if not options.no_results:
        keep_results("stalls", lines, {"lines": lines, "windows": kinds})


main()
