"""The fused kernels that PyTorch ships, each called by its name: SDPA's CUDA back ends and FlexAttention.

Without a name, SDPA chooses a back end silently, and falls back to the slow one silently too. A back end called by its
name raises an error where it cannot run.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attention.kernels import compiled
from attention.kernels.case import Case
from attention.kernels.plain import fold


def cuda_only(device: str) -> str | None:
    """Why a CUDA kernel cannot run on that type of device, or None."""
    return None if device == "cuda" else "a CUDA kernel"


def half_only(case: Case) -> str | None:
    """Why a kernel of 16-bit dtypes is not meant for the case, or None."""
    return "takes float16 and bfloat16 only" if case.dtype == "float32" else None


def cudnn_unsuited(case: Case) -> str | None:
    """Why cuDNN is not meant for the case, or None."""
    return half_only(case) or ("cuDNN takes contexts of 2 and more" if case.context < 2 else None)


def _named_sdpa(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(fold(q, k.shape[1]), k, v).reshape(q.shape)


flash = partial(_named_sdpa, SDPBackend.FLASH_ATTENTION)
cudnn = partial(_named_sdpa, SDPBackend.CUDNN_ATTENTION)
efficient = partial(_named_sdpa, SDPBackend.EFFICIENT_ATTENTION)


def flex_unavailable(device: str) -> str | None:
    """Why FlexAttention cannot run on that type of device, or None.

    It is compiled: by Triton on CUDA, by a C++ compiler on a processor.
    """
    if device == "cpu":
        return compiled.unavailable("cpu")
    return None if find_spec("triton") else "FlexAttention needs Triton on CUDA, and it is not installed"


def flex_unsuited(case: Case) -> str | None:
    """Why FlexAttention is not meant for the case, or None."""
    if case.context < 128:
        return "FlexAttention's decoding kernel splits contexts of 128 and more"
    if case.head_dim & (case.head_dim - 1):
        return f"FlexAttention's kernels need a head_dim that is a power of two, got {case.head_dim}"
    return None


def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """FlexAttention with one query position runs its decoding kernel, which splits the context.

    Shapes as in ``attention.kernels.plain``.
    """
    return _compiled_flex()(q, k, v, enable_gqa=q.shape[1] != k.shape[1])


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention)
