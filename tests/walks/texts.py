"""Texts that a visitor types, pastes, uploads and opens: published configurations, mistakes, and hostile texts."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from attention.catalog import published as catalog
from tests.server import ROOT

CONFIGS = sorted((ROOT / "tests/data/configs").glob("*.json"))
SLIPS = (
    "", " ", "{", "[]", "null", '{"model_type": "llama"}', '{"model_type": 3}', '{"num_hidden_layers": 1e400}',
    "<script>alert(1)</script>", "**bold** $x$ `code`", "𝕏🙂\u202e", "x" * 3000, "gpt-oss-120b", "../../etc/passwd",
    "for i in range(3):\n    print(i)\n", "?run=AAAAAAAAAAAA",
)  # fmt: skip
FILES = (
    ("config.json", (ROOT / "tests/data/configs/meta-llama__Meta-Llama-3-8B.json").read_bytes()),
    ("config.json", (ROOT / "tests/data/configs/deepseek-ai__DeepSeek-V3.json").read_bytes()),
    ("broken.json", b'{"model_type": '),
    ("binary.json", bytes(range(256))),
    ("empty.json", b""),
)
KINDS = (
    "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "tiiuae/falcon-7b", "tiiuae/falcon-180B",
    "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-pt", "google/gemma-2-27b", "ai21labs/Jamba-v0.1",
    "tiiuae/falcon-mamba-7b", "google/flan-t5-xxl", "google/Gemini-1.0", "openai/gpt-oss-120b",
    "Qwen/Qwen3-Next-80B-A3B-Instruct", "custom", "config",
)  # fmt: skip
"""Models of every kind: grouped, multi-head, multi-query, latent, windows, hybrid, recurrent, encoder-decoder, and one
without published sizes."""


def models() -> list[str]:
    """The models of KINDS, six times each, and all models of the catalogue."""
    known = {row.id for row in catalog.models()}
    return [name for name in KINDS if name in known or name in ("custom", "config")] * 6 + sorted(known)


def query(rng: random.Random) -> dict[str, Any]:
    """A random address at which a walk begins."""
    if rng.random() < 0.25:
        return {}
    model = rng.choice(models())
    found: dict[str, Any] = {"model": model}
    if model == "custom":
        heads = rng.choice((1, 7, 32, 128))
        found |= {"layers": str(rng.choice((1, 5, 61))), "heads": str(heads), "kv_heads": str(rng.choice((1, heads))),
                  "head_dim": str(rng.choice((1, 64, 576))), "window": str(rng.choice((0, 0, 1024)))}  # fmt: skip
    if model == "config":
        from ui.controls import pack

        found["config"] = pack(rng.choice(CONFIGS).read_text()) or ""
    if rng.random() < 0.5:
        found["context"] = str(rng.choice((1, 1000, 4096, 131_072, 2**20)))
    if rng.random() < 0.4:
        found["batch"] = str(rng.choice((1, 2, 17, 256)))
    if rng.random() < 0.3:
        found["kv"] = rng.choice(("fp8", "q4_0", "fp32"))
    return found


def typed(proto: Any, rng: random.Random) -> str:
    """A random text for a field, not longer than the field accepts."""
    published = rng.choice(CONFIGS).read_text()
    text = json.dumps(json.loads(published)) if rng.random() < 0.5 else rng.choice(SLIPS)
    return text[: proto.max_chars or None]


def number(proto: Any, now: Any, rng: random.Random) -> float:
    """A random number for a field: a step up or down, an end of its range, or a number between."""
    low = proto.min if proto.has_min else -1e6
    high = proto.max if proto.has_max else 1e6
    pick = rng.choice(("up", "down", "low", "high", "any", "any", "any"))
    now = low if now is None else now
    value = {"up": now + proto.step, "down": now - proto.step, "low": low, "high": high}.get(pick)
    if value is None:
        first = max(low, 1e-3)
        value = math.exp(rng.uniform(math.log(first), math.log(max(high, first)))) if high > 0 else low
    value = min(max(value, low), high)
    return float(round(value)) if proto.data_type == proto.INT else round(value, 3)
