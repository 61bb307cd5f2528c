"""``python -m attention models``: list the models of the catalogue."""

from __future__ import annotations

import argparse
import json
from typing import Any

from attention import units
from attention.catalog.published import ModelRow, families, models
from attention.memory.footprint import cache_bytes
from attention.tables import to_text

HELP = "list the models of the catalogue"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", help="only this family")
    parser.add_argument("--json", action="store_true", help="one JSON object per model and line")


def run(args: argparse.Namespace) -> int:
    wanted = None
    if args.family is not None:
        names = {name.casefold(): name for name in families()}
        wanted = names.get(args.family.casefold())
        if wanted is None:
            raise ValueError(f"family must be one of {', '.join(families())}; got {args.family!r}")
    rows = [row for row in models() if wanted is None or row.family == wanted]
    if args.json:
        for row in rows:
            print(json.dumps(_facts(row), ensure_ascii=False))
        return 0
    table: list[tuple[str, ...]] = [
        ("model", "id", "released", "parameters", "layers", "heads", "K/V heads", "per token (16 bit)")
    ]
    for row in rows:
        if row.spec is None:
            table.append((row.label, row.id, row.released or "–", "unpublished", "–", "–", "–", "–"))
            continue
        counts = (row.spec.n_layers, row.spec.n_heads or "–", row.spec.n_kv_heads or "–")
        growth = units.binary_bytes(cache_bytes(row.spec, 1, 1, "bf16").bytes_per_token)
        size = units.parameters(row.n_parameters) if row.n_parameters else "–"
        table.append((row.label, row.id, row.released or "–", size, *map(str, counts), growth))
    print(to_text(table, left=3))
    return 0


def _facts(row: ModelRow) -> dict[str, Any]:
    spec = row.spec
    return {
        "model": row.id,
        "label": row.label,
        "family": row.family,
        "generation": row.generation,
        "released": row.released,
        "n_parameters": row.n_parameters,
        "n_active_parameters": row.n_active_parameters,
        "max_context": row.max_context,
        "dtype": row.dtype,
        "model_type": row.model_type,
        "n_layers": spec.n_layers if spec else None,
        "n_heads": spec.n_heads if spec else None,
        "n_kv_heads": spec.n_kv_heads if spec else None,
        "head_dim": spec.head_dim if spec else None,
        "layers": [{"kind": str(layer.kind), "count": n} for layer, n in spec.groups] if spec else None,
        "unpublished": row.unpublished,
        "note": row.note,
        "aliases": list(row.aliases),
        "source": row.source,
        "date": row.date,
    }
