#!/usr/bin/env python3
"""The fleet API against recordings of fleet 1.0: every recorded request is sent to a cluster of the same three machines, and
the answer must be the recorded one, or the one that DIFFERENT lists with a reason."""
import http.client
import json
import os
import signal

import harness
from fleet_cluster import Cluster, Machine, Store
from harness import wait_for

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "fleet", "api.jsonl")
HOSTS = [("1a2b3c4d5e6f40718293a4b5c6d7e8f9", "172.31.78.11", "hostname=n1,region=east,disk=ssd"),
         ("5e6f708192a3b4c5d6e7f8091a2b3c4d", "172.31.78.12", "hostname=n2,region=east,disk=hdd"),
         ("9badcafe00112233445566778899aabb", "172.31.78.13", "hostname=n3,region=west,disk=ssd")]


def error(code, message):
    return json.dumps({"error": {"code": code, "message": message}}, separators=(",", ":"))


# (context, method, path) -> (status, body), and why it is not as recorded.
DIFFERENT = {
    ("no units", "GET", "/fleet/v1/state/none.service"):
        (404, error(404, "unit state does not exist"), "1.0 drops the connection: a crash of the handler"),
    ("invalid desiredState on create", "PUT", "/fleet/v1/units/ds.service"):
        (400, error(400, 'invalid desiredState "bogus": it must be inactive, loaded or launched'),
         "1.0 answers an empty 500"),
    ("plain string value", "PATCH", "/fleet/v1/machines"):
        (204, "", "JSON Patch's own form of a value, as 1.0's manual has it: 1.0 itself refuses it"),
    ("after unknown machine", "GET", "/fleet/v1/machines"):
        (200, lambda text: text.replace('"region":"mars"', '"region":"mars","x":"1"'), "what that has set"),
}
# Not replayed: with the store away 1.0 answers 500 and later 503 to everything. Here reads come from memory; see the last case.
LEFT_OUT = ("etcd frozen",)


class Recorded:
    def __init__(self):
        self.store = Store("debian")
        self.ttl = 30
        self.port = harness.free_port()
        self.machines = []
        for number, (machine_id, ip, metadata) in enumerate(HOSTS, 1):
            self.machines.append(Machine(
                self, number, machine_id=machine_id, public_ip=ip, metadata=metadata,
                also_listen="http://127.0.0.1:%d" % self.port if number == 1 else None))
        wait_for(lambda: len(self.call("GET", "/fleet/v1/machines")[1].split('"id"')) == 4, 10, "all machines")

    def call(self, method, path, headers=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body.encode())))
        connection.endheaders(body.encode() if body is not None else None)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    def put(self, name, **body):
        return self.call("PUT", "/fleet/v1/units/" + name, {"Content-Type": "application/json"}, json.dumps(body))

    def destroy_all(self):
        for unit in json.loads(self.call("GET", "/fleet/v1/units")[1]).get("units", []):
            assert self.call("DELETE", "/fleet/v1/units/" + unit["name"])[0] == 204
        wait_for(lambda: self.call("GET", "/fleet/v1/state")[1] == "{}", 10, "no states")


def load():
    with open(DATA) as file:
        return [case for case in map(json.loads, file) if "request" in case and
                not case["context"].startswith(LEFT_OUT)]


def prepare(cluster, context):
    """What the recording did, without recording it, before the first request of a context."""
    if context == "101 units: page 1":
        cluster.destroy_all()
        options = [{"section": "Unit", "name": "Description", "value": "api unit"},
                   {"section": "Service", "name": "ExecStart", "value": "/bin/sleep 100000"}]
        for number in range(101):
            assert cluster.put("p%03d.service" % number, options=options)[0] == 201


def expected(case):
    request = case["request"]
    different = DIFFERENT.get((case["context"], request["method"], request["path"]))
    if different:
        body = different[1]
        return different[0], body(case["body"]) if callable(body) else body, False
    headers = case.get("headers") or {}
    return case["status"], case.get("body") or "", headers.get("Content-Type", "")


def series(text):
    return {line if line.startswith("# TYPE") else line.split(" ")[0] for line in text.splitlines()
            if not line.startswith("# HELP")}


def check(cluster, case):
    request = case["request"]
    body = request.get("body")
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
    status, text, content_type = expected(case)

    def same():
        got = cluster.call(request["method"], request["path"], request.get("headers"), body)
        same.last = got
        if request["path"] == "/metrics":
            # Numbers differ; every metric of the recording is there, of the same type and labels.
            return got[0] == status and got[2]["Content-Type"] == content_type and series(text) <= series(got[1])
        if case["context"] == "directly after":
            # A launch is quick here: the state may already be the final one.
            return got[0] == status and '"desiredState":"launched"' in got[1]
        return got[0] == status and got[1] == text and (
            content_type is False or got[2].get("Content-Type", "") == content_type)
    if request["method"] == "GET":
        # What the request shows may still be on its way (a unit that is being started).
        try:
            wait_for(same, 6, "the recorded answer")
            return
        except AssertionError:
            pass
    elif same():
        return
    raise AssertionError("got %d %s %r\nnot %d %s %r" % (same.last[0], same.last[2].get("Content-Type"),
                                                        same.last[1][:2000], status, content_type, text[:2000]))


