"""Questions a reader answers by moving a page's controls; the program's own arithmetic judges what they show.

A question looks at what the page shows now. Nothing is stored, and no answer is written down here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from attention.formats import cache_format
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.recompute import passes
from attention.memory.terms import shared_bytes
from attention.memory.waterfall import waterfall
from attention.serving.roofline import cache_share
from attention.sharing import divisors
from attention.spec import Kind, ModelSpec
from attention.units import binary_bytes, decimal, parameters, significant


class Verdict(NamedTuple):
    """Whether what is shown answers the question, and what it amounts to."""

    solved: bool
    says: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one page.

    Attributes:
        key: unique name; prompt: as read, Markdown; judge: takes the page's values by name.
    """

    page: str
    key: str
    prompt: str
    judge: Callable[..., Verdict]


def _half_the_traffic(*, spec: ModelSpec, load: Load, weight_dtype: str, **_: Any) -> Verdict:
    share = cache_share(spec, load, weight_dtype)
    return Verdict(share > 0.5, f"the cache is {significant(100 * share)} % of each step's traffic")


REFERENCE_BYTES_PER_TOKEN, REFERENCE_PARAMETERS = 131_072, 8_030_261_248
"""Llama 3.1 8B with a 16-bit cache; a test holds them to the catalogue."""


def _more_with_less(*, spec: ModelSpec, **_: Any) -> Verdict:
    # growth far out, where windows are full
    growth = sequence_bytes(spec, 2**20 + 64, "bf16") - sequence_bytes(spec, 2**20, "bf16")
    per_token, n = growth / 64, spec.n_parameters or 0
    says = f"{binary_bytes(per_token)} per token at 16 bit, {parameters(n)} parameters"
    return Verdict(per_token < REFERENCE_BYTES_PER_TOKEN and n > REFERENCE_PARAMETERS, says)


TWICE_BYTES = 80 * 10**9


def twice_into_80_gb(spec: ModelSpec, n_kv_heads: int) -> int:
    """Bytes of two sequences of 131,072 tokens at 16 bit with so many K/V heads."""
    return 2 * shared_bytes(spec, n_kv_heads, 131_072, cache_format("bf16"))


def _twice(*, spec: ModelSpec, n_kv_heads: int, **_: Any) -> Verdict:
    need = twice_into_80_gb(spec, n_kv_heads)
    right_model = spec.n_layers == 80 and spec.n_heads == 64 and spec.head_dim == 128
    fitting = [k for k in divisors(spec.n_heads) if twice_into_80_gb(spec, k) <= TWICE_BYTES]
    says = f"two sequences of 131,072 tokens need {decimal(need, 'B')}"
    if not right_model:
        return Verdict(False, "another model is chosen: pick one of 80 layers and 64 query heads of size 128")
    return Verdict(bool(fitting) and n_kv_heads == max(fitting), says)


def _ninety_per_cent(*, spec: ModelSpec, n_kv_heads: int, load: Load, **_: Any) -> Verdict:
    def saved(k: int) -> float:
        fmt = cache_format(load.kv_dtype)
        return 1 - shared_bytes(spec, k, load.context, fmt) / shared_bytes(spec, None, load.context, fmt)

    enough = [k for k in divisors(spec.n_heads) if saved(k) >= 0.9]
    says = f"{significant(100 * saved(n_kv_heads))} % of the MHA cache is saved"
    return Verdict(bool(enough) and n_kv_heads == max(enough), says)


def _projections_equal(*, sizes: Any, **_: Any) -> Verdict:
    kv, q = 2 * sizes.n_kv_heads * sizes.head_dim, sizes.n_heads * sizes.head_dim
    return Verdict(kv == q, f"K and V together have {kv:,} rows, Q has {q:,}")


def _eighth_of_mha(*, sizes: Any, **_: Any) -> Verdict:
    return Verdict(
        sizes.n_kv_heads * 8 == sizes.n_heads,
        f"one token adds {2 * sizes.n_kv_heads * sizes.head_dim:,} elements; with a K/V head for each query head it "
        f"would add {2 * sizes.n_heads * sizes.head_dim:,}",
    )


