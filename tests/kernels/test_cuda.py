"""What runs on CUDA, against float64. Needs a GPU and nothing but torch: ``make bench-gpu`` begins with it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from attention.kernels import reference, registry
from attention.kernels.case import Case
from attention.timing import benchmark, host, inputs, model_step, speed
from attention.timing.pace import Clock

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(14, 14), (14, 7), (14, 2), (14, 1)])
@pytest.mark.parametrize(("phase", "context"), [("decode", 1), ("decode", 131), ("decode", 1031), ("prefill", 131)])
def test_every_suited_implementation_agrees_with_float64(
    phase: str, context: int, n_heads: int, n_kv_heads: int, dtype: str
) -> None:
    case = Case("", n_heads, n_kv_heads, 64, context, 3, dtype, "cuda", phase)
    q, k, v = inputs.make_inputs(case)
    expected = reference.attention(q, k, v)
    names = registry.suited(case)
    assert names
    for name in names:
        with torch.inference_mode():
            out = registry.implementation(name, phase).run(q, k, v)
        error = reference.relative_error(out, expected)
        assert error <= reference.tolerance(dtype, context, 64), f"{name}: {error:.1e}"


def test_results_say_their_floor_and_their_error() -> None:
    case = Case("folded_matmul", 8, 2, 64, 4096, 2, "bfloat16", "cuda")
    cases = [case, replace(case, implementation="enable_gqa")]
    for result in benchmark.run_cases(cases, seconds_per_case=0.05):
        assert result.case.device == "cuda"
        assert result.median_s, result.note
        assert result.floor_s
        assert result.error is not None


def test_the_clock_leaves_out_the_wait_for_a_launch() -> None:
    """A hundred small operations cost the host far more than the device; only the device's own time counts."""
    x = torch.ones(1, device="cuda")
    clock = Clock("cuda")
    clock.time(lambda: x.add_(1))
    one = min(clock.time(lambda: x.add_(1)) for _ in range(5))
    assert 0 < one < 1e-4


def test_recorded_work_keeps_its_tensors() -> None:
    """A graph stores the addresses of its tensors: it would read them even after they were freed."""
    x = torch.ones(1, device="cuda")
    kept = weakref.ref(x)

    def add(x: torch.Tensor = x) -> torch.Tensor:
        return x.add_(1)

    work = Clock("cuda").recorded(add)
    del x, add
    gc.collect()
    work()
    torch.cuda.synchronize()
    assert kept() is not None


def test_calibration_and_free_memory() -> None:
    measured = speed.calibrate("cuda")
    assert measured.device == "cuda"
    assert measured.read_bytes_per_s > 1e10
    assert host.free_memory("cuda") > 2**30
    assert host.describe().gpus


@pytest.mark.parametrize("prefill", [True, False])
def test_a_decoder_layer_runs(prefill: bool) -> None:
    case = model_step.StepCase("GQA-2", 3, 256, 512, 8, 2, 32, 1031, 2, "bfloat16", "cuda", prefill)
    (result,) = model_step.run_steps([case], seconds_per_case=0.1)
    assert result.layer_s > 0
    assert bool(result.prefill_s) == prefill
