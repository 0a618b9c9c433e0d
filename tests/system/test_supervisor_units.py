#!/usr/bin/env python3
"""The embedded supervisor: units that concern one another, their texts and logs, and the keeper itself."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import harness
from harness import Cases, program, start, temp_dir, wait_for
from keeper import Keeper, alive, for_each_mode, read, touch, until_exists

cases = Cases()


@cases.case("what a unit requires is started first, and a missing one fails the start")
def _():
    keeper = Keeper()
    go = os.path.join(keeper.dir, "go")
    keeper.load("db.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '%s'\n" % until_exists(go))
    keeper.load("web.service", "[Unit]\nRequires=db.service\nAfter=db.service network-online.target\n"
                "Wants=network-online.target nothing.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.start("web.service")
    waiting = keeper.state("web.service")
    assert (waiting["sub"], waiting["job"], waiting["startError"]) == ("dead", "start", ""), waiting
    assert keeper.state("db.service")["sub"] == "start"
    touch(go)
    assert keeper.wait("web.service", "running")["job"] == ""
    assert keeper.state("db.service")["sub"] == "exited"
    keeper.stop("db.service")
    keeper.wait("web.service", "dead")
    keeper.wait("db.service", "dead")
    answer = keeper.start("lost.service", "[Unit]\nRequires=gone.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    assert answer["result"] < 0 and answer["message"] == "Unit gone.service not found.", answer
    lost = keeper.state("lost.service")
    assert (lost["sub"], lost["job"], lost["startError"]) == ("dead", "", "Unit gone.service not found."), lost
    assert "Failed to start lost.service: Unit gone.service not found." in keeper.log("lost.service")
    keeper.load("gone.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    assert keeper.wait("lost.service", "running")["startError"] == ""
    keeper.end()


@cases.case("a failed requirement fails what waits for it")
def _():
    keeper = Keeper()
    keeper.load("db.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.2; exit 1'\n")
    keeper.start("web.service", "[Unit]\nRequires=db.service\nAfter=db.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.wait("db.service", "failed")
    web = keeper.state("web.service")
    assert (web["sub"], web["startError"]) == ("dead", "Its dependency db.service is not active."), web
    assert "Dependency failed for web.service." in keeper.log("web.service")
    keeper.stop("web.service")
    assert keeper.state("web.service")["startError"] == ""
    keeper.end()


@cases.case("on a full disk a unit goes on, what of its lines can be kept is, and how many could not is said")
def _():
    state, done, go, more = temp_dir(), *(os.path.join(temp_dir(), name) for name in ("done", "go", "more"))
    os.mkdir(os.path.join(state, "state"))
    world = ["unshare", "--mount", "--propagation", "private"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    keeper = Keeper(directory=state, around=world + ["sh", "-c", "mount -t tmpfs -o size=2m tmpfs %s/state && exec \"$@\"" % state, "sh"])
    keeper.start("full.service", "[Service]\nExecStart=/bin/sh -c 'echo before; %s; cat /dev/zero >%s/state/hog; seq 10001 12000; "
                 "touch %s; %s; rm %s/state/hog; echo after; sleep 1000'\n" %
                 (until_exists(go), state, done, until_exists(more), state))
    wait_for(lambda: "before\n" in keeper.log("full.service", output="cat"), what="its first line")
    touch(go)
    wait_for(lambda: os.path.exists(done), what="all its lines printed")
    wait_for(lambda: len({keeper.log("full.service") for _ in range(3) if not time.sleep(0.1)}) == 1, what="all its lines read")
    touch(more)
    wait_for(lambda: "after\n" in keeper.log("full.service", output="cat"), what="its last line")
    log = keeper.log("full.service", output="cat")
    kept = len([line for line in log.splitlines() if line.startswith("1")])
    said = re.search(r"^full.service: (\d+) lines before this could not be kept.$", log, re.M)
    assert "before\n" in log and kept < 2000 and said and kept + int(said.group(1)) == 2000, (kept, log[-400:])
    assert keeper.state("full.service")["sub"] == "running"
    keeper.end()


DOCKER_SOCKET = """import os, socket, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/docker.sock")
listener.listen()
time.sleep(1000)
"""


@cases.case("docker.service counts as active where the host's Docker socket answers, and only there")
def _():
    go = os.path.join(temp_dir(), "go")
    # A world of its own, where /run holds nothing but what the test puts there.
    world = ["unshare", "--mount", "--propagation", "private"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    keeper = Keeper(around=world + ["sh", "-c", "mount -t tmpfs tmpfs /run && { python3 -c '%s' %s & } && exec \"$@\"" %
                                    (DOCKER_SOCKET.replace("'", '"'), go), "sh"])
    answer = keeper.start("app.service", "[Unit]\nRequires=docker.service\nAfter=docker.service\n"
                          "[Service]\nExecStart=/bin/sleep 1000\n")
    assert answer["result"] < 0 and answer["message"] == "Unit docker.service not found.", answer
    touch(go)
    # It is looked for again, as a unit that comes later would be found.
    keeper.wait("app.service", "running")
    keeper.end()


SIDEKICK = "[Unit]\nBindsTo=nginx@%i.service\nAfter=nginx@%i.service\n[Service]\nExecStart=/bin/sleep 1000\n"


@for_each_mode(cases, "a sidekick starts after its main unit, and stops when that stops or dies")
def _(keeper):
    keeper.load("nginx@1.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.start("side@1.service", SIDEKICK)
    main = keeper.wait("nginx@1.service", "running")
    keeper.wait("side@1.service", "running")
    keeper.stop("nginx@1.service")
    keeper.wait("side@1.service", "dead")
    keeper.wait("nginx@1.service", "dead")
    keeper.start("side@1.service")
    main = keeper.wait("nginx@1.service", "running")
    side = keeper.wait("side@1.service", "running")
    os.kill(main["mainPid"], signal.SIGKILL)
    keeper.wait("nginx@1.service", "failed")
    assert keeper.wait("side@1.service", "dead")["result"] == "success"
    assert not alive(side["mainPid"])


@cases.case("Conflicts= stops the other unit, Before= orders, and a circle is broken with a word")
def _():
    keeper = Keeper()
    keeper.start("a.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.wait("a.service", "running")
    keeper.start("b.service", "[Unit]\nConflicts=a.service\nAfter=a.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.wait("b.service", "running")
    keeper.wait("a.service", "dead")
    for name, other in (("x.service", "y.service"), ("y.service", "x.service")):
        keeper.load(name, "[Unit]\nWants=%s\nAfter=%s\n[Service]\nExecStart=/bin/sleep 1000\n" % (other, other))
    keeper.start("x.service")
    keeper.wait("x.service", "running")
    keeper.wait("y.service", "running")
    assert "ordering cycle" in keeper.log("x.service") + keeper.log("y.service")
    keeper.end()


SLEEPS = "[Service]\nExecStart=/bin/sleep 1000\n"


@cases.case("a start that cannot be touches nothing, now or when it is tried again")
def _():
    keeper = Keeper()
    keeper.load("a.service", SLEEPS)
    keeper.load("b.service", "[Unit]\nRequires=missing.service\n" + SLEEPS)
    keeper.load("c.service", "[Unit]\nRequires=b.service\n" + SLEEPS)
    keeper.load("d.service", "[Unit]\nRequires=a.service c.service\n" + SLEEPS)
    answer = keeper.start("x.service", "[Unit]\nRequires=a.service missing.service\n" + SLEEPS)
    assert answer["result"] < 0 and answer["message"] == "Unit missing.service not found.", answer
    assert (keeper.state("a.service")["sub"], keeper.state("a.service")["job"]) == ("dead", "")
    # What is wanted and cannot be is left out as a whole, whatever else of it could start.
    keeper.start("y.service", "[Unit]\nWants=d.service e.service\n" + SLEEPS)
    keeper.wait("y.service", "running")
    keeper.start("a.service")
    keeper.wait("a.service", "running")
    keeper.stop("a.service")
    keeper.wait("a.service", "dead")
    time.sleep(1.5)
    for name in "abcdx":
        unit = keeper.state(name + ".service")
        assert (unit["sub"], unit["job"]) == ("dead", ""), unit
    assert "Started a.service." in keeper.log("a.service") and keeper.log("b.service") == "-- No entries --\n"
    keeper.load("missing.service", SLEEPS)
    for name in "ax":
        keeper.wait(name + ".service", "running")
    assert keeper.state("d.service")["sub"] == "dead"
    keeper.end()


@cases.case("Conflicts= of what is pulled in, or waits for its start, counts as that of what was asked for")
def _():
    keeper = Keeper()
    go = os.path.join(keeper.dir, "go")
    keeper.start("e.service", SLEEPS)
    keeper.wait("e.service", "running")
    keeper.load("d.service", "[Unit]\nConflicts=e.service\n" + SLEEPS)
    keeper.start("t.service", "[Unit]\nRequires=d.service\n" + SLEEPS)
    for name, sub in (("t", "running"), ("d", "running"), ("e", "dead")):
        keeper.wait(name + ".service", sub)
    # Also where who pulls it in has run for long.
    keeper.stop("d.service")
    keeper.wait("t.service", "dead")
    keeper.start("w.service", "[Unit]\nWants=d.service\n" + SLEEPS)
    keeper.wait("d.service", "running")
    keeper.start("e.service")
    keeper.wait("e.service", "running")
    keeper.wait("d.service", "dead")
    keeper.start("w.service")
    keeper.wait("d.service", "running")
    keeper.wait("e.service", "dead")
    # A start that waits is taken back by a later one that conflicts with it, in either direction.
    keeper.load("slow.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '%s'\n" % until_exists(go))
    keeper.load("v.service", SLEEPS)
    keeper.start("w1.service", "[Unit]\nAfter=slow.service\nWants=slow.service\nConflicts=v.service\n" + SLEEPS)
    assert keeper.state("w1.service")["job"] == "start"
    keeper.start("v.service")
    assert keeper.state("w1.service")["job"] == ""
    keeper.wait("v.service", "running")
    touch(go)
    keeper.wait("slow.service", "exited")
    keeper.wait("v.service", "running")
    assert keeper.state("w1.service")["sub"] == "dead"
    keeper.end()


@cases.case("a start that needs two units which conflict is refused, and one that only wants them gets one")
def _():
    keeper = Keeper()
    keeper.load("left.service", "[Unit]\nConflicts=right.service\n" + SLEEPS)
    keeper.load("right.service", SLEEPS)
    answer = keeper.start("both.service", "[Unit]\nRequires=left.service right.service\n" + SLEEPS)
    why = "Both left.service and right.service are needed, but they conflict with each other."
    assert answer["result"] < 0 and answer["message"] == why, answer
    for name in ("left", "right", "both"):
        assert (keeper.state(name + ".service")["sub"], keeper.state(name + ".service")["job"]) == ("dead", "")
    assert keeper.state("both.service")["startError"] == why
    keeper.start("right.service")
    right = keeper.wait("right.service", "running")["mainPid"]
    assert keeper.start("both.service")["message"] == why
    keeper.start("some.service", "[Unit]\nWants=right.service left.service\n" + SLEEPS)
    keeper.wait("some.service", "running")
    assert alive(right) and keeper.state("left.service")["sub"] == "dead"
    keeper.end()


@cases.case("a restart replaces the process, and a new text counts from the next start")
def _():
    keeper = Keeper()
    keeper.start("r.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    first = keeper.wait("r.service", "running")["mainPid"]
    keeper.load("r.service", "[Service]\nExecStart=/bin/sleep 2000\n")
    assert keeper.state("r.service")["mainPid"] == first
    keeper.call("restart", name="r.service")
    wait_for(lambda: keeper.state("r.service")["mainPid"] not in (0, first), what="the new process")
    wait_for(lambda: "sleep 2000" in keeper.call("status", name="r.service")["text"], what="the new command")
    assert keeper.call("start", name="r.service")["result"] == 0
    keeper.end()


@cases.case("unload stops, forgets and answers at the end; a load behind it starts anew")
def _():
    keeper = Keeper()
    keeper.start("u.service", "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 0.3\n")
    pid = keeper.wait("u.service", "running")["mainPid"]
    before = time.monotonic()
    assert keeper.call("unload", name="u.service")["result"] == 0
    assert time.monotonic() - before >= 0.3 and not alive(pid) and keeper.state("u.service") is None
    assert keeper.call("status", name="u.service")["message"] == "Unit u.service could not be found."
    assert "Stopped u.service." in keeper.log("u.service")
    assert keeper.call("unload", name="u.service")["result"] == 0
    keeper.start("u.service", "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 0.3\n")
    pid = keeper.wait("u.service", "running")["mainPid"]
    lines = [dict(id=900, op="unload", name="u.service"),
             dict(id=901, op="load", name="u.service", text="[Service]\nExecStart=/bin/sleep 3000\n", hash="h2"),
             dict(id=902, op="start", name="u.service")]
    keeper.file.write("".join(json.dumps(line) + "\n" for line in lines))
    keeper.file.flush()
    answers = [json.loads(keeper.file.readline()) for _ in lines]
    assert sorted(answer["id"] for answer in answers) == [900, 901, 902] and not any(a["result"] for a in answers)
    unit = keeper.wait("u.service", "running")
    assert unit["hash"] == "h2" and unit["mainPid"] != pid
    keeper.end()


@cases.case("a bad unit is named with its line and refuses to start; odd directives only warn")
def _():
    keeper = Keeper()
    keeper.start("warn.service", "[Unit]\nEnvironmentFile=/etc/environment\n[Service]\nExecStart=/bin/sleep 1000\n"
                 "PrivateTmp=yes\nFrobnicate=yes\nRestart=sometimes\n[X-Fleet]\nConflicts=x\n[Odd]\na=b\n")
    warnings = "\n".join(keeper.wait("warn.service", "running")["warnings"])
    for text in ["warn.service:2: Unknown key name 'EnvironmentFile' in section 'Unit', ignoring.",
                 "warn.service:5: PrivateTmp= in section 'Service' is not supported by the supervisor, ignoring (it needs a mount "
                 "namespace).",
                 "warn.service:6: Unknown key name 'Frobnicate' in section 'Service', ignoring.",
                 "warn.service:7: Failed to parse Restart=sometimes, ignoring",
                 "warn.service:11: Unknown section 'Odd'. Ignoring."]:
        assert text in warnings, (text, warnings)
    assert "warn.service:5: PrivateTmp=" in keeper.call("status", name="warn.service")["text"]
    for name, text in [("none.service", "[Service]\nRestart=no\n"), ("two.service", "[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n"),
                       ("bus.service", "[Service]\nType=dbus\nBusName=a.b\nExecStart=/bin/true\n"),
                       ("quote.service", "[Service]\nExecStart=/bin/echo \"open\n"), ("torn.service", "[Service\nA=b\n")]:
        keeper.start(name, text)
        unit = wait_for(lambda: keeper.state(name), what=name)
        assert unit["load"] == "bad-setting" and unit["active"] == "inactive", unit
        assert unit["warnings"], unit
    keeper.start("t.mount", "[Mount]\nWhat=x\n")
    assert keeper.state("t.mount")["load"] == "error"
    assert keeper.call("load", name="no/name.service", text="", hash="")["result"] < 0
    keeper.end()


@for_each_mode(cases, "the output is logged with the process that wrote it, and can be followed")
def _(keeper):
    # The last line has no end, and comes when it is told to stop: surely behind the begin of the follow.
    keeper.start("talk.service", "[Service]\nExecStart=/bin/sh -c 'trap \"printf three; exit\" TERM; echo one; echo two >&2; "
                 "sleep 1000 & wait'\n")
    unit = keeper.wait("talk.service", "running")
    wait_for(lambda: "one" in keeper.log("talk.service") and "two" in keeper.log("talk.service"), what="the lines")
    log = keeper.log("talk.service")
    assert "sh[%d]: one\n" % unit["mainPid"] in log and "sh[%d]: two\n" % unit["mainPid"] in log, log
    assert keeper.log("talk.service", lines=1).count("\n") == 1
    keeper.file.write(json.dumps(dict(id=77, op="journal", name="talk.service", lines=0, follow=True, output="cat")) + "\n")
    keeper.file.flush()
    keeper.stop("talk.service")
    pieces, deadline = "", time.monotonic() + harness.PATIENCE_S
    # A line without an end is one when the last process lets go of the pipe, which may be after the unit has stopped.
    while not ("Stopped talk.service." in pieces and "three" in pieces) and time.monotonic() < deadline:
        answer = json.loads(keeper.file.readline())
        pieces += answer.get("text", "") if answer.get("id") == 77 else ""
    assert "Stopping talk.service..." in pieces and "three" in pieces, pieces
    assert keeper.log("unknown.service") == "-- No entries --\n"
    assert keeper.call("journal", name="talk.service", output="verbose")["result"] < 0


def journal_files(keeper):
    directory = os.path.join(keeper.dir, "state", "journal")
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]


@cases.case("logs are bounded in size, and lines that cannot be printed do not reach the reader")
def _():
    keeper = Keeper("--journal-bytes", "262144")
    keeper.start("noise.service", "[Service]\nExecStart=/bin/sh -c 'i=0; while [ $$i -lt 20000 ]; do "
                 "echo line $$i of a noisy service; i=$$((i+1)); done; printf \"\\\\001\\\\002\\\\n\\\\033[31mred\\\\033[0m\\\\n\"'\n")
    keeper.wait("noise.service", "dead", 30)
    sizes = [os.path.getsize(path) for path in journal_files(keeper)]
    assert len(sizes) > 1 and 131072 < sum(sizes) <= 262144, sizes
    log = keeper.log("noise.service", output="cat")
    assert "line 19999 of a noisy service\n[2B blob data]\nred\n" in log, log[-300:]
    assert "line 0 of" not in log
    keeper.end()


@cases.case("logs of units that are gone can be read until others take their room")
def _():
    keeper = Keeper("--journal-bytes", "262144")
    names = ["gone@%d.service" % number for number in range(400)]
    for name in names:
        keeper.start(name, "[Service]\nExecStart=/no/such\n")
        keeper.call("unload", name=name)
    # Unloaded before its program was found missing, or after.
    assert "Started %s." % names[-1] in keeper.log(names[-1]) or "No such file" in keeper.log(names[-1])
    assert keeper.log(names[0]) == "-- No entries --\n", keeper.log(names[0])
    assert sum(os.path.getsize(path) for path in journal_files(keeper)) <= 262144
    keeper.end()


def entries(keeper, name, **fields):
    text = keeper.call("journal", **dict(dict(name=name, lines=-1, output="json"), **fields))["text"]
    return [json.loads(line) for line in text.splitlines()]


@cases.case("entries have journald's fields, come as JSON, and are found by fields and time")
def _():
    keeper = Keeper()
    keeper.start("say.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo plain; echo \"<3>bad\"; "
                 "echo \"<9>odd\" >&2; printf \"\\\\377\\\\n\"; printf \"q\\\\042\\\\tz\\\\n\"'\n")
    keeper.start("other.service", "[Service]\nType=oneshot\nExecStart=/bin/echo other\n")
    keeper.wait("say.service", "dead")
    keeper.wait("other.service", "dead")
    said = wait_for(lambda: (lambda e: e if len(e) == 5 else None)(
        entries(keeper, "say.service", match=["_TRANSPORT=stdout"])), what="the lines")
    assert [e["MESSAGE"] for e in said] == ["plain", "bad", "<9>odd", [255], "q\"\tz"], said
    assert [e["PRIORITY"] for e in said] == ["6", "3", "6", "6", "6"]
    first = said[0]
    assert first["_SYSTEMD_UNIT"] == "say.service" and first["SYSLOG_IDENTIFIER"] == "sh" and first["_UID"] == str(os.geteuid())
    assert first["_BOOT_ID"] == read("/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    assert abs(int(first["__REALTIME_TIMESTAMP"]) / 1e6 - time.time()) < 120 and int(first["__MONOTONIC_TIMESTAMP"]) > 0
    assert len({e["__CURSOR"] for e in said}) == 5 and len(first["_SYSTEMD_INVOCATION_ID"]) == 32
    driver = entries(keeper, "say.service", match=["_TRANSPORT=driver"])
    assert driver[0]["MESSAGE"] == "Starting say.service..." and driver[0]["UNIT"] == "say.service", driver
    assert driver[-1]["INVOCATION_ID"] == first["_SYSTEMD_INVOCATION_ID"]
    assert "bad\n" in keeper.log("say.service") and "<3>" not in keeper.log("say.service")

    middle = int(said[2]["__REALTIME_TIMESTAMP"])
    later = entries(keeper, "say.service", since=middle)
    assert said[2] in later and all(int(e["__REALTIME_TIMESTAMP"]) >= middle for e in later), later
    earlier = entries(keeper, "say.service", until=middle)
    assert said[0] in earlier and all(int(e["__REALTIME_TIMESTAMP"]) <= middle for e in earlier), earlier
    assert [e["MESSAGE"] for e in entries(keeper, "say.service", match=["PRIORITY=3"])] == ["bad"]
    assert entries(keeper, "say.service", match=["MESSAGE=bad"]) == [said[1]]
    assert entries(keeper, "say.service", match=["_TRANSPORT=stdout"], lines=2) == said[-2:]
    both = [e["MESSAGE"] for e in entries(keeper, "", match=["_TRANSPORT=stdout", "PRIORITY=6", "PRIORITY=5"])]
    assert sorted(map(str, both)) == sorted(["plain", "<9>odd", "[255]", "q\"\tz", "other"]), both
    assert entries(keeper, "none.service") == []
    assert keeper.call("journal", name="say.service", match=["nothing"])["result"] < 0
    keeper.end()


@cases.case("the journal goes on after a crash of the keeper, tells damage and serves none")
def _():
    keeper = Keeper()
    keeper.start("count.service", "[Service]\nExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9; do echo number $$i; done; "
                 "exec sleep 1000'\n")
    wait_for(lambda: "number 9" in keeper.log("count.service"), what="the lines")
    keeper.process.kill()
    keeper.process.wait()
    path = journal_files(keeper)[-1]
    with open(path, "r+b") as file:
        data = file.read()
        file.seek(data.index(b"number 5"))
        file.write(b"numbeR 5")
        file.seek(0, 2)
        file.write(data[-30:])  # the begin of a write that did not come to its end
    keeper = Keeper(directory=keeper.dir)
    keeper.wait("count.service", "running")
    log = wait_for(lambda: (lambda text: text if text.count("number 9") == 2 else None)(keeper.log("count.service", output="cat")),
                   what="the lines of the second run")
    assert "numbeR" not in log and log.count("number 5\n") == 1 and log.count("number 4\n") == 2, log
    assert log.count("bytes of damaged journal skipped --") == 1, log
    assert "the keeper was started again" in log
    keeper.end()


@cases.case("a long query does not hold up the keeper, and nobody who follows misses a line")
def _():
    keeper = Keeper()
    keeper.start("many.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'seq -f \"%%.0f of a long row of numbers\" 1 100000'\n")
    keeper.file.write(json.dumps(dict(id=500, op="journal", name="many.service", lines=-1, follow=True, output="cat")) + "\n")
    keeper.file.flush()
    text = ""
    while "\n100000 of" not in text:
        answer = json.loads(keeper.file.readline())
        text += answer.get("text", "") if answer.get("id") == 500 else ""
    numbers = [int(line.split()[0]) for line in text.splitlines() if " of a long row" in line]
    assert numbers == list(range(1, 100001)), len(numbers)
    keeper.call("cancel", target=500)
    keeper.file.write(json.dumps(dict(id=501, op="journal", name="many.service", lines=-1, output="json")) + "\n"
                      + json.dumps(dict(id=502, op="hello")) + "\n")
    keeper.file.flush()
    order, seen = [], 0
    while len(order) < 2:
        answer = json.loads(keeper.file.readline())
        seen += answer.get("text", "").count("\n")
        order += [answer["id"]] if "result" in answer else []
    assert order == [502, 501] and seen >= 100000, (order, seen)
    keeper.end()


DOCKER = """#!/bin/sh
echo "docker $*" >> %(dir)s/docker.log
case "$1" in
run) trap 'exit 0' TERM; touch %(dir)s/up; while [ -e %(dir)s/up ]; do sleep 0.05; done ;;
stop|kill) [ -e %(dir)s/up ] && rm %(dir)s/up ;;
rm) exit 1 ;;
esac
"""
ETCDCTL = "#!/bin/sh\necho \"etcdctl $*\" >> %(dir)s/etcdctl.log\n"
# The units of the slides, with the two programs found in the test's directory.
SINATRA = """[Unit]
Description=sinatra

