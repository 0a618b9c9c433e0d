#!/usr/bin/env python3
"""The release build is small and hardened, and installs as one executable with a link per program."""
import os
import shutil
import subprocess

from harness import Cases, free_port, temp_dir

cases = Cases()
RELEASE = os.environ["FLOTILLA_RELEASE"]
FLOTILLA = os.path.join(RELEASE, "flotilla")
PROGRAMS = ["etcd", "etcdctl", "fleetd", "fleetctl", "confd"]


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, FLOTILLA], stdout=subprocess.PIPE, text=True, check=True).stdout


@cases.case("stripped it is smaller than 2 MB")
def small():
    copy = os.path.join(temp_dir(), "flotilla")
    shutil.copy(FLOTILLA, copy)
    subprocess.run(["strip", copy], check=True)
    size = os.path.getsize(copy)
    print("# stripped: %d bytes" % size)
    assert size < 2000000, size


@cases.case("it is position independent, with full RELRO, stack protector, fortified calls and no executable stack")
def hardened():
    assert "DYN (Position-Independent Executable file)" in readelf("-h")
    dynamic, segments, symbols = readelf("-d"), readelf("-l"), readelf("--dyn-syms")
    assert "BIND_NOW" in dynamic and "PIE" in dynamic, dynamic
    assert "GNU_RELRO" in segments
    stack = [line for line in segments.splitlines() if "GNU_STACK" in line]
    assert stack and " RW " in stack[0], stack
    assert "__stack_chk_fail" in symbols
    assert "__snprintf_chk" in symbols or "__memcpy_chk" in symbols


@cases.case("libsystemd and OpenSSL are not linked: they are opened by who speaks with systemd, or TLS")
def opened_late():
    needed = [line.split("[")[1].rstrip("]") for line in readelf("-d").splitlines() if "(NEEDED)" in line]
    assert any(name.startswith("libuv") for name in needed), needed
    assert not any(word in name for name in needed for word in ("systemd", "ssl", "crypto")), needed
    for scheme in ("http", "https"):
        nobody = "%s://127.0.0.1:%d" % (scheme, free_port())
        for argv in (["etcdctl", "--no-sync", "--endpoints", nobody, "get", "a"], ["fleetctl", "--endpoint", nobody, "list-machines"],
                     ["fleetctl", "--driver=etcd", "--endpoint", nobody, "list-machines"]):
            done = subprocess.run([os.path.join(RELEASE, argv[0])] + argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  timeout=60, env=dict(os.environ, LD_DEBUG="files"))
            assert done.returncode != 0 and "libuv" in done.stderr, (argv, done.stderr)
            assert ("libssl" in done.stderr) == (scheme == "https"), argv


@cases.case("assertions are on")
def assertions():
    assert "__assert_fail" in readelf("--dyn-syms")


def page_of(path):
    return subprocess.run(["man", "-l", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, MANPAGER="cat", MANWIDTH="120")).stdout


@cases.case("installed, every program is a link to the one executable, says its version and its help")
def installed():
    root = temp_dir()
    subprocess.run(["meson", "install", "-C", RELEASE, "--no-rebuild", "--destdir", root], check=True,
                   stdout=subprocess.DEVNULL)
    found = {name: os.path.join(where, name) for where, _, names in os.walk(root) for name in names}
    for name in PROGRAMS:
        assert os.path.islink(found[name]) and os.readlink(found[name]) == "flotilla", name
        done = subprocess.run([found[name], "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert done.returncode in (0, 2) and len(done.stdout) > 300, (name, done)
        page = page_of(found[name + ".1"])
        assert name.upper() + "(1)" in page and "NAME" in page, (name, page[:500])
        version = [found[name], "--version"] if name != "confd" else [found[name], "-version"]
        done = subprocess.run(version, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), (name, done)
    assert "--rebuild" in page_of(found["etcd.1"])
    with open(found["fleet.service"]) as unit:
        assert "ExecStart=%s " % found["fleetd"][len(root):] in unit.read()
    assert os.path.dirname(found["fleet.socket"]) == os.path.dirname(found["fleet.service"])
    page = page_of(found["etcdctl-snapshot.1"])
    assert "ETCDCTL-SNAPSHOT(1)" in page and "--write-out" in page and "--initial-cluster-token" in page, page
    done = subprocess.run([found["flotilla"], "nonsense"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 2 and "unknown program nonsense" in done.stdout, done


@cases.case("no source line of the repository is longer than a screen is wide, nor a file longer than one idea")
def sizes():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for where, _, names in os.walk(os.path.join(root, "src")):
        for name in names:
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(where, name)
            with open(path, encoding="utf-8") as text:
                lines = text.read().split("\n")
            generated = any("generated" in line.lower() for line in lines[:5])
            assert generated or len(lines) <= 1000, "%s has %d lines" % (path, len(lines))
            for number, line in enumerate(lines, 1):
                assert len(line.expandtabs(8)) <= 130, "%s:%d is too wide" % (path, number)


cases.run()
