"""What a machine tells about itself: the completed `this-machine`, and a new target file as text."""

from __future__ import annotations

import dataclasses
import glob
import json
import math
import os
import re
from pathlib import Path

from edgekit.errors import OutputError, UsageError
from edgekit.targets.matching import tidy
from edgekit.targets.places import THIS_MACHINE
from edgekit.targets.rules import MAX_THREADS, name_problem
from edgekit.values import SCHEMA, Hardware, Match, Target
from edgekit_runtime.values import Machine

PROBED = "read from this machine by edgekit"


def usable_threads(machine: Machine) -> int:
    """Whole cores this process may use: at least 1, never more than affinity and quota allow."""
    cores = machine.usable_cores
    return max(1, min(MAX_THREADS, math.floor(cores))) if math.isfinite(cores) else 1


def check_threads(threads: int, machine: Machine) -> None:
    """Raises UsageError for more threads than the machine lets this process use at once."""
    usable = usable_threads(machine)
    if threads > usable:
        raise UsageError(
            f"{threads} threads, but this machine lets this process use {usable}: affinity and quota "
            f"leave {machine.usable_cores:g} of {machine.cores} cores",
            hint=f"give `--threads {usable}` or set `threads = {usable}` under [run], or raise the quota",
        )


def complete_target(target: Target, machine: Machine, *, threads_given: bool) -> Target:
    """`this-machine`, or what extends it, with every fact it leaves open taken from the machine."""
    seen = _match(machine)
    match = dataclasses.replace(
        target.match,
        arch=target.match.arch or seen.arch,
        system=target.match.system or seen.system,
        cpu=target.match.cpu or seen.cpu,
        device_tree=target.match.device_tree or seen.device_tree,
        isa=target.match.isa or seen.isa,
        emulated=target.match.emulated or seen.emulated,
    )
    facts = target.hardware
    hardware = Hardware(
        cpu=facts.cpu or machine.cpu,
        cores=facts.cores or machine.cores,
        memory_mib=facts.memory_mib or machine.memory_mib,
        isa=facts.isa or machine.isa,
        gpu=facts.gpu or ", ".join(machine.gpu),
        gpu_arch=facts.gpu_arch or _gpu_arch(machine),
        gpu_memory_mib=facts.gpu_memory_mib,
        power_modes=facts.power_modes,
        sources=facts.sources or (PROBED,),
    )
    run = target.run if threads_given else dataclasses.replace(target.run, threads=usable_threads(machine))
    return dataclasses.replace(target, match=match, hardware=hardware, run=run)


def probe_target(machine: Machine, name: str) -> str:
    """A target file for this machine as commented TOML; it loads as it stands.

    An empty name is made of the machine's own: its board's, or its CPU's.
    """
    name = name or _own_name(machine)
    problem = name_problem(name) or ("is edgekit's own" if name == THIS_MACHINE else "")
    if problem:
        raise UsageError(f"the new target's name {problem}", hint="for example `kiosk`")
    lines = [
        "# A target file written from what this machine tells. Every key: targets/README.md",
        f"schema = {SCHEMA}",
        f"name = {_quoted(name)}",
        f"summary = {_quoted(_summary(machine))}",
        '# backend = "..."   # the engine to build for: `edgekit backend list`; or give --backend',
        'precision = "fp32"',
        *_match_lines(_match(machine)),
        *_hardware_lines(machine),
        "",
        "[run]",
        f"threads = {usable_threads(machine)}   # usable: {machine.usable_cores:g} of {machine.cores} cores,"
        " after affinity and quota",
        "",
        "[workload]   # the shape at which the limits are promised",
        "batch = 1",
        "sequence = 128",
        "",
        "# [budget]   # limits to prove; without one, validate has nothing to judge",
        "# latency_p90_ms = 20",
        "# peak_memory_mib = 500",
        "# accuracy_drop = 0.5   # points",
        "",
    ]
    return "\n".join(lines)


def write_target(text: str, output: Path, *, replace: bool = False) -> None:
    """Write a target file, whole or not at all. Raises OutputError; replaces only when told to."""
    if output.is_dir():
        raise OutputError(f"{output}: is a directory", hint="name the file, for example `kiosk.toml`")
    if output.exists() and not replace:
        raise OutputError(f"{output}: exists already", hint="give --force to replace it")
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8", newline="\n")
        fresh.replace(output)
    except OSError as problem:
        fresh.unlink(missing_ok=True)
        why = problem.strerror or str(problem)
        raise OutputError(f"{output}: cannot be written: {why}", hint="check the directory") from None


def _own_name(machine: Machine) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", _what(machine).casefold()).strip("-")
    return words[:64].rstrip("-") or "my-machine"


def _what(machine: Machine) -> str:
    return tidy(machine.device_tree) or tidy(machine.cpu) or machine.arch or "unknown machine"


def _match(machine: Machine) -> Match:
    return Match(
        arch=machine.arch,
        system=tidy(machine.system),
        cpu=_pattern(machine.cpu),
        device_tree=_pattern(machine.device_tree),
        gpu=_pattern(machine.gpu[0]) if machine.gpu else "",
        isa=tuple(word for word in machine.isa if word.isprintable() and word.split() == [word]),
        emulated=machine.emulated,
    )


def _gpu_arch(machine: Machine) -> str:
    """Of the first GPU: that is the one that engines take unless told otherwise."""
    return machine.gpu_arch[0] if machine.gpu_arch else ""


def _match_lines(match: Match) -> list[str]:
    lines = ["", "[match]   # how this machine is recognised: every line must hold; * ? [] are wildcards"]
    for key, text in (
        ("arch", match.arch),
        ("system", match.system),
        ("cpu", match.cpu),
        ("device_tree", match.device_tree),
        ("gpu", match.gpu),
    ):
        if text.strip():
            lines.append(f"{key} = {_quoted(text)}")
    if not (match.cpu or match.device_tree or match.gpu):
        lines.append("# This machine tells neither its CPU nor its board: others like it are taken for it.")
    if match.isa:
        lines.append(f"isa = {_quoted_list(match.isa)}")
    if match.emulated:
        lines.append("emulated = true   # this CPU is emulated: its times say nothing about real hardware")
    return lines


def _hardware_lines(machine: Machine) -> list[str]:
    facts = ["", "[hardware]"]
    if machine.cpu.strip():
        facts.append(f"cpu = {_quoted(machine.cpu.strip())}")
    facts += [f"cores = {max(0, machine.cores)}", f"memory_mib = {max(0, machine.memory_mib)}"]
    if machine.isa:
        facts.append(f"isa = {_quoted_list(machine.isa)}")
    if machine.gpu:
        facts.append(f"gpu = {_quoted(', '.join(machine.gpu))}")
    if _gpu_arch(machine):
        facts.append(f"gpu_arch = {_quoted(_gpu_arch(machine))}   # backends build for it")
    return [*facts, f"sources = [{_quoted(PROBED)}]"]


def _summary(machine: Machine) -> str:
    return f"{_plain(_what(machine))}, {machine.cores} cores, {machine.memory_mib} MiB"


def _pattern(text: str) -> str:
    """A shell pattern that matches `text` and nothing else, but for letters that cannot be written."""
    return "".join(letter if letter.isprintable() else "?" for letter in glob.escape(tidy(text)))


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's quoting is the same for printable text."""
    return json.dumps(_plain(text), ensure_ascii=False)


def _quoted_list(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(_quoted(word) for word in words) + "]"
