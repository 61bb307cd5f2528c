"""The loss of each conversion of the byte model before any training, and the time to convert a large model's layer.

    python -m bench.calibrated [--only table|layer] [--json bench/results/calibrated.json]

The table gives the held-out loss of the shipped multi-head byte model on the study's 48 windows, converted to 4, 2 and
1 K/V heads; the calibrated conversions use windows of the training text. The layer has random weights and moments, with
the shapes of a layer of an 8-billion-parameter model: 32 heads of 128, merged into 8. Then a layer of that size is
converted as a whole on a little text, without and with steps of the fit. This gives the cost of a token, of a step and
of the merge, the peak of memory, and an estimate for 32 layers on the command's default text. Each figure is written as
soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from attention.commands.convert import TOKENS
from attention.convert.around_layers import embed
from attention.convert.attention_module import find_layers
from attention.convert.calibration import InMemory, Shape, calibrate
from attention.convert.grouping import best_groups
from attention.convert.layouts import layout_of
from attention.convert.loaded import calibrated
from attention.convert.merging import merge_heads
from attention.convert.moments import Heads, Moments, Rotation, weigh
from attention.convert.pooling import Pool
from attention.convert.refine import LayerReport, Settings
from attention.convert.text import WINDOW
from attention.timing.host import describe
from attention.tiny import train
from attention.tiny import uptraining as lab
from attention.tiny.calibrated import as_llama, calibration_tokens
from bench import files

POOLED: tuple[Pool, ...] = ("mean", "first")
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("calibrated, refined", {"refine_steps": 100}),
    ("calibrated, merge alone", {"refine_steps": 0}),
    ("calibrated, merge alone, neighbours", {"refine_steps": 0, "grouping": "neighbours"}),
)


@torch.no_grad()
def loss(model: Any, rows: torch.Tensor) -> float:
    """Mean loss in nats per byte of `rows`, int64[windows, length]."""
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
        for method, options in METHODS:
            if k == 1 and "neighbours" in method:
                continue  # one group: nothing to choose
            start, reports = time.process_time(), list[LayerReport]()
            converted = calibrated(model, k, tokens, Settings(**options), reports.append)
            cpu = round(time.process_time() - start, 1)
            record(
                {"way": method, "n_kv_heads": k, "loss": loss(converted, rows), "cpu_s": cpu,
                 "bytes": tokens.numel(), "layers": [asdict(r) for r in reports]}
            )  # fmt: skip


def layer(n_heads: int = 32, head_dim: int = 128, new: int = 8) -> dict[str, Any]:
    """Merge one layer's K/V heads: seconds of wall and processor time, with the sizes."""
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


def whole_layer(length: int = 128, n_windows: int = 4, steps: int = 2) -> dict[str, Any]:
    """Convert one decoder layer from its inputs to its new weights: seconds of the processor, and bytes at the peak.

    The estimate is for 32 layers, TOKENS tokens and the default steps of the fit. It takes each cost as proportional
    to the number of layers, tokens or steps.
    """
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=1, num_attention_heads=32, num_key_value_heads=32,
        head_dim=128, vocab_size=256,
    )  # fmt: skip
    config._attn_implementation = "eager"
    torch.manual_seed(1)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.uniform_(-0.03, 0.03) if parameter.ndim > 1 else parameter.fill_(1)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    family, layout = layout_of(config.to_dict())
    layers = find_layers(model, layout)
    hidden, arguments = embed(model, layers, torch.randint(0, 256, (n_windows, length)))
    shape = Shape(family, layout, 32, 32, 8, 128)
    weights = sum(p.numel() * 4 for p in layers.parameters())

    def run(refine_steps: int) -> tuple[float, float]:
        settings = Settings(refine_steps=refine_steps, refine_batch=n_windows - 1, batch=1)
        wall, cpu = time.perf_counter(), time.process_time()
        calibrate(InMemory(layers), config, shape, hidden, arguments, settings, lambda report, tensors: None)
        return time.perf_counter() - wall, time.process_time() - cpu

    cpu = time.process_time()
    with torch.no_grad():
        for part in hidden.split(1):
            layers[0](part, **arguments[0])
    one_pass = time.process_time() - cpu
    (merge_wall, merge_cpu), (fit_wall, fit_cpu) = run(0), run(steps)
    per_step = (fit_cpu - merge_cpu) / (steps * (n_windows - 1) * length)
    # the text passes through the layer twice: before and after the conversion
    per_token = 2 * one_pass / hidden[..., 0].numel()
    merge = merge_cpu - per_token * hidden[..., 0].numel()
    default = Settings()
    each = merge + per_token * TOKENS + per_step * default.refine_steps * default.refine_batch * WINDOW
    return {
        "tokens": n_windows * length, "layer_bytes": weights, "threads": torch.get_num_threads(),
        "merge_wall_s": round(merge_wall, 1), "merge_cpu_s": round(merge_cpu, 1),
        "steps": steps, "with_steps_wall_s": round(fit_wall, 1), "with_steps_cpu_s": round(fit_cpu, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "estimate": {"layers": 32, "tokens": TOKENS, "steps": default.refine_steps,
                     "layer_cpu_s": round(each), "layer_cpu_s_merge_alone": round(merge + per_token * TOKENS),
                     "model_cpu_h": round(32 * each / 3600, 1),
                     "model_cpu_h_merge_alone": round(32 * (merge + per_token * TOKENS) / 3600, 1)},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("table", "layer"))
    parser.add_argument("--note", help="kept with the layer's figures, such as what else ran on the machine")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "calibrated.json")
    args = parser.parse_args()
    kept = json.loads(args.json.read_text()) if args.json.exists() else {}
    kept |= {"host": asdict(describe()), "torch": torch.__version__}

    def write() -> None:
        files.write(args.json, kept)

    if args.only != "layer":
        kept["table"] = []

        def record(row: dict[str, Any]) -> None:
            kept["table"].append(row)
            print(row["n_kv_heads"], row["way"], round(row["loss"], 4), row.get("cpu_s", ""), flush=True)
            write()

        table(record)
    if args.only != "table":
        for name, measure in (("layer", layer), ("whole_layer", whole_layer)):
            kept[name] = measure() | ({"note": args.note} if args.note else {})
            print(name, kept[name], flush=True)
            write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
