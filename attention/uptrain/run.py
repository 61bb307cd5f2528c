"""Continues the pre-training of a converted checkpoint for a share alpha of its original steps.

Ainslie et al. 2023, arXiv:2305.13245, section 2.1: after the heads are pooled, the model is trained for a small part of
its original training, with the same recipe. transformers provides the model; accelerate provides processes, precision
and accumulation. With more than one process, PyTorch's ``fully_shard`` (FSDP2) shards weights, gradients and moments
over them, on GPUs and on CPUs.

`batch` counts the blocks of one step over all processes, so a run means the same on any number of processes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM

from attention.errors import check_choice
from attention.files import ordinary
from attention.spec import check_size
from attention.uptrain import state as uptrain_state
from attention.uptrain.data import (
    Blocks,
    cut,
    load_tokenizer,
    token_ids,
)
from attention.uptrain.distillation import Distillation, check_teacher, fingerprint

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """A run's recipe.

    Attributes:
        steps: optimizer steps: alpha times the original number.
        batch: blocks per step, over all processes and accumulated parts.
        seq_len: tokens per block.
        grad_accum: parts into which a process cuts its share of the batch.
        lr: peak learning rate.
        warmup: steps in which the learning rate rises linearly.
        schedule: the learning rate after the warmup, "constant" or "cosine".
        precision: "bf16" runs the matrix products in bf16 with float32 weights; "no" runs all in float32.
        eval_every, save_every: steps between two evaluations and between two saved states. With 0 the run evaluates
            only at its beginning and end, and saves a state only when it is stopped.
        eval_share: share of the text that is held out.
        checkpointing: recompute activations in the backward pass, which saves memory.

    Raises:
        ValueError: a value out of range, or an unknown choice.
    """

    steps: int
    batch: int = 8
    seq_len: int = 512
    grad_accum: int = 1
    lr: float = 1e-4
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    precision: Literal["bf16", "no"] = "no"
    eval_every: int = 0
    save_every: int = 0
    eval_share: float = 0.05
    seed: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "grad_accum"):
            check_size(name, getattr(self, name))
        check_size("seq_len", self.seq_len, minimum=2)
        for name in ("warmup", "eval_every", "save_every", "seed"):
            check_size(name, getattr(self, name), minimum=0)
        for name in ("lr", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        if not 0 < self.eval_share < 1:
            raise ValueError(f"eval_share must be between 0 and 1, got {self.eval_share!r}")
        for name, accepted in (("schedule", ("constant", "cosine")), ("precision", ("bf16", "no"))):
            check_choice(name, getattr(self, name), accepted)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0. "cosine" falls to a tenth of the peak."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.55 + 0.45 * math.cos(math.pi * done))


def uptrain(
    source: Path,
    data: list[Path],
    target: Path,
    settings: Settings,
    resume: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    accelerator: Accelerator | None = None,
    teacher: Path | None = None,
    distillation: Distillation | None = None,
) -> Event:
    """Continue the training of the checkpoint in `source`, and write the result to `target`.

    Args:
        source: a checkpoint that transformers can load; it is only read.
        data: UTF-8 text files for the checkpoint's tokenizer. If it has none, files of any kind: bytes are tokens.
        target: the new folder. ``target/training`` has the saved state until the run is done.
        settings: the recipe.
        resume: continue from the last state in `target`.
        on_event: called on the first process, after each step with {"step", "loss", "lr"} and after each evaluation
            with {"step", "eval_loss"}. Losses are nats per token of the text. With a teacher, "distilled_loss" is the
            loss that is minimised.
        should_stop: asked after each step. If any process says so, the state is saved and the run ends.
        accelerator: processes and device; None makes one from the environment.
        teacher: a checkpoint with the same tokens, usually the original. The run learns from its logits too.
        distillation: how much the teacher counts; None takes the defaults. It needs a teacher.

    Returns:
        {"step", "done", "eval_loss_before", "eval_loss"}. "eval_loss" is None if the run was stopped before its end.

    Raises:
        ValueError: bad settings, too little data, a target that is not empty, a state of another run, or a teacher
            with other tokens.
    """
    if distillation is not None and teacher is None:
        raise ValueError("distillation needs a teacher: the checkpoint before its conversion")
    accelerator = accelerator or Accelerator(
        # accelerate joins several processes without a GPU only when it is told that there is none
        cpu=not torch.accelerator.is_available(),
        mixed_precision=settings.precision,
        gradient_accumulation_steps=settings.grad_accum,
    )
    world = accelerator.num_processes
    if settings.batch % (world * settings.grad_accum):
        raise ValueError(
            f"batch must be a multiple of {world} processes × grad_accum {settings.grad_accum}, got {settings.batch}"
        )
    training = target / "training"
    _check_target(target, resume)
    accelerator.wait_for_everyone()
    model = _load(source, settings)
    tokenizer = load_tokenizer(source)
    blocks = cut(
        token_ids(data, tokenizer, model.config.get_text_config().vocab_size),
        settings.seq_len, settings.batch, settings.eval_share, settings.seed,
    )  # fmt: skip
    stored_dtype = model.config.dtype
    taught = _load_teacher(teacher, source, model, settings, distillation) if teacher else None
    model = shard(model.to(dtype=torch.float32), accelerator, settings)
    optimizer = torch.optim.AdamW(_decayed(model, settings.weight_decay), lr=settings.lr, betas=(0.9, 0.95))
    # a state can only be resumed with these same values; the number of processes may differ
    facts = {"batch": settings.batch, "seq_len": settings.seq_len, "seed": settings.seed, "lr": settings.lr,
             "n_train": len(blocks.train), **(taught.facts if taught else {"teacher": None})}  # fmt: skip
    if taught:
        taught = replace(taught, model=shard(taught.model, accelerator, settings))
    run = _Run(accelerator, model, optimizer, blocks, settings, on_event, taught)
    start = uptrain_state.load(training, model, optimizer, facts, accelerator.is_main_process) if resume else 0
    before = run.evaluate(start)
    for step in range(start, settings.steps):
        run.train_step(step)
        done = step + 1
        stop = run.agreed(should_stop())
        if settings.eval_every and done % settings.eval_every == 0 and done < settings.steps:
            run.evaluate(done)
        if done < settings.steps and (stop or (settings.save_every and done % settings.save_every == 0)):
            uptrain_state.save(training, model, optimizer, done, facts)
            accelerator.wait_for_everyone()
        if stop and done < settings.steps:
            return {"step": done, "done": False, "eval_loss_before": before, "eval_loss": None}
    after = run.evaluate(settings.steps) if settings.steps > start else before
    state = uptrain_state.full_state(model)
    if accelerator.is_main_process:
        _publish(model, state, stored_dtype, source, target)
    accelerator.wait_for_everyone()
    return {"step": max(start, settings.steps), "done": True, "eval_loss_before": before, "eval_loss": after}


def _check_target(target: Path, resume: bool) -> None:
    if (target / "config.json").exists():
        raise ValueError(f"{target} already holds a finished checkpoint: choose a new folder")
    if not resume and target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: go on with --resume, or choose a new folder")


def _load(source: Path, settings: Settings) -> Any:
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
class _Teacher:
    model: Any
    how: Distillation
    facts: dict[str, Any]


def _load_teacher(
    folder: Path, source: Path, student: Any, settings: Settings, distillation: Distillation | None
) -> _Teacher:
    """The frozen teacher. With precision "bf16" its weights are bf16: nothing is added to them."""
    model = _load(folder, replace(settings, checkpointing=False)).eval().requires_grad_(False)
    sizes = [m.config.get_text_config().vocab_size for m in (model, student)]
    check_teacher(folder, source, (sizes[0], sizes[1]))
    how = distillation or Distillation()
    facts = {"teacher": fingerprint(model), "distilled_share": how.share, "temperature": how.temperature}
    return _Teacher(model.to(dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float32), how, facts)


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


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices have weight decay, norms and biases have none."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[parameter.ndim >= 2].append(parameter)
    decays = {True: weight_decay, False: 0.0}
    return [{"params": p, "weight_decay": decays[matrix]} for matrix, p in groups.items() if p]


@dataclass(frozen=True)
class _Run:
    accelerator: Accelerator
    model: Any
    optimizer: torch.optim.Optimizer
    blocks: Blocks
    settings: Settings
    on_event: Callable[[Event], None]
    teacher: _Teacher | None = None

    def parts(self, blocks: torch.Tensor) -> Iterator[torch.Tensor]:
        """This process's share of a batch, cut into the parts that are accumulated."""
        mine = blocks.chunk(self.accelerator.num_processes)[self.accelerator.process_index]
        yield from mine.to(self.accelerator.device).chunk(self.settings.grad_accum)

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        with self.accelerator.autocast():
            return self.model(input_ids=ids, labels=ids, use_cache=False).loss

    def lesson(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(the loss to minimise, the text's own loss) of a part of a batch."""
        if self.teacher is None:
            loss = self.loss(ids)
            return loss, loss
        with self.accelerator.autocast():
            given = self.model(input_ids=ids, labels=ids, use_cache=False)
            with torch.no_grad():
                wanted = self.teacher.model(input_ids=ids, use_cache=False).logits
            return self.teacher.how.mixed(given.loss, given.logits, wanted), given.loss

    def mean(self, losses: list[torch.Tensor]) -> float:
        return float(self.accelerator.reduce(torch.stack(losses).mean().float(), "mean"))

    def agreed(self, stop: bool) -> bool:
        flag = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def train_step(self, step: int) -> None:
        settings, losses, minimised = self.settings, [], []
        lr = settings.lr_at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        for part in self.parts(self.blocks.step(step, settings.batch)):
            with self.accelerator.accumulate(self.model):
                if self.accelerator.num_processes > 1:
                    self.model.set_requires_gradient_sync(self.accelerator.sync_gradients)
                whole, loss = self.lesson(part)
                self.accelerator.backward(whole)
                losses.append(loss.detach())
                minimised.append(whole.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        taught = {"distilled_loss": self.mean(minimised)} if self.teacher else {}
        self.tell({"step": step + 1, "loss": self.mean(losses), "lr": lr, **taught})

    @torch.no_grad()
    def evaluate(self, step: int) -> float:
        """Mean loss of the held-out blocks, in nats per token."""
        self.model.eval()
        ids, batch = self.blocks.held_out, self.settings.batch
        parts = (
            part
            for start in range(0, len(ids), batch)
            for part in self.parts(torch.from_numpy(ids[start : start + batch].astype("int64")))
        )
        loss = self.mean([self.loss(part) for part in parts])
        self.model.train()
        self.tell({"step": step, "eval_loss": loss})
        return loss

    def tell(self, event: Event) -> None:
        if self.accelerator.is_main_process:
            self.on_event(event)


def _publish(model: Any, state: dict[str, torch.Tensor], dtype: torch.dtype, source: Path, target: Path) -> None:
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
