"""Neutral sentences for goldens and checks, and texts that tokenizers read in different ways.

Written for this purpose or taken from the Universal Declaration of Human Rights; no customer's rows.
"""

from __future__ import annotations

from edgekit_runtime.processors.base import Words

#: Several lengths and scripts; the first is short, the last one long.
SENTENCES = (
    "It works.",
    "The train to the coast leaves at seven in the morning.",
    "I would not buy this lamp again, the switch broke after two days.",
    "A wonderful evening: good food, friendly people, and music until midnight!",
    "Water boils at 100 °C at sea level, and at about 90 °C three thousand metres higher.",
    "All human beings are born free and equal in dignity and rights.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Das Café schließt früh; größere Gruppen müssen vorher anrufen.",
    "人人生而自由，在尊严和权利上一律平等。",  # noqa: RUF001
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "Great 👍🏽 stuff, I'd go again 🎉 (5/5)…",
    "The report was late, it missed two of the three figures we had asked for, and the one that it did hold"
    " turned out to be from last year; still, the people who wrote it were helpful, answered every question"
    " within the hour, and sent a corrected version before the meeting began, so in the end nobody was upset"
    " and the work went on as planned.",
)

PAIR = ("Is the museum open on Mondays?", "The museum is closed on Mondays, except on public holidays.")

#: For "as long as the model takes": cut to its limit by the processor.
LONG = " ".join(SENTENCES * 40)

#: Texts on which two tokenizer implementations are likeliest to part.
TRICKY: tuple[str | tuple[str, str], ...] = (
    *SENTENCES,
    PAIR,
    "",
    " ",
    "\t\r\n  \u00a0 \u2003",
    "zyzzyvaqux floccinaucinihilipilification 9f8a7b6c5d",
    "naïve coöperation, e\u0301 against é, ﬁ ligature, ½",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 👍🏿 \U0001fae0",
    "東京都は日本の首都です。한국어 텍스트도 있어요.",
    "שלום עולם, المُستخدِم ١٢٣",
    "हिन्दी में एक वाक्य, ภาษาไทยไม่มีช่องว่าง",
    "[CLS] a [SEP] b [PAD] [MASK] [UNK] <s> </s> <pad> <mask> <unk> <|endoftext|>",
    "don't can't I'm they've o'clock 'quoted' \"double\" `back`",
    "https://example.org/a?b=c&d=%20e#f user@example.org C:\\dir\\file.txt",
    "1,234.56 -7 1e-9 0x1F 3/4 €5 £6 ¥7 №8",
    "CamelCase snake_case kebab-case SHOUTING ΣΊΣΥΦΟΣ İstanbul ǅ ß ẞ",
    "zero\u200bwidth joiner\u200d soft\u00adhyphen bom\ufeff rtl\u202emark nul\x00byte bell\x07",
    "a" * 300,
    "repeat " * 200,
    "." * 120,
    LONG,
    ("", "only the second"),
    (LONG, "a short second text"),
    ("a short first text", LONG),
)

#: Asked about every text, where a task takes a question: short, so that the text has room in a short row.
QUESTION = "What is it?"

#: Labels to choose from, where a task takes them with the text.
CANDIDATES = ("travel", "food")

#: Texts in words on which two tokenizer implementations are likeliest to part.
WORDS: tuple[Words, ...] = tuple(
    Words(tuple(words))
    for words in (
        ("EU", "rejects", "German", "call", "to", "boycott", "British", "lamb", "."),
        ("a", "", "word", "that", "is", "empty"),
        ("New York", "is", "one word\there", " and", "spaces ", "stay"),
        ("don't", "can't", "…", "''", "``", "-LRB-", "-RRB-", "$1,234.56", "50%"),
        ("👩‍👩‍👧‍👦", "Ünïcödé", "e\u0301", "ﬁ", "東京", "สวัสดี", "नमस्ते", "שלום"),
        ("[MASK]", "<mask>", "[SEP]", "</s>", "<unk>"),
        ("antidisestablishmentarianism" * 4, "a" * 300),
        ("x",),
        ("word",) * 700,
    )
)
