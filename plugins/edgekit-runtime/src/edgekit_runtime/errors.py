"""The error tree of both houses starts here; `edgekit.errors` grows the compile-side branches.

EdgekitError                     message, hint, stable code, exit code
├── ManifestError                bad-manifest        2   a manifest.json that cannot be trusted
├── DigestMismatch               digest-mismatch     2   a file is not the one that was hashed
├── PackageError                 bad-package         2   an .edgekit file that cannot be trusted
├── ProcessorError               bad-processor       2   processor/ is missing or malformed
├── InputError                   bad-input           2   rows or feeds that the model cannot take
├── MissingDependency            missing-dependency  4   an optional library is not installed
├── OpenFailed                   open-failed         4   a backend could not open an artifact
│   └── HardwareMissing          hardware-missing    4   what the engine runs on is not in this machine
├── RunFailed                    run-failed          4   an inference failed or broke its contract
├── SessionClosed                session-closed      4   a session was used after close
├── ProtocolError                protocol-error      4   bytes on the worker pipe that are no frame
├── TransferFailed               transfer-failed     4   a file could not be brought to a device, or back
└── SelfTestFailed               self-test-failed    1   a package's goldens differ on this device
"""

from __future__ import annotations

from typing import ClassVar


class EdgekitError(Exception):
    """Anything edgekit can explain.

    `message` says what happened and on which file, key or node; `hint` what to do about it.
    `code` is stable across versions (scripts may compare it); `exit_code` is the process's.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ManifestError(EdgekitError):
    """A manifest.json is missing, malformed, or points outside its directory."""

    code = "bad-manifest"
    exit_code = 2


class DigestMismatch(EdgekitError):
    """A file's sha256 or size is not what the manifest recorded."""

    code = "digest-mismatch"
    exit_code = 2


class PackageError(EdgekitError):
    """An .edgekit file is truncated, oversized, or holds entries that must not be unpacked."""

    code = "bad-package"
    exit_code = 2


class ProcessorError(EdgekitError):
    """The processor directory is missing a file or holds values that make no sense."""

    code = "bad-processor"
    exit_code = 2


class InputError(EdgekitError):
    """Rows or feeds do not fit the model."""

    code = "bad-input"
    exit_code = 2


class MissingDependency(EdgekitError):
    """An optional library is needed for this and is not installed."""

    code = "missing-dependency"
    exit_code = 4


class OpenFailed(EdgekitError):
    """A backend refused to open an artifact, or is not installed here."""

    code = "open-failed"
    exit_code = 4


class HardwareMissing(OpenFailed):
    """What the engine runs on (a GPU, its driver) is not in this machine: the artifact may well be right.

    message says what is missing; a stage that can do without running takes it for "not measured here".
    """

    code = "hardware-missing"
    exit_code = 4


class RunFailed(EdgekitError):
    """An inference raised, or returned something that is not what the session declares."""

    code = "run-failed"
    exit_code = 4


class SessionClosed(EdgekitError):
    """A session was used after `close()`."""

    code = "session-closed"
    exit_code = 4


class ProtocolError(EdgekitError):
    """The worker pipe carried bytes that are not a frame of this protocol."""

    code = "protocol-error"
    exit_code = 4


class TransferFailed(EdgekitError):
    """A file could not be brought to a device or back, or is not there what it is here."""

    code = "transfer-failed"
    exit_code = 4


class SelfTestFailed(EdgekitError):
    """A package ran on this device and did not reproduce its goldens."""

    code = "self-test-failed"
    exit_code = 1


def error_class(code: str) -> type[EdgekitError] | None:
    """The class that carries `code`, among all that are imported; None when there is none."""
    pending: list[type[EdgekitError]] = [EdgekitError]
    while pending:
        cls = pending.pop()
        if cls.code == code:
            return cls
        pending.extend(cls.__subclasses__())
    return None
