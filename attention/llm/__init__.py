"""A published language model of the Llama kind: loading, decoding on our own attention, what its heads do."""
