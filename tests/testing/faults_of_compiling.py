"""Faults of the compile half: what it writes, lists, refuses and gives."""

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
