"""Faults that cost the worker: hanging, dying, leaving, writing to its pipe."""

from __future__ import annotations

from tests.testing.sabotage import Sabotage

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
