"""Opening an `.edgekit` file: verified as a whole first, then unpacked to a private directory, then run.

with open_package(Path("my-model.edgekit")) as package:
    package.self_test()
    print(package.predict(["a fine film"])[0].label)
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekit_runtime.agreement import GoldenJudgement, judge_goldens
from edgekit_runtime.answers import KINDS, Asked, Entry
from edgekit_runtime.answers.zero_shot import hypothesis
from edgekit_runtime.archive import Archive, Limits
from edgekit_runtime.calls import foreign
from edgekit_runtime.errors import (
    DigestMismatch,
    HardwareMissing,
    InputError,
    OpenFailed,
    PackageError,
    RunFailed,
    SelfTestFailed,
    SessionClosed,
)
from edgekit_runtime.goldens import Golden, read_goldens
from edgekit_runtime.manifests import MANIFEST, FileEntry, safe_relative
from edgekit_runtime.openers import load_opener
from edgekit_runtime.package_info import PACKAGE_START, SOURCE, PackageInfo, has_source, info_from_bytes
from edgekit_runtime.pipelines import open_artifact
from edgekit_runtime.processors import Processor, Row, load_processor
from edgekit_runtime.processors.base import check_rows
from edgekit_runtime.session import Array, Feeds, Session
from edgekit_runtime.signatures import fixed_sizes
from edgekit_runtime.values import OpenRequest, Signature

LIMITS = Limits()

_AGAIN = "copy or download the package again"
_SPACE = "free some space, or set TMPDIR to a directory on another disk"
_SPARE_BYTES = 16 << 20


def open_package(path: Path, *, limits: Limits = LIMITS) -> Package:
    """Verify every byte of the package at `path`, then unpack it to a private directory.

    Raises `PackageError`, `ManifestError` or `DigestMismatch` before anything is written.
    """
    with _verified(path, limits) as (archive, info):
        home = tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True)
        try:
            needed = [entry for entry in info.files if not entry.path.startswith(f"{SOURCE}/")]
            _unpack(archive, needed, path, Path(home.name))
        except BaseException:
            home.cleanup()
            raise
    return Package(info, home, path)


def unpack_package(path: Path, home: Path, parts: Sequence[str], *, limits: Limits = LIMITS) -> None:
    """Verify every byte of the package at `path`, then unpack `parts` of it, files or directories."""
    with _verified(path, limits) as (archive, info):
        wanted = [
            entry for entry in info.files if any(f"{entry.path}/".startswith(f"{part}/") for part in parts)
        ]
        _unpack(archive, wanted, path, home)


def read_info(path: Path, *, limits: Limits = LIMITS) -> PackageInfo:
    """Verify every byte of the package at `path` and say what it is. Nothing is unpacked."""
    with _verified(path, limits) as (_, info):
        return info


def is_package(path: Path) -> bool:
    """Whether the file at `path` begins like a package; a damaged or truncated one does too."""
    try:
        with path.open("rb") as stream:
            return PACKAGE_START.match(stream.read(256)) is not None
    except OSError:
        return False


class Package:
    """An unpacked package. Its session opens on first use. A context manager; `close` removes it all."""

    def __init__(self, info: PackageInfo, home: tempfile.TemporaryDirectory[str], path: Path) -> None:
        self.info = info
        self._home = home
        self._path = path
        self._session: Session | None = None
        self._processor: Processor | None = None
        self._closed = False

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Where it was unpacked: artifact/, processor/, golden/."""
        return Path(self._home.name)

    @property
    def session(self) -> Session:
        """The artifact, opened by its backend. Raises `OpenFailed` when that cannot be done here."""
        self._check_open()
        if self._session is None:
            table = self.info.table
            opener = load_opener(table.backend)
            request = OpenRequest(
                directory=self.directory / "artifact",
                precision=table.precision,
                threads=table.threads,
                device=table.device,
                options=table.options,
            )
            try:
                with foreign(OpenFailed, f"backend {table.backend!r} could not open {self.info.name}"):
                    self._session = open_artifact(opener, request)
            except HardwareMissing:
                raise
            except OpenFailed as refused:
                raise OpenFailed(refused.message, hint=self._rebuilding(refused.hint)) from refused
        return self._session

    def _rebuilding(self, hint: str) -> str:
        """`hint`, and how this machine makes an artifact of its own where the package carries its source."""
        if not has_source(self.info):
            return hint
        rebuild = f"`edgekit compile {self._path} -o DIR` builds it for this machine from the ONNX in it"
        return f"{hint}; or {rebuild}" if hint else rebuild

    @property
    def processor(self) -> Processor | None:
        """What makes feeds of rows; None when the package has none."""
        self._check_open()
        directory = self.directory / "processor"
        if self._processor is None and directory.is_dir():
            self._processor = load_processor(directory)
        return self._processor

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference on raw feeds."""
        session = self.session
        with foreign(RunFailed, f"backend {self.info.table.backend!r} failed to run {self.info.name}"):
            return session.run(feeds)

    def predict(self, rows: Sequence[Row | tuple[Row, Row]]) -> list[Any]:
        """The answer to each row, as its kind in `answers.KINDS` reads it.

        Rows run one by one, so that no row changes another's answer. A model that gives vectors runs
        on each of a pair, and the answer says how alike the two are.
        """
        table = self.info.table
        if table.answers == "zero-shot":
            raise InputError(
                f"{self.info.name} chooses from candidates, and none are given",
                hint="use choose(text, candidates), or --candidates one,other on the command line",
            )
        processor, checked = self._checked(rows)
        _check_pairs(table.answers, checked)
        answers = []
        for index, row in enumerate(checked):
            apart = table.answers == "vector" and isinstance(row, tuple)
            try:
                answers.append(self._answer(processor, row if apart else (row,)))
            except InputError as exc:
                alone = exc.message.startswith("row 0")  # so the processor calls its only row
                problem = exc.message.removeprefix("row 0") if alone else f": {exc.message}"
                raise InputError(f"row {index}{problem}", hint=exc.hint) from exc
        return answers

    def choose(self, text: str, candidates: Sequence[str]) -> Any:
        """Which of the candidates a text is about: the answer of a zero-shot classifier."""
        if self.info.table.answers != "zero-shot":
            raise InputError(f"{self.info.name} is for {self.info.table.task}, which takes no candidates")
        labels = [label.strip() for label in candidates]
        alike = len(set(labels)) < len(labels)
        if isinstance(candidates, str) or len(labels) < 2 or alike or "" in labels:
            raise InputError(f"candidates must be two or more different labels, found {candidates!r}")
        processor, rows = self._checked([(text, hypothesis(label)) for label in labels])
        return self._answer(processor, rows)

    def _checked(self, rows: Sequence[object]) -> tuple[Processor, list[Any]]:
        """The processor, and the rows when it may take them all."""
        processor = self.processor
        if processor is None:
            raise InputError(f"{self.info.name} has no processor for rows", hint="use run(feeds)")
        if processor.kind == "text":
            return processor, list(check_rows(rows))
        if isinstance(rows, str | Path):
            raise InputError(f"rows must be a list, found {str(rows)!r} alone", hint="put it in a list")
        return processor, list(rows)

    def _answer(self, processor: Processor, rows: Sequence[Row]) -> Any:
        """The answer to what these rows, each run alone, ask together."""
        table = self.info.table
        batch, length = fixed_sizes(self.session.signature)
        entries = []
        for row in rows:
            prepared = processor.prepare([row] * batch, pad_to=length)
            outputs = self.run(prepared.feeds)
            if batch > 1:
                outputs = {name: array[:1] if array.ndim else array for name, array in outputs.items()}
            entries.append(Entry(outputs=outputs, context=prepared.contexts[0]))
        asked = Asked(entries=tuple(entries), labels=table.labels, decode=processor.decode)
        return KINDS[table.answers].read(asked)

    def check_parity(self) -> int:
        """Read the recorded rows again; how many there are. Raises `SelfTestFailed` when one differs."""
        return 0 if self.processor is None else self.processor.check_parity()

    def self_test(self) -> GoldenJudgement:
        """Parity of the processor, then every golden that fits. Raises `SelfTestFailed` on a miss."""
        self.check_parity()
        goldens = read_goldens(self.directory / "golden")
        fitting = [golden for golden in goldens if _fits(golden, self.session.signature)]
        if not fitting:
            raise SelfTestFailed(f"{self.info.name}: none of its {len(goldens)} goldens fits its artifact")
        table = self.info.table
        judgement = judge_goldens(
            fitting,
            [self.run(golden.feeds) for golden in fitting],
            kind=table.answers,
            precision=table.precision,
            tolerance=table.tolerance,
        )
        if not judgement.passed:
            raise SelfTestFailed(
                f"{self.info.name}: {judgement.agreeing} of {judgement.cases} goldens agree: "
                f"{judgement.reason}",
                hint=self._rebuilding(
                    "this device or its engine version does not give the model's answers; do not use it"
                ),
            )
        skipped = len(goldens) - len(fitting)
        if skipped and not judgement.reason:
            return replace(judgement, reason=f"{skipped} goldens have other shapes than the artifact takes")
        return judgement

    def close(self) -> None:
        """Close the session and remove the directory. Calling it twice is fine."""
        self._closed = True
        session, self._session = self._session, None
        try:
            if session is not None:
                with foreign(
                    RunFailed, f"backend {self.info.table.backend!r} failed to close {self.info.name}"
                ):
                    session.close()
        finally:
            self._home.cleanup()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed(f"{self.info.name} was closed", hint="open the package again")


@contextmanager
def _verified(path: Path, limits: Limits) -> Iterator[tuple[Archive, PackageInfo]]:
    """The archive at `path` and its manifest, when every byte is as recorded."""
    with Archive(path, limits) as archive:
        info = _read_manifest(archive, path, limits)
        for entry in info.files:
            for _ in _hashed(archive, entry, path):
                pass
        yield archive, info


def _read_manifest(archive: Archive, path: Path, limits: Limits) -> PackageInfo:
    sizes = archive.sizes()
    if MANIFEST not in sizes:
        raise PackageError(f"{path} is a zip archive without {MANIFEST}", hint="it is not an .edgekit file")
    if sizes[MANIFEST] > limits.manifest:
        raise PackageError(f"{path}: {MANIFEST} has {sizes[MANIFEST]} bytes, more than {limits.manifest}")
    info = info_from_bytes(archive.read(MANIFEST), where=f"{path}: {MANIFEST}")
    listed = {entry.path: entry.size for entry in info.files}
    for name, size in listed.items():
        if name not in sizes:
            raise DigestMismatch(f"{path}: {name} is missing", hint=_AGAIN)
        if sizes[name] != size:
            raise DigestMismatch(f"{path}: {name} has {sizes[name]} bytes, not {size}", hint=_AGAIN)
    for name in sizes:
        if name not in listed and name != MANIFEST:
            raise DigestMismatch(f"{path}: {name} is not in its manifest", hint=_AGAIN)
    return info


def _hashed(archive: Archive, entry: FileEntry, path: Path) -> Iterator[bytes]:
    """The entry's bytes; raises at their end when they are not the recorded ones."""
    digest = hashlib.sha256()
    for chunk in archive.chunks(entry.path):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != entry.sha256:
        raise DigestMismatch(
            f"{path}: {entry.path} was changed: its sha256 is not the recorded one", hint=_AGAIN
        )


