"""Is a latent cache of the same bytes a better conversion than grouped heads? The byte model, before any training.

    python -m bench.latent [--n-kv-heads 4 2 1] [--refine 100] [--json bench/results/latent.json]

K grouped heads of size d keep 2 K d numbers a token. A latent of r numbers with one shared rotary key of size d keeps
the same number if r = 2 K d - d. The conversion follows TransMLA's idea (Meng et al. 2025, arXiv:2502.07864). For each
rotary pair, the direction over all heads that holds most of its energy becomes the shared rotary key. The rest of the
keys loses its rotation and shares one low-rank latent with the values. In place of the lost rotation stands its mean
over the distances that attention looks back. Then the weights are fitted as with ``--pool calibrated``. The result is
transformers' own ``DeepseekV3ForCausalLM``. One latent dimension has a large bias and so keeps the norm over the latent
constant.
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
from torch import Tensor
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

from attention.convert import attention_module as modules
from attention.convert import calibration as passes
from attention.convert.around_layers import embed
from attention.convert.layouts import layout_of
from attention.convert.merging import merge_heads
from attention.convert.moments import Heads, Rotation, Weighted, weigh
from attention.convert.refine import Settings, _error, fit
from attention.timing.host import describe
from attention.tiny import uptraining as lab
from attention.tiny.calibrated import as_llama, calibration_tokens
from bench.calibrated import loss

BALANCES = (0.3, 1.0, 3.0)
"""Weights to try for the values' energy against the keys' in the joint latent; the least error of attention decides."""
BIAS = 100.0
"""Bias of the dimension that keeps the norm constant, in units of the latent's length. The norm's relative error is
then 1 / (2 BIAS²)."""


class Latent(DeepseekV3Attention):
    """The published class. A fit changes its projections only, not the dimension that keeps the norm constant."""

    def __init__(self, config: DeepseekV3Config, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        still = torch.ones(config.kv_lora_rank)
        still[0] = 0
        # the dimension with the bias is a large constant: without the mask its column would dominate every step of the
        # fit
        self.kv_b_proj.weight.register_hook(lambda gradient: gradient * still)

    def parameters(self, recurse: bool = True) -> Any:
        return (p for name, p in self.named_parameters(recurse=recurse) if name.endswith("proj.weight")
                or name.endswith("mqa.weight"))  # fmt: skip


def config_of(source: Any, rank: int) -> DeepseekV3Config:
    config = DeepseekV3Config(
        vocab_size=source.vocab_size, hidden_size=source.hidden_size, intermediate_size=source.intermediate_size,
        num_hidden_layers=source.num_hidden_layers, num_attention_heads=source.num_attention_heads,
        num_key_value_heads=source.num_attention_heads, first_k_dense_replace=source.num_hidden_layers,
        kv_lora_rank=rank, q_lora_rank=None, qk_rope_head_dim=source.head_dim, qk_nope_head_dim=source.head_dim,
        v_head_dim=source.head_dim, attention_bias=True, rope_interleave=False, rms_norm_eps=source.rms_norm_eps,
        max_position_embeddings=source.max_position_embeddings, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": source.rope_parameters["rope_theta"]},
    )  # fmt: skip
    config._attn_implementation = "eager"
    return config


def mean_turn(weights: list[Tensor], theta: Tensor) -> Tensor:
    """complex[pairs]: the mean rotation over the text, each distance back weighted by the attention it gets.

    Args:
        weights: attention weights, each float[batch, heads, rows, length]. theta: float64[pairs], angle per position.
    """
    n_rows, length = weights[0].shape[-2:]
    rows = torch.linspace(0, length - 1, n_rows).long()
    back = (rows[:, None] - torch.arange(length)).clamp_min(0).double()
    share = torch.cat(weights).double().mean((0, 1)) / n_rows
    turns = torch.polar(torch.ones(()).double(), theta[:, None, None] * back)
    found: Tensor = (turns * share).sum((1, 2))
    return found


def pairs_of(rows: Tensor, rotation: Rotation) -> Tensor:
    real, imaginary = rotation.pairs
    return torch.complex(rows[..., real, :], rows[..., imaginary, :])


def rows_of(pairs: Tensor) -> Tensor:
    return torch.cat([pairs.real, pairs.imag], -2)


def start(
    heads: Heads, weighted: Weighted, moments: Any, covariance: Tensor, turn: Tensor, rank: int, balance: float
) -> dict[str, Tensor]:
    """The weights of the published class, from the best shared rotary key and the best joint latent of the rest."""
    n, d, hidden = heads.k.shape
    rotation = Rotation(d)
    merged = merge_heads(heads, moments, rotation, (tuple(range(n)),)).heads
    common, keys = pairs_of(merged.k[0].double(), rotation), pairs_of(heads.k.double(), rotation)
    complex_cov = covariance.to(torch.complex128)
    power = torch.einsum("pc,cd,pd->p", common, complex_cov, common.conj()).real
    share = torch.einsum("npc,cd,pd->np", keys, complex_cov, common.conj()) / power
    rest = keys - share[..., None] * common
    weight = (weighted.energy.sqrt() * turn.abs())[..., None].clamp_min(1e-9)  # [n, pairs, 1]
    key_rows = rows_of(rest * weight).flatten(0, 1)
    value_rows = (weighted.values_root.transpose(1, 2) @ heads.v.double()).flatten(0, 1)

    def energy(rows: Tensor) -> Tensor:
        return torch.einsum("rc,cd,rd->", rows, covariance, rows)

    beta = (balance * energy(key_rows) / energy(value_rows)).sqrt()
    stacked = torch.cat([key_rows, beta * value_rows])
    basis = torch.linalg.eigh(stacked @ covariance @ stacked.T)[1][:, -(rank - 1) :]
    latent = basis.T @ stacked  # [rank - 1, hidden]
    size = energy(latent).sqrt()
    bias = BIAS * size
    up_keys = basis[: n * d].unflatten(0, (n, 2, d // 2)) / weight[:, None]
    up_values = torch.linalg.solve_triangular(
        weighted.values_root.transpose(1, 2), basis[n * d :].unflatten(0, (n, d)) / beta, upper=True
    )
    up = torch.cat([up_keys.flatten(1, 2), up_values], 1).flatten(0, 1)
    q = pairs_of(heads.q.double(), rotation) * turn[:, None]
    queries = torch.cat([rows_of(q), merged.q.double()], 1) * 2**0.5  # the class divides by the root of both widths
    down = torch.cat([latent.new_zeros(1, hidden), latent, merged.k[0].double()])
    return {
        "q_proj.weight": queries.flatten(0, 1),
        "kv_a_proj_with_mqa.weight": down,
        "kv_a_proj_with_mqa.bias": torch.cat([bias[None], down.new_zeros(rank - 1 + d)]),
        "kv_a_layernorm.weight": (bias / rank**0.5).expand(rank),
        "kv_b_proj.weight": torch.cat([up.new_zeros(len(up), 1), up], 1),
        "o_proj.weight": heads.o.double().flatten(1, 2),
        "o_proj.bias": heads.o.new_zeros(hidden).double(),
    }


@torch.no_grad()
def convert(model: Any, rank: int, tokens: Tensor, settings: Settings) -> tuple[Any, list[dict[str, Any]]]:
    """(the model as DeepseekV3ForCausalLM, a report of each layer: balance and errors)."""
    _, layout = layout_of(model.config.to_dict())
    layers = modules.find_layers(model, layout)
    config = config_of(model.config, rank)
    was, arguments = embed(model, layers, tokens)
    now, reports, inside = was, list[dict[str, Any]](), dict[str, Tensor]()
    n, d = model.config.num_attention_heads, model.config.head_dim
    theta = model.config.rope_parameters["rope_theta"] ** -(torch.arange(0, d, 2).double() / d)
    for index, layer in enumerate(layers):
        old = modules.attention_of(layer, layout)
        seen, after = passes._observe(layer, old, was, arguments[index], settings.batch)
        heads = modules.read_heads(old.state_dict(), layout, n, n)
        moments = passes.moments_of(heads, seen.inputs, seen.weights, settings.batch)
        weighted = weigh(heads, moments, Rotation(d))
        merged = merge_heads(heads, moments, Rotation(d), (tuple(range(n)),))
        x = seen.inputs.flatten(0, 1).double()
        inputs = passes._inputs(layer, old, now, arguments[index], settings.batch) if index else seen.inputs
        targets = seen.outputs + (was - now)
        tried: list[tuple[float, float, Latent]] = []
        for balance in BALANCES:
            new = Latent(config, index).eval()
            state = start(heads, weighted, moments, x.T @ x, mean_turn(seen.weights, theta), rank, balance)
            new.load_state_dict({name: t.float() for name, t in state.items()})
            error = _error(new, inputs[: len(inputs) // 8], targets[: len(inputs) // 8], seen.keywords, settings.batch)
            tried.append((error, balance, new))
        _, balance, new = min(tried, key=lambda t: t[0])
        report = fit(new, inputs, targets, seen.keywords, merged, index, settings)
        reports.append({"balance": balance, "error_merged": report.error_merged, "error": report.error})
        print(f"  layer {index}: {reports[-1]}", flush=True)
        inside |= {f"model.layers.{index}.self_attn.{name}": t for name, t in new.state_dict().items()}
        with passes._replaced(layer, layout, new):
            now = passes._run(layer, now, arguments[index], settings.batch)
        was = after
    converted = DeepseekV3ForCausalLM(config).eval()
    state = {name: t for name, t in model.state_dict().items() if ".self_attn." not in name} | inside
    converted.load_state_dict(state)
    return converted, reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-kv-heads", type=int, nargs="+", default=(4, 2, 1), metavar="K", help="whose bytes to take")
    parser.add_argument("--refine", type=int, nargs="+", default=(0, 100), metavar="STEPS", help="of each layer's fit")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "latent.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stream, rows = lab.text()
    model, tokens = as_llama(lab.source_model()), calibration_tokens(stream)
    kept: dict[str, Any] = {"host": asdict(describe()), "torch": torch.__version__, "rows": []}
    for steps in args.refine:
        for k in args.n_kv_heads:
            cpu, d = time.process_time(), model.config.head_dim
            converted, layers = convert(model, 2 * k * d - d, tokens, Settings(refine_steps=steps))
            row = {
                "bytes_of_n_kv_heads": k, "latent": 2 * k * d - d, "rotary": d, "refine_steps": steps,
                "loss": loss(converted, rows), "cpu_s": round(time.process_time() - cpu, 1), "layers": layers,
            }  # fmt: skip
            kept["rows"].append(row)
            print({name: value for name, value in row.items() if name != "layers"}, flush=True)
            args.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
