"""A quantized artifact is kept only where it is right and worth it; otherwise fp32 is, or nothing."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest

import edgekit.stages.compiling.speed as speed
from edgekit.errors import DataError, NothingLowered, PrecisionNotGiven, UsageError
from edgekit.exporting.options import ExportOptions
from edgekit.host.reference import open_reference_model
from edgekit.search.groups import Group
from edgekit.stages.answers.asking import Asker
from edgekit.stages.common import StageResult
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.compiling.reducing import within
from edgekit.stages.compiling.tuning import Trials
from edgekit.stages.export import export
from edgekit.stages.parents import table_of
from edgekit.tasks import Row, load_task
from edgekit.values import ArtifactTable, Change, DiffFigure, DiffMethod, Interval, Trial
from edgekit.values.earning import Restored
from tests.models import WORDS, tiny_classifier, tiny_model
from tests.plugin_folders import install_plugin

pytestmark = pytest.mark.slow

ROWS = 60
#: Rounds weights to 8 bits, those of one layer's attention output so coarsely that answers change.
COARSE = """
import json
from dataclasses import replace
import numpy as np
import onnx
from onnx import numpy_helper
from edgekit.api import CompileFailed
from edgekit_example import compiler as good, session as good_session

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"), precisions=("fp32", "int8"),
    capabilities=("dynamic-shapes", "placement", "keep-high"),
)
BROKEN = "layer.1.output.dense/MatMul"
LEVELS = 1

class Compiler(good.Compiler):
    def compile(self, request, progress):
        built = super().compile(replace(request, precision="fp32"), progress)
        if request.precision == "int8":
            self.round(request)
            return replace(built, precision="int8")
        (request.workdir / "full.bin").write_bytes(bytes(1 << 20))  # what int8 saves
        return replace(built, files=(*built.files, "full.bin"))

    def round(self, request):
        path = request.workdir / "model.onnx"
        model = onnx.load(path)
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type != "MatMul" or node.input[1] not in weights or node.name in request.keep_high:
                continue
            tensor = weights[node.input[1]]
            value = numpy_helper.to_array(tensor)
            step = np.abs(value).max() / (LEVELS if node.name.endswith(BROKEN) else 127)
            near = (np.round(value / step) * step).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(near, tensor.name))
        onnx.save(model, path)

def open(request):
    return Coarse(good_session.open_session(replace(request, precision="fp32")), request.precision)

class Coarse:
    def __init__(self, inner, precision): self.inner, self.precision = inner, precision
    signature = property(lambda self: self.inner.signature)
    def run(self, feeds): return self.inner.run(feeds)
    def placement(self):
        found = self.inner.placement()
        return replace(found, rows=tuple(replace(row, precision=self.precision) for row in found.rows))
    def profile(self): return ()
    def close(self): self.inner.close()
"""
RIGHT = "\nBROKEN = 'nothing'\n"
#: int8 is wrong whatever is kept apart; weights alone in 8 bits are right.
SECOND_IS_RIGHT = """
SPEC["precisions"] = ("fp32", "int8", "int8-weights")
class Compiler(Compiler):
    def compile(self, request, progress):
        global BROKEN, LEVELS
        asked, BROKEN = request.precision, "" if request.precision == "int8" else "nothing"
        if asked == "fp32":
            return super().compile(request, progress)
        kept = () if asked == "int8" else request.keep_high
        built = super().compile(replace(request, precision="int8", keep_high=kept), progress)
        return replace(built, precision=asked)
"""
REFUSING = """
def refuse(self, request, progress):
    if request.precision == "int8":
        raise CompileFailed("no kernel for that", hint="take another")
    return keep(self, request, progress)
keep, Compiler.compile = Compiler.compile, refuse
"""
#: What is to say so where every product is kept high.
SPENT = """
from edgekit.api import NothingLowered
def round_some(self, request):
    before = (request.workdir / "model.onnx").read_bytes()
    round_all(self, request)
    if (request.workdir / "model.onnx").read_bytes() == before:
        raise NothingLowered("no product is left", hint="keep fewer nodes high")
round_all, Compiler.round = Compiler.round, round_some
"""
#: Keeps nothing high, and says so.
DEAF = """
from edgekit.api import PrecisionNotGiven
def round_none(self, request):
    if request.keep_high:
        raise PrecisionNotGiven(f"{request.keep_high[0]!r} was to be kept high and was not")
    round_all(self, request)
round_all, Compiler.round = Compiler.round, round_none
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reducing")
    source = tiny_classifier(folder / "source", seed=3)
    export(source, folder / "model", options=ExportOptions())
    return folder / "model"


