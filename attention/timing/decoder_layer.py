"""The decoder layer that is timed: norm, attention, norm, then MLP, experts or both. Each result is added to its input.

The layer is plain PyTorch, or it uses what is fastest on this machine: the native attention of ``kernels.native``, and
the matrix–vector products of ``kernels.matvec`` where a trial finds them faster. Ordinary attention is
:class:`attention.layers.GroupedQueryAttention`. MLA attends in absorbed form (DeepSeek-V2, arXiv:2405.04434, section
2.1.2): the queries are projected into the latent space, so that all heads read one vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attention.kernels import matvec, native
from attention.kernels.case import Case
from attention.layers import GroupedQueryAttention, KVCache, merge_heads, rotate, split_heads
from attention.timing.step_cases import StepCase


class MLP(nn.Module):
    """An MLP of three matrices, as in Llama (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, width, bias=False)
        self.up = nn.Linear(hidden_size, width, bias=False)
        self.down = nn.Linear(width, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, query, hidden_size] -> the same shape."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """`experts` MLPs. Each sequence passes through `n_chosen` of them, in turn, so that all are used equally often.

    There is no router. In a model it chooses by the token; here only the number of experts that are read matters.
    """

    def __init__(self, case: StepCase) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(MLP(case.hidden_size, case.expert_width) for _ in range(case.experts))
        self.chosen = [
            sorted({n // case.n_chosen for n in range(case.batch * case.n_chosen) if n % case.experts == expert})
            for expert in range(case.experts)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, query, hidden_size] -> the same shape."""
        out = torch.zeros_like(x)
        for mlp, sequences in zip(self.mlps, self.chosen, strict=True):
            if len(sequences) == len(x):
                out += mlp(x)
            else:
                out[sequences] += mlp(x[sequences])
        return out


class LatentAttention(nn.Module):
    """MLA over a latent cache, in absorbed form, with one query position a step."""

    def __init__(self, case: StepCase) -> None:
        super().__init__()
        self.n_heads, self.rank, self.rope_dim = case.n_heads, case.latent, case.rope_dim
        self.head_dim, nope = case.head_dim, case.head_dim - case.rope_dim
        hidden, queries = case.hidden_size, case.n_heads * case.head_dim
        self.q_a = nn.Linear(hidden, case.q_rank, bias=False) if case.q_rank else nn.Identity()
        self.q_b = nn.Linear(case.q_rank or hidden, queries, bias=False)
        self.kv_a = nn.Linear(hidden, case.latent + case.rope_dim, bias=False)
        # these would expand the latent vector to keys and values, head by head
        self.k_up = nn.Parameter(torch.empty(case.n_heads, nope, case.latent))
        self.v_up = nn.Parameter(torch.empty(case.n_heads, case.latent, case.v_head_dim))
        self.o_proj = nn.Linear(case.n_heads * case.v_head_dim, hidden, bias=False)

    def forward(self, x: Tensor, cache: KVCache) -> Tensor:
        """x [batch, 1, hidden_size] -> the same shape. cache.k [batch, 1, held, latent + rope_dim] has the latents."""
        start, rope = cache.length, self.rope_dim
        q = split_heads(self.q_b(self.q_a(x)), self.n_heads)
        new = self.kv_a(x).unsqueeze(1)
        if rope:
            q = torch.cat((q[..., :-rope], rotate(q[..., -rope:], start)), -1)
            new = torch.cat((new[..., : self.rank], rotate(new[..., self.rank :], start)), -1)
        cache.k[:, :, start : start + 1] = new
        cache.length = start + 1
        q = q.squeeze(2)
        taken = (q[..., : self.head_dim - rope].transpose(0, 1) @ self.k_up).transpose(0, 1)
        asked = torch.cat((taken, q[..., self.head_dim - rope :]), -1)
        out = attend_latent(asked, cache.k[:, 0, : cache.length], self.rank, self.head_dim)
        values = (out.transpose(0, 1) @ self.v_up).transpose(0, 1)
        return self.o_proj(values.flatten(1).unsqueeze(1))


