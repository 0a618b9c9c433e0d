#!/usr/bin/env python3
"""What fleetctl says has happened has happened, and exit status 0 means that what was asked for is so: on a cluster of three
fleetds over our store."""
import os
import signal
import socket
import subprocess
import sys
import time

import harness
from fleet_cluster import Cluster, sleepers
from harness import wait_for

cases = harness.Cases()
c = Cluster("ours")


@cases.case("a pattern passes over what is on no machine, a name that was typed does not")
def _():
    c.unit("pat@.service", "/bin/sleep 71120")
    c.unit("patall.service", "/bin/sleep 71120", "Global=true")
    c.unit("patnever.service", "/bin/sleep 71120", "MachineMetadata=region=moon")
    c.ctl("submit", "pat@.service", "patall")
    c.ctl("start", "pat@1", "pat@2")
    c.ctl("start", "--no-block", "patnever")
    status, out, err = c.ctl("status", "pat*")
    assert out.count("active (running)") == 2 and not err and not out.startswith("\n"), (out, err)
    status, out, err = c.ctl("status", "pat@1", "pat@", "nope", "pat@2", check=False)
    assert status == 1 and out.count("active (running)") == 2, (status, out, err)
    assert err == ("Unit pat@.service does not appear to be loaded.\nUnit nope.service does not exist.\n"), err
    status, _, err = c.ctl("stop", "pat@*", "pat@", check=False)
    assert status == 1 and err == "Unable to stop unit pat@.service in state inactive\n", err
    assert len(sleepers(71120)) == 2
    _, out, err = c.ctl("stop", "pat*")
    assert not sleepers(71120) and out.count("loaded on") == 2, out
    assert err == ("Unit patnever.service is on no machine yet, and is not stopped: `fleetctl unload patnever.service` "
                   "takes it back\nSuccessfully stopped units [pat@1.service pat@2.service].\n"), err
    assert c.machine(1).api("GET", "/fleet/v1/units/patall.service")[1]["desiredState"] == "inactive"
    c.ctl("unload", "pat*")
    for command, wanted in (("stop", 0), ("status", 1)):
        status, _, err = c.ctl(command, "pat*", check=False)
        assert status == wanted and err == "No unit that matches is loaded.\n", (command, status, err)
    c.destroy_all()


@cases.case("restart of a global unit is over when every machine says what came of it")
def _():
    go = os.path.join(c.units, "global-go")
    # Not active before that is over: no look can take it for started.
    c.unit("gmay.service", "/bin/sleep 71550\nExecStartPre=/usr/bin/test -e " + go, "Global=true")
    c.unit("gends.service", "/bin/true\nType=oneshot", "Global=true")
    c.ctl("start", "gmay", "gends")
    wait_for(lambda: list(c.states("gmay.service").get("gmay.service", {}).values()) == [("failed", "failed")] * 3, 5,
             "its failure on all machines")
    status, out, err = c.ctl("restart", "gmay", check=False)
    assert status == 1 and "restarted" not in out, (status, out, err)
    # Before that it may have said that it waits.
    assert err.endswith("Error restarting units: Unit gmay.service failed on 1aaaaaaa.../10.0.0.1 (failed/failed), "
                        "2aaaaaaa.../10.0.0.2 (failed/failed), 3aaaaaaa.../10.0.0.3 (failed/failed); "
                        "see `fleetctl status gmay.service`\n"), err
    with open(go, "w"):
        pass
    assert c.ctl("restart", "gmay")[1] == "Unit(gmay.service) was restarted.\n"
    before = sleepers(71550)
    assert len(before) == 3, before
    c.ctl("restart", "gmay")
    after = sleepers(71550)
    assert len(after) == 3 and not set(before) & set(after), (before, after)
    _, out, _ = c.ctl("restart", "gends")
    assert out.count("Unit gends.service has ended (inactive/dead) on ") == 3 and "was restarted" in out, out
    c.destroy_all()