def _best_head(role: str) -> Callable[..., Verdict]:
    def judge(*, roles: dict[str, Any], model: str, layer: int, **_: Any) -> Verdict:
        """roles: the models of roles.json; layer is 0-based."""

        def best(scores: list[list[float]]) -> float:
            return max(max(row) for row in scores)

        here = max(roles[model]["roles"][role]["score"][layer])
        anywhere = max(best(m["roles"][role]["score"]) for m in roles.values())
        says = f"the best head here puts {significant(100 * here)} % of its attention there, on held-out text"
        return Verdict(here == anywhere, says)

    return judge


def _cheapest_close(*, rows: Any, picked: str, **_: Any) -> Verdict:
    """rows: label -> (seconds, average), as printed."""
    reference = rows["MHA-XXL"][1]
    close = {name: t for name, (t, average) in rows.items() if round(reference - average, 3) <= 0.2}
    seconds, average = rows[picked]
    says = f"{picked}: {seconds} s, average {average}, that is {reference - average:.1f} below MHA-XXL"
    return Verdict(picked == min(close, key=close.__getitem__), says)


MILLION = 10**6


def _a_million_passes(*, load: Load, **_: Any) -> Verdict:
    one, half = (passes(Load(n)).without for n in (load.context, max(1, load.context // 2)))
    says = f"one sequence of {load.context:,} tokens takes {one:,} passes without a cache"
    return Verdict(one > MILLION >= half, says)


def _windows_begin(*, spec: ModelSpec, load: Load, **_: Any) -> Verdict:
    def times(context: int) -> float:
        steps = waterfall(spec, Load(context, load.batch, load.kv_dtype))
        at = next((i for i, step in enumerate(steps) if step.name == "windows"), None)
        return 1.0 if at is None else steps[at - 1].state_bytes / steps[at].state_bytes

    here = times(load.context)
    if not any(layer.kind is Kind.SLIDING for layer, _ in spec.groups):
        return Verdict(False, "this model has no windows")
    says = f"at {load.context:,} tokens its windows make the cache {significant(here)} times smaller"
    return Verdict(here >= 2 > times(max(1, load.context // 2)), says)


QUESTIONS: tuple[Question, ...] = (
    Question(
        "with_cache",
        "million",
        "How long may a sequence get, in steps of the slider, until writing it without a cache has passed more than a "
        "million tokens through the model?",
        _a_million_passes,
    ),
    Question(
        "other_ways",
        "windows",
        "From which context on, in steps of the slider, do this model's windows halve its cache or better?",
        _windows_begin,
    ),
    Question(
        "why",
        "half",
        "Change context or batch until more than half of each step's traffic is cache.",
        _half_the_traffic,
    ),
    Question(
        "why",
        "more_with_less",
        "Find a model with more parameters than Llama 3.1 8B whose cache grows by fewer bytes per token.",
        _more_with_less,
    ),
    Question(
        "spectrum",
        "twice",
        "What is the largest number of K/V heads with which Llama 3.1 70B's cache at 131,072 tokens (16 bit) fits "
        "twice into 80 GB?",
        _twice,
    ),
    Question(
        "spectrum",
        "ninety",
        "Save at least 90 % of this model's MHA cache with as many K/V heads as possible.",
        _ninety_per_cent,
    ),
    Question(
        "code",
        "projections",
        "With how many K/V heads do the K and V projections together have as many weights as the Q projection alone?",
        _projections_equal,
    ),
    Question(
        "code",
        "eighth",
        "With how many K/V heads does one token add an eighth of what it adds in multi-head attention?",
        _eighth_of_mha,
    ),
    Question(
        "heads_learn",
        "induction",
        "In which model and layer is the head that scores highest for *induction*?",
        _best_head("induction"),
    ),
    Question(
        "heads_learn",
        "previous",
        "And the one that scores highest for *previous byte*?",
        _best_head("previous"),
    ),
    Question(
        "published",
        "cheapest",
        "Which model of Table 1 is the fastest whose average is at most 0.2 below MHA-XXL's?",
        _cheapest_close,
    ),
)


def questions(page: str) -> tuple[Question, ...]:
    return tuple(q for q in QUESTIONS if q.page == page)
