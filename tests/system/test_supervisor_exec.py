#!/usr/bin/env python3
"""The embedded supervisor: how a unit's processes are set up, and what they may use."""
import grp
import os
import pwd
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import harness
from harness import Cases, wait_for
from keeper import Keeper, alive, for_each_mode, read, until_exists

cases = Cases()
IS_ROOT = os.geteuid() == 0


def cgroup_of(pid, version, name):
    """The path of a process in the hierarchy of a controller."""
    for line in read("/proc/%s/cgroup" % pid).splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" if version == "v2" else name in names.split(","):
            return path
    return None


def can_enable(parent, name):
    """Whether a cgroup there has a v2 controller, or could be given it: not where the parent holds processes itself."""
    probe = os.path.join(parent, "test-%d" % os.getpid())
    try:
        os.mkdir(probe)
    except OSError:
        return False
    try:
        if name not in read(probe + "/cgroup.controllers").split():
            with open(parent + "/cgroup.subtree_control", "w") as file:
                file.write("+" + name)
        return True
    except OSError:
        return False
    finally:
        os.rmdir(probe)


def controller(name):
    """Which controller a keeper can use here, "v2" or "v1", and where its hierarchy is mounted; None and None, which is told."""
    mounts = [line.split()[1:4] for line in read("/proc/self/mounts").splitlines()]
    for path, kind, _ in mounts:
        if kind == "cgroup2" and can_enable(path + cgroup_of("self", "v2", name), name):
            return "v2", path
    for path, kind, options in mounts:
        if kind == "cgroup" and name in options.split(",") and os.access(path, os.W_OK) and IS_ROOT:
            return "v1", path
    print("# not here: no controller %s" % name)
    return None, None


def not_in_force(keeper, directives, name):
    """Without the controller the unit runs all the same, and says of each limit that it is not in force."""
    keeper.start("free.service", "[Service]\n%sExecStart=/bin/sleep 1000\n" % "".join(one + "\n" for one in directives))
    warnings = "\n".join(keeper.wait("free.service", "running")["warnings"])
    for one in directives:
        text = "%s= is not in force: the cgroup controller %s cannot be used here." % (one.split("=")[0], name)
        assert "free.service: " + text in warnings, (text, warnings)


def own_cgroup(version, root, name):
    """A line of shell that sets $d to the directory of its cgroup."""
    if version == "v2":
        return "d=%s$(sed -n 's/^0:://p' /proc/self/cgroup)\n" % root
    return "d=%s$(sed -En 's/^[0-9]+:([^:]*,)?%s(,[^:]*)?://p' /proc/self/cgroup)\n" % (root, name)


def told(keeper, name, script, *options, what="its words"):
    """What a shell script prints as a service with those options, as lines."""
    out = os.path.join(keeper.dir, name)
    path = out + ".sh"
    with open(path, "w") as file:
        file.write(script)
    os.chmod(keeper.dir, 0o755)
    keeper.start(name + ".service", "[Service]\nType=oneshot\nStandardOutput=truncate:%s\nExecStart=/bin/sh %s\n%s" %
                 (out, path, "".join(option + "\n" for option in options)))
    keeper.wait(name + ".service", "dead")
    return read(out).splitlines()


@cases.case("Limit*= set soft and hard limits")
def _():
    keeper = Keeper()
    lines = told(keeper, "limits", "cat /proc/self/limits\n", "LimitNOFILE=300:400", "LimitCORE=0", "LimitAS=4G", "LimitCPU=1h",
                 "LimitNPROC=1000:2000", "LimitFSIZE=1M:2M", "LimitSTACK=infinity" if IS_ROOT else "LimitSTACK=4M",
                 "LimitSIGPENDING=50:60")
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert limits["Max open files"] == ["300", "400"], limits
    assert limits["Max core file size"] == ["0", "0"] and limits["Max address space"] == ["4294967296"] * 2, limits
    assert limits["Max cpu time"] == ["3600"] * 2 and limits["Max processes"] == ["1000", "2000"], limits
    assert limits["Max file size"] == ["1048576", "2097152"] and limits["Max pending signals"] == ["50", "60"], limits
    assert limits["Max stack size"][0] == ("unlimited" if IS_ROOT else "4194304"), limits
    # Without a word of the unit's, select() works.
    lines = told(keeper, "default", "ulimit -Sn\n")
    assert lines == [str(min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))], lines
    keeper.end()


