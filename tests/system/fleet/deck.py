"""The units of the slides as printed (examples/units), and fleetctl as it is typed there."""
import json
import re
import subprocess

import harness
from fleet.images import PAGE
from harness import wait_for


def add_cases(case, lab, long):
    @case("list-machines: three hosts with address and metadata, the same from each, by API, etcd and tunnel")
    def _():
        expected = "MACHINE\t\tIP\t\tMETADATA\n" + "".join(
            "%s...\t%s\tdisk=%s,region=us-east-1\n" % (host.id[:8], host.ip, "hdd" if host.number == 2 else "ssd")
            for host in sorted(lab().hosts, key=lambda host: host.id))
        for host in lab().hosts:
            for how in ([], ["--endpoint", "unix:///run/fleet.sock"], ["--driver=etcd", "--endpoint", "http://127.0.0.1:2379"],
                        ["--tunnel", lab().others(host)[0].ip]):
                assert host.ctl(*how, "list-machines") == (0, expected), (how, host.ctl(*how, "list-machines"))

    @case("myapp.service: submit, start, status, journal; a restart removes the former container, as the slide has it",
          needs_systemd=True)
    def _():
        lab().example("myapp.service")
        lab().ctl("submit", "myapp.service")
        assert re.search(r"myapp\.service\t[0-9a-f]{7}\tinactive\tinactive\t-", lab().ctl("list-unit-files")[1])
        lab().ctl("start", "myapp.service")
        host = lab().runs("myapp.service")
        before = wait_for(lambda: host.containers().get("busybox1"), 10, "the container")
        other = lab().others(host)[0]
        wait_for(lambda: "Hello World" in other.ctl("journal", "-lines=3", "myapp")[1], 10, "its words")
        assert "Active: active (running)" in other.ctl("status", "myapp.service")[1]
        assert "docker run --name busybox1" in other.ctl("cat", "myapp.service")[1]
        follow = other.start(["fleetctl", "journal", "-f", "myapp.service"], stdout=subprocess.PIPE, text=True)
        assert any("Hello World" in follow.stdout.readline() for _ in range(100))
        harness.kill(follow)
        lab().ctl("restart", "myapp.service")
        assert lab().runs("myapp.service") is host
        wait_for(lambda: host.containers().get("busybox1", before) != before, 10, "another container")
        assert list(host.containers(every=True)) == ["busybox1"]
        # The slide's unit has no ExecStop, and its shell hears no signal: the container ends when somebody ends it.
        host.run(["docker", "kill", "busybox1"])
        lab().ctl("destroy", "myapp.service")
        assert not lab().copies("myapp.service")
        host.run(["docker", "rm", "busybox1"])
        lab().nothing_left()

    @case("sinatra@.service: a container with name, port and environment for each instance, announced until it stops",
          both=True)
    def _():
        lab().example("sinatra@.service")
        lab().ctl("submit", "sinatra@.service")
        lab().ctl("start", "sinatra@1.service", "sinatra@2.service")
        ask = lambda *words: lab().reachable().run(["etcdctl"] + list(words), check=False)[1]
        hosts = {number: lab().runs("sinatra@%d.service" % number) for number in (1, 2)}
        for number, host in hosts.items():
            wait_for(lambda: host.get(number) == PAGE and "sinatra-%d" % number in host.containers(), 10, "an answer")
            wait_for(lambda: ask("get", "/app/server/%d" % number) == "%s:%d\n" % (host.ip, number), 10, "its announcement")
        _, out = lab().ctl("list-units")
        for number, host in hosts.items():
            assert "sinatra@%d.service\t%s.../%s\tactive\trunning\n" % (number, host.id[:8], host.ip) in out, out
        lab().ctl("stop", "sinatra@1.service")
        wait_for(lambda: ask("ls", "/app/server") == "/app/server/2\n" and hosts[1].get(1) is None and
                 "sinatra-1" not in hosts[1].containers(every=True), 10, "the end of the first")
        lab().destroy("sinatra@.service", "sinatra@1.service", "sinatra@2.service")
        assert ask("ls", "/app/server") == ""

    @case("nginx@.service and its sidekicks: one on each host, announced beside it; what has no place is told why", both=True)
    def _():
        for name in ("nginx@.service", "nginx-sidekick@.service"):
            lab().example(name)
        lab().ctl("submit", "nginx@.service", "nginx-sidekick@.service")
        names = ["nginx@%d.service" % number for number in (1, 2, 3)]
        sidekicks = ["nginx-sidekick@%d.service" % number for number in (1, 2, 3)]
        lab().ctl("start", *names, *sidekicks)
        hosts = [lab().runs(name) for name in names]
        assert len(set(hosts)) == 3
        said = lambda number: lab().hosts[0].run(["etcdctl", "get", "/services/website/nginx@%d" % number], check=False)[1]
        for number, host in enumerate(hosts, 1):
            assert wait_for(lambda: host.get(80), 10, "an answer") == PAGE
            assert lab().runs("nginx-sidekick@%d.service" % number) is host
            wait_for(lambda: said(number), 10, "its announcement")
            assert json.loads(said(number)) == {"host": host.name, "port": 80, "version": "52c7248a14"}
        status, out = lab().ctl("start", "--block-attempts=1", "nginx@4", check=False)
        assert status == 1 and out.count("(Conflicts=nginx@*.service)") == 3, (status, out)
        assert lab().ctl("ssh", "nginx@2", "hostname")[1] == hosts[1].name + "\n"
        assert lab().ctl("ssh", hosts[2].id[:8], "docker", "ps", "--format", "{{.Names}}")[1] == "nginx\n"
        # The first goes: its sidekick with it, and the one that waits takes its place.
        lab().ctl("destroy", "nginx@1")
        assert lab().runs("nginx@4.service") is hosts[0]
        wait_for(lambda: not said(1) and not lab().copies("nginx-sidekick@1.service"), 10, "the sidekick's end")
        assert said(2) and said(3)
        lab().destroy("nginx@*", "nginx-sidekick@*")
        assert not said(2) and not said(3)

    @case("nginx_lb.service: without a [Service], as printed, it is told why; with one: /etc/environment, X-Conflicts")
    def _():
        lab().example("nginx_lb.service")
        lab().sleeper("node@.service")
        status, out = lab().ctl("start", "nginx_lb.service", check=False)
        why = "nginx_lb.service:7: Unknown key name 'ExecStart' in section 'Unit'" if lab().supervised else \
            "nginx_lb.service:9: Unknown key 'ExecStart' in section [Unit]"
        assert status == 1 and why in out, (status, out)
        lab().destroy("nginx_lb.service")
        lab().unit("nginx_lb.service", lab().text("nginx_lb.service").replace("EnvironmentFile=", "[Service]\nEnvironmentFile="))
        lab().ctl("start", "node@1.service", "node@2.service", "nginx_lb.service")
        host = lab().runs("nginx_lb.service")
        assert host not in (lab().runs("node@1.service"), lab().runs("node@2.service"))
        assert wait_for(lambda: host.get(80), 10, "an answer") == PAGE
        assert host.run(["curl", "-s", "http://127.0.0.1/"], check=False)[0] == 7, "it listens on another address too"
        lab().ctl("stop", "nginx_lb.service")
        wait_for(lambda: host.containers() == {} and list(host.containers(every=True)) == ["nginx_lb"], 10, "its end")
        lab().ctl("start", "nginx_lb.service")
        assert wait_for(lambda: host.get(80), 10, "an answer") == PAGE
        lab().ctl("destroy", "nginx_lb.service", "node@*")
        host.run(["docker", "rm", "nginx_lb"])
        lab().nothing_left()

    @case("a global unit: a container on each host with such metadata, and on no other")
    def _():
        lab().unit("stats.service", "[Service]\nExecStartPre=-/usr/bin/docker rm -f stats\n"
                   "ExecStart=/usr/bin/docker run --rm --name stats -p 9100:80 nginx\nExecStop=/usr/bin/docker stop -t 1 stats\n"
                   "[X-Fleet]\nGlobal=true\nMachineMetadata=disk=ssd\n")
        lab().ctl("start", "stats.service")
        wait_for(lambda: [host.get(9100) for host in lab().hosts] == [PAGE, None, PAGE], 10, "two answers")
        running = ("active", "running")
        wait_for(lambda: lab().states("stats.service") == {1: running, 3: running}, 10, "their states")
        lab().destroy("stats.service")
