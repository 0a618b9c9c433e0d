#!/usr/bin/env python3
"""The embedded supervisor: services that fork, notify, are watched and reload."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

from harness import Cases, start, wait_for
from keeper import Keeper, alive, cgroup_of, descendants, for_each_mode, read, touch, until_exists

cases = Cases()
NOTIFY = "%s %s" % (sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "notify.py"))


def lines(*options, service=()):
    return "".join(line + "\n" for line in list(options) + ["[Service]"] + list(service))


def forking(script, *options):
    return "[Service]\nType=forking\nExecStart=/bin/sh -c '%s'\n%s" % (script, "".join(line + "\n" for line in options))


@for_each_mode(cases, "a forking service has started when its first process ends, and runs as the one that is left")
def _(keeper):
    go = os.path.join(keeper.dir, "go")
    keeper.start("fork.service", forking("sleep 1000 & %s" % until_exists(go)))
    assert keeper.state("fork.service")["active"] == "activating"
    touch(go)
    unit = keeper.wait("fork.service", "running")
    wait_for(lambda: read("/proc/%d/comm" % unit["mainPid"]) == "sleep\n", what="its program")
    status = keeper.call("status", name="fork.service")["text"]
    assert "Main PID: %d (sleep)" % unit["mainPid"] in status and "ExecStart=/bin/sh" in status, status
    keeper.stop("fork.service")
    assert keeper.wait("fork.service", "dead")["result"] == "success"
    assert not alive(unit["mainPid"])
    keeper.start("fork.service")
    os.kill(keeper.wait("fork.service", "running")["mainPid"], signal.SIGKILL)
    assert keeper.wait("fork.service", "failed")["result"] == "signal"


@for_each_mode(cases, "a forking service whose main process is not known runs until the last one ends")
def _(keeper):
    pids = os.path.join(keeper.dir, "pids")
    keeper.start("two.service", forking("sleep 1000 & echo $$! > %s; sleep 1000 & echo $$! >> %s" % (pids, pids)))
    assert keeper.wait("two.service", "running")["mainPid"] == 0
    first, second = (int(line) for line in read(pids).split())
    os.kill(first, signal.SIGTERM)
    wait_for(lambda: not alive(first), what="the end of the first")
    time.sleep(0.2)
    assert keeper.state("two.service")["sub"] == "running"
    os.kill(second, signal.SIGTERM)
    assert keeper.wait("two.service", "dead")["result"] == "success"
    keeper.start("guess.service", forking("sleep 1000 &", "GuessMainPID=no"))
    assert keeper.wait("guess.service", "running")["mainPid"] == 0


@for_each_mode(cases, "a forking service that is stopped before it has forked ends as clean as a daemon that is")
def _(keeper):
    for name, signal_name in (("slow", "SIGTERM"), ("hup", "SIGHUP")):
        keeper.start(name + ".service", forking("exec sleep 1000", "KillSignal=" + signal_name))
        assert keeper.state(name + ".service")["active"] == "activating"
        wait_for(lambda: "(sleep)" in keeper.call("status", name=name + ".service")["text"], what="its program")
        keeper.stop(name + ".service")
        assert keeper.wait(name + ".service", "dead")["result"] == "success"
    keeper.start("pre.service", lines(service=["ExecStartPre=/bin/sleep 1000", "ExecStart=/bin/sleep 1000"]))
    assert keeper.state("pre.service")["sub"] == "start-pre"
    keeper.stop("pre.service")
    assert keeper.wait("pre.service", "failed")["result"] == "signal"


@for_each_mode(cases, "PIDFile= names the main process, is awaited, and goes with the service")
def _(keeper):
    path = os.path.join(keeper.dir, "pid")
    script = ("(sleep 1000 & echo $$! > %s.first; exec sleep 1000) & late=$$!; (%s; echo $$late > %s.new; mv %s.new %s) &" %
              (path, until_exists(path + ".go"), path, path, path))
    keeper.start("file.service", forking(script, "PIDFile=%s" % path, "Restart=no"))
    wait_for(lambda: "Can't open PID file %s (yet?) after start" % path in keeper.log("file.service"), what="that it waits")
    wait_for(lambda: read(path + ".first"), what="the other one")
    touch(path + ".go")
    unit = keeper.wait("file.service", "running")
    assert unit["mainPid"] == int(read(path)) != int(read(path + ".first")), unit
    keeper.stop("file.service")
    keeper.wait("file.service", "dead")
    assert not os.path.exists(path)
    # ExecStartPost= may write it, too.
    keeper.start("post.service", forking("sleep 1000 & echo $$! > %s.post" % path, "PIDFile=%s.real" % path,
                                         "ExecStartPost=/bin/cp %s.post %s.real" % (path, path)))
    assert keeper.wait("post.service", "running")["mainPid"] == int(read(path + ".post"))


@for_each_mode(cases, "a forking service that leaves nothing, or too late, has failed")
def _(keeper):
    keeper.start("none.service", forking("exit 0", "PIDFile=%s/none" % keeper.dir))
    assert keeper.wait("none.service", "failed")["result"] == "protocol"
    keeper.start("late.service", forking("sleep 1000 &", "PIDFile=%s/none" % keeper.dir, "TimeoutStartSec=400ms"))
    assert keeper.wait("late.service", "failed")["result"] == "timeout"
    keeper.start("code.service", forking("exit 3"))
    assert keeper.wait("code.service", "failed")["result"] == "exit-code"


@cases.case("the results outlive the keeper, and those of an older one are understood")
def _():
    keeper = Keeper()
    keeper.start("none.service", notify("none", "exit:0"))
    keeper.start("code.service", "[Service]\nExecStart=/bin/false\n")
    assert keeper.wait("none.service", "failed")["result"] == "protocol"
    keeper.wait("code.service", "failed")
    keeper.process.kill()
    keeper.process.wait()
    # What stands in the file is a number, that has always been this one.
    path = os.path.join(keeper.dir, "state", "state", "code.service")
    state = json.loads(read(path))
    assert state["result"] == 3, state
    again = Keeper(directory=keeper.dir)
    assert again.state("none.service")["result"] == "protocol" and again.state("code.service")["result"] == "exit-code"
    again.end()


@cases.case("a PID file that names a process outside of the unit counts only when root owns it")
def _():
    keeper = Keeper()
    path, other = os.path.join(keeper.dir, "pid"), subprocess.Popen(["sleep", "1000"])
    try:
        keeper.start("alien.service", forking("sleep 1000 & echo %d > %s" % (other.pid, path), "PIDFile=%s" % path))
        if os.geteuid() == 0:
            assert keeper.wait("alien.service", "running")["mainPid"] == other.pid
            assert "does not belong to service, but we'll accept it" in keeper.log("alien.service")
            other.kill()
            other.wait()
            assert keeper.wait("alien.service", "dead")["result"] == "success"
            os.chmod(keeper.dir, 0o755)
            mine = subprocess.Popen(["sleep", "1000"])
            keeper.start("strange.service", forking("sleep 1000 & echo %d > %s; chown 65534 %s" % (mine.pid, path, path),
                                                    "PIDFile=%s" % path, "TimeoutStartSec=400ms"))
            assert keeper.wait("strange.service", "failed")["result"] == "timeout"
            assert "is not owned by root, or may be another's. Refusing." in keeper.log("strange.service")
            assert alive(mine.pid)
            mine.kill()
    finally:
        other.kill()
    keeper.end()


def notify(name, *arguments, options=()):
    return "[Service]\nType=notify\nExecStart=%s %s\n%s" % (
        NOTIFY, " ".join("'%s'" % argument for argument in arguments), "".join(line + "\n" for line in options))


@for_each_mode(cases, "a notify service has started when it says so, and its status shows what it says")
def _(keeper):
    go = os.path.join(keeper.dir, "go")
    keeper.load("after.service", "[Unit]\nAfter=n.service\nRequires=n.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.load("n.service", notify("n", "STATUS=warming up", "wait:" + go, "READY=1\\\\nSTATUS=at work\\\\nERRNO=2"))
    keeper.start("after.service")
    wait_for(lambda: 'Status: "warming up"' in keeper.call("status", name="n.service")["text"], what="the first word")
    assert keeper.state("n.service")["sub"] == "start" and keeper.state("after.service")["sub"] == "dead"
    touch(go)
    keeper.wait("n.service", "running")
    keeper.wait("after.service", "running")
    status = keeper.call("status", name="n.service")["text"]
    assert 'Status: "at work"' in status and "Error: 2 (No such file or directory)" in status, status
    keeper.stop("n.service")
    assert keeper.wait("n.service", "dead")["result"] == "success"


@for_each_mode(cases, "a notify service that ends, or is silent, before it is ready has failed")
def _(keeper):
    keeper.start("ends.service", notify("ends", "exit:0"))
    assert keeper.wait("ends.service", "failed")["result"] == "protocol"
    keeper.start("silent.service", notify("silent", options=["TimeoutStartSec=500ms"]))
    assert keeper.wait("silent.service", "failed")["result"] == "timeout"
    # What it said last counts, although it has ended by the time it is read.
    keeper.start("brief.service", notify("brief", "READY=1", "exit:0"))
    assert keeper.wait("brief.service", "dead")["result"] == "success"
    assert "Started brief.service." in keeper.log("brief.service")


@for_each_mode(cases, "NotifyAccess= decides whose messages count, and another unit's never do")
def _(keeper):
    for access, running in (("main", False), ("exec", False), ("all", True)):
        name = "%s.service" % access
        keeper.start(name, notify(access, "fork", "READY=1", options=["NotifyAccess=%s" % access]))
        if running:
            keeper.wait(name, "running")
        else:
            wait_for(lambda: "but reception only permitted for" in keeper.log(name), what="the refusal")
            assert keeper.state(name)["sub"] == "start"
    # A control process speaks for the unit with exec.
    keeper.start("control.service", "[Service]\nType=notify\nNotifyAccess=exec\nExecStart=/bin/sleep 1000\n"
                 "ExecStartPost=/bin/true\nExecStartPre=%s 'STATUS=from before' exit:0\nTimeoutStartSec=infinity\n" % NOTIFY)
    wait_for(lambda: 'Status: "from before"' in keeper.call("status", name="control.service")["text"], what="the word")
    # This process is nobody's: the address alone does not do.
    out = os.path.join(keeper.dir, "address")
    keeper.start("own.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'echo $$NOTIFY_SOCKET > %s.new; "
                 "mv %s.new %s; sleep 1000'\n" % (out, out, out))
    address = wait_for(lambda: read(out), what="the address").strip()
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.connect("\0" + address[1:])
    channel.send(b"READY=1")
    wait_for(lambda: "reception only permitted for the unit's own processes" in keeper.log("own.service"), what="the refusal")
    assert keeper.state("own.service")["sub"] == "start"
    keeper.start("none.service", "[Service]\nExecStart=/bin/sh -c 'echo [$$NOTIFY_SOCKET]; sleep 1000'\n")
    wait_for(lambda: "[]" in keeper.log("none.service"), what="no address")


@for_each_mode(cases, "systemd-notify works, and waits until it was heard (BARRIER=1)")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("tool.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'systemd-notify --ready "
                 "--status=\"by a tool\"; echo $$? > %s; sleep 1000'\n" % out)
    keeper.wait("tool.service", "running")
    assert wait_for(lambda: read(out), what="the tool's end") == "0\n"
    assert 'Status: "by a tool"' in keeper.call("status", name="tool.service")["text"]


@for_each_mode(cases, "MAINPID= moves the main process, to one of the unit's own")
def _(keeper):
    keeper.start("move.service", notify("move", "fork", "MAINPID={pid}\\\\nREADY=1", options=["NotifyAccess=all"]))
    unit = keeper.wait("move.service", "running")
    assert read("/proc/%d/stat" % unit["mainPid"]).split(") ")[1].split()[1] != str(keeper.process.pid)
    os.kill(unit["mainPid"], signal.SIGKILL)
    # Its parent reaps nothing: the keeper sees by itself that it has ended.
    wait_for(lambda: keeper.state("move.service")["active"] in ("inactive", "failed"), what="the end")


@for_each_mode(cases, "STOPPING=1, RELOADING=1 and EXTEND_TIMEOUT_USEC= are followed")
def _(keeper):
    go = os.path.join(keeper.dir, "go")
    keeper.start("stop.service", notify("stop", "READY=1", "wait:" + go, "STOPPING=1", "wait:%s.2" % go, "exit:0"))
    keeper.wait("stop.service", "running")
    touch(go)
    keeper.wait("stop.service", "stop-sigterm")
    touch(go + ".2")
    assert keeper.wait("stop.service", "dead")["result"] == "success"
    keeper.start("reload.service", notify("reload", "READY=1", "wait:" + go, "RELOADING=1", "wait:%s.3" % go, "READY=1"))
    assert keeper.wait("reload.service", "reload")["active"] == "reloading"
    touch(go + ".3")
    keeper.wait("reload.service", "running")
    before = time.monotonic()
    keeper.start("slow.service", notify("slow", "EXTEND_TIMEOUT_USEC=60000000", "sleep:4", "READY=1",
                                        options=["TimeoutStartSec=3s"]))
    keeper.wait("slow.service", "running")
    assert time.monotonic() - before > 3.9


@for_each_mode(cases, "a silent watched service is aborted, and restarted as its Restart= says")
def _(keeper):
    keeper.start("dog.service", notify("dog", "say:%%(WATCHDOG_USEC)s %%(WATCHDOG_PID)s", "READY=1", "sleep:0.7", "WATCHDOG=1", "sleep:0.7",
                                       "WATCHDOG=1", "sleep:0.7", "WATCHDOG=1", "STATUS=silent", options=["WatchdogSec=2s"]))
    unit = keeper.wait("dog.service", "running")
    assert "2000000 %d" % unit["mainPid"] in keeper.log("dog.service")
    wait_for(lambda: 'Status: "silent"' in keeper.call("status", name="dog.service")["text"], what="its last word")
    assert keeper.wait("dog.service", "failed")["result"] == "watchdog"
    log = keeper.log("dog.service")
    assert "dog.service: Watchdog timeout (limit 2000ms)!" in log and "with signal SIGABRT" in log, log
    assert "status=6/ABRT" in log, log
    keeper.start("again.service", notify("again", "READY=1", options=["WatchdogSec=300ms", "WatchdogSignal=SIGTERM",
                                                                     "Restart=on-watchdog", "RestartSec=1h"]))
    assert keeper.wait("again.service", "auto-restart")["result"] == "watchdog"
    keeper.start("trigger.service", notify("trigger", "READY=1", "WATCHDOG_USEC=60000000", "WATCHDOG=trigger"))
    assert keeper.wait("trigger.service", "failed")["result"] == "watchdog"


@cases.case("a watched process that ignores the abort is killed after TimeoutAbortSec=")
def _():
    keeper = Keeper()
    keeper.start("deaf.service", "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; sleep 1000 & wait; sleep 1000'\nKillMode=mixed\n"
                 "WatchdogSec=2s\nWatchdogSignal=SIGTERM\nTimeoutStopSec=1h\nTimeoutAbortSec=300ms\n")
    assert keeper.wait("deaf.service", "failed")["result"] == "watchdog"
    assert "State 'stop-watchdog' timed out. Killing." in keeper.log("deaf.service")
    keeper.end()


@for_each_mode(cases, "ExecReload= runs by request, and its failure is no failure of the service")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("re.service", "[Service]\nExecStart=/bin/sh -c 'trap \"echo reread >> %s\" HUP; echo up > %s; "
                 "while :; do sleep 0.05; done'\nExecReload=/bin/kill -HUP $MAINPID\nExecReload=/bin/sh -c '%s'\n"
                 % (out, out, until_exists(out + ".go")))
    wait_for(lambda: read(out), what="the trap")
    pid = keeper.wait("re.service", "running")["mainPid"]
    assert keeper.call("reload", name="re.service")["result"] == 0
    assert keeper.wait("re.service", "reload")["active"] == "reloading"
    assert keeper.call("reload", name="re.service")["result"] < 0
    touch(out + ".go")
    assert keeper.wait("re.service", "running")["mainPid"] == pid
    wait_for(lambda: read(out) == "up\nreread\n", what="the signal")
    assert "Reloaded re.service." in keeper.log("re.service")
    keeper.start("bad.service", "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/false\n")
    keeper.wait("bad.service", "running")
    assert keeper.call("reload", name="bad.service")["result"] == 0
    wait_for(lambda: "Reload failed with result 'exit-code'." in keeper.log("bad.service"), what="the failure")
    assert keeper.wait("bad.service", "running")["result"] == "success"
    keeper.start("slow.service", "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/sleep 1000\nTimeoutStartSec=300ms\n")
    keeper.wait("slow.service", "running")
    keeper.call("reload", name="slow.service")
    wait_for(lambda: "Reload operation timed out." in keeper.log("slow.service"), what="the time-out")
    assert keeper.wait("slow.service", "running")["result"] == "success"
    keeper.call("reload", name="slow.service")
    keeper.stop("slow.service")
    assert keeper.wait("slow.service", "dead")["result"] == "success"
    # A stop during a reload ends its command first; ExecStop= is left out, as there is one control process at a time.
    keeper.start("both.service", "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/sh -c 'echo $$$$ > %s.reload; sleep 1000'\n"
                 "ExecStop=/bin/touch %s.stop\nExecStopPost=/bin/touch %s.post\n" % (out, out, out))
    keeper.wait("both.service", "running")
    keeper.call("reload", name="both.service")
    reloading = int(wait_for(lambda: read(out + ".reload"), what="the reload"))
    keeper.stop("both.service")
    assert keeper.wait("both.service", "dead")["result"] == "success"
    assert not alive(reloading) and os.path.exists(out + ".post") and not os.path.exists(out + ".stop")
    keeper.start("none.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    answer = keeper.call("reload", name="none.service")
    assert answer["result"] < 0 and "not applicable" in answer["message"], answer
    assert "not active" in keeper.call("reload", name="slow.service")["message"]
    assert keeper.call("reload", name="nobody.service")["result"] < 0


RELOADER = """import os, signal, socket, time
address = os.environ["NOTIFY_SOCKET"]
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.connect("\\0" + address[1:])
def reload(*_):
    channel.send(b"RELOADING=1\\nSTATUS=rereading")
    while not os.path.exists(__file__ + ".go"):
        time.sleep(0.02)
    channel.send(b"READY=1\\nSTATUS=reread")
