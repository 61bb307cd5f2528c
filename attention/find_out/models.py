"""Guesses and problems of the pages on the code, the real model, the small models, and published results."""

from __future__ import annotations

import json
from math import exp, log

from attention.catalog import papers
from attention.find_out.parts import FindOut, Problem, chosen, guess, spec_of, times
from attention.formats import cache_format
from attention.lessons import code as lesson
from attention.lessons.code import Sizes
from attention.llm import recorded
from attention.memory.footprint import sequence_bytes
from attention.memory.terms import shared_bytes
from attention.spec import uniform_spec
from attention.tiny.config import DATA, MODELS
from attention.tiny.head_roles import recorded_roles
from attention.units import binary_bytes, significant

SMOLLM = "HuggingFaceTB/SmolLM2-135M"
_PROJECTIONS = {"q": "queries", "k": "keys", "v": "values", "o": "output"}


def code() -> FindOut:
    sizes = Sizes(4096, 32, 8, 128)
    lines = lesson.step_lines("MHA → MQA", sizes)
    changed = [name for name in _PROJECTIONS if any(f"self.{name}_proj = " in x.text for x in lines if x.change == "+")]
    right = " and ".join(_PROJECTIONS[name] for name in changed)
    held = Sizes(4096, 32, 8, 128, context=1000)
    return FindOut(
        chosen(
            "Which of attention's four projections get another shape from MHA to MQA?",
            ["queries and output", "keys and values", "all four", "none: only the cache changes"],
            right,
            f"Only {right} are projected to fewer heads; queries and output keep theirs, and the result has the same "
            "shape as before.",
        ),
        (
            Problem(
                "How many weights have the four projections of a layer with width 4,096, 32 query heads and 8 K/V "
                "heads of size 128?",
                "4,096 · 128 · (32 queries + 8 keys + 8 values + 32 output)",
                f"{sizes.n_parameters:,}",
                4096 * 128 * (32 + 8 + 8 + 32),
                sizes.n_parameters,
            ),
            Problem(
                "How many rows has the key projection of this layer?",
                "8 K/V heads · 128",
                f"{sizes.values()['kv_size']:,}",
                8 * 128,
                sizes.values()["kv_size"],
            ),
            Problem(
                "What does this layer's cache hold of 1,000 tokens, at 2 bytes an element?",
                "2 (keys and values) · 8 K/V heads · 1,000 tokens · 128 · 2 bytes",
                binary_bytes(held.cache_bytes()),
                2 * 8 * 1000 * 128 * 2,
                held.cache_bytes(),
            ),
        ),
    )


def real_model() -> FindOut:
    losses, spec = recorded.load()["losses"], spec_of(SMOLLM)
    own, merged = losses["gqa"], losses["mqa"]
    one, full = sequence_bytes(spec, 1), shared_bytes(spec, None, 1, cache_format("bf16"))
    return FindOut(
        guess(
            f"SmolLM2 135M has 3 K/V heads and a loss of {own:.2f} nats a token. Its heads are averaged into one, "
            "without any training. What is the loss now?",
            merged,
            (own, own * 1.1, own * 1.5),
            lambda loss: f"{loss:.2f} nats",
            f"Heads that were trained to differ have no useful mean: the loss goes from {own:.2f} to {merged:.2f} "
            f"nats. Copied for every query head they change nothing ({losses['mha']:.2f}), but take three times the "
            "room.",
        ),
        (
            Problem(
                "What does SmolLM2 135M keep of one token in 16 bit?",
                "2 · 30 layers · 3 K/V heads · 64 · 2 bytes",
                f"{one:,} bytes",
                2 * 30 * 3 * 64 * 2,
                one,
            ),
            Problem(
                "And with a K/V head for each of its 9 query heads (MHA)?",
                "2 · 30 · 9 · 64 · 2 bytes",
                f"{full:,} bytes",
                2 * 30 * 9 * 64 * 2,
                full,
            ),
            Problem(
                f"How many times less probable does the averaged model hold the right token, at {merged} nats in "
                f"place of {own}? (The geometric mean over tokens.)",
                f"e to the power of ({merged} − {own})",
                f"{significant(exp(merged - own))} times",
                exp(merged) / exp(own),
                exp(merged - own),
            ),
        ),
    )


