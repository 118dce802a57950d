"""The faults that the kit must name. Each is one that a real backend has had, or nearly."""

from __future__ import annotations

from tests.testing.sabotage import Sabotage

HOST = "test_the_host_finds_no_fault"

COMPILE_HALF = (
    Sabotage(
        name="writes-beside",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        (request.workdir.parent / "cache.bin").write_bytes(b"tuned")
        return super().compile(request, progress)
""",
        caught_by=("test_compile_writes_only_in_its_directory",),
        knock_ons=(HOST,),
    ),
    Sabotage(
        name="writes-home",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        (Path.home() / ".engine-cache").write_bytes(b"for next time")
        return super().compile(request, progress)
""",
        caught_by=("test_compile_writes_only_in_its_directory",),
    ),
    Sabotage(
        name="changes-the-model",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        built = super().compile(request, progress)
        onnx.save_model(onnx.load(request.model), request.model)
        return built
""",
        caught_by=("test_compile_leaves_the_model_untouched",),
        knock_ons=(HOST,),
    ),
    Sabotage(
        name="lists-too-much",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        built = super().compile(request, progress)
        return replace(built, files=(*built.files, "tuning.bin"))
""",
        caught_by=("test_compile_lists_exactly_the_files_it_wrote",),
        knock_ons=(HOST,),
    ),
    Sabotage(
        name="lists-too-little",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        (request.workdir / "tuning.bin").write_bytes(b"tuned")
        return super().compile(request, progress)
""",
        caught_by=("test_compile_lists_exactly_the_files_it_wrote",),
        knock_ons=(HOST,),
    ),
    Sabotage(
        name="links-to-its-input",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        built = super().compile(request, progress)
        (request.workdir / "source.onnx").symlink_to(request.model)
        return replace(built, files=(*built.files, "source.onnx"))
""",
        caught_by=(HOST,),
        knock_ons=("test_open_refuses_a_damaged_artifact",),
    ),
    Sabotage(
        name="new-names-each-time",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        built = super().compile(request, progress)
        name = os.urandom(4).hex() + ".bin"
        (request.workdir / name).write_bytes(b"")
        return replace(built, files=(*built.files, name))
""",
        caught_by=("test_compile_twice_lists_the_same_files",),
    ),
    Sabotage(
        name="says-another-precision",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        return replace(super().compile(request, progress), precision="fp32")
""",
        caught_by=("test_compile_gives_the_precision_asked",),
    ),
    Sabotage(
        name="int8-runs-fp32",
        compiler="""
class Compiler(complete.Compiler):
    def round_weights(self, model, keep_high):
        return 0
""",
        caught_by=("test_lower_precision_is_executed[int8]",),
        knock_ons=("test_keep_high_is_honoured",),
    ),
    Sabotage(
        name="int8-lies-about-fp32",
        compiler="""
class Compiler(complete.Compiler):
    def round_weights(self, model, keep_high):
        return 3 - len(keep_high)
""",
        caught_by=("test_lower_precision_is_executed[int8]",),
    ),
    Sabotage(
        name="int8-without-scales",
        compiler="""
class Compiler(complete.Compiler):
    def round_weights(self, model, keep_high):
        done = super().round_weights(model, keep_high)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("weight"):
                value = numpy_helper.to_array(tensor) * np.float32(1.5)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return done
""",
        caught_by=("test_lower_precision_stays_near[int8-mlp]", "test_lower_precision_stays_near[int8-conv]"),
        knock_ons=("test_lower_precision_stays_near",),
    ),
    Sabotage(
        name="ignores-keep-high",
        compiler="""
class Compiler(complete.Compiler):
    def round_weights(self, model, keep_high):
        return super().round_weights(model, ())
""",
        caught_by=("test_keep_high_is_honoured",),
    ),
    Sabotage(
        name="swallows-a-corrupt-model",
        compiler="""
class Compiler(complete.Compiler):
    def read(self, request):
        try:
            return super().read(request)
        except CompileFailed:
            return onnx.ModelProto()
""",
        caught_by=tuple(
            f"test_compile_refuses_a_corrupt_model[{how}]" for how in ("truncated", "noise", "empty")
        ),
    ),
    Sabotage(
        name="crashes-on-a-corrupt-model",
        compiler="""
class Compiler(complete.Compiler):
    def read(self, request):
        try:
            return super().read(request)
        except CompileFailed:
            os.abort()
""",
        caught_by=tuple(
            f"test_compile_refuses_a_corrupt_model[{how}]" for how in ("truncated", "noise", "empty")
        ),
    ),
    Sabotage(
        name="takes-any-precision",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        asked = request.precision
        known = asked if asked in ("fp32", "int8") else "fp32"
        return replace(super().compile(replace(request, precision=known), progress), precision=asked)
""",
        caught_by=("test_compile_refuses_an_undeclared_precision",),
    ),
    Sabotage(
        name="wrong-gelu",
        compiler="""
class Compiler(complete.Compiler):
    def read(self, request):
        model = super().read(request)
        for node in model.graph.node:
            if node.op_type == "Erf":
                node.op_type = "Tanh"
        return model
""",
        caught_by=("test_right_numbers[norm-gelu]",),
        knock_ons=("test_reference_is_exact",),
    ),
)

DESCRIPTION = (
    Sabotage(
        name="imports-its-engine",
        plugin="import onnx",
        caught_by=("test_importing_the_plugin_loads_no_engine",),
    ),
    Sabotage(
        name="session-imports-edgekit",
        session="import edgekit.api",
        caught_by=("test_session_half_needs_no_edgekit",),
    ),
    Sabotage(
        name="probe-raises",
        compiler="""
class Compiler(complete.Compiler):
    def probe(self):
        raise RuntimeError("no device found")
""",
        caught_by=("test_probe_answers",),
    ),
    Sabotage(
        name="miscounts-operators",
        compiler="""
class Compiler(complete.Compiler):
    def check(self, model, target):
        support = super().check(model, target)
        return replace(support, operators=support.operators[:1])
""",
        caught_by=("test_check_answers_operator_by_operator",),
    ),
    Sabotage(
        name="another-api",
        plugin="SAID = dict(api_version=99)",
        caught_by=("test_describes_itself",),
    ),
    Sabotage(
        name="unsound-option",
        plugin="""
LEVEL = OptionSpec(name="level", type="int", default=9, help="How hard to try", choices=(1, 2))
SAID = dict(options=(LEVEL,))
""",
        caught_by=("test_options_are_sound",),
    ),
    Sabotage(
        name="cannot-be-opened",
        opener=False,
        caught_by=("test_both_halves_come_from_one_distribution",),
        knock_ons=("test_right_numbers[matmul]",),
    ),
    Sabotage(
        name="names-no-real-engine",
        plugin='SAID = dict(engine_modules=("no_such_engine",))',
        caught_by=("test_engine_modules_are_named_truly",),
    ),
    Sabotage(
        name="excuses-what-is-no-test",
        settings='known_failures = {"test_that_never_was": "the engine is odd"}',
        caught_by=("test_known_failures_name_tests",),
    ),
    Sabotage(
        name="excuses-what-works",
        settings='known_failures = {"test_close_twice_is_fine": "it used to crash"}',
        caught_by=("test_close_twice_is_fine",),
    ),
)

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

PROCESS = (
    Sabotage(
        name="hangs",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        time.sleep(600)
""",
        settings="time_limit = 5.0",
        caught_by=("test_finishes_in_time",),
    ),
    Sabotage(
        name="dies-by-signal",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        os.kill(os.getpid(), signal.SIGSEGV)
""",
        caught_by=("test_keeps_the_worker_alive",),
    ),
    Sabotage(
        name="leaves-quietly",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        os._exit(0)
""",
        caught_by=("test_keeps_the_worker_alive",),
    ),
    Sabotage(
        name="raises-system-exit",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        sys.exit(3)
""",
        caught_by=("test_keeps_the_worker_alive",),
    ),
    Sabotage(
        name="dies-at-conv",
        compiler="""
class Compiler(complete.Compiler):
    def compile(self, request, progress):
        graph = onnx.load(request.model, load_external_data=False).graph
        if "Conv" in {node.op_type for node in graph.node}:
            os.abort()
        return super().compile(request, progress)
""",
        caught_by=("test_right_numbers[conv]", "test_lower_precision_stays_near[int8-conv]"),
    ),
    Sabotage(
        name="writes-to-the-pipe",
        session="""
class Session(complete.Session):
    def run(self, feeds):
        for number in range(3, 64):
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, b"progress: 100%\\n")
            except OSError:
                pass
        return super().run(feeds)
""",
        caught_by=("test_keeps_the_protocol_clean",),
    ),
)

#: No fault at all: what it prints must not reach the protocol.
CHATTERBOX = Sabotage(
    name="prints-everywhere",
    compiler="""
print("importing", flush=True)

class Compiler(complete.Compiler):
    def compile(self, request, progress):
        print("compiling " * 1000, flush=True)
        os.write(1, b"straight to descriptor 1\\n")
        return super().compile(request, progress)
""",
    session="""
print('{"type": "result", "id": 1, "bytes": 0}', flush=True)

class Session(complete.Session):
    def run(self, feeds):
        os.write(1, b'{"type": "result", "id": 1, "bytes": 0}\\n')
        os.system("echo from a child process")
        return super().run(feeds)
""",
)

GOOD = Sabotage(name="complete")

SABOTAGES = (*COMPILE_HALF, *DESCRIPTION, *SESSION_HALF, *PROCESS)
