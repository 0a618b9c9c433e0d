#!/usr/bin/env python3
"""What fleetctl says has happened has happened, and exit status 0 means that what was asked for is so: on a cluster of three
fleetds over our store."""
import os
import signal
import subprocess
import sys

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
