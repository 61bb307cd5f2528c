"""``python -m attention log``: explain the start-up lines of vLLM, SGLang, llama.cpp or TensorRT-LLM."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attention.catalog.sources import resolve
from attention.commands.arguments import whole_number
from attention.engines.explain import Known, explain
from attention.engines.log import MAX_BYTES, read
from attention.engines.report import Finding, Report
from attention.engines.rules import kernel_of
from attention.files import ordinary
from attention.foreign_text import quoted

HELP = (
    "start-up lines of vLLM, SGLang, llama.cpp or TensorRT-LLM explained: every figure reproduced, or its difference "
    "split into named parts"
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"a log of at most {MAX_BYTES // 10**6} MB, - for standard input")
    parser.add_argument(
        "--model", metavar="SOURCE", help="catalogue name, config.json, or its folder (default: the log's)"
    )
    parser.add_argument("--tp", type=whole_number, help="tensor parallel ranks, where the log does not state them")
    parser.add_argument("--kv-dtype", help="the cache's dtype, where the log does not state it")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    log = read(_raw(args.file))
    known = None
    if args.model is not None:
        spec = resolve(args.model)
        known = Known(spec, kernel_of(spec, args.model))
    report = explain(log, known, tp=args.tp, kv_dtype=args.kv_dtype)
    print(json.dumps(report.to_json(), ensure_ascii=False) if args.json else text(report))
    return 0


def _raw(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with ordinary(Path(name)).open("rb") as file:
        return file.read(MAX_BYTES + 1)


_WORDS = {
    "reproduced": "reproduced to the digit",
    "split": "split",
    "unexplained": "cannot be explained",
    "given": "stated",
}


def text(report: Report) -> str:
    """The report as text for people."""
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in report.settings.items() if value is not None)
    version = f" {report.version}" if report.version else ""
    lines = [f"{report.engine}{version}, {quoted(report.model)}: {settings}"]
    for finding in report.findings:
        lines += _finding(finding)
    if report.changes:
        lines.append("for more tokens in the same memory:")
    lines += [f"  {c.what}: {c.after:,} in place of {c.before:,} (+{c.after - c.before:,})" for c in report.changes]
    return "\n".join(lines + [f"note: {note}" for note in report.notes])


def _finding(finding: Finding) -> list[str]:
    rules = f" [{', '.join(finding.rules)}]" if finding.rules else ""
    lines = [finding.line, f"  {_WORDS[finding.verdict]}: {finding.says}{rules}"]
    for part in finding.parts:
        unit = "" if part.name.startswith("cells") else " bytes"
        lines.append(f"  {part.n_bytes:>20,}{unit}  {part.name}" + (f": {part.why}" if part.why else ""))
    return lines


def _shown(value: Any) -> str:
    return (
        {True: "yes", False: "no"}[value]
        if isinstance(value, bool)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
