"""SmolLM2-135M with one K/V head instead of three: converted by mean and by calibration, then trained on.

    python -m bench.real_uptraining --model FILE.gguf [--device cuda] [--minutes 6] [--out FOLDER]

It needs a machine with one GPU, torch, transformers and the gguf package, and no network. The training text is the
docstrings of the standard library and of the installed packages. The held-out text is ``pydoc_data.topics``, Python's
own language reference. Each stage writes its results at once, as JSON into FOLDER: text, conversions (the original
among them), rates, and one file per run with the held-out loss against tokens. A stage that fails says so, and the
stages that do not need it go on.

The runs come in order of importance: calibrated, mean, then both with distillation from the original's logits. All have
the same number of steps, as many as fit into the time. The learning rate of each start is the best of a few short
tries, judged on docstrings that no run trains on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention.convert.loaded import calibrated
from attention.convert.refine import LayerReport, Settings
from bench import docstrings
from bench.trained_model import (
    DISTILLATION,
    SMALL,
    Run,
    Sizes,
    by_mean,
    held_out_text,
    load,
    mean_loss,
    windows,
)

RATES = (3e-4, 1e-3, 3e-3)
RUNS = (("calibrated", False), ("mean", False), ("calibrated", True), ("mean", True))


class Stage:
    """The time that is left, and the folder into which results are written at once."""

    def __init__(self, out: Path, minutes: float, device: str) -> None:
        self.start, self.out, self.minutes = time.monotonic(), out, minutes
        self.about = {
            "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "transformers": __import__("transformers").__version__,
            "python": platform.python_version(),
            "command": " ".join(["python -m bench.real_uptraining", *sys.argv[1:]]),
        }

    @property
    def left_s(self) -> float:
        return 60 * self.minutes - (time.monotonic() - self.start)

    def write(self, name: str, content: dict[str, Any]) -> None:
        document = {"about": self.about, "wall_s": round(time.monotonic() - self.start, 1), **content}
        aside = self.out / f"{name}.partial"
        aside.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(aside, self.out / f"{name}.json")
        print(f"[{document['wall_s']:6.1f} s] {name}: {_line(content)}", flush=True)


def _line(content: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in content.items() if not isinstance(v, list | dict))


@dataclass
class Study:
    stage: Stage
    sizes: Sizes
    device: str
    n_kv_heads: int
    compiled: bool
    layers: int | None
    original: Any = None
    train: Tensor | None = None
    validation: Tensor | None = None
    held_out: Tensor | None = None

    def text(self, path: Path) -> None:
        """Load the model, collect the texts and cut them into windows with the model's tokenizer."""
        # first of all: forked processes parse the files, and CUDA and the tokenizer have no threads yet
        docs = docstrings.collect(self.sizes.max_files, None if self.device == "cuda" else 1)
        self.original, tokenizer = load(path, self.device)
        if self.layers is not None:
            self.original.model.layers = self.original.model.layers[: self.layers]
            self.original.config.num_hidden_layers = self.layers
        rows = windows(tokenizer, list(docs.texts), self.sizes.length)
        held = windows(tokenizer, held_out_text(), self.sizes.length)[: self.sizes.held_out_all]
        n = self.sizes.validation
        # at even distances, so that every package is judged
        picked = torch.linspace(0, len(rows) - 1, n).long()
        mask = torch.ones(len(rows), dtype=torch.bool)
        mask[picked] = False
        self.train, self.validation, self.held_out = rows[mask], rows[picked], held
        with path.open("rb") as file:
            model_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.stage.write(
            "text",
            {"model": path.name, "layers": self.original.config.num_hidden_layers, "model_sha256": model_sha256,
             "train_sha256": docs.sha256, "files": docs.n_files,
             "docstrings": len(docs.texts), "characters": sum(map(len, docs.texts)),
             "train_tokens": self.train.numel(), "validation_tokens": self.validation.numel(),
             "held_out": "pydoc_data.topics", "held_out_tokens": held.numel(),
             "held_out_sha256": hashlib.sha256("\n".join(held_out_text()).encode()).hexdigest(),
             "sizes": asdict(self.sizes), "packages": dict(list(docs.packages.items())[:60])},
        )  # fmt: skip

    def curve_rows(self) -> Tensor:
        assert self.held_out is not None
        return self.held_out[
            torch.linspace(0, len(self.held_out) - 1, min(len(self.held_out), self.sizes.held_out)).long()
        ]

    def losses(self, model: Any) -> dict[str, float]:
        """Nats per token on all of the held-out text, on the part of it that curves use, and on held-out docstrings."""
        assert self.held_out is not None
        assert self.validation is not None
        batch = self.sizes.batch
        return {
            "held_out_loss": mean_loss(model, self.held_out, batch),
            "curve_loss": mean_loss(model, self.curve_rows(), batch),
            "docstring_loss": mean_loss(model, self.validation, batch),
        }

    def conversions(self) -> dict[str, Any]:
        """Measure the original and each conversion before any training; the converted models by name."""
        assert self.train is not None
        content: dict[str, Any] = {
            "n_kv_heads": self.n_kv_heads,
            "calibration_tokens": self.sizes.calibration * self.sizes.length,
        }
        content["original"] = self.losses(self.original)
        self.stage.write("conversions", content)
        models = {"mean": by_mean(self.original, self.n_kv_heads)}
        content["mean"] = self.losses(models["mean"])
        self.stage.write("conversions", content)
        rows = self.train[torch.linspace(0, len(self.train) - 1, self.sizes.calibration).long()].to(self.device)
        for name, steps in (("calibrated, merge alone", 0), ("calibrated", self.sizes.refine_steps)):
            start = time.monotonic()
            reports: list[LayerReport] = []
            settings = Settings(refine_steps=steps, batch=8 if self.device == "cuda" else 2)
            model = calibrated(self.original, self.n_kv_heads, rows, settings, reports.append)
            took = round(time.monotonic() - start, 1)
            content[name] = {
                "refine_steps": steps, "took_s": took, **self.losses(model), "layers": [asdict(r) for r in reports]
            }  # fmt: skip
            self.stage.write("conversions", content)
            models[name] = model
        for model in (self.original, *models.values()):
            model.set_attn_implementation("sdpa")
        return models

    def rates(self, models: dict[str, Any]) -> dict[str, float]:
        """The best learning rate of each start, from a short try of each of RATES."""
        assert self.train is not None
        assert self.validation is not None
        best: dict[str, float] = {}
        tried: list[dict[str, Any]] = []
        for name in ("calibrated", "mean"):
            if name not in models:
                continue
            for rate in RATES:
                run = Run(deepcopy(models[name]), rate, self.sizes.rate_steps, self.train, self.sizes, None, False)
                for _ in range(self.sizes.rate_steps):
                    run.advance()
                loss = mean_loss(run.model, self.validation, self.sizes.batch)
                tried.append({"start": name, "lr": rate, "steps": self.sizes.rate_steps, "docstring_loss": loss})
            best[name] = min((t for t in tried if t["start"] == name), key=lambda t: t["docstring_loss"])["lr"]
            self.stage.write("rates", {"best": best, "tried": tried})
        return best

    def steps_that_fit(self, model: Any) -> int:
        """Number of steps of each run, so that all of RUNS and their evaluations fit into the time that is left."""
        assert self.train is not None
        seconds = {}
        for distilled in (False, True):
            run = Run(
                deepcopy(model), 1e-4, 10, self.train, self.sizes, self.original if distilled else None, self.compiled
            )
            run.advance()
            self._wait()
            start = time.monotonic()
            for _ in range(5 if self.device == "cuda" else 1):
                run.advance()
            self._wait()
            seconds[distilled] = (time.monotonic() - start) / (5 if self.device == "cuda" else 1)
        start = time.monotonic()
        mean_loss(model, self.curve_rows(), self.sizes.batch)
        evaluations = len(RUNS) * (self.sizes.points + 6) * (time.monotonic() - start)
        per_step = sum(seconds[distilled] for _, distilled in RUNS)
        return max(self.sizes.points, int(0.92 * max(0.0, self.stage.left_s - evaluations) / per_step))

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def uptrain(self, name: str, distilled: bool, start_model: Any, rate: float, steps: int) -> None:
        """Train one run; its file is written at every point of its curve."""
        assert self.train is not None
        label = f"run-{name}{'-distilled' if distilled else ''}"
        teacher = self.original if distilled else None
        run = Run(deepcopy(start_model), rate, steps, self.train, self.sizes, teacher, self.compiled)
        content: dict[str, Any] = {
            "start": name,
            "distilled": distilled,
            "lr": rate,
            "steps": steps,
            "batch_tokens": self.sizes.batch * self.sizes.length,
            "temperature": DISTILLATION.temperature if distilled else None,
            "distilled_share": DISTILLATION.share if distilled else None,
            "train_tokens": self.train.numel(),
            "before": self.losses(run.model),
            "points": [],
        }
        # points are close together at the start, where the loss falls fastest
        marks = {round(steps * (i / self.sizes.points) ** 2) for i in range(self.sizes.points + 1)}
        seconds = 0.0
        rows = self.curve_rows()

        def late() -> bool:
            return run.step > 0 and self.stage.left_s < -20

        while True:
            if run.step in marks or run.step >= steps or late():
                loss = mean_loss(run.model, rows, self.sizes.batch)
                content["points"].append({"step": run.step, "tokens": run.tokens, "curve_loss": loss})
                self.stage.write(
                    label, {**content, "tokens": run.tokens, "curve_loss": round(loss, 4), "train_s": round(seconds, 1)}
                )
                if run.step >= steps or late():
                    break
            self._wait()
            begun = time.monotonic()
            run.advance()
            self._wait()
            seconds += time.monotonic() - begun
        content["after"] = self.losses(run.model)
        self.stage.write(
            label,
            {
                **content,
                "tokens": run.tokens,
                "train_s": round(seconds, 1),
                "tokens_per_s": round(run.tokens / max(seconds, 1e-9)),
            },
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.real_uptraining", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="SmolLM2-135M as GGUF")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=6.0, help="training is planned to end by then (6)")
    parser.add_argument("--n-kv-heads", type=int, default=1, metavar="K")
    parser.add_argument("--layers", type=int, metavar="N", help="only the first N: a try of the command, no result")
    parser.add_argument("--compile", action="store_true", help="torch.compile for training")
    parser.add_argument("--out", type=Path, default=Path("bench/results/real_uptraining"))
    args = parser.parse_args(argv)
    if not args.model.is_file():
        parser.error(f"--model must be a GGUF file, {args.model} is none")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here: --device cpu tries the command with a tiny budget")
    args.out.mkdir(parents=True, exist_ok=True)
    stage = Stage(args.out, args.minutes, args.device)
    sizes = Sizes() if args.device == "cuda" else SMALL
    study = Study(stage, sizes, args.device, args.n_kv_heads, args.compile, args.layers)
    failed: list[str] = []

    def attempt(name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception:
            failed.append(name)
            traceback.print_exc()
            stage.write(f"failed-{name}", {"error": traceback.format_exc()})
            return None

    attempt("text", lambda: study.text(args.model))
    if study.original is None or study.train is None:
        return 1
    models = attempt("conversions", study.conversions)
    if models is None:
        # the calibrated conversion failed; the mean can still be trained
        models = {"mean": by_mean(study.original, args.n_kv_heads)}
    best = attempt("rates", lambda: study.rates(models)) or {}
    steps = attempt("speed", lambda: study.steps_that_fit(models["mean"])) or sizes.points
    for name, distilled in RUNS:
        if name in models:
            work = partial(study.uptrain, name, distilled, models[name], best.get(name, RATES[1]), steps)
            attempt(f"{name}{'-distilled' if distilled else ''}", work)
    print(f"done, {len(failed)} stages failed{': ' + ', '.join(failed) if failed else ''}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
