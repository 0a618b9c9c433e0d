#!/usr/bin/env python3
"""fleetctl and ssh: which machine, which arguments, whose exit status; and status and journal of machines whose fleetd is a
fleet 1.0. `ssh` is a stand-in that prints what it was called with."""
import http.server
import json
import os
import subprocess
import threading

import harness
from fleet_cluster import processes

cases = harness.Cases()
MACHINES = [{"id": "1a2b3c4d5e6f40718293a4b5c6d7e8f9", "primaryIP": "172.31.78.11"},
            {"id": "5e6f708192a3b4c5d6e7f8091a2b3c4d", "primaryIP": "172.31.78.12"},
            {"id": "5e6fcafe00112233445566778899aabb", "primaryIP": "172.31.78.13"}]
UNITS = {"r.service": {"name": "r.service", "currentState": "launched", "desiredState": "launched",
                       "machineID": MACHINES[1]["id"],
                       "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1"}]},
         "off.service": {"name": "off.service", "currentState": "inactive", "desiredState": "inactive",
                         "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1"}]}}


may_answer = threading.Event()
far_is_away = threading.Event()  # what a fleetd answers whose peer does not


class Fleet10(http.server.BaseHTTPRequestHandler):
    """What fleet 1.0 answers; it knows nothing of /flotilla."""

    def do_GET(self):
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[-1]
        if path == "/fleet/v1/machines":
            self.answer(200, {"machines": MACHINES})
        elif name == "late.service":
            assert may_answer.wait(60)
            self.answer(200, UNITS["r.service"])
        elif path.startswith("/fleet/v1/units/") and name in UNITS:
            self.answer(200, UNITS[name])
        elif path.startswith("/fleet/v1/units/"):
            self.answer(404, {"error": {"code": 404, "message": "unit does not exist"}})
        elif path.startswith("/flotilla/") and far_is_away.is_set():
            self.answer(502, {"error": {"code": 502, "message": "cannot reach the fleetd of that machine"}})
        else:
            self.answer(404, {"error": {"code": 404, "message": ""}})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fleet10)
server.handle_error = lambda *_: None  # who asked has given up
threading.Thread(target=server.serve_forever, daemon=True).start()
bin_dir, home = harness.temp_dir(), harness.temp_dir()
with open(os.path.join(bin_dir, "ssh"), "w") as file:
    file.write('#!/bin/sh\ncase "$*" in *" -L "*) exec python3 %s "$@";; esac\nfor a in "$@"; do echo "[$a]"; done\nexit ${FAKE_SSH_EXIT:-0}\n' %
               os.path.join(bin_dir, "forward.py"))
os.chmod(os.path.join(bin_dir, "ssh"), 0o755)
# What `ssh -L LOCAL:REMOTE` does, to the server of this test whatever REMOTE is.
with open(os.path.join(bin_dir, "forward.py"), "w") as file:
    file.write("""import json, os, socket, sys, threading
arguments = sys.argv[1:]
local, remote = arguments[arguments.index("-L") + 1].split(":")
json.dump(arguments, open(os.environ["FORWARD_LOG"], "w"))
listener = socket.socket(socket.AF_UNIX)
listener.bind(local)
listener.listen()
def copy(a, b):
    while True:
        data = a.recv(65536)
        if not data:
            break
        b.sendall(data)
    b.shutdown(socket.SHUT_WR)
while True:
    one, _ = listener.accept()
    two = socket.create_connection(("127.0.0.1", int(os.environ["FORWARD_PORT"])))
    for a, b in ((one, two), (two, one)):
        threading.Thread(target=copy, args=(a, b), daemon=True).start()
""")


def ctl(*arguments, **env):
    environment = dict(os.environ, PATH=bin_dir + ":" + os.environ["PATH"], HOME=home,
                       FLEETCTL_ENDPOINT="http://127.0.0.1:%d" % server.server_port, **env)
    done = subprocess.run([harness.program("fleetctl")] + list(arguments), env=environment, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL)
    return done.returncode, [line.strip("[]") for line in done.stdout.splitlines()], done.stderr


