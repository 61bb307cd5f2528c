"""What a conversion loses before any training: the byte model by every pooling, and the time of a large model's layer.

    python -m bench.calibrated [--only table|layer] [--json bench/results/calibrated.json]

The table: held-out loss of the shipped multi-head byte model on the study's 48 windows, with 4, 2 and 1 K/V heads;
calibrated ones are guided by windows of the training text. The layer: random weights and moments with the shapes of a
layer of 8 billion parameters in all, 32 heads of 128, merged into 8. Each figure is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from attention.convert.grouping import best_groups
from attention.convert.loaded import calibrated
from attention.convert.merging import Heads, Moments, Rotation, merge_heads, weigh
from attention.convert.pooling import Pool
from attention.convert.refine import LayerReport, Settings
from attention.timing.host import describe
from attention.tiny import train
from attention.tiny import uptraining as lab
from attention.tiny.calibrated import as_llama, calibration_tokens

POOLED: tuple[Pool, ...] = ("mean", "first")
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("calibrated, refined", {"refine_steps": 100}),
    ("calibrated, merge alone", {"refine_steps": 0}),
    ("calibrated, merge alone, neighbours", {"refine_steps": 0, "grouping": "neighbours"}),
)


@torch.no_grad()
def loss(model: Any, rows: torch.Tensor) -> float:
    """Nats per byte."""
    parts = [
        float(torch.nn.functional.cross_entropy(model(p[:, :-1]).logits.flatten(0, 1), p[:, 1:].flatten())) * len(p)
        for p in rows.split(16)
    ]
    return sum(parts) / len(rows)


def table(record: Any) -> None:
    stream, rows = lab.text()
    source = lab.source_model()
    model = as_llama(source)
    record({"way": "original", "n_kv_heads": 8, "loss": loss(model, rows)})
    tokens = calibration_tokens(stream)
    for k in (4, 2, 1):
        for pool in POOLED:
            converted = lab.convert(source, k, pool)
            record({"way": pool, "n_kv_heads": k, "loss": train.mean_loss(converted, rows)})
        for way, options in WAYS:
            if k == 1 and "neighbours" in way:
                continue  # one group: nothing to choose
            start, reports = time.process_time(), list[LayerReport]()
            converted = calibrated(model, k, tokens, Settings(**options), reports.append)
            cpu = round(time.process_time() - start, 1)
            record(
                {"way": way, "n_kv_heads": k, "loss": loss(converted, rows), "cpu_s": cpu,
                 "bytes": tokens.numel(), "layers": [asdict(r) for r in reports]}
            )  # fmt: skip


def layer(n_heads: int = 32, head_dim: int = 128, new: int = 8) -> dict[str, Any]:
    """Seconds of the merge of one layer, wall and processor."""
    torch.manual_seed(1)
    hidden = n_heads * head_dim
    q, k, v = (torch.randn(n_heads, head_dim, hidden) for _ in range(3))
    heads = Heads(q, k, v, torch.randn(hidden, n_heads, head_dim))
    seen = torch.randn(2 * hidden, hidden)
    moment = seen.T @ seen
    moments = Moments(moment, torch.eye(head_dim).expand(n_heads, head_dim, head_dim).clone(), moment)
    rotation = Rotation(head_dim)
    wall, cpu = time.perf_counter(), time.process_time()
    groups = best_groups(weigh(heads, moments, rotation), new)
    grouped = time.perf_counter() - wall
    merge_heads(heads, moments, rotation, groups)
    return {
        "n_kv_heads": [n_heads, new], "head_dim": head_dim, "hidden": hidden, "threads": torch.get_num_threads(),
        "grouping_s": round(grouped, 2), "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("table", "layer"))
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "calibrated.json")
    args = parser.parse_args()
    kept = json.loads(args.json.read_text()) if args.json.exists() else {}
    kept |= {"host": asdict(describe()), "torch": torch.__version__}

    def write() -> None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(kept, indent=1) + "\n")

    if args.only != "layer":
        kept["table"] = []

        def record(row: dict[str, Any]) -> None:
            kept["table"].append(row)
            print(row["n_kv_heads"], row["way"], round(row["loss"], 4), row.get("cpu_s", ""), flush=True)
            write()

        table(record)
    if args.only != "table":
        kept["layer"] = layer()
        print(kept["layer"], flush=True)
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
