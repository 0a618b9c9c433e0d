"""Replays the recordings of tests/data/confd/confd.jsonl (made with the original confd) with our confd: the env backend,
and for everything else the keys put into an etcd v2 store: Debian's etcd --enable-v2, and for the groups in which the store
matters our own too.

All cases with the same keys share one store subtree and run as one confd process with one resource each; a case that wants
an error runs by itself."""
import collections
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import harness

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "confd", "confd.jsonl")
CONFD = harness.program("confd")
TEMPORARY = harness.temp_dir()

# Cases that are not replayed, and why.
NOT_SUPPORTED = "the file backend is not supported"
FILE_PREFIX = "recorded with the file backend, which matches keys by string prefix; etcd matches whole segments"
MISSING_100 = "recorded with the file backend; the v2 store answers a missing key with error 100, as confd with etcd v2 did"
DOT_IS_MAP = "dot is the first generation's flat map, where later confds had nil: only printing dot itself shows it"
DASHES = "dashes in names become underscores as in 0.5, not as in 0.3 and 0.4"
NO_FUNCTION = "functions of later generations are there for all templates"
PREFIX_030 = "0.3.0 forgot to put the prefix before the keys it asked for"
KEY_AND_DIRECTORY = "its store has a key that is a directory too, which the v2 store cannot hold"
EXCLUDED = {
    "cf-ls-024": KEY_AND_DIRECTORY,
    "cf-resource-style-009": DOT_IS_MAP,
    "cf-resource-style-024": DOT_IS_MAP,
    "cf-prefix-015": MISSING_100,
    "cf-prefix-016": MISSING_100,
    "cf-prefix-026": MISSING_100,
    "cf-prefix-023": FILE_PREFIX,
    "cf-prefix-025": FILE_PREFIX,
}


def load():
    cases = []
    with open(DATA, encoding="utf-8") as lines:
        for line in lines:
            cases.append(json.loads(line))
    return cases


def reason_not_to_run(case):
    """Why a case is left out, or None."""
    if case["id"] in EXCLUDED:
        return EXCLUDED[case["id"]]
    if case["group"] == "file-backend" or "file" in case:
        return NOT_SUPPORTED
    if case["group"] == "firstgen":
        text = case.get("want_error", "")
        if "panic: template" in text and re.search(r'function "(\w+)" not defined', text):
            name = re.search(r'function "(\w+)" not defined', text).group(1)
            if name != "nosuch":
                return NO_FUNCTION
        if case["version"] in ("v0.3.0", "v0.4.1") and "dash" in case["template"] + str(case.get("want")):
            return DASHES
        if case["version"] == "v0.3.0" and case["prefix"]:
            return PREFIX_030
    return None


# Groups that are replayed over our own store as well: the others are about functions only.
STORE_MATTERS = ("get", "gets", "ls", "prefix", "resource-style", "firstgen")


class Store:
    """A store with the v2 API: Debian's etcd, or ours."""

    def __init__(self, ours):
        self.port, peer = harness.free_port(), harness.free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        argv = [harness.program("etcd") if ours else "/usr/bin/etcd", "--name", "one", "--data-dir",
                os.path.join(harness.temp_dir(), "data"), "--listen-client-urls", self.url, "--advertise-client-urls",
                self.url, "--listen-peer-urls", "http://127.0.0.1:%d" % peer, "--initial-advertise-peer-urls",
                "http://127.0.0.1:%d" % peer, "--initial-cluster", "one=http://127.0.0.1:%d" % peer]
        if not ours:
            argv += ["--enable-v2", "--logger=zap", "--log-level=error"]
        harness.start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_for(lambda: self.request("GET", "/v2/keys/"), what="etcd to answer")

    def request(self, method, path, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read() or b" "

    def put(self, key, value):
        self.request("PUT", "/v2/keys" + urllib.parse.quote(key), {"value": value})

    def mkdir(self, key):
        self.request("PUT", "/v2/keys" + urllib.parse.quote(key), {"dir": "true"})

    def clear(self):
        listing = json.loads(self.request("GET", "/v2/keys/"))
        for node in listing["node"].get("nodes", []):
            suffix = "?recursive=true" if node.get("dir") else ""
            self.request("DELETE", "/v2/keys" + urllib.parse.quote(node["key"]) + suffix)


def toml(text):
    return json.dumps(text)


class Work:
    """One confd configuration directory with a resource for each case."""

    def __init__(self, cases):
        self.cases = cases
        self.directory = harness.temp_dir()
        self.templates = os.path.join(self.directory, "templates")
        os.makedirs(os.path.join(self.directory, "conf.d"))
        os.makedirs(self.templates)
        for number, case in enumerate(cases):
            # The template is always named x, as when it was recorded, so each has a directory of its own.
            place = os.path.join(self.templates, str(number)) if len(cases) > 1 else self.templates
            os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, "x"), "wb") as file:
                file.write(case["template"].encode("utf-8", "surrogateescape"))
            with open(os.path.join(self.directory, "conf.d", "%04d.toml" % number), "w", encoding="utf-8") as file:
                file.write("[template]\nsrc = %s\ndest = %s\nkeys = %s\n" % (
                    toml(os.path.join(str(number), "x") if len(cases) > 1 else "x"), toml(self.dest(number)),
                    json.dumps(case.get("keys", ["/"]))))
                if case.get("prefix"):
                    file.write("prefix = %s\n" % toml(case["prefix"]))

    def dest(self, number):
        return os.path.join(self.directory, "out%04d" % number)

    def run(self, store):
        case = self.cases[0]
        argv = [CONFD, "-onetime", "-confdir", self.directory, "-config-file", os.path.join(self.directory, "none"),
                "-backend", "env" if case.get("backend") == "env" else "etcd"]
        if case.get("backend") != "env":
            argv += ["-node", store.url]
        if case.get("flag_prefix"):
            argv += ["-prefix", case["flag_prefix"]]
        environment = {"PATH": os.environ["PATH"], "TZ": "UTC", "LAB_SET": "v 1", "LAB_EMPTY": ""}
        for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        if case.get("backend") == "env":
            del environment["LAB_SET"], environment["LAB_EMPTY"]
        environment.update(case.get("env", {}))
        done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              start_new_session=True)
        return done.returncode, done.stderr.decode("utf-8", "replace")


