"""The table in the README of exporting: an architecture a row, a task a column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.exporting.architectures.registry import ARCHITECTURES, FAILING
from tests.exporting.architectures.running import Outcome

README = Path(__file__).resolve().parents[3] / "edgekit" / "exporting" / "README.md"
HEADING = "## What exports"
KINDS = {"text": "Text", "image": "Images", "audio": "Sound"}
_FAILS = "fails"

Outcomes = Mapping[tuple[str, str], Outcome]


def write(outcomes: Outcomes, versions: str) -> None:
    """Put the section into the README. outcomes: of every entry that is not listed as failing."""
    text = README.read_text(encoding="utf-8")
    before, after = _around(text)
    made = before + section(outcomes, versions) + after
    README.write_text(made.rstrip("\n") + "\n", encoding="utf-8")


def section(outcomes: Outcomes, versions: str) -> str:
    """The section in Markdown, with an empty line at its end."""
    whole = [
        found for found in ARCHITECTURES if not any((found.name, task) in FAILING for task in found.tasks)
    ]
    lines = [
        HEADING,
        "",
        f"{len(ARCHITECTURES)} architectures of transformers, each a small random model made in",
        "`tests/exporting/architectures`, exported and compared with torch as any model is;",
        f"{len(whole)} of them pass for every task that was tried. A cell holds the largest numeric error",
        f"of any check ({versions}), and before it the share of equal answers where not all were equal.",
        "XLM, FlauBERT, RoFormer, SigLIP, Marian have a tokenizer of another class: theirs cannot travel.",
        "The weights of LeViT and MobileNet were chosen tame: with wilder ones errors exceed the tolerance,",
        "and export refuses them. MRA is left out, since without CUDA it answers everything alike.",
        "An empty cell was not tried. Written by `python -m tests.exporting.architectures --write`;",
        "`make architectures` repeats it, and fails also when a listed failure starts to pass.",
        "",
    ]
    for kind, title in KINDS.items():
        lines += [*_table(kind, title, outcomes), ""]
    lines += ["Why those fail:", *reasons(), ""]
    return "\n".join(lines) + "\n"


def listed() -> dict[tuple[str, str], str]:
    """(architecture, task) -> cell, as the README has them."""
    found: dict[tuple[str, str], str] = {}
    tasks: list[str] = []
    for line in _section_of(README.read_text(encoding="utf-8")).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(cells[0]) <= {"-"}:
            continue
        if cells[0] in KINDS.values():
            tasks = cells[1:]
            continue
        found |= {(cells[0], task): cell for task, cell in zip(tasks, cells[1:], strict=True) if cell}
    return found


def listed_as_failing() -> set[tuple[str, str]]:
    """Those that the README says fail."""
    return {key for key, cell in listed().items() if cell == _FAILS}


def reasons_listed() -> list[str]:
    """The lines under the tables that say why some fail."""
    return re.findall(r"^\* .*$", _section_of(README.read_text(encoding="utf-8")), re.MULTILINE)


def _table(kind: str, title: str, outcomes: Outcomes) -> Iterator[str]:
    rows = [found for found in ARCHITECTURES if found.kind == kind]
    tasks = list(dict.fromkeys(task for found in rows for task in found.tasks))
    yield f"| {title} | {' | '.join(tasks)} |"
    yield "|---" * (len(tasks) + 1) + "|"
    for found in rows:
        cells = [_cell((found.name, task), outcomes) if task in found.tasks else "" for task in tasks]
        yield f"| {found.name} | {' | '.join(cells)} |"


def _cell(key: tuple[str, str], outcomes: Outcomes) -> str:
    if key in FAILING:
        return _FAILS
    outcome = outcomes[key]
    share = "" if outcome.same == 1.0 else f"{outcome.same:.2%}, "
    return f"{share}{outcome.error:.0e}"


def reasons() -> Iterator[str]:
    """One line for each reason, with the architectures and tasks that it holds for."""
    grouped: dict[str, dict[str, list[str]]] = {}
    for (name, task), failing in FAILING.items():
        grouped.setdefault(failing.why, {}).setdefault(name, []).append(task)
    for why, found in grouped.items():
        yield f"* {', '.join(_whom(name, tasks) for name, tasks in found.items())}: {why}."


def _whom(name: str, tasks: list[str]) -> str:
    tried = next(found.tasks for found in ARCHITECTURES if found.name == name)
    return name if len(tasks) == len(tried) else f"{name} for {' and '.join(tasks)}"


def _section_of(text: str) -> str:
    before, after = _around(text)
    return text[len(before) : len(text) - len(after)]


def _around(text: str) -> tuple[str, str]:
    """What stands before and after the section; it goes to the end of a README that lacks it."""
    start = text.find(f"{HEADING}\n")
    if start < 0:
        return text.rstrip("\n") + "\n\n", ""
    end = text.find("\n## ", start)
    return text[:start], "" if end < 0 else text[end + 1 :]
