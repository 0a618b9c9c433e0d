#!/usr/bin/env python3
"""Replays recorded invocations of the original etcdctl 2.3.8 (tests/data/etcd/etcdctl.jsonl) with ours, against Debian's
real etcd with --enable-v2 and against our own etcd: exit status, stdout and stderr must be equal.

Store indices in the recording count from the recorded base; they are moved to the base of the server at hand. Ports and
member ids are rewritten as the recording's first line says.  ETCDCTL_GOLDEN=WORD runs only the cases with that word in
"group: case"."""
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import etcd_server
import harness

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "etcd", "etcdctl.jsonl")
GROUPS = ["set", "mk", "mkdir", "setdir", "updatedir", "get", "update", "rm", "rmdir", "ls", "watch", "exec-watch",
          "cluster", "global"]
WAIT_S = 20

# Groups and cases that are not replayed, and why.
EXCLUDED_GROUPS = {
    "auth": "user, role and auth are refused by this version with a clear message",
    "backup": "refused by this version with a clear message",
    "import": "refused by this version with a clear message",
    "member-add": "leaves the server without a quorum; test_etcdctl_real adds and removes members of a larger cluster",
}
EXCLUDED = {
    ("global", "endpoint without scheme"): "host:port is accepted here, as etcdctl built with Go before 1.8 did",
    ("global", "not etcd"): "an endpoint with a path is refused by name instead of failing as `unsupported protocol scheme`",
}
# Differences of the servers, not of etcdctl.
EXCLUDED_REAL = {
    ("updatedir", "ok"): "etcd 3.4 answers an update of a directory with 500",
    ("cluster", "member add own url"): "the text comes from the server: 3.4 says `membership: peerURL exists`",
}
EXCLUDED_OURS = {
    ("cluster", "member add own url"): "our server's /v2/members is read-only in this version",
    ("cluster", "member update unknown"): "our server's /v2/members is read-only in this version",
    ("cluster", "member update ok"): "our server's /v2/members is read-only in this version",
    ("cluster", "member list after update"): "our server's /v2/members is read-only in this version",
    ("cluster", "member update back"): "our server's /v2/members is read-only in this version",
}
# The original runs stty for the prompt, whose complaints are its own.
STDERR_IGNORED = {("global", "username no tty")}

INDEX = re.compile(r"(?<=\[)\d+(?=\]\n)|(?<=-Index: )\d+|(?<=\nIndex: )\d+|(?<=Index\":)\d+|(?<=MODIFIED_INDEX=)\d+"
                   r"|(?<=/)\d{20}|(?<= != )\d+(?=\])|^\d+(?= v\d$)", re.M)
EXPIRATION = re.compile(r'"expiration":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"')


def load():
    with open(DATA) as lines:
        return [case for case in map(json.loads, lines) if case["group"] in GROUPS]


class Server:
    def __init__(self, label, program, excluded):
        self.label, self.excluded = label, excluded
        self.cluster = etcd_server.Cluster(program)
        self.member = self.cluster.members[0]
        self.id = self.member.id()

    def clean(self):
        """Empties the key space; answers the index afterwards."""
        names = [node["key"] for node in
                 json.loads(etcd_server.call(self.member.endpoint + "/v2/keys/")[2])["node"].get("nodes", [])]
        for key in names + ["/_hidden", "/_d"]:
            etcd_server.call(self.member.endpoint + "/v2/keys" + etcd_server.urllib.request.quote(key) + "?recursive=true",
                             "DELETE")
        return self.member.index()

    def watchers(self):
        status, _, text = etcd_server.call(self.member.endpoint + "/v2/stats/store")
        return json.loads(text)["watchers"] if status == 200 else None

    def fill(self, text, base):
        text = text.replace("{EP}", self.member.endpoint).replace("{PEER}", self.member.peer).replace("{ID}", self.id)
        text = text.replace("{HOSTPORT}", self.member.endpoint[len("http://"):])
        return re.sub(r"\{BASE(\+\d+)?\}", lambda m: str(base + int(m.group(1) or 0)), text)

    def mask(self, text):
        text = text.replace(self.member.endpoint[len("http://"):], "127.0.0.1:2379")
        text = text.replace(self.member.peer[len("http://"):], "127.0.0.1:2380")
        return EXPIRATION.sub('"expiration":"..."', text.replace(self.id, "{ID}"))


