"""Figures that others published or logged, for comparison with the computed ones."""

from __future__ import annotations

GOLDEN: tuple[tuple[str, str, int, float, str, float, str], ...] = (
    # (model, quantity, context, published bytes, as printed, half a unit of the last digit, source)
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
        "deepseek-ai/DeepSeek-R1",
        "keys and values",
        32_768,
        2196 * 2**20,
        "2196.00 MiB",
        0.005 * 2**20,
        "https://github.com/ggml-org/llama.cpp/pull/11446 (f16)",
    ),
    (
        "huggyllama/llama-7b",
        "keys and values",
        132_608,
        69_524_783_104,
        "69524783104 bytes",
        0.5,
        "https://github.com/NVIDIA/TensorRT-LLM/issues/1400 (log of a model of the same geometry, float16)",
    ),
    (
        "Qwen/Qwen3-8B",
        "keys and values",
        2560,
        360 * 2**20,
        "360.00 MiB",
        0.005 * 2**20,
        "https://github.com/ggml-org/llama.cpp/issues/21551 (f16, log of a model of the same geometry)",
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
