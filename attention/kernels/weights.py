"""Weights of one byte or half a byte for the matrix–vector products: int8 rows, and ggml's blocks of 32 columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from attention.errors import check_choice

BLOCK = 32
"""Columns of a block."""
HEADS = {"q4_0": 2, "q4_1": 4}
"""Kind of block -> bytes before its four-bit numbers: a scale, or a scale and a minimum, in float16."""


@dataclass(frozen=True)
class Int8Rows:
    """A matrix [rows, columns] as int8 and one scale for each row: weight = values * scale.

    Attributes:
        values: int8 [rows, columns]; scale: float32 [rows].

    Raises:
        ValueError: another dtype or shape.
    """

    values: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.values.dtype != torch.int8 or self.values.ndim != 2:
            raise ValueError(f"values must be int8 [rows, columns], got {_said(self.values)}")
        if self.scale.dtype != torch.float32 or self.scale.shape != self.values.shape[:1]:
            raise ValueError(f"scale must be float32 [{self.values.shape[0]}], got {_said(self.scale)}")

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Round weight [rows, columns] to steps of 1/127 of each row's largest magnitude."""
        scale = weight.float().abs().amax(1) / 127
        steps = weight.float() / scale.where(scale > 0, 1)[:, None]
        return cls(steps.round().to(torch.int8), scale)

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scale.nbytes

    def widened(self) -> Tensor:
        """float32 [rows, columns]."""
        return self.values.float() * self.scale[:, None]


@dataclass(frozen=True)
class Q4Blocks:
    """A matrix [rows, columns] in ggml's blocks of 32 columns, as in a GGUF file.

    A block is a scale (in Q4_1 also a minimum) in float16, then 16 bytes: their lower halves are the first 16 columns,
    their upper halves the last 16. A weight is scale * (q - 8); in Q4_1 it is scale * q + minimum (ggml-common.h,
    block_q4_0 and block_q4_1).

    Attributes:
        data: uint8 [rows, bytes of a row]; kind: "q4_0" or "q4_1".

    Raises:
        ValueError: another dtype, an unknown kind, or a row that is not whole blocks.
    """

    data: Tensor
    kind: str

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, HEADS)
        if self.data.dtype != torch.uint8 or self.data.ndim != 2:
            raise ValueError(f"data must be uint8 [rows, bytes of a row], got {_said(self.data)}")
        if not self.data.shape[1] or self.data.shape[1] % self._bytes:
            raise ValueError(
                f"a row of {self.kind} must be whole blocks of {self._bytes} bytes, got {self.data.shape[1]} bytes"
            )

    @classmethod
    def of(cls, weight: Tensor, kind: str = "q4_0") -> Self:
        """Round weight [rows, columns] as ggml does (ggml-quants.c, quantize_row_q4_0_ref, quantize_row_q4_1_ref).

        Raises:
            ValueError: columns that are not divisible by 32, or an unknown kind.
        """
        check_choice("kind", kind, HEADS)
        if weight.ndim != 2 or not weight.shape[1] or weight.shape[1] % BLOCK:
            raise ValueError(f"weight must be [rows, columns divisible by {BLOCK}], got {_said(weight)}")
        x = weight.float().unflatten(1, (-1, BLOCK))
        if kind == "q4_0":
            low = x.gather(-1, x.abs().argmax(-1, keepdim=True))
            scale = low / -8
            q = x / scale.where(scale != 0, 1) + 8.5
            head = scale
        else:
            low = x.amin(-1, keepdim=True)
            scale = (x.amax(-1, keepdim=True) - low) / 15
            q = (x - low) / scale.where(scale != 0, 1) + 0.5
            head = torch.cat((scale, low), -1)
        q = q.clamp(0, 15).to(torch.uint8)
        blocks = torch.cat((head.half().view(torch.uint8), q[..., :16] | q[..., 16:] << 4), -1)
        return cls(blocks.flatten(1).contiguous(), kind)

    @property
    def _bytes(self) -> int:
        return HEADS[self.kind] + BLOCK // 2

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.data.shape[0], self.data.shape[1] // self._bytes * BLOCK))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def widened(self) -> Tensor:
        """float32 [rows, columns]."""
        blocks = self.data.unflatten(1, (-1, self._bytes))
        head = HEADS[self.kind]
        numbers = blocks[..., :head].contiguous().view(torch.float16).float()
        nibbles = blocks[..., head:]
        q = torch.cat((nibbles & 15, nibbles >> 4), -1).float()
        wide = numbers[..., :1] * (q - 8) if head == 2 else numbers[..., :1] * q + numbers[..., 1:]
        return wide.flatten(1)


@dataclass(frozen=True)
class Q8Blocks:
    """A matrix [rows, columns] in ggml's Q8_0, as in a GGUF file.

    A block of 32 columns is a scale in float16, then 32 int8. A weight is scale * q (ggml-common.h, block_q8_0).

    Attributes:
        data: uint8 [rows, bytes of a row].

    Raises:
        ValueError: another dtype, or a row that is not whole blocks.
    """

    data: Tensor
    kind = "q8_0"

    def __post_init__(self) -> None:
        if self.data.dtype != torch.uint8 or self.data.ndim != 2:
            raise ValueError(f"data must be uint8 [rows, bytes of a row], got {_said(self.data)}")
        if not self.data.shape[1] or self.data.shape[1] % (2 + BLOCK):
            raise ValueError(f"a row of q8_0 must be whole blocks of {2 + BLOCK} bytes, got {self.data.shape[1]} bytes")

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Round weight [rows, columns] as ggml does (ggml-quants.c, quantize_row_q8_0_ref).

        Raises:
            ValueError: columns that are not divisible by 32.
        """
        if weight.ndim != 2 or not weight.shape[1] or weight.shape[1] % BLOCK:
            raise ValueError(f"weight must be [rows, columns divisible by {BLOCK}], got {_said(weight)}")
        x = weight.float().unflatten(1, (-1, BLOCK))
        scale = x.abs().amax(-1, keepdim=True) / 127
        q = (x / scale.where(scale != 0, 1)).round().to(torch.int8)
        return cls(torch.cat((scale.half().view(torch.uint8), q.view(torch.uint8)), -1).flatten(1).contiguous())

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.data.shape[0], self.data.shape[1] // (2 + BLOCK) * BLOCK))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def widened(self) -> Tensor:
        """float32 [rows, columns]."""
        blocks = self.data.unflatten(1, (-1, 2 + BLOCK))
        scale = blocks[..., :2].contiguous().view(torch.float16).float()
        return (scale * blocks[..., 2:].contiguous().view(torch.int8).float()).flatten(1)


def _said(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