def environment(server, changes):
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    env["ETCDCTL_ENDPOINTS"] = server.member.endpoint
    for name, value in (changes or {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = server.fill(value, 0)
    return env


def run_quietly(etcdctl, server, argv, base):
    return subprocess.run([etcdctl] + [server.fill(word, base) for word in argv], env=environment(server, None),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT_S)


def read(path):
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def run_during(etcdctl, server, case, base, process, watchers):
    """What happens while the command runs; commands of one case follow each other slowly enough to be told apart."""
    if watchers is not None and ("during" in case or "signal" in case):
        harness.wait_for(lambda: server.watchers() > watchers or process.poll() is not None, WAIT_S, "the watch")
    elif "during" in case or "signal" in case:
        time.sleep(0.5)
    for argv in case.get("during", []):
        run_quietly(etcdctl, server, argv, base)
        time.sleep(0.1)


def replay(etcdctl, server, case):
    directory = harness.temp_dir()
    base = server.clean()
    for argv in case["setup"]:
        run_quietly(etcdctl, server, argv, base)
    out, err = os.path.join(directory, "out"), os.path.join(directory, "err")
    watchers = server.watchers()
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = harness.start([etcdctl] + [server.fill(word, base) for word in case["argv"]],
                                env=environment(server, case.get("env")), stdout=stdout, stderr=stderr,
                                stdin=subprocess.PIPE if case["stdin"] is not None else subprocess.DEVNULL)
    if case["stdin"] is not None:
        process.stdin.write(case["stdin"].encode())
        process.stdin.close()
    run_during(etcdctl, server, case, base, process, watchers)

    def move(match):
        number = int(match.group())
        return str(number - case["base"] + base).rjust(20, "0") if len(match.group()) == 20 else \
            str(number - case["base"] + base) if number != 999999 else match.group()

    expected_out = INDEX.sub(move, case["stdout"])
    expected_err = INDEX.sub(move, case["stderr"])
    if "signal" in case:
        deadline = time.monotonic() + 3
        while len(read(out)) < len(expected_out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        if process.poll() is None:
            process.send_signal(getattr(signal, "SIG" + case["signal"]))
    try:
        status = process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        harness.kill(process)
        raise AssertionError("did not end within %d s; stdout %r stderr %r" % (WAIT_S, read(out), read(err)))
    check("stdout", EXPIRATION.sub('"expiration":"..."', expected_out), server.mask(read(out)))
    if (case["group"], case["case"]) not in STDERR_IGNORED:
        check("stderr", expected_err, sort_errors(server.mask(read(err))))
    check("exit status", case["exit"], status)


def sort_errors(text):
    """Endpoints are tried in random order; the recording has them in the order given."""
    lines = re.findall(r"^error #\d+: (.*)$", text, re.M)
    rest = iter(sorted(lines))
    return re.sub(r"^(error #\d+: ).*$", lambda m: m.group(1) + next(rest), text, flags=re.M)


def check(what, expected, actual):
    if expected != actual:
        raise AssertionError("%s differs\nexpected: %r\nactual:   %r" % (what, expected, actual))


def port_taken(port):
    with harness.socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    cases = harness.Cases()
    etcdctl = harness.program("etcdctl")
    for group, reason in EXCLUDED_GROUPS.items():
        print("# not replayed: %s: %s" % (group, reason))
    targets = [("real etcd", etcd_server.REAL, EXCLUDED_REAL), ("our etcd", etcd_server.ours(), EXCLUDED_OURS)]
    for label, program, excluded in targets:
        if not program:
            print("# %s: not here, its cases are left out" % label)
            continue
        server = Server(label, program, excluded)
        for case in load():
            key = (case["group"], case["case"])
            name = "%s: %s: %s" % ((label,) + key)
            if os.environ.get("ETCDCTL_GOLDEN", "") not in name:
                continue
            reason = EXCLUDED.get(key) or excluded.get(key)
            if key == ("global", "default endpoints refused") and (port_taken(2379) or port_taken(4001)):
                reason = "something listens on the default ports of this machine"
            if reason:
                print("# not replayed: %s: %s" % (name, reason))
                continue
            cases.cases.append((name, lambda server=server, case=case: replay(etcdctl, server, case)))
    cases.run()


main()