@cases.case("ssh goes to the machine of a unit, as core, with the command after a dash dash")
def _():
    status, words, _ = ctl("ssh", "r", "echo", "a b", "-n")
    assert status == 0
    assert words[-5:] == ["core@172.31.78.12", "--", "echo", "a b", "-n"], words
    assert "StrictHostKeyChecking=ask" in words and "ConnectTimeout=10" in words, words
    assert "UserKnownHostsFile=%s/.fleetctl/known_hosts" % home in words, words
    assert words[words.index("-p") + 1] == "22" and "-A" not in words


@cases.case("ssh takes the beginning of a machine's ID, flags in old and new forms, and gives back the exit status")
def _():
    status, words, _ = ctl("--ssh-username=root", "--strict-host-key-checking=false", "ssh", "-A", "--ssh-port=23", "1a2",
                           FAKE_SSH_EXIT="3")
    assert status == 3
    assert words[-1] == "root@172.31.78.11" and "-A" in words, words
    assert "StrictHostKeyChecking=no" in words and words[words.index("-p") + 1] == "23", words
    assert ctl("ssh", "--machine", "5e6f7", "hostname")[1][-3:] == ["core@172.31.78.12", "--", "hostname"]
    assert ctl("ssh", "--unit=r.service", "hostname")[1][-3:] == ["core@172.31.78.12", "--", "hostname"]
    assert ctl("ssh", "1a2", "--", "ls", "-l")[1][-4:] == ["core@172.31.78.11", "--", "ls", "-l"]


@cases.case("ssh says what it could not find")
def _():
    assert ctl("ssh")[2] == "Unable to proceed: one machine or unit must be provided\n"
    assert ctl("ssh", "zz")[2] == "Unable to proceed: could not find matching unit or machine\n"
    assert ctl("ssh", "off")[2] == "Unable to proceed: could not find matching unit or machine\n"
    assert "more than one machine" in ctl("ssh", "5e6f")[2]
    assert ctl("ssh", "--machine", "a", "--unit", "b")[2] == (
        "Both machine and unit flags provided, please specify only one.\n")
    for arguments in (["ssh"], ["ssh", "zz"], ["ssh", "5e6f"]):
        assert ctl(*arguments)[0] == 1


def proxied(*arguments, **env):
    """Words of the ssh to the machine, and of the one to the tunnel's host that the first would have a shell start."""
    status, words, err = ctl("--endpoint=unix:///var/run/fleet.sock", *arguments, FORWARD_LOG=os.path.join(home, "proxy.log"),
                             FORWARD_PORT=str(server.server_port), **env)
    assert status == 0, (words, err)
    command, = [word[len("ProxyCommand="):] for word in words if word.startswith("ProxyCommand=")]
    # As ssh does: %h and the like first, then the shell.
    assert "%" not in command.replace("%%", "").replace("%h", "").replace("%p", ""), command
    command = command.replace("%%", "\0").replace("%h", "far").replace("%p", "24").replace("\0", "%")
    told = subprocess.run(["sh", "-c", "exec " + command], env=dict(os.environ, PATH=bin_dir + ":" + os.environ["PATH"]),
                          capture_output=True, text=True, timeout=60)
    return words, [line[1:-1] for line in told.stdout.splitlines()]


@cases.case("through --tunnel both hops have the same user, timeout and rules for host keys")
def _():
    for strict in (True, False):
        words, hop = proxied("--tunnel=bastion:2222", "--ssh-username=joe", "--ssh-timeout=7",
                             "--strict-host-key-checking=%s" % str(strict).lower(), "ssh", "--ssh-port=23", "1a2", "uptime")
        rules = ["-o", "ConnectTimeout=7", "-o", "StrictHostKeyChecking=" + ("ask" if strict else "no"), "-o",
                 "UserKnownHostsFile=" + (home + "/.fleetctl/known_hosts" if strict else "/dev/null")]
        rules += [] if strict else ["-o", "LogLevel=ERROR"]
        assert words[:2 + len(rules)] == ["-p", "23"] + rules, words
        assert words[-3:] == ["joe@172.31.78.11", "--", "uptime"] and "-J" not in words, words
        assert hop == ["-W", "[far]:24", "-p", "2222"] + rules + ["joe@bastion"], hop


