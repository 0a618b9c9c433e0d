#!/usr/bin/env python3
"""Measures our etcd against its bars: beside Debian's etcd (--enable-v2), Redis with `appendfsync always`, nginx with
one worker and a static body, and bare loops of system calls, all in the same run, by the same load generator.

  bench.py [--rows WORD,...] [--rounds 5] [--seconds 1] [--dir DIR] [--no-results] [--cpus 0,1]
  bench.py --markdown RESULTS.json     the table of an earlier run, as docs/performance.md has it

Two servers that are compared run at the same time and are loaded in turns, A B B A A B ...; the figure is the median of
the ratios of the rounds, so that what else goes on on the machine meets both. --rows names groups of rows (all when it
is missing: {groups}). --seconds is the length of one sample, --cpus where everything may run (as inherited when it is
missing). Data lies in --dir (default: the system's directory for temporary files), the raw figures are written to
tests/bench/results/. FLOTILLA_BUILD names the (release) build directory. Nothing here passes or fails: a bar that is
missed is told as such."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import servers
import etcd_server
from rows import GROUPS, Report


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


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def output(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def machine(options):
    return {"cpu": cpu_model(), "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "file system": output("findmnt", "-n", "-o", "FSTYPE", "--target", options.dir),
            "commit": servers.commit(), "fdatasync ms": round(fdatasync_ms(options.dir), 3),
            "load average before": round(os.getloadavg()[0], 2),
            "versions": {"etcd": output(options.real, "--version"), "redis": output("redis-server", "--version"),
                         "nginx": output("nginx", "-v")}}


HEADER = ("what", "bar", "measured", "verdict")


def table(rows, header=HEADER):
    widths = [max(len(row[i]) for row in [header] + rows) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [header] + rows]


def markdown(path, header=HEADER):
    with open(path) as file:
        rows = json.load(file)["rows"]
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] + [
        "| " + " | ".join(cell.replace("<=", "≤").replace(">=", "≥") for cell in row) + " |" for row in rows]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.format(groups=", ".join(GROUPS)),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--many-keys", type=int, default=1000000)
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--cpus", type=lambda text: {int(word) for word in text.split(",")})
    parser.add_argument("--markdown")
    parser.add_argument("--no-results", action="store_true", help="print only, write no file")
    options = parser.parse_args()
    unknown = [word for word in options.rows if word not in GROUPS]
    if unknown:
        parser.error("no such rows: %s (there are: %s)" % (", ".join(unknown), ", ".join(GROUPS)))
    if options.markdown:
        return options
    options.ours, options.real = etcd_server.ours(), etcd_server.REAL
    if not options.ours or not options.real or not os.path.exists(servers.tool("load")):
        parser.error("FLOTILLA_BUILD must name a release build with bench_load, and Debian's etcd must be installed")
    if options.cpus:
        os.sched_setaffinity(0, options.cpus)
    return options


def main():
    options = arguments()
    if options.markdown:
        print("\n".join(markdown(options.markdown)))
        return
    about, report = machine(options), Report()
    begun = time.monotonic()
    for name in options.rows:
        print(name, flush=True)
        GROUPS[name](options, report)
    about["load average after"] = round(os.getloadavg()[0], 2)
    about["minutes"] = round((time.monotonic() - begun) / 60, 1)
    lines = ["256-byte values, %d rounds of %g s for each figure; %s, %d CPUs for servers and load, Linux %s, %s, one "
             "fdatasync %.2f ms, load average %.1f before and %.1f after, %.1f minutes" %
             (options.rounds, options.seconds, about["cpu"], about["cpus"], about["kernel"], about["file system"],
              about["fdatasync ms"], about["load average before"], about["load average after"], about["minutes"]),
             "commit %s; %s" % (about["commit"], "; ".join(about["versions"].values())), ""] + table(report.rows)
    print("\n" + "\n".join(lines))
    if not options.no_results:
        part = "" if options.rows == list(GROUPS) else "-" + "-".join(options.rows)
        servers.keep_results("bench" + part, lines, {"machine": about, "rows": report.rows, "raw": report.raw})


if __name__ == "__main__":
    main()
