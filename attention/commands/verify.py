"""``python -m attention verify``: ask a model's own code for its cache and compare, byte by byte."""

from __future__ import annotations

import argparse
import json
from typing import Any

from attention import units
from attention.catalog import published
from attention.catalog.sources import configuration
from attention.commands.arguments import DEFAULT_CONTEXT, whole_number
from attention.spec import check_size
from attention.worker import client

HELP = "compare the computed cache with the one the model's own transformers code keeps, layer by layer"
SECONDS = 240.0
MEMORY_BYTES = 3 * 2**30


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="MODEL", help="catalogue name, config.json or its folder, or GGUF file")
    parser.add_argument(
        "--context", type=whole_number, default=DEFAULT_CONTEXT, help=f"tokens (default {DEFAULT_CONTEXT})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exit code 0: equal or every difference explained; 1: a difference nothing explains; 2: cannot be checked."""
    check_size("context", args.context, 2, 2**24)
    job = client.submit(
        "verify",
        _payload(args.source, args.context),
        owner="command line",
        limits=client.Limits(seconds=SECONDS, memory_bytes=MEMORY_BYTES),
    )
    try:
        job.wait()
    finally:
        client.queues().close()
    if job.summary is None:
        raise ValueError(f"{args.source}: {job.error or 'the check was stopped'}")
    found = job.summary
    print(json.dumps(found) if args.json else "\n".join(_lines(found)))
    return 1 if found["unexplained_bytes"] else 0


def _payload(source: str, context: int) -> dict[str, Any]:
    try:
        return {"model": published.model(source).id, "context": context}
    except ValueError:
        return {"config": configuration(source), "name": source, "context": context}


def _lines(found: dict[str, Any]) -> list[str]:
    """The result in words: equal layers counted together, each explanation once."""
    lines = [
        f"{found['model']} ({found['model_type']}), {units.parameters(found['n_parameters'])} parameters, "
        f"context {found['context']:,}, {found['kv_dtype']}",
        f"computed   {found['computed_bytes']:>20,} B  {units.binary_bytes(found['computed_bytes'])}",
        f"model's own{found['allocated_bytes']:>20,} B  {units.binary_bytes(found['allocated_bytes'])}",
    ]
    groups: dict[tuple[str, int, str | None], list[int]] = {}
    for layer in found["layers"]:
        difference = layer["allocated_bytes"] - layer["computed_bytes"]
        groups.setdefault((layer["kind"], difference, layer["explanation"]), []).append(layer["index"])
    for (kind, difference, why), indices in groups.items():
        verdict = "equal" if not difference else why or f"UNEXPLAINED: {difference:+,} bytes"
        lines.append(f"  {len(indices)} {kind} layer{'s' if len(indices) > 1 else ''}: {verdict}")
    lines += [f"  note: {note}" for note in found["notes"]]
    explained = any(layer["explanation"] for layer in found["layers"])
    verdict = "equal to the byte" if not explained else "equal up to what is explained"
    if found["unexplained_bytes"]:
        verdict = f"{found['unexplained_bytes']:,} bytes are NOT explained"
    lines.append(f"{verdict}; {units.duration(found['seconds'])}, peak memory {units.binary_bytes(found['peak_rss'])}")
    return lines
