"""Multi-head, multi-query and grouped-query attention, side by side: what differs between the classes is the lesson.

All three project a token to queries, keys and values, rotate queries and keys by position, append keys and values to
a cache, attend, and project back. They differ in how many K/V heads they have, and so in how query heads are grouped:
query head i reads K/V head i // group_size.

The file needs torch alone. Annotations give shapes by name (jaxtyping); the tests check them at run time, and without
jaxtyping the file still runs, because annotations are never evaluated.

Sources: multi-head attention, Vaswani et al. 2017 (arXiv:1706.03762, section 3.2.2); multi-query, Shazeer 2019
(arXiv:1911.02150, section 3); grouped-query, Ainslie et al. 2023 (arXiv:2305.13245, section 2.2); rotary
position embedding, Su et al. 2021 (arXiv:2104.09864, section 3.4.2).
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

with suppress(ImportError):
    from jaxtyping import Float


class MultiHeadAttention(nn.Module):
    """Every query head has a K/V head of its own (arXiv:1706.03762, section 3.2.2).

    One token adds ``2 * n_heads * head_dim`` elements to the cache.
    """

    def __init__(self, hidden_size: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads, self.head_dim = n_heads, head_dim
        self.n_kv_heads = n_heads
        self.q_proj = nn.Linear(hidden_size, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, n_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, n_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "batch query hidden"], cache: KVCache | None = None
    ) -> Float[Tensor, "batch query hidden"]:
        """Attend from the `query` newest tokens to themselves and to all that `cache` holds, and extend the cache."""
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), self.n_heads)
        v = split_heads(self.v_proj(x), self.n_heads)
        start = cache.length if cache else 0
        q, k = rotate(q, start), rotate(k, start)
        if cache:
            k, v = cache.append(k, v)
        q = q.unsqueeze(2)  # n_heads groups of one query head
        out = attend(q, k, v)
        return self.o_proj(merge_heads(out))


class MultiQueryAttention(nn.Module):
    """All query heads read one K/V head (arXiv:1911.02150, section 3).

    One token adds ``2 * head_dim`` elements to the cache: n_heads times fewer than multi-head attention.
    """

    def __init__(self, hidden_size: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads, self.head_dim = n_heads, head_dim
        self.n_kv_heads = 1
        self.q_proj = nn.Linear(hidden_size, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "batch query hidden"], cache: KVCache | None = None
    ) -> Float[Tensor, "batch query hidden"]:
        """Attend from the `query` newest tokens to themselves and to all that `cache` holds, and extend the cache."""
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), 1)
        v = split_heads(self.v_proj(x), 1)
        start = cache.length if cache else 0
        q, k = rotate(q, start), rotate(k, start)
        if cache:
            k, v = cache.append(k, v)
        q = q.unsqueeze(1)  # one group of n_heads query heads
        out = attend(q, k, v)
        return self.o_proj(merge_heads(out))


class GroupedQueryAttention(nn.Module):
    """Each of n_kv_heads K/V heads is read by a group of query heads (arXiv:2305.13245, section 2.2).

    One token adds ``2 * n_kv_heads * head_dim`` elements to the cache. n_kv_heads = n_heads is multi-head attention,
    n_kv_heads = 1 is multi-query attention, with the same weights.
    """

    def __init__(self, hidden_size: int, n_heads: int, head_dim: int, n_kv_heads: int) -> None:
        super().__init__()
        if n_kv_heads < 1 or n_heads % n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}, got {n_kv_heads}")
        self.n_heads, self.head_dim = n_heads, head_dim
        self.n_kv_heads = n_kv_heads
        self.q_proj = nn.Linear(hidden_size, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, n_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, n_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "batch query hidden"], cache: KVCache | None = None
    ) -> Float[Tensor, "batch query hidden"]:
        """Attend from the `query` newest tokens to themselves and to all that `cache` holds, and extend the cache."""
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), self.n_kv_heads)
        v = split_heads(self.v_proj(x), self.n_kv_heads)
        start = cache.length if cache else 0
        q, k = rotate(q, start), rotate(k, start)
        if cache:
            k, v = cache.append(k, v)
        q = q.unflatten(1, (self.n_kv_heads, -1))  # n_kv_heads groups of n_heads / n_kv_heads query heads
        out = attend(q, k, v)
        return self.o_proj(merge_heads(out))


class KVCache:
    """Keys and values of the tokens seen, in memory set aside once: appending copies the new tokens only.

    Attributes:
        k, v: [batch, n_kv_heads, capacity, head_dim]; positions from `length` on are not yet written.
        length: tokens held.
    """

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.k = torch.empty(batch, n_kv_heads, capacity, head_dim, dtype=dtype, device=device)
        self.v = torch.empty_like(self.k)
        self.length = 0

    @property
    def nbytes(self) -> int:
        """Bytes set aside for keys and values."""
        return self.k.nbytes + self.v.nbytes

    def append(
        self, k: Float[Tensor, "batch n_kv_heads new head_dim"], v: Float[Tensor, "batch n_kv_heads new head_dim"]
    ) -> tuple[Float[Tensor, "batch n_kv_heads context head_dim"], Float[Tensor, "batch n_kv_heads context head_dim"]]:
        """Store the newest tokens; return views of all keys and values held.

        Raises:
            ValueError: more tokens than `capacity`.
        """
        end = self.length + k.shape[2]
        if end > self.k.shape[2]:
            raise ValueError(f"the cache holds {self.k.shape[2]} tokens, got {end}")
        self.k[:, :, self.length : end] = k
        self.v[:, :, self.length : end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]


def attend(
    q: Float[Tensor, "batch n_kv_heads group_size query head_dim"],
    k: Float[Tensor, "batch n_kv_heads context head_dim"],
    v: Float[Tensor, "batch n_kv_heads context head_dim"],
) -> Float[Tensor, "batch n_kv_heads group_size query head_dim"]:
    """Softmax attention of each group's query heads to the group's K/V head, causal: the queries are the newest tokens.

    K and V are read as they lie. Copying them once per query head (``repeat_interleave``) gives the same numbers and
    loses what sharing has won.
    """
    query, context = q.shape[3], k.shape[2]
    if query == 1:
        # Decode: the newest token sees everything, so a group's heads are simply more rows of one matrix product.
        scores = q.squeeze(3) @ k.mT * q.shape[-1] ** -0.5
        return (scores.softmax(-1) @ v).unsqueeze(3)
    mask = None
    if context > query:
        # Row r is token context - query + r. SDPA's own causal mask would start counting at token 0.
        mask = torch.ones(query, context, dtype=torch.bool, device=q.device).tril(context - query)
    out = scaled_dot_product_attention(q.flatten(1, 2), k, v, mask, is_causal=mask is None, enable_gqa=q.shape[2] > 1)
    return out.view_as(q)


def split_heads(
    x: Float[Tensor, "batch query heads_times_dim"], n_heads: int
) -> Float[Tensor, "batch n_heads query head_dim"]:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(
    x: Float[Tensor, "batch n_kv_heads group_size query head_dim"],
) -> Float[Tensor, "batch query heads_times_dim"]:
    return x.flatten(1, 2).transpose(1, 2).flatten(2)


def rotate(
    x: Float[Tensor, "batch heads query head_dim"], start: int, theta: float = 10_000.0
) -> Float[Tensor, "batch heads query head_dim"]:
    """Rotary position embedding: turn pair j of the token at position p by the angle p * theta^(-2j / head_dim).

    Pair j is made of elements j and j + head_dim / 2, as in Llama's published checkpoints.

    Raises:
        ValueError: head_dim is odd.
    """
    head_dim = x.shape[-1]
    if head_dim % 2:
        raise ValueError(f"head_dim must be even to be rotated in pairs, got {head_dim}")
    pair = torch.arange(head_dim // 2, device=x.device, dtype=torch.float64)
    position = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float64)
    # float64 angles: at position 100,000 float32 is off by 0.004 rad
    angle = position[:, None] * theta ** (-2 * pair / head_dim)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
