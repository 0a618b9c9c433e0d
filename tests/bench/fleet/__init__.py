"""The benchmark of fleet: scripts/bench fleet. See bench_fleet.py beside this package."""
