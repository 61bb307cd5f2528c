"""The calibrated conversion of the tiny MHA model (``convert/calibration.py``): computed now, or as recorded.

The conversion works on transformers' own class, which can load the tiny model's weights. The attention projections of
each conversion are recorded, so that pages need no torch; ``python -m attention tiny calibrate`` makes the record.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attention.convert.loaded import calibrated
from attention.convert.refine import LayerReport, Settings
from attention.tiny import train
from attention.tiny.config import DATA
from attention.tiny.model import TinyLM
from attention.tiny.results import CALIBRATED, KV_HEADS

WINDOWS, LENGTH = 64, 256
"""Windows of the training text for the calibration, and the bytes of each."""
SEED = 7
"""Decides which windows are drawn."""
SETTINGS = Settings()
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def as_llama(model: TinyLM) -> Any:
    """The tiny model as transformers' LlamaForCausalLM, with the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = model.config.to_llama()
    for name in ("architectures", "model_type", "torch_dtype"):
        del fields[name]
    config = LlamaConfig(**fields)
    config._attn_implementation = "eager"
    llama = LlamaForCausalLM(config).eval()
    llama.load_state_dict(model.state_dict(), strict=False)  # not strict: the head is tied to the embedding
    return llama


def calibration_tokens(stream: np.ndarray) -> Tensor:
    """int64[WINDOWS, LENGTH]: windows of the training text, the same for every conversion."""
    return train.sample_rows(stream, np.random.default_rng(SEED), WINDOWS, LENGTH - 1)


def convert(
    model: TinyLM, n_kv_heads: int, stream: np.ndarray, report: Callable[[LayerReport], None] = lambda layer: None
) -> TinyLM:
    """A copy of `model` with its K/V heads merged into `n_kv_heads`, fitted layer by layer.

    Args:
        stream: the training text, uint8[n_bytes], from ``Corpus.train_stream``.
        report: called after each layer. An exception from it ends the conversion.

    Raises:
        ValueError: n_kv_heads does not divide the model's number of K/V heads.
    """
    merged = calibrated(as_llama(model), n_kv_heads, calibration_tokens(stream), SETTINGS, report)
    converted = TinyLM(replace(model.config, n_kv_heads=n_kv_heads))
    converted.load_state_dict({name: t for name, t in merged.state_dict().items() if name != "lm_head.weight"})
    return converted


def shipped(model: TinyLM, n_kv_heads: int, folder: Path = DATA) -> TinyLM:
    """`model`, the shipped MHA model, with the attention of the recorded conversion, which is stored as float16.

    Raises:
        ValueError: no such conversion is recorded.
    """
    path = folder / f"{CALIBRATED}.safetensors"
    prefix = f"{n_kv_heads}."
    arrays = load_file(path) if path.exists() else {}
    own = {name.removeprefix(prefix): t.float() for name, t in arrays.items() if name.startswith(prefix)}
    if not own:
        raise ValueError(
            f"no calibrated conversion to {n_kv_heads} K/V heads in {path}: "
            "`python -m attention tiny calibrate --write` makes it"
        )
    converted = TinyLM(replace(model.config, n_kv_heads=n_kv_heads))
    converted.load_state_dict(model.state_dict() | own)
    return converted


def record(source: TinyLM, stream: np.ndarray, rows: Tensor, about: dict[str, Any], folder: Path | None) -> None:
    """Convert `source` to every smaller number of K/V heads and print the losses. With a folder, store all there.

    Args:
        stream: the training text, uint8[n_bytes].
        rows: held-out windows, int64[n_windows, length + 1].
        about: what the losses depend on, for the record.
    """
    torch.set_num_threads(1)
    arrays: dict[str, Tensor] = {}
    conversions: dict[str, Any] = {}
    for n_kv_heads in sorted(set(KV_HEADS) - {source.config.n_kv_heads}, reverse=True):
        start, layers = time.process_time(), list[LayerReport]()
        model = convert(source, n_kv_heads, stream, layers.append)
        loss = train.mean_loss(model, rows)
        cpu_s = round(time.process_time() - start, 1)
        print(f"K {n_kv_heads} calibrated loss {loss:.4f} nats/byte, {cpu_s} CPU s", flush=True)
        conversions[str(n_kv_heads)] = {"loss": loss, "cpu_s": cpu_s, "layers": [asdict(layer) for layer in layers]}
        for name, tensor in model.state_dict().items():
            if any(part in name for part in PROJECTIONS):
                arrays[f"{n_kv_heads}.{name}"] = tensor.half().contiguous()
    if folder is not None:
        about = {**about, "windows": WINDOWS, "length": LENGTH, "seed": SEED, "settings": asdict(SETTINGS)}
        document = {"about": {**about, "python": platform.python_version()}, "conversions": conversions}
        save_file(arrays, folder / f"{CALIBRATED}.safetensors", metadata={"format": "pt"})
        (folder / f"{CALIBRATED}.json").write_text(json.dumps(document, indent=1) + "\n")
