"""Timings beside the machine's floor: the clock, the machine, what may be concluded, and the documents of runs."""