def _unpack(archive: Archive, files: Sequence[FileEntry], path: Path, home: Path) -> None:
    needed = sum(entry.size for entry in files) + _SPARE_BYTES
    try:
        free = shutil.disk_usage(home).free
        if free < needed:
            raise PackageError(f"{path} needs {needed} bytes in {home.parent}, {free} are free", hint=_SPACE)
        for entry in files:
            target = home / safe_relative(entry.path)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("xb") as stream:
                for chunk in _hashed(archive, entry, path):
                    stream.write(chunk)
    except OSError as exc:
        raise PackageError(
            f"{path} cannot be unpacked to {home}: {exc.strerror or exc}", hint=_SPACE
        ) from exc


def _check_pairs(answers: str, rows: Sequence[Row]) -> None:
    """Refuse rows that this kind of answers cannot be about, before any is run."""
    for index, row in enumerate(rows):
        if answers == "span" and not isinstance(row, tuple):
            raise InputError(
                f"row {index} must be a question and the text that answers it, found one text",
                hint="give pairs; on the command line, --pairs",
            )
        if answers == "tags" and isinstance(row, tuple):
            raise InputError(f"row {index} must be one text or its words, found a pair")


def _fits(golden: Golden, signature: Signature) -> bool:
    """Whether the golden has the inputs that the session takes, in sizes that it takes."""
    shapes = {spec.name: spec.shape for spec in signature.inputs}
    if set(shapes) != set(golden.feeds):
        return False
    for name, array in golden.feeds.items():
        if len(shapes[name]) != array.ndim:
            return False
        if any(
            isinstance(want, int) and want != size
            for want, size in zip(shapes[name], array.shape, strict=True)
        ):
            return False
    return True
