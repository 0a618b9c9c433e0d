#!/usr/bin/env python3
"""Dev machines: each a world of its own, as root and without root; killing one is pulling its plug."""
import fcntl
import os
import shutil
import signal
import subprocess

from dev_cluster import Dev
from harness import Cases, kill, program, temp_dir, wait_for

cases = Cases()
FLOTILLA = program("flotilla")
OWN = "987654.%d" % os.getpid()  # seconds: a sleep that no other run of the tests starts


def story(dev):
    names = set()
    for machine in (1, 2, 3):
        status, output = dev.on(machine, "sh", "-c", "hostname; cat /etc/machine-id /etc/environment; readlink /usr/bin/etcd")
        assert status == 0, output
        assert "COREOS_PUBLIC_IPV4=172.17.8.%d" % (100 + machine) in output, output
        assert output.strip().endswith("flotilla"), output
        names.update(output.split()[:2])
    assert len(names) == 6, names
    status, output = dev.on(0, "ip", "-br", "addr", "show", "flotilla0")
    assert status == 0 and "172.17.8.100/24" in output, output
    # Neighbours go on finding each other whoever dies or comes back: link addresses are of the machine, not of chance.
    assert "02:00:ac:11:08:64" in dev.on(0, "ip", "-br", "link", "show", "flotilla0")[1]
    assert "02:00:ac:11:08:66" in dev.on(2, "ip", "-br", "link", "show", "eth0")[1]
    wait_for(lambda: dev.on(1, "etcdctl", "cluster-health")[0] == 0, 30, "a healthy store")
    assert dev.on(1, "etcdctl", "set", "/a", "1") == (0, "1\n")
    assert dev.on(2, "etcdctl", "--endpoints", "http://127.0.0.1:4001", "--no-sync", "get", "--quorum",
                  "/a") == (0, "1\n")
    # What runs on a machine dies with it, and is not seen from another.
    assert dev.on(2, "sh", "-c", "sleep %s >/dev/null 2>&1 & echo ok" % OWN)[0] == 0
    assert OWN in dev.on(2, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")[1]
    assert "sleep " + OWN not in dev.on(1, "sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done")[1]
    status, output = dev.run("kill", "2")
    assert status == 0, output
    done = subprocess.run(["pgrep", "-f", "^sleep %s$" % OWN], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "", "a process outlived its machine"
    assert "down" in dev.run("status")[1]
    status, output = dev.on(2, "true")
    assert status == 1 and "the machine is down" in output, output
    wait_for(lambda: dev.on(1, "etcdctl", "set", "/b", "2")[0] == 0, 20, "two members take writes")
    assert dev.run("start", "2")[0] == 0
    wait_for(lambda: dev.on(2, "etcdctl", "get", "/b")[1] == "2\n", 30, "the machine catches up with its old disk")
    assert dev.run("start", "2")[0] == 1
    assert dev.on(1, "sh", "-c", "exit 7")[0] == 7
    dev.stop()


@cases.case("as root, three machines are worlds of their own and one can lose its power")
def as_root():
    assert os.geteuid() == 0, "this test needs root"
    story(Dev())


@cases.case("without root the same happens inside a user namespace")
def without_root():
    build_is_reachable = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", FLOTILLA,
                                         "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    if not build_is_reachable:
        # The checkout lies in a directory that others may not enter: run a copy that they can.
        copy = temp_dir()
        os.chmod(copy, 0o755)
        shutil.copy(FLOTILLA, copy)
        story(Dev(user="nobody", flotilla=os.path.join(copy, "flotilla")))
    else:
        story(Dev(user="nobody"))


@cases.case("the hub's death is the end of all its machines")
def hub_killed():
    dev = Dev(machines=1)
    assert dev.on(1, "sh", "-c", "sleep %s >/dev/null 2>&1 & echo ok" % OWN)[0] == 0
    kill(dev.hub, signal.SIGKILL)
    wait_for(lambda: subprocess.run(["pgrep", "-f", "^sleep %s$" % OWN], stdout=subprocess.DEVNULL).returncode == 1, 10,
             "nothing is left")


@cases.case("after stop the directory is free for the next cluster at once")
def stopped():
    dev = Dev(machines=1)
    with open(dev.log) as log:
        said = log.read()
    # What it says works as it stands there, for this cluster.
    assert "1 machine on a private network" in said, said
    assert "flotilla dev --dir %s/d exec 1 bash\n" % dev.dir in said and "machine 2" not in said, said
    assert dev.run("stop") == (0, "")
    with open(os.path.join(dev.dir, "d", "lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    status, output = dev.run("--machines", "2")
    assert status == 1 and "holds a cluster of 1 machines: say --machines 1" in output, output
    with open(os.path.join(dev.dir, "d", "machines"), "w") as file:
        file.write("many\n")
    status, output = dev.run("--machines", "1")
    assert status == 1 and "holds no number of machines" in output, output


@cases.case("wrong use is told what to do")
def wrong_use():
    for words, said in ((["--machines", "0"], "--machines must be 1 to 99"),
                        (["--agent-ttl", "soon"], '--agent-ttl must be a time such as 5s, not "soon"'), (["exec", "1", "true"], "no cluster runs in"),
                        (["nonsense"], "Usage:"), (["--nonsense"], "flag provided but not defined")):
        done = subprocess.run([FLOTILLA, "dev", "--dir", temp_dir()] + words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60)
        assert done.returncode != 0 and said in done.stdout, (words, done.stdout)


cases.run()
