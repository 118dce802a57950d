"""Faults of the session half: numbers, arrays, closing, looking inside."""

from __future__ import annotations

from tests.testing.sabotage import Sabotage

SESSION_HALF = (
    Sabotage(
        name="wrong-numbers",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        got = super().run(feeds)
        return {name: value * FACTOR if value.dtype == np.float32 else value for name, value in got.items()}

import numpy as np

FACTOR = np.float32(1.01)
""",
        caught_by=("test_right_numbers[matmul]", "test_right_numbers[conv]", "test_right_numbers[fixed]"),
        knock_ons=(
            "test_right_numbers",
            "test_dynamic_batch",
            "test_dynamic_sequence",
            "test_reference_is_exact",
            "test_any_memory_layout_is_taken",
            "test_sessions_are_independent",
            "test_opens_with_threads",
        ),
    ),
    Sabotage(
        name="fast-math",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        got = super().run(feeds)
        return {name: self.rough(value) if value.dtype.kind == "f" else value for name, value in got.items()}

    def rough(self, value):
        mantissa, exponent = np.frexp(value)
        return np.ldexp(np.round(mantissa * 2**14) / np.float32(2**14), exponent).astype(np.float32)

import numpy as np
""",
        caught_by=("test_reference_is_exact",),
    ),
    Sabotage(
        name="answers-other-sizes-wrongly",
        plugin='SAID = dict(capabilities=("reference", "placement"))',
        session="""
class Session(complete.Session):
    def run(self, feeds):
        return {
            name: value if value.shape[:1] != (3,) else np.zeros_like(value)
            for name, value in super().run(feeds).items()
        }

import numpy as np
""",
        caught_by=("test_other_sizes_are_right_or_refused",),
        knock_ons=("test_right_numbers[fixed]",),
    ),
    Sabotage(
        name="fixed-batch",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        first = next(iter(feeds.values()))
        if first.shape[:1] not in ((), (4,)) and self.signature.inputs[0].shape[0] == "batch":
            raise RunFailed("built for a batch of 4")
        return super().run(feeds)
""",
        caught_by=("test_dynamic_batch[1]", "test_dynamic_batch[3]", "test_dynamic_batch[5]"),
        knock_ons=("test_dynamic_sequence",),
    ),
    Sabotage(
        name="pads-the-sequence",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        if "mask" in feeds and feeds["mask"].shape[1] < 8:
            short = 8 - feeds["mask"].shape[1]
            more = [(0, 0), (0, short), (0, 0)]
            wide = {name: np.pad(value, more[: value.ndim]) for name, value in feeds.items()}
            return super().run({**wide, "mask": np.ones_like(wide["mask"])})
        return super().run(feeds)

import numpy as np
""",
        caught_by=("test_dynamic_sequence[1]", "test_dynamic_sequence[3]"),
    ),
    Sabotage(
        name="mutates-the-feeds",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        got = super().run(feeds)
        for value in feeds.values():
            if value.flags.writeable and value.dtype.kind == "f":
                value *= 2
        return got
""",
        caught_by=("test_feeds_are_not_changed[matmul]", "test_feeds_are_not_changed[attention]"),
        knock_ons=("test_feeds_are_not_changed",),
    ),
    Sabotage(
        name="reuses-its-buffer",
        session="""
class Session(complete.Session):
    buffers = {}

    def run(self, feeds):
        got = super().run(feeds)
        for name, value in got.items():
            kept = self.buffers.get((id(self), name, value.shape))
            if kept is None:
                self.buffers[id(self), name, value.shape] = value
            else:
                kept[...] = value
                got[name] = kept
        return got
""",
        caught_by=("test_outputs_belong_to_the_caller[matmul]", "test_outputs_belong_to_the_caller[gather]"),
        knock_ons=("test_outputs_belong_to_the_caller",),
    ),
    Sabotage(
        name="hands-out-the-feed",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        got = super().run(feeds)
        return {**got, "alpha": feeds["x"]} if "alpha" in got else got
""",
        caught_by=("test_outputs_belong_to_the_caller[two-outputs]",),
    ),
    Sabotage(
        name="needs-its-own-memory",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        if not all(value.flags.c_contiguous for value in feeds.values()):
            raise ValueError("ndarray is not C-contiguous")
        return super().run(feeds)
""",
        caught_by=("test_any_memory_layout_is_taken",),
    ),
    Sabotage(
        name="takes-wrong-feeds",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        wanted = self.signature.inputs
        if self._engine is not None and len(wanted) == 1:
            value = next(iter(feeds.values())).astype(wanted[0].dtype)
            size = wanted[0].shape[-1]
            if isinstance(size, int) and value.shape[-1] != size:
                value = np.resize(value, (value.shape[0], size))
            feeds = {wanted[0].name: value}
        return super().run(feeds)

import numpy as np
""",
        caught_by=tuple(
            f"test_refuses_wrong_feeds[{wrong}]"
            for wrong in ("extra-name", "wrong-dtype", "wrong-name", "wrong-rank", "wrong-size")
        ),
    ),
    Sabotage(
        name="runs-after-close",
        session="""
class Session(complete.Session):
    def close(self):
        pass
""",
        caught_by=("test_run_after_close_is_refused",),
    ),
    Sabotage(
        name="cannot-close-twice",
        session="""
class Session(complete.Session):
    def close(self):
        if self._engine is None:
            raise RuntimeError("double free")
        super().close()
""",
        caught_by=("test_close_twice_is_fine",),
    ),
    Sabotage(
        name="one-engine-for-all",
        session="""
class Session(complete.Session):
    latest = None

    def __init__(self, request):
        super().__init__(request)
        Session.latest = self

    def run(self, feeds):
        other = Session.latest
        if other is self or self._engine is None:
            return super().run(feeds)
        self._engine, own = other._engine, self._engine
        try:
            return super().run(feeds)
        finally:
            self._engine = own
""",
        caught_by=("test_sessions_are_independent",),
    ),
    Sabotage(
        name="remembers-wrongly",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        seen = self.__dict__.setdefault("seen", {})
        key = b"".join(str((name, value.shape)).encode() + value.tobytes() for name, value in feeds.items())
        if key in seen and self._engine is not None:
            return {name: value.copy() for name, value in self.last.items()}
        self.last = seen[key] = super().run(feeds)
        return {name: value.copy() for name, value in self.last.items()}
""",
        caught_by=("test_repeated_runs_agree",),
    ),
    Sabotage(
        name="one-thread-only",
        session="""
class Session(complete.Session):
    def __init__(self, request):
        if request.threads != 1:
            raise OpenFailed("built for one thread")
        super().__init__(request)
""",
        caught_by=("test_opens_with_threads[2]",),
    ),
    Sabotage(
        name="leaves-traces",
        session="""
class Session(complete.Session):
    def profile(self):
        Path("profile.json").write_text(str(time.time()))
        return super().profile()
""",
        caught_by=("test_running_writes_nothing",),
    ),
    Sabotage(
        name="opens-a-damaged-artifact",
        session="""
class Session(complete.Session):
    def __init__(self, request):
        try:
            super().__init__(request)
        except OpenFailed:
            self._engine = None
            self._signature = Signature(inputs=(), outputs=())

from edgekit_runtime.values import Signature
""",
        caught_by=(
            "test_open_refuses_a_damaged_artifact[truncated]",
            "test_open_refuses_a_damaged_artifact[missing]",
        ),
    ),
    Sabotage(
        name="blames-the-hardware",
        session="""
class Session(complete.Session):
    def __init__(self, request):
        try:
            super().__init__(request)
        except OpenFailed as error:
            raise HardwareMissing("there is no such chip in this machine") from error
""",
        caught_by=(
            "test_open_refuses_a_damaged_artifact[truncated]",
            "test_open_refuses_a_damaged_artifact[missing]",
        ),
    ),
    Sabotage(
        name="renames-its-outputs",
        session="""
class Session(complete.Session):
    @property
    def signature(self):
        said = super().signature
        return replace(said, outputs=tuple(sorted(said.outputs, key=lambda spec: spec.name)))

from dataclasses import replace
""",
        caught_by=("test_signature_is_the_models",),
    ),
    Sabotage(
        name="counts-no-node",
        session="""
class Session(complete.Session):
    def placement(self):
        return replace(super().placement(), rows=())

from dataclasses import replace
""",
        caught_by=("test_placement_counts_executed_nodes",),
        knock_ons=("test_lower_precision_is_executed[int8]", "test_keep_high_is_honoured"),
    ),
    Sabotage(
        name="profiles-three-times",
        session="""
class Session(complete.Session):
    def profile(self):
        return super().profile() * 3
""",
        caught_by=("test_profile_shares_make_sense",),
    ),
)
