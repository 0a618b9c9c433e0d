#!/usr/bin/env python3
"""Fleet in the lab: three hosts with real systemd, a Docker engine and a member of the store each, over our store and over
Debian's etcd. The units of the slides run as printed; hosts lose power, hang and are cut off; stores stop; daemons are killed
and upgraded."""
import os

import net_world

net_world.enter()

from fleet import program
from fleet.lab import Lab

program.run(lambda: Lab(ttl_s=5), os.environ.get("FLOTILLA_TEST_STORES", "ours,debian").split(","), systemd=True)
