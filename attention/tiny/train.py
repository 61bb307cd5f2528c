"""Trains a tiny model, reproducibly to the bit on one machine, and measures its loss on held-out files.

The weights depend on the corpus (its hash is recorded), the recipe, torch's version and the processor. The optimiser is
Muon for the matrices and AdamW for embeddings and norms (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/). One step learns about as much as one and a half steps of AdamW alone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attention.spec import check_size
from attention.tiny.config import TinyConfig
from attention.tiny.corpus import Corpus, windows
from attention.tiny.model import TinyLM, initialised, loss

EVAL_ROWS = 64
"""About how many held-out windows give a point of the validation curve. The final loss takes all windows."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The defaults are those of the shipped models.

    Attributes:
        batch: windows of max_context bytes per step.
        threads: torch's threads. Another number adds in another order, so it is part of the recipe.
        muon_lr, adam_lr: peak learning rates. Both rise over `warmup` steps and fall to 5 % along a cosine.

    Raises:
        ValueError: a value out of range.
    """

    steps: int = 2500
    seed: int = 20
    batch: int = 8
    threads: int = 1
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup: int = 60
    clip: float = 1.0
    eval_every: int = 100

    def __post_init__(self) -> None:
        check_size("steps", self.steps, maximum=1_000_000)
        check_size("seed", self.seed, minimum=0)
        check_size("batch", self.batch, maximum=4096)
        check_size("threads", self.threads, maximum=1024)
        check_size("eval_every", self.eval_every)

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at `step`, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup)
        return rise * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * step / self.steps)))


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with its log: (step, training loss, validation loss) at each evaluation, nats per byte."""

    model: TinyLM
    curve: tuple[tuple[int, float, float], ...]
    wall_s: float
    cpu_s: float


def sample_rows(stream: np.ndarray, generator: np.random.Generator, batch: int, length: int) -> torch.Tensor:
    """`batch` random windows of the stream uint8[n_bytes], as int64[batch, length + 1]."""
    starts = generator.integers(0, len(stream) - length, batch)
    return torch.from_numpy(stream[starts[:, None] + np.arange(length + 1)].astype(np.int64))


def optimisers(model: TinyLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest, each with its peak rate."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def held_out_rows(corpus: Corpus, length: int) -> torch.Tensor:
    """All windows of the held-out files, int64[n_windows, length + 1]. No window spans two files."""
    rows = np.concatenate([windows(f.text, length) for f in corpus.held_out])
    return torch.from_numpy(rows.astype(np.int64))


@torch.no_grad()
def mean_loss(model: TinyLM, rows: torch.Tensor, batch: int = 32) -> float:
    """Mean loss over `rows` int64[n, length + 1], in nats per byte. It is summed in float64, so the order of batches
    does not change its sixth digit."""
    total = sum(float(loss(model, part)) * len(part) for part in rows.split(batch))
    return total / len(rows)


def train(
    config: TinyConfig,
    recipe: Recipe,
    corpus: Corpus,
    report: Callable[[int, float, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train a model from its seed. It sets torch's threads and deterministic mode for the process.

    Args:
        report: called at each evaluation with the step, the mean training loss since the last evaluation, and the
            validation loss.
        should_stop: asked before each step; true ends the training early.
    """
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    stream = corpus.train_stream()
    generator = np.random.default_rng(recipe.seed)
    check_rows = held_out_rows(corpus, config.max_context)
    check_rows = check_rows[:: max(1, len(check_rows) // EVAL_ROWS)]
    model = initialised(config, recipe.seed)
    steppers = optimisers(model, recipe)
    peaks = [s.param_groups[0]["lr"] for s in steppers]
    curve: list[tuple[int, float, float]] = []
    recent: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(recipe.steps):
        if should_stop():
            break
        for stepper, peak in zip(steppers, peaks, strict=True):
            stepper.param_groups[0]["lr"] = peak * recipe.rate(step)
            stepper.zero_grad(set_to_none=True)
        value = loss(model, sample_rows(stream, generator, recipe.batch, config.max_context))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for stepper in steppers:
            stepper.step()
        recent.append(float(value.detach()))
        if (step + 1) % recipe.eval_every == 0 or step + 1 == recipe.steps:
            point = (step + 1, float(np.mean(recent)), mean_loss(model, check_rows))
            curve.append(point)
            recent = []
            if report:
                report(*point)
    return Trained(model, tuple(curve), time.perf_counter() - wall, time.process_time() - cpu)


def store(trained: Trained, recipe: Recipe, corpus: Corpus, name: str, folder: Path) -> dict[str, Any]:
    """Write NAME.safetensors (float16) and NAME.json, and return the record in the latter.

    The recorded "validation" is measured on the stored weights. Each file is written whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    aside = weights.with_suffix(".partial")
    state = {key: value.half().contiguous() for key, value in trained.model.state_dict().items()}
    save_file(state, aside, metadata={"format": "pt"})
    aside.chmod(0o644)  # safetensors makes a file that only its owner can read
    os.replace(aside, weights)
    model = load(weights, trained.model.config)
    record = {
        "name": name,
        "config": trained.model.config.to_json(),
        "recipe": asdict(recipe),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "corpus": {
            "what": "the Python standard library's own source text",
            "python": platform.python_version(),
            "sha256": corpus.sha256,
            "n_files": len(corpus.files),
            "n_train_bytes": len(corpus.train_stream()),
            "n_held_out_bytes": sum(len(f.text) for f in corpus.held_out),
        },
        "validation": evaluate(model, corpus),
        "curve": [{"step": s, "train_loss": t, "validation_loss": v} for s, t, v in trained.curve],
        "wall_s": trained.wall_s,
        "cpu_s": trained.cpu_s,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    aside = folder / f"{name}.json.partial"
    aside.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(aside, folder / f"{name}.json")
    return record


def evaluate(model: TinyLM, corpus: Corpus) -> dict[str, Any]:
    """Loss in nats per byte over all held-out windows, and per file: {"loss": …, "n_windows": …, "files": […]}.

    Another Python release has other text. With losses per file, the files that are the same there can be compared.
    """
    files, total, count = [], 0.0, 0
    for file in corpus.held_out:
        rows = torch.from_numpy(windows(file.text, model.config.max_context).astype(np.int64))
        if not len(rows):
            continue
        value = mean_loss(model, rows)
        files.append({"file": file.name, "sha256": file.sha256, "n_windows": len(rows), "loss": value})
        total, count = total + value * len(rows), count + len(rows)
    return {"loss": total / count, "n_windows": count, "files": files}


def load(path: Path, config: TinyConfig | None = None) -> TinyLM:
    """A stored model, in float32. Without `config`, the sizes are read from the .json beside the weights.

    Raises:
        ValueError: missing file, or weights that do not fit the sizes.
    """
    try:
        if config is None:
            config = TinyConfig(**json.loads(path.with_suffix(".json").read_text())["config"])
        state = load_file(path)
        model = TinyLM(config)
        model.load_state_dict(state)
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"no tiny model in {path}: {error}") from error
    return model.eval()