@cases.case("a global unit that no machine takes is explained")
def _():
    c.unit("gnever.service", "/bin/sleep 71551", "Global=true\nMachineMetadata=region=moon")
    why = ("Unit gnever.service runs nowhere, since no machine takes it:\n" +
           "".join("  %daaaaaaa.../10.0.0.%d: it has no region (MachineMetadata=region=moon)\n" % (n, n)
                   for n in (1, 2, 3)))
    assert c.ctl("start", "gnever")[2] == why
    assert c.ctl("start", "--no-block", "gnever")[2] == ""
    assert c.ctl("restart", "gnever")[1:] == ("", why)
    assert c.ctl("--driver", "etcd", "--endpoint", c.store.url, "start", "gnever")[2] == why
    c.destroy_all()


@cases.case("restart refuses what was only submitted, and starts what it creates itself")
def _():
    for name in ("put.service", "new1.service", "new2.service"):
        c.unit(name, "/bin/sleep 71552")
    c.ctl("submit", "put")
    status, out, err = c.ctl("restart", "put", "new1", "new2", check=False)
    assert status == 1 and err.count("Unable to restart") == 1, (status, err)
    assert "Unable to restart unit put.service in state inactive\n" in err, err
    assert "Unit(new1.service) was restarted." in out and "Unit(new2.service) was restarted." in out, out
    assert len(sleepers(71552)) == 2
    c.destroy_all()


