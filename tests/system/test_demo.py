#!/usr/bin/env python3
"""The demo tells the truth: it ends with 0, with Docker and without, as root and without."""
import os
import subprocess

from harness import Cases

cases = Cases()
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def demo(*words):
    done = subprocess.run([os.path.join(ROOT, "scripts", "demo"), "--verbose"] + list(words), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=420)
    # What went wrong is at the end of the story; the machines' logs, which --verbose adds, come behind it.
    story, _, logs = done.stdout.partition("\n--- ")
    assert done.returncode == 0, "%s\n[...]\n%s" % (story[-4000:], logs[-6000:])


@cases.case("with units as plain processes")
def processes():
    demo("--no-docker")


@cases.case("with units in Docker, an engine per machine")
def docker():
    demo()


cases.run()