@cases.case("Nice=, OOMScoreAdjust=, CPU and I/O scheduling are set")
def _():
    keeper = Keeper()
    script = "cat /proc/self/oom_score_adj; nice; grep Cpus_allowed_list /proc/self/status; chrt -p $$; ionice -p $$\n"
    lines = told(keeper, "sched", script, "Nice=7", "OOMScoreAdjust=300", "CPUAffinity=0", "CPUSchedulingPolicy=batch",
                 "IOSchedulingClass=idle")
    assert lines[:2] == ["300", "7"] and lines[2].split()[-1] == "0", lines
    assert "SCHED_BATCH" in lines[3] and lines[-1].startswith("idle"), lines
    if IS_ROOT:
        lines = told(keeper, "low", script, "Nice=-5", "OOMScoreAdjust=-100", "IOSchedulingPriority=2")
        # Without CAP_SYS_RESOURCE it cannot be lowered, and stays.
        may = int(dict(line.split(":\t") for line in read("/proc/self/status").splitlines())["CapEff"], 16) >> 24 & 1
        assert lines[:2] == ["-100" if may else "0", "-5"] and lines[-1] == "best-effort: prio 2", lines
        keeper.start("bad.service", "[Service]\nLimitNICE=0\nUser=nobody\nCPUAffinity=900\nExecStart=/bin/true\n")
        assert keeper.wait("bad.service", "failed")["execMainStatus"] == 215
        assert "Failed at step CPUAFFINITY spawning /bin/true" in keeper.log("bad.service")
    keeper.end()


@cases.case("User=, Group= and SupplementaryGroups= decide who a process is")
def _():
    keeper = Keeper()
    if IS_ROOT:
        daemon, games = grp.getgrnam("daemon").gr_gid, grp.getgrnam("games").gr_gid
        lines = told(keeper, "who", "id -u; id -g; id -G; echo $USER $HOME\n", "User=nobody", "Group=daemon",
                     "SupplementaryGroups=games")
        nobody = pwd.getpwnam("nobody")
        assert lines[0] == str(nobody.pw_uid) and lines[1] == str(daemon), lines
        assert set(lines[2].split()) >= {str(daemon), str(games)} and "0" not in lines[2].split(), lines
        assert lines[3] == "nobody " + nobody.pw_dir, lines
        lines = told(keeper, "group", "id -u; id -g\n", "Group=%d" % daemon)
        assert lines == ["0", str(daemon)], lines
        lines = told(keeper, "number", "id -u; id -g\n", "User=%d" % nobody.pw_uid)
        assert lines == [str(nobody.pw_uid), str(nobody.pw_gid)], lines
        for number, user in enumerate(("-1", "4294967295", "4294967296", "54321", "0x0", "18446744073709551616")):
            name = "odd%d.service" % number
            keeper.start(name, "[Service]\nUser=%s\nExecStart=/bin/true\n" % user)
            assert keeper.wait(name, "failed")["execMainStatus"] == 217, user
        keeper.start("plus.service", "[Service]\nType=oneshot\nUser=nobody\nExecStart=+/bin/sh -c 'id -u'\n")
        keeper.wait("plus.service", "dead")
        assert "]: 0\n" in keeper.log("plus.service")
    keeper.start("no.service", "[Service]\nGroup=nosuchgroup\nExecStart=/bin/true\n")
    assert keeper.wait("no.service", "failed")["execMainStatus"] == 216
    keeper.start("more.service", "[Service]\nSupplementaryGroups=nosuchgroup\nExecStart=/bin/true\n")
    assert keeper.wait("more.service", "failed")["execMainStatus"] == 216
    keeper.end()


