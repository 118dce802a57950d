"""No package, however damaged or crafted, does more than raise an error that says what is wrong."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit_runtime.archive import Limits
from edgekit_runtime.errors import DigestMismatch, EdgekitError, ManifestError, PackageError
from edgekit_runtime.package_info import info_to_bytes
from edgekit_runtime.reader import open_package, read_info

WEIGHTS = "artifact/weights.safetensors"
CENTRAL = struct.Struct("<4s4B4HL2L5H2L")


@pytest.fixture
def refused(tmp_path: Path, unpack_to: Callable[[], list[str]]) -> Callable[..., EdgekitError]:
    """Opens bytes as a package; the error, after a check that nothing was unpacked for it."""

    def check(
        data: bytes, message: str, error: type[EdgekitError] = PackageError, **limits: int
    ) -> EdgekitError:
        path = tmp_path / "hostile.edgekit"
        path.write_bytes(data)
        for attempt in (open_package, read_info):
            with pytest.raises(EdgekitError) as caught:
                attempt(path, limits=Limits(**limits))
            assert message in str(caught.value)
            assert type(caught.value) is error
            assert str(path) in caught.value.message
            assert caught.value.exit_code == 2
        assert unpack_to() == []
        return caught.value

    return check


def rewritten(data: bytes, change: Callable[[zipfile.ZipInfo], zipfile.ZipInfo | None]) -> bytes:
    """The archive again, its entries changed or (None) left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            changed = change(entry)
            if changed is not None:
                new.writestr(changed, content)
    return buffer.getvalue()


def with_entry(parts, name: str, content: bytes = b"x", **attributes: int) -> bytes:
    """An honest package with one more entry; zipfile would tidy some names, so they are set last."""
    buffer = io.BytesIO(parts.zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = entry.orig_filename = name
        for key, value in attributes.items():
            setattr(entry, key, value)
        archive.writestr(entry, content)
    return buffer.getvalue()


def patched(data: bytes, name: str, **fields: int) -> bytes:
    """The archive with fields of an entry's line in the table of contents overwritten."""
    order = {"version": 3, "flags": 5, "compression": 6, "crc": 9, "packed": 10, "unpacked": 11, "offset": 18}
    place = data.index(b"PK\x01\x02")
    while True:
        line = list(CENTRAL.unpack_from(data, place))
        length, extra, comment = line[12:15]
        if data[place + CENTRAL.size : place + CENTRAL.size + length] == name.encode():
            break
        place += CENTRAL.size + length + extra + comment
    for field, value in fields.items():
        line[order[field]] = value
    return data[:place] + CENTRAL.pack(*line) + data[place + CENTRAL.size :]


def test_what_is_no_zip_is_told_apart_from_what_is_torn(parts, refused) -> None:
    honest = parts.zip()
    refused(b"", "is empty")
    refused(b"#!/bin/sh\nrm -rf /\n", "not an .edgekit file")
    refused(honest[4:], "not an .edgekit file")
    refused(b"PK\x03\x04", "is truncated")
    for length in (31, len(honest) // 2, len(honest) - 22, len(honest) - 1):
        refused(honest[:length], "is truncated")


def test_bytes_before_after_or_in_a_comment_are_refused(parts, refused) -> None:
    honest = parts.zip()
    refused(honest + b"#", "bytes after its end")
    buffer = io.BytesIO(honest)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"hello"
    refused(buffer.getvalue(), "bytes after its end")
    refused(b"PK\x03\x04" + honest, "bytes before its first entry")


def test_a_changed_file_is_named(parts, refused) -> None:
    content = parts.files[WEIGHTS]
    info = info_to_bytes(parts.info())
    changed = {**parts.files, WEIGHTS: content[:-1] + b"\x01"}
    refused(replace(parts, files=changed, manifest=info).zip(), f"{WEIGHTS} was changed", DigestMismatch)
    longer = {**parts.files, WEIGHTS: content + b"\0"}
    refused(
        replace(parts, files=longer, manifest=info).zip(), f"{WEIGHTS} has {len(content) + 1}", DigestMismatch
    )
    missing = {path: data for path, data in parts.files.items() if path != WEIGHTS}
    refused(replace(parts, files=missing, manifest=info).zip(), f"{WEIGHTS} is missing", DigestMismatch)
    extra = replace(parts, extra={"artifact/more": b"1"})
    refused(extra.zip(), "artifact/more is not in its manifest", DigestMismatch)


def test_a_change_in_the_stored_bytes_is_seen_by_its_checksum(parts, refused) -> None:
    honest = parts.zip()
    refused(honest.replace(parts.files[WEIGHTS], parts.files[WEIGHTS][:-1] + b"\x01"), "is damaged")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../x", "'..'"),
        ("artifact/../../x", "'..'"),
        ("/etc/cron.d/x", "absolute"),
        ("artifact\\x", "backslash"),
        ("C:/x", "colon"),
        ("artifact/x\0.txt", "control character"),
        ("artifact//x", "empty part"),
        ("artifact/", "is a directory"),
        ("artifact/NUL", "device name"),
        ("x" * 2000, "longer than"),
    ],
)
def test_an_unsafe_path_is_refused(parts, refused, name: str, reason: str) -> None:
    refused(with_entry(parts, name), reason)


