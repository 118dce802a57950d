"""`python -m edgekit_runtime run|verify PACKAGE`: a package on a device, without edgekit."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit_runtime.asking import answers_json, ask, line, summary
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.package_info import doubts
from edgekit_runtime.reader import Package, open_package

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the process's exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # texts hold letters a terminal may lack
    try:
        with open_package(options.package) as package:
            if options.command == "run":
                _run(package, options)
            else:
                _verify(package, options.json)
        sys.stdout.flush()
    except EdgekitError as error:
        return _failed(error, options.json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekit_runtime",
        description="Run an .edgekit package on this device, or have it prove itself here.",
        epilog="exit codes: 0 fine, 1 self-test failed, 2 bad file or usage, 4 runtime, 130 interrupted",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="answer rows: texts, images or recordings")
    run.add_argument("package", type=Path, metavar="PACKAGE")
    run.add_argument("rows", nargs="+", metavar="ROW", help="a text, or the path of an image or recording")
    run.add_argument("--pairs", action="store_true", help="take the rows two by two")
    run.add_argument("--candidates", metavar="A,B,...", help="labels that a zero-shot model chooses from")
    verify = commands.add_parser("verify", help="run the self-test: hashes, parity of rows, goldens")
    verify.add_argument("package", type=Path, metavar="PACKAGE")
    for command in (run, verify):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _run(package: Package, options: argparse.Namespace) -> None:
    found = ask(package, options.rows, pairs=options.pairs, candidates=options.candidates)
    if options.json:
        _print_json(answers_json(package.info, found))
        return
    for item in found:
        print(line(package.info, item))
    for doubt in doubts(package.info):
        print(doubt, file=sys.stderr)


def _verify(package: Package, as_json: bool) -> None:
    parity = package.check_parity()
    judgement = package.self_test()
    info = package.info
    if as_json:
        goldens = {
            "cases": judgement.cases,
            "agreeing": judgement.agreeing,
            "max_abs_error": judgement.max_abs_error,
            "min_cosine": judgement.min_cosine,
            "note": judgement.reason,
        }
        _print_json({**summary(info), "files": len(info.files), "parity_cases": parity, "goldens": goldens})
        return
    table = info.table
    note = f" ({judgement.reason})" if judgement.reason else ""
    print(f"{info.name}  {table.backend} {table.precision}, {info.digest}")
    print(f"files     {len(info.files)} as recorded")
    print(f"parity    {parity} rows read alike")
    agree = f"{judgement.agreeing} of {judgement.cases} agree"
    print(f"goldens   {agree}, largest error {judgement.max_abs_error:.3g}{note}")
    where = f" on {table.machine}" if table.machine else ""
    print(f"verdict   {table.verdict} at {table.confidence:g}, recorded{where}")
    for limit in table.budget:
        print(f"          {limit.outcome:<12} {limit.key} {limit.limit:g} {limit.unit}".rstrip())
    for text in doubts(info):
        print(text)


def _failed(error: EdgekitError, as_json: bool) -> int:
    if as_json:
        _print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    raise SystemExit(main())
