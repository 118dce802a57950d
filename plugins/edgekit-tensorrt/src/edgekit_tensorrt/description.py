"""What an artifact says of itself: `engine.json` beside `engine.plan`.

TensorRT's own plan tells neither the names of symbolic axes nor, before it is loaded, what it was
built for; and a plan must be trusted before the library sees it. So the compiler writes down what
it built, with the plan's digest, and the opener reads that first. Runs where edgekit is not installed.
"""

from __future__ import annotations

import hashlib
import platform
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import OpenFailed, ProtocolError
from edgekit_runtime.strictjson import check_schema, dump_json, read_json_file
from edgekit_runtime.values import Signature
from edgekit_tensorrt.library import RTX, STANDARD

PLAN_FILE = "engine.plan"
DESCRIPTION_FILE = "engine.json"

SCHEMA = 1

_AGAIN = "the artifact is damaged: compile the model again, or copy it again from where it was made"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

#: Magic, 12 bytes, size of the plan, version, magic again, architectures as bits.
_MAGIC = b"vtrt"
_HEADER = struct.Struct("<16sQ4s4sI")
_ARCHITECTURE_BITS = {
    "sm_75": 0x01,
    "sm_80": 0x02,
    "sm_86": 0x04,
    "sm_89": 0x08,
    "sm_120": 0x10,
    "sm_121": 0x20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRange:
    """Shapes that one profile takes of one input. usual: what the engine was optimised for."""

    name: str
    smallest: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One optimisation profile: a range for every input that has a symbolic axis."""

    ranges: tuple[InputRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDescription:
    """Of an engine. library: "tensorrt-rtx" or "tensorrt"; version: that of the library, "1.7.1.116".

    architectures: GPUs it was built for, as "sm_89"; system: operating system and CPU, as
    "linux-x86_64"; profiles: in the engine's order, none when every axis is fixed; plan_bytes and
    plan_sha256: of `engine.plan`, filled in by `write`.
    """

    library: str
    version: str
    architectures: tuple[str, ...]
    system: str
    precision: str
    signature: Signature
    profiles: tuple[Profile, ...] = ()
    plan_bytes: int = 0
    plan_sha256: str = ""

    def write(self, directory: Path) -> EngineDescription:
        """Write `engine.json` into `directory`, where `engine.plan` is already; return what was written."""
        size, digest = _digest(directory / PLAN_FILE)
        full = replace(self, plan_bytes=size, plan_sha256=digest)
        data = {"schema": SCHEMA, "engine": to_json(full)}
        (directory / DESCRIPTION_FILE).write_bytes(dump_json(data))
        return full


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What the opener has, in the words of `EngineDescription`; "" for what is not known.

    version: that of the library that the engine names.
    """

    version: str = ""
    architecture: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHeader:
    """The head of a TensorRT-RTX plan. size: of the whole plan, in bytes; version: of the library."""

    size: int
    version: str
    architectures: tuple[str, ...]


def this_system() -> str:
    """Operating system and CPU of this machine, as "linux-x86_64"; plans do not move between them."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"


def read_description(directory: Path) -> EngineDescription:
    """What the compiler wrote, its own words made sense of. The plan is not read. Raises `OpenFailed`."""
    path = directory / DESCRIPTION_FILE
    try:
        data = read_json_file(path, error=OpenFailed)
        check_schema(data, SCHEMA, where=str(path), error=OpenFailed)
        engine = data.get("engine") if isinstance(data, dict) else None
        found = from_json(EngineDescription, engine, f"{path}: engine")
    except OpenFailed as error:
        raise OpenFailed(error.message, hint=error.hint or _AGAIN) from error
    except ProtocolError as error:
        raise OpenFailed(error.message, hint=_AGAIN) from error
    problem = _nonsense(found)
    if problem:
        raise OpenFailed(f"{path}: {problem}", hint=_AGAIN)
    return found


def read_plan(directory: Path, description: EngineDescription) -> bytes:
    """The bytes of `engine.plan`: those described, built for what they say. Raises `OpenFailed`.

    A plan holds machine code, and the library checks little of it; so its digest is checked here.
    """
    path = directory / PLAN_FILE
    try:
        plan = path.read_bytes()
    except FileNotFoundError as error:
        raise OpenFailed(f"{path} is missing", hint=_AGAIN) from error
    except OSError as error:
        raise OpenFailed(f"{path} cannot be read: {error.strerror or error}") from error
    if len(plan) != description.plan_bytes:
        raise OpenFailed(f"{path} has {len(plan)} bytes; {description.plan_bytes} were written", hint=_AGAIN)
    if hashlib.sha256(plan).hexdigest() != description.plan_sha256:
        raise OpenFailed(f"{path} is not the plan that {DESCRIPTION_FILE} describes", hint=_AGAIN)
    if description.library == RTX:
        problem = _header_problem(read_header(plan), description)
        if problem:
            raise OpenFailed(f"{path}: {problem}", hint=_AGAIN)
    return plan


def read_header(plan: bytes) -> PlanHeader | None:
    """The head of a TensorRT-RTX plan; None for bytes that are none.

    Its layout is not documented: read off plans of 1.7.1, built for each architecture in turn. That
    of standard TensorRT is not known here.
    """
    if len(plan) < _HEADER.size or plan[:4] != _MAGIC:
        return None
    _, size, version, _, mask = _HEADER.unpack_from(plan)
    return PlanHeader(
        size=size,
        version=".".join(str(part) for part in version),
        architectures=tuple(word for word, bit in _ARCHITECTURE_BITS.items() if mask & bit),
    )


def mismatch(description: EngineDescription, here: Here) -> str:
    """Why the engine cannot run on what is `here`, both sides named; "" when it can.

    An engine runs with the library of the very version that built it, on a GPU of an architecture
    that it was built for, under the same system. What is not known of `here` is not compared.
    """
    built_by = f"{description.library} {description.version}"
    if here.system and here.system != description.system:
        return f"the engine was built for {description.system}; this machine is {here.system}"
    if here.version and here.version != description.version:
        return f"the engine was built by {built_by}; version {here.version} is installed here"
    if here.architecture and here.architecture not in description.architectures:
        built_for = ", ".join(description.architectures)
        return f"the engine was built for {built_for}; the GPU here is {here.architecture}"
    return ""


def rebuild_hint(description: EngineDescription, here: Here) -> str:
    """How to get an engine that runs on what is `here`."""
    if here.version and here.version != description.version:
        return (
            f"install {description.library} {description.version} here, "
            f"or compile the model again with {description.library} {here.version}"
        )
    if here.architecture and description.library == RTX:
        return f'compile the model again with the option architectures = "{here.architecture}" added'
    return "compile the model again on this machine, or for a target that is like it"


def _nonsense(found: EngineDescription) -> str:
    """What contradicts itself in a description; "" when nothing does."""
    if found.library not in (RTX, STANDARD):
        return f"library {found.library!r} is neither {RTX} nor {STANDARD}"
    if not found.architectures or not found.version or not found.system:
        return "it does not say for what the engine was built"
    inputs = {spec.name: spec for spec in found.signature.inputs}
    for profile in found.profiles:
        for item in profile.ranges:
            rank = len(inputs[item.name].shape) if item.name in inputs else -1
            if {len(item.smallest), len(item.usual), len(item.largest)} != {rank}:
                return f"a profile's range of {item.name!r} fits no input"
    return ""


def _header_problem(header: PlanHeader | None, description: EngineDescription) -> str:
    """In what the plan contradicts its description; "" when it does not."""
    if header is None:
        return "it is no TensorRT-RTX engine"
    if header.size != description.plan_bytes:
        return f"its head says {header.size} bytes, but it has {description.plan_bytes}"
    if header.version != description.version:
        return f"its head says version {header.version}, {DESCRIPTION_FILE} says {description.version}"
    if not set(description.architectures) <= set(header.architectures):
        return (
            f"it was built for {', '.join(header.architectures)}, not {', '.join(description.architectures)}"
        )
    return ""


def _digest(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
