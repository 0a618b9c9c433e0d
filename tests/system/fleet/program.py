"""A program of the lab: which cases, over which stores."""
import os
import sys

import machine
from fleet import activation, deck, faults, lab
from harness import Cases

# As in the soak: all cases over each store, and outages as long as they were where fleet 1.0 was measured.
LONG = int(os.environ.get("FLOTILLA_ROUNDS", "1")) > 1


def run(make, stores, systemd):
    """`make` makes the lab, when the first case wants it; `systemd`: its hosts have that as PID 1."""
    why = machine.unavailable() or lab.missing()
    if why:
        print("# " + why)
        sys.exit(1)
    cases, made, failed = Cases(), [], []

    def lab_over(kind):
        assert not failed, "there is no lab: %s" % failed[0]
        try:
            if not made:
                made.append(make())
        except Exception as error:
            failed.append(error)
            raise
        if made[0].kind != kind:
            made[0].use(kind)
        return made[0]

    def case_over(kind):
        def case(name, both=False, needs_systemd=False):
            """`both`: the store matters, so that once is not enough."""
            def add(function):
                def run_or_recover():
                    try:
                        function()
                    except Exception:
                        if made:
                            made[0].recover()
                        raise
                if (both or LONG or kind == stores[0]) and (systemd or not needs_systemd):
                    cases.case("%s [%s]" % (name, kind))(run_or_recover)
                return function
            return add
        return case

    for kind in stores:
        def lab_here(kind=kind):
            return lab_over(kind)
        for part in (deck, activation, faults):
            part.add_cases(case_over(kind), lab_here, LONG)
    if len(sys.argv) > 1:
        cases.cases = [one for one in cases.cases if any(word in one[0] for word in sys.argv[1:])]
    cases.run()
