"""Products of a matrix and a few tokens, which take most of a decode step's time, behind one small interface.

A product maps x [..., n_in] to [..., n_out]. Each form of stored weights is a class with the members of
:class:`Product`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from attention.kernels import matvec
from attention.kernels.layer import Held
from attention.kernels.weights import Q4Blocks, Q8Blocks

WIDENED = 2**20
"""Most weights that are float32 at once while blocks are multiplied with many vectors: 4 MB, as fast as 16 MB."""
GGML_KINDS = {2: "q4_0", 3: "q4_1", 8: "q8_0"}
"""ggml's number of a type -> its name here, for the types that are multiplied without unpacking them first."""


class Product(Protocol):
    """A matrix of weights, with an optional bias, that multiplies vectors: x [..., n_in] -> [..., n_out].

    Attributes:
        nbytes: bytes that one use reads.
        kind: the form of the stored weights, in words.
    """

    @property
    def nbytes(self) -> int: ...

    @property
    def kind(self) -> str: ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def rows(self, at: Tensor) -> Tensor:
        """The rows `at` of the weights, as in an embedding: int64 [...] -> [..., n_in]."""
        ...

    def picked(self, at: Tensor) -> Self:
        """The same kind of product with the rows `at` of weights and bias, in that order."""
        ...

    def dense(self) -> tuple[Tensor, Tensor | None]:
        """Weights [n_out, n_in] and bias [n_out]."""
        ...

    def stored(self) -> Held | None:
        """The weights for a native layer; None if there is a bias, or if native products cannot multiply them."""
        ...


class Dense:
    """Weights as a torch matrix. The native product multiplies a few vectors, where it can run."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight.contiguous(), bias
        self._native = weight.dtype in (torch.float32, torch.bfloat16) and not matvec.unavailable(weight.device.type)

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + (0 if self._bias is None else self._bias.nbytes)

    @property
    def kind(self) -> str:
        return str(self._weight.dtype).removeprefix("torch.")

    def __call__(self, x: Tensor) -> Tensor:
        if self._native and x.numel() // x.shape[-1] <= matvec.MOST:
            return _moved(matvec.matvec(self._weight, x), self._bias)
        return linear(x, self._weight, self._bias)

    def rows(self, at: Tensor) -> Tensor:
        return embedding(at, self._weight)

    def picked(self, at: Tensor) -> Self:
        return type(self)(self._weight[at], None if self._bias is None else self._bias[at])

    def dense(self) -> tuple[Tensor, Tensor | None]:
        return self._weight, self._bias

    def stored(self) -> Held | None:
        return self._weight if self._native and self._bias is None else None


class Blocks:
    """Weights in a GGUF file's blocks. x must be float32.

    The native product multiplies a few vectors without a wider copy of the weights. For many vectors, as in a prompt,
    rows are unpacked to float32, a few at a time, and dropped after their use.
    """

    def __init__(self, weight: Q4Blocks | Q8Blocks, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + (0 if self._bias is None else self._bias.nbytes)

    @property
    def kind(self) -> str:
        return self._weight.kind.upper()

    def __call__(self, x: Tensor) -> Tensor:
        n_out, n_in = self._weight.shape
        vectors = x.reshape(-1, n_in)
        # a second pass over the blocks is cheaper than unpacking them
        if len(vectors) <= 2 * matvec.MOST:
            parts = [matvec.matvec(self._weight, part) for part in vectors.split(matvec.MOST)]
            return _moved(torch.cat(parts).unflatten(0, x.shape[:-1]), self._bias)
        out = x.new_empty((*x.shape[:-1], n_out))
        step = max(1, WIDENED // n_in)
        for at in range(0, n_out, step):
            out[..., at : at + step] = linear(x, matvec.widened(_part(self._weight, slice(at, at + step))))
        return _moved(out, self._bias)

    def rows(self, at: Tensor) -> Tensor:
        return _part(self._weight, at.flatten()).widened().unflatten(0, at.shape)

    def picked(self, at: Tensor) -> Self:
        return type(self)(_part(self._weight, at), None if self._bias is None else self._bias[at])

    def dense(self) -> tuple[Tensor, Tensor | None]:
        return matvec.widened(self._weight), self._bias

    def stored(self) -> Held | None:
        return self._weight if self._bias is None and not matvec.unavailable("cpu") else None


def blocks(data: Tensor, ggml_type: int) -> Q4Blocks | Q8Blocks:
    """The blocks of a GGUF file's tensor, uint8 [rows, bytes of a row], of a type of GGML_KINDS."""
    kind = GGML_KINDS[ggml_type]
    return Q8Blocks(data) if kind == "q8_0" else Q4Blocks(data, kind)


def stacked(parts: Sequence[tuple[Tensor | Q4Blocks | Q8Blocks, Tensor | None]]) -> Dense | Blocks:
    """One product in place of several with the same input, which saves calls. Its result has theirs side by side.

    Blocks stay blocks if all are of one kind.

    Args:
        parts: (weights, bias or None) of each product. All or none must have a bias.
    """
    biases = [bias for _, bias in parts if bias is not None]
    assert len(biases) in (0, len(parts))
    bias = torch.cat(biases) if biases else None
    weights = [weight for weight, _ in parts]
    kinds = {None if isinstance(one, Tensor) else one.kind for one in weights}
    first = weights[0]
    if len(weights) == 1:  # a single matrix is not copied
        return Dense(first, bias) if isinstance(first, Tensor) else Blocks(first, bias)
    if len(kinds) == 1 and not isinstance(first, Tensor):
        data = torch.cat([one.data for one in weights if not isinstance(one, Tensor)])
        return Blocks(Q8Blocks(data) if isinstance(first, Q8Blocks) else Q4Blocks(data, first.kind), bias)
    return Dense(torch.cat([one if isinstance(one, Tensor) else matvec.widened(one) for one in weights]), bias)


def _part(weight: Q4Blocks | Q8Blocks, at: Tensor | slice) -> Q4Blocks | Q8Blocks:
    return Q8Blocks(weight.data[at]) if isinstance(weight, Q8Blocks) else Q4Blocks(weight.data[at], weight.kind)


def _moved(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out + bias
