"""Counts parameters from a configuration by arithmetic, for families whose layers are public and alike.

Every weight matrix, bias and norm is counted. A test compares each rule with the models' own code, exact to the
parameter. A type without a rule here is counted in its own code instead (``oracle/parameters.py``). A field that the
file leaves out has its class's default; where there is no class, nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attention.errors import shown
from attention.parameters import Parameters, Routed
from attention.spec import MAX_SIZE, Kind, Layer, ModelSpec, check_size


class Rule(NamedTuple):
    """How the layers of a type are built.

    Attributes:
        bias: projections that have a bias, as letters of "qkvo".
        bias_field: if given, they have it only where this field is true.
        norms: norms of the model's width in each layer; norm_size: vectors of a norm, 2 where it has a bias too.
        final_norm: whether a norm follows the last layer.
        qk_norm: "head" (one vector of a head's size for queries, one for keys), "all" (vectors over all heads).
        qk_field: if given, these norms exist only where this field is true.
        matrices: matrices of the MLP: 3 if gated, 2 if plain; mlp_bias: the field that gives them biases.
        moe: how experts are stated: "mixtral", "qwen", "deepseek", "gpt_oss"; "": there are no experts.
        tied: whether the output projection is the embedding, where neither the file nor a class says so.
        mlp_share: intermediate_size divided by the width of one matrix (2 in Qwen 1, which states two together).
    """

    bias: str = ""
    bias_field: str = ""
    norms: int = 2
    norm_size: int = 1
    final_norm: bool = True
    qk_norm: str = ""
    qk_field: str = ""
    matrices: int = 3
    mlp_bias: str = ""
    moe: str = ""
    tied: bool | None = None
    mlp_share: int = 1


LLAMA = Rule("qkvo", "attention_bias", mlp_bias="mlp_bias")
DEEPSEEK = Rule("qkvo", "attention_bias", moe="deepseek")
REMOTE = Rule(tied=False)
RULES: dict[str, Rule] = {
    **dict.fromkeys(("llama", "granite"), LLAMA),
    **dict.fromkeys(("mistral", "ministral3", "phi3", "internlm2"), Rule(tied=False)),
    **dict.fromkeys(("baichuan", "minicpm"), REMOTE),
    "smollm3": LLAMA,
    "qwen2": Rule("qkv"),
    "qwen3": Rule("qkvo", "attention_bias", qk_norm="head"),
    "gemma": Rule("qkvo", "attention_bias"),
    "gemma2": Rule("qkvo", "attention_bias", norms=4),
    "gemma3_text": Rule("qkvo", "attention_bias", norms=4, qk_norm="head"),
    "glm": Rule("qkv", "attention_bias"),
    "olmo": Rule("qkvo", "attention_bias", norms=0, final_norm=False),
    "olmo2": Rule("qkvo", "attention_bias", qk_norm="all"),
    "olmo3": Rule("qkvo", "attention_bias", qk_norm="all"),
    "cohere": Rule("qkvo", "attention_bias", norms=1, qk_norm="all", qk_field="use_qk_norm"),
    "cohere2": Rule("qkvo", "attention_bias", norms=1),
    "starcoder2": Rule("qkvo", "use_bias", norm_size=2, matrices=2, mlp_bias="use_bias"),
    "chatglm": Rule("qkv", "add_qkv_bias", tied=False),
    "mimo": Rule("qkv", "attention_bias", tied=False),
    "qwen": Rule("qkv", tied=False, mlp_share=2),
    "mixtral": Rule(moe="mixtral"),
    "minimax_m2": Rule(qk_norm="all", moe="mixtral"),
    "qwen2_moe": Rule("qkv", moe="qwen"),
    "qwen3_moe": Rule("qkvo", "attention_bias", qk_norm="head", moe="qwen"),
    "deepseek": DEEPSEEK._replace(tied=False),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2"), DEEPSEEK),
    "glm4_moe": Rule("qkv", "attention_bias", qk_norm="head", qk_field="use_qk_norm", moe="deepseek"),
    "gpt_oss": Rule("qkvo", "attention_bias", moe="gpt_oss"),
}


class _Fields:
    """A file's fields with the class's defaults behind them; `assumed` collects sizes that the file leaves out."""

    def __init__(self, stated: Mapping[str, Any], defaults: Any) -> None:
        self.stated, self.defaults = stated, defaults
        self.assumed: dict[str, int] = {}

    def get(self, *names: str) -> Any:
        for name in names:
            if self.stated.get(name) is not None:
                return self.stated[name]
        return next((v for name in names if (v := getattr(self.defaults, name, None)) is not None), None)

    def size(self, *names: str) -> int:
        value = self.get(*names)
        if value is None:
            raise ValueError(f"{names[0]} is not stated, so the parameters cannot be counted")
        size = check_size(names[0], value, 1, MAX_SIZE)
        if all(self.stated.get(name) is None for name in names):
            self.assumed[next(n for n in names if getattr(self.defaults, n, None) is not None)] = size
        return size

    def optional(self, name: str, minimum: int = 0) -> int | None:
        """A size that may be absent."""
        value = self.get(name)
        return None if value is None else check_size(name, value, minimum, MAX_SIZE)

    def flag(self, name: str) -> bool:
        return self.get(name) is True


def count(spec: ModelSpec, stated: Mapping[str, Any], defaults: Any = None) -> Parameters | None:
    """The parameters of a decoder.

    Args:
        spec: the decoder's layers, as read from the same file.
        stated: the decoder's part of the file.
        defaults: an object with the class's values for absent fields; None without a class.

    Returns:
        The parameters; None where there is no rule for the decoder's type.

    Raises:
        ValueError: a size is missing or out of range.
    """
    rule = RULES.get(spec.model_type or "")
    if rule is None or spec.hidden_size is None or _own_attention(stated):
        return None
    fields, width = _Fields(stated, defaults), spec.hidden_size
    vocabulary = fields.size("vocab_size", "padded_vocab_size") * width
    tied = fields.get("tie_word_embeddings")
    tied = rule.tied if tied is None else bool(tied)
    if tied is None:
        raise ValueError("tie_word_embeddings is not stated, so the parameters cannot be counted")
    total = vocabulary * (1 if tied else 2) + rule.final_norm * rule.norm_size * width
    total += sum(n * _attention(layer, rule, fields, width) for layer, n in spec.groups)
    total += spec.n_layers * rule.norms * rule.norm_size * width
    mlp, routed = _mlps(spec.n_layers, rule, fields, width)
    looked_up, rows = (0, 0) if tied else (vocabulary, width)
    assumed = tuple(f"{name} = {size:,}" for name, size in fields.assumed.items())
    return Parameters(total + mlp, looked_up, rows, 0, routed, "arithmetic on the configuration", assumed)


def _own_attention(stated: Mapping[str, Any]) -> bool:
    """Whether a file of a known type states layers that its rule does not describe."""
    return stated.get("attention_head_type") is not None or bool(stated.get("block_configs"))


def _attention(layer: Layer, rule: Rule, fields: _Fields, width: int) -> int:
    if layer.kind is Kind.LATENT:
        return _latent(layer, fields, width)
    heads, kv, k_dim, v_dim = layer.n_heads, layer.n_kv_heads, layer.k_head_dim, layer.v_head_dim
    out = {"q": heads * k_dim, "k": kv * k_dim, "v": kv * v_dim}
    total = width * sum(out.values()) + heads * v_dim * width
    if not rule.bias_field or fields.flag(rule.bias_field):
        total += sum({**out, "o": width}[letter] for letter in rule.bias)
    if rule.qk_norm and (not rule.qk_field or fields.flag(rule.qk_field)):
        total += 2 * k_dim if rule.qk_norm == "head" else out["q"] + out["k"]
    return total + (heads if rule.moe == "gpt_oss" else 0)  # one sink for each head


def _latent(layer: Layer, fields: _Fields, width: int) -> int:
    """Parameters of latent attention (DeepSeek-V2, arXiv:2405.04434, appendix C): down-projections, their norms,
    up-projections, output."""
    if fields.flag("attention_bias"):
        raise ValueError("attention_bias of latent attention is not counted here")
    rank, rope = fields.size("kv_lora_rank"), fields.size("qk_rope_head_dim")
    # a stated null has a meaning: the queries of the Lite models are not compressed
    silent = "q_lora_rank" in fields.stated and fields.stated["q_lora_rank"] is None
    q_rank = None if silent else fields.optional("q_lora_rank", 1)
    nope = layer.k_head_dim - rope
    queries = layer.n_heads * layer.k_head_dim
    q = width * queries if q_rank is None else width * q_rank + q_rank + q_rank * queries
    kv = width * (rank + rope) + rank + rank * layer.n_heads * (nope + layer.v_head_dim)
    return int(q + kv + layer.n_heads * layer.v_head_dim * width)


def _mlps(n_layers: int, rule: Rule, fields: _Fields, width: int) -> tuple[int, tuple[Routed, ...]]:
    """(parameters of the MLPs of all layers with all experts, the experts)."""

    def plain(inner: int) -> int:
        biases = (rule.matrices - 1) * inner + width if rule.mlp_bias and fields.flag(rule.mlp_bias) else 0
        return rule.matrices * width * inner + biases

    def dense() -> int:
        return plain(fields.size("intermediate_size", "ffn_hidden_size") // rule.mlp_share)

    sparse = _sparse_layers(n_layers, rule, fields)
    total = (n_layers - len(sparse)) * dense() if len(sparse) < n_layers else 0
    if not sparse:
        return total, ()
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts, chosen = fields.size(*names), fields.size("num_experts_per_tok")
    inner = fields.size("intermediate_size" if rule.moe in ("mixtral", "gpt_oss") else "moe_intermediate_size")
    each, router = 3 * width * inner, width * experts
    if rule.moe == "gpt_oss":
        each, router = each + 2 * inner + width, router + experts
    beside = 0
    if rule.moe == "qwen" and (shared := fields.optional("shared_expert_intermediate_size")):
        beside = 3 * width * shared + width
    elif rule.moe == "deepseek":
        beside = 3 * width * inner * (fields.optional("n_shared_experts") or 0)
    total += len(sparse) * (experts * each + router + beside)
    return total, (Routed(len(sparse), experts, chosen, each),)


def _sparse_layers(n_layers: int, rule: Rule, fields: _Fields) -> Sequence[int]:
    """Indices of the layers with experts."""
    if not rule.moe:
        return ()
    if rule.moe in ("mixtral", "gpt_oss"):
        return range(n_layers)
    if rule.moe == "qwen":
        step, dense = fields.optional("decoder_sparse_step") or 1, fields.get("mlp_only_layers") or []
        if not isinstance(dense, list):
            raise ValueError(f"mlp_only_layers must be a list of layers, got {shown(dense)}")
        experts = fields.optional("num_experts") or 0
        return [i for i in range(n_layers) if experts and i not in dense and (i + 1) % step == 0]
    if fields.get("n_routed_experts") is None:
        return ()
    first, step = fields.optional("first_k_dense_replace") or 0, fields.optional("moe_layer_freq") or 1
    return [i for i in range(n_layers) if i >= first and i % step == 0]