def heads_learn() -> FindOut:
    losses = {name: _loss(name) for name in MODELS}
    best = min(losses, key=losses.__getitem__)
    labels = {name: "MHA" if n == 8 else "MQA" if n == 1 else f"GQA-{n}" for name, n in MODELS.items()}
    scores = recorded_roles()["models"]["gqa"]["roles"]["previous"]
    top = max(max(row) for row in scores["score"])
    tokens = {n: sequence_bytes(uniform_spec(4, 8, n, 16), 256) for n in (8, 2)}
    spread = max(losses.values()) - min(losses.values())
    return FindOut(
        guess(
            "Four models of under a million parameters were trained alike, with 8, 4, 2 and 1 K/V heads. How far apart "
            "are the best and the worst in loss on text they never saw?",
            spread,
            (0.5, 1.5, log(256)),
            lambda nats: f"{significant(nats, 2)} nats",
            f"Trained from the start, few K/V heads cost a small model little: {labels[best]} came out best with "
            f"{losses[best]:.3f} nats, and all four lie within {significant(spread, 2)} nats.",
        ),
        (
            Problem(
                "What is the loss of a model that holds all 256 bytes for equally probable?",
                "−ln(1 / 256)",
                f"{log(256):.3f} nats",
                -log(1 / 256),
                log(256),
            ),
            Problem(
                "What does the cache of the small model with 8 K/V heads of size 16 take at 256 bytes of text, in 16 "
                "bit?",
                "2 · 4 layers · 8 K/V heads · 16 · 256 · 2 bytes",
                binary_bytes(tokens[8]),
                2 * 4 * 8 * 16 * 256 * 2,
                tokens[8],
            ),
            Problem(
                f"The best head for the previous byte in GQA-2 puts {significant(100 * top)} % of its attention there; "
                f"attention spread evenly would put {significant(100 * scores['uniform'])} %. How many times chance?",
                f"{top} ÷ {scores['uniform']}",
                times(top / scores["uniform"]),
                top * (1 / scores["uniform"]),
                top / scores["uniform"],
            ),
        ),
    )


def _loss(name: str) -> float:
    return float(json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["validation"]["loss"])


def published() -> FindOut:
    one, two = papers.table("gqa", 1), papers.table("mqa", 2)
    seconds = {name: one.value(name, "T_infer (s)") for name, _ in one.rows}
    average = {name: one.value(name, "Average") for name, _ in one.rows}
    lost = {name: round(average["MHA-XXL"] - average[name], 3) for name in ("GQA-8-XXL", "MQA-XXL")}
    faster = {name: seconds["MHA-XXL"] / seconds[name] for name in lost}
    decode = two.value("multi-head", "Greedy dec") / two.value("multi-query", "Greedy dec")
    return FindOut(
        guess(
            f"T5 XXL as MQA is {significant(faster['MQA-XXL'])} times as fast as with MHA, which scores "
            f"{average['MHA-XXL']} on average. How many points does it lose?",
            lost["MQA-XXL"],
            (lost["GQA-8-XXL"], 2.5, 5.0),
            lambda points: f"{points:.1f} points",
            f"MQA loses {lost['MQA-XXL']:.1f} points and GQA with 8 K/V heads {lost['GQA-8-XXL']:.1f}, which is still "
            f"{significant(faster['GQA-8-XXL'])} times as fast as MHA: most of the speed at next to none of the loss.",
        ),
        (
            Problem(
                "How many times as fast as MHA-XXL is MQA-XXL in Table 1 of the GQA paper?",
                "1.51 s ÷ 0.24 s",
                times(faster["MQA-XXL"]),
                1.51 / 0.24,
                faster["MQA-XXL"],
            ),
            Problem(
                "And GQA-8-XXL?",
                "1.51 s ÷ 0.28 s",
                times(faster["GQA-8-XXL"]),
                1.51 / 0.28,
                faster["GQA-8-XXL"],
            ),
            Problem(
                "How many times less does the decoder take per token with multi-query attention, greedily, in Table 2 "
                "of the MQA paper?",
                "46 µs ÷ 3.8 µs",
                times(decode),
                46 / 3.8,
                decode,
            ),
        ),
    )
