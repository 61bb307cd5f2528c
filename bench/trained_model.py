"""The model of ``bench.real_uptraining``: read from GGUF, given windows of text, evaluated, converted and trained."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attention.convert.pooling import Role, pool_projections
from attention.uptrain.distillation import Distillation

DISTILLATION = Distillation(share=0.9, temperature=1.0)


@dataclass(frozen=True)
class Sizes:
    """What differs between a GPU and a try on a CPU.

    Attributes:
        length: tokens of a window. batch: windows of a step.
        calibration: windows to calibrate on. refine_steps: steps of each layer's fit.
        held_out: held-out windows for a point of a curve. held_out_all: the most windows for the start and the end.
        validation: windows of docstrings that judge learning rates. rate_steps: training steps of each try.
        points: number of points of a curve. max_files: the most files of the training text.
    """

    length: int = 512
    batch: int = 32
    calibration: int = 96
    refine_steps: int = 150
    held_out: int = 64
    held_out_all: int = 1000
    validation: int = 64
    rate_steps: int = 40
    points: int = 14
    max_files: int | None = None


SMALL = Sizes(64, 2, 6, 4, 2, 4, 2, 1, 3, 60)


def load(path: Path, device: str) -> tuple[Any, Any]:
    """(model in float32 with plain attention, tokenizer) of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config  # transformers has converted the weights to float32
    return model.eval().to(device), tokenizer


def windows(tokenizer: Any, texts: list[str], length: int) -> Tensor:
    """int64[n, length]: the tokens of all texts, one text after another, with an end-of-text token after each."""
    ids: list[int] = []
    for start in range(0, len(texts), 4096):
        for part in tokenizer(texts[start : start + 4096], add_special_tokens=False)["input_ids"]:
            ids += [*part, tokenizer.eos_token_id]
    n = len(ids) // length
    return torch.tensor(ids[: n * length]).view(n, length)


def held_out_text() -> list[str]:
    from pydoc_data import topics

    return [topics.topics[name] for name in sorted(topics.topics)]


@torch.no_grad()
def mean_loss(model: Any, rows: Tensor, batch: int) -> float:
    """Nats per token in float32, over all tokens but each window's first; `rows` is int64[windows, length]."""
    model.eval()
    device = next(model.parameters()).device
    total = sum(
        float(cross_entropy(model(p.to(device), use_cache=False).logits, p.to(device))) * len(p)
        for p in rows.split(batch)
    )
    return total / len(rows)


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def by_mean(model: Any, n_kv_heads: int) -> Any:
    """A copy of a Llama model with `n_kv_heads` K/V heads, each the mean of a group of the old ones."""
    config = deepcopy(model.config)
    before, config.num_key_value_heads = config.num_key_value_heads, n_kv_heads
    state = model.state_dict()
    roles: dict[str, Role] = {name: "weight" for name in state if name.endswith(("k_proj.weight", "v_proj.weight"))}
    new = type(model)(config)
    new.load_state_dict(pool_projections(state, roles, before, n_kv_heads))
    new.tie_weights()
    return new.to(next(model.parameters()).device).eval()


class Run:
    """The training of one converted model."""

    def __init__(
        self, model: Any, rate: float, steps: int, rows: Tensor, sizes: Sizes, teacher: Any, compiled: bool
    ) -> None:
        self.model, self.rate, self.steps, self.rows, self.sizes, self.teacher = (
            model,
            rate,
            steps,
            rows,
            sizes,
            teacher,
        )
        self.step = 0
        self.device = next(model.parameters()).device
        self.forward = torch.compile(model) if compiled else model
        decayed = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=rate, betas=(0.9, 0.95), fused=self.device.type == "cuda",
        )  # fmt: skip
        self._generator = torch.Generator().manual_seed(0)
        self._order: list[int] = []

    def lr(self) -> float:
        """The learning rate now: it rises over 10 steps, stays, and falls to a tenth over the last fifth."""
        rise = min(1.0, (self.step + 1) / 10)
        fall = min(1.0, max(0.1, (self.steps - self.step) / max(1.0, self.steps / 5)))
        return self.rate * rise * fall

    def advance(self) -> float:
        if len(self._order) < self.sizes.batch:
            self._order += torch.randperm(len(self.rows), generator=self._generator).tolist()
        chosen, self._order = self._order[: self.sizes.batch], self._order[self.sizes.batch :]
        tokens = self.rows[chosen].to(self.device)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.forward(tokens, use_cache=False).logits
            loss = cross_entropy(logits, tokens)
            if self.teacher is not None:
                with torch.no_grad():
                    wanted = self.teacher(tokens, use_cache=False).logits
                loss = DISTILLATION.mixed(loss, logits, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    @property
    def tokens(self) -> int:
        return self.step * self.sizes.batch * self.sizes.length