def attend_latent(q: Tensor, held: Tensor, rank: int, head_dim: int) -> Tensor:
    """q [batch, n_heads, latent + rope_dim], held [batch, positions, latent + rope_dim] -> [batch, n_heads, rank].

    The held vectors are the keys; their first `rank` elements are the values. Scores are divided by √head_dim.
    """
    scores = q @ held.mT * head_dim**-0.5
    return scores.softmax(-1) @ held[..., :rank]


class DecoderLayer(nn.Module):
    """Norm, attention, norm, then MLP, experts or both. Each result is added to the residual stream."""

    def __init__(self, case: StepCase) -> None:
        super().__init__()
        if case.latent:
            self.attention: nn.Module = LatentAttention(case)
        else:
            self.attention = GroupedQueryAttention(case.hidden_size, case.n_heads, case.head_dim, case.n_kv_heads)
        self.mlp = MLP(case.hidden_size, case.intermediate_size) if case.intermediate_size else None
        self.experts = Experts(case) if case.experts else None
        self.norms = nn.ModuleList(nn.RMSNorm(case.hidden_size) for _ in range(2))

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x [batch, query, hidden_size] -> the same shape."""
        x = x + self.attention(self.norms[0](x), cache)
        h = self.norms[1](x)
        for part in (self.mlp, self.experts):
            if part is not None:
                x = x + part(h)
        return x


class OnePassAttention(GroupedQueryAttention):
    """:class:`GroupedQueryAttention` with the native kernel, for one decode step."""

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x [batch, 1, hidden_size] -> the same shape."""
        assert cache is not None
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), self.n_kv_heads)
        v = split_heads(self.v_proj(x), self.n_kv_heads)
        q, k = rotate(q, cache.length), rotate(k, cache.length)
        k, v = cache.append(k, v)
        return self.o_proj(merge_heads(native.decode(q, k, v).unsqueeze(1)))


class Product(nn.Module):
    """A linear layer's weights, multiplied by the native matrix–vector product."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """x [..., columns] of at most eight vectors -> [..., rows]."""
        return matvec.matvec(self.weight, x)


def fastest(layer: DecoderLayer, case: StepCase) -> tuple[DecoderLayer, tuple[str, ...]]:
    """The layer with the parts that are fastest here, for one decode step, and the names of these parts.

    The weights are shared with `layer`. On CUDA, or without a compiler, the result is `layer` itself and no names.
    """
    taken: list[str] = []
    shape = Case("native", case.n_heads, case.n_kv_heads, case.head_dim, case.held, case.batch, case.dtype, case.device)
    one_pass = not (case.latent or native.unavailable(case.device) or native.unsuited(shape))
    if one_pass:
        taken.append("native attention")
    linears = {name: part for name, part in layer.named_modules() if isinstance(part, nn.Linear)}
    quicker = case.batch <= matvec.MOST and not matvec.unavailable(case.device) and products_are_quicker(linears, case)
    if quicker:
        taken.append("native matrix-vector products")
    if not taken:
        return layer, ()
    with torch.device("meta"):
        other = DecoderLayer(case)
    other.load_state_dict(layer.state_dict(), assign=True)
    if one_pass:
        other.attention.__class__ = OnePassAttention
    if quicker:
        for name, part in linears.items():
            parent, _, own = name.rpartition(".")
            setattr(other.get_submodule(parent), own, Product(part.weight.detach()))
    return other, tuple(taken)


def products_are_quicker(linears: dict[str, nn.Linear], case: StepCase) -> bool:
    """Whether the native product takes less time than the library's. Both are tried in turn on the largest matrix."""
    largest = max(linears.values(), key=lambda part: part.weight.numel())
    x = torch.ones(case.batch, largest.in_features, dtype=largest.weight.dtype)
    ways: tuple[Callable[[], Tensor], ...] = (lambda: matvec.matvec(largest.weight, x), lambda: largest(x))
    times: list[list[float]] = [[], []]
    for _ in range(6):
        for run, of in zip(ways, times, strict=True):
            start = time.perf_counter()
            run()
            of.append(time.perf_counter() - start)
    # the first of each warms up
    own, library = (min(of[1:]) for of in times)
    return own < library