signal.signal(signal.SIGUSR1, reload)
channel.send(b"READY=1")
while True:
    time.sleep(1)
"""


@cases.case("Type=notify-reload is reloaded by its signal, and done with its READY=1")
def _():
    keeper = Keeper()
    path = os.path.join(keeper.dir, "reloader.py")
    with open(path, "w") as file:
        file.write(RELOADER)
    keeper.start("nr.service", "[Service]\nType=notify-reload\nReloadSignal=SIGUSR1\nExecStart=%s %s\n" % (sys.executable, path))
    keeper.wait("nr.service", "running")
    assert keeper.call("reload", name="nr.service")["result"] == 0
    assert keeper.state("nr.service")["sub"] == "reload"
    touch(path + ".go")
    keeper.wait("nr.service", "running")
    assert 'Status: "reread"' in keeper.call("status", name="nr.service")["text"]
    keeper.end()


@cases.case("PartOf= takes stop and restart of the other unit along, also while that is down, and never its start")
def _():
    keeper = Keeper()
    keeper.load("main.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.start("part.service", "[Unit]\nPartOf=main.service\n[Service]\nExecStart=/bin/sleep 1000\n")
    part = keeper.wait("part.service", "running")["mainPid"]
    assert keeper.state("main.service")["sub"] == "dead"
    keeper.start("main.service")
    main = keeper.wait("main.service", "running")["mainPid"]
    assert keeper.state("part.service")["mainPid"] == part
    keeper.call("restart", name="main.service")
    for name, before in (("main.service", main), ("part.service", part)):
        wait_for(lambda: keeper.state(name)["sub"] == "running" and keeper.state(name)["mainPid"] != before, what=name)
    keeper.stop("main.service")
    keeper.wait("main.service", "dead")
    keeper.wait("part.service", "dead")
    keeper.start("main.service")
    keeper.wait("main.service", "running")
    assert keeper.state("part.service")["sub"] == "dead"
    keeper.stop("main.service")
    keeper.wait("main.service", "dead")
    keeper.start("part.service")
    keeper.wait("part.service", "running")
    keeper.stop("main.service")
    keeper.wait("part.service", "dead")
    # A circle of parts ends.
    for name, other in (("x.service", "y.service"), ("y.service", "x.service")):
        keeper.load(name, "[Unit]\nPartOf=%s\n[Service]\nExecStart=/bin/sleep 1000\n" % other)
    keeper.stop("x.service")
    # So does a wide web of them: each is asked once, not once on every way to it.
    for layer in range(30):
        for side in "ab":
            keeper.load("w%d%s.service" % (layer, side), "[Unit]\nPartOf=w%da.service w%db.service\n[Service]\nExecStart=/bin/true\n"
                        % (layer - 1, layer - 1))
    keeper.load("w-1a.service", "[Service]\nExecStart=/bin/true\n")
    keeper.stop("w-1a.service")
    keeper.end()


@cases.case("StartLimitBurst= counts every start in StartLimitIntervalSec=, also above a hundred")
def _():
    keeper = Keeper()
    keeper.start("two.service", "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=5s\nStartLimitAction=none\n"
                 "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    keeper.wait("two.service", "dead")
    keeper.start("two.service")
    wait_for(lambda: keeper.log("two.service").count("Finished") == 2, what="the second run")
    keeper.start("two.service")
    assert keeper.wait("two.service", "failed")["result"] == "start-limit-hit"
    time.sleep(5.1)
    keeper.start("two.service")
    keeper.wait("two.service", "dead")
    # The old names, in [Service]; more than a hundred starts are counted, not only the last ones.
    keeper.start("many.service", "[Service]\nType=oneshot\nStartLimitInterval=1h\nStartLimitBurst=110\nRestart=on-failure\n"
                 "RestartSec=0\nExecStart=/bin/false\n")
    wait_for(lambda: keeper.state("many.service")["result"] == "start-limit-hit", what="the limit")
    assert keeper.state("many.service")["restarts"] == 110, keeper.state("many.service")
    keeper.start("act.service", "[Unit]\nStartLimitAction=reboot\nFailureAction=exit\n[Service]\nExecStart=/bin/sleep 1000\n")
    warnings = "\n".join(keeper.wait("act.service", "running")["warnings"])
    assert "StartLimitAction=reboot is refused" in warnings and "FailureAction=exit is refused" in warnings, warnings
    keeper.end()


@cases.case("Type=idle waits until nothing else is being started")
def _():
    keeper = Keeper()
    out, go = os.path.join(keeper.dir, "out"), os.path.join(keeper.dir, "go")
    keeper.start("busy.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c '%s; echo busy >> %s'\n" % (until_exists(go), out))
    keeper.start("idle.service", "[Service]\nType=idle\nExecStart=/bin/sh -c 'echo idle >> %s; sleep 1000'\n" % out)
    time.sleep(0.3)
    assert not os.path.exists(out)
    touch(go)
    wait_for(lambda: read(out).count("\n") == 2, what="both")
    assert read(out) == "busy\nidle\n"
    keeper.end()


@cases.case("RuntimeMaxSec= ends a run, and RestartKillSignal= is for restarts")
def _():
    keeper = Keeper()
    out = os.path.join(keeper.dir, "out")
    keeper.start("short.service", "[Service]\nExecStart=/bin/sleep 1000\nRuntimeMaxSec=300ms\n")
    assert keeper.wait("short.service", "failed")["result"] == "timeout"
    assert "Service reached runtime time limit. Stopping." in keeper.log("short.service")
    # A reload does not begin it anew.
    keeper.start("long.service", "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/true\nRuntimeMaxSec=3s\n")
    keeper.wait("long.service", "running")
    wait_for(lambda: keeper.call("reload", name="long.service")["result"] and keeper.state("long.service")["sub"] == "failed",
             what="the end")
    assert "Reloaded long.service." in keeper.log("long.service")
    keeper.start("rk.service", "[Service]\nRestartKillSignal=SIGUSR1\nExecStart=/bin/sh -c 'trap \"echo usr >> %s; exit 0\" USR1; "
                 "trap \"echo term >> %s; exit 0\" TERM; echo up >> %s; while :; do sleep 0.05; done'\n" % (out, out, out))
    wait_for(lambda: read(out) == "up\n", what="the traps")
    keeper.call("restart", name="rk.service")
    wait_for(lambda: read(out) == "up\nusr\nup\n", what="the restart")
    keeper.stop("rk.service")
    keeper.wait("rk.service", "dead")
    assert read(out) == "up\nusr\nup\nterm\n"
    keeper.end()


@cases.case("TimeoutStartFailureMode= and TimeoutStopFailureMode= choose the signal")
def _():
    keeper = Keeper()
    keeper.start("kill.service", "[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/true\nTimeoutStartSec=300ms\n"
                 "TimeoutStartFailureMode=kill\n")
    assert keeper.wait("kill.service", "failed")["result"] == "timeout"
    assert "start-pre operation timed out. Killing." in keeper.log("kill.service")
    keeper.start("abort.service", "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.05; done'\n"
                 "TimeoutStopSec=300ms\nTimeoutStopFailureMode=abort\n")
    wait_for(lambda: "up" in keeper.log("abort.service"), what="the trap")
    keeper.stop("abort.service")
    assert keeper.wait("abort.service", "failed")["result"] == "timeout"
    log = keeper.log("abort.service")
    assert "State 'stop-sigterm' timed out. Aborting." in log and "status=6/ABRT" in log, log
    keeper.end()


@for_each_mode(cases, "ExitType=cgroup runs as long as any process does")
def _(keeper):
    go = os.path.join(keeper.dir, "go")
    keeper.start("group.service", "[Service]\nExitType=cgroup\nExecStart=/bin/sh -c '(%s) & exit 0'\n" % until_exists(go))
    wait_for(lambda: keeper.state("group.service")["mainPid"] == 0, what="the end of the main process")
    assert keeper.state("group.service")["sub"] == "running"
    touch(go)
    assert keeper.wait("group.service", "dead")["result"] == "success"


@cases.case("no unit gets hold of a process that is not its own, nor of the keeper")
def _():
    keeper = Keeper()
    other = subprocess.Popen(["sleep", "1000"])
    try:
        target, link = os.path.join(keeper.dir, "target"), os.path.join(keeper.dir, "link")
        with open(target, "w") as file:
            file.write("%d\n" % other.pid)
        # Root owns the file, but not the way to it.
        os.symlink(target, link)
        keeper.start("link.service", forking("sleep 1000 &", "PIDFile=%s" % link, "TimeoutStartSec=400ms"))
        assert keeper.wait("link.service", "failed")["result"] in ("timeout", "protocol")
        assert "may be another's. Refusing." in keeper.log("link.service"), keeper.log("link.service")
        assert other.poll() is None
        # One process is the main one of one unit.
        pid = os.path.join(keeper.dir, "pid")
        keeper.start("first.service", forking("sleep 1000 & echo $$! > %s" % pid, "PIDFile=%s" % pid))
        unit = keeper.wait("first.service", "running")
        keeper.start("second.service", forking("sleep 1000 &", "PIDFile=%s" % pid, "TimeoutStartSec=400ms"))
        keeper.wait("second.service", "failed")
        assert "belongs to another unit" in keeper.log("second.service"), keeper.log("second.service")
        assert alive(unit["mainPid"]) and keeper.state("first.service")["sub"] == "running"
        # A control process is none either.
        keeper.start("control.service", "[Service]\nType=notify\nNotifyAccess=all\n"
                     "ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep 1000'\n"
                     "ExecStartPost=/bin/sh -c 'systemd-notify MAINPID=$$$$; exit 0'\n")
        keeper.wait("control.service", "running")
        assert "is the control process" in keeper.log("control.service"), keeper.log("control.service")
        # Without a command to start there is none whose flags could count.
        keeper.start("none.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=/bin/true\nPIDFile=%s.none\n"
                     "ExecStartPost=/bin/sh -c 'sleep 0.3 & echo $$! > %s.none'\n" % (pid, pid))
        keeper.wait("none.service", "exited")
        wait_for(lambda: keeper.state("none.service")["mainPid"] == 0, what="its end")
    finally:
        other.kill()
        other.wait()
    keeper.end()


@cases.case("descriptors that a unit sends over its output are not kept")
def _():
    keeper = Keeper()
    script = os.path.join(keeper.dir, "send.py")
    with open(script, "w") as file:
        file.write("import socket, os\n"
                   "out = socket.socket(fileno=os.dup(1))\n"
                   "for _ in range(50):\n"
                   "    socket.send_fds(out, [b'line\\n'], [0] * 10)\n"
                   "import time; time.sleep(1000)\n")
    before = len(os.listdir("/proc/%d/fd" % keeper.process.pid))
    keeper.start("send.service", "[Service]\nExecStart=%s %s\n" % (sys.executable, script))
    wait_for(lambda: keeper.log("send.service").count("line") == 50, what="what it says")
    assert len(os.listdir("/proc/%d/fd" % keeper.process.pid)) < before + 10
    keeper.end()


@cases.case("a bad text that comes while a service waits to be restarted ends it as failed")
def _():
    keeper = Keeper()
    keeper.start("again.service", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=300ms\n")
    keeper.wait("again.service", "auto-restart")
    keeper.call("load", name="again.service", text="[Service]\nType=nonsense\n", hash="")
    keeper.wait("again.service", "failed")
    keeper.end()


@cases.case("what is in cgroups that a unit made below its own is the unit's, and ends with it")
def _():
    keeper = Keeper()
    out, up = os.path.join(keeper.dir, "out"), os.path.join(keeper.dir, "up")
    script = "trap \"\" TERM; sleep 1000 & echo $$! > %s; exec sleep 1000" % out
    keeper.start("sub.service", lines(service=["ExecStart=/bin/sh -c '%s'" % script, "TimeoutStopSec=300ms"]))
    main = keeper.wait("sub.service", "running")["mainPid"]
    child = int(wait_for(lambda: os.path.exists(out) and read(out), what="the child"))
    cgroup = cgroup_of(main, "sub.service")

    def move(pid, path):
        os.makedirs(path)
        with open(path + "/cgroup.procs", "w") as procs:
            procs.write(str(pid))
    if cgroup:
        move(child, cgroup + "/a/b")
        wait_for(lambda: "%d sleep" % child in keeper.call("status", name="sub.service")["text"], what="its program")
        keeper.stop("sub.service")
        assert keeper.wait("sub.service", "failed")["result"] == "timeout"
        assert not alive(main) and not alive(child) and not os.path.exists(cgroup)
        # Who notifies from there is the unit's.
        keeper.start("told.service", lines(service=["Type=notify", "NotifyAccess=all", "ExecStart=/bin/sh -c '(%s; exec %s READY=1 SLEEP) & "
                                                    "echo $$! > %s.told; wait'" % (until_exists(up), NOTIFY, out)]))
        child = int(wait_for(lambda: os.path.exists(out + ".told") and read(out + ".told"), what="the child"))
        move(child, cgroup_of(child, "told.service") + "/a")
        touch(up)
        keeper.wait("told.service", "running")
        # And a keeper that was killed leaves nothing there.
        keeper.process.kill()
        keeper.process.wait()
        again = Keeper(directory=keeper.dir)
        again.wait("told.service", "running")
        assert not alive(child)
        again.end()
    else:
        keeper.end()


@cases.case("the last signal reaches all of the unit's cgroup, also what the keeper cannot see")
def _():
    world = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    keeper = Keeper(around=world)
    keeper.start("seen.service", lines(service=["ExecStart=/bin/sleep 1000"]))
    keeper.wait("seen.service", "running")
    found = [cgroup_of(pid, "seen.service") for pid in descendants(keeper.process.pid)]
    cgroup = next((path for path in found if path), None)
    if cgroup and os.path.exists(cgroup + "/cgroup.kill"):
        # A process of another PID namespace, which has no number in the keeper's.
        other = start(["sleep", "1000"])
        with open(cgroup + "/cgroup.procs", "w") as procs:
            procs.write(str(other.pid))
        keeper.stop("seen.service")
        keeper.wait("seen.service", "dead")
        assert other.wait(10) == -signal.SIGKILL
    keeper.end()


@cases.case("the cgroups of a keeper that ended go when what KillMode= let live has ended")
def _():
    keeper = Keeper()
    out = os.path.join(keeper.dir, "out")
    keeper.start("left.service", lines(service=["KillMode=process", "ExecStart=/bin/sh -c 'sleep 1000 & echo $$! > %s; exec sleep 1000'" % out]))
    keeper.wait("left.service", "running")
    child = int(wait_for(lambda: os.path.exists(out) and read(out), what="the child"))
    cgroup = cgroup_of(child, "left.service")
    keeper.end()
    assert alive(child)
    if cgroup:
        assert os.path.exists(cgroup) and not os.path.exists(os.path.dirname(cgroup) + "/keeper")
        # Others may have cgroups whose names begin alike.
        alien = os.path.dirname(os.path.dirname(cgroup)) + "/flotilla-alien-%d" % os.getpid()
        os.mkdir(alien)
        Keeper().end()
        assert os.path.exists(cgroup), "it is in use"
        os.rmdir(alien)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not alive(child), what="its end")
    if cgroup:
        Keeper().end()
        assert not os.path.exists(os.path.dirname(cgroup))


if __name__ == "__main__":
    cases.run()
