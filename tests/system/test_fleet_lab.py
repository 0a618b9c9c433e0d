#!/usr/bin/env python3
"""Fleet in the lab: three hosts with real systemd, a Docker engine and a member of the store each, over our store and over
Debian's etcd. The units of the slides run as printed; hosts lose power, hang and are cut off; stores freeze; daemons are killed
and upgraded. FLOTILLA_ROUNDS (as in the soak) makes outages as long as they were where fleet 1.0 was measured."""
import os
import sys

import machine
import net_world
from harness import Cases

net_world.enter()
cases = Cases()
STORES = os.environ.get("FLOTILLA_TEST_STORES", "ours,debian").split(",")
LONG = int(os.environ.get("FLOTILLA_ROUNDS", "1")) > 1


def main():
    from fleet import activation, deck, faults, lab
    why = machine.unavailable() or lab.missing()
    if why:
        print("# " + why)
        sys.exit(1)
    made = []

    def lab_over(kind):
        if not made:
            made.append(lab.Lab(ttl_s=5))
        if made[0].kind != kind:
            made[0].use(kind)
        return made[0]

    def case_over(kind):
        def case(name):
            def add(function):
                def run():
                    try:
                        function()
                    except Exception:
                        if made:
                            made[0].recover()
                        raise
                return cases.case("%s [%s]" % (name, kind))(run)
            return add
        return case

    for kind in STORES:
        case = case_over(kind)
        for part in (deck, activation, faults):
            part.add_cases(case, lambda kind=kind: lab_over(kind), **({"long": LONG} if part is faults else {}))
    if len(sys.argv) > 1:
        cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
    cases.run()


main()
