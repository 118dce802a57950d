"""Every promise of a backend, tested by the kit that edgekit ships."""

from __future__ import annotations

from edgekit.testing import BackendContract


class TestOpenVino(BackendContract):
    backend = "openvino"
