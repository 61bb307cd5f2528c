"""Guesses and problems of the pages With a cache, Why share, Heads, MHA–GQA–MQA, Latent and windows."""

from __future__ import annotations

from attention import sharing
from attention.catalog import published
from attention.find_out.parts import H100, FindOut, Problem, guess, spec_of, times
from attention.formats import cache_format, weight_bytes
from attention.lessons.code import Sizes
from attention.memory.allocation import allocate
from attention.memory.footprint import layer_bytes, sequence_bytes
from attention.memory.load import Load
from attention.memory.recompute import passes
from attention.memory.terms import shared_bytes
from attention.memory.waterfall import waterfall
from attention.serving.roofline import (
    attention_floor,
    batch_where_compute_binds,
    cache_share,
    compute_peak,
    decode_floor,
    known_parameters,
    traffic_crossover,
)
from attention.spec import Kind
from attention.units import binary_bytes, decimal, duration, significant

LLAMA, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
GEMMA, DEEPSEEK, GEMMA_3N = "google/gemma-3-27b-pt", "deepseek-ai/DeepSeek-V3", "google/gemma-3n-E4B"
BF16 = cache_format("bf16")


def with_cache() -> FindOut:
    n = 8192
    found, small = passes(Load(n)), passes(Load(1000))
    spec = spec_of(LLAMA)
    weights, kept = weight_bytes(spec.n_parameters or 0, "bf16"), sequence_bytes(spec, n)
    return FindOut(
        guess(
            f"A model writes {n:,} tokens one by one and keeps nothing. How many times as many tokens pass through it "
            "as with a cache?",
            found.without / found.with_cache,
            (2, 13, n),
            times,
            f"Without a cache the n-th token has all n pass through the model again, so {n:,} tokens take "
            f"1 + 2 + … + {n:,} = {found.without:,} passes in place of {n:,}.",
        ),
        (
            Problem(
                "How many tokens pass through the model to write 1,000 of them without a cache?",
                "1 + 2 + … + 1,000 = 1,000 · 1,001 / 2",
                f"{small.without:,}",
                1000 * 1001 / 2,
                small.without,
            ),
            Problem(
                "What does Llama 3.1 8B keep of one token in 16 bit, so that it need not pass again?",
                "2 (keys and values) · 32 layers · 8 K/V heads · 128 elements · 2 bytes",
                binary_bytes(sequence_bytes(spec, 1)),
                2 * 32 * 8 * 128 * 2,
                sequence_bytes(spec, 1),
            ),
            Problem(
                f"How many sequences of {n:,} tokens does it take until the KV cache of Llama 3.1 8B is as large as "
                "its weights in bf16?",
                f"{spec.n_parameters or 0:,} parameters · 2 bytes ÷ ({n:,} tokens · 131,072 bytes)",
                significant(weights / kept),
                (spec.n_parameters or 0) * 2 / (n * 131_072),
                weights / kept,
            ),
        ),
    )


def why() -> FindOut:
    spec, accelerator = spec_of(LLAMA), published.accelerator(H100)
    shares = {batch: cache_share(spec, Load(32_768, batch), "bf16") for batch in (1, 8, 32)}
    read = known_parameters(spec, "here").read
    step = decode_floor(spec, accelerator, 8192)
    peak = compute_peak(accelerator.flops_per_s, "bf16") or 0.0
    bandwidth = decimal(accelerator.bytes_per_s, "B/s")
    return FindOut(
        guess(
            "Llama 3.1 8B decodes for 32 users at once, 32,768 tokens each. What part of all bytes that a step reads "
            "is KV cache?",
            shares[32],
            (shares[1], shares[8], 1 / 32),
            lambda share: f"{significant(100 * share, 2)} %",
            f"Weights are read once for all users, each cache for its own user alone: {binary_bytes(2 * read)} of "
            f"weights beside {binary_bytes(32 * sequence_bytes(spec, 32_768))} of cache. For one user it is "
            f"{significant(100 * shares[1], 2)} %.",
        ),
        (
            Problem(
                f"What is the least time of one decode step of Llama 3.1 8B at 8,192 tokens on an {accelerator.label}, "
                "for one user?",
                f"({read:,} parameters read · 2 bytes + 8,192 · 131,072 bytes) ÷ {bandwidth}",
                duration(step.floor.time_s),
                (2 * read + 8192 * 131_072) / accelerator.bytes_per_s,
                step.floor.time_s,
            ),
            Problem(
                "From which context on does a step for 32 users read more cache than weights?",
                f"{read:,} · 2 bytes ÷ (32 · 131,072 bytes a token), and the next whole token",
                f"{traffic_crossover(spec, 'bf16', 'bf16', 32):,} tokens",
                2 * read // (32 * 131_072) + 1,
                traffic_crossover(spec, "bf16", "bf16", 32) or 0,
            ),
            Problem(
                f"From how many tokens at once does multiplying a weight take longer than reading it on an "
                f"{accelerator.label}? A prompt in prefill has as many, a decode step one for each user.",
                f"2 operations a weight and token, 2 bytes a weight: {decimal(peak, 'FLOP/s')} ÷ {bandwidth}, and the "
                "next whole one",
                f"{batch_where_compute_binds(accelerator):,} tokens",
                peak * 2 / 2 // accelerator.bytes_per_s + 1,
                batch_where_compute_binds(accelerator) or 0,
            ),
        ),
    )


