"""A throw-away machine whose PID 1 is the real systemd, for the black-box tests: with a journal, a system bus, polkit, logind
and users' own systemd, in namespaces of its own (see machine.sh). It shows this system's /usr and our build, read-only; its
disk is a directory that lasts as long as the test, so that a machine whose power went can be started again.

    machine = Machine("m1")
    machine.write("/etc/systemd/system/hello.service", "[Service]\\nExecStart=/bin/echo hello\\n")
    machine.systemctl("start", "hello.service")

What the host of the units brings along: ssh.service (runs), web.service (also called www.service) and host@.service; a user
"fleet" (1500)."""
import atexit
import os
import shutil
import signal
import subprocess
import uuid

import harness

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "machine.sh")
NEEDED = ("/lib/systemd/systemd", "/lib/systemd/systemd-logind", "/usr/bin/dbus-daemon", "/usr/lib/polkit-1/polkitd",
          "/usr/lib/systemd/user/dbus.socket", "/usr/bin/nsenter", "/usr/bin/setpriv")
NAMESPACES = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]


def unavailable():
    """Why there can be no such machine here; None if there can."""
    if os.getuid() != 0:
        return "a machine with systemd needs root"
    missing = [path for path in NEEDED if not os.path.exists(path)]
    if missing or not os.path.islink("/lib"):
        return "not installed here: %s" % (", ".join(missing) or "a merged /usr")
    probe = subprocess.run(["unshare", "--fork"] + NAMESPACES + ["true"], stderr=subprocess.PIPE, text=True)
    return None if probe.returncode == 0 else "no namespaces here: " + probe.stderr.strip()


