"""Every promise of the contract on real engines for one GPU. Where that is not here, what must open an engine
is skipped as `needs the device`, and what builds one is tested all the same."""

from __future__ import annotations

from edgekit.testing import BackendContract


class TestTensorRt(BackendContract):
    backend = "tensorrt"
    target = "rtx-4060"
    time_limit = 300.0
