"""Matrix times token: what a decode step spends most of its time on, behind one small interface.

A product takes x [..., n_in] to [..., n_out]. Another way to hold the weights (blocks as a GGUF file has them, a native
kernel) is another class here with the same three members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear


class Product(Protocol):
    """Weights that multiply.

    Attributes:
        nbytes: what one use reads.
    """

    @property
    def nbytes(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def dense(self) -> tuple[Tensor, Tensor | None]:
        """Weights [n_out, n_in] and bias [n_out]."""
        ...


class Dense:
    """Weights as a torch matrix."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight.contiguous(), bias

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self._weight, self._bias)

    def dense(self) -> tuple[Tensor, Tensor | None]:
        return self._weight, self._bias


def stacked(parts: Sequence[tuple[Tensor, Tensor | None]]) -> Dense:
    """One product for several of the same input, their results side by side: fewer calls a step."""
    biases = [bias for _, bias in parts if bias is not None]
    assert len(biases) in (0, len(parts))
    return Dense(torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None)
