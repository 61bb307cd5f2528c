"""Calibrated conversion: exact wherever heads differ by what a model can absorb, judged by transformers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from attention.convert import attention_module as modules
from attention.convert.layouts import layout_of
from attention.convert.refine import Settings
from attention.convert.run import convert
from attention.convert.streamed import Calibration
from tests.convert.test_run import load
from tests.convert_models import FAMILIES, N_HEADS, VOCAB, make_model, save

N_KV, K = 6, 3
MERGE_ALONE = Settings(refine_steps=0, batch=3)
TOKENS = torch.randint(3, VOCAB, (7, 23), generator=torch.Generator().manual_seed(5))
PROBE = TOKENS[:2, :19]
GROUPS = ((0, 3), (1, 5), (2, 4))
"""Pairs of heads that are made alike: no neighbours, so that the grouping has to find them."""


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logger = logging.getLogger("transformers")
    before, logger.level = logger.level, logging.ERROR
    yield
    logger.level = before


def calibration(settings: Settings = MERGE_ALONE, **changes: Any) -> Calibration:
    return Calibration(TOKENS, "random tokens", settings, **changes)


def attentions(model: Any) -> list[Any]:
    _, layout = layout_of(model.config.to_dict())
    return [modules.attention_of(layer, layout) for layer in modules.find_layers(model, layout)]


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = load(folder, dtype=torch.float64)(PROBE).logits
    return result


def n_rotated(family: str, head_dim: int) -> int:
    """As the families' own code has it: a share of the head, rounded up to whole pairs."""
    return {"phi": 4, "stablelm": 2, "glm": 8, "glm4": 8, "glm4_moe": 8, "nemotron": 6}.get(family, head_dim)


def make_alike(model: Any, family: str, equal: bool) -> None:
    """Make the second head of each pair the first one under a map that a model can absorb, or the first itself."""
    generator = torch.Generator().manual_seed(3)
    _, layout = layout_of(model.config.to_dict())
    for module in attentions(model):
        # what is clipped after the projection must stay as large as it is
        equal = (
            equal
            or getattr(module, "clip_qkv", None) is not None
            or getattr(model.config, "clip_qkv", None) is not None
        )
        state = module.state_dict()
        heads = modules.read_heads(state, layout, N_HEADS, N_KV)
        head_dim = heads.k.shape[1]
        rotation = modules.rotation_of(family, module, n_rotated(family, head_dim))
        real, imaginary = rotation.pairs
        with torch.no_grad():
            for one, other in GROUPS:
                if equal or modules.is_normed(module):
                    heads.k[other] = heads.k[one]
                else:
                    factor = torch.randn(rotation.n_rotated // 2, 1, dtype=torch.complex64, generator=generator)
                    pairs = torch.complex(heads.k[one][real], heads.k[one][imaginary]) * factor
                    heads.k[other][real], heads.k[other][imaginary] = pairs.real, pairs.imag
                    rest = slice(rotation.n_rotated, head_dim)
                    size = head_dim - rotation.n_rotated
                    heads.k[other][rest] = torch.randn(size, size, generator=generator) @ heads.k[one][rest]
                heads.v[other] = (
                    heads.v[one] if equal else torch.randn(head_dim, head_dim, generator=generator) @ heads.v[one]
                )
            write_back(module, state, heads, layout)


def write_back(module: Any, state: dict[str, torch.Tensor], heads: Any, layout: Any) -> None:
    rows = {n: getattr(heads, n).flatten(0, 1) for n in "qkv"}
    places = (
        {layout.fused: torch.cat(list(rows.values()))}
        if layout.fused
        else dict(zip((layout.query, *layout.separate), rows.values(), strict=True))
    )
    for name, whole in places.items():
        weight = state[f"{name}.weight"]
        weight.copy_(whole[:, : weight.shape[1]])
        if f"{name}.bias" in state:
            state[f"{name}.bias"].copy_(whole[:, -1])
    for name, tensor in state.items():  # norms of single K heads go with them
        parts = name.split(".")
        for one, other in GROUPS:
            if "norms" in parts and parts[0].startswith("k") and int(parts[-2]) == other:
                tensor.copy_(state[name.replace(f".{other}.", f".{one}.")])
            elif parts[0] == "k_norm" and tensor.numel() == N_KV * heads.k.shape[1]:
                view = tensor.view(N_KV, -1)
                view[other] = view[one]


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_heads_that_differ_by_what_a_model_absorbs(family: str, equal: bool, tmp_path: Path) -> None:
    model = make_model(family, N_KV)
    make_alike(model, family, equal)
    source = save(model, tmp_path / "source")
    report = convert(source, tmp_path / "target", K, "calibrated", calibration=calibration())
    before, after = logits(source), logits(tmp_path / "target")
    # stored in float32: a rounding of each weight
    torch.testing.assert_close(after, before, rtol=0, atol=3e-5 * float(before.abs().max()))
    assert before.std() > 0.01
    assert report.calibration is not None
    assert [layer["groups"] for layer in report.calibration["layers"]] == [GROUPS] * 3
