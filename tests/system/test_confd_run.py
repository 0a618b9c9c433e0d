"""How confd runs: exit statuses, log lines, flags and the file, commands, modes, and what it does when things fail. The env
backend where any backend will do, Debian's etcd (or ours with CONFD_TEST_STORE=ours) where keys have to change."""
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import harness

CONFD = harness.program("confd")
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ \S+confd\[\d+\]: (DEBUG|INFO|WARNING|ERROR|FATAL) .*$")
cases = harness.Cases()


class World:
    """A configuration directory, where results go, and the confd that goes on running there, if a case starts one."""

    def __init__(self):
        self.directory = harness.temp_dir()
        self.out = os.path.join(self.directory, "out")
        self.log = os.path.join(self.directory, "log")
        self.process = None
        for name in ("conf.d", "templates", "out"):
            os.mkdir(os.path.join(self.directory, name))

    def path(self, name):
        return os.path.join(self.directory, name)

    def dest(self, name):
        return os.path.join(self.out, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def text(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def resource(self, name, template, keys=("/t",), **more):
        """A resource that writes out/NAME."""
        self.write("templates/" + name, template)
        lines = ["[template]", "src = %s" % json.dumps(name), "dest = %s" % json.dumps(self.dest(name)),
                 "keys = %s" % json.dumps(list(keys))]
        lines += ["%s = %s" % (key, json.dumps(value)) for key, value in more.items()]
        self.write("conf.d/%s.toml" % name, "\n".join(lines) + "\n")

    def gated_reload(self):
        """A reload command that fails until the case writes "gate", and makes "reloaded" from then on."""
        return "test -e %s && touch %s" % (self.path("gate"), self.path("reloaded"))

    def read(self, name):
        """What out/NAME holds."""
        return self.text(os.path.join("out", name))

    def argv(self, *flags):
        return [CONFD, "-confdir", self.directory, "-config-file", self.path("confd.toml")] + list(flags)

    def run(self, *flags, **environment):
        done = subprocess.run(self.argv(*flags), env=dict(os.environ, **environment), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60)
        return done.returncode, done.stderr

    def start(self, *flags):
        with open(self.log, "ab") as log:
            self.process = harness.start(self.argv(*flags), stderr=log, stdout=log)

    def watch(self, store):
        self.start("-node", store.url, "-watch")

    def stop(self):
        """Answers the exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def lines(self):
        return self.text("log")

    def await_file(self, name, text, what, **patience):
        harness.wait_for(lambda: self.read(name) == text, what=what, **patience)

    def await_line(self, text, what):
        harness.wait_for(lambda: text in self.lines(), what=what)

    def await_reload(self, what, **patience):
        harness.wait_for(lambda: os.path.exists(self.path("reloaded")), what=what, **patience)


def once(world, *flags, **environment):
    return world.run("-onetime", "-backend", "env", *flags, **environment)


class Store:
    def __init__(self):
        self.port = harness.free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.directory = harness.temp_dir()
        self.peer = "http://127.0.0.1:%d" % harness.free_port()
        self.process = None

    def start(self):
        ours = os.environ.get("CONFD_TEST_STORE") == "ours"
        argv = [harness.program("etcd") if ours else "/usr/bin/etcd", "--name", "one", "--data-dir",
                os.path.join(self.directory, "data"), "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster",
                "one=" + self.peer]
        if not ours:
            argv += ["--enable-v2", "--logger=zap", "--log-level=error"]
        self.process = harness.start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_for(lambda: self.request("GET", "/v2/keys/"), what="the store to answer")
        return self

    def stop(self):
        harness.kill(self.process)

    def request(self, method, path, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data, method=method), timeout=60) as answer:
            return answer.read() or b" "

    def put(self, key, value):
        self.request("PUT", "/v2/keys" + key, {"value": value})


def store_with(key, value):
    store = Store().start()
    store.put(key, value)
    return store


# ---- onetime ----


@cases.case("a onetime run says what it does in the original's words, on standard error")
def onetime_log():
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}\n", mode="0640")
    status, log = once(world, T_A="hello")
    assert status == 0, log
    assert world.read("a") == "hello\n"
    assert os.stat(world.dest("a")).st_mode & 0o7777 == 0o640
    for line in log.splitlines():
        assert LINE.match(line), line
    texts = [line.split(": ", 1)[1] for line in log.splitlines()]
    dest = world.dest("a")
    assert texts == ["INFO Backend set to env", "INFO Starting confd", "INFO Backend source(s) set to ",
                     "INFO Target config %s out of sync" % dest, "INFO Target config %s has been updated" % dest], texts


@cases.case("what is in sync is left alone")
def in_sync():
    world = World()
    world.resource("a", "x", reload_cmd="echo reloaded >> %s" % world.path("reloads"))
    assert once(world)[0] == 0
    before = os.stat(world.dest("a"))
    status, log = once(world, "-log-level", "debug")
    assert status == 0 and "DEBUG Target config %s in sync" % world.dest("a") in log, log
    after = os.stat(world.dest("a"))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert world.text("reloads") == "reloaded\n"
    assert os.listdir(world.out) == ["a"]


@cases.case("one bad resource does not keep the others from being written, and the exit status is 1")
def one_bad():
    world = World()
    world.resource("a", "{{getv \"/nope\"}}")
    world.resource("b", "good")
    world.write("conf.d/c.toml", "[template]\nsrc = 1\n")
    world.resource("d", "{{if}}")
    world.resource("e", "also good")
    status, log = once(world)
    assert status == 1, log
    assert world.read("b") == "good" and world.read("e") == "also good"
    assert not os.path.exists(world.dest("a"))
    assert "ERROR template: a:1:2: executing \"a\" at <getv \"/nope\">: error calling getv: key does not exist: /nope" in log
    assert "ERROR Cannot process template resource %s - toml: line 2 (last key \"template.src\"): expected a string" % (
        world.path("conf.d/c.toml")) in log, log
    assert "ERROR Unable to process template %s, template: d:1: missing value for if" % world.path("templates/d") in log
    assert log.splitlines()[-1].split(": ", 1)[1].startswith("FATAL Unable to process template"), log


@cases.case("a missing template, a missing conf.d and a missing confdir are errors that name them")
def missing():
    world = World()
    world.resource("a", "x")
    os.unlink(world.path("templates/a"))
    status, log = once(world)
    assert status == 1 and "Missing template: %s" % world.path("templates/a") in log, log
    os.unlink(world.path("conf.d/a.toml"))
    status, log = once(world)
    assert status == 0 and "WARNING Found no templates" in log, log
    os.rmdir(world.path("conf.d"))
    status, log = once(world)
    assert status == 1 and "FATAL stat %s" % world.path("conf.d") in log, log
    status, log = World().run("-onetime", "-backend", "env", "-confdir", "/no/such/dir")
    assert status == 1 and "confdir '/no/such/dir' does not exist" in log, log


@cases.case("unknown keys in a resource are warned about with the nearest known one")
def unknown_keys():
    world = World()
    world.resource("a", "x", reloadcmd="true")
    status, log = once(world)
    assert status == 0, log
    assert "WARNING %s:5: unknown key \"reloadcmd\" (did you mean reload_cmd?)" % world.path("conf.d/a.toml") in log, log
    world.write("conf.d/a.toml", "[tempalte]\nsrc = \"a\"\n")
    status, log = once(world)
    assert status == 1 and "empty src template" in log, log
    assert "WARNING %s:1: unknown key \"tempalte\" (did you mean template?)" % world.path("conf.d/a.toml") in log, log


@cases.case("-noop changes nothing and says so")
def noop():
    world = World()
    world.resource("a", "x", reload_cmd="touch %s" % world.path("reloaded"))
    status, log = once(world, "-noop")
    dest = world.dest("a")
    assert status == 0 and "WARNING Noop mode enabled. %s will not be modified" % dest in log, log
    assert os.listdir(world.out) == [] and not os.path.exists(world.path("reloaded"))


# ---- commands ----


@cases.case("check_cmd sees the staged file, and a failing one keeps the old file")
def check():
    world = World()
    world.resource("a", "{{getv \"/t\"}}", check_cmd="grep -q good {{.src}}", reload_cmd="echo x >> " + world.path("reloads"))
    assert once(world, T="good 1")[0] == 0
    status, log = once(world, T="bad")
    assert status == 1 and "ERROR Config check failed: exit status 1" in log, log
    assert world.read("a") == "good 1" and os.listdir(world.out) == ["a"]
    assert world.text("reloads") == "x\n"


@cases.case("a check that does not name the staged file sees the new one in place, and takes it back when it fails")
def check_in_place():
    world = World()
    dest = world.dest("a")
    world.resource("a", "{{getv \"/t\"}}", check_cmd="grep -q good %s" % dest)
    status, log = once(world, T="bad")
    assert status == 1 and os.listdir(world.out) == [], log
    assert once(world, T="good 1")[0] == 0
    status, log = once(world, T="bad")
    assert status == 1 and "ERROR Config check failed: exit status 1" in log, log
    assert world.read("a") == "good 1" and os.listdir(world.out) == ["a"]
    assert once(world, T="good 2")[0] == 0 and world.read("a") == "good 2"


@cases.case("the output of a failing command is logged")
def command_output():
    world = World()
    world.resource("a", "x", reload_cmd="echo out; echo 'err \"q\"' >&2; exit 3")
    status, log = once(world)
    assert status == 1, log
    assert "ERROR \"out\\nerr \\\"q\\\"\\n\"" in log, log
    assert "ERROR Config reload failed: exit status 3" in log, log
    assert world.read("a") == "x"


@cases.case("-sync-only runs no commands")
def sync_only():
    world = World()
    world.resource("a", "x", check_cmd="false", reload_cmd="touch %s" % world.path("reloaded"))
    status, log = once(world, "-sync-only")
    assert status == 0 and world.read("a") == "x" and not os.path.exists(world.path("reloaded")), log


@cases.case("a reload command that leaves a child holding its output does not hold confd up")
def pipe_kept_open():
    world = World()
    world.resource("a", "x", reload_cmd="sleep 30 & echo started")
    begun = time.monotonic()
    status, log = once(world)
    assert status == 0 and time.monotonic() - begun < 10, log


@cases.case("reload_cmd is no template: braces reach the shell")
def reload_braces():
    world = World()
    world.resource("a", "x", reload_cmd="printf '%%s' '{{.Names}}' > %s" % world.path("names"))
    assert once(world)[0] == 0
    assert world.text("names") == "{{.Names}}"


@cases.case("-keep-stage-file keeps what was staged when nothing was renamed")
def keep_stage():
    world = World()
    world.resource("a", "x")
    status, log = once(world, "-keep-stage-file", "-noop")
    assert status == 0 and "INFO Keeping staged file: " in log, log
    names = os.listdir(world.out)
    assert len(names) == 1 and names[0].startswith(".a"), names


@cases.case("a bind-mounted file is rewritten in place, with its mode, and then is in sync")
def bind_mount():
    world = World()
    world.resource("a", "new contents", mode="0600")
    world.write("out/a", "old")
    world.write("mounted", "old")
    script = "mount --bind %s %s && %s" % (
        world.path("mounted"), world.dest("a"),
        " ".join(world.argv("-onetime", "-backend", "env", "-log-level", "debug")))
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    for expected in ("has been updated", "in sync"):
        done = subprocess.run(namespace + ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60)
        assert done.returncode == 0 and expected in done.stderr, done.stderr
    assert world.text("mounted") == "new contents"
    assert os.stat(world.path("mounted")).st_mode & 0o7777 == 0o600


# ---- flags and the file ----


@cases.case("flags are those of Go: errors and help on standard error with statuses 2 and 0")
def flags():
    world = World()
    status, log = world.run("-no-such-flag")
    assert status == 2 and "flag provided but not defined: -no-such-flag" in log, log
    status, log = world.run("-interval", "x")
    assert status == 2 and "invalid value \"x\" for flag -interval: parse error" in log, log
    status, log = world.run("-h")
    assert status == 0 and "-onetime" in log, log
    done = subprocess.run([CONFD, "--version"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("confd "), done


@cases.case("flags of 2014's unit files are accepted")
def old_flags():
    world = World()
    world.resource("a", "x")
    status, log = once(world, "-debug", "-verbose")
    assert status == 0 and " DEBUG " in log, log
    os.unlink(world.dest("a"))
    status, log = once(world, "-quiet", "-etcd-scheme", "http")
    assert status == 0 and log == "", log


@cases.case("the configuration file is read, and flags win over it")
def precedence():
    world = World()
    world.resource("a", "{{getv \"/k\"}}", keys=["/k"])
    world.write("confd.toml", "backend = \"env\"\nprefix = \"/file\"\nonetime = true\nlog-level = \"error\"\n")
    status, log = world.run(FILE_K="from the file", FLAG_K="from the flag")
    assert status == 0 and log.splitlines() == [], log
    assert world.read("a") == "from the file"
    status, log = world.run("-prefix", "/flag", FILE_K="from the file", FLAG_K="from the flag")
    assert status == 0 and world.read("a") == "from the flag", log


@cases.case("the [confd] table of the first versions is read too")
def legacy_file():
    world = World()
    world.resource("a", "x")
    world.write("confd.toml", "[confd]\nbackend = \"env\"\netcd_nodes = [\"127.0.0.1:1\"]\n")
    status, log = world.run("-onetime")
    assert status == 0 and "Backend source(s) set to 127.0.0.1:1" in log, log
    # Whatever stands in a node, no password gets into the log.
    status, log = world.run("-onetime", "-backend", "etcd", "-node", "http://me:secret@127.0.0.1:1")
    assert status == 1 and "http://***@127.0.0.1:1" in log and "secret" not in log, log


@cases.case("mistakes in the configuration file are fatal and name its line")
def bad_file():
    world = World()
    for text, message in (("nodes = \"x\"\n", "line 1 (last key \"nodes\"): expected an array but found a string"),
                          ("a = 1\nb =\n", "line 2 (last key \"b\"): expected a value but found the end of the line")):
        world.write("confd.toml", text)
        status, log = once(world)
        assert status == 1 and "FATAL %s - toml: %s" % (world.path("confd.toml"), message) in log, log


@cases.case("a template resource given as -config-file is harmless")
def resource_as_config():
    world = World()
    world.resource("a", "x")
    status, log = once(world, "-config-file", world.path("conf.d/a.toml"))
    assert status == 0 and world.read("a") == "x", log


@cases.case("backends that are not there are refused by name, unknown ones and levels too")
def refused():
    world = World()
    for backend in ("consul", "redis", "zookeeper", "etcdv3", "file", "vault", "dynamodb", "ssm", "rancher"):
        status, log = world.run("-onetime", "-backend", backend)
        assert status == 1 and "FATAL Backend %s is not supported" % backend in log, log
    status, log = world.run("-onetime", "-backend", "nonsense")
    assert status == 1 and "FATAL Invalid backend" in log, log
    status, log = world.run("-onetime", "-log-level", "loud")
    assert status == 1 and "FATAL not a valid level: \"loud\"" in log, log
    status, log = world.run("-onetime", "-client-cert", "/x")
    assert status == 1 and "TLS needs both a certificate and its key" in log, log
    status, log = world.run("-onetime", "-client-ca-keys", "/x")
    assert status == 1 and "certificate authority /x: No such file or directory" in log, log


@cases.case("nodes may be host:port, URLs, several, or come from ETCDCTL_PEERS; a dead one is passed over")
def nodes():
    store = store_with("/t", "v")
    world = World()
    world.resource("a", "{{getv \"/t\"}}")
    address = "127.0.0.1:%d" % store.port
    for flags_given, environment in ((["-node", address], {}), (["-node", "http://" + address], {}),
                                     (["-node", "127.0.0.1:1", "-node", address], {}), ([], {"ETCDCTL_PEERS": address})):
        if os.path.exists(world.dest("a")):
            os.unlink(world.dest("a"))
        status, log = world.run("-onetime", *flags_given, **environment)
        assert status == 0 and world.read("a") == "v", log
    status, log = world.run("-onetime", "-node", "127.0.0.1:1")
    assert status == 1 and "connection refused" in log, log


# ---- interval ----


@cases.case("in interval mode files are read again for each pass, and a failed reload is tried again")
def interval():
    world = World()
    world.resource("a", "x", reload_cmd=world.gated_reload())
    world.start("-backend", "env", "-interval", "1")
    world.await_line("Config reload failed", "the reload to fail")
    world.resource("b", "later")
    world.await_file("b", "later", "the new resource")
    world.await_line("is in sync, but its last reload failed: once more", "another reload")
    world.write("gate", "")
    world.await_reload("the reload that works")
    time.sleep(2.5)
    assert world.lines().rstrip().splitlines()[-1].count("Config reload failed") == 0, world.lines()
    world.process.send_signal(signal.SIGINT)
    assert world.process.wait(60) == 0
    assert world.lines().rstrip().endswith("INFO Captured interrupt. Exiting..."), world.lines()


# ---- watch ----


@cases.case("with the env backend -watch renders once and stays")
def env_watch():
    world = World()
    world.resource("a", "x")
    world.start("-backend", "env", "-watch")
    world.await_file("a", "x", "the file")
    time.sleep(0.3)
    assert world.process.poll() is None
    assert world.stop() == 0


@cases.case("no change is lost: a slow reload is followed by another for what changed meanwhile")
def no_lost_changes():
    store = store_with("/t/a", "0")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}", reload_cmd="sleep 0.2")
    world.watch(store)
    world.await_file("a", "0", "the first file")
    for number in range(1, 60):
        store.put("/t/a", str(number))
        time.sleep(0.02)
    world.await_file("a", "59", "the last value", timeout_s=3)
    world.stop()


@cases.case("a directory deleted and made again is followed")
def deleted():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{range gets \"/t/*\"}}{{.Key}}={{.Value}} {{end}}")
    world.watch(store)
    world.await_file("a", "/t/a=1 ", "the first file")
    store.request("DELETE", "/v2/keys/t?recursive=true")
    world.await_line("100: Key not found (/t)", "the missing key to be told")
    assert world.read("a") == "/t/a=1 "
    store.put("/t/b", "2")
    world.await_file("a", "/t/b=2 ", "the new key", timeout_s=2)
    world.stop()


@cases.case("a failed render and a failed check are tried again with the next change")
def failed_then_changed():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}{{getv \"/t/b\"}}", check_cmd="! grep -q bad {{.src}}")
    world.watch(store)
    world.await_line("key does not exist: /t/b", "the missing key to be told")
    store.put("/t/b", "2")
    world.await_file("a", "12", "the file", timeout_s=2)
    store.put("/t/b", "bad")
    world.await_line("Config check failed: exit status 1", "the check to fail")
    assert world.read("a") == "12"
    store.put("/t/b", "3")
    world.await_file("a", "13", "the file after the repair", timeout_s=2)
    world.stop()


@cases.case("a failed reload is tried again without any change")
def failed_reload():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}", reload_cmd=world.gated_reload())
    world.watch(store)
    world.await_line("Config reload failed", "the reload to fail")
    world.write("gate", "")
    world.await_reload("the second reload", timeout_s=10)
    world.stop()


@cases.case("watch mode starts without a store, and survives its restart")
def store_restarts():
    store = Store()
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}")
    world.watch(store)
    world.await_line("connection refused", "the store to be missed")
    store.start()
    store.put("/t/a", "1")
    world.await_file("a", "1", "the first file", timeout_s=10)
    store.stop()
    world.await_line("ERROR Watching the keys of", "the outage to be told")
    store.start()
    store.put("/t/a", "2")
    world.await_file("a", "2", "the value after the restart", timeout_s=15)
    assert world.process.poll() is None
    assert world.stop() == 0


@cases.case("a history that was cleared meanwhile (401) is caught up by reading again")
def cleared_history():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}")
    world.watch(store)
    world.await_file("a", "1", "the first file")
    world.process.send_signal(signal.SIGSTOP)
    store.put("/t/a", "2")
    store.put("/t/a", "3")
    for number in range(1200):  # the store keeps 1000 events
        store.put("/other", str(number))
    world.process.send_signal(signal.SIGCONT)
    world.await_file("a", "3", "the value set meanwhile", timeout_s=5)
    time.sleep(0.5)
    store.put("/t/a", "4")
    world.await_file("a", "4", "the value set afterwards", timeout_s=5)
    assert world.stop() == 0


@cases.case("an idle watch asks the store for nothing and uses no processor time")
def idle():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}")
    world.watch(store)
    world.await_file("a", "1", "the first file")
    time.sleep(0.5)

    def spent():
        with open("/proc/%d/stat" % world.process.pid, encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before, lines = spent(), len(world.lines())
    time.sleep(3)
    assert spent() - before <= 1, "%d ticks in 3 seconds" % (spent() - before)
    assert len(world.lines()) == lines
    assert world.stop() == 0


@cases.case("resources do not wait for each other's commands")
def independent():
    store = store_with("/t/a", "1")
    world = World()
    world.resource("a", "{{getv \"/t/a\"}}", reload_cmd="sleep 20")
    world.resource("b", "{{getv \"/t/a\"}}")
    world.watch(store)
    harness.wait_for(lambda: world.read("b") == "1" and world.read("a") == "1", what="both files")
    store.put("/t/a", "2")
    begun = time.monotonic()
    world.await_file("b", "2", "the other file")
    assert time.monotonic() - begun < 15, "it waited for the other's command"
    assert world.stop() == 0


cases.run()
