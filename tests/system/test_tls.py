#!/usr/bin/env python3
"""TLS: etcdctl, confd and fleetd against a store that demands certificates (Debian's etcd), and fleetd's own API over https,
with certificates that may only read."""
import os
import subprocess

import harness
from certificates import Authority
from fleet_cluster import Machine
from harness import Cases, program, wait_for

cases = Cases()
authority, stranger = Authority(), Authority("stranger")
SERVER, CLIENT, READER = authority.issue("server"), authority.issue("writer"), authority.issue("reader")


class Store:
    """Debian's etcd, which lets nobody in without a certificate."""

    def __init__(self):
        self.dir = harness.temp_dir()
        port, peer = harness.free_port(), "http://127.0.0.1:%d" % harness.free_port()
        self.url = "https://127.0.0.1:%d" % port
        log = open(os.path.join(self.dir, "log"), "ab")
        self.process = harness.start(
            ["/usr/bin/etcd", "--enable-v2", "--name", "s1", "--data-dir", os.path.join(self.dir, "data"),
             "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", "s1=" + peer, "--cert-file", SERVER[0], "--key-file",
             SERVER[1], "--trusted-ca-file", authority.cert, "--client-cert-auth"], stdout=log, stderr=log)
        log.close()
        wait_for(lambda: self.ctl("cluster-health")[0] == 0, 20, "the store")

    def ctl(self, *arguments, ca=authority.cert, own=CLIENT, endpoint=None):
        words = ["--endpoints", endpoint or self.url] + (["--ca-file", ca] if ca else [])
        if own:
            words += ["--cert-file", own[0], "--key-file", own[1]]
        return run("etcdctl", *words, *arguments)


