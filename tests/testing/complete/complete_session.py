"""The session half of a backend that claims every capability, and keeps every promise."""

from __future__ import annotations

import json

import onnx
from google.protobuf.message import DecodeError

from edgekit_example.session import ExampleSession
from edgekit_runtime.errors import OpenFailed, SessionClosed
from edgekit_runtime.values import OpenRequest, OperatorTime, Placement, PlacementRow


class Session(ExampleSession):
    """The tutorial's session, with the placement that the compiler wrote down and an even profile."""

    def __init__(self, request: OpenRequest) -> None:
        try:
            model = onnx.load(request.directory / "model.onnx")
            self.nodes: dict[str, int] = json.loads((request.directory / "nodes.json").read_text())
            super().__init__(model)
        except (OSError, ValueError, RuntimeError, DecodeError) as error:
            raise OpenFailed(f"{request.directory} is damaged: {error}") from error
        self.types = [node.op_type for node in model.graph.node]

    def placement(self) -> Placement:
        if self._engine is None:
            raise SessionClosed("this session is closed")
        low = self.nodes["int8"]
        counts = {"int8": low, "fp32": self.nodes["nodes"] - low}
        rows = tuple(
            PlacementRow(precision=word, device="cpu", nodes=count) for word, count in counts.items()
        )
        return Placement(rows=rows, source="counted when it was compiled")

    def profile(self) -> tuple[OperatorTime, ...]:
        return tuple(
            OperatorTime(
                name=f"{index}", op_type=kind, precision="fp32", device="cpu", share=1 / len(self.types)
            )
            for index, kind in enumerate(self.types)
        )