def test_links_devices_and_directories_are_refused(parts, refused) -> None:
    link = with_entry(parts, "artifact/x", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16)
    refused(link, "'artifact/x' is a symbolic link")
    for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFSOCK):
        refused(with_entry(parts, "artifact/x", external_attr=(kind | 0o644) << 16), "is not a plain file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name", [WEIGHTS, WEIGHTS.upper(), "Artifact/weights.safetensors", "MANIFEST.JSON", "manifest.json"]
)
def test_two_entries_for_one_file_are_refused(parts, refused, name: str) -> None:
    refused(with_entry(parts, name), "are the same file")


def test_encrypted_entries_and_unknown_compressions_are_refused(parts, refused) -> None:
    honest = parts.zip()
    for flag in (0x1, 0x40, 0x2000):
        refused(patched(honest, WEIGHTS, flags=flag), f"'{WEIGHTS}' is encrypted")
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        data = rewritten(honest, lambda entry, c=compression: _with(entry, compress_type=c))
        refused(data, f"uses the compression {compression}")
    refused(patched(honest, WEIGHTS, compression=99), "uses the compression 99")
    refused(patched(honest, WEIGHTS, version=99), "is damaged")


def _with(entry: zipfile.ZipInfo, **attributes: int) -> zipfile.ZipInfo:
    for key, value in attributes.items():
        setattr(entry, key, value)
    return entry