@cases.case("names with blanks, quotes and percent signs come through --tunnel as they are")
def _():
    name = "/it's a \"50%h\" `file`"
    words, hop = proxied("--tunnel=bastion", "--ssh-username=j%ho e's", "--known-hosts-file=" + home + name, "status", "r")
    option = "UserKnownHostsFile=\"%s/it's a \\\"50%%%%h\\\" `file`\"" % home
    assert option in words and option in hop, (words, hop)
    assert hop[-1] == "j%ho e's@bastion", hop
    assert words[-6:] == ["j%ho e's@172.31.78.12", "--", "systemctl", "status", "-l", "r.service"], words


@cases.case("status and journal of a machine with a fleet 1.0 go by ssh")
def _():
    status, words, err = ctl("status", "r", FAKE_SSH_EXIT="3")
    assert status == 3 and words[-5:] == ["--", "systemctl", "status", "-l", "r.service"], (status, words, err)
    status, words, _ = ctl("journal", "-f", "-lines=3", "--sudo", "r")
    assert words[-11:] == ["--", "sudo", "journalctl", "--unit", "r.service", "--no-pager", "-n", "3", "--output", "short",
                           "-f"], words
    status, words, _ = ctl("journal", "--since", "2h ago", "--until=it's", "r")
    assert words[-7:] == ["all", "--output", "short", "--since", "'2h ago'", "--until", "'it'\\''s'"], words
    assert ctl("status", "off")[2] == "Unit off.service does not appear to be loaded.\n"


@cases.case("where a machine's fleetd does not answer ssh is tried, and no connection is exit status 1")
def _():
    far_is_away.set()
    for words in (["status", "r"], ["journal", "r"]):
        status, said, err = ctl(*words)
        assert status == 0 and "core@172.31.78.12" in said, (said, err)
        assert err == "cannot reach the fleetd of that machine; trying ssh\n", err
        assert ctl(*words, FAKE_SSH_EXIT="255")[0] == 1
    far_is_away.clear()
    assert ctl("ssh", "r", "true", FAKE_SSH_EXIT="255")[0] == 1


@cases.case("an endpoint of no known scheme is refused with those that there are")
def _():
    status, _, err = ctl("--endpoint=ftp://x", "list-units")
    assert status == 1 and err == ('Unable to initialize client: unknown scheme in "ftp://x": '
                                   'it is one of unix, file, http and https\n'), err


