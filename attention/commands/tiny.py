"""``python -m attention tiny``: train, evaluate and examine the small models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from attention.tiny.config import DATA, MODELS
from attention.tiny.results import ALPHAS, POOL_METHODS, POOLINGS

HELP = "train and examine the small byte-level models whose heads the app shows"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    train = actions.add_parser("train", help="train a model on the Python standard library's source text")
    train.add_argument("--n-kv-heads", type=int, default=8, help="K/V heads of 8 query heads (default 8: MHA)")
    train.add_argument("--steps", type=int, help="training steps (default: as shipped)")
    train.add_argument("--seed", type=int, help="seed of weights and data order (default: as shipped)")
    train.add_argument("--out", type=Path, default=DATA, help="folder for weights and log")
    evaluate = actions.add_parser("eval", help="loss of stored models on the held-out files")
    evaluate.add_argument("models", nargs="*", default=list(MODELS), help="names (default: all)")
    evaluate.add_argument("--dir", type=Path, default=DATA)
    roles = actions.add_parser("roles", help="score each head's role on held-out text")
    roles.add_argument("--write", action="store_true", help="store the scores beside the weights")
    roles.add_argument("--dir", type=Path, default=DATA)
    calibrate = actions.add_parser("calibrate", help="merge the MHA model's heads by what a text makes of them")
    calibrate.add_argument("--write", action="store_true", help="store the conversions beside the weights")
    calibrate.add_argument("--dir", type=Path, default=DATA)
    study = actions.add_parser("study", help="convert the MHA model and train on: loss against share of training")
    study.add_argument("--seeds", type=int, default=3, help="runs of each kind (default 3; 0 only measures the models)")
    study.add_argument("--first-seed", type=int, default=0, help="to add further seeds to a stored study")
    study.add_argument("--n-kv-heads", type=int, nargs="+", choices=(1, 2, 4, 8), default=(1, 2, 4, 8), metavar="K")
    study.add_argument(
        "--pool", nargs="+", choices=POOL_METHODS, default=POOLINGS, help="starts (default: the paper's three)"
    )
    study.add_argument("--alpha", type=float, nargs="+", choices=ALPHAS, default=ALPHAS, help="shares measured at")
    study.add_argument("--write", action="store_true", help="store each loss as it is measured")


def model_name(n_kv_heads: int) -> str:
    """The name under which a model with `n_kv_heads` is stored: a name of MODELS, or else gqa-K."""
    return {k: name for name, k in MODELS.items()}.get(n_kv_heads, f"gqa-{n_kv_heads}")


def run(args: argparse.Namespace) -> int:
    return {"train": _train, "eval": _eval, "roles": _roles, "calibrate": _calibrate, "study": _study}[args.action](
        args
    )


def _train(args: argparse.Namespace) -> int:
    from attention.tiny.config import TinyConfig
    from attention.tiny.corpus import load_corpus
    from attention.tiny.train import Recipe, store, train

    config = TinyConfig(n_kv_heads=args.n_kv_heads)
    given = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = Recipe(**given)
    corpus = load_corpus()
    name = model_name(config.n_kv_heads)

    def report(step: int, train_loss: float, validation_loss: float) -> None:
        print(f"{name} step {step:5} train {train_loss:.4f} validation {validation_loss:.4f} nats/byte", flush=True)

    trained = train(config, recipe, corpus, report)
    record = store(trained, recipe, corpus, name, args.out)
    print(f"{args.out / name}.safetensors: {record['validation']['loss']:.4f} nats/byte, {record['wall_s']:.0f} s")
    return 0


def _eval(args: argparse.Namespace) -> int:
    from attention.tiny.corpus import load_corpus
    from attention.tiny.train import evaluate, load

    corpus = load_corpus()
    for name in args.models:
        path = args.dir / f"{name}.safetensors"
        found = evaluate(load(path), corpus)
        recorded = json.loads(path.with_suffix(".json").read_text())["validation"]["loss"]
        print(f"{name}: {found['loss']:.6f} nats/byte on {found['n_windows']} windows; recorded {recorded:.6f}")
    return 0


def _roles(args: argparse.Namespace) -> int:
    from attention.tiny.head_roles import score_models

    scores = score_models(args.dir)
    text = json.dumps(scores, indent=1) + "\n"
    if args.write:
        (args.dir / "roles.json").write_text(text)
    else:
        print(text, end="")
    return 0


def _calibrate(args: argparse.Namespace) -> int:
    from attention.tiny import calibrated, study
    from attention.tiny import uptraining as lab

    stream, rows = lab.text()
    calibrated.record(lab.source_model(), stream, rows, study.provenance(), args.dir if args.write else None)
    return 0


def _study(args: argparse.Namespace) -> int:
    from attention.spec import check_size
    from attention.tiny.study import study

    first = check_size("first-seed", args.first_seed, minimum=0)
    seeds = range(first, first + check_size("seeds", args.seeds, minimum=0, maximum=1000))
    study(seeds, args.write, n_kv_heads=args.n_kv_heads, pools=args.pool, alphas=args.alpha)
    return 0
