"""Loss against bytes of the cache: a trace for keys, values and both, names that do not cover each other."""

from __future__ import annotations

from attention.llm.format_costs import Cost, Costs
from viz.real_formats import plot_costs


def _cost(k: str, v: str, n_bytes: int, loss: float) -> Cost:
    return Cost(k, v, n_bytes, 0, 0, 0.01, 1.0, loss, loss - 3)


def test_keys_values_and_both_are_told_apart() -> None:
    rows = [
        _cost("bf16", "bf16", 23_040, 3.0), _cost("q8_0", "q8_0", 12_240, 3.01), _cost("fp8", "fp8", 11_520, 3.02),
        _cost("q4_0", "bf16", 14_760, 3.2), _cost("bf16", "q4_0", 14_760, 3.1),
    ]  # fmt: skip
    figure = plot_costs(Costs(reference_loss=2.99, tokens=7, rows=rows))
    assert [trace.name for trace in figure.data] == [
        "keys and values", "keys alone, values in bf16", "values alone, keys in bf16"
    ]  # fmt: skip
    both = figure.data[0]
    assert list(both.text) == ["bf16", "q8_0", "fp8"]
    # q8_0 stands just below fp8
    assert list(both.textposition) == ["top center", "middle left", "top center"]
    assert list(figure.data[1].x) == [14_760]
    assert figure.layout.yaxis.title.text.startswith("Loss")


def test_nothing_known_is_an_empty_figure_with_its_title() -> None:
    assert "Loss by format" in plot_costs(Costs()).layout.title.text
