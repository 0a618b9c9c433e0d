#!/usr/bin/env python3
"""The scenarios of the lab on dev machines: our store, a Docker engine each, and units in the embedded supervisor."""
import os

import net_world

net_world.enter()

from fleet import program
from fleet.dev import DevLab

program.run(lambda: DevLab(ttl_s=5), ["ours"], systemd=False)
