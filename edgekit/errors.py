"""Every error edgekit can explain, with a stable code and the process's exit code.

    EdgekitError               message, hint, stable code, exit code (from edgekit_runtime)
    ├── UsageError             usage                 2  it cannot be carried out as written
    │   ├── UnknownName        unknown-name          2  no such target, backend, task, option
    │   ├── TargetFileError    bad-target            2  unknown key, wrong type, negative budget, cycle
    │   ├── DataError          bad-data              2  rows lack columns, are empty, mislabelled
    │   ├── SourceError        bad-source            2  a model source that cannot be read
    │   ├── ModelFileError     bad-model             2  an ONNX file or model directory that is damaged
    │   ├── UnsafeSource       unsafe-source         2  pickle or remote code without consent
    │   ├── OutputError        bad-output            2  the output is foreign, read-only or full
    │   └── OutputBusy         output-busy           2  another run is writing the same output
    ├── ExportFailed           export-failed         3  torch could not export the model
    │   └── ExportWrong        export-wrong          3  the exported graph is not the same model
    ├── PluginError            plugin-failed         4  a plugin raised
    │   ├── PluginBroken       plugin-broken         4  a plugin cannot be imported or described
    │   ├── PluginConflict     plugin-conflict       4  two distributions provide one name
    │   ├── ApiMismatch        api-mismatch          4  a plugin was written for another API version
    │   ├── BackendUnavailable backend-unavailable   4  its engine or device is not here
    │   ├── ModelNotSupported  model-not-supported   4  a backend refuses a node of the model
    │   ├── CompileFailed      compile-failed        4  a compiler could not build the artifact
    │   └── ContractViolation  contract-violation    4  a plugin broke a promise: a bug in the plugin
    ├── WorkerError            worker-failed         4  the worker process is the trouble
    │   ├── WorkerCrashed      worker-crashed        4  it died by a signal or left early
    │   ├── WorkerTimeout      worker-timeout        4  it gave no answer within the time limit
    │   └── WorkerOutOfMemory  worker-out-of-memory  4  it met its memory limit
    ├── DeviceError            device-failed         4  a device cannot be reached
    ├── InternalError          internal              4  a bug in edgekit
    ├── PrecisionNotGiven      precision-not-given   1  the precision was not earned or executed
    │   └── NothingLowered     nothing-lowered       1  no node is left that the precision would change
    ├── ArtifactWrong          artifact-wrong        1  the artifact disagrees with the goldens
    └── PackageRefused         package-refused       1  the report does not allow packaging

The branches that a device needs too (ManifestError, DigestMismatch, PackageError, ProcessorError,
InputError, MissingDependency, OpenFailed, HardwareMissing, RunFailed, SessionClosed, ProtocolError,
TransferFailed, SelfTestFailed) are drawn in `edgekit_runtime.errors`. A failed budget is a value
(`Outcome.FAIL`), not an error.
"""

from __future__ import annotations

from edgekit_runtime.errors import EdgekitError


class UsageError(EdgekitError):
    """The command line or a file that the user wrote cannot be carried out as it is."""

    code = "usage"
    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing here carries. The hint holds the nearest known one."""

    code = "unknown-name"


class TargetFileError(UsageError):
    """A target file with an unknown key, a wrong type, a negative budget or a cycle."""

    code = "bad-target"


class DataError(UsageError):
    """Labelled rows that cannot be read or do not fit the model."""

    code = "bad-data"


class SourceError(UsageError):
    """A model source that is no model, or lacks a file."""

    code = "bad-source"


class ModelFileError(UsageError):
    """A model directory or ONNX file that is damaged or incomplete."""

    code = "bad-model"


class UnsafeSource(UsageError):
    """Loading the source would run code that the user did not agree to."""

    code = "unsafe-source"


class OutputError(UsageError):
    """The output path cannot be written, or holds something edgekit must not replace."""

    code = "bad-output"


class OutputBusy(UsageError):
    """Another edgekit run is writing the same output."""

    code = "output-busy"


class ExportFailed(EdgekitError):
    """torch could not turn the model into ONNX."""

    code = "export-failed"
    exit_code = 3


class ExportWrong(ExportFailed):
    """The exported graph answers differently from the model it was made of."""

    code = "export-wrong"


class PluginError(EdgekitError):
    """A plugin raised something that it did not promise."""

    code = "plugin-failed"


class PluginBroken(PluginError):
    """A plugin cannot be imported, or its description is not valid."""

    code = "plugin-broken"


class PluginConflict(PluginError):
    """Two installed distributions provide a backend of the same name."""

    code = "plugin-conflict"


class ApiMismatch(PluginError):
    """A plugin was written for another version of the plugin API."""

    code = "api-mismatch"


class BackendUnavailable(PluginError):
    """The backend is installed but its engine or device is missing on this machine."""

    code = "backend-unavailable"


class ModelNotSupported(PluginError):
    """The backend says before compiling that it cannot take this model."""

    code = "model-not-supported"


class CompileFailed(PluginError):
    """The compiler could not build the artifact."""

    code = "compile-failed"


class ContractViolation(PluginError):
    """A plugin broke a promise of the contract. This is a bug in the plugin."""

    code = "contract-violation"


class WorkerError(EdgekitError):
    """Something happened to the worker process, not to the model."""

    code = "worker-failed"


class WorkerCrashed(WorkerError):
    """The worker died by a signal or left before answering."""

    code = "worker-crashed"


class WorkerTimeout(WorkerError):
    """The worker gave no answer within the time limit and was stopped."""

    code = "worker-timeout"


class WorkerOutOfMemory(WorkerError):
    """The worker met its memory limit."""

    code = "worker-out-of-memory"


class DeviceError(EdgekitError):
    """A device cannot be reached or cannot start a worker."""

    code = "device-failed"


class InternalError(EdgekitError):
    """Something that edgekit did not foresee. This is a bug in edgekit."""

    code = "internal"


class PrecisionNotGiven(EdgekitError):
    """The precision that was asked for is not what the artifact would run in."""

    code = "precision-not-given"
    exit_code = 1


class NothingLowered(PrecisionNotGiven):
    """Beside the nodes kept high, nothing, or too little, is left that the precision would change."""

    code = "nothing-lowered"


class ArtifactWrong(EdgekitError):
    """The compiled artifact does not reproduce the model's recorded outputs."""

    code = "artifact-wrong"
    exit_code = 1


class PackageRefused(EdgekitError):
    """The artifact's report does not allow packaging."""

    code = "package-refused"
    exit_code = 1
