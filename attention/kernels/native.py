"""Decode attention written for the processor itself: `native.cpp`, compiled once for each head size and then kept.

It does what plain PyTorch cannot say in one pass: read each key and value once, in the order they lie in memory, while
all query heads of the group use them; fetch the next ones while these are multiplied; multiply bfloat16 pairs where the
processor has the instruction; give every core an equal piece of the cache even where there is one K/V head and one
sequence.
"""

from __future__ import annotations

import ctypes
import hashlib
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attention import settings
from attention.kernels import compiled, library_store
from attention.kernels.case import Case

SOURCES = tuple(Path(__file__).with_name(name) for name in ("native.cpp", "registers.h"))
HEAD_DIM_STEP = 16
"""float32 numbers in the widest register, of which a head must fill some."""
FLAGS = "-std=c++17 -O3 -march=native -ffp-contract=fast -fopenmp -fPIC -w"
COMPILE_SECONDS = 120


def unavailable(device: str) -> str | None:
    """Why it can't run on that type of device, or None."""
    if device != "cpu":
        return "made for processors; on CUDA the fused kernels do this"
    return compiled.no_compiler()


def unsuited(case: Case) -> str | None:
    if case.head_dim % HEAD_DIM_STEP:
        return f"needs a head_dim divisible by {HEAD_DIM_STEP}, got {case.head_dim}"
    return None


def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One decode step: q [batch, n_heads, 1, head_dim]; k, v [batch, n_kv_heads, context, head_dim] -> like q.

    Keys and values may be the front part of a longer cache: only one head's positions must lie side by side.

    Raises:
        ValueError: no sequence or no position: nothing would be written to the result.
        RuntimeError: the compiler failed, or what it made can't be loaded.
    """
    batch, n_kv_heads, context, head_dim = k.shape
    if not batch or not context:
        raise ValueError(f"batch and context must be at least 1, got {batch} and {context}")
    q = q.contiguous()
    out = torch.empty_like(q)
    k_strides, v_strides = k.stride(), v.stride()
    if (*k_strides[2:], *v_strides[2:]) != (head_dim, 1, head_dim, 1):
        k, v = k.contiguous(), v.contiguous()
        k_strides, v_strides = k.stride(), v.stride()
    _function(head_dim, q.dtype, FLAGS)(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        out.data_ptr(),
        batch * n_kv_heads,
        n_kv_heads,
        q.shape[1] // n_kv_heads,
        context,
        *k_strides[:2],
        *v_strides[:2],
        head_dim**-0.5,
        torch.get_num_threads(),
    )
    return out


@cache
def _function(head_dim: int, dtype: torch.dtype, flags: str) -> Any:
    path = _built(head_dim, flags)
    try:
        # its threads are those of the OpenMP that torch has loaded: a second pool would fight the first for the cores
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(f"the compiled decode kernel cannot be loaded: {error}") from None
    function: Any = getattr(library, f"decode_{str(dtype).removeprefix('torch.')}")
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [*[pointer] * 4, long, long, ctypes.c_int, *[long] * 5, ctypes.c_float, ctypes.c_int]
    function.restype = None
    return function


def _built(head_dim: int, flags: str) -> Path:
    """The shared library, from the data folder if it was compiled before by this compiler, for this processor.

    Raises:
        RuntimeError: the compiler failed, or the folder cannot be written or is not ours alone.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    compiler = get_cpp_compiler()
    command = [compiler, *shlex.split(flags), f"-DHEAD_DIM={head_dim}"]
    target = _output([compiler, "-march=native", "-Q", "--help=target", "--version"])
    made_of = [*(path.read_bytes() for path in SOURCES), " ".join(command).encode(), target]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]

    def compile_to(path: Path) -> None:
        # linked apart from -fopenmp, so that no OpenMP of its own comes with it
        _output([*command, "-c", str(SOURCES[0]), "-o", f"{path}.o"])
        try:
            _output([compiler, "-shared", f"{path}.o", "-o", str(path)])
        finally:
            Path(f"{path}.o").unlink(missing_ok=True)

    try:
        return library_store.kept(settings.load().data_path / "native", f"decode-{head_dim}-{key}", compile_to)
    except OSError as error:
        raise RuntimeError(f"the decode kernel cannot be stored in HEADSHARE_DATA_DIR: {error}") from None


def _output(command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = next((line for line in lines if "error" in line), "no message")
        raise RuntimeError(f"the C++ compiler failed on the decode kernel: {reason[:120]}")
    return done.stdout
