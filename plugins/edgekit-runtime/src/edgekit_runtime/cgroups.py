"""CPU and memory limits of this process's control group, versions 1 and 2, nested groups included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

#: Version 1 writes "no limit" as the highest page-aligned number.
_NO_LIMIT = 1 << 60


def cpu_limit(root: Path = Path("/")) -> float | None:
    """CPUs that the quota allows, the tightest of all enclosing groups; None without one."""
    limits = [_quota(directory) for directory in group_directories("cpu", root)]
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the group may use, the tightest of all enclosing groups; None without a limit."""
    limits = []
    for directory in group_directories("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(directory / name)
            if limit is not None and limit < _NO_LIMIT:
                limits.append(limit)
    return min(limits, default=None)


def group_directories(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Directories of the groups that this process is in, innermost first, in both versions."""
    groups = _own_groups(_text(root / "proc/self/cgroup"))
    for version, controllers, mounted_from, mount_point in _mounts(_text(root / "proc/self/mountinfo")):
        if version == 1 and controller not in controllers:
            continue
        group = groups.get(controller if version == 1 else "")
        if group is None:
            continue
        base = root / mount_point.lstrip("/")
        yield from _upwards(base, _below(group, mounted_from))


def _below(group: str, mounted_from: str) -> PurePosixPath:
    """The group's path under the mount point. In a container the mount may begin inside the tree."""
    path = PurePosixPath(group)
    try:
        return path.relative_to(mounted_from)
    except ValueError:
        return PurePosixPath()


def _upwards(base: Path, below: PurePosixPath) -> Iterator[Path]:
    parts = [part for part in below.parts if part not in ("/", "..")]
    for end in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:end])


def _own_groups(text: str) -> dict[str, str]:
    """Controller -> path; the unified hierarchy's controller is ""."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            for controller in fields[1].split(","):
                groups[controller] = fields[2]
    return groups


def _mounts(text: str) -> Iterator[tuple[int, tuple[str, ...], str, str]]:
    """(version, controllers, root of the mount, mount point) of each cgroup mount."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not separator or len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        yield version, tuple(kind[-1].split(",")), _plain(fields[3]), _plain(fields[4])


def _plain(path: str) -> str:
    """Undo mountinfo's octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _quota(directory: Path) -> float | None:
    words = _text(directory / "cpu.max").split()
    if len(words) == 2 and words[0].isdecimal() and int(words[1]) > 0:
        return int(words[0]) / int(words[1])
    quota, period = _number(directory / "cpu.cfs_quota_us"), _number(directory / "cpu.cfs_period_us")
    if quota is not None and period and quota > 0:
        return quota / period
    return None


def _number(path: Path) -> int | None:
    word = _text(path).strip()
    return int(word) if re.fullmatch(r"-?\d+", word) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
