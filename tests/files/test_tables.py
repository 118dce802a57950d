"""Unknown keys are refused with the nearest known one; values round-trip."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import TargetFileError
from edgekit.files.digests import tree_digest, value_digest
from edgekit.files.manifests import Manifest, read_manifest, verify, write_manifest
from edgekit.files.tables import decode, encode, read_json, read_toml
from edgekit.values import Budget, Check, Interval, Outcome, Target
from edgekit_runtime.errors import DigestMismatch, ManifestError
from tests.files.test_directories import report_table


def test_a_misspelt_key_names_the_nearest_one() -> None:
    with pytest.raises(TargetFileError) as caught:
        decode({"name": "t", "budget": {"latncy_p90_ms": 3}}, Target, where="t.toml", error=TargetFileError)
    assert "$.budget.latncy_p90_ms" in caught.value.message
    assert "latency_p90_ms" in caught.value.hint


def test_a_misspelt_key_inside_a_list_of_tables_is_seen() -> None:
    manifest = {"files": [{"path": "a", "size": 1, "sha": "0"}]}
    with pytest.raises(ManifestError, match=r"\$\.files\[0\]\.sha`"):
        decode(manifest, Manifest, where="manifest.json")


def test_a_wrong_type_names_the_key() -> None:
    with pytest.raises(TargetFileError, match=r"\$\.budget\.latency_p50_ms"):
        decode({"name": "t", "budget": {"latency_p50_ms": "3"}}, Target, where="t", error=TargetFileError)


@given(
    st.builds(
        Check,
        key=st.text(),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        unit=st.text(),
        outcome=st.sampled_from(Outcome),
        observed=st.none() | st.builds(Interval, estimate=st.floats(allow_nan=False, allow_infinity=False)),
        reason=st.text(),
    )
)
def test_values_survive_json(check: Check) -> None:
    assert decode(json.loads(json.dumps(encode(check))), Check, where="x") == check


@given(
    st.dictionaries(
        st.sampled_from(sorted(Budget.__dataclass_fields__)),
        st.floats(min_value=0, max_value=1e9) | st.text(max_size=3) | st.none(),
        max_size=4,
    )
)
def test_any_budget_table_is_read_or_refused_by_name(table: dict[str, object]) -> None:
    try:
        budget = decode(table, Budget, where="t", error=TargetFileError)
    except TargetFileError as refused:
        assert "$" in refused.message
    else:
        assert all(
            math.isclose(getattr(budget, key), value) for key, value in table.items() if value is not None
        )


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        read_json(path)


@pytest.mark.parametrize("content", [b"a = ", b"\xff", b"a = 1\na = 2"])
def test_a_damaged_toml_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.toml"
    path.write_bytes(content)
    with pytest.raises(TargetFileError, match=r"t\.toml"):
        read_toml(path)


def make_report(path: Path) -> Manifest:
    path.mkdir()
    (path / "a.txt").write_text("a")
    (path / "b").mkdir()
    (path / "b" / "c.txt").write_text("c")
    return write_manifest(path, name="it", inputs=(), table=report_table())


def test_a_manifest_round_trips_and_verifies(tmp_path: Path) -> None:
    written = make_report(tmp_path / "r")
    read = read_manifest(tmp_path / "r", "report")
    assert read == written
    verify(tmp_path / "r", read)


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_changed_missing_or_new_file_is_named(tmp_path: Path, harm: str) -> None:
    manifest = make_report(tmp_path / "r")
    victim = tmp_path / "r" / "b" / "c.txt"
    if harm == "change":
        victim.write_text("d")
    elif harm == "remove":
        victim.unlink()
    else:
        (tmp_path / "r" / "extra.txt").write_text("x")
    with pytest.raises(DigestMismatch, match=r"extra\.txt" if harm == "add" else r"c\.txt"):
        verify(tmp_path / "r", manifest)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "C:/x"])
def test_a_path_in_a_manifest_never_leaves_its_directory(tmp_path: Path, path: str) -> None:
    make_report(tmp_path / "r")
    file = tmp_path / "r" / "manifest.json"
    data = json.loads(file.read_text())
    data["files"][0]["path"] = path
    file.write_text(json.dumps(data))
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "r")


def test_the_wrong_kind_of_directory_says_what_makes_the_right_one(tmp_path: Path) -> None:
    make_report(tmp_path / "r")
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "r", "model")
    assert "edgekit export" in caught.value.hint


def test_a_manifest_from_the_future_asks_for_an_upgrade(tmp_path: Path) -> None:
    make_report(tmp_path / "r")
    file = tmp_path / "r" / "manifest.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 99', 1))
    with pytest.raises(ManifestError, match="newer"):
        read_manifest(tmp_path / "r")


def test_digests_depend_on_names_and_bytes_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")
    (tmp_path / "two" / "f").rename(tmp_path / "two" / "g")
    assert tree_digest(tmp_path / "one") != tree_digest(tmp_path / "two")
    assert value_digest({"a": 1, "b": 2}) == value_digest({"b": 2, "a": 1})