def run(name, *arguments, **more):
    done = subprocess.run([program(name)] + list(arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


store = Store()


@cases.case("etcdctl reads, writes and watches over https, and says why it cannot")
def _():
    assert store.ctl("set", "/a/b", "one")[:2] == (0, "one\n")
    assert store.ctl("get", "/a/b")[:2] == (0, "one\n")
    watch = harness.start([program("etcdctl"), "--endpoints", store.url, "--ca-file", authority.cert, "--cert-file", CLIENT[0],
                           "--key-file", CLIENT[1], "watch", "/a/b"], stdout=subprocess.PIPE, text=True)

    def seen():
        store.ctl("set", "/a/b", "two")
        return watch.poll() is not None
    wait_for(seen, what="the watch")
    assert watch.stdout.read() == "two\n"
    status, _, error = store.ctl("get", "/a/b", own=None)
    assert status == 2 and "remote error: tls: " in error, error
    status, _, error = store.ctl("get", "/a/b", ca=stranger.cert)
    assert status == 2 and "x509: certificate signed by unknown authority" in error, error
    status, _, error = store.ctl("get", "/a/b", ca=None)
    assert status == 2 and "x509: certificate signed by unknown authority" in error, error
    status, _, error = store.ctl("get", "/a/b", endpoint=store.url.replace("127.0.0.1", "127.0.0.2"))
    assert status == 2, error
    status, _, error = store.ctl("get", "/a/b", endpoint=store.url.replace("https", "http"))
    assert status == 2, error


@cases.case("confd renders from a store over https")
def _():
    directory = harness.temp_dir()
    for name in ("conf.d", "templates"):
        os.mkdir(os.path.join(directory, name))
    out = os.path.join(directory, "out")
    with open(os.path.join(directory, "conf.d", "a.toml"), "w") as file:
        file.write('[template]\nsrc = "a.tmpl"\ndest = "%s"\nkeys = ["/a"]\n' % out)
    with open(os.path.join(directory, "templates", "a.tmpl"), "w") as file:
        file.write('{{getv "/a/b"}}\n')
    store.ctl("set", "/a/b", "rendered")
    words = ["-onetime", "-confdir", directory, "-client-ca-keys", authority.cert, "-client-cert", CLIENT[0], "-client-key",
             CLIENT[1]]
    for node in (["-node", store.url], ["-scheme", "https", "-node", store.url[len("https://"):]]):
        status, text, error = run("confd", *words, *node)
        assert status == 0, (text, error)
        with open(out) as file:
            assert file.read() == "rendered\n"
        os.unlink(out)


class World:
    """What a Machine asks of its cluster."""

    def __init__(self):
        self.store, self.ttl = store, 5


def fleet(port, number=1, **more):
    return Machine(World(), number, etcd_cafile=authority.cert, etcd_certfile=CLIENT[0], etcd_keyfile=CLIENT[1],
                   also_listen="https://127.0.0.1:%d" % port, api_certfile=SERVER[0], api_keyfile=SERVER[1],
                   api_cafile=authority.cert, **more)


def fleetctl(endpoint, *arguments, own=CLIENT, ca=authority.cert, **more):
    words = ["--endpoint", endpoint, "--ca-file", ca]
    return run("fleetctl", *words, *(["--cert-file", own[0], "--key-file", own[1]] if own else []), *arguments, **more)


@cases.case("fleetd keeps its registry over https, and serves its API over https to those with a certificate")
def _():
    port = harness.free_port()
    machine, url = fleet(port, api_writers="cert:writer"), "https://127.0.0.1:%d" % port
    units = harness.temp_dir()
    with open(os.path.join(units, "a.service"), "w") as file:
        file.write("[Service]\nExecStart=/bin/sleep 1000\n")
    status, text, error = fleetctl(url, "start", "a.service", cwd=units)
    assert status == 0, (text, error)
    wait_for(lambda: "running" in fleetctl(url, "list-units")[1], what="the unit")
    assert "running" in fleetctl(store.url, "--driver=etcd", "list-units")[1]
    # Who may only read.
    assert "running" in fleetctl(url, "list-units", own=READER)[1]
    status, text, error = fleetctl(url, "destroy", "a.service", own=READER)
    assert status == 1 and "the certificate of reader may only read here" in text + error, (text, error)
    assert "a.service" in fleetctl(url, "list-unit-files", "--no-legend")[1]
    # Who may not even that.
    status, text, error = fleetctl(url, "list-units", own=None)
    assert status == 1 and "remote error: tls: certificate required (one of" in error, (text, error)
    status, text, error = fleetctl(url, "list-units", own=stranger.issue("writer"))
    assert status == 1 and "tls" in error, (text, error)
    status, text, error = fleetctl(url, "list-units", ca=stranger.cert)
    assert status == 1 and "x509: certificate signed by unknown authority" in error, (text, error)
    # At the Unix socket: root, and the daemon's own user, always; others as the list says.
    assert machine.api("PUT", "/fleet/v1/units/b.service", {"desiredState": "inactive", "options": []})[0] != 403
    if os.geteuid() == 0:
        other = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
        assert unix_status(machine, other) == "403" and unix_status(machine, other, "GET") == "200"
        machine.config["api_writers"] = "cert:writer,group:12345"
        again(machine)
        wait_for(lambda: unix_status(machine, other) == "204", what="the new list")
    # What is wrong in the configuration changes nothing.
    machine.config["api_writers"] = "somebody"
    again(machine)
    wait_for(lambda: '"somebody" is unknown' in machine.log(), what="the refusal")
    assert "running" in fleetctl(url, "list-units")[1]
    machine.kill()


def again(machine):
    """Writes its configuration anew and has it read."""
    with open(os.path.join(machine.dir, "fleet.conf"), "w") as file:
        file.write("".join("%s=%s\n" % item for item in machine.config.items()))
    os.kill(machine.process.pid, 1)


def unix_status(machine, prefix, method="DELETE"):
    """The status of a request as somebody else."""
    os.chmod(machine.dir, 0o755)
    os.chmod(machine.socket, 0o666)
    path = "/fleet/v1/units/b.service" if method == "DELETE" else "/fleet/v1/machines"
    if method == "DELETE":
        machine.api("PUT", path, {"desiredState": "inactive", "options": [
            {"section": "Service", "name": "ExecStart", "value": "/bin/true"}]})
    done = subprocess.run(prefix + ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket",
                                    machine.socket, "http://x" + path], capture_output=True, text=True, timeout=60)
    return done.stdout


@cases.case("fleetds ask each other over https for what a unit says")
def _():
    ports = [harness.free_port(), harness.free_port()]
    machines = [fleet(port, number) for number, port in enumerate(ports, 3)]
    url, units = "https://127.0.0.1:%d" % ports[0], harness.temp_dir()
    with open(os.path.join(units, "far.service"), "w") as file:
        file.write("[Service]\nExecStart=/bin/sh -c 'echo hello from afar; sleep 1000'\n[X-Fleet]\nMachineID=%s\n" %
                   machines[1].id)
    status, text, error = fleetctl(url, "start", "far.service", cwd=units)
    assert status == 0, (text, error)
    wait_for(lambda: "hello from afar" in fleetctl(url, "journal", "far.service")[1], what="its journal")
    with_peers = store.ctl("get", "/_coreos.com/fleet/machines/%s/object" % machines[1].id)[1]
    assert '"https://127.0.0.1:' in with_peers, with_peers
    for machine in machines:
        machine.kill()


@cases.case("a certificate that was renewed is served after SIGHUP; https without one is refused at the start")
def _():
    port = harness.free_port()
    url, own = "https://127.0.0.1:%d" % port, authority.issue("own")
    machine = fleet(port)
    assert fleetctl(url, "list-machines")[0] == 0
    machine.config["api_certfile"], machine.config["api_keyfile"] = own
    again(machine)

    def subject():
        done = subprocess.run(["openssl", "s_client", "-connect", url[len("https://"):], "-cert", CLIENT[0], "-key", CLIENT[1]],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return "CN = own" in done.stdout
    wait_for(subject, what="the new certificate")
    assert fleetctl(url, "list-machines")[0] == 0
    machine.kill()
    path = os.path.join(machine.dir, "fleet.conf")
    for lines, why in (("listen=https://127.0.0.1:%d\n" % port, "https needs a certificate and a key"),
                       ("listen=https://127.0.0.1:%d\napi_certfile=/x\napi_keyfile=/x\n" % port, "certificate /x: No such file"),
                       ("etcd_cafile=/y\n", "certificate authority /y: No such file"),
                       ("api_writers=user:no-such-user\n", "there is no user no-such-user in /etc/passwd")):
        with open(path, "w") as file:
            file.write("".join("%s=%s\n" % item for item in machine.config.items()
                               if item[0] not in ("listen", "api_certfile", "api_keyfile", "api_cafile", "etcd_cafile")))
            file.write(lines)
        status, text, error = run("fleetd", "--config", path)
        assert status == 1 and why in text + error, (status, text, error)


if __name__ == "__main__":
    cases.run()
