"""A published, Llama-like language model: loading it, decoding with our own attention, and what its heads do."""
