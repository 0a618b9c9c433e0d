"""The lab: three hosts with real systemd, a Docker engine each and a member of the store each, as on the slides; and what is
done there. `lab.py` has the hosts, `images.py` what their containers run, the rest are the scenarios."""
