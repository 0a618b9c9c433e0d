"""The rows on real systemd hosts. Each group makes the labs that it needs, and adds its rows to the report."""
import concurrent.futures
import os
import signal
import statistics
import time

import etcd_server
import harness
from fleet.lab import SLEEPER, Lab, sleepers, until

UNITS = 500
PATIENCE_S = 120
median = statistics.median


def seconds(value, digits=2):
    return "never" if value is None else "%.*f s" % (digits, value)


def within(value, bar):
    return value is not None and value <= bar


def machine_units(host, count, name):
    return ["%s%d.service" % (name, number) for number in range(count)], [("MachineID", host.machine.id)]


# ---- one start ----


def one_start(lab, number):
    """Request to running, as the API of the machine that was asked tells it."""
    host, name = lab.hosts[number % len(lab.hosts)], "one%d.service" % number
    begun = time.monotonic()
    lab.put(host, name, 600000 + number)
    if until(lambda: (host.state(name) or {}).get("systemdSubState") == "running", 30, 0.001) is None:
        return 30.0
    return time.monotonic() - begun


def group_start(options, report):
    """One unit after the other on an idle cluster."""
    lab = Lab("ours")
    try:
        one_start(lab, 1000)
        times = []
        for number in range(20):
            time.sleep(0.2)
            times.append(one_start(lab, number))
        report.keep("one start s", times)
        report.add("one start, request to running, idle cluster, real systemd, 20 runs", "median 3.1 s",
                   "median <= 0.15 s, worst <= 0.5 s", "median %.3f s, worst %.3f s" % (median(times), max(times)),
                   median(times) <= 0.15 and max(times) <= 0.5)
    finally:
        lab.close()


# ---- many units ----


def start_many(lab, host, names):
    """Seconds until fleetctl came back, and until all are told to run."""
    lab.submit("t@.service", SLEEPER % 100000)
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(lambda: (host.ctl("start", "--no-block", *(os.path.join(lab.dir, name) for name in names)),
                                     time.monotonic() - begun)[1])
        until(lambda: len(lab.running(host)) == len(names), PATIENCE_S, 0.05)
        return asked.result(), time.monotonic() - begun


