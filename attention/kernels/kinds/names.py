"""Labels of the kinds of cache and of their implementations, each with one line on what it teaches. Free of torch."""

from __future__ import annotations

from attention.kernels.names import KernelName

KINDS: dict[str, KernelName] = {
    "full": KernelName("K and V", "Keys and values of every position, a head's query heads sharing them."),
    "expanded": KernelName("MLA, expanded", "The keys and values of all heads, unfolded from the latent and kept."),
    "latent": KernelName("MLA, absorbed", "One latent of each position, read once for all heads, as key and as value."),
    "window": KernelName("Sliding window", "A ring of the last positions: the step no longer grows with the context."),
    "shared": KernelName("K = V", "One vector is key and value: half the bytes, each used twice."),
    "sparse": KernelName("Sparse (DSA)", "An indexer's small keys are read for all positions, latents for the best."),
}

IMPLEMENTATIONS: dict[str, KernelName] = {
    "plain": KernelName(
        "Plain PyTorch",
        "Two products and a softmax over the folded query; a quantised cache is widened in memory first.",
    ),
    "native": KernelName(
        "Native, one pass",
        "C++ for the processor: each row read once, as it lies, widened in the core; bfloat16 in tiles if it has them.",
    ),
    "triton": KernelName(
        "Triton, one pass",
        "Split over the context: each row is read once, as it lies, and widened in registers for all that need it.",
    ),
    "flash": KernelName(
        "Folded, flash", "FlashAttention by name on the folded query, or its reason for not taking it."
    ),
    "cudnn": KernelName("Folded, cuDNN", "NVIDIA's fused kernel by name, on the folded query."),
    "efficient": KernelName("Folded, memory-efficient", "The fused kernel that takes any head sizes, by name."),
    "flex": KernelName("FlexAttention", "PyTorch's compiled attention with its decoding kernel."),
    "flashinfer": KernelName("FlashInfer", "The decode kernel that engines load, where it is installed."),
}