def test_bombs_are_refused_by_what_they_declare(parts, refused) -> None:
    zeros = bytes(20 << 20)
    bomb = with_entry(parts, "artifact/zeros", zeros, compress_type=zipfile.ZIP_DEFLATED)
    refused(bomb, "would unpack to over 200 times its size")
    refused(parts.zip(), "entries, more than 3", entries=3)
    refused(parts.zip(), "bytes, more than 1000", total=1000)
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for index in range(500):
            archive.writestr(f"artifact/{index}", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    refused(many.getvalue(), "would unpack to over 200 times its size")
    refused(many.getvalue(), "has 500 entries, more than 499", entries=499)


def test_a_bomb_that_lies_about_its_size_is_stopped_at_that_size(parts, refused) -> None:
    """The manifest and the table of contents agree on 10 bytes; the packed stream holds 20 MiB."""
    zeros = bytes(20 << 20)
    liar = replace(parts, files={**parts.files, "golden/x.json": bytes(10)})
    manifest = info_to_bytes(liar.info())
    packed = replace(liar, files={**parts.files, "golden/x.json": zeros}, manifest=manifest).zip()
    refused(patched(packed, "golden/x.json", unpacked=10), "golden/x.json")


def test_a_declared_size_that_is_too_big_is_noticed(parts, refused) -> None:
    data = {**parts.files, "golden/x.json": b"{}" * 100}
    honest = replace(parts, files=data)
    longer = replace(parts, files={**data, "golden/x.json": b"{}" * 101})
    manifest = info_to_bytes(longer.info())
    refused(patched(replace(honest, manifest=manifest).zip(), "golden/x.json", unpacked=202), "golden/x.json")
    refused(patched(parts.zip(), WEIGHTS, unpacked=1 << 31), "packed and unpacked sizes differ")
    refused(patched(parts.zip(), WEIGHTS, unpacked=1 << 31, packed=1 << 31), "overlap")


def test_entries_inside_one_another_are_refused(parts, refused) -> None:
    honest = parts.zip()
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        offset = archive.getinfo("golden/cases.json").header_offset
    refused(patched(honest, WEIGHTS, offset=offset), "overlap")
    refused(patched(honest, WEIGHTS, offset=len(honest) - 30), "overlap")


def test_a_lie_about_the_table_of_contents_costs_no_memory(parts, refused) -> None:
    honest = bytearray(parts.zip())
    struct.pack_into("<L", honest, len(honest) - 10, 0xFFFFFFF0)
    refused(bytes(honest), "table of contents claims 4294967280 bytes")
    struct.pack_into("<H", honest, len(honest) - 12, 60_000)
    refused(bytes(honest), "has 60000 entries")


def test_an_archive_inside_the_archive_is_just_bytes(parts, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../bomb", bytes(5 << 20))
    nested = replace(parts, files={**parts.files, "artifact/inner.zip": inner.getvalue()})
    with open_package(nested.write(tmp_path / "p.edgekit")) as opened:
        assert (opened.directory / "artifact" / "inner.zip").read_bytes() == inner.getvalue()


def edited(parts, **changes: object) -> bytes:
    table = json.loads(info_to_bytes(parts.info()))
    for key, value in changes.items():
        if value is ...:
            del table[key]
        else:
            table[key] = value
    return replace(parts, manifest=json.dumps(table).encode()).zip()


def test_a_manifest_that_cannot_be_trusted_is_refused(parts, refused) -> None:
    def left_out(entry: zipfile.ZipInfo) -> zipfile.ZipInfo | None:
        return None if entry.filename == "manifest.json" else entry

    refused(rewritten(parts.zip(), left_out), "without manifest.json")
    refused(parts.zip(), "bytes, more than 100", manifest=100)
    for content, message in (
        (b"", "not valid JSON"),
        (b"nope", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"kind": "package", "kind": "package"}', "occurs twice"),
        (b'{"kind": NaN}', "NaN is not JSON"),
        (b'{"kind": 1e999}', "not valid JSON"),
        (b'{"kind": "\\ud800"}', "not valid JSON"),
        (b'{"kind": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[]", "kind is None"),
        (b'{"kind": "artifact", "schema": 1}', "kind is 'artifact'"),
    ):
        refused(replace(parts, manifest=content).zip(), message, ManifestError)


def test_a_manifest_whose_values_make_no_sense_names_the_key(parts, refused) -> None:
    table = json.loads(info_to_bytes(parts.info()))["package"]
    files = json.loads(info_to_bytes(parts.info()))["files"]
    for changes, message in (
        ({"schema": 2}, "update edgekit-runtime"),
        ({"schema": "1"}, "schema is '1'"),
        ({"digets": ""}, "did you mean 'digest'"),
        ({"name": ...}, "lacks the key 'name'"),
        ({"name": ""}, "name is empty"),
        ({"name": 3}, "name must be a string"),
        ({"files": {}}, "files must be a list"),
        ({"files": []}, "no files in artifact/"),
        ({"files": [{**files[0], "path": "../x"}, *files[1:]]}, "'..'"),
        ({"files": [{**files[0], "path": "secrets/x"}, *files[1:]]}, "is in none of"),
        ({"files": [{**files[0], "path": "artifact"}, *files[1:]]}, "is in none of"),
        ({"files": [{**files[0], "size": -1}, *files[1:]]}, "negative"),
        ({"files": [{**files[0], "size": 1.5}, *files[1:]]}, "files.size"),
        ({"files": [{**files[0], "sha265": ""}, *files[1:]]}, "did you mean 'sha256'"),
        ({"files": [*files, files[0]]}, "the same file"),
        ({"files": [7]}, "files"),
        ({"digest": "sha256:" + "0" * 64}, "digest is not that of the files"),
        ({"digest": "md5:0"}, "digest is 'md5:0'"),
        ({"inputs": [{"role": "model"}]}, "lacks digest"),
        ({"package": {**table, "backedn": "x"}}, "did you mean 'backend'"),
        ({"package": {k: v for k, v in table.items() if k != "backend"}}, "lacks backend"),
        ({"package": {**table, "precision": "int3"}}, "precision is 'int3'"),
        ({"package": {**table, "verdict": "FINE"}}, "verdict is 'FINE'"),
        ({"package": {**table, "confidence": 2}}, "confidence is 2"),
        ({"package": {**table, "threads": 0}}, "threads is 0"),
        ({"package": {**table, "threads": True}}, "threads"),
        ({"package": {**table, "labels": ["a", "a"]}}, "one label twice"),
        ({"package": {**table, "tolerance": {"atol": -1, "rtol": 0}}}, "tolerance is negative"),
        ({"package": {**table, "answers": "vibes"}}, "answers is 'vibes'"),
        ({"package": {k: v for k, v in table.items() if k != "answers"}}, "lacks answers"),
        ({"package": {**table, "options": {"a": [1]}}}, "options.a"),
        ({"package": 3}, "package"),
    ):
        refused(edited(parts, **changes), message, ManifestError)


@pytest.fixture(scope="module")
def honest(parts) -> bytes:
    return parts.zip()


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_no_damage_gives_anything_but_an_error_or_the_same_package(
    parts, honest: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(honest)
    contents = honest.index(b"PK\x01\x02")
    places = st.integers(0, len(honest) - 1) | st.integers(contents, len(honest) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=3)):
        damaged[place] = value
    if data.draw(st.booleans()):
        del damaged[data.draw(places) :]
    survives(parts, bytes(damaged), tmp_path_factory.getbasetemp() / "damaged.edgekit")


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=200), place=st.floats(0, 1), length=st.integers(0, 60))
@example(content=b"PK\x05\x06" + bytes(18), place=1.0, length=0)
def test_no_splice_gives_anything_but_an_error_or_the_same_package(
    parts, honest: bytes, tmp_path_factory: pytest.TempPathFactory, content: bytes, place: float, length: int
) -> None:
    index = int(place * len(honest))
    spliced = honest[:index] + content + honest[index + length :]
    survives(parts, spliced, tmp_path_factory.getbasetemp() / "spliced.edgekit")


def survives(parts, data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        with open_package(path) as opened:
            info = opened.info
            found = {
                file.relative_to(opened.directory).as_posix(): file.read_bytes()
                for file in opened.directory.rglob("*")
                if file.is_file()
            }
    except EdgekitError as error:
        assert error.exit_code == 2
        assert error.message
    else:
        assert info == parts.info()
        assert found == parts.files


@pytest.mark.slow
def test_no_single_changed_byte_gives_anything_but_an_error_or_the_same_package(
    parts, honest: bytes, tmp_path: Path
) -> None:
    for place in range(len(honest)):
        for value in (honest[place] ^ 1, honest[place] ^ 0x80, 0xFF):
            survives(parts, honest[:place] + bytes([value]) + honest[place + 1 :], tmp_path / "p.edgekit")
