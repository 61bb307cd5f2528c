"""Distillation: a student learns from its teacher's whole distribution, not from the next token alone.

Hinton et al. 2015, arXiv:1503.02531, section 2. After a conversion the teacher is the model as it was before; both read
the same tokens, so every position of the text teaches.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Distillation:
    """How much a teacher counts.

    Attributes:
        share: weight of the divergence from the teacher; what is left of 1 is the weight of the text's own loss.
        temperature: softens both distributions before they are compared.
    """

    share: float = 0.9
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("temperature", self.temperature)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"distillation's {name} must be a number, got {value!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"distillation's share must be above 0 and at most 1, got {self.share!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"distillation's temperature must be a positive number, got {self.temperature!r}")

    def mixed(self, loss: Tensor, logits: Tensor, wanted: Tensor) -> Tensor:
        """What is minimised: the text's `loss` and the divergence of `logits` from the teacher's, both per token.

        Args:
            loss: scalar, nats per token. logits, wanted: [batch, tokens, vocabulary].
        """
        apart = divergence(logits, wanted, self.temperature)
        # a share of 1 must not carry a loss of the text that is not finite
        return apart if self.share == 1 else (1 - self.share) * loss + self.share * apart


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the student from its teacher, in nats per token, times temperature squared, which
    keeps the gradients' size when distributions are softened (Hinton et al., section 2). Computed in float32.

    Args:
        logits: [batch, tokens, vocabulary], the student's. wanted: the teacher's.
    """
    student, teacher = (functional.log_softmax(x.flatten(0, 1).float() / temperature, -1) for x in (logits, wanted))
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def check_teacher(teacher: Path, student: Path, vocabulary: tuple[int, int]) -> None:
    """Refuse a teacher whose tokens are not the student's.

    Args:
        teacher, student: their folders. vocabulary: how many tokens each has.

    Raises:
        ValueError: the sizes differ, or the tokenizers' words do.
    """
    if vocabulary[0] != vocabulary[1]:
        raise ValueError(
            f"teacher {teacher} has a vocabulary of {vocabulary[0]:,} tokens, {student} one of {vocabulary[1]:,}: "
            "distillation needs the same tokens"
        )
    words = [_words(folder) for folder in (teacher, student)]
    if words[0] != words[1]:
        raise ValueError(f"teacher {teacher} has another tokenizer than {student}: distillation needs the same tokens")


def _words(folder: Path) -> Any:
    """What a tokenizer makes of text, without what it does around it (padding, truncation)."""
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return content.get("model") if isinstance(content, dict) else content


def fingerprint(model: torch.nn.Module) -> str:
    """Of a model's weights, so that a run that goes on finds the same teacher: sums in float64, hashed."""
    parts = [
        f"{name} {tuple(t.shape)} {float(t.sum(dtype=torch.float64)):.9e}"
        for name, t in sorted(model.state_dict().items())
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