cases = harness.Cases()
cluster = []
contexts = set()
for number, one in enumerate(load(), 1):
    def run(one=one):
        if not cluster:
            cluster.append(Recorded())
        if one["context"] not in contexts:
            contexts.add(one["context"])
            prepare(cluster[0], one["context"])
        check(cluster[0], one)
    cases.cases.append(("%d: %s: %s %s" % (number, one["context"], one["request"]["method"], one["request"]["path"][:80]),
                        run))


@cases.case("an invalid desiredState of an existing unit is refused, and the unit stays readable")
def _():
    # fleet 1.0 stores any text, after which the unit cannot be read any more.
    status, text, _ = cluster[0].put("p000.service", desiredState="bogus")
    assert status == 400 and "invalid desiredState" in text, (status, text)
    assert cluster[0].call("GET", "/fleet/v1/units/p000.service")[0] == 200


@cases.case("keys of a body may be of any case, and what follows its first JSON value is not read, as in Go")
def _():
    # go-systemd's UnitOption has no tags: a client of 1.0's that marshals it says Section, Name and Value.
    body = json.dumps({"Name": "case.service", "DesiredState": "inactive", "Options": [
        {"Section": "Service", "Name": "ExecStart", "Value": "/bin/sleep 1"}]})
    status, text, _ = cluster[0].call("PUT", "/fleet/v1/units/case.service", {"Content-Type": "application/json"}, body + "}, again")
    assert status == 201, (status, text)
    unit = json.loads(cluster[0].call("GET", "/fleet/v1/units/case.service")[1])
    assert unit["options"] == [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1"}], unit
    assert cluster[0].call("DELETE", "/fleet/v1/units/case.service")[0] == 204
    change = '[{"Op": "add", "PATH": "/%s/metadata/case", "Value": {"Value": "any"}}]\n[]' % HOSTS[0][0]
    assert cluster[0].call("PATCH", "/fleet/v1/machines", None, change)[0] == 204
    assert '"case":"any"' in cluster[0].call("GET", "/fleet/v1/machines")[1]


@cases.case("what a write answered is read back at once, through the same fleetd")
def _():
    options = [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1"}]
    for number in range(30):
        name = "now%d.service" % number
        assert cluster[0].put(name, options=options)[0] == 201
        assert cluster[0].call("GET", "/fleet/v1/units/" + name)[0] == 200
        assert cluster[0].call("DELETE", "/fleet/v1/units/" + name)[0] == 204
        assert cluster[0].call("GET", "/fleet/v1/units/" + name)[0] == 404


@cases.case("the peers' port serves nothing but status and journal of local units, to who knows its token")
def _():
    machine = cluster[0].machines[0]
    entry = json.loads(cluster[0].store.key("machines/%s/object" % machine.id))["Flotilla"]
    address, key = entry["API"], {"Authorization": "Bearer " + entry["Token"]}
    assert len(entry["Token"]) == 32
    for method, path in (("GET", "/fleet/v1/machines"), ("PUT", "/fleet/v1/units/x.service"), ("GET", "/"),
                         ("GET", "/flotilla/v1/units/x.service/explain"), ("DELETE", "/fleet/v1/units/p001.service")):
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request(method, path, headers=key)
        assert connection.getresponse().status == 404, path
        connection.close()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/flotilla/v1/local/none.service/status", headers=key)
    assert connection.getresponse().status == 404
    connection.close()
    for wrong in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer " + entry["Token"][:-1] + "x"},
                  {"Authorization": entry["Token"]}, {"Authorization": "Basic " + entry["Token"]}):
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", "/flotilla/v1/local/none.service/status", headers=wrong)
        answer = connection.getresponse()
        assert answer.status == 401 and b"from the registry" in answer.read(), wrong
        connection.close()
    # Nobody who may only ask the API learns it.
    assert entry["Token"] not in cluster[0].call("GET", "/fleet/v1/machines")[1]


@cases.case("with the store frozen reads are answered from memory and writes by 503")
def _():
    cluster[0].store.signal(signal.SIGSTOP)
    try:
        for path in ("/fleet/v1/machines", "/fleet/v1/units", "/fleet/v1/state"):
            assert cluster[0].call("GET", path)[0] == 200, path
        status, text, _ = cluster[0].put("p000.service", desiredState="loaded")
        assert status == 503 and "fleet server unable to communicate with etcd" in text, (status, text)
    finally:
        cluster[0].store.signal(signal.SIGCONT)
    wait_for(lambda: cluster[0].put("p001.service", desiredState="inactive")[0] == 204, 5, "writes again")


cases.run()
