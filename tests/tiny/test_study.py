"""The study: it can be resumed, it states its spread, and its words follow from its numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attention.tiny import findings, merged, results, uptraining
from attention.tiny import study as tiny_study
from attention.tiny.results import Point, Study
from viz import lab as lab_figures

ABOUT = {"original_steps": 2500, "corpus_sha256": "x"}


def cell(k: int, pool: str, seed: int, alpha: float, value: float) -> dict[str, Any]:
    return {"n_kv_heads": k, "pool": pool, "seed": seed, "alpha": alpha, "steps": 1, "loss": value, "cpu_s": 0.1}


def series(losses: dict[tuple[int, str], tuple[float, float]], spread: float = 0.01) -> Study:
    """A study with points at alpha 0 and 5 %."""
    points = {key: (Point(0.0, 3, start, spread), Point(0.05, 3, end, spread)) for key, (start, end) in losses.items()}
    return Study(ABOUT, {"mha": 1.0, "gqa": 1.1, "mqa": 1.2}, points)


PAPER = {
    (1, "mean"): (3.0, 1.3), (1, "first"): (3.5, 1.5), (1, "random"): (5.0, 1.9),
    (2, "mean"): (1.09, 1.2), (2, "first"): (2.0, 1.3), (2, "random"): (4.0, 1.5),
    (4, "mean"): (1.05, 1.1), (4, "first"): (1.5, 1.2), (4, "random"): (3.0, 1.4),
    (8, "mean"): (1.0, 1.02),
}  # fmt: skip


def test_mean_and_spread_over_seeds() -> None:
    cells = [cell(1, "mean", s, 0.05, v) for s, v in enumerate((1.0, 2.0, 6.0))] + [cell(1, "mean", 0, 0.0, 4.0)]
    first, second = tiny_study.summarise(cells)
    assert (first["alpha"], first["n_seeds"], first["mean"], first["spread"]) == (0.0, 1, 4.0, None)
    # deviations -2, -1, 3: (4 + 1 + 9) / 2 = 7
    assert (second["n_seeds"], second["mean"], second["spread"]) == (3, 3.0, pytest.approx(7**0.5))


def test_calibrated_starts_are_told_by_what_all_seeds_reached() -> None:
    start = {(k, "calibrated"): (Point(0.0, 3, 1.2, 0.0), Point(0.01, 3, 1.1, 0.1), Point(0.05, 1, 1.05, None))
             for k in (1, 2, 4)}  # fmt: skip
    found = replace(series(PAPER), series={**series(PAPER).series, **start})
    text = merged.from_there(found)
    assert "After alpha = 1 % the loss is 1.10 with 4 K/V heads (mean pooling after 5 %: 1.10), 1.10 with 2" in text
    assert "less training, and a lower loss in each. A single run goes on to 5 %: 1.05 with 4 K/V heads" in text
    assert "shakes" not in text
    whole = {key: (*points[:2], Point(0.05, 3, 1.3, 0.1)) for key, points in start.items()}
    text = merged.from_there(replace(found, series={**found.series, **whole}))
    assert "After alpha = 5 % the loss is 1.30 with 4 K/V heads" in text
    assert "With 4 K/V heads, 2 K/V heads and 1 K/V head that is more than just after conversion" in text
    assert "single run" not in text
    assert "no further" not in text
    short = {key: points[:2] for key, points in start.items()}
    assert merged.from_there(replace(found, series={**found.series, **short})).endswith("are measured no further.")
    assert merged.from_there(series(PAPER)) == "No uptraining from it is recorded."


def test_measurements_are_added_and_replaced_but_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    tiny_study.merge(path, ABOUT, {"mha": 1.0}, [cell(1, "mean", 0, 0.0, 4.0)])
    tiny_study.merge(path, ABOUT, {"mha": 1.0}, [cell(1, "mean", 1, 0.0, 5.0), cell(1, "mean", 0, 0.0, 4.5)])
    document = json.loads(path.read_text())
    assert [(c["seed"], c["loss"]) for c in document["cells"]] == [(0, 4.5), (1, 5.0)]
    assert document["points"][0]["mean"] == 4.75
    before = path.read_bytes()
    with pytest.raises(ValueError, match="corpus_sha256"):
        tiny_study.merge(path, {**ABOUT, "corpus_sha256": "y"}, {}, [])
    assert path.read_bytes() == before
    found = results.read_study(path)
    assert found is not None
    assert found.at(1, "mean", 0.0) == (0.0, 2, 4.75, pytest.approx(0.5**0.5 / 2))


def test_no_study_is_none(tmp_path: Path) -> None:
    assert results.read_study(tmp_path / "none.json") is None
    tiny_study.merge(tmp_path / "empty.json", ABOUT, {}, [])
    assert results.read_study(tmp_path / "empty.json") is None


def test_a_run_measures_each_alpha_once_and_goes_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, rows = uptraining.text()
    monkeypatch.setattr(uptraining, "text", lambda: (stream, rows[:1]))
    recipe = replace(uptraining.original(), batch=1)
    monkeypatch.setattr(uptraining, "original", lambda: recipe)
    monkeypatch.setattr(uptraining, "steps_of", lambda alpha: round(alpha * 20))
    threads = torch.get_num_threads()
    found: list[dict] = []
    try:
        tiny_study.run([3], found.append, alphas=(0.0, 0.1), n_kv_heads=(4, 8), threads=threads)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [(c["n_kv_heads"], c["pool"], c["alpha"], c["steps"]) for c in found] == [
        *((4, pool, 0.0, 0) for pool in ("mean", "first", "random")), (8, "mean", 0.0, 0),
        *((4, pool, 0.1, 2) for pool in ("mean", "first", "random")), (8, "mean", 0.1, 2),
    ]  # fmt: skip
    starts = {c["pool"]: c["loss"] for c in found if c["alpha"] == 0.0 and c["n_kv_heads"] == 4}
    ends = {c["pool"]: c["loss"] for c in found if c["alpha"] == 0.1 and c["n_kv_heads"] == 4}
    assert all(ends[pool] < starts[pool] for pool in starts)


def test_the_paper_s_findings_are_recognised() -> None:
    study = series(PAPER)
    assert "GQA with 4 K/V heads and 2 K/V heads can be used as converted, MQA cannot, as in the paper" in (
        results.at_conversion(study)
    )
    order = results.pooling_order(study)
    assert "1 K/V head: mean 1.30 < first 1.50 < random 1.90" in order
    assert order.endswith("holds for each.")
    assert "with 1 K/V head 85 % of the jump is won back, to 1.30 (trained so from scratch: 1.20)" in (
        results.recovery(study)
    )


def test_other_findings_are_told_as_they_are() -> None:
    losses = {key: (9 * start, end) if key[0] < 8 else (start, end) for key, (start, end) in PAPER.items()}
    losses[1, "first"] = (4.0, 1.2)
    study = series(losses)
    assert "so none can be used as converted" in results.at_conversion(study)
    order = results.pooling_order(study)
    assert "1 K/V head: first 1.20 < mean 1.30 < random 1.90" in order
    assert "holds at K = 2 and 4 alone" in order
    near = results.pooling_order(series(losses, spread=0.5))
    assert "mean 1.20 ≈ first 1.30" in near
    assert near.endswith("holds for none.")


def test_a_calibrated_start_is_told_beside_the_mean() -> None:
    study = series({**PAPER, (4, "calibrated"): (1.09, 1.08), (2, "calibrated"): (1.3, 1.2)})
    text = results.at_conversion(study)
    assert text.endswith(
        "merge lifts it to 1.09 with 4 K/V heads and 1.30 with 2 K/V heads: 4 K/V heads can be used as converted."
    )
    assert "too much to use as converted" in results.at_conversion(series({**PAPER, (4, "calibrated"): (1.3, 1.2)}))
    # it is measured less far; the paper's three say how far all were
    assert replace(study, series={**study.series, (1, "calibrated"): (Point(0.0, 3, 2.0, 0.0),)}).furthest == 0.05


def test_the_shipped_study_is_whole() -> None:
    document = json.loads(results.STUDY_FILE.read_text())
    assert document["points"] == tiny_study.summarise(document["cells"])
    keys = [tuple(c[k] for k in tiny_study.KEY) for c in document["cells"]]
    assert keys == sorted(set(keys))
    assert all(c["steps"] == round(c["alpha"] * document["about"]["original_steps"]) for c in document["cells"])
    assert document["about"]["rate_share"] == uptraining.RATE_SHARE
    assert document["about"]["eval_windows"] == uptraining.EVAL_WINDOWS
    study = results.read_study()
    assert study is not None
    kinds = {*tiny_study.variants(), *tiny_study.variants((1, 2, 4), ("calibrated",))}
    assert kinds == set(study.series)
    for text in (results.at_conversion(study), results.pooling_order(study), results.recovery(study)):
        assert "nan" not in text
        assert text.endswith(".")
    # a converted model starts above MHA and comes closer
    for (k, pool), points in study.series.items():
        if pool == "calibrated":
            assert points[0].mean < study.points(k, "mean")[0].mean / 2
        elif k < 8:
            assert points[0].mean > 1.5 * study.mha, (k, pool)
            assert points[-1].mean < points[0].mean, (k, pool)


def test_figures_hold_the_numbers() -> None:
    study = series(PAPER)
    lines = [
        lab_figures.Line(pool, [0, 5], [p.mean for p in study.points(1, pool)], "#0072B2", [0.1, 0.2])
        for pool in results.POOLINGS
    ]
    figure = lab_figures.plot_study(lines, [lab_figures.Level("MHA", 1.0, "#8A949E")])
    assert list(figure.data[1].y) == [3.0, 1.3]
    assert list(figure.data[1].error_y.array) == [0.1, 0.2]
    run = lab_figures.plot_run([(0, 3.0), (1, 2.0)], [(0, 3.1)], None, [], 5, "#0072B2")
    assert [list(trace.y) for trace in run.data] == [[3.0, 2.0], [3.1]]
    for empty in (lab_figures.plot_study([], []), lab_figures.plot_run([], [], None, [], 5, "#0072B2")):
        assert not empty.data
        assert empty.layout.title.text


def test_what_a_merge_costs_is_told_as_it_is() -> None:
    told = findings.cost_finding
    assert told(1.0, 3.0, 1.5, "training") == "The merge costs 2.00 nats per byte; training wins back 75 % of it"
    assert told(1.0, 1.25, 1.5, "training") == "The merge costs 0.25 nats per byte, and training adds 0.25"
    assert told(1.0, 3.0, None, "training") == "The merge costs 2.00 nats per byte"
    assert told(1.0, 1.0, 1.5, "training") == "Nothing is lost by the merge"
    assert told(None, 3.0, 1.5, "training") == told(1.0, None, 1.5, "training") == ""


def test_attention_that_moves_is_a_share() -> None:
    before = np.sqrt(np.array([[[1.0, 0.0], [0.25, 0.75]]]))
    after = np.sqrt(np.array([[[1.0, 0.0], [0.75, 0.25]]]))
    assert findings.moved_attention(before, after) == pytest.approx(0.25)
    assert findings.moved_attention(before, before) == 0
