"""The saved state of a training run: weights, optimizer moments, step. It is safetensors and JSON; nothing is pickled.

States are gathered whole on the first process, so a run may continue with another number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def full_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights, on the CPU of the first process; tied weights once. Empty on the other processes.

    All processes must call it together.
    """
    state: dict[str, Any] = get_model_state_dict(model, options=_GATHER)
    return {name: tensor.contiguous() for name, tensor in state.items() if name not in tied(model)}


def tied(model: nn.Module) -> dict[str, str]:
    """Name of a tied weight -> name of the weight it is tied to. Only the latter is stored."""
    first: dict[int, str] = {}
    names = ((name, first.setdefault(id(p), name)) for name, p in model.named_parameters(remove_duplicate=False))
    return {name: other for name, other in names if name != other}


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, facts: dict[str, Any]) -> None:
    """Write ``folder/step-N``, whole or not at all, and remove older states.

    All processes must call it together.

    Args:
        facts: settings that a resumed run must have too.
    """
    weights = full_state(model)
    moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=_GATHER)
    if not weights:
        return
    flat = {f"{name}.{key}": state[key] for name, state in moments["state"].items() for key in _MOMENTS if key in state}
    staging, final = folder / ".saving", folder / f"step-{step:08d}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    save_file(weights, staging / "model.safetensors")
    save_file({n: t.contiguous() for n, t in flat.items()}, staging / "optimizer.safetensors")
    (staging / "state.json").write_text(json.dumps({"step": step, **facts}, indent=2) + "\n")
    for path in staging.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(final, ignore_errors=True)
    staging.replace(final)
    for old in saved(folder)[:-1]:
        shutil.rmtree(old)


def saved(folder: Path) -> list[Path]:
    """Folders of complete states, the oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any], main: bool) -> int:
    """Load the newest state into model and optimizer, and return its step. All processes must call it together.

    Args:
        facts: settings that the state must have.
        main: whether this is the first process, which alone reads the files.

    Raises:
        ValueError: there is no state, it is damaged, or it belongs to a run with other settings.
    """
    states = saved(folder)
    if not states:
        raise ValueError(f"{folder} holds no state to resume from")
    try:
        stored = json.loads((states[-1] / "state.json").read_text())
        weights = load_file(states[-1] / "model.safetensors") if main else {}
        flat = load_file(states[-1] / "optimizer.safetensors") if main else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{states[-1]} is damaged: {error}") from error
    if other := [f"{k} {stored.get(k)!r} → {v!r}" for k, v in facts.items() if stored.get(k) != v]:
        raise ValueError(f"{states[-1]} belongs to a run with other settings: {', '.join(other)}")
    distributed = torch.distributed.is_initialized()
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=distributed, cpu_offload=not distributed)
    if main:
        weights |= {name: weights[other] for name, other in tied(model).items()}
    set_model_state_dict(model, weights, options=options)
    state: dict[str, Any] = {}
    for key, tensor in flat.items():
        name, _, moment = key.rpartition(".")
        state.setdefault(name, {})[moment] = tensor
    groups = get_optimizer_state_dict(model, optimizer)["param_groups"]
    set_optimizer_state_dict(
        model, optimizer, {"state": state, "param_groups": groups} if main else {}, options=options
    )
    return int(stored["step"])