class Machine:
    def __init__(self, name, network=None, machine_id=None, show=(), programs=None):
        """Boots. Its network is a loopback of its own, or that of a net_world.Place; the paths in `show` can be read inside;
        `programs` (name -> path) are in its /usr/bin, above those of this system."""
        self.name, self.network = name, network
        self.id = machine_id or uuid.uuid4().hex
        self.address = network.address if network else "127.0.0.1"
        self.show = [os.path.abspath(path) for path in ([harness.BUILD] if harness.BUILD else []) + list(show)]
        self.dir = harness.temp_dir()
        for program, path in (programs or {}).items():
            os.makedirs(os.path.join(self.dir, "bin"), exist_ok=True)
            os.symlink(path, os.path.join(self.dir, "bin", program))
        self.launcher = self.pid = None
        self.started = []
        self.uids = {"root": 0, "fleet": 1500}
        atexit.register(self.kill)
        self.boot()

    def boot(self):
        """Power on; back when all is started that starts at boot."""
        assert not self.launcher, "%s runs already" % self.name
        network = str(self.network.holder.pid) if self.network else "-"
        with open(os.path.join(self.dir, "log"), "ab") as log:
            # The launcher ends the machine when its standard input ends: also when this test is killed by force.
            self.launcher = harness.start(["sh", SCRIPT, "run", self.dir, self.name, self.id, network] + self.show,
                                          stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            self.pid = harness.wait_for(self._find_pid, 10, "PID 1 of " + self.name)
            harness.wait_for(self._is_up, 20, "%s to be up" % self.name)
        except Exception:
            print(self._last_words(), flush=True)
            self.kill()
            raise

    def _find_pid(self):
        if self.launcher.poll() is not None:
            raise RuntimeError("%s did not start" % self.name)
        with open(os.path.join(self.dir, "pid")) as file:
            return int(file.read())

    def _is_up(self):
        if self.launcher.poll() is not None:
            raise RuntimeError("%s ended while it booted" % self.name)
        state = self.run(["systemctl", "is-system-running", "--wait"], check=False)[1].strip()
        return state in ("running", "degraded")

    def _last_words(self):
        """The last that can be known of a machine that does not get up, each line a comment of TAP."""
        text = ""
        for name in ("log", "kmsg"):
            path = os.path.join(self.dir, name)
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    text += "%s:\n%s" % (name, "".join(file.readlines()[-30:]))
        for path in (os.path.join(self.dir, "disk/var/log/journal"), "/proc/%s/root/run/log/journal" % self.pid):
            if os.path.isdir(path):
                text += "journal:\n" + subprocess.run(["journalctl", "--no-pager", "-n", "60", "-D", path],
                                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        return "".join("# %s: %s\n" % (self.name, line) for line in text.splitlines())

    def kill(self):
        """The plug is pulled: everything inside is gone at once, the disk stays."""
        if not self.launcher:
            return
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            self.launcher.stdin.close()
        self._wait_gone()

    def freeze(self):
        """It hangs: nothing inside runs any more, and what it sent or was sent is not lost."""
        self._set_frozen(1)

    def thaw(self):
        self._set_frozen(0)

    def _set_frozen(self, frozen):
        group = self.outside("/sys/fs/cgroup")
        with open(group + "/cgroup.freeze", "w") as file:
            file.write("%d" % frozen)

        def settled():
            with open(group + "/cgroup.events") as file:
                return "frozen %d" % frozen in file.read().splitlines()
        harness.wait_for(settled, 10, "%s to %s" % (self.name, "freeze" if frozen else "thaw"))

    def processes(self, unit=None):
        """The process IDs, as they are outside, of what runs in the unit (of systemd's), or in the whole machine."""
        group, pids = self.outside("/sys/fs/cgroup"), []
        for path, directories, files in os.walk(group):
            if "cgroup.procs" in files and (unit is None or unit in os.path.relpath(path, group).split("/")):
                with open(os.path.join(path, "cgroup.procs")) as file:
                    pids += [int(line) for line in file]
        return sorted(pids)

    def shut_down(self):
        """As `systemctl poweroff`: every unit is stopped first."""
        self.run(["systemctl", "poweroff"])
        self._wait_gone()

    def _wait_gone(self):
        launcher, self.launcher, self.pid = self.launcher, None, None
        status = launcher.wait(harness.PATIENCE_S)
        launcher.stdin.close()
        while self.started:
            harness.kill(self.started.pop())
        assert status == 0, "%s left something behind: %s" % (self.name, self._last_words())

    def scrap(self):
        """No power and no disk any more; without it that comes when the test ends."""
        self.kill()
        atexit.unregister(self.kill)
        shutil.rmtree(self.dir)

    def inside(self, argv, user=None, env=None):
        """The command that runs this one (words, or a line for the shell) inside, as root or as this user."""
        assert self.pid, "%s has no power" % self.name
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        own = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
               "USER": user or "root", "HOME": "/home/" + user if user else "/root"}
        own.update((name, value) for name, value in os.environ.items() if name.endswith("SAN_OPTIONS"))
        become = []
        if user:
            become = ["setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--inh-caps=-all", "--"]
            own["XDG_RUNTIME_DIR"] = "/run/user/%d" % self._uid(user)
            own["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=%s/bus" % own["XDG_RUNTIME_DIR"]
        own.update(env or {})
        # The control group is joined from outside: a process may not come into a namespace of them by itself.
        group = "/proc/%d/root/sys/fs/cgroup/entered" % self.pid
        if not os.path.isdir(group):
            group = group.replace("entered", "systemd/entered")
        return (["sh", "-c", 'echo 0 >"$0" && exec nsenter "$@"', group + "/cgroup.procs", "-t", str(self.pid)] + NAMESPACES +
                ["--", "env", "-i"] + ["%s=%s" % pair for pair in own.items()] + become + words)

    def _uid(self, user):
        if user not in self.uids:
            self.uids[user] = int(self.run(["id", "-u", user])[1])
        return self.uids[user]

    def run(self, argv, user=None, check=True, timeout=60, env=None, text=None):
        """Runs it inside to its end, `text` being its input; (exit status, stdout, stderr)."""
        process = subprocess.Popen(self.inside(argv, user, env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   stdin=subprocess.DEVNULL if text is None else subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(text, timeout)
        except BaseException:
            # nsenter only waits for what it started: both are ended.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if check:
            assert process.returncode == 0, (self.name, argv, process.returncode, out, err)
        return process.returncode, out, err

    def start(self, argv, user=None, env=None, **options):
        """Starts what goes on running inside; the process to be given to harness.kill()."""
        self.started.append(harness.start(self.inside(argv, user, env), **options))
        return self.started[-1]

    def systemctl(self, *arguments, user=None, check=True):
        return self.run(["systemctl"] + (["--user"] if user else []) + list(arguments), user=user, check=check)

    def properties(self, unit, *names, user=None):
        """name -> value of these properties of the unit, of all if none is named."""
        out = self.systemctl("show", *("--property=" + name for name in names), "--", unit, user=user)[1]
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def journal(self, unit, user=None):
        """The lines that the unit wrote."""
        self.run(["journalctl", "--sync"])
        own = ["--user-unit=" + unit, "_SYSTEMD_USER_UNIT=" + unit] if user else ["--unit=" + unit, "_SYSTEMD_UNIT=" + unit]
        return self.run(["journalctl", "--quiet", "--output=cat"] + own, user=user)[1].splitlines()

    def session(self, user="fleet"):
        """The user gets a systemd of his own, as by logging in, until the machine ends."""
        self.systemctl("start", "user@%d.service" % self._uid(user))

    def polkit(self, text, name="50-test.rules"):
        """polkit goes by this rule from now on."""
        self.write("/etc/polkit-1/rules.d/" + name, text)
        self.systemctl("restart", "polkit.service")

    def read(self, path):
        return self.run(["cat", "--", path])[1]

    def write(self, path, text, mode=0o644, user=None):
        """Makes or replaces the file, and the directories above it."""
        self.run(["sh", "-c", 'mkdir -p "${1%/*}/" && cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"', "sh", path,
                  "%o" % mode], user=user, text=text)

    def exists(self, path):
        return self.run(["test", "-e", path], check=False)[0] == 0

    def outside(self, path):
        """The path by which a process outside finds it, as a socket. No absolute link on the way: /run, not /var/run."""
        return "/proc/%d/root%s" % (self.pid, path)
