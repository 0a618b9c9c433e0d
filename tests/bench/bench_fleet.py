#!/usr/bin/env python3
"""Measures fleetd and fleetctl against their bars, beside what fleet 1.0 did in such a lab: three throw-away hosts whose
PID 1 is the real systemd, our store or Debian's etcd (--enable-v2), and the release build of fleetd on each; then the
scheduler alone, and a thousand machines in one process on a real store.

  bench_fleet.py [--rows WORD,...] [--rounds 3] [--no-results]
  bench_fleet.py --markdown RESULTS.json     the table of an earlier run, as docs/performance.md has it

--rows names groups of rows (all when it is missing: {groups}). Needs root, for the hosts' namespaces. The raw figures
are written to tests/bench/results/. FLOTILLA_BUILD names the (release) build directory. Nothing here passes or fails: a
bar that is missed is told as such."""
import argparse
import os
import platform
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
import etcd_server
import machine
import net_world
import rows
import servers
from bench import cpu_model, markdown, output, table
sys.path.insert(0, HERE)  # before that of the black-box tests, which have a package of the same name
from fleet import rows_alone, rows_hosts

GROUPS = {name[6:]: function for module in (rows_hosts, rows_alone) for name, function in vars(module).items()
          if name.startswith("group_")}
HEADER = ("what", "fleet 1.0", "bar", "measured", "met?")


class Report(rows.Report):
    """With a column for what 1.0 did."""

    def add(self, what, before, bar, measured, met):
        self.rows.append((what, before, bar, measured, "met" if met else "MISSED"))
        print("  %-66s %-32s %s  %s" % (what, bar, measured, self.rows[-1][-1]), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.format(groups=", ".join(GROUPS)),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machines", type=int, default=1000, help="simulated ones")
    parser.add_argument("--units", type=int, default=100000, help="on the simulated machines")
    parser.add_argument("--markdown")
    parser.add_argument("--no-results", action="store_true", help="print only, write no file")
    options = parser.parse_args()
    unknown = [word for word in options.rows if word not in GROUPS]
    if unknown:
        parser.error("no such rows: %s (there are: %s)" % (", ".join(unknown), ", ".join(GROUPS)))
    if not options.markdown:
        if not etcd_server.ours() or not etcd_server.REAL or not os.path.exists(rows_alone.tool("scheduler")):
            parser.error("FLOTILLA_BUILD must name a release build with bench_fleet_…, and Debian's etcd must be installed")
        if machine.unavailable():
            parser.error(machine.unavailable())
    return options


def main():
    options = arguments()
    if options.markdown:
        print("\n".join(markdown(options.markdown, HEADER)))
        return
    net_world.enter()
    about = {"cpu": cpu_model(), "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(),
             "commit": servers.commit(), "load average before": round(os.getloadavg()[0], 2),
             "versions": [output(etcd_server.REAL, "--version"), output("systemctl", "--version")]}
    report, begun = Report(), time.monotonic()
    for name in options.rows:
        print(name, flush=True)
        GROUPS[name](options, report)
    about["load average after"] = round(os.getloadavg()[0], 2)
    about["minutes"] = round((time.monotonic() - begun) / 60, 1)
    lines = ["3 hosts with systemd, %d rounds; %s, %d CPUs for everything, Linux %s, load average %.1f before and %.1f after, "
             "%.1f minutes" % (options.rounds, about["cpu"], about["cpus"], about["kernel"], about["load average before"],
                               about["load average after"], about["minutes"]),
             "commit %s; %s" % (about["commit"], "; ".join(about["versions"])), ""] + table(report.rows, HEADER)
    print("\n" + "\n".join(lines))
    if not options.no_results:
        part = "" if options.rows == list(GROUPS) else "-" + "-".join(options.rows)
        servers.keep_results("fleet" + part, lines, {"machine": about, "rows": report.rows, "raw": report.raw})


if __name__ == "__main__":
    main()
