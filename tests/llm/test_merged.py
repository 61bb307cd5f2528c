"""K/V heads merged on a text: without loss where that is possible, and elsewhere with less loss than their mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attention.llm import corpus, loaded
from attention.llm import model as llm
from attention.llm.merged import calibrated
from attention.llm.model import Model
from attention.llm.products import Dense
from attention.llm.sharings import with_n_kv_heads
from tests.llm import checkpoints
from tests.llm.real import needed


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp(request.param)
    checkpoints.made(request.param, folder)
    return llm.load(folder)


def _windows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return torch.randint(checkpoints.SIZES["vocab_size"], (6, 67), generator=generator).tolist()


def _logits(model: Model) -> torch.Tensor:
    ids = torch.arange(7, 7 + 41)[None]
    return model.forward(ids, model.caches(41), every=True)


def _turned(model: Model) -> Model:
    """Two K/V heads that hold the same, the second one's values in another basis that its query heads undo."""
    one = with_n_kv_heads(with_n_kv_heads(model, 1), 2)
    a = one.architecture
    turn = torch.linalg.qr(torch.randn(a.head_dim, a.head_dim, generator=torch.Generator().manual_seed(2)))[0]
    layers = []
    for layer in one.layers:
        rows, bias = layer.kv.dense()
        rows, columns = rows.clone(), layer.o.dense()[0].clone()
        values = slice(-a.head_dim, None)
        rows[values] = turn @ rows[values]
        if bias is not None:
            bias = bias.clone()
            bias[values] = turn @ bias[values]
        of_second = columns[:, -a.group_size * a.head_dim :].unflatten(1, (a.group_size, a.head_dim))
        columns[:, -a.group_size * a.head_dim :] = (of_second @ turn.T).flatten(1)
        layers.append(replace(layer, kv=Dense(rows, bias), o=Dense(columns)))
    return replace(one, layers=layers)


def test_heads_that_differ_by_a_change_of_basis_are_merged_without_loss(model: Model) -> None:
    given = _turned(model)
    told: list[float] = []
    found = calibrated(given, 1, _windows(), lambda words, share: told.append(share))
    assert found.architecture.n_kv_heads == 1
    assert found.layers[0].kv.dense()[0].shape[0] == 2 * found.architecture.head_dim
    # closed forms in float64 from moments in float32, five layers in a row
    assert (_logits(found) - _logits(given)).abs().amax() < 2e-3 * _logits(given).abs().amax()
    assert told == sorted(told)
    assert len(told) == 5


def test_the_merge_errs_less_than_the_mean(model: Model) -> None:
    exact = _logits(model)
    mean, merged = (
        (_logits(one) - exact).square().mean()
        for one in (with_n_kv_heads(model, 1), calibrated(model, 1, _windows(), lambda words, share: None))
    )
    assert merged < 0.9 * mean


def test_a_number_of_heads_that_does_not_divide_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="n_kv_heads must divide the model's 2, got 3"):
        calibrated(model, 3, _windows(), lambda words, share: None)


@needed
def test_text_to_merge_on_is_none_of_the_held_out_text() -> None:
    tokens = loaded.get().tokens
    windows = corpus.calibration(tokens)
    assert {len(one) for one in windows} == {corpus.CALIBRATION_LENGTH}
    assert len(windows) == corpus.CALIBRATION_WINDOWS
    assert not any(tokens.decode(one)[40:140] in corpus.text() for one in windows)
