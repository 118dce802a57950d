"""What becomes of a recording before a model hears it, as processor.json keeps it.

{"schema": 1, "kind": "audio", "inputs": ["input_values", "attention_mask"], "features": "waveform",
 "rate": 16000, "shortest": 400, "longest": 480000, "normalize": true, "padding_value": 0.0}

Of "log-mel" and "fbank", which have no key "normalize", also "hop"; of "fbank" also "mean" and "std",
null where nothing is normalized. Their window and filters lie beside it, in bank.safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit_runtime.errors import ProcessorError
from edgekit_runtime.processors.base import PROCESSOR_FILE, PROCESSOR_SCHEMA
from edgekit_runtime.processors.spectrogram import Bank
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields, check_schema, nearest, number, read_json_file

WAVEFORM, LOG_MEL, FBANK = "waveform", "log-mel", "fbank"
#: Kind of features -> the keys that it has beyond those of all.
FEATURES = {WAVEFORM: ("normalize",), LOG_MEL: ("hop",), FBANK: ("hop", "mean", "std")}
#: Inputs that a recording becomes: one of the first, and of waveforms perhaps the mask.
AUDIO_INPUTS, MASK = ("input_values", "input_features"), "attention_mask"
BANK_FILE = "bank.safetensors"

_KEYS = ("schema", "kind", "inputs", "features", "rate", "shortest", "longest", "padding_value")
#: Beyond these a file is damaged: no model hears so long, and no number of it is so large.
_MOST_SAMPLES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSettings:
    """The content of processor.json.

    features: a word of `FEATURES`; rate: samples in a second that the model takes; shortest, longest:
    samples at that rate; shorter recordings are refused, longer ones cut to a spectrogram's length and
    refused as a waveform; normalize: a waveform to mean 0 and variance 1; padding_value: what
    follows the end; hop: samples from one frame to the next; mean, std: of a filter bank's values.
    """

    inputs: tuple[str, ...]
    features: str
    rate: int
    shortest: int
    longest: int
    padding_value: float = 0.0
    normalize: bool = False
    hop: int = 0
    mean: float | None = None
    std: float | None = None

    @property
    def masked(self) -> bool:
        """Whether padding is told to the model, so that recordings of different lengths make a batch."""
        return MASK in self.inputs


def settings_json(settings: AudioSettings) -> dict[str, object]:
    """The table that processor.json holds."""
    table: dict[str, object] = {"schema": PROCESSOR_SCHEMA, "kind": "audio"}
    for key in (*_KEYS[2:], *FEATURES[settings.features]):
        value = getattr(settings, key)
        table[key] = list(value) if isinstance(value, tuple) else value
    return table


def read_settings(directory: Path) -> AudioSettings:
    """The settings in a processor directory. Raises `ProcessorError` naming the key that is wrong."""
    path = directory / PROCESSOR_FILE
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    features = value.get("features") if isinstance(value, dict) else None
    if not isinstance(features, str) or features not in FEATURES:
        raise ProcessorError(
            f"{path}: features {features!r} are not known", hint=nearest(str(features), FEATURES)
        )
    more = FEATURES[features]
    fields = Fields(value, known=(*_KEYS, *more), where=str(path), error=ProcessorError)
    shortest = fields.whole("shortest", low=1)
    settings = AudioSettings(
        inputs=_inputs(fields, features),
        features=features,
        rate=fields.whole("rate", low=1_000),
        shortest=shortest,
        longest=fields.whole("longest", low=shortest),
        padding_value=number(
            fields.raw("padding_value"), fields.where("padding_value"), error=ProcessorError
        ),
        normalize="normalize" in more and _flag(fields, "normalize"),
        hop=fields.whole("hop", low=1) if "hop" in more else 0,
        mean=_optional(fields, "mean") if "mean" in more else None,
        std=_optional(fields, "std") if "std" in more else None,
    )
    if (
        settings.longest > _MOST_SAMPLES
        or (settings.mean is None) != (settings.std is None)
        or settings.std == 0
    ):
        raise ProcessorError(f"{path}: longest, mean or std makes no sense", hint="export the model again")
    return settings


def write_bank(directory: Path, bank: Bank) -> None:
    """Write window and filters into a processor directory."""
    from safetensors.numpy import save_file

    save_file({"window": bank.window, "filters": bank.filters}, directory / BANK_FILE)


def read_bank(directory: Path, hop: int) -> Bank:
    """Window and filters of a processor directory. Raises `ProcessorError`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = directory / BANK_FILE
    if not path.is_file():
        raise ProcessorError(f"{path} is missing", hint="export the model again")
    try:
        tensors: dict[str, Array] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as exc:
        raise ProcessorError(f"{path} is damaged: {exc}", hint="export the model again") from exc
    shapes = {name: array.ndim for name, array in tensors.items()}
    if shapes != {"window": 1, "filters": 2} or any(array.dtype != "float64" for array in tensors.values()):
        raise ProcessorError(f"{path} must hold a window and filters, found {sorted(shapes)}")
    bank = Bank(window=tensors["window"], filters=tensors["filters"], hop=hop)
    if not 0 < bank.window.size <= bank.fft or not bank.filters.shape[1]:
        raise ProcessorError(f"{path}: a window of {bank.window.size} does not fit {bank.fft} frequencies")
    return bank


def _inputs(fields: Fields, features: str) -> tuple[str, ...]:
    inputs = fields.texts("inputs")
    mask = (MASK,) if features == WAVEFORM and len(inputs) == 2 else ()
    if not inputs or inputs[0] not in AUDIO_INPUTS or inputs[1:] != mask:
        raise ProcessorError(f"{fields.where('inputs')}: a recording does not become {list(inputs)}")
    return inputs


def _optional(fields: Fields, key: str) -> float | None:
    value = fields.raw(key)
    return None if value is None else number(value, fields.where(key), error=ProcessorError)


def _flag(fields: Fields, key: str) -> bool:
    value = fields.raw(key)
    if not isinstance(value, bool):
        raise ProcessorError(f"{fields.where(key)} must be true or false, found {value!r:.60}")
    return value
