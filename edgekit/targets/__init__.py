"""Targets: the hardware, how it is recognised, backend, precision, workload and budget.

    places.py     the directories searched, and the one file of a name
    loading.py    read, follow `extends`, merge, check
    rules.py      signs, ranges and words of a file's values
    listing.py    every target with what is wrong with it
    matching.py   whether a machine is the target
    probing.py    `this-machine` completed; a new target file written from a machine
    budgets.py    limits, their units, `--budget key=value`
    workloads.py  sizes for the model's symbolic axes, `--workload key=value`
    options.py    values of backend options, in the type declared
    checking.py   `edgekit target check`

How a target file is written: targets/README.md.
"""

from __future__ import annotations

from edgekit.targets.budgets import (
    BUDGET_UNITS,
    GENERATION_KEYS,
    MACHINE_KEYS,
    apply_budget,
    budget_items,
    has_budget,
)
from edgekit.targets.checking import Finding, check_target
from edgekit.targets.listing import TargetEntry, list_targets
from edgekit.targets.loading import load_target, parse_target
from edgekit.targets.matching import MatchResult, match_machine, runs_on
from edgekit.targets.options import run_device
from edgekit.targets.places import THIS_MACHINE
from edgekit.targets.probing import check_threads, probe_target, usable_threads, write_target
from edgekit.targets.workloads import (
    WorkloadShapes,
    apply_workload,
    refuse_beyond,
    shape_text,
    within_ranges,
    workload_shapes,
)

__all__ = [
    "BUDGET_UNITS",
    "GENERATION_KEYS",
    "MACHINE_KEYS",
    "THIS_MACHINE",
    "Finding",
    "MatchResult",
    "TargetEntry",
    "WorkloadShapes",
    "apply_budget",
    "apply_workload",
    "budget_items",
    "check_target",
    "check_threads",
    "has_budget",
    "list_targets",
    "load_target",
    "match_machine",
    "parse_target",
    "probe_target",
    "refuse_beyond",
    "run_device",
    "runs_on",
    "shape_text",
    "usable_threads",
    "within_ranges",
    "workload_shapes",
    "write_target",
]
