"""Guesses and problems of the pages that compute: KV cache, Compare, What fits, Engines, Accuracy."""

from __future__ import annotations

from attention.catalog import published
from attention.find_out.parts import H100, FindOut, Problem, guess, spec_of, times
from attention.memory.allocation import PAGE_TOKENS, allocate
from attention.memory.footprint import context_where, crossover, sequence_bytes
from attention.oracle.wrong_rules import rule_bytes
from attention.serving import fit as fitting
from attention.serving.fit import Setup
from attention.serving.prefill import prefill_floor, vocabulary_of
from attention.units import binary_bytes, decimal, duration, significant

LLAMA, LLAMA_2, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-70B"
GEMMA, DEEPSEEK, QWEN = "google/gemma-3-27b-pt", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-4B"


def kv_cache() -> FindOut:
    llama, deepseek, old = spec_of(LLAMA), spec_of(DEEPSEEK), spec_of(LLAMA_2)
    share = sequence_bytes(deepseek, 1) / sequence_bytes(old, 1)
    sizes = (deepseek.n_parameters or 0) / (old.n_parameters or 1)
    pages = allocate(llama, 8193, page_tokens=PAGE_TOKENS).allocated_bytes
    return FindOut(
        guess(
            f"DeepSeek-V3 has {significant(sizes)} times the parameters of Llama 2 7B. How large is what it keeps of a "
            "token, beside Llama 2 7B's?",
            share,
            (1.0, 7.5, sizes),
            times,
            f"What is kept follows from layers, K/V heads and head size, not from parameters: "
            f"{binary_bytes(sequence_bytes(deepseek, 1))} a token against {binary_bytes(sequence_bytes(old, 1))}.",
        ),
        (
            Problem(
                "How large is the cache of Llama 3.1 8B at 8,192 tokens in bf16?",
                "2 · 32 layers · 8 K/V heads · 128 · 8,192 tokens · 2 bytes",
                binary_bytes(sequence_bytes(llama, 8192)),
                2 * 32 * 8 * 128 * 8192 * 2,
                sequence_bytes(llama, 8192),
            ),
            Problem(
                "And in fp8?",
                "the same at 1 byte an element",
                binary_bytes(sequence_bytes(llama, 8192, "fp8")),
                2 * 32 * 8 * 128 * 8192 * 1,
                sequence_bytes(llama, 8192, "fp8"),
            ),
            Problem(
                f"An engine gives out pages of {PAGE_TOKENS} tokens. What does it set aside for 8,193 tokens in bf16?",
                "513 pages · 16 tokens · 131,072 bytes",
                f"{pages:,} bytes",
                513 * 16 * 131_072,
                pages,
            ),
        ),
    )


def compare() -> FindOut:
    old, large, llama = spec_of(LLAMA_2), spec_of(LLAMA_70B), spec_of(LLAMA)
    a, b = sequence_bytes(old, 1), sequence_bytes(large, 1)
    target = sequence_bytes(old, 4096)
    equals = crossover(llama, 2 * (llama.n_parameters or 0)) or 0
    return FindOut(
        guess(
            "Llama 2 7B (2023, MHA) beside Llama 3.1 70B (2024, GQA-8), at the same context: how large is the older "
            "one's cache, as a multiple of the newer one's?",
            a / b,
            (0.1, 0.4, 1.0),
            times,
            f"A model ten times smaller can need the larger cache: 32 layers with 32 K/V heads keep {binary_bytes(a)} "
            f"a token, 80 layers with 8 keep {binary_bytes(b)}.",
        ),
        (
            Problem(
                "What does Llama 3.1 70B keep of one token in bf16?",
                "2 · 80 layers · 8 K/V heads · 128 · 2 bytes",
                binary_bytes(b),
                2 * 80 * 8 * 128 * 2,
                b,
            ),
            Problem(
                "Llama 2 7B's cache has some size at 4,096 tokens in bf16. At which context has it that size in fp8?",
                "half the bytes an element, so twice the tokens: 4,096 · 2",
                f"{context_where(old, target, 'fp8'):,} tokens",
                4096 * 2,
                context_where(old, target, "fp8") or 0,
            ),
            Problem(
                "From which context on is one sequence's cache of Llama 3.1 8B larger than its weights, both in bf16?",
                f"{llama.n_parameters or 0:,} parameters · 2 bytes ÷ 131,072 bytes a token, and the next whole token",
                f"{equals:,} tokens",
                2 * (llama.n_parameters or 0) // 131_072 + 1,
                equals,
            ),
        ),
    )