@cases.case("what cannot be written to the standard output is no success")
def _():
    for arguments in (["list-machines"], ["cat", "r"], ["help"], ["--version"]):
        environment = dict(os.environ, FLEETCTL_ENDPOINT="http://127.0.0.1:%d" % server.server_port)
        with open("/dev/full", "w") as full:
            done = subprocess.run([harness.program("fleetctl")] + arguments, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1, arguments
        assert done.stderr == "Error writing to standard output: No space left on device\n", (arguments, done.stderr)


@cases.case("--tunnel reaches the API's socket on a far machine through ssh, which ends with the command")
def _():
    log = os.path.join(home, "forward.log")
    status, words, err = ctl("--tunnel=bastion:2222", "--endpoint=unix:///var/run/fleet.sock", "list-machines",
                             "--no-legend", FORWARD_LOG=log, FORWARD_PORT=str(server.server_port))
    assert status == 0 and len(words) == 3 and words[0].startswith("1a2b3c4d..."), (status, words, err)
    with open(log) as file:
        arguments = json.load(file)
    assert arguments[-1] == "core@bastion" and arguments[arguments.index("-p") + 1] == "2222", arguments
    assert "UserKnownHostsFile=%s/.fleetctl/known_hosts" % home in arguments, arguments
    local, remote = arguments[arguments.index("-L") + 1].split(":")
    assert remote == "/var/run/fleet.sock" and not os.path.exists(os.path.dirname(local)), arguments
    forward = os.path.join(bin_dir, "forward.py")
    harness.wait_for(lambda: not any(forward in argv for _, argv in processes().values()), 5, "the tunnel gone")


@cases.case("what ssh and the API are asked with may stand in the environment, and a flag beats it")
def _():
    env = {"FLEETCTL_SSH_USERNAME": "harry", "FLEETCTL_SSH_TIMEOUT": "77", "FLEETCTL_KNOWN_HOSTS_FILE": home + "/seen/before"}
    words = ctl("ssh", "1a2", **env)[1]
    assert words[-1] == "harry@172.31.78.11" and "ConnectTimeout=77" in words, words
    assert "UserKnownHostsFile=%s/seen/before" % home in words and "StrictHostKeyChecking=ask" in words, words
    words = ctl("--ssh-username=sally", "--ssh-timeout=5", "--known-hosts-file=%s/other" % home, "ssh", "1a2", **env)[1]
    assert words[-1] == "sally@172.31.78.11" and "ConnectTimeout=5" in words and "ConnectTimeout=77" not in words, words
    assert [word for word in words if "UserKnownHostsFile" in word] == ["UserKnownHostsFile=%s/other" % home], words
    for flags, told in (([], "no"), (["--strict-host-key-checking"], "ask"), (["--strict-host-key-checking=true"], "ask")):
        words = ctl(*flags, "ssh", "1a2", FLEETCTL_STRICT_HOST_KEY_CHECKING="false")[1]
        assert [word for word in words if "StrictHostKeyChecking" in word] == ["StrictHostKeyChecking=" + told], words
    log = os.path.join(home, "environment.log")
    for flags, to in (([], "bastion"), (["--tunnel=gate"], "gate")):
        status, words, err = ctl(*flags, "--endpoint=unix:///var/run/fleet.sock", "list-machines", "--no-legend",
                                 FORWARD_LOG=log, FORWARD_PORT=str(server.server_port), FLEETCTL_TUNNEL="bastion")
        assert status == 0 and len(words) == 3, (status, words, err)
        with open(log) as file:
            assert json.load(file)[-1] == "core@" + to


@cases.case("certificates are also named by the variables of before 1.0, which the newer ones beat")
def _():
    def said(**environment):
        return ctl("--endpoint=https://127.0.0.1:1", "list-machines", **environment)[2]
    old = {"FLEETCTL_ETCD_CERTFILE": "/none/cert", "FLEETCTL_ETCD_KEYFILE": "/none/key", "FLEETCTL_ETCD_CAFILE": "/none/ca"}
    assert "/none/ca" in said(FLEETCTL_ETCD_CAFILE="/none/ca")
    assert "/none/new" in said(FLEETCTL_ETCD_CAFILE="/none/ca", FLEETCTL_CA_FILE="/none/new")
    del old["FLEETCTL_ETCD_CAFILE"]
    assert "/none/cert" in said(**old)
    assert "/none/new" in said(**old, FLEETCTL_CERT_FILE="/none/new")


@cases.case("how long the API may take is said by FLEETCTL_REQUEST_TIMEOUT, or --request-timeout")
def _():
    answers = []
    patient = threading.Thread(target=lambda: answers.append(ctl("cat", "late", FLEETCTL_REQUEST_TIMEOUT="50")))
    patient.start()
    # The least that may be had, 10 s.
    status, _, err = ctl("--request-timeout=1", "cat", "late", FLEETCTL_REQUEST_TIMEOUT="50")
    assert status == 1 and "timeout awaiting response headers" in err, (status, err)
    patient.join(1)
    may_answer.set()
    patient.join()
    assert answers[0][:2] == (0, ["Service", "ExecStart=/bin/sleep 1"]), answers


cases.run()
