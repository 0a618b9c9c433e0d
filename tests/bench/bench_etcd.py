#!/usr/bin/env python3
"""Measures our etcd beside Debian's real etcd (--enable-v2) in one run: durable PUT and GET at several numbers of
connections, memory (PSS), and the time from start to the first acknowledged write.

  bench_etcd.py [--runs 3] [--seconds 3] [--connections 1,64,256] [--members 1] [--only ours|real] [--limits] [--dir DIR]

Each run starts every server afresh, in alternating order; the table shows medians over the runs. Both servers write to
the same file system (--dir, default: the system's directory for temporary files). The raw figures of all runs are
written to tests/bench/results/. --limits adds what good C does with less on the same machine: Redis with `appendfsync
always` for PUT and nginx with static files for GET. FLOTILLA_BUILD names the (release) build directory."""
import argparse
import datetime
import json
import os
import platform
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

LOAD = os.path.join(harness.BUILD, "tests", "bench", "bench_load")


def load(port, *options):
    done = subprocess.run([LOAD, "--port", str(port)] + [str(option) for option in options], stdout=subprocess.PIPE,
                          text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError("the load generator failed with status %d" % done.returncode)
    return json.loads(done.stdout)


def memory_kb(pid):
    """(PSS, resident) of a process in kB."""
    with open("/proc/%d/smaps_rollup" % pid) as lines:
        rows = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(rows["Pss"].split()[0]), int(rows["Rss"].split()[0])


def fdatasync_ms(directory):
    """Median time of one synced 512-byte append: what a durable write costs at least here."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(200):
            file.write(b"x" * 512)
            file.flush()
            begun = time.monotonic()
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - begun) * 1000)
    return statistics.median(times)


class Servers:
    """The members of one cluster, started by us so that the first write can be timed."""

    def __init__(self, program, count, directory):
        self.directory = tempfile.mkdtemp(prefix="flotilla-bench-", dir=directory)
        ports = [(harness.free_port(), harness.free_port()) for _ in range(count)]
        cluster = ",".join("m%d=http://127.0.0.1:%d" % (i, peer) for i, (_, peer) in enumerate(ports))
        self.members = [etcd_server.Member(program, "m%d" % i, client, peer, cluster, self.directory)
                        for i, (client, peer) in enumerate(ports)]
        self.ports = [client for client, _ in ports]
        self.begun = time.monotonic()
        for member in self.members:
            member.start()

    def first_write_ms(self):
        """Asks every millisecond, with nothing between the socket and the clock."""
        put = (b"PUT /v2/keys/first HTTP/1.1\r\nHost: bench\r\nContent-Length: 7\r\n"
               b"Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=1")
        while time.monotonic() - self.begun < 60:
            try:
                with harness.socket.create_connection(("127.0.0.1", self.ports[0]), 10) as connection:
                    connection.sendall(put)
                    if connection.recv(4096).startswith(b"HTTP/1.1 20"):
                        return (time.monotonic() - self.begun) * 1000
            except OSError:
                pass
            time.sleep(0.001)
        raise RuntimeError("no write within 60 s; the log ends:\n" + self.members[0].log_tail())

    def leader_port(self):
        """Load goes to the leader, so that forwarding is not measured."""
        status, _, text = etcd_server.call(self.members[0].endpoint + "/v2/members/leader")
        name = json.loads(text).get("name") if status == 200 else None
        for member, port in zip(self.members, self.ports):
            if member.name == name:
                return port
        return self.ports[0]

    def memory(self):
        return [sum(values) for values in zip(*(memory_kb(member.process.pid) for member in self.members))]

    def cpu_s(self):
        """User and system time of all members so far."""
        ticks = 0
        for member in self.members:
            with open("/proc/%d/stat" % member.process.pid) as line:
                fields = line.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        for member in self.members:
            member.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def measure(program, options, seed):
    servers = Servers(program, options.members, options.dir)
    try:
        figures = {"first write ms": servers.first_write_ms()}
        time.sleep(1)
        figures["idle pss kB"], figures["idle rss kB"] = servers.memory()
        port = servers.leader_port()
        load(port, "--fill", "--connections", 64, "--seconds", 0)
        for puts, word in ((100, "put"), (0, "get")):
            for connections in options.connections:
                cpu_s = servers.cpu_s()
                result = load(port, "--puts", puts, "--connections", connections, "--seconds", options.seconds,
                              "--warm-up", min(1, options.seconds / 3), "--seed", seed)
                # Counted over the warm-up too, like the processor time.
                result["cpu_us"] = (servers.cpu_s() - cpu_s) * 1e6 / max(1, result["answers"])
                if result["errors"]:
                    raise RuntimeError("%d requests failed (%s, %d connections)" % (result["errors"], word, connections))
                figures["%s %d" % (word, connections)] = result
        figures["loaded pss kB"], figures["loaded rss kB"] = servers.memory()
        return figures
    finally:
        servers.stop()


def measure_redis(options):
    """SET of 256 bytes with every write synced, by Redis's own load generator."""
    directory = tempfile.mkdtemp(prefix="flotilla-bench-", dir=options.dir)
    port = harness.free_port()
    server = harness.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes",
                            "--appendfsync", "always", "--save", "", "--dir", directory], stdout=subprocess.DEVNULL)
    figures = {}
    try:
        harness.wait_for(lambda: harness.socket.create_connection(("127.0.0.1", port), 1).close() is None, 20, "redis")
        for connections in options.connections:
            rate = 2000 if connections == 1 else 15000
            done = subprocess.run(["redis-benchmark", "-p", str(port), "-t", "set", "-d", "256", "-r", "1000", "--csv",
                                   "-c", str(connections), "-n", str(int(rate * options.seconds))],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600, check=True)
            rows = [line.replace('"', "").split(",") for line in done.stdout.splitlines()]
            row = dict(zip(rows[0], rows[-1]))
            figures["put %d" % connections] = {"per_second": float(row["rps"]), "p50_us": 1000 * float(row["p50_latency_ms"]),
                                               "p99_us": 1000 * float(row["p99_latency_ms"])}
        return figures
    finally:
        harness.kill(server)
        shutil.rmtree(directory, ignore_errors=True)