[Service]
EnvironmentFile=%(dir)s/environment
ExecStartPre=%(dir)s/docker pull marceldegraaf/sinatra
ExecStart=%(dir)s/docker run --name sinatra-%%i --rm \\
  -p %%i:5000 -e PORT=5000 marceldegraaf/sinatra
ExecStartPost=%(dir)s/etcdctl set /app/server/%%i \\
  ${COREOS_PUBLIC_IPV4}:%%i
ExecStop=%(dir)s/docker kill sinatra-%%i
ExecStopPost=%(dir)s/etcdctl rm /app/server/%%i

[X-Fleet]
Conflicts=sinatra@%%i.service
"""
NGINX_SIDEKICK = """[Unit]
Description=Nginx sidekick
BindsTo=sinatra@%%i.service
After=sinatra@%%i.service

[Service]
ExecStart=/bin/sh -c "while true; do %(dir)s/etcdctl set /services/website/nginx@%%i '{ \\"host\\": \\"%%H\\", \\"port\\": 80, \\"version\\": \\"52c7248a14\\" }' --ttl 60;sleep 45;done"
ExecStop=%(dir)s/etcdctl rm /services/website/nginx@%%i

[X-Fleet]
MachineOf=sinatra@%%i.service
"""
LOAD_BALANCER = """[Unit]
Description=Nginx Load Balancer