@cases.case("load, stop and unload wait for what was asked for before, too")
def _():
    c.unit("nowhere.service", "/bin/sleep 71650", "MachineMetadata=region=moon")
    for attempt in range(2):
        status, _, err = c.ctl("load", "--block-attempts=1", "nowhere", check=False)
        assert status == 1 and "timed out waiting for unit nowhere.service to report state loaded" in err, (attempt, err)
        assert "MachineMetadata=region=moon" in err, (attempt, err)
    c.unit("lingers.service", "/bin/sleep 71651\nExecStop=/bin/sleep 71652")
    for command in ("stop", "unload"):
        c.ctl("start", "lingers")
        c.ctl(command, "--no-block", "lingers")
        wait_for(lambda: sleepers(71652), 5, "the unit on its way down")
        status, out, err = c.ctl(command, "--block-attempts=1", "lingers", check=False)
        assert status == 1 and not out and "timed out waiting for unit lingers.service" in err, (status, out, err)
        ended = subprocess.Popen([harness.program("fleetctl"), command, "lingers"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True,
                                 env=dict(os.environ, FLEETCTL_ENDPOINT=c.machine(1).endpoint))
        for pid in sleepers(71652):
            os.kill(pid, signal.SIGKILL)
        out, err = ended.communicate(timeout=60)
        assert ended.returncode == 0 and not out, (ended.returncode, out, err)
        assert err.endswith("Successfully %s units [].\n" % {"stop": "stopped", "unload": "unloaded"}[command]), err
        assert not sleepers(71651), "it is gone when success is told"
    c.destroy_all()


@cases.case("what another unit has started is stopped and restarted too, and is loaded as it is")
def _():
    c.unit("needed.service", "/bin/sleep 71660")
    c.unit("needs.service", "/bin/sleep 71661", "MachineOf=needed.service", more="[Unit]\nWants=needed.service\n")
    for command in ("restart", "stop"):
        c.ctl("load", "needed")
        c.ctl("start", "needs")
        wait_for(lambda: len(sleepers(71660)) == 1, 5, "the unit that is needed")
        before = sleepers(71660)
        wait_for(lambda: c.where("needed.service"), 5, "word of it")
        assert c.ctl("load", "needed")[1:] == ("", "")
        c.ctl(command, "needed")
        assert len(sleepers(71660)) == (command == "restart") and sleepers(71660) != before, command
        assert c.machine(1).api("GET", "/fleet/v1/units/needed.service")[1]["desiredState"] == (
            "launched" if command == "restart" else "loaded")
        c.ctl("unload", "needs", "needed")
    c.destroy_all()


@cases.case("stop without waiting stops what another unit has started, and does not wait for it")
def _():
    c.unit("needed.service", "/bin/sleep 71667\nExecStop=/bin/sleep 5")
    c.unit("needs.service", "/bin/sleep 71668", "MachineOf=needed.service", more="[Unit]\nWants=needed.service\n")
    c.ctl("load", "needed")
    c.ctl("start", "needs")
    wait_for(lambda: c.where("needed.service"), 5, "the unit that is needed")
    before = time.monotonic()
    c.ctl("stop", "--no-block", "needed")
    assert time.monotonic() - before < 4
    # While it stops it is stopped again, and not started for that.
    c.ctl("stop", "needed")
    assert not sleepers(71667)
    assert c.machine(1).api("GET", "/fleet/v1/units/needed.service")[1]["desiredState"] == "loaded"
    c.destroy_all()


@cases.case("a unit that is started again while it is stopped is said to be active, and not waited for without end")
def _():
    c.unit("again.service", "/bin/sleep 71662", "MachineMetadata=hostname=n1")
    c.unit("again.timer", "", "MachineOf=again.service")
    with open(os.path.join(c.units, "again.timer"), "w") as file:
        file.write("[Timer]\nOnActiveSec=1ms\nOnUnitInactiveSec=1ms\nAccuracySec=1ms\n\n[X-Fleet]\nMachineOf=again.service\n")
    c.ctl("load", "again.service")
    c.ctl("start", "again.timer")
    wait_for(lambda: sleepers(71662), 5, "the unit")
    # Whichever it saw.
    status, _, err = c.ctl("stop", "again.service", timeout=30, check=False)
    assert ("Unit again.service is active all the same" in err) == (status == 1), (status, err)
    c.ctl("stop", "again.timer")
    c.ctl("stop", "again.service")
    assert not sleepers(71662)
    c.destroy_all()


@cases.case("restart starts again what goes down with the unit, in turn, and nothing else")
def _():
    c.unit("rmain@.service", "/bin/sleep 7167%i")
    c.unit("rside@.service", "/bin/sleep 7168%i", "MachineOf=rmain@%i.service",
           more="[Unit]\nBindsTo=rmain@%i.service\nAfter=rmain@%i.service\n")
    c.unit("rpart.service", "/bin/sleep 71691", "MachineOf=rmain@1.service", more="[Unit]\nPartOf=other.service rside@1.service\n")
    c.unit("rends.service", "/bin/true", "MachineOf=rmain@1.service", more="[Unit]\nPartOf=rmain@1.service\n")
    c.ctl("start", "rmain@1", "rside@1", "rpart", "rends", "rmain@2", "rside@2")
    pids = {name: sleepers(name) for name in (71671, 71681, 71691, 71672, 71682)}
    assert all(len(some) == 1 for some in pids.values()), pids
    _, out, err = c.ctl("restart", "rmain@1")
    assert out.endswith("Unit(rmain@1.service) was restarted.\nUnit(rside@1.service) was stopped with it, and runs again.\n"
                        "Unit(rpart.service) was stopped with it, and runs again.\n") and not err, (out, err)
    now = {name: sleepers(name) for name in pids}
    assert all(len(some) == 1 for some in now.values()), now
    assert {name for name in pids if now[name] != pids[name]} == {71671, 71681, 71691}, (pids, now)
    c.destroy_all()


@cases.case("a launched unit is not replaced by submit or load, which is no success, and runs on")
def _():
    c.unit("kept.service", "/bin/sleep 71663")
    c.ctl("start", "kept")
    before = sleepers(71663)
    c.unit("kept.service", "/bin/sleep 71664")
    c.unit("fresh.service", "/bin/sleep 71664")
    for command in ("submit", "load"):
        status, _, err = c.ctl(command, "--replace", "kept", "fresh", check=False)
        assert status == 1 and "can not replace Unit(kept.service) in state 'launched'" in err, (command, status, err)
        assert sleepers(71663) == before, command
    assert c.machine(1).api("GET", "/fleet/v1/units/fresh.service")[1]["currentState"] == "loaded"
    c.destroy_all()


def pipe(line):
    return subprocess.run(["bash", "-o", "pipefail", "-c", line % harness.program("fleetctl")], capture_output=True, text=True,
                          env=dict(os.environ, FLEETCTL_ENDPOINT=c.machine(1).endpoint), timeout=20)


@cases.case("a journal that is followed ends with its reader, also when there is nothing more to say")
def _():
    c.unit("talks.service", "/bin/sh -c 'while echo line; do sleep 0.1; done'")
    c.unit("once.service", "/bin/sh -c 'echo line; exec /bin/sleep 71665'")
    c.ctl("start", "talks", "once")
    for name in ("talks", "once"):
        wait_for(lambda: "line\n" in c.ctl("journal", name)[1], 5, "its line in the journal")
        done = pipe("%%s journal -f -n 1 %s | head -1" % name)
        assert done.returncode == 141 and done.stdout.endswith("line\n") and not done.stderr, (name, done)
    # A slow reader gets all of it, and the pipe as it was; who only never writes is a reader as well.
    c.unit("much.service", "/bin/sh -c 'seq 100000; exec /bin/sleep 71665'")
    c.ctl("start", "much")
    wait_for(lambda: pipe("%s journal -n 1 -o cat much").stdout == "100000\n", 10, "the lines")
    assert pipe("%s journal -n 100000 -o cat much | (sleep 1; tail -n 1; wc -l)").stdout.startswith("100000\n")
    ours, theirs = socket.socketpair()
    theirs.shutdown(socket.SHUT_RD)
    subprocess.run([harness.program("fleetctl"), "status", "much"], stdout=theirs, check=True, timeout=20,
                   env=dict(os.environ, FLEETCTL_ENDPOINT=c.machine(1).endpoint))
    assert b"active (running)" in ours.recv(65536) and theirs.getblocking()
    c.destroy_all()


@cases.case("a command waits on while the fleetd that it asks is started anew")
def _():
    c.unit("slow.service", "/bin/sleep 71666\nExecStartPre=/bin/sleep 6", "MachineMetadata=hostname=n2")
    ended = subprocess.Popen([harness.program("fleetctl"), "start", os.path.join(c.units, "slow.service")],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, FLEETCTL_ENDPOINT=c.machine(1).endpoint))
    wait_for(lambda: c.states("slow.service").get("slow.service"), 10, "the unit on its way")
    c.machine(1).kill_fleetd(signal.SIGTERM)
    time.sleep(2.5)
    assert ended.poll() is None, ended.communicate()
    c.machine(1).start()
    out, err = ended.communicate(timeout=30)
    assert ended.returncode == 0 and err.count("; trying again") == 1 and "destroyed" not in err, (ended.returncode, out, err)
    assert len(sleepers(71666)) == 1
    c.destroy_all()


@cases.case("endpoints at etcd's ports are the store, also several of them")
def _():
    # Nobody listens at that address; the words tell who was looked for there.
    for endpoints in ("http://127.9.9.9:4001", "http://127.9.9.9:2379,http://127.9.9.9:4001"):
        status, _, err = c.ctl("--endpoint", endpoints, "list-machines", check=False)
        assert status == 1 and "unable to communicate with etcd" in err and "WARNING" not in err, (endpoints, err)


@cases.case("an earlier failure is no word about the next start, however late the news of that come")
def _():
    go = os.path.join(c.units, "may-go")
    c.unit("later.service", "/bin/sleep 71602\nExecStartPre=/usr/bin/test -e " + go, more="[Unit]\nStartLimitIntervalSec=0\n")
    for _ in range(5):
        assert c.ctl("start", "later", check=False)[0] == 1
        c.ctl("stop", "later")
        with open(go, "w"):
            pass
        c.ctl("start", "later")
        c.ctl("stop", "later")
        os.unlink(go)
    c.destroy_all()


@cases.case("everything can be stopped")
def _():
    c.stop()


if len(sys.argv) > 1:
    cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
cases.run()
