"""How NNCF is called, and how the graph that it gives back is read."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence

import nncf

from edgekit.api import CompileFailed, InputError, PrecisionNotGiven
from edgekit_openvino.engine import ov
from edgekit_openvino.names import MULTIPLIES

#: Between a stored value and the product that reads it there may stand these.
_PASS_ON = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")
_MOST_STEPS = 6


@contextlib.contextmanager
def library(what: str, hint: str) -> Iterator[None]:
    """Call NNCF in here. Raises `CompileFailed`, "NNCF could not WHAT", with its reason.

    It draws progress bars on stdout; progress is told through the callback instead.
    """
    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except InputError:
        raise
    except (nncf.ValidationError, nncf.InternalError, nncf.ParameterNotSupportedError) as error:
        raise CompileFailed(f"NNCF could not {what}: {error}") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise CompileFailed(f"NNCF could not {what}: {type(error).__name__}: {error}", hint=hint) from error


def scope(ignored: Sequence[str]) -> nncf.IgnoredScope | None:
    """OpenVINO's names that stay high, as NNCF takes them."""
    return nncf.IgnoredScope(names=list(ignored)) if ignored else None


def products(model: ov.Model) -> list[ov.Node]:
    """Multiplications and convolutions."""
    return [node for node in model.get_ops() if node.get_type_name() in MULTIPLIES]


def origin(source: ov.Input) -> ov.Node:
    """The node that an input's value comes from, past what only unpacks or moves it."""
    node = source.get_source_output().get_node()
    for _ in range(_MOST_STEPS):
        if node.get_type_name() not in _PASS_ON:
            break
        node = node.input(0).get_source_output().get_node()
    return node


def check_kept(model: ov.Model, ignored: Sequence[str], is_low: Callable[[ov.Node], bool]) -> None:
    """Raise `PrecisionNotGiven` when a product that was to stay high is low all the same."""
    for node in products(model):
        if node.get_friendly_name() in ignored and is_low(node):
            raise PrecisionNotGiven(f"{node.get_friendly_name()!r} was to be kept high and was not")