# Get CoreOS environmental variables
EnvironmentFile=%(dir)s/environment

# Pre-start and Start
## Directives with "=-" are allowed to fail without consequence
ExecStartPre=-%(dir)s/docker kill nginx_lb
[Service]
TimeoutStartSec=0
ExecStartPre=-%(dir)s/docker kill nginx_lb
ExecStartPre=-%(dir)s/docker rm nginx_lb
ExecStart=/bin/sleep 1000

[X-Fleet]
X-Conflicts=nginx.service
"""


@cases.case("the units of the deck run as printed")
def _():
    keeper = Keeper()
    for name, text in (("docker", DOCKER), ("etcdctl", ETCDCTL), ("environment", "COREOS_PUBLIC_IPV4=10.0.0.7\n")):
        with open(os.path.join(keeper.dir, name), "w") as file:
            file.write(text % {"dir": keeper.dir} if "%(dir)s" in text else text)
        os.chmod(os.path.join(keeper.dir, name), 0o755)
    docker, etcdctl = (os.path.join(keeper.dir, name + ".log") for name in ("docker", "etcdctl"))
    keeper.start("sinatra@8001.service", SINATRA % {"dir": keeper.dir})
    keeper.wait("sinatra@8001.service", "running")
    keeper.start("sidekick@8001.service", NGINX_SIDEKICK % {"dir": keeper.dir})
    keeper.wait("sidekick@8001.service", "running")
    wait_for(lambda: "website" in read(etcdctl), what="the sidekick's word")
    wait_for(lambda: "docker run" in read(docker), what="the main process's word")
    assert read(docker).splitlines() == [
        "docker pull marceldegraaf/sinatra",
        "docker run --name sinatra-8001 --rm -p 8001:5000 -e PORT=5000 marceldegraaf/sinatra"], read(docker)
    assert read(etcdctl).splitlines() == [
        "etcdctl set /app/server/8001 10.0.0.7:8001",
        'etcdctl set /services/website/nginx@8001 { "host": "%s", "port": 80, "version": "52c7248a14" } --ttl 60'
        % socket.gethostname()], read(etcdctl)
    keeper.stop("sinatra@8001.service")
    keeper.wait("sinatra@8001.service", "dead")
    keeper.wait("sidekick@8001.service", "dead")
    assert read(docker).splitlines()[-1] == "docker kill sinatra-8001"
    assert sorted(read(etcdctl).splitlines()[2:]) == ["etcdctl rm /app/server/8001",
                                                      "etcdctl rm /services/website/nginx@8001"], read(etcdctl)
    keeper.start("lb.service", LOAD_BALANCER % {"dir": keeper.dir})
    warnings = keeper.wait("lb.service", "running")["warnings"]
    assert any("Unknown key name 'EnvironmentFile' in section 'Unit'" in warning for warning in warnings), warnings
    assert keeper.call("status", name="lb.service")["text"].startswith("● lb.service - Nginx Load Balancer\n")
    keeper.end()


@for_each_mode(cases, "units run and are restarted while nobody is connected, and are found again")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    client = start(["python3", "-c", "import socket,sys,time,json\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
                    "f=s.makefile('rw')\n"
                    "f.write(json.dumps(dict(id=1,op='load',name='c.service',hash='',text=sys.argv[2]))+'\\n')\n"
                    "f.write(json.dumps(dict(id=2,op='start',name='c.service'))+'\\n')\nf.flush()\n"
                    "f.readline();print(f.readline(),flush=True)\ntime.sleep(1000)", keeper.socket,
                    "[Service]\nExecStart=/bin/sh -c 'echo $$$$ >> %s; exec sleep 1000'\nRestart=always\n" % out],
                   stdout=subprocess.PIPE, text=True)
    client.stdout.readline()
    pid = keeper.wait("c.service", "running")["mainPid"]
    keeper.connection.close()
    keeper.file.close()
    harness.kill(client)
    assert alive(pid)
    wait_for(lambda: read(out), what="the first run")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(read(out).splitlines()) == 2, what="a restart without a client")
    keeper.connect()
    unit = keeper.wait("c.service", "running")
    assert unit["mainPid"] == int(read(out).splitlines()[1]) and unit["restarts"] == 1
    assert "status=9/KILL" in keeper.log("c.service")


@for_each_mode(cases, "a keeper that was killed kills what it left, keeps exit states and starts what was wanted")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("run.service", "[Service]\nExecStart=/bin/sh -c 'setsid sleep 1000 & echo $$! >> %s; exec sleep 1000'\n" % out)
    keeper.start("bad.service", "[Service]\nExecStart=/bin/sh -c 'exit 5'\n")
    keeper.start("off.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    old = keeper.wait("run.service", "running")["mainPid"]
    keeper.wait("bad.service", "failed")
    keeper.wait("off.service", "running")
    keeper.stop("off.service")
    keeper.wait("off.service", "dead")
    child = int(wait_for(lambda: read(out), what="the child"))
    keeper.process.kill()
    keeper.process.wait()
    assert alive(old) and alive(child)
    arguments = [argument for argument in keeper.process.args if argument == "--no-cgroups"]
    again = Keeper(*arguments, directory=keeper.dir)
    keeper.process, keeper.connection, keeper.file = again.process, again.connection, again.file
    new = keeper.wait("run.service", "running")["mainPid"]
    assert new != old and not alive(old) and not alive(child)
    assert keeper.state("off.service")["sub"] == "dead"
    bad = keeper.state("bad.service")
    assert (bad["sub"], bad["result"], bad["execMainStatus"]) == ("failed", "exit-code", 5), bad


@cases.case("a second keeper on the same directory is refused, and strangers cannot read the socket")
def _():
    keeper = Keeper()
    second = subprocess.run([program("flotilla"), "keeper", "--socket", keeper.dir + "/s2", "--dir", keeper.dir + "/state"],
                            capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "another keeper" in second.stderr, second
    assert os.stat(keeper.socket).st_mode & 0o777 == 0o600
    answer = subprocess.run([program("flotilla"), "keeper", "--socket", keeper.socket, "call", '{"id":1,"op":"hello"}'],
                            capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and json.loads(answer.stdout)["protocol"] == 1, answer
    keeper.file.write("this is no JSON\n")
    keeper.file.flush()
    assert json.loads(keeper.file.readline())["result"] < 0
    assert keeper.call("no such thing")["result"] < 0
    keeper.end()


@cases.case("a hundred units start and stop at once, and nothing is left of them")
def _():
    keeper = Keeper()
    names = ["many@%d.service" % number for number in range(100)]
    before = time.monotonic()
    for name in names:
        keeper.start(name, "[Service]\nExecStart=/bin/sh -c 'sleep 1000 & exec sleep 1000'\n")
    wait_for(lambda: all(u["sub"] == "running" for u in keeper.call("list")["units"].values()), what="all to run")
    pids = [unit["mainPid"] for unit in keeper.call("list")["units"].values()]
    print("# 100 units running after %.0f ms" % ((time.monotonic() - before) * 1000))
    for name in names:
        keeper.stop(name)
    wait_for(lambda: all(u["sub"] == "dead" for u in keeper.call("list")["units"].values()), what="all to stop")
    assert not any(alive(pid) for pid in pids)
    keeper.end()


if __name__ == "__main__":
    cases.run()
