#!/usr/bin/env python3
"""run.py TARGET SECONDS: fuzzes for so long, starting from the checked-in corpus of the target; TAP output. The bytes of a
finding are printed in base64, so that they can be put into the corpus."""
import base64
import glob
import os
import subprocess
import sys
import tempfile

target, seconds = sys.argv[1], int(sys.argv[2])
name = os.path.basename(target)
corpus = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", name[5:])
print("1..1", flush=True)
with tempfile.TemporaryDirectory(prefix="flotilla-fuzz-") as scratch:
    prefix = os.path.join(scratch, "finding-")
    argv = [target, "-max_total_time=%d" % seconds, "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1",
            "-artifact_prefix=" + prefix, scratch]
    if os.path.isdir(corpus):
        argv.append(corpus)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    for line in done.stdout.splitlines()[-40 if done.returncode else -6:]:
        print("# " + line)
    for path in glob.glob(prefix + "*"):
        with open(path, "rb") as finding:
            print("# %s: %s" % (os.path.basename(path), base64.b64encode(finding.read()).decode()))
print("%s 1 - %s finds nothing in %d s" % ("ok" if done.returncode == 0 else "not ok", name, seconds))
sys.exit(done.returncode != 0)