def _texts(count: int, seed: int) -> list[str]:
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS[:12], k=drawn.randint(3, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def labelled(model: Path) -> list[dict[str, str]]:
    """Texts with what the model itself answers, so that every other answer is one lost."""
    from edgekit.files.manifests import read_manifest

    table = table_of(read_manifest(model, "model").model)
    asker = Asker(load_task(table.task), table.labels, model / "processor", table.signature)
    texts = list(dict.fromkeys(_texts(3 * ROWS, 1)))[: 2 * ROWS]
    rows = [Row(number=at, values={"text": text}, digest=str(at)) for at, text in enumerate(texts, start=1)]
    label = asker.kind.forms["label"]
    with open_reference_model(model, table) as session:
        return [
            {"text": text, "label": asker.answer(row, asker.runs(row), [session.run(run.feeds)], label)}
            for text, row in zip(texts, rows, strict=True)
            for run in asker.runs(row)
        ]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The model, rows that it answers rightly, and a backend `coarse` whose int8 breaks one layer.

    options: of that backend in int8; times are not looked at.
    """

    model: Path
    labelled: list[dict[str, str]]
    folder: Path
    patch: pytest.MonkeyPatch
    options: functools.partial[CompileOptions]

    @property
    def output(self) -> Path:
        return self.folder / "a"

    @property
    def log(self) -> Path:
        return self.folder / "a.trials.jsonl"

    def install(self, name: str, code: str) -> None:
        """Another backend like `coarse`, of which `code` replaces something."""
        install_plugin(self.patch, self.folder, name, COARSE + code)

    def file(self, rows: Sequence[dict[str, str]]) -> Path:
        path = self.folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def compile(self, options: CompileOptions) -> StageResult:
        return compile_model(self.model, self.output, options)

    def built(self, options: CompileOptions) -> ArtifactTable:
        return table_of(self.compile(options).manifest.artifact)


@pytest.fixture
def bench(
    model: Path, labelled: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    install_plugin(monkeypatch, tmp_path, "coarse", COARSE)
    options = functools.partial(CompileOptions, backend="coarse", precision="int8", max_seconds=0.0)
    return Bench(model=model, labelled=labelled, folder=tmp_path, patch=monkeypatch, options=options)


def _restored(table: ArtifactTable) -> Restored:
    assert table.restored is not None
    return table.restored


# --- speed and size -----------------------------------------------------------------------------------


def _latency(change: Change, ratio: float) -> DiffFigure:
    interval = Interval(estimate=ratio, low=ratio - 0.01, high=ratio + 0.01)
    return DiffFigure(key="latency_p50", unit="ms", change=change, ratio=interval, method=DiffMethod.PAIRED)


@pytest.mark.parametrize(
    ("change", "size", "word"),
    [
        (Change.SLOWER, 0.25, "slower"),
        (Change.UNPROVEN, 1.0, "not smaller"),
        (Change.SAME, 1.2, "not smaller"),
        (Change.NOT_MEASURED, 1.0, "speed was not measured"),
        (Change.FASTER, 1.0, ""),
        (Change.FASTER, 0.25, ""),
        (Change.SAME, 0.9, ""),
        (Change.NOT_MEASURED, 0.25, ""),
    ],
)
def test_a_lower_precision_must_be_faster_or_smaller_and_never_slower(
    change: Change, size: float, word: str
) -> None:
    found = speed.refusal("int8", size, _latency(change, 5.3))
    assert (word in found) if word else not found


@pytest.fixture
def slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "compare_speed", lambda *asked: _latency(Change.SLOWER, 5.3))


@pytest.mark.usefixtures("slower")
def test_int8_that_is_slower_leaves_no_artifact(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    with pytest.raises(PrecisionNotGiven, match=r"slower here: it takes 5\.30x as long") as caught:
        bench.compile(bench.options(backend="exact"))
    assert caught.value.exit_code == 1
    assert not bench.output.exists()


@pytest.mark.usefixtures("slower")
def test_what_is_kept_anyway_says_so(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    table = bench.built(bench.options(backend="exact", keep_anyway=True))
    assert any(note.startswith("kept anyway: int8 is slower") for note in table.notes)
    assert table.earned is not None and table.earned.refusal


@pytest.mark.usefixtures("slower")
def test_auto_keeps_fp32_where_int8_is_slower_and_says_why(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    table = bench.built(bench.options(backend="exact", precision="auto"))
    assert table.precision == "fp32" and table.recipe.precision == "fp32"
    assert any("int8 was not kept: it is slower than fp32" in note for note in table.notes)


def test_auto_takes_int8_where_it_is_right_and_smaller(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    table = bench.built(bench.options(backend="exact", precision="auto"))
    assert table.precision == "int8"
    assert any("its speed was not compared here: no time was given" in note for note in table.notes)


def test_auto_keeps_fp32_where_int8_cannot_be_built(bench: Bench) -> None:
    bench.install("refusing", REFUSING)
    table = bench.built(bench.options(backend="refusing", precision="auto"))
    assert table.precision == "fp32"
    assert any("no kernel for that" in note for note in table.notes)


def test_smaller_weights_that_were_asked_for_may_be_slower() -> None:
    slower = _latency(Change.SLOWER, 1.5)
    assert not speed.refusal("int4-weights", 0.25, slower)
    assert "slower" in speed.refusal("int4-weights", 1.0, slower)


# --- restoring ----------------------------------------------------------------------------------------


def test_the_broken_layer_is_put_back_and_nothing_else(bench: Bench) -> None:
    rows = bench.file(bench.labelled[:ROWS])
    asked = bench.options(tune_data=rows, budget=("accuracy_drop=2",))
    table = bench.built(asked)
    assert _restored(table).groups == ("bert.encoder.layer.#.output.dense/MatMul",)
    assert "bert.encoder.layer.1.output.dense/MatMul" in table.recipe.keep_high
    assert len(set(table.row_digests)) == ROWS
    assert not list(bench.folder.glob("*.trials.jsonl"))
    assert bench.compile(asked).up_to_date


def test_a_backend_with_nothing_left_to_lower_does_not_end_the_search(bench: Bench) -> None:
    bench.install("spent", SPENT)
    rows = bench.file(bench.labelled[:ROWS])
    table = bench.built(bench.options(backend="spent", tune_data=rows, budget=("accuracy_drop=2",)))
    assert table.precision == "int8"
    assert _restored(table).groups == ("bert.encoder.layer.#.output.dense/MatMul",)


def test_nothing_left_beside_the_nodes_that_the_user_keeps_high_is_told(bench: Bench) -> None:
    bench.install("spent", SPENT)
    graph = onnx.load(bench.model / "model.onnx", load_external_data=False).graph
    products = tuple(node.name for node in graph.node if node.op_type == "MatMul")
    with pytest.raises(NothingLowered, match="no product is left") as caught:
        bench.compile(bench.options(backend="spent", keep_high=products))
    assert caught.value.exit_code == 1


def test_a_backend_that_does_not_keep_a_node_high_ends_the_search_with_its_own_words(bench: Bench) -> None:
    bench.install("deaf", DEAF)
    rows = bench.file(bench.labelled[:ROWS])
    with pytest.raises(PrecisionNotGiven, match="was to be kept high and was not"):
        bench.compile(bench.options(backend="deaf", tune_data=rows, budget=("accuracy_drop=2",)))
    assert not bench.output.exists()


def test_a_search_cut_short_goes_on_where_it_was(bench: Bench) -> None:
    rows = bench.file(bench.labelled[:ROWS])
    asked = functools.partial(bench.options, tune_data=rows, budget=("accuracy_drop=2",))
    made: list[Trial] = []
    attempt = Trials.attempt

    def counting(self: Trials, kept: Sequence[object]) -> Trial:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(attempt(self, kept))  # type: ignore[arg-type]
        return made[-1]

    bench.patch.setattr(Trials, "attempt", counting)
    with pytest.raises(KeyboardInterrupt):
        bench.compile(asked())
    assert not bench.output.exists()
    bench.patch.setattr(Trials, "attempt", attempt)
    lines = len(bench.log.read_text().splitlines())
    assert lines == 1 + len(made)
    table = bench.built(asked())
    assert _restored(table).trials[0].kept == made[0].kept


def test_a_search_whose_time_was_up_goes_on_when_it_is_given_more(bench: Bench) -> None:
    rows = bench.file(bench.labelled[:ROWS])
    asked = functools.partial(bench.options, tune_data=rows, budget=("accuracy_drop=2",))
    made: list[tuple[str, ...]] = []
    attempt = Trials.attempt

    def noted(self: Trials, kept: Sequence[Group]) -> Trial:
        made.append(tuple(group.name for group in kept))
        return attempt(self, kept)

    bench.patch.setattr(Trials, "attempt", noted)
    with pytest.raises(PrecisionNotGiven, match="time was up") as caught:
        bench.compile(asked(time_limit=0.0))
    assert made
    assert bench.log.name in caught.value.hint and "--time-limit" in caught.value.hint
    bench.built(asked(time_limit=600.0))
    assert len(made) == len(set(made))


def test_a_search_goes_on_from_its_trials_with_another_budget_or_when_anything_is_to_be_kept(
    bench: Bench,
) -> None:
    rows = bench.file(bench.labelled[:ROWS])
    asked = functools.partial(bench.options, tune_data=rows, time_limit=0.0)
    with pytest.raises(PrecisionNotGiven, match="time was up"):
        bench.compile(asked(budget=("accuracy_drop=2",)))
    lines = bench.log.read_text()

    def refuse(self: Trials, kept: Sequence[Group]) -> Trial:
        raise AssertionError("tried again")

    bench.patch.setattr(Trials, "attempt", refuse)
    with pytest.raises(PrecisionNotGiven, match="time was up"):
        bench.compile(asked(budget=("accuracy_drop=3",)))
    table = bench.built(asked(budget=("accuracy_drop=2",), keep_anyway=True))
    assert any(note.startswith("kept anyway: int8: time was up") for note in table.notes)
    assert bench.log.read_text() == lines


def test_each_precision_that_auto_tries_has_trials_of_its_own(bench: Bench) -> None:
    bench.install("second", SECOND_IS_RIGHT)
    rows = bench.file(bench.labelled[:ROWS])
    asked = bench.options(backend="second", precision="auto", tune_data=rows, budget=("accuracy_drop=2",))
    assert bench.built(asked).precision == "int8-weights"


def test_a_limit_on_accuracy_in_the_target_needs_no_metric_of_the_task(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    source = tiny_model(bench.folder / "source", "Bert", "Model")
    export(source, bench.folder / "model", options=ExportOptions(task="feature-extraction"))
    rows = bench.file(bench.labelled)
    asked = bench.options(backend="exact", calibration=rows, budget=("accuracy_drop=2",))
    table = replace(bench, model=bench.folder / "model").built(asked)
    assert any("accuracy was not tuned" in note for note in table.notes)


def test_no_time_for_choosing_is_told_and_nothing_is_kept(bench: Bench) -> None:
    rows = bench.file(bench.labelled[:ROWS])
    with pytest.raises(PrecisionNotGiven, match="time was up"):
        bench.compile(bench.options(tune_data=rows, budget=("accuracy_drop=2",), time_limit=0.0))
    assert not bench.output.exists()
    assert bench.log.exists()


def test_labelled_calibration_rows_that_are_not_calibrated_on_choose(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    rows = bench.file(bench.labelled)
    asked = bench.options(backend="exact", calibration=rows, calibration_rows=20, budget=("accuracy_drop=2",))
    table = bench.built(asked)
    assert any("rows of the calibration file that are not calibrated on" in note for note in table.notes)
    assert len(table.row_digests) == len(set(table.row_digests)) == len(bench.labelled)


def test_calibration_rows_without_labels_choose_nothing_and_that_is_told(bench: Bench) -> None:
    bench.install("exact", RIGHT)
    rows = bench.file([{"text": row["text"]} for row in bench.labelled])
    table = bench.built(bench.options(backend="exact", calibration=rows, budget=("accuracy_drop=2",)))
    assert any("accuracy was not tuned" in note and "--tune-data" in note for note in table.notes)


def test_tune_rows_without_a_limit_are_refused(bench: Bench) -> None:
    rows = bench.file(bench.labelled)
    with pytest.raises(UsageError, match="limit on accuracy"):
        bench.compile(bench.options(tune_data=rows))


def test_a_handful_of_tune_rows_is_refused(bench: Bench) -> None:
    rows = bench.file(bench.labelled[:5])
    with pytest.raises(DataError, match="too few"):
        bench.compile(bench.options(tune_data=rows, budget=("accuracy_drop=2",)))


def test_few_rows_are_judged_by_half_the_limit_and_many_by_what_is_proven() -> None:
    def trial(estimate: float, high: float) -> Trial:
        drop = Interval(estimate=estimate, low=None, high=high)
        return Trial(kept=(), error=0.0, flips=0, ms=1.0, drop=drop)

    few, many = within(1.0, 100, 0.99), within(1.0, 5000, 0.99)
    assert few(trial(0.5, 6.0)) and not few(trial(0.6, 6.0))
    assert many(trial(0.9, 1.0)) and not many(trial(0.2, 1.1))
    assert not few(Trial(kept=(), error=0.0, flips=0, ms=1.0))
