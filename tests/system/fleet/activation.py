"""Nothing runs until it is needed: socket, timer and path units of systemd given to fleet, and fleetd itself."""
import os
import socket

import harness
from harness import wait_for

SERVER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "activated.py")


def ask(host, port, line):
    with socket.create_connection((host.ip, port), harness.PATIENCE_S) as connection:
        connection.sendall((line + "\n").encode())
        return connection.makefile().readline()


def add_cases(case, lab, long):
    @case("a socket and its service as fleet units: the first connection from the network starts the service")
    def _():
        lab().unit("talk.socket", "[Socket]\nListenStream=8500\n[X-Fleet]\nMachineMetadata=disk=hdd\n")
        lab().unit("talk.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/bin/python3 %s\n[X-Fleet]\nMachineOf=talk.socket\n" % SERVER)
        lab().ctl("load", "talk.service", "--no-block")
        lab().ctl("start", "talk.socket")
        host = lab().hosts[1]
        wait_for(lambda: lab().states("talk.service") == {2: ("inactive", "dead")}, 10, "the service to be loaded")
        assert lab().states("talk.socket") == {2: ("active", "listening")}
        def talk():
            assert ask(host, 8500, "hello") == "hello 1 talk.socket\n"
            wait_for(lambda: lab().states("talk.service") == {2: ("active", "running")} and
                     lab().states("talk.socket") == {2: ("active", "running")}, 10, "the news of it")
        for _ in range(2):
            assert not host.processes("talk.service")
            talk()
            assert ask(host, 8500, "end") == "end 1 talk.socket\n"
            wait_for(lambda: lab().states("talk.service") == {2: ("inactive", "dead")}, 10, "its end")
        # It was loaded, not started, and is stopped by its name all the same.
        talk()
        lab().ctl("load", "talk.service")
        lab().ctl("stop", "talk.service")
        assert not host.processes("talk.service")
        talk()
        pid, = host.processes("talk.service")
        lab().ctl("restart", "talk.service")
        now, = host.processes("talk.service")
        assert now != pid
        lab().destroy("talk.socket", "talk.service")
        try:
            ask(host, 8500, "anybody")
            raise AssertionError("somebody listens")
        except ConnectionRefusedError:
            pass

    @case("a timer and a path as fleet units start their services, again and again")
    def _():
        lab().unit("tick.timer", "[Timer]\nOnActiveSec=100ms\nOnUnitActiveSec=100ms\nAccuracySec=1ms\n")
        lab().unit("tick.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\n"
                   "ExecStart=/usr/bin/etcdctl set /ticked %H\n[X-Fleet]\nMachineOf=tick.timer\n")
        lab().unit("post.path", "[Path]\nPathExists=/run/post\n")
        lab().unit("post.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/etcdctl set /posted %H\n"
                   "ExecStart=/bin/rm /run/post\n[X-Fleet]\nMachineOf=post.path\n")
        lab().ctl("load", "--no-block", "tick.service", "post.service")
        lab().ctl("start", "tick.timer", "post.path")

        def key(name):
            node = lab().request("GET", "/v2/keys/" + name)["node"]
            return node["value"], node["modifiedIndex"]
        value, first = wait_for(lambda: key("ticked"), 10, "the timer's service")
        wait_for(lambda: key("ticked")[1] > first, 10, "its second run")
        host = next(host for host in lab().hosts if host.name == value)
        assert lab().states("tick.timer")[host.number][0] == "active"
        number, = lab().states("post.path")
        for _ in range(2):
            lab().hosts[number - 1].run(["touch", "/run/post"])
            wait_for(lambda: not lab().hosts[number - 1].exists("/run/post"), 10, "the path's service")
        assert key("posted")[0] == lab().hosts[number - 1].name
        lab().destroy("tick.timer", "tick.service", "post.path", "post.service")

    @case("fleetd itself: a connection to fleet.socket starts it, and while it starts anew no request is lost",
          needs_systemd=True)
    def _():
        host = lab().hosts[2]
        lab().sleeper("stays.service", "MachineID=" + host.id)
        lab().ctl("start", "stays")
        pids = host.processes("stays.service")
        host.systemctl("stop", "fleet.service")
        assert not host.processes("fleet.service") and host.processes("stays.service") == pids
        assert host.properties("fleet.socket", "SubState")["SubState"] == "listening"
        assert host.ctl("list-machines", "--no-legend")[1].count("\n") >= 1
        wait_for(lambda: host.properties("fleet.service", "SubState")["SubState"] == "running", 10, "fleetd")
        for _ in range(3):
            host.systemctl("restart", "--no-block", "fleet.service")
            for _ in range(3):
                assert host.api("GET", "/fleet/v1/machines")[0] == 200
        assert host.processes("stays.service") == pids
        lab().all_present()
        lab().destroy("stays")
