"""From a torch module with example inputs to a Subject."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.loading import refuse_bad_numbers, require
from edgekit.exporting.options import AUTO, CUSTOM, ExportOptions
from edgekit.exporting.subject import Case, Facts, Range, Subject
from edgekit_runtime.values import DTYPES

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.session import Array

#: Sizes tried for every axis that may vary; those outside its range are left out.
SIZES = (1, 2, 7, 13)
#: Inputs tried beside the example where no axis varies.
FIXED_CASES = 4
#: An axis of size 1 would be traced as the constant 1.
_LEAST_TRACED = 3


def load_module(
    module: torch.nn.Module, options: ExportOptions, known_ranges: Mapping[str, Range] | None = None
) -> Subject:
    """Check the module and its example inputs, and plan what to check.

    The module must be in eval mode on the CPU in fp32: what is exported is exactly what was given.
    known_ranges: of axes whose ends the source itself knows.
    """
    require("onnxscript")
    examples = _examples(module, options)
    axes: Mapping[str, Mapping[int, str]] = (
        {name: {} for name in examples} if options.static else _axes(examples, options)
    )
    given: Mapping[str, Range] = {**(known_ranges or {}), **options.axis_ranges}
    ranges = {name: given.get(name, (1, None)) for named in axes.values() for name in named.values()}
    example_sizes = _sizes(examples, axes)
    traced = {name: _traced_size(example_sizes[name], ranges[name]) for name in example_sizes}
    varied = Variations(examples=examples, axes=axes, seed=options.seed)
    call = _caller(module, tuple(examples), options.output_names)
    return Subject(
        module=module,
        call=call,
        facts=Facts(
            task=CUSTOM,
            answers="tensor",
            axes=axes,
            source=_source(module, options),
        ),
        trace=varied.at(traced),
        ranges=ranges,
        outputs=_output_names(call, examples, options),
        cases=list(_cases(examples, varied, example_sizes, traced, ranges)),
    )


def _source(module: torch.nn.Module, options: ExportOptions) -> dict[str, str]:
    shape = {"shape": "fixed: as the example inputs"} if options.static else {}
    return {"kind": "torch module", "class": type(module).__qualname__, **shape}


def weights_digest(module: torch.nn.Module) -> str:
    """Digest of a module's class name and weights."""
    if not callable(getattr(module, "state_dict", None)):
        raise UsageError(
            f"a {type(module).__name__} is no model source", hint="give a folder or a torch.nn.Module"
        )
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return "sha256:" + digest.hexdigest()


def refuse_unready(module: torch.nn.Module) -> None:
    """Raise SourceError unless the module is in eval mode, on the CPU, in fp32, and of finite weights."""
    import torch

    if module.training:
        raise SourceError("the module is in training mode", hint="call module.eval() first")
    for name, weight in module.state_dict().items():
        if weight.device.type != "cpu" or (weight.is_floating_point() and weight.dtype != torch.float32):
            raise SourceError(
                f"the weight {name!r} is {weight.dtype} on {weight.device}; fp32 on the CPU is exported",
                hint="call module.cpu().float() first",
            )
    refuse_bad_numbers(module, "the module")


def _examples(module: torch.nn.Module, options: ExportOptions) -> dict[str, Array]:
    if options.task not in (AUTO, CUSTOM):
        raise UsageError(
            f"this source is exported as task 'custom', not {options.task!r}",
            hint="to keep the task, give the torch module itself with `processor`, or a folder",
        )
    if not options.example_inputs:
        raise UsageError(
            "a torch module needs example_inputs",
            hint='example_inputs={"x": torch.zeros(2, 3)}, by forward\'s names',
        )
    refuse_unready(module)
    return {name: _example(name, tensor) for name, tensor in options.example_inputs.items()}


def _example(name: str, tensor: object) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise UsageError(f"example_inputs[{name!r}] is a {type(tensor).__name__}", hint="give a torch.Tensor")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UsageError(f"example_inputs[{name!r}] is {dtype}", hint=f"supported: {', '.join(DTYPES)}")
    array: Array = tensor.detach().cpu().numpy()
    return array


def _axes(examples: Mapping[str, Array], options: ExportOptions) -> dict[str, dict[int, str]]:
    for name in options.dynamic_axes:
        if name not in examples:
            raise UsageError(
                f"dynamic_axes: {name!r} is no example input", hint=f"known: {', '.join(examples)}"
            )
    axes = {name: dict(options.dynamic_axes.get(name, {})) for name in examples}
    for name, named in axes.items():
        for axis in named:
            if not 0 <= axis < examples[name].ndim:
                shape = list(examples[name].shape)
                raise UsageError(f"dynamic_axes: {name!r} has no axis {axis}", hint=f"its shape is {shape}")
    known = {word for named in axes.values() for word in named.values()}
    for name, (low, high) in options.axis_ranges.items():
        if name not in known or not 1 <= low < high:
            raise UsageError(
                f"axis_ranges: {name!r}: {low} to {high}",
                hint=f"an axis of dynamic_axes ({', '.join(sorted(known)) or 'none'}), lowest first, from 1",
            )
    return axes


