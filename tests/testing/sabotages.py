"""The faults that the kit must name, and the backends that have none."""

from __future__ import annotations

from tests.testing.faults_of_compiling import COMPILE_HALF
from tests.testing.faults_of_describing import DESCRIPTION
from tests.testing.faults_of_processes import PROCESS
from tests.testing.faults_of_sessions import SESSION_HALF
from tests.testing.sabotage import Sabotage

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

#: It claims little, and says honestly what it does not take.
MODEST = Sabotage(
    name="modest",
    plugin='SAID = dict(precisions=("fp32",), capabilities=())',
    compiler="""
class Compiler(complete.Compiler):
    def check(self, model, target):
        support = super().check(model, target)
        known = {row.op_type: row.op_type != "Softmax" for row in support.operators}
        rows = (replace(row, supported=known[row.op_type], reason="no kernel") for row in support.operators)
        return replace(support, supported=all(known.values()), operators=tuple(rows))

    def read(self, request):
        if request.precision != "fp32":
            raise PrecisionNotGiven("fp32 is all there is")
        model = super().read(request)
        if any(node.op_type == "Softmax" for node in model.graph.node):
            raise ModelNotSupported("no kernel for Softmax")
        return model

from edgekit.api import ModelNotSupported
""",
    session="""
class Session(complete.Session):
    def run(self, feeds):
        first = self.signature.inputs[0]
        if self._engine is not None and first.shape[:1] == ("batch",) and first.name in feeds:
            if feeds[first.name].shape[0] != 4:
                raise InputError("this artifact was built for a batch of 4")
        return super().run(feeds)
""",
)

SABOTAGES = (*COMPILE_HALF, *DESCRIPTION, *SESSION_HALF, *PROCESS)