@cases.case("NoNewPrivileges=, CapabilityBoundingSet= and AmbientCapabilities= are set")
def _():
    keeper = Keeper()
    status = "grep -E '^(CapBnd|CapEff|CapAmb|NoNewPrivs)' /proc/self/status\n"
    values = dict(line.split(":\t") for line in told(keeper, "nnp", status, "NoNewPrivileges=yes"))
    assert values["NoNewPrivs"] == "1", values
    if IS_ROOT:
        values = dict(line.split(":\t") for line in told(keeper, "bound", status, "CapabilityBoundingSet=CAP_CHOWN CAP_NET_RAW"))
        assert int(values["CapBnd"], 16) == int(values["CapEff"], 16) == (1 | 1 << 13), values
        values = dict(line.split(":\t") for line in told(keeper, "drop", status, "CapabilityBoundingSet=~CAP_SYS_ADMIN"))
        assert not int(values["CapBnd"], 16) >> 21 & 1 and int(values["CapBnd"], 16) & 1, values
        values = dict(line.split(":\t") for line in told(keeper, "ambient", status, "User=nobody",
                                                         "AmbientCapabilities=CAP_NET_BIND_SERVICE"))
        assert int(values["CapEff"], 16) == int(values["CapAmb"], 16) == 1 << 10, values
        values = dict(line.split(":\t") for line in told(keeper, "none", status, "User=nobody"))
        assert int(values["CapEff"], 16) == 0, values
    keeper.end()


@cases.case("CapabilityBoundingSet= also takes from what the keeper hands on to every program")
def _():
    if not IS_ROOT:
        print("# needs root")
        return
    keeper = Keeper(around=["setpriv", "--inh-caps=+chown,+net_raw,+sys_admin"])
    status = "grep CapInh /proc/self/status\n"
    assert int(told(keeper, "all", status)[0].split()[1], 16) == 1 | 1 << 13 | 1 << 21
    assert int(told(keeper, "bound", status, "CapabilityBoundingSet=CAP_CHOWN CAP_KILL")[0].split()[1], 16) == 1
    assert int(told(keeper, "user", status, "CapabilityBoundingSet=CAP_CHOWN", "User=nobody")[0].split()[1], 16) == 1
    keeper.end()


@cases.case("standard streams come from and go to files")
def _():
    keeper = Keeper()
    path = os.path.join(keeper.dir, "f")
    for name, text in (("in", "input\n"), ("append", "before\n"), ("truncate", "before\n"), ("file", "before\n")):
        with open("%s.%s" % (path, name), "w") as file:
            file.write(text)
    keeper.start("cat.service", "[Service]\nType=oneshot\nStandardInput=file:%s.in\nExecStart=/bin/cat\n" % path)
    keeper.wait("cat.service", "dead")
    assert "cat[" in keeper.log("cat.service") and "]: input\n" in keeper.log("cat.service")
    for kind, want in (("append", "before\nout\nerr\n"), ("truncate", "out\nerr\n"), ("file", "out\nerr\n")):
        keeper.start("%s.service" % kind, "[Service]\nType=oneshot\nStandardOutput=%s:%s.%s\nExecStart=/bin/sh -c 'echo out; echo err >&2'\n"
                     % (kind, path, kind))
        keeper.wait("%s.service" % kind, "dead")
        assert read("%s.%s" % (path, kind)) == want, (kind, read("%s.%s" % (path, kind)))
    # Errors go where the output goes, unless they are told otherwise.
    keeper.start("null.service", "[Service]\nType=oneshot\nStandardOutput=null\nExecStart=/bin/sh -c 'echo out; echo err >&2'\n")
    keeper.start("error.service", "[Service]\nType=oneshot\nStandardOutput=null\nStandardError=journal\n"
                 "ExecStart=/bin/sh -c 'echo out; echo err >&2'\n")
    keeper.wait("null.service", "dead")
    keeper.wait("error.service", "dead")
    assert "]: err" not in keeper.log("null.service") and "]: out" not in keeper.log("null.service")
    assert "]: err\n" in keeper.log("error.service") and "]: out" not in keeper.log("error.service")
    keeper.start("lost.service", "[Service]\nStandardInput=file:/no/such\nExecStart=/bin/cat\n")
    assert keeper.wait("lost.service", "failed")["execMainStatus"] == 208
    keeper.end()