def _sizes(examples: Mapping[str, Array], axes: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for key, named in axes.items():
        for axis, name in named.items():
            size = int(examples[key].shape[axis])
            if sizes.setdefault(name, size) != size:
                raise UsageError(
                    f"the axis {name!r} is {sizes[name]} in one example input and {size} in {key!r}",
                    hint="axes of one name have one size; give the other a name of its own",
                )
    return sizes


def _traced_size(size: int, limits: Range) -> int:
    low, high = limits
    return min(max(size, low or 1, _LEAST_TRACED), high or size + _LEAST_TRACED)


def _cases(
    examples: Mapping[str, Array],
    varied: Variations,
    example_sizes: Mapping[str, int],
    traced: Mapping[str, int],
    ranges: Mapping[str, Range],
) -> Iterator[Case]:
    """The example itself, then other sizes: all axes together, and each by itself."""
    yield Case(name="the example inputs", feeds=examples, golden=True)
    seen = [dict(example_sizes), dict(traced)]
    wanted = [dict.fromkeys(traced, size) for size in SIZES]
    wanted += [
        {**traced, name: size} for name, (low, high) in ranges.items() for size in (*SIZES, low, high) if size
    ]
    for asked in wanted:
        sizes = {name: _within(size, ranges[name]) for name, size in asked.items()}
        if sizes and sizes not in seen:
            seen.append(sizes)
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            yield Case(name=f"random values, {shown}", feeds=varied.at(sizes), golden=True)
    if not traced:
        for number in range(1, FIXED_CASES + 1):
            yield Case(name=f"random values {number}", feeds=varied.at({}), golden=True)


def _within(size: int, limits: Range) -> int:
    low, high = limits
    return max(low or 1, min(size, high or size))


class Variations:
    """Inputs of other sizes, drawn from the example's own values so that they stay legal."""

    def __init__(
        self, *, examples: Mapping[str, Array], axes: Mapping[str, Mapping[int, str]], seed: int
    ) -> None:
        self._examples = examples
        self._axes = axes
        self._rng = np.random.default_rng(seed)

    def at(self, sizes: Mapping[str, int]) -> dict[str, Array]:
        """Inputs at these sizes of the named axes."""
        return {name: self._vary(array, self._axes[name], sizes) for name, array in self._examples.items()}

    def _vary(self, example: Array, axes: Mapping[int, str], sizes: Mapping[str, int]) -> Array:
        shape = [sizes[axes[at]] if at in axes else size for at, size in enumerate(example.shape)]
        if not example.size:
            return np.zeros(shape, dtype=example.dtype)
        drawn: Array = self._rng.choice(example.reshape(-1), size=shape).astype(example.dtype)
        spread = example.dtype.kind == "f" and np.unique(example).size > 8
        if spread:  # a measurement, not a mask or a code: values between the example's are legal too
            noise = self._rng.normal(0, 0.1 * float(example.std()), size=shape)
            drawn = (drawn + noise).astype(example.dtype)
        return drawn


# --- outputs ------------------------------------------------------------------------------------------


def _caller(
    module: torch.nn.Module, inputs: tuple[str, ...], names: tuple[str, ...]
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    named = takes(module, inputs)

    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if named:
            flat = flatten(module(**{name: feeds[name] for name in inputs}))
        else:
            flat = flatten(module(*(feeds[name] for name in inputs)))
        return dict(zip(names, flat.values(), strict=True)) if names else flat

    return call


def takes(module: torch.nn.Module, inputs: tuple[str, ...]) -> bool:
    """Whether forward knows the inputs by name. If not one of them (a Sequential), they go by position."""
    parameters = inspect.signature(module.forward).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return takes_any or any(name in parameters for name in inputs)


def flatten(result: object) -> dict[str, torch.Tensor]:
    """The module's tensors by name: its own keys, or output, output_1, ..."""
    import torch

    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        items = [(str(name), value) for name, value in result.items()]
    elif isinstance(result, tuple | list):
        items = [(f"output_{at}", value) for at, value in enumerate(result)]
    else:
        items = []
    flat = {name: value for name, value in items if isinstance(value, torch.Tensor)}
    if not flat or len(flat) != len(items):
        found = type(result).__name__
        raise SourceError(
            f"the module gives a {found} that is not a tensor, a tuple or a dict of tensors",
            hint="wrap it in a module whose forward returns the tensors to export",
        )
    return flat


def _output_names(
    call: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]],
    examples: Mapping[str, Array],
    options: ExportOptions,
) -> tuple[str, ...]:
    """Run the module once on its example inputs: they must fit it before anything is traced."""
    import torch

    with torch.inference_mode():
        try:
            names = tuple(call({name: torch.from_numpy(array) for name, array in examples.items()}))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as problem:
            raise SourceError(
                f"the module does not run on its example inputs: {problem}",
                hint="example_inputs go to forward by name, or in order when it knows none of the names; "
                "output_names must be as many as its outputs",
            ) from problem
    if len(set(names)) != len(names) or set(names) & set(examples):
        raise UsageError(
            f"outputs {', '.join(names)} must differ from each other and from the inputs",
            hint="give output_names",
        )
    return names
