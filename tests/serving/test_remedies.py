"""Every proposed change is enough by itself to make the model fit, and asks for no more than is needed."""

from dataclasses import replace
from typing import Any, cast

import pytest

from attention.catalog import published
from attention.serving import fit
from attention.serving import plan as serving
from attention.serving.fit import Setup
from attention.serving.remedies import Remedy, remedies
from attention.spec import FixedState, Kind, Layer, ModelSpec, Role
from tests.published_specs import spec_of

LLAMA_70B = spec_of("meta-llama/Llama-3.1-70B")
FOUR = Setup(published.accelerator("l40s"), count=4)


def found(spec: ModelSpec, setup: Setup, context: int, batch: int) -> dict[str, Remedy]:
    return {w.what: w for w in remedies(spec, setup, context, batch, serving.plan(spec, setup, context, batch))}


@pytest.mark.parametrize(("context", "batch"), [(16_384, 8), (32_768, 3), (8_192, 11), (131_072, 1)])
def test_each_is_enough_by_itself_and_the_numbers_are_the_last_that_are(context, batch):
    offered = found(LLAMA_70B, FOUR, context, batch)
    assert offered
    for remedy in offered.values():
        load: dict[str, Any] = {"context": context, "batch": batch}
        setup, value = FOUR, cast(Any, remedy.value)
        if remedy.what in load:
            load[remedy.what] = value
        else:
            setup = replace(FOUR, **{remedy.what: value})
        assert fit.fits(LLAMA_70B, setup, **load), remedy
        if remedy.what != "context":
            assert fit.fits(LLAMA_70B, setup, context, remedy.largest_batch)
            assert not fit.fits(LLAMA_70B, setup, context, remedy.largest_batch + 1)
        else:
            assert not fit.fits(LLAMA_70B, setup, value + 1, batch)


def test_by_hand():
    # 4 L40S: usable 43.2 GB less 1 GiB and 35.3 GB of weights on each; a token of 80 layers is 80 KiB on each of 4
    offered = found(LLAMA_70B, FOUR, 16_384, 8)
    assert LLAMA_70B.n_parameters
    left = 48 * 10**9 * 9 // 10 - 2**30 - -(-LLAMA_70B.n_parameters * 2 // 4)
    per_token = 80 * 2 * 2 * 128 * 2
    assert offered["batch"].value == left // (16_384 * per_token)
    assert offered["context"].value == left // 8 // per_token // 16 * 16
    assert offered["count"].value == 8
    assert offered["weight_dtype"].value == "fp8"


def test_what_cannot_help_is_left_out():
    assert found(LLAMA_70B, replace(FOUR, count=8), 8192, 1) == {}  # fits already
    # not even the weights fit: no shorter context helps, and no smaller cache
    assert set(found(LLAMA_70B, replace(FOUR, count=1), 8192, 1)) == {"weight_dtype", "count"}
    recurrent = ModelSpec(
        "r", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 7 * 10**9, "fp32"),)),), n_parameters=11
    )
    assert found(recurrent, replace(FOUR, count=1), 8192, 2) == {"batch": Remedy("batch", 1, 1)}
