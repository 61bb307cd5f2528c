"""Continues the pre-training of a converted checkpoint for a share alpha of its original steps.

Ainslie et al. 2023, arXiv:2305.13245, section 2.1: after the heads are pooled, the model is trained for a small part of
its original training, with the same recipe. transformers provides the model; accelerate provides processes, precision
and accumulation. With more than one process, PyTorch's ``fully_shard`` (FSDP2) shards weights, gradients and moments
over them, on GPUs and on CPUs.

`batch` counts the blocks of one step over all processes, so a run means the same on any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from attention.uptrain import state as uptrain_state
from attention.uptrain.data import (
    Blocks,
    cut,
    load_tokenizer,
    token_ids,
)
from attention.uptrain.distillation import Distillation
from attention.uptrain.models import Teacher, decayed, load, load_teacher, publish, shard
from attention.uptrain.settings import Settings

Event = dict[str, Any]


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
    model = load(source, settings)
    tokenizer = load_tokenizer(source)
    blocks = cut(
        token_ids(data, tokenizer, model.config.get_text_config().vocab_size),
        settings.seq_len, settings.batch, settings.eval_share, settings.seed,
    )  # fmt: skip
    stored_dtype = model.config.dtype
    taught = load_teacher(teacher, source, model, settings, distillation) if teacher else None
    model = shard(model.to(dtype=torch.float32), accelerator, settings)
    optimizer = torch.optim.AdamW(decayed(model, settings.weight_decay), lr=settings.lr, betas=(0.9, 0.95))
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
        publish(model, state, stored_dtype, source, target)
    accelerator.wait_for_everyone()
    return {"step": max(start, settings.steps), "done": True, "eval_loss_before": before, "eval_loss": after}


def _check_target(target: Path, resume: bool) -> None:
    if (target / "config.json").exists():
        raise ValueError(f"{target} already holds a finished checkpoint: choose a new folder")
    if not resume and target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: go on with --resume, or choose a new folder")


@dataclass(frozen=True)
class _Run:
    accelerator: Accelerator
    model: Any
    optimizer: torch.optim.Optimizer
    blocks: Blocks
    settings: Settings
    on_event: Callable[[Event], None]
    teacher: Teacher | None = None

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
