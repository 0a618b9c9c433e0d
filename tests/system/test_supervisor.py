#!/usr/bin/env python3
"""The embedded supervisor: a keeper is driven through its socket, as fleetd does it."""
import atexit
import json
import os
import signal
import socket
import subprocess
import time

import harness
from harness import Cases, program, start, temp_dir, wait_for

cases = Cases()
MODES = {"with cgroups where they work": [], "without cgroups": ["--no-cgroups"]}


def descendants(pid):
    """All living processes below one, by way of their parents."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(read("/proc/%s/stat" % entry).rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                pass
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


class Keeper:
    running = []

    def __init__(self, *arguments, directory=None, around=()):
        self.dir = directory or temp_dir()
        self.socket = os.path.join(self.dir, "s")
        self.process = start(list(around) + [program("flotilla"), "keeper", "--socket", self.socket, "--dir",
                              os.path.join(self.dir, "state"), "--stay"] + list(arguments))
        Keeper.running.append(self)
        self.connect()

    def kill_all(self):
        """Units have sessions of their own: they are killed one by one, before their keeper."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            for pid in descendants(self.process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            harness.kill(self.process)

    def connect(self):
        def attempt():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.socket)
            return connection
        self.connection = wait_for(attempt, what="the keeper's socket")
        self.file = self.connection.makefile("rw")
        self.last_id = 0

    def call(self, op, **fields):
        """Answers the final line, with the text pieces joined and the units told before it."""
        self.last_id += 1
        self.file.write(json.dumps(dict(id=self.last_id, op=op, **fields)) + "\n")
        self.file.flush()
        text, units = "", {}
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the keeper closed the connection")
            answer = json.loads(line)
            if answer.get("id") == self.last_id and "text" in answer:
                text += answer["text"]
            elif answer.get("id") == self.last_id:
                answer.update(text=text, units=units)
                return answer
            elif answer.get("event") == "state":
                units[answer["unit"]["name"]] = answer["unit"]

    def load(self, name, text):
        assert self.call("load", name=name, text=text, hash="")["result"] == 0

    def start(self, name, text=None):
        if text is not None:
            self.load(name, text)
        return self.call("start", name=name)

    def state(self, name):
        return self.call("list")["units"].get(name)

    def wait(self, name, sub, timeout_s=10):
        def there():
            unit = self.state(name)
            return unit if unit and unit["sub"] == sub else None
        try:
            return wait_for(there, timeout_s, "%s to be %s" % (name, sub))
        except AssertionError as error:
            raise AssertionError("%s; it is %s; log:\n%s" % (error, self.state(name), self.log(name)))

    def log(self, name, lines=-1, output="short"):
        return self.call("journal", name=name, lines=lines, output=output)["text"]

    def stop(self, name):
        assert self.call("stop", name=name)["result"] == 0

    def end(self):
        """Stops all units and the keeper, and checks that nothing of it is left."""
        self.call("shutdown")
        assert self.process.wait(60) == 0


@atexit.register
def _kill_all():
    for keeper in Keeper.running:
        keeper.kill_all()


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read(path):
    with open(path) as file:
        return file.read()


def for_each_mode(name):
    def add(function):
        for mode, arguments in MODES.items():
            def run(arguments=arguments):
                keeper = Keeper(*arguments)
                try:
                    function(keeper)
                    keeper.end()
                finally:
                    keeper.kill_all()
            cases.case("%s (%s)" % (name, mode))(run)
        return function
    return add


def until_exists(path):
    """Words of a shell command, in a unit, that wait for a file: what takes time in a test takes it until the test says."""
    return "while [ ! -e %s ]; do sleep 0.02; done" % path


def touch(path):
    with open(path, "w"):
        pass


@for_each_mode("a simple service runs, is seen and stops")
def _(keeper):
    keeper.start("web.service", "[Unit]\nDescription=Web\n[Service]\nExecStart=/bin/sleep 1000\n")
    unit = keeper.wait("web.service", "running")
    assert unit["active"] == "active" and unit["load"] == "loaded" and alive(unit["mainPid"])
    wait_for(lambda: "(sleep)" in keeper.call("status", name="web.service")["text"], what="execve()")
    status = keeper.call("status", name="web.service")["text"]
    assert "● web.service - Web\n" in status and "Main PID: %d (sleep)" % unit["mainPid"] in status, status
    assert "Active: active (running) since " in status and "/bin/sleep 1000" in status, status
    keeper.stop("web.service")
    ended = keeper.wait("web.service", "dead")
    assert ended["active"] == "inactive" and ended["result"] == "success" and not alive(unit["mainPid"])
    log = keeper.log("web.service")
    for text in ["Started web.service - Web.", "Stopping web.service - Web...",
                 "web.service: Deactivated successfully.", "Stopped web.service - Web."]:
        assert text in log, (text, log)


