"""From what is asked to an artifact that passed every gate.

plan.py        what is asked for, settled before a compiler starts; places.py where it is built; options.py
building.py    each graph compiled into its directory; rebuilding.py the same from a package with its source
keeping.py     build, and keep only what the gates of earning.py, workload_goldens.py and isa.py let through
reducing.py    a lower precision beside a higher one; tuning.py and tune_rows.py its trials; speed.py the pair
choosing.py    `auto`
"""