def fit() -> FindOut:
    accelerator, spec, large = published.accelerator(H100), spec_of(LLAMA), spec_of(LLAMA_70B)
    setup = Setup(accelerator)
    fewest = fitting.smallest_count(large, setup, 8192, 1) or 0
    two = fitting.budget(large, Setup(accelerator, 2))
    room = fitting.budget(spec, setup).state_room_bytes
    most = fitting.largest_batch(spec, setup, 8192)
    words = vocabulary_of(published.model(LLAMA).config)
    prompt = prefill_floor(spec, accelerator, 8192, vocabulary=words)
    weights = spec.parameters
    assert weights is not None
    head = words * 4096
    left = room - 8192 * 131_072 * most
    by_hand = 2 * ((weights.read - weights.rows - head) * 8192 + head) + 4 * 32 * 32 * 128 * 8192 * 8193 // 2
    peak = accelerator.flops_per_s["bf16"]
    assert left >= 0
    return FindOut(
        guess(
            f"Llama 3.1 70B has {binary_bytes(2 * (large.n_parameters or 0))} of weights in bf16, an "
            f"{accelerator.label} has {binary_bytes(accelerator.memory_bytes)} of memory. How many (1, 2, 4 or 8) "
            "hold it with one user at 8,192 tokens?",
            fewest,
            (1, 2, 4, 8),
            lambda n: f"{n:.0f}",
            f"Weights that just fit leave no room for a cache: two would hold the weights, but keep only "
            f"{binary_bytes(max(0, two.state_room_bytes))} each for states after 10 % and 1 GiB of reserve, and the "
            f"cache needs {binary_bytes(sequence_bytes(large, 8192) / 2)} on each.",
        ),
        (
            Problem(
                f"What does one {accelerator.label} leave for the caches of Llama 3.1 8B in bf16, if 90 % of its "
                "memory may be used and 1 GiB is kept free?",
                f"{accelerator.memory_bytes:,} · 0.9 − 1 GiB − {spec.n_parameters or 0:,} · 2 bytes",
                binary_bytes(room),
                accelerator.memory_bytes * 9 // 10 - 2**30 - 2 * (spec.n_parameters or 0),
                room,
            ),
            Problem(
                "How many users at 8,192 tokens does that hold?",
                f"{room:,} bytes ÷ (8,192 · 131,072 bytes), without the remainder",
                f"{most:,}",
                room // (8192 * 131_072),
                most,
            ),
            Problem(
                "How long does prefill of 8,192 tokens take there at least?",
                f"2 operations for each of {weights.read - weights.rows - head:,} weights and each token (the last "
                f"layer's {head:,} for the last token alone), and 4 · 32 layers · 32 heads · 128 for each of 8,192 · "
                f"8,193 / 2 pairs of tokens, ÷ {decimal(peak, 'FLOP/s')}",
                duration(prompt.floor.time_s),
                by_hand / peak,
                prompt.floor.time_s,
            ),
        ),
    )


def engines() -> FindOut:
    llama, gemma = spec_of(LLAMA), spec_of(GEMMA)
    needed, given = sequence_bytes(llama, 1000), allocate(llama, 1000, page_tokens=PAGE_TOKENS).allocated_bytes
    held = context_where(llama, 40 * 2**30) or 0
    pools = {pool: allocate(gemma, 131_072, window_pool=pool).allocated_bytes for pool in ("own", "shared")}
    return FindOut(
        guess(
            f"An engine gives out pages of {PAGE_TOKENS} tokens. How much of what it sets aside for a sequence of "
            "1,000 tokens stays unused?",
            1 - needed / given,
            (0.0, 0.1, 0.5),
            lambda share: f"{significant(100 * share, 2)} %",
            f"Only the last page is not full: 63 pages of {PAGE_TOKENS} hold 1,008 tokens. Room for 131,072 tokens, "
            f"set aside in advance, would stay {significant(100 * (1 - 1000 / 131_072))} % unused.",
        ),
        (
            Problem(
                "How many bytes are set aside for these 1,000 tokens of Llama 3.1 8B in bf16?",
                "63 pages · 16 tokens · 131,072 bytes",
                binary_bytes(given),
                63 * 16 * 131_072,
                given,
            ),
            Problem(
                "How many tokens of it do 40 GiB hold?",
                "40 · 2³⁰ ÷ 131,072",
                f"{held:,}",
                40 * 2**30 // 131_072,
                held,
            ),
            Problem(
                "Gemma 3 27B at 131,072 tokens: how much does an engine set aside that gives windowed layers pages of "
                f"full length? With pools of their own it is {binary_bytes(pools['own'])}.",
                "2 · 62 layers · 16 K/V heads · 128 · 131,072 tokens · 2 bytes",
                binary_bytes(pools["shared"]),
                2 * 62 * 16 * 128 * 131_072 * 2,
                pools["shared"],
            ),
        ),
    )


def accuracy() -> FindOut:
    deepseek, qwen, gemma = spec_of(DEEPSEEK), spec_of(QWEN), spec_of(GEMMA)
    heads = (rule_bytes("latent_as_heads", deepseek, 8192) or 0) / sequence_bytes(deepseek, 8192)
    width = (rule_bytes("head_dim", qwen, 8192) or 0) / sequence_bytes(qwen, 8192)
    bare = (rule_bytes("latent_without_rope", deepseek, 8192) or 0) / sequence_bytes(deepseek, 8192)
    full = (rule_bytes("no_windows", gemma, 131_072) or 0) / sequence_bytes(gemma, 131_072)
    return FindOut(
        guess(
            "A calculator takes DeepSeek-V3's latent cache for full keys and values of all its heads. How many times "
            "too much does it say?",
            heads,
            (1.1, 2.0, 128),
            times,
            f"A latent layer keeps one vector for all heads, so counting heads gives {significant(heads)} times too "
            "much. What a layer keeps has to be read from its configuration, not guessed from its heads.",
        ),
        (
            Problem(
                "Qwen3 4B states a head size of 128. Taken as width ÷ query heads = 2,560 ÷ 32 instead, what part of "
                "its cache is counted?",
                "(2,560 / 32) ÷ 128",
                f"{significant(100 * width)} %",
                2560 / 32 / 128,
                width,
            ),
            Problem(
                "DeepSeek-V3's vector counted without the 64 elements of RoPE: what part of its cache is that?",
                "512 ÷ (512 + 64)",
                f"{significant(100 * bare)} %",
                512 / (512 + 64),
                bare,
            ),
            Problem(
                "Gemma 3 27B at 131,072 tokens, its windows overlooked: how many times too much?",
                "62 · 131,072 ÷ (10 · 131,072 + 52 · 1,024)",
                times(full),
                62 * 131_072 / (10 * 131_072 + 52 * 1024),
                full,
            ),
        ),
    )
