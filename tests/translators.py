"""A T5 that is really trained, in seconds: it translates words of one made-up language into another."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment, quiet_libraries

#: Words of three classes with their translations. The other language puts the noun first.
COLOURS = {"red": "rot", "blue": "blau", "green": "gruen"}
NOUNS = {"cat": "katze", "dog": "hund", "house": "haus", "road": "weg"}
VERBS = {"burns": "brennt", "sleeps": "ruht", "shines": "scheint"}
DICTIONARY = {**COLOURS, **NOUNS, **VERBS}
_SPECIAL = ("<pad>", "</s>", "<unk>")
_STEPS, _ROWS = 200, 32


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with the answers that the model is taught: "red cat sleeps", "katze rot ruht"."""
    drawn = random.Random(seed)
    made = []
    for _ in range(count):
        colour, noun, verb = (drawn.choice(list(words)) for words in (COLOURS, NOUNS, VERBS))
        words = [colour] * drawn.randint(0, 1), [noun], [verb] * drawn.randint(0, 1)
        answer = [DICTIONARY[word] for word in (*words[1], *words[0], *words[2])]
        made.append((" ".join(word for each in words for word in each), " ".join(answer)))
    return made


@kept_environment()
def translator(folder: Path) -> Path:
    """The trained model with its tokenizer, saved in `folder`."""
    with quiet_libraries():
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        tokenizer = _tokenizer()
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=48,
            d_kv=12,
            d_ff=96,
            num_layers=1,
            num_heads=4,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        model = T5ForConditionalGeneration(config).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=_STEPS)
        for step in range(_STEPS):
            texts, answers = zip(*pairs(_ROWS, seed=step), strict=True)
            feeds, labels = (
                tokenizer(list(each), padding=True, return_tensors="pt") for each in (texts, answers)
            )
            wanted = labels["input_ids"].masked_fill(labels["attention_mask"] == 0, -100)
            loss = model(**feeds, labels=wanted).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slower.step()
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = (*_SPECIAL, *DICTIONARY, *DICTIONARY.values())
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
    )
