"""Sizes of the tiny models, and the folder of their checkpoints. Free of torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attention.spec import check_divides, check_size

DATA = Path(__file__).parents[1] / "data" / "tiny"
"""The trained models: NAME.safetensors and NAME.json for each name, and roles.json."""
MODELS = {"mha": 8, "gqa-4": 4, "gqa": 2, "mqa": 1}
"""The shipped models' names and n_kv_heads."""


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Sizes of a tiny model. The vocabulary is the 256 bytes.

    Raises:
        ValueError: a size out of range, n_kv_heads that does not divide n_heads, or an odd head_dim.
    """

    n_kv_heads: int = 8
    n_heads: int = 8
    head_dim: int = 16
    n_layers: int = 4
    ffn_dim: int = 384
    max_context: int = 256
    vocabulary: int = 256
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("n_heads", "n_layers", "ffn_dim", "max_context", "vocabulary"):
            check_size(name, getattr(self, name), maximum=65_536)
        check_size("n_kv_heads", self.n_kv_heads, maximum=self.n_heads)
        check_size("head_dim", self.head_dim, minimum=2, maximum=1024)
        check_divides(self.n_heads, self.n_kv_heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions, got {self.head_dim}")

    @property
    def hidden_size(self) -> int:
        return self.n_heads * self.head_dim

    @property
    def group_size(self) -> int:
        return self.n_heads // self.n_kv_heads

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_llama(self) -> dict[str, Any]:
        """The same sizes as a config.json of transformers' LlamaForCausalLM."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.ffn_dim,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.max_context,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": None,
            "eos_token_id": None,
            "torch_dtype": "float16",
        }
