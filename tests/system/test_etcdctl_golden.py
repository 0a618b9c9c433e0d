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
WAIT_S = 60
# A busy disk must not decide; the groups in which timeouts matter have the defaults of one and five seconds.
PATIENCE = ["--timeout", "10s", "--total-timeout", "30s"]
IMPATIENT = ["global", "member-add"]

# Their cases build on each other: each of these groups has a server of its own, which is not emptied in between.
ORDERED = ["auth", "member-add"]

# Groups and cases that are not replayed, and why.
EXCLUDED_GROUPS = {
    "backup": "refused by this version with a clear message",
    "import": "refused by this version with a clear message",
}
EXCLUDED = {
    ("global", "endpoint without scheme"): "host:port is accepted here, as etcdctl built with Go before 1.8 did",
    ("global", "not etcd"): "an endpoint with a path is refused by name instead of failing as `unsupported protocol scheme`",
}
# Differences of the servers, not of etcdctl.
EXCLUDED_REAL = {
    ("updatedir", "ok"): "etcd 3.4 answers an update of a directory with 500",
    ("cluster", "member add own url"): "the text comes from the server: 3.4 says `membership: peerURL exists`",
    ("member-add", "cluster-health with unstarted member"): "3.4 without a quorum may take longer to answer /health than is "
                                                            "waited for",
}
EXCLUDED_OURS = {
    ("auth",): "our server has no authentication in this version",
    **{("member-add", case): "a member that has not started takes no quorum from ours"
       for case in ("cluster-health with unstarted member", "set without quorum", "set without quorum, long timeouts",
                    "get without quorum")},
}
# What our help shows beside the original's.
ADDED = re.compile(r"^   (replace|snapshot)\t.*\n", re.M)
# The original runs stty for the prompt, whose complaints are its own.
STTY = re.compile(r"^stty: .*\n", re.M)
MEMBER_ID = re.compile(r"\b[0-9a-f]{14,16}\b")

INDEX = re.compile(r"(?<=\[)\d+(?=\]\n)|(?<=-Index: )\d+|(?<=\nIndex: )\d+|(?<=Index\":)\d+|(?<=MODIFIED_INDEX=)\d+"
                   r"|(?<=/)\d{20}|(?<= != )\d+(?=\])|^\d+(?= v\d$)", re.M)
TTL = re.compile(r'(?<=TTL: )\d+|(?<="ttl":)\d+')
EXPIRATION = re.compile(r'"expiration":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"')


def load():
    with open(DATA) as lines:
        return [case for case in map(json.loads, lines) if case["group"] in GROUPS + ORDERED]


