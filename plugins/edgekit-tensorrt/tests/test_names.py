"""Signature checks: every name of a library that this package uses is in its real bindings.

The lists in `data/` were recorded from the bindings of TensorRT 10.16 and 11.4, whose libraries need a GPU.
That a name is there says nothing about what a call of it does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tensorrt_rtx_bindings
from cuda.bindings import driver

import edgekit_tensorrt

DATA = Path(__file__).parent / "data"
STANDARD = ("tensorrt-10.16.1.11", "tensorrt-11.4.0.106")
RTX = "tensorrt_rtx-1.7.1.116"

#: Members of the library's objects that are used, by class. The rest of the test finds out what is not here.
MEMBERS = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "EngineInspector": "execution_context get_engine_information",
    "IBuilderConfig": "add_optimization_profile builder_optimization_level clear_flag create_timing_cache "
    "get_timing_cache profiling_verbosity progress_monitor set_memory_pool_limit set_timing_cache",
    "ICudaEngine": "create_engine_inspector create_execution_context create_runtime_config "
    "get_tensor_dtype get_tensor_location "
    "get_tensor_mode get_tensor_name get_tensor_shape num_io_tensors num_optimization_profiles",
    "IExecutionContext": "active_optimization_profile execute_async_v3 get_tensor_shape infer_shapes "
    "profiler set_input_shape set_optimization_profile_async set_tensor_address",
    "ILogger": "log",
    "INetworkDefinition": "get_input get_output num_inputs num_outputs",
    "IOptimizationProfile": "set_shape",
    "IProfiler": "report_layer_time",
    "IProgressMonitor": "phase_start step_complete phase_finish",
    "ITensor": "dtype name shape",
    "ITimingCache": "serialize",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "OnnxParser": "get_error get_subgraph_nodes num_errors num_subgraphs parse_from_file supports_model_v2",
    "ParserError": "desc node_name node_operator",
    "Runtime": "deserialize_cuda_engine",
    "TensorIOMode": "INPUT OUTPUT",
}
#: Those that TensorRT for RTX alone has; the package asks for them there only.
RTX_MEMBERS = {
    "ComputeCapability": "",
    "CudaGraphStrategy": "WHOLE_GRAPH_CAPTURE",
    "IBuilderConfig": "num_compute_capabilities set_compute_capability",
    "IRuntimeConfig": "cuda_graph_strategy",
}


def sources() -> list[Path]:
    return sorted(Path(edgekit_tensorrt.__file__).parent.glob("*.py"))


@cache
def recorded(which: str) -> frozenset[str]:
    """Names as "Class" and "Class.member"."""
    lines = (DATA / f"api-{which}.txt").read_text().splitlines()
    names = {line.split("  ")[0] for line in lines}
    return frozenset(names | {name.split(".")[0] for name in names})


def dotted(node: ast.expr) -> str:
    """ "library.module.BuilderFlag.TF32" for such an expression, "" for another."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


@cache
def attributes() -> frozenset[str]:
    """Every attribute that the package's code names, with what it is an attribute of where that is plain."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found |= {f".{node.attr}", dotted(node)}
    return frozenset(found)


def reached() -> Iterator[str]:
    """What is reached through the module: "BuilderFlag.TF32", "Runtime"."""
    for text in attributes():
        match = re.search(r"(?:^|\.)(?:trt|module)\.([A-Z]\w+(?:\.[A-Z]\w+)?)$", text)
        if match:
            yield match[1]


def members(table: dict[str, str]) -> set[str]:
    return {f"{name}.{member}" for name, words in table.items() for member in words.split()}


@pytest.mark.parametrize("which", [*STANDARD, RTX])
def test_every_name_that_is_used_is_in_the_bindings(which: str) -> None:
    through_module = {name for name in reached() if name.split(".")[0] not in RTX_MEMBERS or which == RTX}
    assert {"Runtime", "LayerInformationFormat.JSON", "BuilderFlag.TF32"} <= through_module
    wanted = members(MEMBERS) | through_module
    if which == RTX:
        wanted |= members(RTX_MEMBERS)
    assert wanted - recorded(which) == set()


def test_what_only_one_library_has_is_not_in_the_other() -> None:
    for which in STANDARD:
        assert members(RTX_MEMBERS) & recorded(which) == set()


def test_the_table_names_all_that_is_used_and_nothing_else() -> None:
    """An attribute whose name is a member of some class of the library belongs into the table."""
    listed = {name.split(".")[1] for name in members(MEMBERS) | members(RTX_MEMBERS)}
    known = {name.split(".")[1] for name in recorded(RTX) | recorded(STANDARD[0]) if "." in name}
    own = {
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    used = {text[1:] for text in attributes() if re.fullmatch(r"\.[a-z0-9]+(_[a-z0-9]+)+", text)}
    assert (used & known) - own - listed == set()
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources())
    assert {name for name in listed if not re.search(rf"\b{name}\b", text)} == set()


def test_the_recorded_list_is_that_of_the_real_library() -> None:
    if tensorrt_rtx_bindings.__version__ != RTX.rpartition("-")[2]:
        pytest.fail(f"record data/api-{RTX}.txt again for {tensorrt_rtx_bindings.__version__}")
    for name in recorded(RTX):
        owner, _, member = name.partition(".")
        if member:
            assert hasattr(getattr(tensorrt_rtx_bindings, owner), member), name


def test_calls_of_cuda_are_in_the_bindings_of_cuda_12_and_13() -> None:
    used = {text.rpartition(".")[2] for text in attributes() if re.search(r"\.(cu[A-Z]\w+|CU\w+)$", text)}
    used = {name for name in used if not name.startswith(("CU_", "CUDA_E", "CUDA_S"))}
    assert {"cuInit", "cuMemAlloc", "cuGraphLaunch", "CUresult"} <= used
    assert {name for name in used if not hasattr(driver, name)} == set()
    assert used - recorded("cuda-bindings-12.9.4") == set()
