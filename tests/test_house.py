"""The house's own measures: sizes, start-up imports, vendor words, documented and tested names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import edgekit.errors  # noqa: F401  (its classes join the tree)
from edgekit import hookspecs
from edgekit_runtime.errors import EdgekitError

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "edgekit"
SOURCES = [CORE, *sorted(path / "src" for path in (ROOT / "plugins").iterdir() if (path / "src").is_dir())]
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 6
#: Engines and vendors belong to plugins. `onnx` is a format and may be named.
VENDORS = re.compile(
    r"onnxruntime|openvino|tensorrt|nncf|nvidia|\bintel\b|qualcomm|\bqnn\b|coreml", re.IGNORECASE
)
RUNTIMES = {
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "cuda",
    "nncf",
    "numpy",
    "rich",
    "jinja2",
}


def python_files() -> list[Path]:
    return [path for source in SOURCES for path in sorted(source.rglob("*.py"))]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def error_classes() -> list[type[EdgekitError]]:
    pending, found = [EdgekitError], []
    while pending:
        cls = pending.pop()
        found.append(cls)
        pending.extend(cls.__subclasses__())
    return [cls for cls in found if cls.__module__ in ("edgekit.errors", "edgekit_runtime.errors")]


def words_used(source: str) -> set[str]:
    """Names and quoted words in the expressions of a module; imports and annotations are no use."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        for field, value in ast.iter_fields(node):
            if field not in ("annotation", "returns"):
                children = value if isinstance(value, list) else [value]
                pending.extend(child for child in children if isinstance(child, ast.AST))
    return found


@cache
def words_used_in_tests() -> set[str]:
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").glob("*/tests/**/test_*.py")]
    others = (path for path in tests if path != Path(__file__))
    return set().union(*(words_used(path.read_text(encoding="utf-8")) for path in others))


def imported_by(*arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `arguments`."""
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['edgekit', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('edgekit', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        is_command = path.parent == CORE / "cli"
        assert lines <= FUNCTION_LINES or is_command, f"{function.name} has {lines} lines"


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_take_few_named_parameters(path: Path) -> None:
    for function in functions(path):
        taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [argument.arg for argument in taken if argument.arg not in ("self", "cls")]
        if not function.name.startswith("_"):
            assert function.args.kwarg is None, f"{function.name} takes **{function.args.kwarg}"
        if path.parent != CORE / "cli":
            assert len(names) <= PARAMETERS, f"{function.name} takes {len(names)} parameters"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_core_names_no_vendor(path: Path) -> None:
    found = VENDORS.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{path}: names {found and found.group()}"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_untyped_tables_stay_at_the_border(path: Path) -> None:
    if path.parent != CORE / "files":
        assert "dict[str, Any]" not in path.read_text(encoding="utf-8")


def test_help_imports_no_runtime() -> None:
    assert imported_by("--help") & RUNTIMES == set()


@pytest.mark.parametrize(
    "command", ["export", "compile", "validate", "diff", "report", "package", "run", "inspect", "doctor"]
)
def test_help_of_a_command_imports_no_runtime(command: str) -> None:
    assert imported_by(command, "--help") & RUNTIMES == set()


def test_importing_edgekit_imports_no_runtime() -> None:
    code = "import sys, edgekit; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & RUNTIMES == set()


def test_importing_the_runtime_imports_numpy_at_most() -> None:
    code = (
        "import sys, edgekit_runtime.worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & (RUNTIMES | {"edgekit", "tokenizers", "safetensors"}) <= {"numpy"}


def test_every_error_code_is_its_own() -> None:
    codes = [cls.code for cls in error_classes()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", error_classes(), ids=lambda cls: cls.__name__)
def test_every_error_is_drawn_documented_and_tested(cls: type[EdgekitError]) -> None:
    if cls is EdgekitError:
        return
    head = sys.modules[cls.__module__].__doc__ or ""
    assert re.search(rf"{cls.__name__}\s+{cls.code}\s+{cls.exit_code}\b", head), (
        "drawn at the head of its errors.py"
    )
    documented = (CORE / "README.md").read_text(encoding="utf-8")
    assert f"`{cls.code}` | {cls.exit_code} |" in documented, "listed in edgekit/README.md"
    assert {cls.__name__, cls.code} & words_used_in_tests(), "expected by a test; an import is no test"


def test_an_import_an_annotation_or_a_comment_is_no_use_of_a_word() -> None:
    source = (
        "from edgekit.errors import DataError  # DataError\n"
        "def test_it(given: type[DataError]) -> DataError:\n"
        '    """DataError, bad-data"""\n'
        "    local: DataError\n"
    )
    assert not {"DataError", "bad-data"} & words_used(source)
    assert "DataError" in words_used(f"{source}    with pytest.raises(DataError): pass\n")
    assert "DataError" in words_used(f"{source}    assert isinstance(given, errors.DataError)\n")
    assert "bad-data" in words_used(f"{source}    assert given == 'bad-data'\n")


def hooks() -> list[str]:
    return sorted(
        name for name in vars(hookspecs) if name.startswith("edgekit_") and name != "edgekit_runtime"
    )


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_is_documented_and_tested(hook: str) -> None:
    assert f"`{hook}`" in (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert any(hook in path.read_text(encoding="utf-8") for path in tests)


def test_every_change_has_a_place_in_the_changelog() -> None:
    assert any((ROOT / "changelog.d").glob("*.md"))
