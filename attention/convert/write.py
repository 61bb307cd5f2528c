"""Writes one file of a planned conversion: first its header, then the tensors' bytes in order.

The kernel copies unchanged bytes from file to file. Pooled and cast tensors pass through memory, a piece at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from attention.convert import checkpoint as ckpt
from attention.convert.plan import (
    Piece,
    Plan,
    Planned,
    Span,
)
from attention.convert.pooling import generator_for, merge


def write_shard(
    path: Path, tensors: tuple[Planned, ...], metadata: dict[str, str], plan: Plan, advance: Callable[[int], None]
) -> None:
    """Write one file of the result to `path`, as a stream.

    Args:
        tensors: the file's tensors, in order.
        metadata: strings that are stored in the file.
        advance: called with the number of bytes after each write.

    Raises:
        OSError: the disk is full, or cannot be read or written.
        ValueError: a source changed during the reading, or a value does not fit the new dtype.
    """
    with _Sources() as sources, open(path, "xb", buffering=0) as file:
        target = file.fileno()
        ckpt.write_all(target, ckpt.header_bytes([(t.name, t.dtype, t.shape, t.size) for t in tensors], metadata))
        pending: tuple[int, int, int] | None = None  # (source, start, size) of unchanged bytes to copy
        for tensor in tensors:
            generator = generator_for(plan.seed, tensor.name)
            for piece in tensor.pieces:
                run = _as_bytes(tensor, piece, sources)
                if run and pending and run[0] == pending[0] and run[1] == pending[1] + pending[2]:
                    pending = (pending[0], pending[1], pending[2] + run[2])
                    continue
                _flush(pending, target, advance)
                pending = run
                if run is None:
                    for part in _computed(tensor, piece, plan, sources, generator):
                        advance(ckpt.write_all(target, ckpt.tensor_bytes(part)))
        _flush(pending, target, advance)
        os.fsync(target)
    written = path.stat().st_size - ckpt.header_size(path)
    assert written == sum(t.size for t in tensors), (path, written)


class _Sources:
    """The source files, each opened when it is first needed."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def __getitem__(self, path: Path) -> int:
        if path not in self._open:
            self._open[path] = os.open(path, os.O_RDONLY)
        return self._open[path]


def _as_bytes(tensor: Planned, piece: Piece, sources: _Sources) -> tuple[int, int, int] | None:
    """(source, start, size) if the piece is an unchanged part of a source file, else None."""
    head = piece.heads[0]
    if len(piece.heads) > 1 or head.tensor.dtype != tensor.dtype:
        return None
    if head.count == head.tensor.n_elements:
        return sources[head.tensor.path], head.tensor.start, head.tensor.size
    size = head.tensor.element_bytes
    return sources[head.tensor.path], head.tensor.start + head.start * size, head.count * size


def _flush(pending: tuple[int, int, int] | None, target: int, advance: Callable[[int], None]) -> None:
    if pending is None:
        return
    source, start, size = pending
    step = 64 * ckpt.CHUNK_BYTES
    for offset in range(0, size, step):
        ckpt.copy_bytes(source, target, start + offset, min(step, size - offset))
        advance(min(step, size - offset))


def _computed(
    tensor: Planned, piece: Piece, plan: Plan, sources: _Sources, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """The piece's elements, pooled and cast, in parts of bounded size."""
    dtype = ckpt.DTYPES[tensor.dtype]
    first = piece.heads[0]
    # the slices of all heads of the group are in memory at once
    for start, count in ckpt.spans(first.count, first.tensor.element_bytes * len(piece.heads)):
        if plan.pool == "random" and len(piece.heads) > 1:
            # only shape and dtype are needed
            slices = [torch.empty(count, dtype=first.tensor.torch_dtype)] * 2
        else:
            wanted = piece.heads if plan.pool in ("mean", "calibrated") else piece.heads[:1]
            slices = [_read(span, start, count, sources) for span in wanted]
        # calibrated layers are merged already: only layers that the model's code does not run are pooled here
        merged = merge(slices, "mean" if plan.pool == "calibrated" else plan.pool, piece.role, generator, plan.std)
        cast = merged.to(dtype)
        if dtype != merged.dtype and not torch.equal(merged.isfinite(), cast.isfinite()):
            raise ValueError(f"{tensor.name} has values too large for {tensor.dtype}: choose bf16 or fp32")
        yield cast


def _read(span: Span, start: int, count: int, sources: _Sources) -> torch.Tensor:
    return ckpt.read_elements(sources[span.tensor.path], span.tensor, span.start + start, count)
