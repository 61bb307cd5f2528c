"""The quiz: each question has a right answer, and not every answer is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attention.catalog import published
from attention.catalog.papers import table
from attention.find_out.pages import PAGES
from attention.lessons import quiz
from attention.lessons.code import Sizes
from attention.memory import comparison
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.oracle import accuracy
from attention.serving.fit import Setup
from attention.serving.plan import plan
from attention.sharing import divisors, with_n_kv_heads
from attention.spec import Kind, Layer, attention_layer, uniform_spec
from tests.published_specs import spec_of

LLAMA = spec_of("meta-llama/Llama-3.1-8B")


def judge_of(key: str) -> Callable[..., quiz.Verdict]:
    return next(q for q in quiz.QUESTIONS if q.key == key).judge


def test_every_page_with_a_quiz_has_questions() -> None:
    assert {q.page for q in quiz.QUESTIONS} == set(PAGES)
    assert len({q.key for q in quiz.QUESTIONS}) == len(quiz.QUESTIONS)
    assert quiz.questions("nowhere") == ()


def test_half_the_traffic() -> None:
    judge = judge_of("half")
    assert LLAMA.parameters is not None
    weights = 2 * LLAMA.parameters.read
    for context, batch in ((8192, 1), (131_072, 1), (8192, 14), (8192, 13)):
        cache = batch * sequence_bytes(LLAMA, context)
        verdict = judge(spec=LLAMA, load=Load(context, batch), weight_dtype="bf16")
        assert verdict.solved is (cache > weights), (context, batch)


def test_more_with_less() -> None:
    judge = judge_of("more_with_less")
    row = published.model("meta-llama/Llama-3.1-8B")
    assert row.n_parameters == quiz.REFERENCE_PARAMETERS
    assert sequence_bytes(LLAMA, 1) == quiz.REFERENCE_BYTES_PER_TOKEN
    assert not judge(spec=LLAMA).solved
    solved = [r.id for r in published.models() if r.spec and r.spec.n_parameters and judge(spec=r.spec).solved]
    assert "google/gemma-3-12b-it" in solved or any("gemma" in i.lower() for i in solved)
    assert not any("Llama-2" in i for i in solved)


def test_twice_into_80_gb() -> None:
    judge = judge_of("twice")
    spec = spec_of("meta-llama/Llama-3.1-70B")
    answers = [k for k in divisors(64) if judge(spec=spec, n_kv_heads=k).solved]
    # 80 layers · 2 · 4 heads · 128 · 2 bytes · 131,072 tokens, twice, is 42.9 GB; with 8 heads it is 85.9 GB
    assert answers == [4]
    assert not judge(spec=LLAMA, n_kv_heads=4).solved


def test_ninety_per_cent() -> None:
    judge = judge_of("ninety")
    assert [k for k in divisors(32) if judge(spec=LLAMA, n_kv_heads=k, load=Load(8192)).solved] == [2]
    saved = 1 - sequence_bytes(with_n_kv_heads(LLAMA, 4), 8192) / sequence_bytes(with_n_kv_heads(LLAMA, None), 8192)
    assert saved < 0.9


def test_a_million_passes_without_a_cache() -> None:
    judge = judge_of("million")
    # 1,024 · 1,025 / 2 = 524,800 and 2,048 · 2,049 / 2 = 2,098,176
    solved = [n for n in (512, 1024, 2048, 4096) if judge(load=Load(n)).solved]
    assert solved == [2048]
    assert "2,098,176 passes" in judge(load=Load(2048)).says


def test_where_windows_begin_to_halve_the_cache() -> None:
    judge = judge_of("windows")
    gemma = spec_of("google/gemma-3-27b-pt")
    solved = [n for n in (2**p for p in range(8, 18)) if judge(spec=gemma, load=Load(n)).solved]
    # 62 · 4,096 entries against 10 · 4,096 + 52 · 1,024; at 2,048 it is 1.72 times
    assert solved == [4096]
    assert judge(spec=spec_of("meta-llama/Llama-3.1-8B"), load=Load(4096)).says == "this model has no windows"


def test_code_questions() -> None:
    def sizes(k: int) -> Sizes:
        return Sizes(96, 16, k, 6)

    assert [k for k in divisors(16) if judge_of("projections")(sizes=sizes(k)).solved] == [8]
    assert [k for k in divisors(16) if judge_of("eighth")(sizes=sizes(k)).solved] == [2]


@pytest.mark.parametrize("role", ["induction", "previous"])
def test_best_head_is_in_exactly_one_place(role: str) -> None:
    from attention.tiny.head_roles import recorded_roles

    models = recorded_roles()["models"]
    places = [(m, layer) for m in models for layer in range(4)]
    solved = [p for p in places if judge_of(role)(roles=models, model=p[0], layer=p[1]).solved]
    assert len(solved) == 1


def test_a_group_of_sixteen() -> None:
    judge = judge_of("sixteen")
    layers = [attention_layer(32, n, 128) for n in divisors(32)]
    assert [layer.n_kv_heads for layer in layers if judge(layer=layer).solved] == [2]
    assert not judge(layer=Layer(Kind.NONE)).solved


def test_a_real_models_cache_outgrows_it() -> None:
    row = published.model("HuggingFaceTB/SmolLM2-135M")
    assert (row.n_parameters, sequence_bytes(spec_of(row.id), 1)) == (
        quiz.SMOLLM_PARAMETERS, quiz.SMOLLM_BYTES_PER_TOKEN,
    )  # fmt: skip
    judge = judge_of("outgrows")
    # 269 MB of weights are 11,677 tokens
    places = [(n, b) for n in (0, 512, 2048, 6144) for b in (1, 4, 16) if judge(context=n, batch=b).solved]
    assert places == [(2048, 16), (6144, 4), (6144, 16)]


def test_where_a_cache_outgrows_the_weights() -> None:
    judge = judge_of("outgrows_weights")
    assert [n for n in (2**p for p in range(8, 20)) if judge(spec=LLAMA, load=Load(n)).solved] == [131_072]
    assert not judge(spec=uniform_spec(1, 1, 1, 1), load=Load(1)).solved


def test_two_models_that_keep_the_same() -> None:
    def rows(*models: str) -> tuple[comparison.Compared, ...]:
        return comparison.compare([comparison.Column(model) for model in models], Load(1013))

    judge, llama = judge_of("equal"), "meta-llama/Llama-3.1-8B"
    assert judge(rows=rows(llama, "google/gemma-3-27b-pt", "mistralai/Mistral-7B-v0.3")).solved
    assert not judge(rows=rows(llama, "google/gemma-3-27b-pt")).solved


def test_64_users_on_as_few_as_do() -> None:
    judge = judge_of("users")

    def shown(count: int, batch: int) -> quiz.Verdict:
        setup = Setup(published.accelerator("h100-sxm"), count)
        return judge(plan=plan(LLAMA, setup, 8192, batch), count=count, context=8192, batch=batch)

    # one leaves room for 51 users
    assert [(n, b) for n in (1, 2, 4) for b in (50, 64) if shown(n, b).solved] == [(2, 64)]


def test_copies_need_more_ranks_than_heads() -> None:
    assert [n for n in (1, 8, 16, 32) if judge_of("copied")(spec=LLAMA, n_ranks=n).solved] == [16, 32]


def test_the_costliest_family() -> None:
    results = accuracy.load()
    families = {row.family for row in results.rules}
    solved = [f for f in families if judge_of("costliest")(results=results, family=f).solved]
    assert len(solved) == 1
    assert not judge_of("costliest")(results=results, family=None).solved


def test_cheapest_close_model() -> None:
    one = table("gqa", 1)
    rows = {m: (one.value(m, "T_infer (s)"), one.value(m, "Average")) for m, _ in one.rows}
    assert [m for m in rows if judge_of("cheapest")(rows=rows, picked=m).solved] == ["GQA-8-XXL"]