@cases.case("RuntimeDirectory= and its siblings are made for the user, and the first goes with the unit")
def _():
    if not IS_ROOT:
        print("# needs root")
        return
    keeper = Keeper()
    name = "flotilla-test-%d" % os.getpid()
    paths = ["%s/%s" % (root, name) for root in ("/run", "/var/lib", "/var/cache", "/var/log", "/etc")]
    try:
        os.makedirs(paths[1] + "/old")
        options = "".join("%sDirectory=%s/sub\n" % (kind, name) for kind in ("State", "Cache", "Logs", "Configuration"))
        keeper.start("dirs.service", "[Service]\nUser=nobody\nRuntimeDirectory=%s %s/sub\nRuntimeDirectoryMode=0750\n%s"
                     "ExecStart=/bin/sh -c 'echo $$RUNTIME_DIRECTORY $$STATE_DIRECTORY; touch $$STATE_DIRECTORY/mine; sleep 1000'\n"
                     % (name, name, options))
        wait_for(lambda: os.path.exists(paths[1] + "/sub/mine"), what="the file")
        assert "]: %s:%s/sub %s/sub\n" % (paths[0], paths[0], paths[1]) in keeper.log("dirs.service"), keeper.log("dirs.service")
        nobody = pwd.getpwnam("nobody").pw_uid
        assert stat.S_IMODE(os.stat(paths[0]).st_mode) == 0o750 and os.stat(paths[0]).st_uid == nobody
        for path in paths[1:4]:
            assert stat.S_IMODE(os.stat(path + "/sub").st_mode) == 0o755 and os.stat(path + "/sub").st_uid == nobody
        assert os.stat(paths[4] + "/sub").st_uid == 0
        keeper.stop("dirs.service")
        keeper.wait("dirs.service", "dead")
        assert not os.path.exists(paths[0]) and os.path.exists(paths[1] + "/sub/mine")
        # What was another user's is handed over.
        keeper.start("whole.service", "[Service]\nType=oneshot\nUser=nobody\nStateDirectory=%s\nRuntimeDirectory=%s\n"
                     "RuntimeDirectoryPreserve=yes\nExecStart=/bin/rmdir %s/old\n" % (name, name, paths[1]))
        assert keeper.wait("whole.service", "dead")["result"] == "success"
        assert os.path.exists(paths[0])
        keeper.start("again.service", "[Service]\nRuntimeDirectory=%s.r\nRuntimeDirectoryPreserve=restart\n"
                     "ExecStart=/bin/sh -c 'echo run >> /run/%s.r/runs; sleep 1000'\n" % (name, name))
        runs = "/run/%s.r/runs" % name
        wait_for(lambda: read(runs) == "run\n", what="the first run")
        keeper.call("restart", name="again.service")
        wait_for(lambda: read(runs) == "run\nrun\n", what="the second run")
        keeper.stop("again.service")
        keeper.wait("again.service", "dead")
        assert not os.path.exists(runs)
        with open(paths[3] + ".file", "w"):
            pass
        keeper.start("bad.service", "[Service]\nLogsDirectory=%s.file\nExecStart=/bin/true\n" % name)
        assert keeper.wait("bad.service", "failed")["execMainStatus"] == 240
    finally:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(paths[3] + ".file"):
            os.unlink(paths[3] + ".file")
    keeper.end()


