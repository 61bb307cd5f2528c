"""Other libraries' kernels on the same tensors, each called by its name. A kernel that cannot take a case says why.

All take caches in the queries' own dtype only. A window's ring needs no reordering: a softmax does not depend on the
order of the positions.

The other functions say why a kernel cannot run a case or on a device, or None. Kernels map q [batch, n_heads, q_len,
head_dim] and a cache to [batch, n_heads, q_len, value_dim].
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attention.kernels import fused as ordinary
from attention.kernels.kinds.case import KindCase
from attention.kernels.kinds.stored import Cache, seen


def cuda_only(device: str) -> str | None:
    return ordinary.cuda_only(device)


def plain_planes(case: KindCase) -> str | None:
    if (case.k_format, case.v_format) != ("dtype", "dtype"):
        return "takes a cache in the queries' dtype only"
    return None


def half_only(case: KindCase) -> str | None:
    if case.dtype == "float32":
        return "takes float16 and bfloat16 only"
    return plain_planes(case)


def flash_unsuited(case: KindCase) -> str | None:
    if case.q_len > 1:
        return "FlashAttention takes no mask for the folded query of several new tokens"
    return half_only(case)


def _folded(backend: SDPBackend, q: Tensor, cache: Cache) -> Tensor:
    """SDPA with the heads of a group and the new tokens as rows of one query. Several new tokens need a mask."""
    k = cache.k.data
    v = k[..., : cache.value_dim] if cache.v is None else cache.v.data
    rows = q.reshape(q.shape[0], cache.n_kv_heads, -1, q.shape[-1])
    mask = seen(cache, q.shape[2]).repeat(rows.shape[2] // q.shape[2], 1) if q.shape[2] > 1 else None
    with sdpa_kernel(backend):
        out = scaled_dot_product_attention(rows, k, v, attn_mask=mask, scale=cache.scale)
    return out.reshape(*q.shape[:3], cache.value_dim)


flash = partial(_folded, SDPBackend.FLASH_ATTENTION)
cudnn = partial(_folded, SDPBackend.CUDNN_ATTENTION)
efficient = partial(_folded, SDPBackend.EFFICIENT_ATTENTION)


def flex_unavailable(device: str) -> str | None:
    return cuda_only(device) or ordinary.flex_unavailable(device)


def flex_unsuited(case: KindCase) -> str | None:
    if case.q_len > 1:
        return "is tried with one new token: a mask of blocks would be compiled for each context"
    if case.slots < 128:
        return "FlexAttention's decoding kernel splits contexts of 128 and more"
    if case.head_dim & (case.head_dim - 1) or case.head_dim != case.value_dim:
        return f"needs one head size that is a power of two, got {case.head_dim} and {case.value_dim}"
    return plain_planes(case)


def flex(q: Tensor, cache: Cache) -> Tensor:
    k = cache.k.data
    v = k if cache.v is None else cache.v.data
    out: Tensor = ordinary._compiled_flex()(q, k, v, scale=cache.scale, enable_gqa=q.shape[1] != k.shape[1])
    return out


def flashinfer_unavailable(device: str) -> str | None:
    return cuda_only(device) or (None if find_spec("flashinfer") else "FlashInfer is not installed")


def flashinfer_unsuited(case: KindCase) -> str | None:
    if (case.batch, case.q_len) != (1, 1):
        return "FlashInfer's single decode takes one sequence and one new token"
    if case.kind != "full" or case.head_dim != case.value_dim:
        return "FlashInfer's single decode takes ordinary K and V of one head size"
    return half_only(case)


def flashinfer(q: Tensor, cache: Cache) -> Tensor:
    from flashinfer import single_decode_with_kv_cache

    assert cache.v is not None
    out: Tensor = single_decode_with_kv_cache(
        q[0, :, 0], cache.k.data[0], cache.v.data[0], kv_layout="HND", sm_scale=cache.scale
    )
    return out[None, :, None]