def rendered(work, number):
    with open(work.dest(number), "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def by_pieces(text):
    return sorted(re.split(r"[ ;,]", text))


def check_output(case, text):
    if "want_regex" in case:
        assert re.search(case["want_regex"], text), "%s: %r does not match %r" % (case["id"], text, case["want_regex"])
        return
    want = case.get("want_sorted", case["want"])
    if case.get("order_unspecified") and "want_sorted" not in case:
        if "index ." in case["template"]:
            return  # the store's order decided which one was recorded
        assert by_pieces(text) == by_pieces(want), "%s: got %r, want in any order %r" % (case["id"], text, want)
        return
    assert text == want, "%s: got %r, want %r" % (case["id"], text, want)


def check_error(case, work, status, log):
    wanted = case["want_error"].replace("TEMPLATES", work.templates).replace("CONFDIR", work.directory)
    wanted = wanted.replace("panic: ", "")
    wanted = re.sub(r" \[\d+\]$", "", wanted)
    assert wanted in log, "%s: the log has no %r:\n%s" % (case["id"], wanted, log)
    assert status == 1, "%s: exit status %d" % (case["id"], status)


def run_cases(store, cases):
    """Runs cases over the same keys; answers the list of what differs."""
    problems = []
    store.clear()
    for key, value in (cases[0].get("kv") or {}).items():
        store.put(key, value)
    for key in cases[0].get("dirs", []):
        store.mkdir(key)
    together = collections.defaultdict(list)
    for case in cases:
        if "want_error" in case:
            work = Work([case])
            try:
                check_error(case, work, *work.run(store))
            except AssertionError as problem:
                problems.append(str(problem))
        else:
            together[(case.get("flag_prefix"), case.get("backend"), json.dumps(case.get("env")))].append(case)
    for group in together.values():
        work = Work(group)
        status, log = work.run(store)
        if status != 0:
            problems.append("exit status %d: %s" % (status, log))
        for number, case in enumerate(group):
            try:
                check_output(case, rendered(work, number))
            except (AssertionError, OSError) as problem:
                problems.append(str(problem))
    return problems


def main():
    cases = harness.Cases()
    stores = {"Debian's etcd": Store(False), "our etcd": Store(True)}
    groups = collections.OrderedDict()
    left_out = collections.Counter()
    for case in load():
        reason = reason_not_to_run(case)
        if reason:
            left_out[reason] += 1
            print("# %s is not replayed: %s" % (case["id"], reason))
            continue
        groups.setdefault(case["group"], []).append(case)

    def add(group, members, name, store):
        @cases.case("confd on %s gives what the original gave in %d cases of group %s" % (name, len(members), group))
        def run():
            contents = collections.OrderedDict()
            for case in members:
                contents.setdefault(json.dumps([case.get("kv"), case.get("dirs")]), []).append(case)
            problems = []
            for same in contents.values():
                problems += run_cases(store, same)
            assert not problems, "%d problems:\n%s" % (len(problems), "\n".join(problems))

    for group, members in groups.items():
        for name, store in stores.items():
            if name == "Debian's etcd" or group in STORE_MATTERS:
                add(group, members, name, store)
    cases.run()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