def heads() -> FindOut:
    spec = spec_of(LLAMA)
    layer = spec.attention_layer
    assert layer is not None
    assert layer.key_value is not None
    full = sharing.layer_with(layer, None).key_value
    assert full is not None
    on_16 = allocate(spec, 8192, tp=16, page_tokens=1).allocated_bytes
    one = sequence_bytes(spec, 8192)
    return FindOut(
        guess(
            "32 query heads share 8 K/V heads. Which K/V head does query head 13 read, both counted from 0?",
            13 // layer.group_size,
            (13 % 8, 13 // 8, 13),
            lambda head: f"K/V head {head:.0f}",
            f"Neighbours share: query head i reads K/V head i ÷ {layer.group_size} without its remainder, because "
            f"{layer.n_heads} ÷ {layer.n_kv_heads} = {layer.group_size} query heads form a group.",
        ),
        (
            Problem(
                "How many elements does one token add to the cache of one layer with 8 K/V heads of size 128?",
                "2 (key and value) · 8 · 128",
                f"{layer.key_value.elements_per_position:,}",
                2 * 8 * 128,
                layer.key_value.elements_per_position,
            ),
            Problem(
                "And if each of the 32 query heads had a K/V head of its own (MHA)?",
                "2 · 32 · 128",
                f"{full.elements_per_position:,}",
                2 * 32 * 128,
                full.elements_per_position,
            ),
            Problem(
                "16 accelerators split the query heads of this layer among them. How much cache do they hold together, "
                f"if one sequence needs {binary_bytes(one)}?",
                f"each holds one whole K/V head, so 16 are held where there are 8: {binary_bytes(one)} · 16 / 8",
                binary_bytes(on_16),
                one * 16 / 8,
                on_16,
            ),
        ),
    )


def spectrum() -> FindOut:
    spec, accelerator = spec_of(LLAMA_70B), published.accelerator(H100)
    many, one = (Sizes(4096, 32, n, 128).n_parameters for n in (32, 1))
    floors = [attention_floor(64, n, 128, 131_072, 1, "bf16", accelerator.bytes_per_s, None).time_s for n in (64, 8, 1)]
    own, mqa = sequence_bytes(spec, 131_072), shared_bytes(spec, 1, 131_072, BF16)
    return FindOut(
        guess(
            "From MHA to MQA with 32 query heads the cache gets 32 times smaller. How many times smaller do the "
            "weights of attention's four projections get?",
            many / one,
            (1, 4, 32),
            times,
            "Sharing shrinks the key and value projections alone: queries and output, half of attention's weights, "
            f"stay as they are, so the four together get only {significant(many / one)} times smaller. The gain is "
            "the cache.",
        ),
        (
            Problem(
                "How large is the cache of Llama 3.1 70B at 131,072 tokens with its 8 K/V heads, in 16 bit?",
                "2 · 80 layers · 8 K/V heads · 128 · 131,072 tokens · 2 bytes",
                binary_bytes(own),
                2 * 80 * 8 * 128 * 131_072 * 2,
                own,
            ),
            Problem(
                "And with MQA?",
                "the same with 1 K/V head in place of 8",
                binary_bytes(mqa),
                2 * 80 * 1 * 128 * 131_072 * 2,
                mqa,
            ),
            Problem(
                f"What is the least time of one layer's attention there on an {accelerator.label}, with 8 K/V heads? "
                f"MHA takes {duration(floors[0])}, MQA {duration(floors[2])}.",
                f"2 · 128 · (8 · 131,072 + 64 for queries and output) · 2 bytes ÷ "
                f"{decimal(accelerator.bytes_per_s, 'B/s')}",
                duration(floors[1]),
                2 * 128 * (8 * 131_072 + 64) * 2 / accelerator.bytes_per_s,
                floors[1],
            ),
        ),
    )


def other_ways() -> FindOut:
    gemma, deepseek, shared = spec_of(GEMMA), spec_of(DEEPSEEK), spec_of(GEMMA_3N)
    steps = waterfall(gemma, Load(131_072))
    at = next(i for i, step in enumerate(steps) if step.name == "windows")
    factor = steps[at - 1].state_bytes / steps[at].state_bytes
    windowed = next(layer for layer, _ in gemma.groups if layer.kind is Kind.SLIDING)
    one = layer_bytes(windowed, 131_072, BF16)
    latent = shared_bytes(deepseek, None, 4096, BF16) / sequence_bytes(deepseek, 4096)
    readers = sum(n for layer, n in shared.groups if layer.kind is Kind.SHARED)
    return FindOut(
        guess(
            "52 of Gemma 3 27B's 62 layers look back at 1,024 tokens alone. How many times smaller does that make its "
            "cache at 131,072 tokens?",
            factor,
            (62 / 52, 2, 131_072 / 1024),
            times,
            "The windowed layers keep next to nothing at a long context, and the 10 full layers keep every token: what "
            f"is left is a little more than 10 of 62 layers, {significant(factor)} times less.",
        ),
        (
            Problem(
                "What does one windowed layer of Gemma 3 27B keep at 131,072 tokens?",
                "2 · 16 K/V heads · 128 · min(131,072, 1,024) tokens · 2 bytes",
                binary_bytes(one),
                2 * 16 * 128 * min(131_072, 1024) * 2,
                one,
            ),
            Problem(
                "DeepSeek-V3 keeps one vector of 512 + 64 elements a token and layer (MLA). How many times more would "
                "keys of 192 and values of 128 elements for each of its 128 heads take?",
                "128 · (192 + 128) ÷ (512 + 64)",
                f"{significant(latent)} times",
                128 * (192 + 128) / (512 + 64),
                latent,
            ),
            Problem(
                "The last 15 of Gemma 3n E4B's 35 layers read the cache of an earlier one. How many layers keep a "
                "cache?",
                "35 − 15",
                f"{shared.n_layers - readers}",
                35 - 15,
                shared.n_layers - readers,
            ),
        ),
    )
