"""What `edgekit.export` may be told, with the defaults and why they are so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.files.digests import tree_digest
from edgekit.values import Tolerance

if TYPE_CHECKING:
    import torch

#: torch.onnx writes opset 18 natively; 20 brings Gelu as one node instead of five.
DEFAULT_OPSET = 20
OPSETS = range(18, 24)

#: Two right graphs of one classifier differ by fp32 rounding, summed in another order: at most 4e-6 for a
#: 6-layer encoder with logits up to 3, 2e-5 for 24 layers. The smallest wrong graphs measured on the
#: former: one weight matrix rounded to fp16 1e-4, another layer-norm epsilon 2e-4, one approximated
#: activation 9e-4. The tolerance lies between.
DEFAULT_TOLERANCE = Tolerance(atol=5e-5, rtol=1e-5)

AUTO = "auto"
CUSTOM = "custom"
SHORTEST_MAX_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export.

    task: "auto" reads it from the source; a module is "custom", or serves a built-in task with `processor`.
    max_length: tokens a row may have; by default the most that tokenizer and model take.
    max_new_tokens: tokens that a model may generate; by default what its generation_config says, else 256.
    language: of what it generates, as its tokenizer writes it ("de_DE", "deu_Latn", "de"), where the model
    begins its answers with a language; by default what its generation_config says.
    allow_pickle: read *.bin weights (tensors only); trust_remote_code: run code of the folder.
    processor: for a module with a task, the directory of its processor or settings of one (ImageSettings,
    AudioSettings); labels: of its classes, in order. The task names its inputs, axes and outputs.
    static: fix every axis, at the longest row or the first example; for models that allow no other size.
    example_inputs, dynamic_axes, axis_ranges, output_names: for a torch module of no task, which has no
    config. Inputs go to forward by name, or in order when it knows none of the names.
    `dynamic_axes={"x": {0: "batch"}}` names the axes that may vary; equal names are equal sizes;
    `axis_ranges={"sequence": (1, 512)}` says how far an axis may go, of an ONNX file too.
    force: export again even when the output is up to date.
    base: the folder of an adapter's base model, when its config does not lead there.
    revision: branch, tag or commit of a hub model.
    name: the model's name; by default that of the output directory.
    """

    task: str = AUTO
    opset: int = DEFAULT_OPSET
    tolerance: Tolerance = DEFAULT_TOLERANCE
    max_length: int | None = None
    max_new_tokens: int | None = None
    language: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    example_inputs: Mapping[str, torch.Tensor] | None = None
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    axis_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    output_names: tuple[str, ...] = ()
    processor: object | None = None
    labels: Sequence[str] = ()
    static: bool = False
    seed: int = 0
    force: bool = False
    base: Path | None = None
    revision: str | None = None
    name: str = ""

    def check(self) -> None:
        """Raise UsageError for a value that makes no sense by itself."""
        if self.opset not in OPSETS:
            known = f"{OPSETS.start} to {OPSETS.stop - 1}"
            raise UsageError(f"opset {self.opset} cannot be written", hint=f"choose one of {known}")
        if not (0 <= self.tolerance.atol < 1 and 0 <= self.tolerance.rtol < 1):
            raise UsageError(
                f"tolerance {self.tolerance.atol:g}, {self.tolerance.rtol:g}: both must be in [0, 1)",
                hint=f"the default is {DEFAULT_TOLERANCE.atol:g}, {DEFAULT_TOLERANCE.rtol:g}",
            )
        if self.max_length is not None and self.max_length < SHORTEST_MAX_LENGTH:
            raise UsageError(
                f"max_length {self.max_length} leaves no room for a text beside its special tokens",
                hint=f"give at least {SHORTEST_MAX_LENGTH}",
            )
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageError(
                f"max_new_tokens {self.max_new_tokens} leaves no room for an answer", hint="give at least 1"
            )
        if isinstance(self.labels, str):
            raise UsageError("labels is one text", hint='give a list, such as ["cat", "dog"]')
        twice = sorted({label for label in self.labels if list(self.labels).count(label) > 1})
        if twice:
            raise UsageError(f"labels: {twice[0]!r} is there twice", hint="each class needs its own word")

    def deciding(self) -> dict[str, object]:
        """The options that decide what the output holds, for its inputs digest."""
        return {
            "task": self.task,
            "opset": self.opset,
            "tolerance": [self.tolerance.atol, self.tolerance.rtol],
            "max_length": self.max_length,
            "max_new_tokens": self.max_new_tokens,
            "language": self.language,
            "allow_pickle": self.allow_pickle,
            "trust_remote_code": self.trust_remote_code,
            "seed": self.seed,
            "axis_ranges": {name: list(limits) for name, limits in self.axis_ranges.items()},
            "name": self.name,
            "processor": self._processor_digest(),
            "labels": list(self.labels),
            "static": self.static,
        }

    def _processor_digest(self) -> str:
        """Of a directory its content, of settings what they hold."""
        if isinstance(self.processor, str | Path):
            return tree_digest(Path(self.processor)) if Path(self.processor).exists() else ""
        return "" if self.processor is None else repr(self.processor)


def parse_tolerance(text: str) -> Tolerance:
    """Read "ATOL" or "ATOL,RTOL". Raises UsageError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(
            f"--tolerance: {text!r} is not ATOL or ATOL,RTOL",
            hint=f"the default is {DEFAULT_TOLERANCE.atol:g},{DEFAULT_TOLERANCE.rtol:g}",
        )
    return Tolerance(atol=numbers[0], rtol=numbers[1] if len(numbers) == 2 else DEFAULT_TOLERANCE.rtol)


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Read "NAME=LOWEST:HIGHEST", each for one axis. Raises UsageError."""
    ranges = {}
    for text in texts:
        name, _, limits = text.partition("=")
        low, _, high = limits.partition(":")
        if not (name and low.isdecimal() and high.isdecimal() and 1 <= int(low) < int(high)):
            raise UsageError(
                f"--axis: {text!r} is not NAME=LOWEST:HIGHEST", hint="such as --axis sequence=1:512"
            )
        ranges[name] = (int(low), int(high))
    return ranges
