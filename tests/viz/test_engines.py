"""The ledger's bars are drawn from its numbers."""

from attention.catalog.sources import resolve
from attention.engines.ledger import ledger
from attention.memory.load import Load
from viz import engines


def test_a_bar_for_every_definition_that_has_a_rule() -> None:
    entries = ledger(resolve("google/gemma-3-27b-pt"), Load(131072, 1, "bf16"), None, 30 * 2**30)
    bars = engines.ledger(entries)
    assert [bar.end for bar in bars] == [entry.n_bytes for entry in entries if entry.n_bytes is not None]
    assert [bar.own for bar in bars] == [True] + [False] * (len(bars) - 1)
    texts = {bar.label: bar.text for bar in bars}
    assert texts["vLLM"] == "14.2 GiB · 1.37×"
    assert texts["MLX"] == texts["the states, at least"] == "10.4 GiB"
    assert "as TensorRT-LLM prints it" not in texts
    assert engines.legend(entries).count("background:") == 5
    assert engines.ledger(()) == ()