@cases.case("StateDirectory= and its like are not looked for behind a link")
def _():
    if not IS_ROOT:
        print("# needs root")
        return
    keeper = Keeper()
    name, away = "flotilla-test-link-%d" % os.getpid(), os.path.join(keeper.dir, "away")
    os.makedirs(away + "/sub", 0o711)
    os.chmod(away, 0o711)
    links = ["%s/%s" % (root, name) for root in ("/run", "/var/lib", "/var/cache", "/var/log", "/etc")]
    try:
        for link in links:
            os.symlink(away, link)
        for kind, status in (("Runtime", 233), ("State", 238), ("Cache", 239), ("Logs", 240)):
            for unit, directory in (("part", name + "/sub"), ("new", name + "/new"), ("whole", name)):
                unit = "%s-%s.service" % (unit, kind)
                keeper.start(unit, "[Service]\nUser=nobody\n%sDirectory=%s\n%sDirectoryMode=0777\nExecStart=/bin/true\n"
                             % (kind, directory, kind))
                assert keeper.wait(unit, "failed")["execMainStatus"] == status
                assert "/%s is a symbolic link, or below one, which is not followed" % directory in keeper.log(unit)
        keeper.start("etc.service", "[Service]\nType=oneshot\nUser=nobody\nConfigurationDirectory=%s\n"
                     "ConfigurationDirectoryMode=0777\nExecStart=/bin/true\n" % name)
        assert keeper.wait("etc.service", "dead")["result"] == "success", "what is in /etc is the administrator's"
        for path in (away, away + "/sub"):
            assert os.stat(path).st_uid == 0 and stat.S_IMODE(os.stat(path).st_mode) != 0o777
        assert sorted(os.listdir(away)) == ["sub"]
    finally:
        for link in links:
            if os.path.islink(link):
                os.unlink(link)
    keeper.end()


@cases.case("PassEnvironment=, WorkingDirectory=~ and a missing optional directory")
def _():
    os.environ["FLOTILLA_TEST_PASSED"], os.environ["FLOTILLA_TEST_KEPT"] = "handed on", "kept back"
    keeper = Keeper()
    lines = told(keeper, "env", "echo $FLOTILLA_TEST_PASSED/$FLOTILLA_TEST_KEPT; pwd\n", "PassEnvironment=FLOTILLA_TEST_PASSED NONE",
                 "WorkingDirectory=-/no/such")
    assert lines == ["handed on/", "/"], lines
    if IS_ROOT:
        os.makedirs(pwd.getpwnam("man").pw_dir, exist_ok=True)
        assert told(keeper, "home", "pwd\n", "User=man", "WorkingDirectory=~") == [pwd.getpwnam("man").pw_dir]
    keeper.end()


@cases.case("TasksMax= bounds the number of processes, where the pids controller can be used")
def _():
    keeper = Keeper()
    version, root = controller("pids")
    if version:
        lines = told(keeper, "tasks", "for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done 2>/dev/null; wait\n"
                     + own_cgroup(version, root, "pids") + "cat $d/pids.max\n", "TasksMax=20")
        assert lines == ["20"], lines
        keeper.start("few.service", "[Service]\nType=oneshot\nTasksMax=3\nExecStart=/bin/sh -c 'for i in 1 2 3 4 5; do sleep 0.5 & done; wait'\n")
        assert keeper.wait("few.service", "failed")["result"] == "exit-code"
        assert "fork" in keeper.log("few.service")
        assert not keeper.state("few.service")["warnings"]
    else:
        not_in_force(keeper, ["TasksMax=3"], "pids")
    keeper.end()


@cases.case("MemoryMax= kills what takes more, with the result oom-kill, and OOMPolicy= says what follows")
def _():
    keeper = Keeper()
    eater = "%s -c 'x = bytearray(200 << 20)'" % sys.executable
    version, _ = controller("memory")
    if not version:
        not_in_force(keeper, ["MemoryMax=40M"], "memory")
    else:
        no_swap = "MemorySwapMax=0\n" if version == "v2" else ""
        keeper.start("eat.service", "[Service]\nMemoryMax=40M\n%sExecStart=%s\n" % (no_swap, eater))
        assert keeper.wait("eat.service", "failed")["result"] == "oom-kill"
        assert "A process of this unit has been killed by the OOM killer." in keeper.log("eat.service")
        # A child of the main process: nobody tells the keeper of its end.
        path = os.path.join(keeper.dir, "eater")
        with open(path, "w") as file:
            file.write("%s\nsleep 1000\n" % eater)
        keeper.start("child.service", "[Service]\nMemoryLimit=40M\n%sExecStart=/bin/sh %s\n" % (no_swap, path))
        assert keeper.wait("child.service", "failed")["result"] == "oom-kill"
        keeper.start("goon.service", "[Service]\nMemoryMax=40M\n%sOOMPolicy=continue\nExecStart=/bin/sh %s\n" % (no_swap, path))
        wait_for(lambda: "killed by the OOM killer" in keeper.log("goon.service"), what="the kill")
        assert keeper.state("goon.service")["sub"] == "running"
        keeper.start("enough.service", "[Service]\nType=oneshot\nMemoryMax=90%%\nExecStart=%s\n" % eater)
        assert keeper.wait("enough.service", "dead")["result"] == "success"
    keeper.end()