def bare_start_s(lab):
    """What systemd alone takes for as many: its files in place, one systemctl on each host at the same time."""
    def begin(host):
        names = ["bare@%d.service" % number for number in range(UNITS // len(lab.hosts))]
        host.machine.run(["systemctl", "start", "--no-block"] + names)

    for host in lab.hosts:
        host.machine.write("/run/systemd/system/bare@.service", SLEEPER % 100001)
        host.machine.systemctl("daemon-reload")
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(begin, lab.hosts))
    until(lambda: len(sleepers(100001)) == UNITS // len(lab.hosts) * len(lab.hosts), PATIENCE_S, 0.05)
    took = time.monotonic() - begun
    for host in lab.hosts:
        host.machine.systemctl("stop", "bare@*.service")
    return took


def store_requests(lab):
    """(reads, writes) that the store has counted; streams are neither."""
    url = lab.urls[0]
    reads = writes = 0
    for name, count in etcd_server.json.loads(etcd_server.call(url + "/v2/stats/store")[2]).items():
        if name.startswith("gets"):
            reads += count
        elif name.endswith(("Success", "Fail")):
            writes += count
    return reads, writes


def listing_s(host, words):
    times = []
    for _ in range(11):
        begun = time.monotonic()
        host.ctl(*words)
        times.append(time.monotonic() - begun)
    return median(times)


def at_rest(lab, window_s=30):
    """Requests a second and per machine, PSS and CPU of each fleetd, while nothing is asked."""
    time.sleep(3)
    requests, cpu, begun = store_requests(lab), [host.cpu_s() for host in lab.hosts], time.monotonic()
    time.sleep(window_s)
    took = time.monotonic() - begun
    reads, writes = [(b - a) / took / len(lab.hosts) for a, b in zip(requests, store_requests(lab))]
    return {"reads/s a machine": reads, "writes/s a machine": writes, "pss kB": [host.pss_kb() for host in lab.hosts],
            "cpu percent": [100 * (host.cpu_s() - a) / took for host, a in zip(lab.hosts, cpu)]}


def group_many(options, report):
    """500 units of one template: the way up, at rest, listed."""
    lab = Lab("ours")
    try:
        host = lab.hosts[0]
        names = ["t@%d.service" % number for number in range(UNITS)]
        runs, bare = [], []
        for number in range(options.rounds):
            bare.append(bare_start_s(lab))
            runs.append(start_many(lab, host, names))
            if number + 1 < options.rounds:
                lab.clear(host)
        report.keep("500 units [fleetctl back, all running] s", runs)
        report.keep("500 units by systemctl alone s", bare)
        figure = median(run[1] for run in runs)
        report.add("%d units on 3 systemd hosts, first request to all running" % UNITS, "27 s", "<= 5 s",
                   "%.1f s (fleetctl back after %.1f s; systemctl alone: %.1f s)" %
                   (figure, median(run[0] for run in runs), median(bare)), figure <= 5)
        rest = report.keep("at rest", at_rest(lab))
        report.add("requests to the store at rest, 3 machines, %d units" % UNITS, "93 reads, 76 writes/s",
                   "0 reads, <= 0.5 writes/s a machine", "%.2f reads, %.2f writes/s a machine" %
                   (rest["reads/s a machine"], rest["writes/s a machine"]),
                   rest["reads/s a machine"] == 0 and rest["writes/s a machine"] <= 0.5)
        pss, cpu = max(rest["pss kB"]) / 1000, max(rest["cpu percent"])
        report.add("fleetd memory (PSS) / CPU at %d units on 3 hosts" % UNITS, "20-24 MB / 23 % on the leader",
                   "<= 7 MB / <= 1 %", "%.1f MB / %.2f %%" % (pss, cpu), pss <= 7 and cpu <= 1)
        listing = report.keep("listing s", [listing_s(host, ["list-units"]), listing_s(host, ["list-unit-files"])])
        report.add("list-units / list-unit-files at %d" % UNITS, "0.15 / 0.56 s", "<= 0.02 / <= 0.03 s",
                   "%.3f / %.3f s" % tuple(listing), listing[0] <= 0.02 and listing[1] <= 0.03)
    finally:
        lab.close()


def group_unload(options, report):
    """Ten units of one host."""
    lab = Lab("ours")
    try:
        host, times = lab.hosts[1], []
        for number in range(options.rounds):
            names, more = machine_units(host, 10, "u")
            for name in names:
                lab.put(lab.hosts[0], name, 500000, more=more)
            until(lambda: len(sleepers(500000)) == 10, 30)
            begun = time.monotonic()
            lab.hosts[0].ctl("unload", "--no-block", *names)
            gone = until(lambda: not sleepers(500000), 60)
            times.append(None if gone is None else time.monotonic() - begun)
            lab.clear(lab.hosts[0])
        report.keep("unload s", times)
        worst = None if None in times else max(times)
        report.add("10 units of one host unloaded, processes gone", "34 s", "<= 2 s", seconds(worst), within(worst, 2))
    finally:
        lab.close()


# ---- what dies ----


def spread(lab, count, sleep_s):
    """So many units, running; back when they are."""
    names = ["s%d.service" % number for number in range(count)]
    for name in names:
        lab.put(lab.hosts[0], name, sleep_s)
    harness.wait_for(lambda: len(lab.running(lab.hosts[0], names)) == count, 20, "the units to run")


def kill_machine(lab, host):
    """Seconds from the end of a machine until all that ran on it runs elsewhere, as a survivor tells it and as
    processes; then it is back."""
    witness = next(other for other in lab.hosts if other is not host)
    before = lab.running(witness)
    theirs = {name for name, machine in before.items() if machine == host.machine.id}
    assert theirs, "nothing ran on " + host.name

    def elsewhere():
        now = lab.running(witness, theirs)
        return len(now) == len(theirs) and host.machine.id not in now.values()

    begun = time.monotonic()
    host.power_off()
    took = until(elsewhere, lab.ttl_s + 30, 0.01)
    took = None if took is None else time.monotonic() - begun
    host.power_on()
    if lab.inside:
        host.machine.systemctl("start", "store.service")
    host.start()
    return took


def deaths(kind, ttl_s, inside):
    """A machine that only follows, and one that leads the engine; or one that leads the store."""
    lab = Lab(kind, ttl_s, inside=inside)
    try:
        spread(lab, 30, 400000 + Lab.made)
        figures = {}
        victims = (("leads the store", lab.store_leader),) if inside else (
            ("follows", lambda: next(host for host in lab.hosts if host is not lab.leader())), ("leads the engine", lab.leader))
        for word, find in victims:
            victim = harness.wait_for(find, 20, "the one that " + word)
            figures[word] = kill_machine(lab, victim)
        return figures
    finally:
        lab.close()


KILLED = [(kind, ttl_s, inside) for kind in ("ours", "etcd") for inside in (False, True) for ttl_s in (30, 5)]


def group_killed(options, report):
    """All labs at once: almost all of the time they wait. Of each the worst figure goes into the row."""
    worst, met = {}, True
    with concurrent.futures.ThreadPoolExecutor(len(KILLED)) as pool:
        waits = []
        for which in KILLED:
            waits.append(pool.submit(deaths, *which))
            time.sleep(2)
        for (kind, ttl_s, inside), wait in zip(KILLED, waits):
            figures = report.keep("machine killed, %s, ttl %d%s, s" % (kind, ttl_s, ", store inside" if inside else ""),
                                  wait.result())
            worst[kind, ttl_s, inside] = None if None in figures.values() else max(figures.values())
            met = met and within(worst[kind, ttl_s, inside],
                                 ttl_s + (0.5 if kind == "ours" else 1) + (1.5 if inside else 0))
    pair = lambda kind, inside: " / ".join(seconds(worst[kind, ttl_s, inside], 1) for ttl_s in (30, 5))
    report.add("machine killed, its units running elsewhere, ttl 30 / 5", "31.9 / 9.8-12.8 s",
               "<= ttl + 0.5 s on our store, + 1 s on etcd; + 1.5 s more if it led the store",
               "ours %s, etcd %s; led the store: ours %s, etcd %s" %
               (pair("ours", False), pair("etcd", False), pair("ours", True), pair("etcd", True)), met)


def leader_killed(lab, number):
    """The leader's fleetd is killed by force, and a unit waits: until it runs."""
    leader = harness.wait_for(lab.leader, 20, "a leader")
    other = next(host for host in lab.hosts if host is not leader)
    name = "pending%d.service" % number
    begun = time.monotonic()
    leader.kill_fleetd()
    lab.put(other, name, 300000, more=[("MachineID", other.machine.id)])
    until(lambda: (other.state(name) or {}).get("systemdSubState") == "running", 60, 0.005)
    took = time.monotonic() - begun
    leader.machine.systemctl("reset-failed", "fleet.service", check=False)
    leader.start()
    return took


def group_leader(options, report):
    lab = Lab("ours")
    try:
        times = []
        for number in range(3):
            times.append(leader_killed(lab, number))
            time.sleep(2)
        report.keep("leader killed s", times)
        report.add("engine's leader killed: a pending unit running after", "14 s", "<= 3 s",
                   "%.2f s (worst of %d)" % (max(times), len(times)), max(times) <= 3)
    finally:
        lab.close()


# ---- the store goes ----


def api_answers(lab, number):
    """Reads and writes, at every host."""
    def answers(host):
        assert host.call("GET", "/fleet/v1/units", timeout=2)[0] == 200
        status = host.call("PUT", "/fleet/v1/units/s%d.service" % number, {"desiredState": "launched"}, timeout=2)[0]
        return status == 204

    return all(answers(host) for host in lab.hosts)


def group_away(options, report):
    """The store is stopped as by SIGSTOP for 45 s: the connections stay, nobody answers."""
    lab = Lab("ours")
    try:
        spread(lab, 30, 200000)
        processes, states = set(sleepers(200000)), lab.running(lab.hosts[0])
        lab.store.process.send_signal(signal.SIGSTOP)
        time.sleep(45)
        same_away = set(sleepers(200000)) == processes
        lab.store.process.send_signal(signal.SIGCONT)
        back = until(lambda: api_answers(lab, 0), 60, 0.01)
        time.sleep(5)
        same = same_away and set(sleepers(200000)) == processes and lab.running(lab.hosts[0]) == states
        report.keep("store away", {"API back s": back, "units untouched": same})
        report.add("store away 45 s: units, and API answers again after", "untouched, 35.8 s", "untouched, <= 1 s",
                   "%s, %s" % ("untouched" if same else "TOUCHED", seconds(back)), same and within(back, 1))
    finally:
        lab.close()
