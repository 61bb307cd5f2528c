"""Byte models merged by calibration: live, recorded, stopped, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attention.convert.refine import Settings
from attention.jobs import uptrain_lab
from attention.tiny import calibrated, merged, train, uptraining
from attention.tiny import results as lab_view
from attention.tiny.corpus import load_corpus
from attention.tiny.model import TinyLM
from attention.tiny.numpy_forward import load_named
from tests.long import long
from viz import lab_pooling


@pytest.fixture
def short_calibration(four_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibrated merge of a second: few windows, few steps of the fit."""
    monkeypatch.setattr(calibrated, "WINDOWS", 6)
    monkeypatch.setattr(calibrated, "SETTINGS", Settings(refine_steps=2))


def test_a_calibrated_run_tells_of_its_layers_and_starts_lower(mha: TinyLM, short_calibration: None) -> None:
    results: list[dict] = []
    payload = {"n_kv_heads": 4, "pool": "calibrated", "alpha": 0.0}
    summary = uptrain_lab.run(payload, results.append, lambda: False)
    json.dumps([*results, summary])
    run = lab_view.run_of([r for r in results if "kind" in r])
    assert summary["plan"]["pool"] == "calibrated"
    assert [report["layer"] for report in run.layers] == [0, 1, 2, 3]
    for report in run.layers:
        layer = merged.layer_of(report)
        assert sorted(layer.order) == list(range(8))
        assert {len(group) for group in layer.groups} == {2}
        assert min(layer.keys) < layer.keys_kept < max(layer.keys)
    rows = uptraining.text()[1]
    assert run.validation[0][1] < train.mean_loss(uptraining.convert(mha, 4, "mean"), rows) - 0.5


def test_a_calibrated_merge_is_stopped_between_layers(short_calibration: None) -> None:
    results: list[dict] = []
    payload = {"n_kv_heads": 2, "pool": "calibrated", "alpha": 0.1}
    summary = uptrain_lab.run(payload, results.append, lambda: any(r.get("kind") == "layer" for r in results))
    assert summary["steps"] == 0
    assert "weights" not in summary
    assert len([r for r in results if r.get("kind") == "layer"]) == 1


def test_the_recorded_conversions_are_what_the_study_starts_from(mha: TinyLM, rows: torch.Tensor) -> None:
    source = load_named("mha")
    document = json.loads(merged.FILE.read_text())
    about = json.loads(lab_view.STUDY_FILE.read_text())["about"]
    assert {key: document["about"][key] for key in about} == about
    study = lab_view.read_study()
    assert study is not None
    for k in (4, 2, 1):
        ours, pages = calibrated.shipped(mha, k), merged.weights(source, k)
        state = ours.state_dict()
        assert set(state) == set(pages.arrays)
        assert all(np.array_equal(state[name].numpy(), value) for name, value in pages.arrays.items())
        point = study.at(k, "calibrated", 0.0)
        assert point is not None
        # the recorded losses are of float32 weights; the shipped ones are float16
        assert point.mean == pytest.approx(document["conversions"][str(k)]["loss"], rel=1e-3)
        assert [len(layer.groups) for layer in merged.layers(k)] == [k] * 4
    same = about["corpus_sha256"] == load_corpus().sha256
    point = study.at(4, "calibrated", 0.0)
    assert point is not None
    value = train.mean_loss(calibrated.shipped(mha, 4), rows)
    assert value == pytest.approx(point.mean, rel=1e-4 if same else 0.1)


@long("the job's test merges with fewer windows")
def test_the_recorded_conversion_is_made_again(mha: TinyLM, rows: torch.Tensor) -> None:
    converted = uptraining.convert(mha, 4, "calibrated")
    document = json.loads(merged.FILE.read_text())
    same = document["about"]["corpus_sha256"] == load_corpus().sha256
    loss = document["conversions"]["4"]["loss"]
    # the fit's steps add up in another order on another machine
    assert train.mean_loss(converted, rows) == pytest.approx(loss, rel=0.01 if same else 0.1)


def test_all_heads_kept_by_calibration_is_the_same_model(mha: TinyLM) -> None:
    converted = uptraining.convert(mha, 8, "calibrated")
    state = mha.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in converted.state_dict().items())


def test_what_is_not_recorded_is_refused(mha: TinyLM, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiny calibrate --write"):
        calibrated.shipped(mha, 4, tmp_path)
    with pytest.raises(ValueError, match="n_kv_heads = 4"):
        merged.weights(load_named("mha"), 4, tmp_path / "calibrated.json")
    assert merged.layers(4, tmp_path / "calibrated.json") == ()
    assert merged.layers(3) == ()


def test_maps_and_picture_of_a_calibrated_merge(mha: TinyLM) -> None:
    source = load_named("mha")
    found = merged.first_maps(source, 2)["converted"]
    expected = np.sqrt(uptraining.attention_of(calibrated.shipped(mha, 2)))
    assert np.allclose(found, expected, atol=1e-4)
    layer = merged.layers(2)[3]
    slices = merged.slices(source, 3, "k", 2)
    assert (slices.groups, slices.kept) == (layer.groups, layer.keys)
    assert slices.merged.shape == (2, 16, 128)
    text = merged.finding(layer, "k")
    worst = int(np.argmin(layer.keys))
    assert f"head {worst} loses most ({100 * (1 - layer.keys[worst]):.1f} %)" in text
    figure = lab_pooling.plot_pooling(slices)
    notes = [note.text for note in figure.layout.annotations]
    assert [n for n in notes if n.isdigit()] == [str(h) for h in layer.order]
    assert [n for n in notes if n.endswith("%")] == [
        "> 99 %" if layer.keys[h] >= 0.995 else f"{100 * layer.keys[h]:.0f} %" for h in layer.order
    ]