@for_each_mode("start to running takes under 20 ms")
def _(keeper):
    keeper.load("fast.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper.call("subscribe")

    def best_of_some():
        times = []
        for _ in range(11):
            before = time.monotonic()
            keeper.call("start", name="fast.service")
            while True:
                event = json.loads(keeper.file.readline())
                if event.get("event") == "state" and event["unit"]["sub"] == "running":
                    break
            times.append(time.monotonic() - before)
            keeper.stop("fast.service")
            keeper.wait("fast.service", "dead")
        print("# start to running: median %.1f ms, worst %.1f ms" % (sorted(times)[5] * 1000, max(times) * 1000))
        return min(times)
    harness.quick_enough(best_of_some, 0.02, "start to running", starts_programs=True)


@for_each_mode("a failing service tells status and result as systemd does")
def _(keeper):
    keeper.start("bad.service", "[Service]\nExecStart=/bin/false\n")
    unit = keeper.wait("bad.service", "failed")
    assert (unit["active"], unit["result"], unit["execMainStatus"]) == ("failed", "exit-code", 1), unit
    log = keeper.log("bad.service")
    assert "bad.service: Main process exited, code=exited, status=1/FAILURE" in log, log
    assert "bad.service: Failed with result 'exit-code'." in log, log
    status = keeper.call("status", name="bad.service")["text"]
    assert status.startswith("× bad.service\n"), status
    assert "Active: failed (Result: exit-code) since" in status, status
    assert "ExecStart=/bin/false (code=exited, status=1/FAILURE)" in status, status


@for_each_mode("a missing executable is status 203/EXEC, and Type=exec fails the start")
def _(keeper):
    keeper.start("simple.service", "[Service]\nExecStart=/no/such --flag\n")
    keeper.start("exec.service", "[Service]\nType=exec\nExecStart=/no/such --flag\n")
    for name in ("simple.service", "exec.service"):
        assert keeper.wait(name, "failed")["execMainStatus"] == 203
        assert "(such)" in keeper.log(name)
        assert "Failed at step EXEC spawning /no/such: No such file or directory" in keeper.log(name)
    assert "Started simple.service." in keeper.log("simple.service")
    assert "Failed to start exec.service." in keeper.log("exec.service")
    keeper.start("good.service", "[Service]\nType=exec\nExecStart=sleep 1000\n")
    keeper.wait("good.service", "running")


@for_each_mode("Restart=always restarts after RestartSec=")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("again.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'date +%%%%s.%%%%N >> %s; sleep 0.05'\n"
                 "Restart=always\nRestartSec=300ms\n" % out)
    wait_for(lambda: os.path.exists(out) and len(read(out).splitlines()) >= 5, what="four restarts")
    runs = [float(line) for line in read(out).splitlines()[:5]]
    gaps = [later - earlier for earlier, later in zip(runs, runs[1:])]
    # A busy machine makes the waits longer, never shorter.
    assert min(gaps) > 0.3 and min(gaps) < 1.5, gaps
    assert keeper.state("again.service")["restarts"] >= 2
    assert "Scheduled restart job, restart counter is at 1." in keeper.log("again.service")
    keeper.stop("again.service")
    keeper.wait("again.service", "dead")
    runs = len(read(out).splitlines())
    time.sleep(0.6)
    assert len(read(out).splitlines()) == runs, "it was restarted after a stop"


@cases.case("Restart= follows systemd's table of exit causes")
def _():
    keeper = Keeper()
    causes = {"clean": "exit 0", "code": "exit 3", "signal": "kill -9 $$$$", "term": "kill -15 $$$$"}
    # Which causes lead to a restart; SIGTERM is a clean end of a service.
    table = {"no": [], "always": ["clean", "code", "signal", "term"], "on-success": ["clean", "term"],
             "on-failure": ["code", "signal"], "on-abnormal": ["signal"], "on-abort": ["signal"]}
    for policy in table:
        for cause, script in causes.items():
            name = "%s-%s.service" % (policy, cause)
            keeper.start(name, "[Service]\nExecStart=/bin/sh -c '%s'\nRestart=%s\nRestartSec=1h\n" % (script, policy))
    for policy, restarted in table.items():
        for cause in causes:
            name = "%s-%s.service" % (policy, cause)
            sub = "auto-restart" if cause in restarted else "dead" if cause in ("clean", "term") else "failed"
            keeper.wait(name, sub)
    keeper.end()


@cases.case("RestartPreventExitStatus=, RestartForceExitStatus= and SuccessExitStatus= are followed")
def _():
    keeper = Keeper()
    keeper.start("prevent.service", "[Service]\nExecStart=/bin/sh -c 'exit 7'\nRestart=always\n"
                 "RestartPreventExitStatus=7\n")
    keeper.start("force.service", "[Service]\nExecStart=/bin/sh -c 'exit 8'\nRestartForceExitStatus=8\nRestartSec=1h\n")
    keeper.start("success.service", "[Service]\nExecStart=/bin/sh -c 'exit 9'\nSuccessExitStatus=9 SIGUSR1\n")
    keeper.wait("prevent.service", "failed")
    keeper.wait("force.service", "auto-restart")
    assert keeper.wait("success.service", "dead")["result"] == "success"
    keeper.end()


@cases.case("the sixth start within ten seconds is refused")
def _():
    keeper = Keeper()
    keeper.start("loop.service", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=0\n")
    wait_for(lambda: keeper.state("loop.service")["result"] == "start-limit-hit", what="the start limit")
    assert keeper.state("loop.service")["sub"] == "failed"
    assert keeper.state("loop.service")["restarts"] == 5
    assert "loop.service: Start request repeated too quickly." in keeper.log("loop.service")
    keeper.end()


@for_each_mode("a oneshot runs its commands in order and ends dead")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("one.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo a >> %s'\n"
                 "ExecStart=-/bin/false\nExecStart=/bin/sh -c '%s; echo b >> %s' ; /bin/sh -c 'echo c >> %s'\n"
                 % (out, until_exists(out + ".go"), out, out))
    assert keeper.state("one.service")["active"] == "activating"
    touch(out + ".go")
    assert keeper.wait("one.service", "dead")["result"] == "success"
    assert read(out) == "a\nb\nc\n", read(out)
    log = keeper.log("one.service")
    assert "Starting one.service..." in log and "Finished one.service." in log, log
    keeper.start("stays.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
                 "ExecStop=/bin/sh -c 'echo stop >> %s'\n" % out)
    assert keeper.wait("stays.service", "exited")["active"] == "active"
    keeper.stop("stays.service")
    keeper.wait("stays.service", "dead")
    assert read(out).endswith("stop\n")
    keeper.start("fails.service", "[Service]\nType=oneshot\nExecStart=/bin/false\nExecStart=/bin/touch %s.never\n" % out)
    keeper.wait("fails.service", "failed")
    assert not os.path.exists(out + ".never")


@for_each_mode("all Exec lines run in order with what they are told")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    note = "/bin/sh -c 'echo %%s $MAINPID $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS >> %s'" % out
    lines = [("ExecCondition", "condition"), ("ExecStartPre", "pre1"), ("ExecStartPre", "pre2"),
             ("ExecStartPost", "post"), ("ExecStop", "stop"), ("ExecStopPost", "stoppost")]
    text = "[Service]\nExecStart=/bin/sleep 1000\n" + "".join("%s=%s\n" % (key, note % word) for key, word in lines)
    keeper.start("all.service", text)
    unit = keeper.wait("all.service", "running")
    keeper.stop("all.service")
    keeper.wait("all.service", "dead")
    got = [line.split() for line in read(out).splitlines()]
    assert [words[0] for words in got] == ["condition", "pre1", "pre2", "post", "stop", "stoppost"], got
    assert got[3] == ["post", str(unit["mainPid"])] and got[4][1] == str(unit["mainPid"]), got
    assert got[5] == ["stoppost", "success", "killed", "TERM"], got


@cases.case("a failing ExecStartPre ends in failed, after ExecStopPost; with '-' it does not matter")
def _():
    keeper = Keeper()
    out = os.path.join(keeper.dir, "out")
    keeper.start("pre.service", "[Service]\nExecStartPre=/bin/sh -c 'exit 4'\nExecStart=/bin/touch %s.never\n"
                 "ExecStop=/bin/touch %s.stop\nExecStopPost=/bin/touch %s\n" % (out, out, out))
    assert keeper.wait("pre.service", "failed")["result"] == "exit-code"
    assert os.path.exists(out) and not os.path.exists(out + ".never") and not os.path.exists(out + ".stop")
    assert "pre.service: Control process exited, code=exited, status=4/NOPERMISSION" in keeper.log("pre.service")
    keeper.start("dash.service", "[Service]\nExecStartPre=-/bin/false\nExecStartPre=-/no/such\nExecStart=/bin/sleep 1000\n")
    keeper.wait("dash.service", "running")
    keeper.start("skip.service", "[Service]\nExecCondition=/bin/false\nExecStart=/bin/sleep 1000\n")
    assert keeper.wait("skip.service", "dead")["result"] == "exec-condition"
    keeper.end()


@cases.case("a start that takes longer than TimeoutStartSec= is ended")
def _():
    keeper = Keeper()
    keeper.start("slow.service", "[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/true\nTimeoutStartSec=300ms\n")
    assert keeper.wait("slow.service", "failed")["result"] == "timeout"
    assert "slow.service: start-pre operation timed out. Terminating." in keeper.log("slow.service")
    keeper.start("never.service", "[Service]\nExecStartPre=/bin/sleep 0.5\nExecStart=/bin/sleep 1000\nTimeoutStartSec=0\n")
    keeper.wait("never.service", "running")
    keeper.end()


STUBBORN = """trap '' TERM
setsid sh -c 'trap "" TERM; echo $$ > %(path)s.far; while :; do sleep 0.1; done' &
while :; do sleep 0.1; done
"""


def stubborn(keeper, mode):
    """A process that ignores SIGTERM, with a child that does so too in a session of its own."""
    name, path = "%s.service" % mode, os.path.join(keeper.dir, mode)
    with open(path, "w") as script:
        script.write(STUBBORN % {"path": path})
    keeper.start(name, "[Service]\nExecStart=/bin/sh %s\nTimeoutStopSec=400ms\nKillMode=%s\n" % (path, mode))
    far = int(wait_for(lambda: read(path + ".far"), what="the descendant"))
    return name, keeper.wait(name, "running")["mainPid"], far


@for_each_mode("KillMode=control-group kills every descendant, also one with a session of its own")
def _(keeper):
    name, main, far = stubborn(keeper, "control-group")
    assert alive(main) and alive(far)
    keeper.stop(name)
    assert keeper.wait(name, "failed")["result"] == "timeout"
    assert not alive(main) and not alive(far)
    assert "State 'stop-sigterm' timed out. Killing." in keeper.log(name)
    assert "with signal SIGKILL." in keeper.log(name)


@for_each_mode("KillMode=mixed sends SIGTERM to the main process only, and SIGKILL to all")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("mixed.service", "[Service]\nKillMode=mixed\nExecStart=/bin/sh -c '(trap \"echo term >> %s\" TERM; "
                 "while :; do sleep 0.05; done) & echo $$! > %s.pid; exec sleep 1000'\n" % (out, out))
    keeper.wait("mixed.service", "running")
    child = int(wait_for(lambda: read(out + ".pid"), what="the child"))
    keeper.stop("mixed.service")
    keeper.wait("mixed.service", "dead")
    assert not alive(child) and not os.path.exists(out)


@for_each_mode("KillMode=process leaves the descendants alone")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("process.service", "[Service]\nKillMode=process\nExecStart=/bin/sh -c 'sleep 1000 & echo $$! > %s; "
                 "exec sleep 1000'\n" % out)
    unit = keeper.wait("process.service", "running")
    child = int(wait_for(lambda: read(out), what="the child"))
    keeper.stop("process.service")
    keeper.wait("process.service", "dead")
    assert not alive(unit["mainPid"]) and alive(child)
    os.kill(child, signal.SIGKILL)


@for_each_mode("what a main process leaves behind is ended when it ends")
def _(keeper):
    out = os.path.join(keeper.dir, "out")
    keeper.start("left.service", "[Service]\nExecStart=/bin/sh -c 'sleep 1000 & echo $$! > %s; exit 0'\n" % out)
    keeper.wait("left.service", "dead")
    assert not alive(int(read(out)))


@cases.case("KillSignal= and SendSIGKILL=no are followed")
def _():
    keeper = Keeper()
    out = os.path.join(keeper.dir, "out")
    keeper.start("int.service", "[Service]\nKillSignal=SIGINT\nExecStart=/bin/sh -c 'trap \"echo int > %s; exit 0\" INT; "
                 "echo up > %s.up; while :; do sleep 0.05; done'\n" % (out, out))
    wait_for(lambda: read(out + ".up"), what="the trap")
    keeper.stop("int.service")
    keeper.wait("int.service", "dead")
    assert read(out) == "int\n"
    keeper.start("polite.service", "[Service]\nSendSIGKILL=no\nTimeoutStopSec=200ms\nKillMode=process\n"
                 "ExecStart=/bin/sh -c 'trap \"\" TERM; echo up > %s.polite; while :; do sleep 0.05; done'\n" % out)
    wait_for(lambda: read(out + ".polite"), what="the trap")
    pid = keeper.wait("polite.service", "running")["mainPid"]
    keeper.stop("polite.service")
    keeper.wait("polite.service", "failed")
    assert alive(pid)
    assert "Skipping SIGKILL." in keeper.log("polite.service")
    os.kill(pid, signal.SIGKILL)
    keeper.end()


@cases.case("environment, files, specifiers and words are expanded as documented")
def _():
    keeper = Keeper()
    out, files = os.path.join(keeper.dir, "out"), os.path.join(keeper.dir, "environment")
    with open(files, "w") as file:
        file.write("# machine\nCOREOS_PUBLIC_IPV4=10.1.2.3\nTWO=\"from file\"\n")
    keeper.start("env@7.service", "[Service]\nType=oneshot\nEnvironment=ONE=1 \"TWO=a b\" THREE=%%i\n"
                 "EnvironmentFile=-/no/such\nEnvironmentFile=%s\n"
                 "ExecStart=/usr/bin/printf '<%%%%s>' ${COREOS_PUBLIC_IPV4}:%%i $TWO ${TWO} ${NONE} $NONE $$ONE %%n %%p %%H \\\n"
                 "  \"x y\" ; /usr/bin/env\n" % files)
    keeper.wait("env@7.service", "dead")
    log = keeper.log("env@7.service", output="cat")
    want = "<10.1.2.3:7><from><file><from file><><$ONE><env@7.service><env><%s><x y>" % socket.gethostname()
    assert want in log, log
    for line in ["ONE=1", "TWO=from file", "THREE=7", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]:
        assert line in log.splitlines(), (line, log)
    assert not any(line.startswith(("FLOTILLA_BUILD", "HOME=")) for line in log.splitlines()), log
    assert "Referenced but unset environment variable evaluates to an empty string: NONE NONE" in log, log
    keeper.start("nofile.service", "[Service]\nExecStart=/bin/true\nEnvironmentFile=/no/such\n")
    assert keeper.wait("nofile.service", "failed")["result"] == "resources"
    keeper.end()


@cases.case("User=, WorkingDirectory=, UMask= and a closed world of descriptors")
def _():
    keeper = Keeper()
    os.chmod(keeper.dir, 0o777)
    script = "id -un; pwd; umask; ls /proc/self/fd | wc -l; echo $HOME"
    user = "nobody" if os.geteuid() == 0 else subprocess.check_output(["id", "-un"], text=True).strip()
    keeper.start("who.service", "[Service]\nType=oneshot\nUser=%s\nWorkingDirectory=/tmp\nUMask=0077\n"
                 "ExecStart=/bin/sh -c '%s'\n" % (user, script.replace("$", "$$")))
    keeper.wait("who.service", "dead")
    lines = [line for line in keeper.log("who.service", output="cat").splitlines() if "who.service" not in line]
    assert lines[:4] == [user, "/tmp", "0077", "4"] and lines[4].startswith("/"), lines
    keeper.start("nouser.service", "[Service]\nUser=no-such-user-here\nExecStart=/bin/true\n")
    assert keeper.wait("nouser.service", "failed")["execMainStatus"] == 217
    keeper.start("nodir.service", "[Service]\nWorkingDirectory=/no/such\nExecStart=/bin/true\n")
    assert keeper.wait("nodir.service", "failed")["execMainStatus"] == 200
    keeper.start("maybe.service", "[Service]\nWorkingDirectory=-/no/such\nExecStart=/bin/sleep 1000\n")
    keeper.wait("maybe.service", "running")
    keeper.end()


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


@for_each_mode("a sidekick starts after its main unit, and stops when that stops or dies")
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
                 "LimitNOFILE=5\nFrobnicate=yes\nRestart=sometimes\n[X-Fleet]\nConflicts=x\n[Odd]\na=b\n")
    warnings = "\n".join(keeper.wait("warn.service", "running")["warnings"])
    for text in ["warn.service:2: Unknown key name 'EnvironmentFile' in section 'Unit', ignoring.",
                 "warn.service:5: LimitNOFILE= in section 'Service' is not supported by the supervisor, ignoring.",
                 "warn.service:6: Unknown key name 'Frobnicate' in section 'Service', ignoring.",
                 "warn.service:7: Failed to parse Restart=sometimes, ignoring",
                 "warn.service:11: Unknown section 'Odd'. Ignoring."]:
        assert text in warnings, (text, warnings)
    assert "warn.service:5: LimitNOFILE=" in keeper.call("status", name="warn.service")["text"]
    for name, text in [("none.service", "[Service]\nRestart=no\n"), ("two.service", "[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n"),
                       ("fork.service", "[Service]\nType=forking\nExecStart=/bin/true\n"),
                       ("quote.service", "[Service]\nExecStart=/bin/echo \"open\n"), ("torn.service", "[Service\nA=b\n")]:
        keeper.start(name, text)
        unit = wait_for(lambda: keeper.state(name), what=name)
        assert unit["load"] == "bad-setting" and unit["active"] == "inactive", unit
        assert unit["warnings"], unit
    keeper.start("t.timer", "[Timer]\nOnCalendar=daily\n")
    assert keeper.state("t.timer")["load"] == "error"
    assert keeper.call("load", name="no/name.service", text="", hash="")["result"] < 0
    keeper.end()


@for_each_mode("the output is logged with the process that wrote it, and can be followed")
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
    while "Stopped talk.service." not in pieces and time.monotonic() < deadline:
        answer = json.loads(keeper.file.readline())
        pieces += answer.get("text", "") if answer.get("id") == 77 else ""
    assert "Stopping talk.service..." in pieces and "three" in pieces, pieces
    assert keeper.log("unknown.service") == "-- No entries --\n"
    assert keeper.call("journal", name="talk.service", output="json")["result"] < 0


@cases.case("logs are bounded in size, and lines that cannot be printed do not reach the reader")
def _():
    keeper = Keeper("--log-bytes", "65536")
    keeper.start("noise.service", "[Service]\nExecStart=/bin/sh -c 'i=0; while [ $$i -lt 20000 ]; do "
                 "echo line $$i of a noisy service; i=$$((i+1)); done; printf \"\\\\001\\\\002\\\\n\\\\033[31mred\\\\033[0m\\\\n\"'\n")
    keeper.wait("noise.service", "dead", 30)
    state = os.path.join(keeper.dir, "state", "log")
    sizes = [os.path.getsize(os.path.join(state, name)) for name in ("noise.service", "old/noise.service")]
    assert all(size <= 65536 for size in sizes) and sizes[1] > 32768, sizes
    log = keeper.log("noise.service", output="cat")
    assert "line 19999 of a noisy service\n[2B blob data]\nred\n" in log, log[-300:]
    assert "line 0 of" not in log
    keeper.end()


@cases.case("logs of units that are gone are kept for a while, but not without bound")
def _():
    keeper = Keeper()
    names = ["gone@%d.service" % number for number in range(400)]
    for name in names:
        keeper.start(name, "[Service]\nExecStart=/no/such\n")
        keeper.call("unload", name=name)
    logs = [name for name in os.listdir(os.path.join(keeper.dir, "state", "log")) if name != "old"]
    assert 256 <= len(logs) <= 256 + 64 and names[-1] in logs and names[0] not in logs, len(logs)
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


@for_each_mode("units run and are restarted while nobody is connected, and are found again")
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


@for_each_mode("a keeper that was killed kills what it left, keeps exit states and starts what was wanted")
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
