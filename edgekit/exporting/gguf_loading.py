"""The torch side of a GGUF file: its weights as fp32 numbers, its tokenizer put right, and both checked."""

from __future__ import annotations

import math
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ExportFailed, SourceError
from edgekit.exporting.folder import caller
from edgekit.exporting.gguf import BOTH, DECODER, SENTENCES, GgufSource
from edgekit.exporting.gguf_header import Header
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.loading import explained, refuse_bad_numbers, require
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.pooling import sentence_module
from edgekit.exporting.processor import FALLBACK_LENGTH
from edgekit.exporting.quiet import kept_environment, no_progress_bars, quiet_libraries
from edgekit.exporting.sentence import OUTPUT, Normalize, Pooling
from edgekit.exporting.subject import Assembly, Subject
from edgekit.exporting.text import tokenized_subject

if TYPE_CHECKING:
    import torch

_FILE = "model.gguf"
#: What reading a damaged file raises beside what `explained` knows.
_DAMAGE = (struct.error, ArithmeticError, AssertionError)
#: The output head, which the model without a head leaves out.
_HEAD = "output.weight"
#: Rules by which texts are cut before they become tokens, as llama.cpp names them (llama-vocab.cpp), and
#: whether a piece that is a token is taken whole. transformers cuts by some of these; the others here.
_CUTS = {"gpt-2": False, "smollm": False, "qwen2": False, "deepseek-r1-qwen": False, "llama-bpe": True}
_OF_DIGITS = ("smollm",)
_BYTES, _PIECES, _UNIGRAMS = "gpt2", "llama", "t5"
#: Which kinds of tokenizers begin and end texts where the file does not say it.
_BEGINS, _ENDS = (_PIECES,), (_UNIGRAMS,)


def load_gguf(source: GgufSource, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """Load the model and its tokenizer, and plan what to check."""
    require("torch", "onnxscript", "transformers")
    with tempfile.TemporaryDirectory(prefix="edgekit-gguf-") as name:
        alone = Path(name) / _FILE  # beside the file may lie another model's config or tokenizer
        alone.symlink_to(source.path.resolve())
        model = _model(source, alone)
        tokenizer = _tokenizer(source, alone, options)
    recipe = next(iter(source.task.exports))
    outputs = recipe.outputs
    module: torch.nn.Module = model
    call = caller(model, outputs)
    facts = _facts(source)
    if source.task.name == SENTENCES:
        steps = (Pooling(modes=(source.pooling,)), Normalize())
        pooled = module = sentence_module(model, steps, source.label)
        outputs = (OUTPUT,)

        def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {OUTPUT: pooled(feeds)}

        said = "" if source.pooling_said else " (the file says none)"
        facts["modules"] = f"Transformer, Pooling ({source.pooling}{said}), Normalize"
    loaded = Loaded(
        model=model,
        module=module,
        call=call,
        folder=source.path.parent,
        task=source.task,
        outputs=outputs,
        pipeline=recipe.pipeline if source.family.kind == BOTH else "",
        source=facts,
    )
    return tokenized_subject(loaded, tokenizer, options, processor_dir)


def _facts(source: GgufSource) -> dict[str, str]:
    return {
        "kind": "GGUF file",
        "name": source.header.text("general.name") or source.path.name,
        "architecture": source.family.model,
        "weights": source.path.name,
        "dtype": ", ".join(source.header.kinds()),
    }


@contextmanager
def _read(source: GgufSource, what: str) -> Iterator[None]:
    """Errors of the libraries that read the file, as errors that name it."""
    try:
        with explained(source.path, what), quiet_libraries(), kept_environment(), no_progress_bars():
            yield
    except MemoryError as problem:  # the sizes that the file tells were held against it before
        raise ExportFailed(
            f"{source.path}: there is not enough memory for its {what}",
            hint="its weights become fp32, up to eight times the file: export on a machine with more memory",
        ) from problem
    except _DAMAGE as problem:
        raise source.header.damaged(f"its {what} cannot be read: {problem}") from problem
    except Exception as problem:
        if type(problem) is not Exception:  # what the library of tokenizers raises
            raise
        raise source.header.damaged(f"its {what} cannot be read: {problem}") from problem


# --- the weights ----------------------------------------------------------------------------------------


def _model(source: GgufSource, path: Path) -> Any:
    """In eval mode, in fp32, with every weight of the file and none but those."""
    import torch

    with _read(source, "model"):
        import transformers

        kind = getattr(transformers, source.family.model)
        config = kind.config_class.from_pretrained(str(path.parent), gguf_file=path.name)
        _complete(config, source)
        model, report = kind.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    tied = getattr(model, "all_tied_weights_keys", None) or ()
    missing = sorted(name for name in report["missing_keys"] if name not in tied)
    if missing:
        raise source.header.damaged(f"it lacks {missing[0]!r}, which a {source.family.model} needs")
    model.eval()
    _refuse_unread(source, model)
    refuse_bad_numbers(model, source.label)
    return model


def _complete(config: Any, source: GgufSource) -> None:
    """What the file says and transformers does not read, or reads for one model of a family only."""
    header = source.header
    if source.family.kind == DECODER:
        length = header.keys.get(f"{header.architecture}.attention.key_length")
        if length is not None:
            config.head_dim = header.whole("attention.key_length")
        return
    config.layer_norm_epsilon = header.keys[f"{header.architecture}.attention.layer_norm_rms_epsilon"]
    # transformers takes every T5 for a gated one with the activation of ungated ones
    gated = any(".ffn_gate." in name for name in header.tensors)
    config.feed_forward_proj = "gated-gelu" if gated else "relu"
    config.is_gated_act = gated
    config.dense_act_fn = "gelu_new" if gated else "relu"


def _refuse_unread(source: GgufSource, model: torch.nn.Module) -> None:
    """Numbers of the file against those of the model: transformers passes over weights it does not know."""
    held = dict(source.header.tensors)
    if source.family.kind != BOTH:
        held.pop(_HEAD, None)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    found = sum(math.prod(tensor.shape) for tensor in held.values())
    if found != wanted:
        raise SourceError(
            f"{source.path}: holds {found} numbers for a {source.family.model} that has {wanted}",
            hint="it is of another variant, which transformers does not read from GGUF: export its folder",
        )


# --- the tokenizer --------------------------------------------------------------------------------------


def _tokenizer(source: GgufSource, path: Path, options: ExportOptions) -> Any:
    """The file's tokenizer, cutting, beginning and ending texts as the file says."""
    header = source.header
    _refuse_unknown_cuts(header)
    with _read(source, "tokenizer"):
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True
        )
        _cut(tokenizer.backend_tokenizer, header)
    _begin_and_end(tokenizer.backend_tokenizer, header)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # the mask hides it; which one it is changes nothing
    tokenizer.padding_side = "right"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    # language models take thousands of tokens; checking at such lengths is for who needs them
    longest = header.whole("context_length")
    tokenizer.model_max_length = min(longest, options.max_length or FALLBACK_LENGTH)
    return tokenizer


