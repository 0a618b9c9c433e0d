"""Clients that record what they did and were told, and the judge of it: the simulator's checker of linearizability, as a
program (check_history.c)."""
import http.client
import json
import os
import random
import subprocess
import threading
import time
import urllib.parse

import harness

KINDS = ["get", "get", "get", "set", "set", "create", "update", "cas", "cas", "cad", "delete"]
PATIENCE_S = 2
WRITES_A_VALUE = ("set", "create", "update", "cas")


def judge(lines):
    """(exit status, text) of check_history on these lines: 0 is linearizable, 1 is not."""
    path = os.path.join(harness.temp_dir(), "history")
    with open(path, "w") as file:
        file.write("".join(line + "\n" for line in lines))
    done = subprocess.run([harness.program("tests/system/check_history"), path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


class Op:
    """One operation; its fields are those of check_history's lines."""

    def __init__(self, key, kind, value="-", expect="-"):
        self.key, self.kind, self.value, self.expect = key, kind, value, expect
        self.call_ns, self.return_ns, self.seen, self.outcome, self.order = time.monotonic_ns(), 0, "-", "unknown", 0

    def line(self):
        return " ".join(str(field) for field in (self.key, self.kind, self.call_ns, self.return_ns, self.value, self.expect,
                                                 self.seen, self.outcome, self.order))

    def target(self):
        """Method, path and query, and body of the request."""
        path = "/v2/keys/h/" + self.key
        if self.kind == "get":
            return "GET", path + "?quorum=true", None
        if self.kind in ("delete", "cad"):
            return "DELETE", path + ("?prevValue=%d" % self.expect if self.kind == "cad" else ""), None
        form = {"value": self.value}
        if self.kind in ("create", "update"):
            form["prevExist"] = "true" if self.kind == "update" else "false"
        if self.kind == "cas":
            form["prevValue"] = self.expect
        return "PUT", path, urllib.parse.urlencode(form)

    def answered(self, status, body):
        """Takes the answer; False when no server of ours may give it."""
        self.return_ns = time.monotonic_ns()
        code = body.get("errorCode")
        if status in (200, 201) and "node" in body:
            self.outcome = "ok"
            if self.kind == "get":
                self.seen = int(body["node"]["value"])
            else:
                self.seen = int(body["prevNode"]["value"]) if "prevNode" in body else 0
                self.order = body["node"]["modifiedIndex"]
        elif status == 404 and code == 100:
            self.outcome, self.seen = ("ok" if self.kind == "get" else "missing"), 0
        elif status == 412 and code == 105 and self.kind == "create":
            self.outcome = "exists"
        elif status == 412 and code == 101 and self.kind in ("cas", "cad"):
            self.outcome, self.seen = "mismatch", int(body["cause"].strip("[]").split(" != ")[1])
        elif status == 500 and "space exceeded" in body.get("cause", ""):
            self.outcome = "refused"  # before it was proposed: it has not happened
        else:
            return status >= 500
        return True


class Clients:
    """Threads with one request under way each, to random members, on `keys` keys. Values are numbers, each written once."""

    def __init__(self, endpoints, threads=6, keys=4, seed=1, name="k"):
        self.endpoints = [endpoint.split("://")[1] for endpoint in endpoints]
        self.names = ["%s%d" % (name, i) for i in range(keys)]
        self.last_seen = dict.fromkeys(self.names, 0)
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.next_value, self.ops, self.problems, self.latencies_s = 1, [], [], []
        self.last_write = 0  # when a write was last acknowledged
        self.threads = [threading.Thread(target=self._run, args=(random.Random(seed * 1000 + i),)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _choose(self, rng):
        key, kind = rng.choice(self.names), rng.choice(KINDS)
        with self.lock:
            expect = self.last_seen[key]
            if kind in ("cas", "cad") and not expect:
                kind = "get"
            value = "-"
            if kind in WRITES_A_VALUE:
                value, self.next_value = self.next_value, self.next_value + 1
        return Op(key, kind, value, expect if kind in ("cas", "cad") else "-")

    def _run(self, rng):
        connections = {}
        while not self.stopped.is_set():
            endpoint, op = rng.choice(self.endpoints), self._choose(rng)
            if endpoint not in connections:
                connections[endpoint] = http.client.HTTPConnection(endpoint, timeout=PATIENCE_S)
            if not self.perform(op, connections[endpoint]):
                connections.pop(endpoint).close()
                time.sleep(0.02)
            time.sleep(rng.random() * 0.004)
        for connection in connections.values():
            connection.close()

    def perform(self, op, connection):
        """Does it; answers whether the connection may be used again."""
        method, target, body = op.target()
        try:
            if connection.sock is None:
                connection.connect()
        except OSError:
            return False  # it has not happened: nothing to record
        op.call_ns = time.monotonic_ns()
        try:
            connection.request(method, target, body, {"Content-Type": "application/x-www-form-urlencoded"} if body else {})
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
            fine = op.answered(status, json.loads(text))
        except (OSError, http.client.HTTPException, ValueError):
            self._record(op)
            return False
        if not fine:
            self.problems.append("%s: status %d, %r" % (op.line(), status, text[:300]))
        self._record(op)
        return True

    def _record(self, op):
        with self.lock:
            if op.outcome != "refused" and (op.outcome != "unknown" or op.kind != "get"):
                self.ops.append(op)
            if op.outcome == "ok":
                self.last_seen[op.key] = op.seen if op.kind == "get" else op.value if op.kind in WRITES_A_VALUE else 0
                if op.kind != "get":
                    self.last_write = time.monotonic()
                self.latencies_s.append((op.return_ns - op.call_ns) / 1e9)

    def wait_for_write(self, timeout_s=20, what="a write"):
        """Until a write that begins from now on is acknowledged."""
        begun = time.monotonic()
        harness.wait_for(lambda: self.last_write > begun + 0.002, timeout_s, what)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def finish(self):
        """Ends the load, reads every key at every member that must serve by now, and judges it all. Answers a summary."""
        self.stop()
        for endpoint in self.endpoints:
            for key in self.names:
                self._final_read(endpoint, key)
        unknown = sum(op.outcome == "unknown" for op in self.ops)
        status, text = judge([op.line() for op in self.ops])
        assert not self.problems, "\n".join(self.problems[:5])
        assert status == 0, text
        assert sum(op.outcome == "ok" and op.kind != "get" for op in self.ops) > 20, "too few writes: %d operations" % len(self.ops)
        return "%d operations on %d keys, %d without an answer: linearizable" % (len(self.ops), len(self.names), unknown)

    def _final_read(self, endpoint, key):
        def read():
            op, connection = Op(key, "get"), http.client.HTTPConnection(endpoint, timeout=PATIENCE_S)
            self.perform(op, connection)
            connection.close()
            return op.outcome == "ok"
        harness.wait_for(read, 30, "a last read of %s at %s" % (key, endpoint))