@cases.case("CPUQuota= and CPUWeight= are in force, where the cpu controller can be used")
def _():
    keeper = Keeper()
    version, root = controller("cpu")
    if not version:
        not_in_force(keeper, ["CPUQuota=20%", "CPUWeight=200"], "cpu")
    else:
        files = ("cpu.weight", "cpu.max") if version == "v2" else ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us")
        show = own_cgroup(version, root, "cpu") + "cd $d && cat %s\n" % " ".join(files)
        lines = told(keeper, "weight", show, "CPUWeight=200", "CPUQuota=20%", "CPUQuotaPeriodSec=50ms")
        assert lines == (["200", "10000 50000"] if version == "v2" else ["2048", "10000", "50000"]), lines
        lines = told(keeper, "shares", show, "CPUShares=512")
        assert lines[0] == ("50" if version == "v2" else "512"), lines
        spin = "%s -c 'import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())'\n" % sys.executable
        used = float(told(keeper, "spin", spin, "CPUQuota=20%")[0])
        assert used < 0.5, used
    keeper.end()


@for_each_mode(cases, "a limit that cannot be had is named in the unit's status, and its cgroups go with it")
def _(keeper):
    none = "--no-cgroups" in keeper.process.args
    (memory, _), (pids, root) = [(None, None) if none else controller(name) for name in ("memory", "pids")]
    keeper.start("high.service", "[Service]\nMemoryHigh=100M\nTasksMax=100\nExecStart=/bin/sleep 1000\n")
    unit = keeper.wait("high.service", "running")
    warnings = "\n".join(unit["warnings"])
    text = "MemoryHigh= is not in force: the cgroup controller memory %s." % (
        "here has no such limit" if memory else "cannot be used here")
    assert ("high.service: " + text in warnings) == (memory != "v2"), unit
    assert (text in keeper.call("status", name="high.service")["text"]) == (memory != "v2")
    if not pids:
        assert "TasksMax= is not in force: the cgroup controller pids cannot be used here." in warnings, warnings
        return
    assert "TasksMax=" not in warnings
    cgroup = cgroup_of(unit["mainPid"], pids, "pids")
    assert cgroup.endswith("/high.service") and os.path.exists(root + cgroup), cgroup
    keeper.stop("high.service")
    keeper.wait("high.service", "dead")
    assert not os.path.exists(root + cgroup)


@cases.case("what a killed keeper left in the controllers' cgroups is gone with the next one")
def _():
    keeper = Keeper()
    version, root = controller("pids")
    keeper.start("left.service", "[Service]\nTasksMax=50\nExecStart=/bin/sleep 1000\n")
    unit = keeper.wait("left.service", "running")
    cgroup = cgroup_of(unit["mainPid"], version, "pids")
    keeper.stop("left.service")
    keeper.process.kill()
    keeper.process.wait()
    again = Keeper(directory=keeper.dir)
    if version:
        assert cgroup.endswith("/left.service"), cgroup
        wait_for(lambda: not alive(unit["mainPid"]), what="the end of what was left")
        assert again.state("left.service")["sub"] == "dead"
    again.end()
    if version:
        assert not os.path.exists(os.path.dirname(root + cgroup))


if __name__ == "__main__":
    cases.run()
