#!/usr/bin/env python3
"""Each room sees only the rooms of its row in the top meson.build: one-line files are compiled with the very include flags
that the build gives a room's own sources. Runs on any build directory (FLOTILLA_BUILD)."""
import json
import os
import re
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if not harness.BUILD:
    sys.exit("test_rooms: FLOTILLA_BUILD must name a build directory")
cases = harness.Cases()


def rows():
    """The rooms table of the top meson.build."""
    with open(os.path.join(SOURCE, "meson.build")) as build:
        table = re.search(r"^rooms = \{\n(.*?)^\}", build.read(), re.M | re.S).group(1)
    found = {}
    for room, others in re.findall(r"'(\w+)': \[([^\]]*)\]", table):
        found[room] = re.findall(r"'(\w+)'", others)
    return found


def include_flags():
    """For each room the compiler's working directory and its -I flags, from the build's own record."""
    with open(os.path.join(harness.BUILD, "compile_commands.json")) as record:
        commands = json.load(record)
    found = {}
    for command in commands:
        path = os.path.realpath(os.path.join(command["directory"], command["file"]))
        match = re.match(re.escape(os.path.realpath(SOURCE)) + r"/src/(\w+)/", path)
        if match and match.group(1) not in found:
            words = shlex.split(command["command"])
            found[match.group(1)] = (command["directory"], [word for word in words if word.startswith("-I")])
    return found


def header_of(room):
    """Some header of the room."""
    names = sorted(name for name in os.listdir(os.path.join(SOURCE, "src", room)) if name.endswith(".h"))
    return "%s/%s" % (room, names[0]) if names else None


def compiles(room, header):
    directory, flags = FLAGS[room]
    # Only the preprocessor: whether the header is found is the question, not what else it needs.
    done = subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-E", "-o", os.devnull] + flags + ["-xc", "-"],
                          cwd=directory, input='#include "%s"\n' % header, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return True
    missing = re.search(r"fatal error: (\S+): No such file or directory", done.stderr)
    assert missing, "%s including %s: %s" % (room, header, done.stderr)
    # A header of the row may itself need a room that this one must not see: then it is found, and of no use here.
    return missing.group(1) != header


ROWS = rows()
FLAGS = include_flags()


@cases.case("the table and the build know the same rooms")
def same_rooms():
    assert len(ROWS) > 10 and ROWS["base"] == [], ROWS
    unknown = set(FLAGS) - set(ROWS)
    assert not unknown, unknown
    assert {"base", "io", "raft", "store"} <= set(FLAGS), sorted(FLAGS)


@cases.case("a room's own headers and those of its row are found")
def allowed():
    tried = 0
    for room in FLAGS:
        for other in ROWS[room] + [room]:
            header = header_of(other)
            if header:
                assert compiles(room, header), "%s does not find %s" % (room, header)
                tried += 1
    assert tried >= 2 * len(FLAGS), tried


@cases.case("a header of any other room does not compile")
def forbidden():
    tried = 0
    for room in FLAGS:
        for other in set(ROWS) - set(ROWS[room]) - {room}:
            header = header_of(other)
            if header:
                assert not compiles(room, header), "%s finds %s, which is not in its row" % (room, header)
                tried += 1
    assert tried >= 50, tried


@cases.case("the pure rooms see nothing but base")
def pure():
    for room in ("raft", "store", "wal", "unit", "template"):
        assert ROWS[room] == ["base"], (room, ROWS[room])


@cases.case("the rows have no circle")
def no_circle():
    def reach(room, path):
        assert room not in path, "circle: %s" % " -> ".join(path + [room])
        for other in ROWS[room]:
            reach(other, path + [room])
    for room in ROWS:
        reach(room, [])


@cases.case("no source climbs out of its room by a relative include")
def no_climbing():
    tried = 0
    for top, _, names in os.walk(os.path.join(SOURCE, "src")):
        for name in names:
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(top, name)
            with open(path, errors="replace") as source:
                for number, line in enumerate(source, 1):
                    match = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
                    if match:
                        tried += 1
                        assert ".." not in match.group(1).split("/") and not match.group(1).startswith("/"), \
                            "%s:%d: %s" % (path, number, line.strip())
    assert tried > 100, tried


@cases.case("every room is linked only with the rooms of its row")
def no_foreign_calls():
    """Calls without a header would still link: undefined symbols of a room's library must come from its row."""
    defined, wanted = {}, {}
    for room in FLAGS:
        library = os.path.join(harness.BUILD, "libflotilla-%s.a" % room)
        if not os.path.exists(library):
            continue
        text = subprocess.run(["nm", "-A", library], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=True).stdout
        for line in text.splitlines():
            fields = line.split()
            if len(fields) >= 2 and fields[-2] in "TDBRVW":
                defined.setdefault(fields[-1], set()).add(room)
            elif len(fields) >= 2 and fields[-2] == "U":
                wanted.setdefault(room, set()).add(fields[-1])
    assert len(defined) > 100, len(defined)
    for room, symbols in wanted.items():
        for symbol in symbols:
            homes = defined.get(symbol)
            if homes and not homes & set(ROWS[room] + [room]):
                raise AssertionError("%s uses %s of %s, which is not in its row" % (room, symbol, sorted(homes)))


def link_command(target):
    done = subprocess.run(["ninja", "-C", harness.BUILD, "-t", "commands", target], stdout=subprocess.PIPE, text=True,
                          check=True)
    return shlex.split(done.stdout.splitlines()[-1])


@cases.case("the simulator links the node that the server links, nothing of its own in its place, and no loop")
def simulator_links_the_node():
    server, simulator = link_command("flotilla"), link_command("tests/sim/sim")
    for room in ROWS["node"] + ["node"]:
        library = "libflotilla-%s.a" % room
        assert library in server and library in simulator, (library, simulator)
    libraries = {os.path.basename(word) for word in simulator if "libflotilla-" in word}
    assert libraries == {"libflotilla-%s.a" % room for room in ROWS["node"] + ["node"]}, libraries
    objects = [word for word in simulator if word.endswith(".o")]
    assert len(objects) > 5 and all(word.startswith("tests/sim/sim.p/") for word in objects), objects
    # A function of a room that the simulator defined itself would be taken before the library's.
    own = subprocess.run(["nm"] + objects, cwd=harness.BUILD, stdout=subprocess.PIPE, text=True, check=True).stdout
    rooms = subprocess.run(["nm", "-A"] + sorted(libraries), cwd=harness.BUILD, stdout=subprocess.PIPE, text=True,
                           check=True).stdout
    theirs = {line.split()[-1] for line in rooms.splitlines() if len(line.split()) > 2 and line.split()[-2] in "TD"}
    again = {line.split()[-1] for line in own.splitlines() if len(line.split()) > 2 and line.split()[-2] in "TD"} & theirs
    assert len(theirs) > 100 and not again, again
    program = os.path.join(harness.BUILD, "tests", "sim", "sim")
    assert not re.search(r" uv_", subprocess.run(["nm", program], stdout=subprocess.PIPE, text=True, check=True).stdout)
    needed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "libc.so" in needed and not re.search(r"libuv|http_parser|libcrypto|libssl", needed), needed


cases.run()
