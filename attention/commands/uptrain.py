"""``python -m attention uptrain``: continue the training of a converted checkpoint.

Over several processes: ``torchrun --nproc-per-node N -m attention uptrain …``, or
``accelerate launch --use_fsdp --fsdp_version 2 --num_processes N --module attention uptrain …``.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

from attention.files import ordinary

HELP = "continue pre-training of a converted checkpoint (under torchrun or accelerate launch: sharded by FSDP)"

RECIPE = {
    "batch": (int, 8, "blocks per step, over all processes"),
    "seq-len": (int, 512, "tokens per block"),
    "grad-accum": (int, 1, "parts that a process cuts its share of the batch into"),
    "lr": (float, 1e-4, "peak learning rate"),
    "warmup": (int, 0, "steps of linear rise"),
    "weight-decay": (float, 0.1, "AdamW's, of matrices"),
    "max-grad-norm": (float, 1.0, "gradients are clipped to it"),
    "eval-every": (int, 0, "steps between evaluations (0: before and after)"),
    "save-every": (int, 0, "steps between saved states (0: when stopped)"),
    "eval-share": (float, 0.05, "part of the text held out"),
    "seed": (int, 0, "of the order of blocks"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="DIR", help="checkpoint to train on; only read")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="text to train on")
    parser.add_argument("--alpha-steps", type=int, required=True, metavar="N", help="steps: alpha × the original ones")
    parser.add_argument("--output", type=Path, help="folder to make (default: DIR-uptrained)")
    for name, (kind, default, text) in RECIPE.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default {default})")
    parser.add_argument("--distill", type=Path, metavar="DIR", help="learn from the logits of this checkpoint, too: "
                        "the one before the conversion")  # fmt: skip
    parser.add_argument("--distill-share", type=float, metavar="S", help="weight of the divergence from them, the rest "
                        "is the text's (default 0.9)")  # fmt: skip
    parser.add_argument("--temperature", type=float, metavar="T", help="softens both distributions (default 1)")
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    parser.add_argument("--precision", choices=("bf16", "no"), default="no", help="of matrix products (default no)")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations to save memory")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")
    parser.add_argument("--json", action="store_true", help="one JSON object per event")


def run(args: argparse.Namespace) -> int:
    # before the import of the libraries, which takes seconds
    for path in (args.source / "config.json", *args.data):
        ordinary(path)
    given = {n: v for n, v in (("share", args.distill_share), ("temperature", args.temperature)) if v is not None}
    if args.distill is not None:
        ordinary(args.distill / "config.json")
    elif given:
        raise ValueError("--distill-share and --temperature belong to --distill DIR, which is not given")
    from attention.uptrain.distillation import Distillation
    from attention.uptrain.run import uptrain
    from attention.uptrain.settings import Settings

    recipe = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in RECIPE}
    settings = Settings(
        steps=args.alpha_steps,
        schedule=args.schedule,
        precision=args.precision,
        checkpointing=args.checkpointing,
        **recipe,
    )
    target = args.output or args.source.with_name(f"{args.source.name}-uptrained")
    stopped: list[int] = []
    # the first signal lets the current step end and saves its state; a second signal ends the run at once
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: _stop(n, stopped))
    show = _Lines() if args.json else _Bar(settings.steps)
    try:
        summary = uptrain(
            args.source, args.data, target, settings, args.resume, show, lambda: bool(stopped),
            teacher=args.distill, distillation=Distillation(**given) if args.distill else None,
        )  # fmt: skip
    except OSError as error:
        raise ValueError(f"{error.strerror or error}: {error.filename or target}") from error
    finally:
        _leave()
    show.end(summary, target)
    return 0 if summary["done"] else 130


def _stop(number: int, stopped: list[int]) -> None:
    if stopped:
        raise KeyboardInterrupt
    stopped.append(number)


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Lines:
    """Prints one JSON object per event and line."""

    def __call__(self, event: dict[str, Any]) -> None:
        self.seen = True
        print(json.dumps(event), flush=True)

    def end(self, summary: dict[str, Any], target: Path) -> None:
        # only the first process gets events
        if hasattr(self, "seen"):
            print(json.dumps({**summary, "target": str(target)}), flush=True)


class _Bar:
    """A progress bar with the losses, and a line per evaluation."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.bar: Any = None

    def __call__(self, event: dict[str, Any]) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=self.steps, initial=event["step"], desc="uptrain", unit="step", file=sys.stderr)
        if "loss" in event:
            self.bar.set_postfix(loss=f"{event['loss']:.4f}", refresh=False)
            self.bar.update(event["step"] - self.bar.n)
        else:
            loss = event["eval_loss"]
            self.bar.write(
                f"step {event['step']:,}: held-out loss {loss:.4f} nats/token (perplexity {math.exp(loss):,.1f})"
            )

    def end(self, summary: dict[str, Any], target: Path) -> None:
        if self.bar is None:
            return
        self.bar.close()
        if summary["done"]:
            print(f"{target}: held-out loss {summary['eval_loss_before']:.4f} → {summary['eval_loss']:.4f} nats/token")
        else:
            print(f"stopped after step {summary['step']:,}; go on with --resume --output {target}")