def _refuse_unknown_cuts(header: Header) -> None:
    kind, cut = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if kind == _BYTES and cut not in _CUTS:
        raise SourceError(
            f"{header.path}: cuts texts by the rule {cut or 'default'!r}, which is not known here",
            hint=f"known: {', '.join(_CUTS)}; or export the transformers folder, which has tokenizer.json",
        )
    if kind == _PIECES and header.keys.get("tokenizer.ggml.add_space_prefix") is False:
        raise SourceError(
            f"{header.path}: its tokenizer begins texts without a space, which transformers does not read",
            hint="export the transformers folder, which has tokenizer.json",
        )
    if kind not in (_BYTES, _PIECES, _UNIGRAMS):
        raise SourceError(
            f"{header.path}: has a tokenizer of kind {kind!r}",
            hint=f"known: {_BYTES}, {_PIECES}, {_UNIGRAMS}; or export the transformers folder",
        )


def _cut(tokenizer: Any, header: Header) -> None:
    from tokenizers import normalizers, pre_tokenizers

    kind, cut = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if kind == _BYTES and cut in _OF_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    if kind == _BYTES and _CUTS[cut]:
        tokenizer.model.ignore_merges = True
    charsmap = header.keys.get("tokenizer.ggml.precompiled_charsmap")
    if kind == _UNIGRAMS and charsmap:
        tokenizer.normalizer = normalizers.Precompiled(_charsmap(header, charsmap))


def _charsmap(header: Header, values: object) -> bytes:
    """What SentencePiece replaces before it cuts: bytes of a trie, its units, and texts that end in zero.

    The library follows the units without looking where they lead, so that is checked here: a unit is a
    leaf with the place of a text, or leads to a block of 256 others (darts-clone, darts.h).
    """
    content = bytes(int(each) & 0xFF for each in values) if isinstance(values, tuple) else b""
    size = int.from_bytes(content[:4], "little")
    if len(content) < 4 + size or size % 1024 or not content.endswith(b"\0"):
        raise header.damaged("tokenizer.ggml.precompiled_charsmap is no table of characters")
    units = np.frombuffer(content, dtype="<u4", count=size // 4, offset=4).astype(np.int64)
    leaves = units >> 31 == 1
    texts = units[leaves] & 0x7FFFFFFF
    leads = (units >> 10) << ((units & 0x200) >> 6)
    blocks = (np.arange(len(units)) ^ leads)[~leaves] | 0xFF
    if texts.max(initial=0) >= len(content) - 4 - size or blocks.max(initial=0) >= len(units):
        raise header.damaged("tokenizer.ggml.precompiled_charsmap leads out of itself")
    return content


def _begin_and_end(tokenizer: Any, header: Header) -> None:
    """By the flags of the file, else as tokenizers of its kind do."""
    from tokenizers import processors

    kind = header.text("tokenizer.ggml.model")
    tokens = header.texts("tokenizer.ggml.tokens")
    around = {}
    for name, kinds in (("bos", _BEGINS), ("eos", _ENDS)):
        number = header.keys.get(f"tokenizer.ggml.{name}_token_id")
        wanted = header.keys.get(f"tokenizer.ggml.add_{name}_token", kind in kinds)
        if wanted and isinstance(number, int):
            around[name] = (tokens[number], number)
        elif wanted:
            raise header.damaged(f"tokenizer.ggml.add_{name}_token is set, and there is no such token")
    first, last = (f"{around[name][0]} " if name in around else "" for name in ("bos", "eos"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}$A {last}".strip(),
        pair=f"{first}$A {last}{first}$B {last}".strip(),
        special_tokens=list(dict.fromkeys(around.values())),
    )
