"""The models of an uptraining run: loaded, sharded over processes, taught by another one, and written in the end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM

from attention.files import ordinary
from attention.uptrain.distillation import Distillation, check_teacher, fingerprint
from attention.uptrain.settings import Settings


def load(source: Path, settings: Settings) -> Any:
    """The checkpoint as transformers' own model, in training mode, on the CPU.

    Raises:
        ValueError: the folder holds no checkpoint, or one that transformers cannot load.
    """
    if not (source / "config.json").is_file():
        raise ValueError(f"{source} is not a checkpoint: it has no config.json")
    for path in source.iterdir():
        if not path.is_dir():
            ordinary(path)  # reading a pipe would block
    torch.manual_seed(settings.seed)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, KeyError) as error:
        raise ValueError(f"transformers cannot load {source}: {error}") from error
    if settings.checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


@dataclass(frozen=True)
class Teacher:
    """The frozen model from which the run learns, how much it counts, and what a saved state says of both."""

    model: Any
    how: Distillation
    facts: dict[str, Any]


def load_teacher(
    folder: Path, source: Path, student: Any, settings: Settings, distillation: Distillation | None
) -> Teacher:
    """The frozen teacher. With precision "bf16" its weights are bf16: nothing is added to them."""
    model = load(folder, replace(settings, checkpointing=False)).eval().requires_grad_(False)
    sizes = [m.config.get_text_config().vocab_size for m in (model, student)]
    check_teacher(folder, source, (sizes[0], sizes[1]))
    how = distillation or Distillation()
    facts = {"teacher": fingerprint(model), "distilled_share": how.share, "temperature": how.temperature}
    return Teacher(model.to(dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float32), how, facts)


def shard(model: Any, accelerator: Accelerator, settings: Settings) -> Any:
    """Move the model to the device. With several processes, shard every layer's tensors over them."""
    device = accelerator.device
    if accelerator.num_processes == 1:
        return model.to(device)
    low = torch.bfloat16 if settings.precision == "bf16" else None
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (accelerator.num_processes,)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32),
    }
    units = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in units:
            fully_shard(module, **options)
    fully_shard(model, **options)
    return model.to(device)


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices have weight decay, norms and biases have none."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.ndim >= 2].append(parameter)
    decays = {True: weight_decay, False: 0.0}
    return [{"params": p, "weight_decay": decays[matrix]} for matrix, p in groups.items() if p]


def publish(model: Any, state: dict[str, torch.Tensor], dtype: torch.dtype, source: Path, target: Path) -> None:
    """Write the result in the source's dtype, with the source's own config, tokenizer and settings.

    config.json comes last: without it no library reads the folder as a model.
    """
    staging = target / ".result"
    shutil.rmtree(staging, ignore_errors=True)
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    model.save_pretrained(staging, state_dict=state, safe_serialization=True)
    for path in source.iterdir():
        known = path.suffix in (".json", ".txt", ".model", ".jinja") and "index" not in path.name
        if known and path.is_file():
            shutil.copyfile(path, staging / path.name)
    for path in sorted(staging.iterdir(), key=lambda p: p.name == "config.json"):
        path.replace(target / path.name)
    staging.rmdir()
    shutil.rmtree(target / "training", ignore_errors=True)
