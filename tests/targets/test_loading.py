"""Reading target files: every mistake is refused and named; `extends` merges key by key."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekit.errors import TargetFileError, UnknownName, UsageError
from edgekit.targets import list_targets, load_target

from .conftest import MACHINES, Write

#: (text, what the message must name)
MISTAKES = {
    "unknown key": ("precison = 'fp32'", "precison"),
    "unknown key in a table": ("[budget]\nlatency_90_ms = 3", "latency_90_ms"),
    "origin": ("origin = 'x'", "origin"),
    "text for a number": ("[budget]\nlatency_p90_ms = 'fast'", "latency_p90_ms"),
    "bool for a number": ("[run]\nthreads = true", "threads"),
    "fraction of a thread": ("[run]\nthreads = 1.5", "threads"),
    "value for a table": ("budget = 3", "budget"),
    "table for a value": ("[precision]\nx = 1", "precision"),
    "array of tables": ("[[budget]]\nlatency_p90_ms = 3", "budget"),
    "date for a text": ("summary = 2024-01-01", "summary"),
    "date for an option": ("[run.options]\nx = 2024-01-01", "options"),
    "table for an option": ("[run.options.x]\ny = 1", "options"),
    "negative limit": ("[budget]\nlatency_p90_ms = -1", "budget.latency_p90_ms"),
    "limit of zero": ("[budget]\npeak_memory_mib = 0", "budget.peak_memory_mib"),
    "nan": ("[budget]\nlatency_p90_ms = nan", "budget.latency_p90_ms"),
    "inf": ("[budget]\nthroughput_min = inf", "budget.throughput_min"),
    "overflow to inf": ("[budget]\nlatency_p90_ms = 1e999", "budget.latency_p90_ms"),
    "share over one": ("[budget]\nmax_fallback = 1.01", "budget.max_fallback"),
    "negative share": ("[budget]\nmax_fallback = -0.5", "budget.max_fallback"),
    "more points than there are": ("[budget]\naccuracy_drop = 101", "budget.accuracy_drop"),
    "unknown precision": ("precision = 'int9'", "precision"),
    "schema of the future": ("schema = 2\nnew_key = 1", "schema"),
    "schema that is no number": ("schema = 'one'", "schema"),
    "no threads": ("[run]\nthreads = 0", "run.threads"),
    "too many threads": ("[run]\nthreads = 100000", "run.threads"),
    "empty device": ("[run]\ndevice = ''", "run.device"),
    "empty uri": ("[device]\nuri = ' '", "device.uri"),
    "negative cores": ("[hardware]\ncores = -1", "hardware.cores"),
    "negative memory of the GPU": ("[hardware]\ngpu_memory_mib = -1", "hardware.gpu_memory_mib"),
    "architecture of several words": ("[hardware]\ngpu_arch = 'sm 89'", "hardware.gpu_arch"),
    "blank power mode": ("[hardware]\npower_modes = [' ']", "hardware.power_modes"),
    "unknown place to build": ("[compile]\nbuilds_on = 'anywhere'", "compile.builds_on"),
    "negative memory": ("[hardware]\nmemory_mib = -1", "hardware.memory_mib"),
    "no batch": ("[workload]\nbatch = 0", "workload.batch"),
    "huge axis": ("[workload.axes]\nframes = 99999999999999999999", "axes"),
    "axis of no elements": ("[workload.axes]\nframes = 0", "workload.axes.frames"),
    "known axis among the others": ("[workload.axes]\nbatch = 2", "workload.axes.batch"),
    "axis without a name": ("[workload.axes]\n'' = 2", "workload.axes"),
    "blank pattern": ("[match]\ncpu = ' '", "match.cpu"),
    "two features in one word": ("[match]\nisa = ['avx2 fma']", "match.isa"),
    "option that is not finite": ("[compile.options]\nscale = inf", "compile.options.scale"),
    "option without a name": ("[run.options]\n'' = 1", "run.options"),
    "summary of two lines": ('summary = "a\\nb"', "summary"),
    "backend that is a sentence": ("backend = 'my engine'", "backend"),
    "name with a slash": ("name = 'a/b'", "name"),
    "empty name": ("name = ''", "name"),
    "extends that is no text": ("extends = 1", "extends"),
    "extends with a control letter": ('extends = "a\\u0000/b.toml"', "extends"),
    "not TOML": ("budget = [", "TOML"),
    "key given twice": ("precision = 'fp32'\nprecision = 'fp32'", "TOML"),
    "number of five thousand digits": ("summary = " + "9" * 5000, "digits"),
    "a thousand brackets": ("summary = " + "[" * 5000, "TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_naming_the_file_and_the_key(mistake: str, write: Write) -> None:
    text, named = MISTAKES[mistake]
    path = write(text)
    with pytest.raises(TargetFileError) as caught:
        load_target(path)
    assert str(path) in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint


def test_a_typo_gets_the_nearest_key_as_hint(write: Write) -> None:
    with pytest.raises(TargetFileError, match=r"did you mean 'latency_p90_ms'"):
        load_target(write("[budget]\nlatency_90_ms = 3"))
    with pytest.raises(TargetFileError, match=r"did you mean 'int8'"):
        load_target(write("precision = 'int-8'"))


def test_a_file_without_a_name_is_told_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "kiosk.toml"
    path.write_text("precision = 'fp32'\n", encoding="utf-8")
    with pytest.raises(TargetFileError, match=r'add `name = "kiosk"`'):
        load_target(path)


@pytest.mark.parametrize("key", ["accuracy_drop", "max_fallback", "perplexity_increase"])
def test_zero_is_a_limit_where_it_means_none_allowed(key: str, write: Write) -> None:
    assert getattr(load_target(write(f"[budget]\n{key} = 0")).budget, key) == 0


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes('summary = "Gerät"'.encode("latin-1"))
    big = tmp_path / "big.toml"
    big.write_bytes(b"# " + b"x" * (1024 * 1024))
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    for path in (latin, big, loop, tmp_path, tmp_path / "missing.toml", tmp_path / ("x" * 300 + ".toml")):
        with pytest.raises(TargetFileError) as caught:
            load_target(path)
        assert path.name in caught.value.message


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(TargetFileError, match="not a file"):
        load_target(tmp_path / "pipe.toml")


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "crlf.toml"
    path.write_bytes(b'name = "crlf"\r\n[run]\r\nthreads = 3\r\n')
    assert load_target(path).run.threads == 3


# --- names and paths


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'raspberry-pi-5'"):
        load_target("rasberry-pi-5")


def test_a_home_of_nobody_is_a_file_that_is_missing() -> None:
    with pytest.raises(TargetFileError, match="no such file"):
        load_target("~nobody-of-that-name/kiosk.toml")


def test_an_empty_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        load_target(" ")


def test_a_file_in_the_working_directory_is_only_taken_by_its_full_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    write("")
    monkeypatch.chdir(tmp_path)
    assert load_target("kiosk.toml").name == "kiosk"
    assert load_target("./kiosk.toml").origin == "kiosk.toml"
    with pytest.raises(UnknownName, match=r"write `kiosk\.toml`"):
        load_target("kiosk")


def test_users_and_plugins_targets_are_found_by_name(write: Write) -> None:
    write("", "mine", "user")
    write("", "theirs", "plugin")
    assert load_target("mine").name == "mine"
    assert load_target("theirs").name == "theirs"
    sources = {entry.name: entry.source for entry in list_targets()}
    assert (sources["mine"], sources["theirs"], sources["intel-n100"]) == ("user", "plugin", "shipped")


def test_two_files_of_one_name_are_refused_and_listed_with_the_reason(write: Write) -> None:
    own = write("", "intel-n100", "user")
    with pytest.raises(UsageError, match="provided by"):
        load_target("intel-n100")
    assert load_target(own).name == "intel-n100"
    doubled = [entry for entry in list_targets() if entry.name == "intel-n100"]
    assert len(doubled) == 2
    assert all("also provided by" in entry.problem for entry in doubled)


def test_a_broken_file_is_listed_with_its_problem_and_hides_no_other(write: Write, tmp_path: Path) -> None:
    write("precision = 'int9'", "broken", "user")
    write("name = 'other'", "misnamed", "user")
    write("extends = 'nowhere'", "orphan", "user")
    (tmp_path / "user" / "notes.txt").write_text("no target", encoding="utf-8")
    (tmp_path / "user" / ".hidden.toml").write_text("x", encoding="utf-8")
    problems = {entry.name: entry.problem for entry in list_targets() if entry.source == "user"}
    assert set(problems) == {"broken", "misnamed", "orphan"}
    assert "int9" in problems["broken"]
    assert "other" in problems["misnamed"]
    assert "nowhere" in problems["orphan"]
    assert sum(not entry.problem for entry in list_targets()) == 14


# --- extends


def test_a_child_overrides_key_by_key_and_inherits_the_rest(write: Write) -> None:
    write(
        "backend = 'one'\n[match]\ncpu = 'x'\nisa = ['a', 'b']\n[budget]\nlatency_p90_ms = 9\n"
        "artifact_mib = 5\n[run.options]\nfast = true\nlevel = 1\n",
        "parent",
    )
    child = write(
        "extends = './parent.toml'\n[match]\nisa = ['c']\n[budget]\nlatency_p90_ms = 3\n"
        "[run.options]\nlevel = 2\n"
    )
    target = load_target(child)
    assert (target.name, target.backend, target.match.cpu) == ("kiosk", "one", "x")
    assert target.match.isa == ("c",)
    assert (target.budget.latency_p90_ms, target.budget.artifact_mib) == (3, 5)
    assert target.run.options == {"fast": True, "level": 2}
    assert target.origin == str(child)


def test_relative_extends_is_relative_to_the_file_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    (tmp_path / "deep").mkdir()
    write("backend = 'one'", "parent")
    child = write("extends = '../parent.toml'", "child", "deep")
    monkeypatch.chdir("/")
    assert load_target(child).backend == "one"


def test_extends_by_name_reaches_shipped_targets(write: Write) -> None:
    target = load_target(write("extends = 'raspberry-pi-5'\n[hardware]\nmemory_mib = 8192"))
    assert target.match.device_tree == "Raspberry Pi 5 Model B*"
    assert (target.hardware.cores, target.hardware.memory_mib) == (4, 8192)


def test_a_circle_is_named_in_full(write: Write) -> None:
    write("extends = './b.toml'", "a")
    write("extends = './c.toml'", "b")
    write("extends = './a.toml'", "c")
    with pytest.raises(TargetFileError, match="a -> b -> c -> a"):
        load_target(write("extends = './a.toml'", "start"))
    with pytest.raises(TargetFileError, match="self -> self"):
        load_target(write("extends = './self.toml'", "self"))


def test_a_circle_through_names_ends_too(write: Write) -> None:
    write("extends = 'there'", "here", "user")
    write("extends = 'here'", "there", "plugin")
    with pytest.raises(TargetFileError, match="here -> there -> here"):
        load_target("here")


def test_a_long_chain_is_followed_to_its_end(write: Write) -> None:
    write("backend = 'root'", "t0")
    for index in range(1, 120):
        write(f"extends = './t{index - 1}.toml'", f"t{index}")
    assert load_target(write("extends = './t119.toml'")).backend == "root"


def test_an_unknown_parent_and_a_missing_file_are_named(write: Write) -> None:
    with pytest.raises(TargetFileError, match=r"extends.*'intel-n10'.*\n.*intel-n100"):
        load_target(write("extends = 'intel-n10'"))
    with pytest.raises(TargetFileError, match=r"gone\.toml: no such file"):
        load_target(write("extends = './gone.toml'"))


def test_a_mistake_in_the_parent_names_the_parents_file(write: Write) -> None:
    write("[budget]\nlatency_p90_ms = -1", "parent")
    with pytest.raises(TargetFileError, match=r"parent\.toml: `budget\.latency_p90_ms`"):
        load_target(write("extends = './parent.toml'\n[budget]\nlatency_p90_ms = 5"))


# --- this-machine


def test_this_machine_is_completed_from_the_machine_at_hand() -> None:
    target = load_target("this-machine", machine=MACHINES["haswell"])
    assert target.match.arch == "x86_64"
    assert target.match.isa == MACHINES["haswell"].isa
    assert (target.hardware.cores, target.hardware.memory_mib) == (4, 7900)
    assert target.run.threads == 1, "a quota of 1.5 cores is one whole thread"
    assert target.backend == ""


def test_this_machine_reads_the_real_machine_when_none_is_given() -> None:
    pytest.importorskip("edgekit_runtime.machine")
    target = load_target("this-machine")
    assert target.match.arch
    assert target.run.threads >= 1
    assert target.hardware.memory_mib > 0


def test_what_extends_this_machine_is_completed_too_and_keeps_its_own_words(write: Write) -> None:
    target = load_target(write("extends = 'this-machine'\nbackend = 'one'"), machine=MACHINES["n100"])
    assert (target.name, target.backend, target.run.threads) == ("kiosk", "one", 4)
    assert target.match.arch == "x86_64"
    own = write(
        "extends = 'this-machine'\n[run]\nthreads = 1\n[match]\narch = 'aarch64'\n[hardware]\ncores = 9"
    )
    target = load_target(own, machine=MACHINES["n100"])
    assert (target.run.threads, target.match.arch, target.hardware.cores) == (1, "aarch64", 9)
