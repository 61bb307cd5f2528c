"""Distillation: a student learns from its teacher's whole distribution, not only from the next token.

Hinton et al. 2015, arXiv:1503.02531, section 2. After a conversion the teacher is the original model. Both read the
same tokens, so the student learns at every position of the text.
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
        share: weight of the divergence from the teacher. The text's own loss has the weight 1 - share.
        temperature: divides the logits of both before they are compared, which softens their distributions.

    Raises:
        ValueError: a share that is not above 0 and at most 1, or a temperature that is not above 0 and finite.
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
        """The loss to minimise: the text's `loss` mixed with the divergence of `logits` from the teacher's `wanted`.

        Args:
            loss: scalar, nats per token.
            logits, wanted: [batch, tokens, vocabulary].
        """
        apart = divergence(logits, wanted, self.temperature)
        # with a share of 1, a text's loss that is not finite must not count: 0 times infinity is NaN
        return apart if self.share == 1 else (1 - self.share) * loss + self.share * apart


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the student from its teacher, in nats per token, times temperature squared.

    The factor keeps the size of the gradients when distributions are softened (Hinton et al., section 2). The
    divergence is computed in float32.

    Args:
        logits, wanted: [batch, tokens, vocabulary], the student's and the teacher's logits.
    """
    student, teacher = (functional.log_softmax(x.flatten(0, 1).float() / temperature, -1) for x in (logits, wanted))
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def check_teacher(teacher: Path, student: Path, vocabulary: tuple[int, int]) -> None:
    """Check that a teacher has the same tokens as the student.

    Args:
        teacher, student: the folders of both.
        vocabulary: the number of tokens of the teacher and of the student.

    Raises:
        ValueError: the vocabularies or the tokenizers differ, or a tokenizer cannot be read.
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
    """The part of a tokenizer's file that decides its tokens, without padding and truncation; None without a file."""
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return content.get("model") if isinstance(content, dict) else content


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of the float64 sums of a model's weights. With it a resumed run checks that its teacher is the same."""
    parts = [
        f"{name} {tuple(t.shape)} {float(t.sum(dtype=torch.float64)):.9e}"
        for name, t in sorted(model.state_dict().items())
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
