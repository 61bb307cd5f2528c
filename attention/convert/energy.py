"""What a merge keeps of each head, as shares of the head's weighted energy.

A group's common rows span the leading eigenspace of its weighted moment. So the kept and the lost part of a head are
uncorrelated, and the head's energy is the sum of both (Eckart and Young 1936).
"""

from __future__ import annotations

import torch
from torch import Tensor

from attention.convert.moments import Weighted


def kept_by_head(weighted: Weighted, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """float64[n_kv_heads, 2]: of each old head's keys and values, the share of energy that its group's merge keeps.

    Args:
        weighted: the layer's moments, from ``merging.weigh``.
        groups: a partition of the layer's K/V heads.
    """
    n_kv = len(weighted.values_root)
    whole, kept = torch.zeros(2, n_kv, 2, dtype=torch.float64, device=weighted.values.device)
    for group in groups:
        index = list(group)
        pairs = weighted.pairs[:, index][:, :, index]
        energy, vectors = torch.linalg.eigh(pairs)
        whole[index, 0] += torch.diagonal(pairs, dim1=1, dim2=2).real.sum(0)
        kept[index, 0] += (energy[:, -1:] * vectors[..., -1].abs().square()).sum(0)
        for column, moment in enumerate((weighted.flat, weighted.values)):
            if (r := moment.shape[0] // n_kv) > 0:
                places = torch.cat([torch.arange(h * r, (h + 1) * r, device=moment.device) for h in index])
                block = moment[places][:, places]
                energy, vectors = torch.linalg.eigh(block)
                whole[index, column] += block.diagonal().unflatten(0, (-1, r)).sum(-1)
                kept[index, column] += (vectors[:, -r:].square() @ energy[-r:]).unflatten(0, (-1, r)).sum(-1)
    return (kept / whole.clamp_min(1e-300)).clamp(0, 1)
