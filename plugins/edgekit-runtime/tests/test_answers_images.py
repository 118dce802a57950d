"""Answers in pixels: boxes and masks lie where the image as given has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.answers import KINDS, Asked, Entry
from edgekit_runtime.answers.base import BOXES, MASK
from edgekit_runtime.answers.boxes import MOST, Box
from edgekit_runtime.answers.mask import interpolate
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import ImageContext
from edgekit_runtime.session import Array

Seen = tuple[float, float, float, float]


def asked(outputs: dict[str, Array], size: tuple[int, int], seen: Seen, labels: tuple[str, ...]) -> Asked:
    return Asked(entries=(Entry(outputs=outputs, context=ImageContext(size=size, seen=seen)),), labels=labels)


# --- boxes --------------------------------------------------------------------------------------------


def detect(
    logits: list[list[float]],
    boxes: list[list[float]],
    *,
    size: tuple[int, int] = (60, 100),
    seen: Seen = (0.0, 0.0, 60.0, 100.0),
    labels: tuple[str, ...] = ("cat", "dog"),
) -> tuple[Box, ...]:
    outputs = {"logits": np.array([logits], np.float32), "pred_boxes": np.array([boxes], np.float32)}
    found = KINDS["boxes"].read(asked(outputs, size, seen, labels))
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize(
    ("size", "seen", "box"),
    [
        ((60, 100), (0.0, 0.0, 60.0, 100.0), (40.0, 9.0, 20.0, 24.0)),  # squeezed to a square
        ((60, 100), (0.0, 0.0, 100.0, 100.0), (40.0, 15.0, 20.0, 40.0)),  # padded below
        ((60, 100), (-20.0, 0.0, 80.0, 100.0), (40.0, -5.0, 20.0, 40.0)),  # padded on both sides
        ((60, 100), (0.0, 20.0, 60.0, 80.0), (44.0, 9.0, 12.0, 24.0)),  # the middle cut out
    ],
)
def test_boxes_are_in_pixels_of_the_image_as_given(
    size: tuple[int, int], seen: Seen, box: tuple[float]
) -> None:
    answer = detect([[9.0, 0.0, 0.0]], [[0.5, 0.35, 0.2, 0.4]], size=size, seen=seen)
    assert answer[0].box == pytest.approx(box, abs=1e-4)


def test_with_one_class_more_than_labels_the_last_is_no_object() -> None:
    answer = detect([[0.0, 1.0, 9.0], [0.0, 3.0, 0.0]], [[0.5] * 4, [0.25] * 4])
    assert [(box.label, round(box.score, 4)) for box in answer] == [("dog", 0.9094), ("dog", 0.0003)]
    assert answer[0].box == pytest.approx((12.5, 7.5, 25.0, 15.0)), "its own query's box"


def test_with_as_many_classes_as_labels_each_stands_by_itself() -> None:
    answer = detect([[0.0, 2.0], [1.0, -9.0]], [[0.5] * 4, [0.25] * 4])
    found = [(box.label, round(box.score, 4)) for box in answer]
    assert found == [("dog", 0.8808), ("cat", 0.7311), ("cat", 0.5), ("dog", 0.0001)]
    assert answer[0].box == answer[2].box == pytest.approx((25.0, 15.0, 50.0, 30.0))
    assert answer[1].box == answer[3].box == pytest.approx((12.5, 7.5, 25.0, 15.0))


def test_people_are_shown_the_likely_boxes_and_metrics_get_all() -> None:
    kind = KINDS["boxes"]
    answer = detect([[0.0, 2.0], [-1.0, -9.0]], [[0.5] * 4, [0.25] * 4])
    assert kind.text(answer) == "dog 0.88 [25, 15, 50, 30]\tcat 0.50 [25, 15, 50, 30]"
    listed = kind.forms[BOXES](answer)
    assert len(listed) == 4
    assert listed[0] == {
        "box": pytest.approx([25.0, 15.0, 50.0, 30.0]),
        "label": "dog",
        "score": answer[0].score,
    }
    assert kind.json(answer) == listed
    assert kind.text(detect([[-2.0, -2.0]], [[0.5] * 4])) == "-"


def test_at_most_a_hundred_boxes_are_given_the_likeliest_first() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(300, 2)).tolist()
    scores = [box.score for box in detect(logits, [[0.5] * 4] * 300)]
    assert len(scores) == MOST == 100
    wanted = np.sort(1 / (1 + np.exp(-np.float32(logits).ravel().astype(float))))[::-1][:100]
    assert scores == pytest.approx(wanted.tolist())


@pytest.mark.parametrize("name", ["DetrImageProcessor", "RTDetrImageProcessor"])
def test_boxes_are_those_of_transformers(name: str) -> None:
    import transformers

    random = np.random.default_rng(1)
    labels = tuple("abcde")
    classes = len(labels) + (name == "DetrImageProcessor")
    logits = 3 * random.normal(size=(1, 300, classes)).astype(np.float32)
    places = random.uniform(0.1, 0.9, size=(1, 300, 4)).astype(np.float32)
    (wanted,) = getattr(transformers, name)().post_process_object_detection(
        SimpleNamespace(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(places)),
        threshold=0.0,
        target_sizes=[(480, 640)],
    )
    answer = detect(
        logits[0].tolist(), places[0].tolist(), size=(480, 640), seen=(0, 0, 480, 640), labels=labels
    )
    order = wanted["scores"].argsort(descending=True, stable=True)[:MOST]
    corners = wanted["boxes"][order].numpy()
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    assert np.abs(np.array([box.box for box in answer]) - boxes).max() < 1e-3
    assert [box.label for box in answer] == [labels[place] for place in wanted["labels"][order].tolist()]
    assert [box.score for box in answer] == pytest.approx(wanted["scores"][order].tolist(), abs=1e-6)


def test_boxes_that_are_none_are_refused() -> None:
    with pytest.raises(RunFailed, match=r"'pred_boxes' has the shape \(1, 1, 3\), expected \(1, 1, 4\)"):
        detect([[0.0, 1.0]], [[0.5] * 3])
    with pytest.raises(RunFailed, match="has 4 classes, but there are 2 labels"):
        detect([[0.0] * 4], [[0.5] * 4])
    with pytest.raises(RunFailed, match="the model sees is empty"):
        detect([[0.0] * 3], [[0.5] * 4], seen=(5.0, 5.0, 5.0, 9.0))


# --- masks --------------------------------------------------------------------------------------------


def torch_classes(logits: Array, height: int, width: int) -> tuple[Array, Array]:
    """torch's scores of each pixel, their argmax, and by how much it leads."""
    scores = torch.nn.functional.interpolate(
        torch.from_numpy(logits), size=(height, width), mode="bilinear", align_corners=False
    )[0].numpy()
    top = np.sort(scores, axis=0)
    return scores.argmax(axis=0), top[-1] - top[-2]


