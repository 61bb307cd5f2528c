"""The implementations of a step over a kind of cache, from naive to fast, each with a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attention.errors import check_choice
from attention.kernels.kinds import fused, library, names, native, plain
from attention.kernels.kinds.case import KindCase
from attention.kernels.kinds.stored import Cache

Attend = Callable[[Tensor, Cache], Tensor | tuple[Tensor, Tensor]]
"""(q [batch, n_heads, q_len, head_dim], cache) -> [batch, n_heads, q_len, value_dim]. For a sparse cache also the
positions that were picked, [batch, q_len, min(top_k, context)]."""


@dataclass(frozen=True)
class KindImplementation:
    """One implementation of a step.

    Attributes:
        name: as in :class:`~attention.kernels.kinds.case.KindCase`.
        compute: the computation.
        sparse: the computation for a sparse cache; None if the implementation takes none.
        unavailable: device type -> why the implementation cannot run there, or None.
        unsuited: case -> why the implementation is not meant for this case, or None.
        widens: a quantised cache is widened in memory first.
        compiled: the first call of a shape waits for a compiler.
    """

    name: str
    compute: Attend
    sparse: Attend | None
    unavailable: Callable[[str], str | None] = lambda device: None
    unsuited: Callable[[KindCase], str | None] = lambda case: None
    widens: bool = False
    compiled: bool = False

    @property
    def label(self) -> str:
        return names.IMPLEMENTATIONS[self.name].label

    @property
    def why(self) -> str:
        return names.IMPLEMENTATIONS[self.name].why

    def refuses(self, case: KindCase) -> str | None:
        """Why the implementation cannot run the case, or None. The case's device must be resolved."""
        if case.kind == "sparse" and self.sparse is None:
            return "has no indexer"
        return self.unavailable(case.device) or self.unsuited(case)

    def run(self, q: Tensor, cache: Cache) -> Tensor | tuple[Tensor, Tensor]:
        """One step; shapes as in ``Attend``. A batch of 0 gives an empty result.

        Raises:
            ValueError: a context of 0, more new tokens than positions, n_kv_heads that does not divide n_heads, or a
                sparse cache where the implementation takes none.
        """
        if not cache.k.positions:
            raise ValueError("context must be at least 1, got 0")
        if not 1 <= q.shape[2] <= cache.context:
            raise ValueError(f"q_len must be between 1 and the context of {cache.context}, got {q.shape[2]}")
        if q.shape[1] % cache.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {q.shape[1]}, got {cache.n_kv_heads}")
        compute = self.sparse if cache.top_k else self.compute
        if compute is None:
            raise ValueError(f"{self.name} has no indexer: it can't take a sparse cache")
        if not q.shape[0]:
            out = q.new_empty(*q.shape[:3], cache.value_dim)
            picked = torch.empty(0, q.shape[2], min(cache.top_k, cache.context), dtype=torch.int64, device=q.device)
            return (out, picked) if cache.top_k else out
        return compute(q, cache)


IMPLEMENTATIONS: dict[str, KindImplementation] = {
    i.name: i
    for i in (
        KindImplementation("plain", plain.attend, plain.attend_sparse, widens=True),
        KindImplementation(
            "native", native.attend, native.attend_sparse, unavailable=native.unavailable, compiled=True
        ),
        KindImplementation(
            "triton",
            fused.attend,
            fused.attend_sparse,
            unavailable=fused.unavailable,
            unsuited=fused.unsuited,
            compiled=True,
        ),
        KindImplementation("flash", library.flash, None, library.cuda_only, library.flash_unsuited),
        KindImplementation("cudnn", library.cudnn, None, library.cuda_only, library.half_only),
        KindImplementation("efficient", library.efficient, None, library.cuda_only, library.plain_planes),
        KindImplementation("flex", library.flex, None, library.flex_unavailable, library.flex_unsuited, compiled=True),
        KindImplementation(
            "flashinfer",
            library.flashinfer,
            None,
            library.flashinfer_unavailable,
            library.flashinfer_unsuited,
            compiled=True,
        ),
    )
}
"""From naive to fast, then other libraries' kernels."""


def implementation(name: str) -> KindImplementation:
    """Raises ValueError for an unknown name, listing the known ones."""
    check_choice("implementation", name, IMPLEMENTATIONS)
    return IMPLEMENTATIONS[name]


def suited(case: KindCase) -> tuple[str, ...]:
    """Names of the implementations that can run the case, whose device must be resolved."""
    return tuple(name for name, found in IMPLEMENTATIONS.items() if not found.refuses(case))
