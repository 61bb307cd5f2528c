"""``python -m attention export``: write a checkpoint, converted or not, as one GGUF file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from attention.files import ordinary

HELP = "write a checkpoint as a GGUF file for llama.cpp, its weights as they are"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="DIR", help="folder with config.json and safetensors; only read")
    parser.add_argument("target", type=Path, metavar="FILE.gguf", help="file to make")
    parser.add_argument("--type", choices=("f32", "f16", "bf16"), help="of matrices (default: as most are stored)")
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")


def run(args: argparse.Namespace) -> int:
    ordinary(args.source / "config.json")  # before the import of PyTorch, which takes seconds
    from attention.convert.gguf_export import export
    from attention.units import binary_bytes

    try:
        done = export(args.source, args.target, args.type)
    except OSError as error:
        raise ValueError(f"{error.strerror or error}; {args.target} was not made") from error
    if args.json:
        print(json.dumps(asdict(done), indent=2))
    else:
        print(
            f"{done.path}: {binary_bytes(done.n_bytes)}, {done.n_tensors} tensors in {done.type}, architecture "
            f"{done.architecture}, {done.n_layers} layers, {done.n_heads} query and {done.n_kv_heads} K/V heads\n"
            f"  vocabulary  {done.vocabulary}"
        )
    return 0