class Server:
    def __init__(self, label, program):
        self.label = label
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
        return EXPIRATION.sub('"expiration":"..."', MEMBER_ID.sub("{ID}", text))


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
    return subprocess.run([etcdctl] + PATIENCE + [server.fill(word, base) for word in argv], env=environment(server, None),
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
        time.sleep(0.5 if case["group"] == "exec-watch" else 0.1)  # its commands are programs, which run side by side


def replay(etcdctl, server, case):
    directory = harness.temp_dir()
    ordered = case["group"] in ORDERED
    base = 0 if ordered else server.clean()
    for argv in case["setup"]:
        if (case["group"], case["case"]) == ("watch", "expire"):
            argv = [word if word != "1" else "5" for word in argv]  # so that the watch begins before the end
        run_quietly(etcdctl, server, argv, base)
    out, err = os.path.join(directory, "out"), os.path.join(directory, "err")
    if not ordered:
        harness.wait_for(lambda: not server.watchers(), WAIT_S, "the watches of the case before to be gone")
    watchers = None if ordered else server.watchers()
    terminal, stdin = os.openpty() if "tty" in case else (None, subprocess.DEVNULL)
    if case["stdin"] is not None:
        stdin = subprocess.PIPE
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = harness.start([etcdctl] + ([] if case["group"] in IMPATIENT else PATIENCE) +
                                [server.fill(word, base) for word in case["argv"]],
                                env=environment(server, case.get("env")), stdout=stdout, stderr=stderr,
                                stdin=stdin)
    if case["stdin"] is not None:
        process.stdin.write(case["stdin"].encode())
        process.stdin.close()
    if terminal is not None:
        os.close(stdin)
        harness.wait_for(lambda: read(out).endswith("assword: "), WAIT_S, "the prompt")
        os.write(terminal, case["tty"].encode())
    run_during(etcdctl, server, case, base, process, watchers)

    def move(match):
        number = int(match.group())
        if ordered or number < case["base"] or number == 999999:
            return match.group()
        return str(number - case["base"] + base).rjust(len(match.group()) if len(match.group()) == 20 else 0, "0")

    expected_out = INDEX.sub(move, case["stdout"])
    expected_err = INDEX.sub(move, case["stderr"])
    if "signal" in case:
        deadline = time.monotonic() + 20
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
    said = with_ttl_of(expected_out, ADDED.sub("", read(out)))
    check("stdout", *(in_any_order(case, server.mask(text)) for text in (expected_out, said)))
    check("stderr", STTY.sub("", server.mask(expected_err)), sort_errors(server.mask(read(err))))
    if terminal is not None:
        check("the terminal", case["ttyOut"], what_showed(terminal))
    check("exit status", case["exit"], status)


def in_any_order(case, text):
    """Members are listed by id, and the id of an added one is different each time. What was missed makes the commands of
    exec-watch run at once, side by side: which of them writes first is the machine's affair."""
    if (case["group"], case["case"]) == ("exec-watch", "after-index"):
        return sorted(text.splitlines())
    return sorted(re.findall(r"[^\s,\"]+", text)) if case["group"] == "member-add" else text


def what_showed(terminal):
    """What was echoed on the terminal, apart from line ends."""
    os.set_blocking(terminal, False)
    try:
        return os.read(terminal, 4096).decode().strip()
    except OSError:
        return ""
    finally:
        os.close(terminal)


def with_ttl_of(expected, actual):
    """A busy machine lets seconds pass between two commands: a TTL may be less than the recorded one by some."""
    wanted = iter(TTL.findall(expected))

    def settle(match):
        want = next(wanted, None)
        return want if want is not None and int(want) - 20 <= int(match.group()) <= int(want) else match.group()
    return TTL.sub(settle, actual)


def sort_errors(text):
    """Endpoints are tried in random order; the recording has them in the order given."""
    lines = re.findall(r"^error #\d+: (.*)$", text, re.M)
    rest = iter(sorted(lines))
    return re.sub(r"^(error #\d+: ).*$", lambda m: m.group(1) + next(rest), text, flags=re.M)


def check(what, expected, actual):
    if expected != actual:
        raise AssertionError("%s differs\nexpected: %r\nactual:   %r" % (what, expected, actual))


def server_for(servers, label, program, group):
    """The server of a group's cases, started when the first of them is run."""
    kind = group if group in ORDERED else ""
    if kind not in servers:
        servers[kind] = Server(label, program)
    return servers[kind]


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
        servers = {}
        for case in load():
            key = (case["group"], case["case"])
            name = "%s: %s: %s" % ((label,) + key)
            if os.environ.get("ETCDCTL_GOLDEN", "") not in name:
                continue
            reason = EXCLUDED.get(key) or excluded.get(key) or excluded.get(key[:1])
            if key == ("global", "default endpoints refused") and (port_taken(2379) or port_taken(4001)):
                reason = "something listens on the default ports of this machine"
            if reason:
                print("# not replayed: %s: %s" % (name, reason))
                continue
            cases.cases.append((name, lambda case=case, label=label, program=program, servers=servers:
                                replay(etcdctl, server_for(servers, label, program, case["group"]), case)))
    cases.run()


main()
