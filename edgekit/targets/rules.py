"""What the types of a target file cannot say: signs, ranges, words. One TargetFileError per breach."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from edgekit.errors import TargetFileError
from edgekit.files.tables import nearest
from edgekit.targets.budgets import budget_items, limit_problem
from edgekit.values import AUTO, Hardware, Match, Target, Workload
from edgekit_runtime.values import PRECISIONS, OptionValue

#: Axes that have a key of their own in [workload].
KNOWN_AXES = ("batch", "sequence", "height", "width", "samples")
MAX_SIZE = 2**31 - 1
MAX_THREADS = 4096
#: A launch runs every shape of a mix several times.
MAX_SHAPES = 16
MAX_STREAMS = 64
MAX_HEAT_SECONDS = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: (key, why it is wrong, what to do)
Breach = tuple[str, str, str]


def check_values(target: Target, where: str) -> None:
    """Raise TargetFileError for the first value of the target that makes no sense."""
    for key, problem, hint in _breaches(target):
        raise TargetFileError(f"{where}: `{key}` {problem}", hint=hint)


def name_problem(name: str) -> str:
    """Why `name` cannot name a target; empty when it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"is {name!r}: a name is 1 to 64 letters, digits and . _ -, a letter or digit first"


def _breaches(target: Target) -> Iterator[Breach]:
    yield from _words(target)
    yield from _match(target.match)
    yield from _sizes(target)
    yield from _gpu(target.hardware)
    yield from _options("compile.options", target.compile.options)
    yield from _options("run.options", target.run.options)
    for key, limit in budget_items(target.budget):
        problem = limit_problem(key, limit)
        if problem:
            yield f"budget.{key}", f"is {limit:g}: {problem}", "leave the key out for no limit"


def _words(target: Target) -> Iterator[Breach]:
    problem = name_problem(target.name)
    if problem:
        yield "name", problem, "for example `kiosk` or `raspberry-pi-5-8gb`"
    if not target.summary.isprintable():
        yield "summary", "is more than one line", "keep it to one line"
    if target.backend and not _NAME.fullmatch(target.backend):
        yield "backend", f"is {target.backend!r}: not a backend's name", "`edgekit backend list` shows them"
    if target.precision not in (*PRECISIONS, AUTO):
        known = (*PRECISIONS, AUTO)
        yield "precision", f"is {target.precision!r}: not a precision", nearest(target.precision, known)
    if target.compile.builds_on not in ("", "target"):
        problem = f"is {target.compile.builds_on!r}: `target` is the one word there is"
        yield "compile.builds_on", problem, "leave the key out to build as the backend does"
    for word in target.compile.auto:
        if word not in PRECISIONS:
            yield "compile.auto", f"holds {word!r}: not a precision", nearest(word, PRECISIONS)
    for key, text in (("run.device", target.run.device), ("device.uri", target.device.uri)):
        if not text.strip() or not text.isprintable():
            yield key, f"is {text!r}: a word is needed", "leave the key out for the default"


def _match(match: Match) -> Iterator[Breach]:
    for key in ("arch", "system", "cpu", "device_tree", "gpu"):
        text: str = getattr(match, key)
        if text and not text.strip():
            yield f"match.{key}", "is blank", "leave the key out to match everything"
    for word in match.isa:
        if not word or not word.isprintable() or any(letter.isspace() for letter in word):
            yield "match.isa", f"holds {word!r}: not a CPU feature", "use words such as `avx2`, `asimddp`"


def _gpu(hardware: Hardware) -> Iterator[Breach]:
    arch = hardware.gpu_arch
    if arch and not _NAME.fullmatch(arch):
        yield "hardware.gpu_arch", f"is {arch!r}: not a word", "for example `sm_89`"
    for mode in hardware.power_modes:
        if not mode.strip() or not mode.isprintable():
            yield "hardware.power_modes", f"holds {mode!r}: a name is needed", "for example `15W`"


def _sizes(target: Target) -> Iterator[Breach]:
    if not 1 <= target.run.threads <= MAX_THREADS:
        yield (
            "run.threads",
            f"is {target.run.threads}: 1 to {MAX_THREADS} are possible",
            "one per usable core",
        )
    for key in ("cores", "memory_mib", "gpu_memory_mib"):
        fact: int = getattr(target.hardware, key)
        if not 0 <= fact <= MAX_SIZE:
            yield f"hardware.{key}", f"is {fact}: 0 to {MAX_SIZE} is possible", "leave out what is unknown"
    yield from workload_breaches(target.workload)


def workload_breaches(workload: Workload) -> Iterator[Breach]:
    """What makes no sense in a workload, whatever the model."""
    sizes = [(f"workload.{axis}", getattr(workload, axis)) for axis in KNOWN_AXES]
    sizes += [(f"workload.axes.{axis}", size) for axis, size in workload.axes.items()]
    for number, shape in enumerate(workload.shapes):
        sizes += [(f"workload.shapes[{number}].{axis}", size) for axis, size in shape.items()]
    for key, size in sizes:
        if not 1 <= size <= MAX_SIZE:
            yield key, f"is {size}: an axis has 1 to {MAX_SIZE} elements", "leave an axis out for its default"
    for axis in workload.axes:
        if axis in KNOWN_AXES:
            yield f"workload.axes.{axis}", "has a key of its own", f"write `{axis} = ...` in [workload]"
    for table, axes in [
        ("axes", workload.axes),
        *((f"shapes[{n}]", s) for n, s in enumerate(workload.shapes)),
    ]:
        for axis in axes:
            if not axis.strip() or not axis.isprintable():
                yield (
                    f"workload.{table}.{axis!r}",
                    "is no name of an axis",
                    "use the model's own names of axes",
                )
    yield from _use(workload)


def _use(workload: Workload) -> Iterator[Breach]:
    """Mixes, rows, streams and heat."""
    if len(workload.shapes) > MAX_SHAPES:
        problem = f"holds {len(workload.shapes)} shapes: at most {MAX_SHAPES} can be measured together"
        yield "workload.shapes", problem, "take the shapes that differ most"
    for number, shape in enumerate(workload.shapes):
        if not shape:
            yield f"workload.shapes[{number}]", "is empty", "for example {sequence = 16}"
    if workload.shapes and workload.from_data:
        hint = "take one of them out; `from_data = false` and `shapes = []` undo an inherited one"
        yield "workload.from_data", "is true, and `workload.shapes` gives shapes too", hint
    if workload.from_data and workload.batch != 1:
        hint = "set `batch = 1`, or give shapes instead"
        yield "workload.batch", f"is {workload.batch}, but `from_data` runs rows one by one", hint
    if not 1 <= workload.streams <= MAX_STREAMS:
        problem = f"is {workload.streams}: 1 to {MAX_STREAMS} are possible"
        yield "workload.streams", problem, "leave the key out for one stream of runs"
    if not 0 <= workload.heat_seconds <= MAX_HEAT_SECONDS:
        problem = f"is {workload.heat_seconds:g}: 0 to {MAX_HEAT_SECONDS:g} seconds are possible"
        yield "workload.heat_seconds", problem, "leave the key out for no heat-up"


def _options(table: str, options: Mapping[str, OptionValue]) -> Iterator[Breach]:
    for name, value in options.items():
        if not _NAME.fullmatch(name):
            yield f"{table}.{name!r}", "is no name of an option", "`edgekit backend list` shows the options"
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{table}.{name}", f"is {value}: not finite", "leave the option out for its default"
