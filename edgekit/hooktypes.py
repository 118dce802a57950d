"""Descriptions that hooks other than `edgekit_backend` return. Factories are "module:name"."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task. factory: "module:Class" of an `edgekit.tasks.base.Task`."""

    name: str
    factory: str
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKind:
    """A way to reach devices. factory: "module:function" taking the uri, returning a Device."""

    scheme: str
    factory: str
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFormat:
    """A rendering of a report. writer: "module:function" taking a Manifest, returning text."""

    name: str
    filename: str
    writer: str
