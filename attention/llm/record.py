"""Makes the record of the model for ``python -m attention llm record``: losses, roles, similarity of heads, formats of
the cache, a text with its heads' attention, and runs of three sharings.

Everything is measured on held-out English (``corpus``), with the sharings that the page shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch.nn.functional import cross_entropy

from attention.llm import cache_formats, corpus, generate, heads
from attention.llm.loaded import Loaded
from attention.llm.model import Model
from attention.llm.plan import MERGES, SHARINGS, Plan
from attention.timing import host
from attention.timing.runs import versions

PROMPT = "Why is the sky blue? Answer in two sentences."
LENGTH = 256
"""Tokens of a piece of text. The first token is not predicted."""
Report = Callable[[str], None]


def loss(model: Model, pieces: Sequence[Sequence[int]]) -> float:
    """Mean loss over pieces of text, in nats per token. Each token is predicted from those before it in its piece."""
    import torch

    total, n = 0.0, 0
    for ids in pieces:
        rows = torch.tensor([list(ids)])
        logits = model.forward(rows, model.caches(len(ids)), every=True)
        total += float(cross_entropy(logits[0, :-1], rows[0, 1:], reduction="sum"))
        n += len(ids) - 1
    return total / n


def make(loaded: Loaded, plan: Plan, n_texts: int, n_looked_at: int, n_formats: int, report: Report) -> dict[str, Any]:
    """Measure everything, and return the record.

    Args:
        plan: the run to record, once per merge.
        n_texts: pieces of held-out text for the losses.
        n_looked_at, n_formats: how many of these, spread evenly, for the heads and for the cache's formats.
        report: called with words about the progress.
    """
    pieces = corpus.windows(loaded.tokens, LENGTH, n_texts)
    a = loaded.model.architecture
    losses = {}
    for name in SHARINGS:
        losses[name] = loss(loaded.sharing(name), pieces)
        report(f"{name}: {losses[name]:.4f} nats per token over {n_texts} pieces of {LENGTH}")
    calibrated = loaded.sharing("mqa", "calibrated", lambda words, share: report(words))
    losses["mqa_calibrated"] = loss(calibrated, pieces)
    report(f"mqa, calibrated: {losses['mqa_calibrated']:.4f}")
    chosen = _spread(pieces, n_looked_at)
    seen = []
    for ids in chosen:
        seen.append(heads.look(loaded.model, ids).attention)
        report(f"looked at {len(seen)} of {len(chosen)} texts")
    texts = [(ids, loaded.tokens.pieces(ids)) for ids in chosen]
    roles = heads.score_roles(texts, [one.numpy() for one in seen])
    likeness = {
        "all": heads.alike(seen, a.n_kv_heads)._asdict(),
        "without_first": heads.alike(seen, a.n_kv_heads, without_first=True)._asdict(),
    }
    formats: list[dict[str, Any]] = []

    def note(item: dict[str, Any]) -> None:
        if "progress" in item:
            report(item["message"])
        else:
            formats.append(item)

    tried = cache_formats.pairs()
    timed = [pair for pair in tried if pair[0] == pair[1]]
    cache_formats.run(loaded.model, _spread(pieces, n_formats), tried, timed, note, lambda: False)
    runs = {merge: _run(loaded, replace(plan, merge=merge)) for merge in MERGES}
    machine = host.describe()
    return {
        "model": loaded.name, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_heads": a.n_heads, "n_kv_heads": a.n_kv_heads, "n_layers": a.n_layers,
        "text": "pydoc_data.topics, Python " + machine.python, "length": LENGTH, "n_texts": n_texts,
        "n_looked_at": len(chosen), "losses": losses, "roles": roles, "likeness": likeness,
        "formats": {"n_texts": min(n_formats, n_texts), "length": LENGTH, "results": formats},
        "plan": plan.to_json(), "runs": runs, "host": machine.to_json(), "versions": versions(),
    }  # fmt: skip


def look(loaded: Loaded, text: str) -> list[dict[str, Any]]:
    """A text with all heads' attention: the messages of the job "heads"."""
    told: list[dict[str, Any]] = []
    heads.tell_of(loaded, text, 0, lambda item: None if "progress" in item else told.append(item), lambda: False)
    return told


def _spread(pieces: Sequence[Sequence[int]], n: int) -> list[Sequence[int]]:
    return list(pieces[:: max(1, len(pieces) // n)][:n])


def _run(loaded: Loaded, plan: Plan) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    generate.run(loaded, plan, lambda item: None if "progress" in item else told.append(item), lambda: False)
    return told


def write(record: dict[str, Any] | list[dict[str, Any]], path: Path) -> None:
    """Write a record as JSON, with figures of five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(record), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
