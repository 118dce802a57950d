"""The torch half of the recipe: load, train, judge.

Apart from finetune.py so that --help, usage errors and an up-to-date run need not import torch.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from common import LABELS, RecipeError, Row, Settings
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

WARM_UP_SHARE = 0.1
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Batch:
    inputs: dict[str, Tensor]
    labels: Tensor


Forward = Callable[[dict[str, Tensor]], Tensor]


class Progress:
    """One line on stderr that rewrites itself, and nothing where that would fill a log."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.shown = sys.stderr.isatty()
        self.started = time.monotonic()

    def __call__(self, done: int, note: str = "") -> None:
        if not self.shown:
            return
        left = (time.monotonic() - self.started) / done * (self.total - done)
        end = "\n" if done == self.total else ""
        print(
            f"\r{self.what} {done}/{self.total}{note}, {left:.0f} s left \x1b[K",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # The load report announces the new classification head as if something were wrong;
    # load_encoder() checks the missing weights itself.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def load_encoder(folder: Path, seed: int) -> PreTrainedModel:
    """The encoder with a new classification head, and an error if anything else is new."""
    torch.manual_seed(seed)
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        problem_type="single_label_classification",
        output_loading_info=True,
    )
    astray = {name for name in report["missing_keys"] if not name.startswith("classifier.")}
    astray |= set(report["unexpected_keys"]) | set(report["mismatched_keys"])
    if astray:
        names = ", ".join(map(str, sorted(astray)[:4]))
        raise RecipeError(
            f"the weights in {folder} do not fit a {type(model).__name__}: {names}",
            "fetch the encoder again with fetch.py",
        )
    loaded: PreTrainedModel = model
    return loaded


def make_batches(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], settings: Settings) -> list[Batch]:
    """Rows of similar length share a batch: half the arithmetic would otherwise be padding."""
    texts = [row.text for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=settings.max_length)["input_ids"]
    order = sorted(range(len(rows)), key=lambda index: len(ids[index]))
    batches = []
    for start in range(0, len(order), settings.batch_size):
        chosen = order[start : start + settings.batch_size]
        padded = tokenizer.pad({"input_ids": [ids[index] for index in chosen]}, return_tensors="pt")
        labels = torch.tensor([LABELS.index(rows[index].label) for index in chosen])
        batches.append(Batch(dict(padded), labels))
    return batches


def fit(forward: Forward, parameters: Iterable[Tensor], batches: Sequence[Batch], settings: Settings) -> None:
    """AdamW with linear warm-up and linear decay to zero."""
    trained = list(parameters)
    total = settings.epochs * len(batches)
    warm_up = max(1, math.ceil(total * WARM_UP_SHARE))
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, max(0, total - step) / max(1, total - warm_up))
    )
    progress = Progress("training: step", total)
    step = 0
    for _ in range(settings.epochs):
        for index in torch.randperm(len(batches)).tolist():
            batch = batches[index]
            loss = functional.cross_entropy(forward(batch.inputs), batch.labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
            optimizer.step()
            scheduler.step()
            step += 1
            progress(step, f", loss {loss.item():.3f}")


def fit_whole(model: PreTrainedModel, batches: Sequence[Batch], settings: Settings) -> None:
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = model(**inputs).logits
        return logits

    model.train()
    fit(forward, model.parameters(), batches, settings)


def fit_top(model: PreTrainedModel, batches: Sequence[Batch], settings: Settings) -> None:
    """Train the last layer, the pooler and the classifier on what the frozen layers below give.

    The pooler and classifier alone are not enough: this encoder was trained for the mean over all
    tokens, while BERT's classifier reads the first one only, which the last layer must first learn
    to fill.
    """
    if not isinstance(model, BertForSequenceClassification):
        raise RecipeError(
            f"--frozen knows the layout of BERT encoders only, not {type(model).__name__}",
            "train without --frozen",
        )
    last = model.bert.encoder.layer[-1]
    heads, dropout = model.config.num_attention_heads, model.config.attention_probs_dropout_prob

    def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
        # The stock layer computes every token; only the first one is read, at a sixth of the cost.
        own, attention = last.attention.self, hidden[:, :1]
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (own.query(attention), own.key(hidden), own.value(hidden))
        )
        rate = dropout if last.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        attended = last.attention.output(mixed.transpose(1, 2).flatten(2), attention)
        result: Tensor = last.output(last.intermediate(attended), attended)
        return result

    def forward(inputs: dict[str, Tensor]) -> Tensor:
        pooled = model.bert.pooler(first_token(inputs["hidden"], inputs["mask"]))
        logits: Tensor = model.classifier(model.dropout(pooled))
        return logits

    below = [below_last_layer(model, batch) for batch in batches]
    model.train()
    trained = [*last.parameters(), *model.bert.pooler.parameters(), *model.classifier.parameters()]
    fit(forward, trained, below, settings)


@torch.no_grad()
def below_last_layer(model: BertForSequenceClassification, batch: Batch) -> Batch:
    model.eval()
    hidden = model.bert(**batch.inputs, output_hidden_states=True).hidden_states[-2]
    mask = batch.inputs["attention_mask"].bool()[:, None, None, :]
    return Batch({"hidden": hidden, "mask": mask}, batch.labels)


def train(encoder: Path, rows: Sequence[Row], settings: Settings, output: Path) -> None:
    """Train on `rows` and write a complete transformers folder to `output`."""
    model = load_encoder(encoder, settings.seed)
    batches = make_batches(load_tokenizer(encoder), rows, settings)
    (fit_top if settings.frozen else fit_whole)(model, batches, settings)
    model.save_pretrained(output)
    tokenizer = load_tokenizer(encoder)
    # The encoder's tokenizer.json pads everything to 128; who reads that file directly would
    # feed the model four times the work.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(output)


@torch.inference_mode()
def count_right(folder: Path, rows: Sequence[Row], settings: Settings) -> int:
    """How many rows the saved model gets right: read back from disk, as whoever uses it will."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.eval()
    batches = make_batches(load_tokenizer(folder), rows, settings)
    progress = Progress("judging: batch", len(batches))
    right = 0
    for done, batch in enumerate(batches, start=1):
        right += int((model(**batch.inputs).logits.argmax(dim=-1) == batch.labels).sum())
        progress(done)
    return right
