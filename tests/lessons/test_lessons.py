"""The lessons' numbers: decode found, spectrum, quiz, typed texts, lesson files, figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attention.catalog import published
from attention.catalog.papers import table
from attention.find_out.pages import PAGES
from attention.lessons import quiz
from attention.lessons.code import Sizes
from attention.memory import comparison
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.model_points import model_points
from attention.oracle import accuracy
from attention.serving.decode import (
    FRAMES,
    Ratios,
    contexts,
    trace,
)
from attention.serving.fit import Setup
from attention.serving.plan import plan
from attention.serving.roofline import decode_floor
from attention.serving.spectrum import attention_parameters, nearest_published, spectrum
from attention.sharing import divisors, family, with_n_kv_heads
from attention.spec import Kind, Layer, ModelSpec, attention_layer, uniform_spec
from attention.tiny.numpy_forward import Maps
from attention.tiny.text import (
    EXAMPLES,
    MAX_BYTES,
    Cleaned,
    clean,
    glyphs,
    held_out_sample,
    pack,
    predictions,
)
from tests.published_specs import spec_of
from ui import lesson
from viz.code import plot_trap
from viz.heads_learn import (
    Curve,
    RoleTable,
    plot_roles,
    plot_similarity,
    plot_training,
)
from viz.published import plot_models
from viz.spectrum import Costs, plot_costs, plot_quality, plot_token_cost
from viz.why import Traffic, plot_traffic

LLAMA = spec_of("meta-llama/Llama-3.1-8B")
H100 = published.accelerator("h100-sxm")


class TestTrace:
    def test_frames_are_the_roofline_s(self) -> None:
        found = trace(LLAMA, H100, Load(8191, 3))
        assert found.frames[0].context == 1
        assert found.frames[-1].context == 8191
        assert len(found.frames) == FRAMES
        last = decode_floor(LLAMA, H100, 8191, 3)
        frame = found.frames[-1]
        assert (frame.weight_bytes, frame.cache_bytes) == (last.weight_bytes, last.cache_bytes)
        assert (frame.flops, frame.time_s) == (last.floor.flops, last.floor.time_s)
        assert frame.moved_bytes == frame.weight_bytes + frame.cache_bytes
        assert frame.cache_bytes == 3 * sequence_bytes(LLAMA, 8191)

    def test_crossover_is_where_the_cache_passes_the_weights(self) -> None:
        found = trace(LLAMA, H100, Load(16_384, 37))
        assert found.crossover is not None
        assert found.crossover_frame is not None
        at, before = found.frames[found.crossover_frame], found.frames[found.crossover_frame - 1]
        assert at.cache_bytes > at.weight_bytes
        assert before.context < found.crossover <= at.context
        weights = at.weight_bytes
        assert 37 * sequence_bytes(LLAMA, found.crossover) > weights
        assert 37 * sequence_bytes(LLAMA, found.crossover - 1) <= weights

    def test_short_decodes_have_no_crossing_in_view(self) -> None:
        found = trace(LLAMA, H100, Load(5))
        assert [f.context for f in found.frames] == [1, 2, 3, 4, 5]
        assert found.crossover_frame is None
        assert found.crossover is not None
        assert trace(LLAMA, H100, Load(1)).frames[0].context == 1

    def test_contexts_rise_evenly(self) -> None:
        steps = np.diff(contexts(100_003))
        assert steps.min() > 0
        assert steps.max() - steps.min() <= 1

    def test_unknown_parameters_are_said(self) -> None:
        with pytest.raises(ValueError, match="n_parameters"):
            trace(uniform_spec(2, 4, 2, 8), H100, Load(10))

    def test_ratios_of_the_paper(self) -> None:
        ratios = Ratios(n=1024, d=512, h=8, b=4)
        assert ratios.multi_head == 2.25
        assert ratios.multi_query == pytest.approx(1 / 512 + 0.25 + 0.25)
        assert ratios.grouped(1) == ratios.multi_query
        assert ratios.grouped(8) == pytest.approx(ratios.multi_head + 1 / 512)


class TestSpectrum:
    def test_a_model_whose_layers_share_in_two_ways_stands_at_its_own_place(self) -> None:
        """Found by a walk: half the cache of Baichuan-M1 was shown, whose windowed layers have other K/V heads."""
        spec = ModelSpec("m", (attention_layer(12, 2, 8), attention_layer(12, 2, 8), attention_layer(12, 4, 8, 5)),
                         "bf16", hidden_size=7)  # fmt: skip
        points = {p.n_kv_heads: p for p in spectrum(spec, H100, Load(100, 3))}
        assert points[2].cache_bytes == 3 * sequence_bytes(spec, 100)
        assert points[2].attention_parameters == 7 * 16 * (3 * 12 + 2 + 2 + 4)
        assert points[4].cache_bytes == 3 * sequence_bytes(with_n_kv_heads(spec, 4), 100)
        assert points[4].attention_parameters == 7 * 16 * 3 * (12 + 4)

    def test_every_divisor_has_its_point(self) -> None:
        points = spectrum(LLAMA, H100, Load(4099, 3))
        assert [p.n_kv_heads for p in points] == [1, 2, 4, 8, 16, 32]
        for p in points:
            assert p.cache_bytes == 32 * 2 * p.n_kv_heads * 128 * 4099 * 2 * 3
            assert p.attention_parameters == 32 * 4096 * 2 * 128 * (32 + p.n_kv_heads)
        assert [p.floor_s for p in points] == sorted(p.floor_s or 0.0 for p in points)

    def test_own_number_gives_own_weights(self) -> None:
        # the published checkpoint's q, k, v and o projections
        assert attention_parameters(LLAMA, 8) == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
        assert attention_parameters(uniform_spec(2, 4, 2, 8), 2) is None

    def test_a_model_without_attention_is_refused(self) -> None:
        from attention.spec import FixedState, Kind, Layer, ModelSpec, Role

        spec = ModelSpec("mamba", (Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 17, "fp32"),)),) * 3)
        with pytest.raises(ValueError, match="no attention layer"):
            spectrum(spec, H100, Load(11))
        assert family(spec) == "none"

    def test_published_neighbour(self) -> None:
        assert [nearest_published(32, k) for k in (1, 2, 16, 32)] == ["MQA-XXL", "GQA-8-XXL", "GQA-8-XXL", "MHA-XXL"]

    def test_points_of_the_catalogue(self) -> None:
        found = {p.id: p for p in model_points(8192)}
        llama = found["meta-llama/Llama-3.1-8B"]
        assert (llama.sharing, llama.cache_bytes) == ("GQA", 2**30)
        assert {"MHA", "GQA", "MQA", "MLA"} <= {p.sharing for p in found.values()}


class TestQuiz:
    """Each question can be answered, and is not answered by everything."""

    def judge(self, key: str) -> Callable[..., quiz.Verdict]:
        return next(q for q in quiz.QUESTIONS if q.key == key).judge

    def test_every_page_with_a_quiz_has_questions(self) -> None:
        assert {q.page for q in quiz.QUESTIONS} == set(PAGES)
        assert len({q.key for q in quiz.QUESTIONS}) == len(quiz.QUESTIONS)
        assert quiz.questions("nowhere") == ()

    def test_half_the_traffic(self) -> None:
        judge = self.judge("half")
        assert LLAMA.parameters is not None
        weights = 2 * LLAMA.parameters.read
        for context, batch in ((8192, 1), (131_072, 1), (8192, 14), (8192, 13)):
            cache = batch * sequence_bytes(LLAMA, context)
            verdict = judge(spec=LLAMA, load=Load(context, batch), weight_dtype="bf16")
            assert verdict.solved is (cache > weights), (context, batch)

    def test_more_with_less(self) -> None:
        judge = self.judge("more_with_less")
        row = published.model("meta-llama/Llama-3.1-8B")
        assert row.n_parameters == quiz.REFERENCE_PARAMETERS
        assert sequence_bytes(LLAMA, 1) == quiz.REFERENCE_BYTES_PER_TOKEN
        assert not judge(spec=LLAMA).solved
        solved = [r.id for r in published.models() if r.spec and r.spec.n_parameters and judge(spec=r.spec).solved]
        assert "google/gemma-3-12b-it" in solved or any("gemma" in i.lower() for i in solved)
        assert not any("Llama-2" in i for i in solved)

    def test_twice_into_80_gb(self) -> None:
        judge = self.judge("twice")
        spec = spec_of("meta-llama/Llama-3.1-70B")
        answers = [k for k in divisors(64) if judge(spec=spec, n_kv_heads=k).solved]
        # 80 layers · 2 · 4 heads · 128 · 2 bytes · 131,072 tokens, twice, is 42.9 GB; with 8 heads it is 85.9 GB
        assert answers == [4]
        assert not judge(spec=LLAMA, n_kv_heads=4).solved

    def test_ninety_per_cent(self) -> None:
        judge = self.judge("ninety")
        assert [k for k in divisors(32) if judge(spec=LLAMA, n_kv_heads=k, load=Load(8192)).solved] == [2]
        saved = 1 - sequence_bytes(with_n_kv_heads(LLAMA, 4), 8192) / sequence_bytes(with_n_kv_heads(LLAMA, None), 8192)
        assert saved < 0.9

    def test_a_million_passes_without_a_cache(self) -> None:
        judge = self.judge("million")
        # 1,024 · 1,025 / 2 = 524,800 and 2,048 · 2,049 / 2 = 2,098,176
        solved = [n for n in (512, 1024, 2048, 4096) if judge(load=Load(n)).solved]
        assert solved == [2048]
        assert "2,098,176 passes" in judge(load=Load(2048)).says

    def test_where_windows_begin_to_halve_the_cache(self) -> None:
        judge = self.judge("windows")
        gemma = spec_of("google/gemma-3-27b-pt")
        solved = [n for n in (2**p for p in range(8, 18)) if judge(spec=gemma, load=Load(n)).solved]
        # 62 · 4,096 entries against 10 · 4,096 + 52 · 1,024; at 2,048 it is 1.72 times
        assert solved == [4096]
        assert judge(spec=spec_of("meta-llama/Llama-3.1-8B"), load=Load(4096)).says == "this model has no windows"

    def test_code_questions(self) -> None:
        def sizes(k: int) -> Sizes:
            return Sizes(96, 16, k, 6)

        assert [k for k in divisors(16) if self.judge("projections")(sizes=sizes(k)).solved] == [8]
        assert [k for k in divisors(16) if self.judge("eighth")(sizes=sizes(k)).solved] == [2]

    @pytest.mark.parametrize("role", ["induction", "previous"])
    def test_best_head_is_in_exactly_one_place(self, role: str) -> None:
        from attention.tiny.head_roles import recorded_roles

        models = recorded_roles()["models"]
        places = [(m, layer) for m in models for layer in range(4)]
        solved = [p for p in places if self.judge(role)(roles=models, model=p[0], layer=p[1]).solved]
        assert len(solved) == 1

    def test_a_group_of_sixteen(self) -> None:
        judge = self.judge("sixteen")
        layers = [attention_layer(32, n, 128) for n in divisors(32)]
        assert [layer.n_kv_heads for layer in layers if judge(layer=layer).solved] == [2]
        assert not judge(layer=Layer(Kind.NONE)).solved

    def test_a_real_models_cache_outgrows_it(self) -> None:
        row = published.model("HuggingFaceTB/SmolLM2-135M")
        assert (row.n_parameters, sequence_bytes(spec_of(row.id), 1)) == (
            quiz.SMOLLM_PARAMETERS, quiz.SMOLLM_BYTES_PER_TOKEN,
        )  # fmt: skip
        judge = self.judge("outgrows")
        # 269 MB of weights are 11,677 tokens
        places = [(n, b) for n in (0, 512, 2048, 6144) for b in (1, 4, 16) if judge(context=n, batch=b).solved]
        assert places == [(2048, 16), (6144, 4), (6144, 16)]

    def test_where_a_cache_outgrows_the_weights(self) -> None:
        judge = self.judge("outgrows_weights")
        assert [n for n in (2**p for p in range(8, 20)) if judge(spec=LLAMA, load=Load(n)).solved] == [131_072]
        assert not judge(spec=uniform_spec(1, 1, 1, 1), load=Load(1)).solved

    def test_two_models_that_keep_the_same(self) -> None:
        def rows(*models: str) -> tuple[comparison.Compared, ...]:
            return comparison.compare([comparison.Column(model) for model in models], Load(1013))

        judge, llama = self.judge("equal"), "meta-llama/Llama-3.1-8B"
        assert judge(rows=rows(llama, "google/gemma-3-27b-pt", "mistralai/Mistral-7B-v0.3")).solved
        assert not judge(rows=rows(llama, "google/gemma-3-27b-pt")).solved

    def test_64_users_on_as_few_as_do(self) -> None:
        judge = self.judge("users")

        def shown(count: int, batch: int) -> quiz.Verdict:
            setup = Setup(published.accelerator("h100-sxm"), count)
            return judge(plan=plan(LLAMA, setup, 8192, batch), count=count, context=8192, batch=batch)

        # one leaves room for 51 users
        assert [(n, b) for n in (1, 2, 4) for b in (50, 64) if shown(n, b).solved] == [(2, 64)]

    def test_copies_need_more_ranks_than_heads(self) -> None:
        assert [n for n in (1, 8, 16, 32) if self.judge("copied")(spec=LLAMA, n_ranks=n).solved] == [16, 32]

    def test_the_costliest_family(self) -> None:
        results = accuracy.load()
        families = {row.family for row in results.rules}
        solved = [f for f in families if self.judge("costliest")(results=results, family=f).solved]
        assert len(solved) == 1
        assert not self.judge("costliest")(results=results, family=None).solved

    def test_cheapest_close_model(self) -> None:
        one = table("gqa", 1)
        rows = {m: (one.value(m, "T_infer (s)"), one.value(m, "Average")) for m, _ in one.rows}
        assert [m for m in rows if self.judge("cheapest")(rows=rows, picked=m).solved] == ["GQA-8-XXL"]


class TestTypedText:
    def test_examples_fit_and_are_kept_as_written(self) -> None:
        for name, text in EXAMPLES.items():
            assert clean(text) == Cleaned(text.encode()), name
            compile(text.replace("return max", "_ = max"), name, "exec")

    @pytest.mark.parametrize("typed", ["", "   ", "\n\t\n", "\x00\x07\x1b", "\ud800" * 0])
    def test_nothing_is_refused_with_a_word(self, typed: str) -> None:
        with pytest.raises(ValueError, match="empty"):
            clean(typed)

    def test_far_too_much_is_refused_and_a_little_too_much_is_cut(self) -> None:
        with pytest.raises(ValueError, match="10,000 characters"):
            clean("x" * 10_000)
        cut = clean("y" * 300)
        assert cut.text == b"y" * MAX_BYTES
        assert "only the first 256 of 300 bytes" in cut.note

    def test_characters_stay_whole(self) -> None:
        cut = clean("🙂" * 100 + "é")
        assert cut.text == ("🙂" * 64).encode()
        assert clean("a" + "🙂" * 100).text.decode() == "a" + "🙂" * 63

    def test_control_characters_and_broken_text(self) -> None:
        assert clean("a\x00b\x1b[31mc\r\nd\te").text == b"ab[31mc\nd\te"
        assert clean("bad \ud800 half").text == b"bad ? half"
        assert clean("\ufffd\ufffd x").text == "\ufffd\ufffd x".encode()

    def test_any_byte_has_a_glyph(self) -> None:
        found = glyphs(bytes(range(256)))
        assert all(found)
        assert found[10] == "↵"
        assert found[65] == "A"
        assert found[200] == "c8"

    def test_held_out_sample_is_held_out(self) -> None:
        from attention.tiny.corpus import load_corpus

        name, text = held_out_sample()
        file = next(f for f in load_corpus().held_out if f.name == name)
        assert text in file.text
        assert len(text) == MAX_BYTES

    def test_packing_keeps_the_lower_triangle_in_order(self) -> None:
        import base64

        attention = np.zeros((2, 3, 3), dtype=np.float32)
        attention[0, 2, 1], attention[1, 1, 1] = 1.0, 0.25
        raw = np.frombuffer(base64.b64decode(pack(attention)), dtype=np.uint8).reshape(2, 6)
        assert raw.tolist() == [[0, 0, 0, 0, 255, 0], [0, 0, 128, 0, 0, 0]]

    def test_predictions_and_loss_by_hand(self) -> None:
        logs = np.full((2, 256), np.log(0.1 / 254))
        logs[0, ord("b")], logs[0, ord("x")] = np.log(0.3), np.log(0.6)
        found = predictions(Maps(np.zeros((1, 1, 2, 2)), logs), b"ab", 2)
        assert found[0] == {"top": [["“x”", 0.6], ["“b”", 0.3]], "next": ["“b”", 0.3]}
        assert found[1]["next"] is None


class TestText:
    def test_placeholders_are_filled_and_missing_ones_found(self) -> None:
        shown = lesson.text("code_trap", n_heads=6, n_kv_heads=3, group_size=2, head_dim=7)
        assert "k.repeat_interleave(2, dim=1)" in shown
        assert "[[" not in shown
        with pytest.raises(KeyError):
            lesson.text("code_trap", n_heads=6)

    def test_every_lesson_is_short_and_used(self) -> None:
        root = Path(__file__).parents[2]
        code = "".join(p.read_text() for folder in ("pages", "ui") for p in (root / folder).rglob("*.py"))
        code += (root / "app.py").read_text()
        mine = ("why_", "spectrum", "published_", "code_", "learn_")
        files = [f for f in lesson.LESSONS.glob("*.md") if f.name.startswith(mine)]
        assert len(files) >= 12
        for file in files:
            text = file.read_text()
            assert len(re.sub(r"\$\$.*?\$\$", "", text, flags=re.S).split()) < 330, f"{file.name} is too long"
            assert f'"{file.stem}"' in code, f"{file.name} is shown nowhere"


class TestFigures:
    def test_empty_input_gives_titled_figures(self) -> None:
        figures = [
            plot_traffic(Traffic([], [], [], None)),
            plot_costs(Costs([], [], [], [], [], {}, 1, {})),
            plot_quality([]),
            plot_token_cost([]),
            plot_trap([]),
            plot_roles(RoleTable([], [], [])),
            plot_similarity([], 1),
            plot_training([]),
            plot_models([], 7),
        ]
        for figure in figures:
            assert figure.layout.title.text
            assert not figure.data

    def test_traffic_marks_the_crossing_inside_the_figure_only(self) -> None:
        inside = plot_traffic(Traffic([1, 100], [50, 50], [1, 100], 51))
        outside = plot_traffic(Traffic([1, 100], [50, 50], [0, 10], 501))
        assert len(inside.layout.shapes) == 1
        assert len(outside.layout.shapes) == 0
        assert list(inside.data[1].y) == [1, 100]

    def test_costs_are_per_cent_of_mha(self) -> None:
        texts = {"KV cache": ["a", "b"], "attention's parameters": ["a", "b"], "time per step, at least": ["a", "b"]}
        texts["time measured here"] = ["", "b"]
        figure = plot_costs(Costs([1, 5], ["1", "5"], [0.2, 1], [None, None], [0.3, 1], {5: 1.0}, 5, texts))
        lines = {trace.name: list(trace.y) for trace in figure.data}
        assert lines == {"KV cache": [20, 100], "time per step, at least": [30, 100], "time measured here": [None, 100]}
        assert figure.layout.shapes[0].x0 == pytest.approx(0.6)

    def test_likeness_frames_the_heads_that_share(self) -> None:
        figure = plot_similarity([[1, 0.5, 0.3, 0.2]] * 4, 2)
        assert [(s.x0, s.x1) for s in figure.layout.shapes] == [(-0.5, 1.5), (1.5, 3.5)]
        assert figure.data[0].z[0][0] is None

    def test_roles_say_how_many_times_chance(self) -> None:
        figure = plot_roles(RoleTable(["bracket"], [[0.4, 0.02]], [[0.1, 0.02]]))
        assert list(figure.data[0].text[0]) == ["40 %<br>4.0×", "2 %<br>1.0×"]

    def test_training_has_a_line_per_model(self) -> None:
        figure = plot_training([Curve("MHA", [10, 20], [2.0, 1.5]), Curve("GQA-2", [10, 20], [2.1, 1.6])])
        assert [trace.name for trace in figure.data] == ["MHA", "GQA-2"]
        assert len({trace.line.color for trace in figure.data}) == 2
