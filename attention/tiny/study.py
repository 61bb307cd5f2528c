"""The recorded study of uptraining: loss against alpha for each pooling and number of K/V heads, over several seeds.

A run trains one converted model for up to 10 % of the original steps and measures it at each alpha (``uptraining.py``).
All runs go to the first alpha, then all to the next, and so on. The file is written after every measurement, so a study
that is interrupted is a smaller study. A second process may add further seeds to the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from attention.tiny import uptraining as lab
from attention.tiny.config import DATA, MODELS
from attention.tiny.corpus import load_corpus
from attention.tiny.model import TinyLM
from attention.tiny.results import ALPHAS, CALIBRATED, KV_HEADS, POOLINGS, STUDY_FILE
from attention.tiny.train import load, mean_loss

Cell = dict[str, Any]
KEY = ("n_kv_heads", "pool", "seed", "alpha")


def variants(
    n_kv_heads: Sequence[int] = KV_HEADS, pools: Sequence[lab.PoolMethod] = POOLINGS
) -> list[tuple[int, lab.PoolMethod]]:
    """The (n_kv_heads, pool) to compare. With all K/V heads kept no pooling changes anything, so one run is enough: the
    control, which is MHA trained for as long."""
    full = max(KV_HEADS)
    return [(k, pool) for k in n_kv_heads for pool in pools if k != full or pool == "mean"]


def _started(source: TinyLM, n_kv_heads: int, pool: lab.PoolMethod, seed: int) -> TinyLM:
    """The converted model. A calibrated one is the recorded one, so that the study does not wait for the fit."""
    if pool != CALIBRATED:
        return lab.convert(source, n_kv_heads, pool, seed)
    from attention.tiny import calibrated

    return calibrated.shipped(source, n_kv_heads)


def provenance() -> dict[str, Any]:
    """What the losses depend on: text, recipe, programs and machine."""
    recipe = lab.original()
    corpus = load_corpus()
    return {
        "source": lab.SOURCE,
        "source_sha256": hashlib.sha256((DATA / f"{lab.SOURCE}.safetensors").read_bytes()).hexdigest(),
        "original_steps": recipe.steps,
        "batch": recipe.batch,
        "muon_lr": recipe.muon_lr * lab.RATE_SHARE,
        "adam_lr": recipe.adam_lr * lab.RATE_SHARE,
        "rate_share": lab.RATE_SHARE,
        "threads": 1,
        "eval_windows": lab.EVAL_WINDOWS,
        "seed_decides": "order of the training windows; weights of random heads",
        "spread": "sample standard deviation over seeds",
        "corpus_sha256": corpus.sha256,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def run(
    seeds: Sequence[int],
    record: Callable[[Cell], None],
    *,
    alphas: Sequence[float] = ALPHAS,
    n_kv_heads: Sequence[int] = KV_HEADS,
    pools: Sequence[lab.PoolMethod] = POOLINGS,
    threads: int = 1,
) -> None:
    """Do the study, and call `record` after each measurement with its cell: n_kv_heads, pool, seed, alpha, steps, loss
    (nats per byte) and cpu_s.

    It sets torch's threads and deterministic mode for the process.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    stream, rows = lab.text()
    source = lab.source_model()
    runs = {
        (k, pool, seed): lab.Uptraining(_started(source, k, pool, seed), stream, seed)
        for seed in seeds
        for k, pool in variants(n_kv_heads, pools)
    }
    for alpha in sorted(alphas):
        for (k, pool, seed), uptraining in runs.items():
            cpu = time.process_time()
            while uptraining.step < lab.steps_of(alpha):
                uptraining.advance()
            value = mean_loss(uptraining.model, rows)
            cell = {"n_kv_heads": k, "pool": pool, "seed": seed, "alpha": alpha, "steps": uptraining.step}
            record({**cell, "loss": value, "cpu_s": round(time.process_time() - cpu, 2)})


def references() -> dict[str, float]:
    """Losses of the shipped models on the study's windows: MHA, and models trained from scratch with fewer heads."""
    _, rows = lab.text()
    models = {name: load(DATA / f"{name}.safetensors") for name in MODELS}
    # a model with another number of heads than its name says would be compared with the wrong conversions
    return {name: mean_loss(m, rows) for name, m in models.items() if m.config.n_kv_heads == MODELS[name]}


def summarise(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Mean and spread over seeds, one row per n_kv_heads, pooling and alpha. The spread of a single seed is None."""
    groups: dict[tuple[int, str, float], list[float]] = {}
    for cell in cells:
        groups.setdefault((cell["n_kv_heads"], cell["pool"], cell["alpha"]), []).append(cell["loss"])
    return [
        {
            "n_kv_heads": k,
            "pool": pool,
            "alpha": alpha,
            "n_seeds": len(losses),
            "mean": statistics.fmean(losses),
            "spread": statistics.stdev(losses) if len(losses) > 1 else None,
        }
        for (k, pool, alpha), losses in sorted(groups.items())
    ]


def merge(path: Path, about: dict[str, Any], losses: dict[str, float], fresh: Sequence[Cell]) -> None:
    """Add measurements to the file. A cell that is measured again replaces the old one.

    Args:
        about: what the losses depend on.
        losses: losses of the shipped models, see :func:`references`.
        fresh: the new cells.

    Raises:
        ValueError: the file holds a study with another `about`.
    """
    # several processes may add to one study
    with FileLock(path.with_suffix(".lock")):
        old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"about": about, "cells": []}
        if old["about"] != about:
            changed = sorted(k for k in about if old["about"].get(k) != about[k])
            raise ValueError(f"{path} holds a study made otherwise ({', '.join(changed)}): move it away first")
        cells = {tuple(cell[k] for k in KEY): cell for cell in (*old["cells"], *fresh)}
        ordered = [cells[key] for key in sorted(cells)]
        document = {"about": about, "references": losses, "points": summarise(ordered), "cells": ordered}
        aside = path.with_suffix(".partial")
        aside.write_text(_lines(document))
        os.replace(aside, path)


def _lines(document: dict[str, Any]) -> str:
    """JSON with one line per cell, so that a changed cell is one changed line."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list):
            body = ",\n".join("  " + json.dumps(item) for item in value)
            parts.append(f" {json.dumps(key)}: [\n{body}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value, indent=2)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def study(seeds: Sequence[int], write: bool, path: Path = STUDY_FILE, **options: Any) -> list[Cell]:
    """Run the study and return its cells. With `write`, each measurement is added to the file at once."""
    about, losses = provenance(), references()
    cells: list[Cell] = []

    def record(cell: Cell) -> None:
        cells.append(cell)
        print(
            f"K {cell['n_kv_heads']} {cell['pool']:6} seed {cell['seed']} alpha {100 * cell['alpha']:4.0f} % "
            f"loss {cell['loss']:.4f} nats/byte, {cell['cpu_s']:.0f} CPU s",
            flush=True,
        )
        if write:
            merge(path, about, losses, [cell])

    if write:
        merge(path, about, losses, [])
    run(seeds, record, **options)
    return cells