def measure_nginx(options, seed):
    """The same GETs answered from files of 256 bytes."""
    directory = tempfile.mkdtemp(prefix="flotilla-bench-", dir=options.dir)
    os.chmod(directory, 0o755)
    port = harness.free_port()
    keys = os.path.join(directory, "v2", "keys", "bench")
    os.makedirs(keys)
    for number in range(1000):
        with open(os.path.join(keys, "k%06d" % number), "w") as file:
            file.write("x" * 256)
    config = os.path.join(directory, "nginx.conf")
    with open(config, "w") as file:
        file.write("daemon off; worker_processes auto; pid %s/pid; error_log /dev/null; events { worker_connections 4096; }\n"
                   "http { access_log off; keepalive_requests 100000000; open_file_cache max=2000; root %s;\n"
                   "server { listen 127.0.0.1:%d; } }\n" % (directory, directory, port))
    server = harness.start(["nginx", "-e", "/dev/null", "-p", directory, "-c", config], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    figures = {}
    try:
        harness.wait_for(lambda: harness.socket.create_connection(("127.0.0.1", port), 1).close() is None, 20, "nginx")
        for connections in options.connections:
            result = load(port, "--puts", 0, "--connections", connections, "--seconds", options.seconds, "--seed", seed)
            if result["errors"]:
                raise RuntimeError("nginx: %d requests failed" % result["errors"])
            figures["get %d" % connections] = result
        return figures
    finally:
        harness.kill(server)
        shutil.rmtree(directory, ignore_errors=True)


def median(runs, pick):
    """None when this server does not have that measure."""
    try:
        return statistics.median([pick(run) for run in runs])
    except (KeyError, statistics.StatisticsError):
        return None


def table(results, options):
    """Lines of the one table: a row per measure, a column per server and the ratio ours : real."""
    names = list(results)
    rows = []

    def add(title, unit, pick, digits=0, less_is_better=False):
        values = [median(results[name], pick) for name in names]
        cells = ["-" if value is None else "%.*f" % (digits, value) for value in values]
        if names[:2] == ["ours", "real"] and values[0] and values[1]:
            ratio = values[1] / values[0] if less_is_better else values[0] / values[1]
            cells.insert(2, "%.2f x" % ratio)
        rows.append([title, unit] + cells)

    for word in ("put", "get"):
        for connections in options.connections:
            key = "%s %d" % (word, connections)
            title = "%s, %d connection%s" % (word.upper(), connections, "" if connections == 1 else "s")
            add(title, "1/s", lambda run: run[key]["per_second"])
            add(title + ", p50", "ms", lambda run: run[key]["p50_us"] / 1000, 2, True)
            add(title + ", p99", "ms", lambda run: run[key]["p99_us"] / 1000, 2, True)
            add(title + ", CPU per request", "us", lambda run: run[key]["cpu_us"], 1, True)
    add("start to first write", "ms", lambda run: run["first write ms"], 0, True)
    add("memory, idle (PSS)", "MB", lambda run: run["idle pss kB"] / 1024, 1, True)
    add("memory, after the load (PSS)", "MB", lambda run: run["loaded pss kB"] / 1024, 1, True)
    header = ["", "unit"] + names
    if names[:2] == ["ours", "real"]:
        header.insert(4, "ours is better by")
    widths = [max(len(row[i]) for row in [header] + rows) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in [header] + rows]


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def file_system(directory):
    return subprocess.run(["stat", "-f", "-c", "%T", directory], stdout=subprocess.PIPE, text=True).stdout.strip()


def version_of(program):
    text = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return text.strip().splitlines()[0] if text.strip() else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[1, 64, 256])
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--only", choices=["ours", "real"])
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--no-results", action="store_true", help="print only, write no file")
    options = parser.parse_args()
    programs = {"ours": etcd_server.ours(), "real": etcd_server.REAL}
    programs = {name: program for name, program in programs.items() if options.only in (None, name)}
    missing = [name for name, program in programs.items() if not program]
    if missing or not os.path.exists(LOAD):
        sys.exit("bench_etcd: missing: %s (FLOTILLA_BUILD must name a release build; real: package etcd-server)" %
                 ", ".join(missing + ([] if os.path.exists(LOAD) else ["bench_load"])))
    machine = {"cpu": cpu_model(), "cpus": os.cpu_count(), "kernel": platform.release(),
               "file system": file_system(options.dir), "fdatasync ms": round(fdatasync_ms(options.dir), 3),
               "load average before": os.getloadavg()[0]}
    versions = {name: version_of(program) for name, program in programs.items()}
    results = {name: [] for name in programs}
    limits = {"redis always": lambda _: measure_redis(options), "nginx static": lambda seed: measure_nginx(options, seed)}
    if options.limits:
        results.update({name: [] for name in limits})
    for number in range(options.runs):
        order = list(results) if number % 2 == 0 else list(results)[::-1]
        for name in order:
            print("run %d of %d: %s" % (number + 1, options.runs, name), file=sys.stderr, flush=True)
            if name in limits:
                results[name].append(limits[name](number + 1))
            else:
                results[name].append(measure(programs[name], options, number + 1))
    lines = ["etcd v2, %d member%s, 256-byte values, 1000 keys, medians of %d runs of %g s" %
             (options.members, "" if options.members == 1 else "s", options.runs, options.seconds),
             "%(cpu)s, %(cpus)d CPUs shared by servers and load, Linux %(kernel)s, %(file system)s, one fdatasync "
             "%(fdatasync ms).2f ms, load average before %(load average before).1f" % machine,
             "; ".join("%s: %s" % item for item in versions.items()), ""] + table(results, options)
    print("\n".join(lines))
    if not options.no_results:
        stem = os.path.join(HERE, "results", "etcd-%d-%s" %
                            (options.members, datetime.datetime.now().strftime("%Y%m%d-%H%M%S")))
        os.makedirs(os.path.dirname(stem), exist_ok=True)
        with open(stem + ".json", "w") as file:
            json.dump({"machine": machine, "versions": versions, "seconds": options.seconds,
                       "members": options.members, "runs": results}, file, indent=1)
            file.write("\n")
        with open(stem + ".txt", "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
