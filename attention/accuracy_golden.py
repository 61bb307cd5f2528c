"""Figures that others published or logged, for comparison with ours."""

from __future__ import annotations

GOLDEN: tuple[tuple[str, str, int, float, str, float, str], ...] = (
    # (model, quantity, context, published bytes, as printed, half a unit of the last digit, source)
    ("meta-llama/Llama-3.1-8B", "bytes_per_token", 8192, 131_072, "131,072 B", 0.5, "arithmetic: 32 x 2 x 8 x 128 x 2"),
    (
        "meta-llama/Llama-3.1-405B",
        "bytes_per_token",
        8192,
        516_096,
        "516.096 KB",
        0.5,
        "DeepSeek-V3 insights, arXiv:2505.09343, Table 1",
    ),
    (
        "openai/gpt-oss-120b",
        "bytes_per_token below the window",
        1,
        73_728,
        "73,728 B",
        0.5,
        "https://github.com/alvarobartt/hf-mem/issues/60",
    ),
    (
        "deepseek-ai/DeepSeek-V3",
        "bytes_per_token",
        8192,
        70_272,
        "70.272 KB",
        0.5,
        "DeepSeek-V3 insights, arXiv:2505.09343, Table 1",
    ),
    (
        "deepseek-ai/DeepSeek-V3",
        "keys and values",
        163_840,
        10.72 * 2**30,
        "10.72 GiB",
        0.005 * 2**30,
        "a calculator's users' thread; 163,840 x 70,272 B agrees",
    ),
    (
        "google/gemma-3-27b-it",
        "keys and values",
        131_072,
        10.41 * 2**30,
        "10.41 GiB",
        0.005 * 2**30,
        "a calculator's users' thread; arithmetic by layer kind agrees",
    ),
    (
        "google/gemma-3-1b-it",
        "keys and values",
        32_768,
        139 * 2**20,
        "139 MiB",
        0.5 * 2**20,
        "a calculator's users' thread; arithmetic by layer kind agrees",
    ),
    (
        "Qwen/Qwen3.5-27B",
        "keys and values",
        262_144,
        16384 * 2**20,
        "16384.00 MiB",
        0.005 * 2**20,
        "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/1862 (log of a model of the same geometry)",
    ),
)
