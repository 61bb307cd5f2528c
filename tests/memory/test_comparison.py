"""Columns read and written, rows equal to the memory module's numbers, families in order of release."""

import pytest

from attention.catalog import published
from attention.memory import comparison, footprint, history
from attention.memory.comparison import Column
from attention.memory.load import Load
from attention.spec import Kind

LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize(
    "column", [Column(LLAMA), Column(LLAMA, "fp8"), Column(LLAMA, "fp8", 4), Column(LLAMA, None, 8)]
)
def test_a_column_survives_its_text(column: Column) -> None:
    assert comparison.column(column.write()) == column


def test_a_column_is_written_as_short_as_it_can_be_and_read_by_label() -> None:
    assert Column(LLAMA).write() == LLAMA
    assert Column(LLAMA, None, 8).write() == f"{LLAMA}~~8"
    assert comparison.column("Llama 3.1 8B~q8_0").write() == f"{LLAMA}~q8_0"
    assert comparison.column(f"{LLAMA}~fp8~2").label == "Llama 3.1 8B · fp8 · TP 2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no-such-model-xyz", "unknown model"),
        (f"{LLAMA}~fp7", "kv_dtype must be one of"),
        (f"{LLAMA}~fp8~0", "tp must be between"),
        (f"{LLAMA}~fp8~-3", "tp must be between"),
        (f"{LLAMA}~fp8~٣", "tp must be between"),
        (f"{LLAMA}~fp8~1e3", "tp must be between"),
        ("../../etc/passwd", "unknown model"),
    ],
)
def test_a_column_that_cannot_be_read_says_why(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        comparison.column(text)


def test_a_row_has_the_memory_modules_numbers() -> None:
    (row,) = comparison.compare([Column(LLAMA, "fp8", 4)], Load(5003, 3))
    spec = published.model(LLAMA).spec
    assert spec is not None
    cache = footprint.cache_bytes(spec, 5003, 3, "fp8")
    assert (row.state_bytes, row.bytes_per_token, row.fixed_bytes) == (cache.state_bytes, 65_536, 0)
    assert row.of_own_mha == 0.25
    assert row.sharing == "GQA-8"
    # 5,003 tokens lie on 313 pages of 16; two of eight K/V heads on each of four ranks
    assert row.bytes_per_rank == 3 * 313 * 16 * 32 * 2 * 2 * 128
    assert row.bytes_per_token_per_billion == pytest.approx(65_536 / (row.n_parameters or 0) * 1e9)


def test_what_one_model_does_not_allow_leaves_the_others_alone() -> None:
    gemini, qwen, llama = comparison.compare(
        [Column("google/Gemini-1.0"), Column("Qwen/Qwen2-7B"), Column(LLAMA)], Load(1013), tp=8
    )
    assert gemini.state_bytes is None
    assert "unpublished" in (gemini.note or "")
    assert qwen.state_bytes is not None
    assert qwen.bytes_per_rank is None  # 28 query heads do not go onto 8 ranks
    assert "tp must divide" in (qwen.note or "")
    assert llama.note is None


def test_views_are_the_same_cache_divided() -> None:
    rows = comparison.compare([Column(LLAMA)], Load(1024, 3))
    contexts = (1, 1024, 4096)
    total, token, billion, mha = (comparison.curves(rows, contexts, view).curves[0].y for view in comparison.VIEWS)
    assert total == tuple(3 * 131_072.0 * c for c in contexts)
    assert token == (131_072.0,) * 3
    assert billion == pytest.approx([131_072 / 8.030261248] * 3)
    assert mha == (0.25,) * 3
    with pytest.raises(ValueError, match="view must be one of"):
        comparison.curves(rows, contexts, "nonsense")


def test_curves_mark_where_the_cache_equals_the_weights_and_name_who_is_missing() -> None:
    rows = comparison.compare([Column(LLAMA), Column("google/Gemini-1.0")], Load(1024))
    picture = comparison.curves(rows, (1024, 131_072))
    assert picture.curves[0].crossover == (rows[0].crossover, float(rows[0].weights_bytes or 0))
    assert picture.left_out == (rows[1].label,)
    assert comparison.curves(rows, (1024, 2048)).curves[0].crossover is None
    assert comparison.curves((), (1024,)).curves == ()


def test_kinds_in_words() -> None:
    spec = published.model("Gemma 3 27B").spec
    assert spec is not None
    assert comparison.kinds_in_words(spec) == "10 full + 52 sliding"


def test_a_family_by_release_counts_all_its_savings() -> None:
    models = history.lineage("Gemma", 32_768)
    assert [m.released for m in models] == sorted(m.released for m in models)
    by_label = {m.label: m for m in models}
    assert by_label["Gemma 7B"].share == 1.0
    assert by_label["Gemma 2B"].share == 0.125
    # heads halve it, and windows of 1,024 leave 10 of 62 layers at full length
    assert by_label["Gemma 3 27B"].share == pytest.approx(0.5 * (10 + 52 / 32) / 62)
    with pytest.raises(ValueError, match="family must be one of"):
        history.lineage("No such family", 1024)


def test_recurrent_layers_count_as_saved_attention() -> None:
    name = "Qwen3-Next 80B-A3B"
    share = {m.label: m.share for m in history.lineage("Qwen", 131_072)}[name]
    spec = published.model(name).spec
    assert spec is not None
    attending = sum(layer.kind is Kind.FULL for layer in spec.layers)
    # 2 of 16 heads in a quarter of the layers, and a little for the recurrent states
    assert attending / spec.n_layers * spec.n_kv_heads / spec.n_heads < share < 0.04


def test_families_with_history_hold_the_three_asked_for() -> None:
    assert {"Llama", "Qwen", "Gemma"} <= set(history.families_with_history())
