"""The Lab's page with a calibrated merge: what is kept of the heads, and the real model's numbers."""

from __future__ import annotations

from attention.llm import uptraining
from attention.tiny import merged, results
from tests.pages.test_pages import open_page


def test_a_calibrated_merge_and_the_real_model_are_told() -> None:
    at = open_page("pages/lab.py", lab_pool="calibrated", lab_kv="2", lab_layer="3", lab_matrix="v", lab_alpha="5")
    assert not at.exception
    assert not at.error
    numbers = {metric.label: metric.value for metric in at.metric}
    study, real = results.read_study(), uptraining.read()
    assert study is not None
    assert real is not None
    points = study.points(2, "calibrated")
    assert numbers["Just converted"] == f"{points[0].mean:.2f}"
    furthest = max(point for point in points if point.alpha <= 0.05)
    assert numbers[f"After alpha = {100 * furthest.alpha:g} %, recorded"] == f"{furthest.mean:.2f}"
    assert numbers["Calibrated, untrained"] == f"{real.converted['calibrated']:.2f}"
    assert numbers["Mean, untrained"] == f"{real.converted['mean']:.2f}"
    text = "\n".join(item.value for item in at.markdown)
    assert merged.finding(merged.layers(2)[2], "v") in text
    assert real.about["command"] in text
    assert "near domain" in text


def test_with_all_heads_kept_nothing_is_merged() -> None:
    at = open_page("pages/lab.py", lab_pool="calibrated", lab_kv="8")
    assert not at.exception
    assert not at.error
    assert any("nothing to merge" in item.value for item in at.markdown)
