"""Whether a folder's weights are all there, whole, and safe to read. No torch, no weights in memory."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import SourceError, UnsafeSource
from edgekit.files.tables import read_json

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_INDEX = ".index.json"
_OTHERS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.safetensors")
_MAX_HEADER = 100 * 1024 * 1024
_LFS = b"version https://git-lfs"
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight files that will be loaded. pickle: they are torch pickles, not safetensors.

    dtypes: of the floating-point tensors, in torch's words, the most bytes first; () of pickles.
    """

    files: tuple[Path, ...]
    pickle: bool
    dtypes: tuple[str, ...] = ()


def find_weights(folder: Path, allow_pickle: bool) -> Weights:
    """The weights of a transformers folder, each file checked for being whole.

    Raises SourceError for missing or truncated files, UnsafeSource for pickles without consent.
    """
    for name in (SAFETENSORS, SAFETENSORS + _INDEX):
        if (folder / name).is_file():
            tensors = _shards(folder / name) if name.endswith(_INDEX) else {folder / name: ()}
            sizes: Counter[str] = Counter()
            for path, expected in tensors.items():
                sizes += check_safetensors(path, expected)
            dtypes = tuple(_FLOATS[word] for word, _ in sizes.most_common() if word in _FLOATS)
            return Weights(files=tuple(tensors), pickle=False, dtypes=dtypes)
    for name in (PICKLE, PICKLE + _INDEX):
        if (folder / name).is_file():
            files = tuple(_shards(folder / name)) if name.endswith(_INDEX) else (folder / name,)
            return _pickles(files, allow_pickle)
    raise _no_weights(folder)


def check_safetensors(path: Path, expected: Sequence[str] = ()) -> Counter[str]:
    """Bytes of each dtype, in the words of the format.

    Raises SourceError unless the header is sound, holds `expected` and ends where the file does.
    """
    size = _whole_size(path)
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged(path, "its header is cut off or is not one")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError):
            raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    missing = next((name for name in expected if name not in tensors), None)
    if missing is not None:
        raise SourceError(
            f"{path}: lacks the tensor {missing!r} that the index promises", hint="get the weights again"
        )
    ends = max((_end(path, name, entry) for name, entry in tensors.items()), default=0)
    if ends != size - 8 - length:
        raise _damaged(path, f"it should hold {8 + length + ends} bytes and holds {size}")
    sizes: Counter[str] = Counter()
    for entry in tensors.values():
        start, end = entry["data_offsets"]
        sizes[str(entry.get("dtype"))] += end - start
    return sizes


def _end(path: Path, name: str, entry: object) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, Mapping) else None
    whole = isinstance(offsets, list) and len(offsets) == 2 and all(type(value) is int for value in offsets)
    if not whole:
        raise _damaged(path, f"the entry of {name!r} has no data_offsets")
    return int(offsets[1])  # type: ignore[index]


def _shards(index: Path) -> dict[Path, list[str]]:
    """Shard -> the tensors the index says it holds; each shard is there."""
    table = read_json(index, SourceError)
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{index}: has no weight_map", hint="get the weights again")
    shards: dict[Path, list[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise SourceError(f"{index}: {name!r} is not the name of a file beside it", hint="do not use it")
        shards.setdefault(index.parent / name, []).append(tensor)
    for path in shards:
        if not path.is_file():
            raise SourceError(
                f"{path}: this shard of the weights is missing ({len(shards)} are listed)",
                hint=f"put it beside {index.name}",
            )
    return shards


def _pickles(files: tuple[Path, ...], allow_pickle: bool) -> Weights:
    for path in files:
        _whole_size(path)
    if not allow_pickle:
        raise UnsafeSource(
            f"{files[0]}: these weights are a pickle, which can run code when it is read",
            hint="save the model as safetensors (`model.save_pretrained(folder)`), or give --allow-pickle:"
            " tensors only are then read",
        )
    return Weights(files=files, pickle=True)


def _whole_size(path: Path) -> int:
    size = path.stat().st_size
    if size == 0:
        raise _damaged(path, "it is empty")
    with path.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise SourceError(
                f"{path}: is a Git LFS pointer, not the weights", hint="fetch them: `git lfs pull`"
            )
    return size


def _damaged(path: Path, why: str) -> SourceError:
    return SourceError(f"{path}: damaged or truncated: {why}", hint="get the weights again")


def _no_weights(folder: Path) -> SourceError:
    others = sorted({path.name for pattern in _OTHERS for path in folder.glob(pattern)})
    seen = f"; found {', '.join(others[:5])}, which are not what transformers loads" if others else ""
    return SourceError(
        f"{folder}: no weights ({SAFETENSORS}){seen}",
        hint="save the model with `model.save_pretrained(folder)`",
    )