def segment(logits: Array, size: tuple[int, int], seen: Seen) -> Array:
    found = KINDS["mask"].read(asked({"logits": logits}, size, seen, ()))
    classes = KINDS["mask"].forms[MASK](found)
    assert isinstance(classes, np.ndarray)
    return classes


def same(found: Array, wanted: Array, lead: Array) -> bool:
    """Equal wherever the wanted class leads by more than rounding."""
    assert (lead > 1e-4).mean() > 0.9
    return bool((found == wanted)[lead > 1e-4].all())


SIDES = st.integers(1, 9)


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 99))
def test_interpolation_is_that_of_torch(small: tuple[int, int], large: tuple[int, int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(1, 2, *small)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values), size=large, mode="bilinear", align_corners=False
    ).numpy()
    rows, columns = ((np.arange(side) + 0.5) / side for side in large)
    found = interpolate(interpolate(values, rows, 2), columns, 3)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5


def random_logits(classes: int = 5, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(1, classes, 7, 9)).astype(np.float32)


def test_each_pixel_has_the_class_that_torch_gives_it() -> None:
    logits = random_logits()
    for size in ((7, 9), (50, 41), (3, 4)):
        wanted, lead = torch_classes(logits, *size)
        found = segment(logits, size, (0.0, 0.0, float(size[0]), float(size[1])))
        assert found.dtype == np.uint8
        assert same(found, wanted, lead)


def test_a_padded_image_has_no_classes_of_its_padding() -> None:
    """Padded by 10 rows above, 4 columns on the left, 6 rows below, none on the right."""
    logits = random_logits()
    wanted, lead = torch_classes(logits, 46, 44)
    found = segment(logits, (30, 40), (-10.0, -4.0, 36.0, 40.0))
    assert same(found, wanted[10:40, 4:], lead[10:40, 4:])


def test_pixels_that_the_model_does_not_see_are_255() -> None:
    logits = random_logits()
    wanted, lead = torch_classes(logits, 30, 20)
    found = segment(logits, (40, 60), (5.0, 12.0, 35.0, 32.0))
    assert same(found[5:35, 12:32], wanted, lead)
    found[5:35, 12:32] = 255
    assert (found == 255).all()


def test_a_pixel_is_seen_when_its_centre_is() -> None:
    found = segment(random_logits(), (4, 4), (0.6, 0.4, 3.5, 3.6))
    assert (found[1:3, 0:4] != 255).all()
    assert (found[[0, 3]] == 255).all()
    assert (segment(random_logits(), (4, 4), (0.6, 0.6, 0.9, 0.9)) == 255).all()


def test_a_large_image_is_read_in_blocks_to_the_same_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = random_logits()
    whole = segment(logits, (50, 41), (0.0, 0.0, 50.0, 41.0))
    for block in (1, 1000, 5 * 41 * 7):
        monkeypatch.setattr("edgekit_runtime.answers.mask._BLOCK", block)
        assert (segment(logits, (50, 41), (0.0, 0.0, 50.0, 41.0)) == whole).all()


@pytest.mark.parametrize(("classes", "kind", "unseen"), [(255, np.uint8, 255), (256, np.uint16, 65535)])
def test_numbers_of_many_classes_do_not_meet_that_of_unseen_pixels(
    classes: int, kind: type, unseen: int
) -> None:
    logits = np.zeros((1, classes, 1, 1), np.float32)
    logits[0, -1] = 1.0
    found = segment(logits, (1, 2), (0.0, 0.0, 1.0, 1.0))
    assert (found.tolist(), found.dtype) == ([[classes - 1, unseen]], kind)


def test_a_mask_is_kept_as_runs_and_told_by_shares() -> None:
    logits = np.zeros((1, 2, 2, 2), np.float32)
    logits[0, 1, 1] = 1.0
    answer = KINDS["mask"].read(asked({"logits": logits}, (2, 3), (0.0, 0.0, 2.0, 2.0), ("sky", "sea")))
    value = KINDS["mask"].json(answer)
    assert value == {"height": 2, "width": 3, "runs": [[0, 2], [255, 1], [1, 2], [255, 1]]}
    assert KINDS["mask"].text(answer) == "sky 33.3%\tsea 33.3%"


def test_a_mask_of_an_empty_part_is_refused() -> None:
    with pytest.raises(RunFailed, match="the model sees is empty"):
        segment(random_logits(), (4, 4), (3.0, 0.0, 3.0, 4.0))
