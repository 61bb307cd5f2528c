"""Questions that a reader answers by moving a page's controls. The program's own arithmetic judges the page's values.

A question looks at the page's current values. Nothing is stored, and no answer is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from attention.formats import cache_format
from attention.memory.comparison import Compared, column, ranked
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.recompute import passes
from attention.memory.terms import shared_bytes
from attention.memory.waterfall import waterfall
from attention.oracle.accuracy import Results
from attention.serving.plan import Plan
from attention.serving.roofline import cache_share
from attention.sharing import divisors
from attention.spec import Kind, Layer, ModelSpec
from attention.units import binary_bytes, counted, decimal, parameters, significant


class Verdict(NamedTuple):
    """Whether the page's values answer the question, and a sentence on what they mean."""

    solved: bool
    says: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one page.

    Attributes:
        page: the page's name.
        key: a unique name.
        prompt: the question as Markdown.
        judge: takes the page's values by name, and gives the verdict.
    """

    page: str
    key: str
    prompt: str
    judge: Callable[..., Verdict]


def _half_the_traffic(*, spec: ModelSpec, load: Load, weight_dtype: str, **_: Any) -> Verdict:
    share = cache_share(spec, load, weight_dtype)
    return Verdict(share > 0.5, f"the cache is {significant(100 * share)} % of each step's traffic")


REFERENCE_BYTES_PER_TOKEN, REFERENCE_PARAMETERS = 131_072, 8_030_261_248
"""Of Llama 3.1 8B with a 16-bit cache. A test compares them with the catalogue."""


def _more_with_less(*, spec: ModelSpec, **_: Any) -> Verdict:
    # the growth at a long context, where windows are full
    growth = sequence_bytes(spec, 2**20 + 64, "bf16") - sequence_bytes(spec, 2**20, "bf16")
    per_token, n = growth / 64, spec.n_parameters or 0
    says = f"{binary_bytes(per_token)} per token at 16 bit, {parameters(n)} parameters"
    return Verdict(per_token < REFERENCE_BYTES_PER_TOKEN and n > REFERENCE_PARAMETERS, says)


TWICE_BYTES = 80 * 10**9


def twice_into_80_gb(spec: ModelSpec, n_kv_heads: int) -> int:
    """Bytes of two sequences of 131,072 tokens at 16 bit with `n_kv_heads`."""
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
        """`roles` are the models of roles.json; `layer` is counted from 0."""

        def best(scores: list[list[float]]) -> float:
            return max(max(row) for row in scores)

        here = max(roles[model]["roles"][role]["score"][layer])
        anywhere = max(best(m["roles"][role]["score"]) for m in roles.values())
        says = f"the best head here puts {significant(100 * here)} % of its attention there, on held-out text"
        return Verdict(here == anywhere, says)

    return judge


def _cheapest_close(*, rows: Any, picked: str, **_: Any) -> Verdict:
    """`rows`: label -> (seconds, average), as printed in the paper."""
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


GROUP_OF_16 = 16


def _sixteen_share(*, layer: Layer, **_: Any) -> Verdict:
    if not layer.group_size:
        return Verdict(False, "this layer has no K/V heads")
    return Verdict(layer.group_size == GROUP_OF_16, f"{counted(layer.group_size, 'query head')} read each K/V head")


SMOLLM_BYTES_PER_TOKEN, SMOLLM_PARAMETERS = 23_040, 134_515_008
"""Of SmolLM2 135M with a 16-bit cache. A test compares them with the catalogue."""


def _outgrows_smollm(*, context: int, batch: int, **_: Any) -> Verdict:
    cache, weights = context * batch * SMOLLM_BYTES_PER_TOKEN, 2 * SMOLLM_PARAMETERS
    says = (
        f"{counted(batch, 'sequence')} with {context:,} tokens before the prompt keep {binary_bytes(cache)} as trained"
    )
    return Verdict(cache > weights, f"{says}; the weights take {binary_bytes(weights)} in bf16")


def _outgrows_the_weights(*, spec: ModelSpec, load: Load, **_: Any) -> Verdict:
    if not spec.n_parameters:
        return Verdict(False, "the parameters of this model are not known: pick another")
    weights = 2 * spec.n_parameters
    here, half = (load.batch * sequence_bytes(spec, n, load.kv_dtype) for n in (load.context, load.context // 2))
    says = f"the cache is {binary_bytes(here)}, the weights in bf16 are {binary_bytes(weights)}"
    return Verdict(here > weights >= half, says)


def _model(row: Compared) -> str:
    return column(row.key).model


def _two_are_equal(*, rows: Sequence[Compared], **_: Any) -> Verdict:
    equal = [group for group in ranked(rows) if len({_model(rows[i]) for i, _ in group.members}) > 1]
    if not equal:
        return Verdict(False, "no two of these models keep the same")
    return Verdict(True, f"{len(equal[0].members)} models keep {binary_bytes(equal[0].value)} each")


def _sixty_four_users(*, plan: Plan, count: int, context: int, batch: int, **_: Any) -> Verdict:
    says = f"{counted(batch, 'user')} at {context:,} tokens on {count} {'fit' if plan.fits else 'do not fit'}"
    if plan.fits and plan.smallest_count != count:
        says += f", and {plan.smallest_count} would do"
    return Verdict(plan.fits and batch >= 64 and context >= 8192 and plan.smallest_count == count, says)


def _copied(*, spec: ModelSpec, n_ranks: int, **_: Any) -> Verdict:
    n = spec.n_kv_heads
    if not n:
        return Verdict(False, "this model has no K/V heads")
    says = f"{counted(n_ranks, 'rank')} for {counted(n, 'K/V head')}"
    return Verdict(n_ranks > n, says)


def _costliest_family(*, results: Results, family: str | None, **_: Any) -> Verdict:
    """`family` is the family that is shown, None for all families."""

    def worst(of: str | None) -> float:
        return max((r.rule_bytes / r.exact_bytes for r in results.rules if of in (None, r.family)), default=0.0)

    here = worst(family)
    return Verdict(family is not None and here == worst(None), f"up to {significant(here)} times too much is counted")


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
    Question(
        "heads",
        "sixteen",
        "Move the slider until 16 query heads read each K/V head.",
        _sixteen_share,
    ),
    Question(
        "real_model",
        "outgrows",
        "Choose a context and a number of sequences (under More) whose cache, as trained, takes more than the weights.",
        _outgrows_smollm,
    ),
    Question(
        "kv_cache",
        "outgrows_weights",
        "From which context on, in steps of the slider, is the cache larger than the weights in bf16?",
        _outgrows_the_weights,
    ),
    Question(
        "compare", "equal", "Add a model that keeps exactly as much as another one: they share a bar.", _two_are_equal
    ),
    Question(
        "fit",
        "users",
        "Give 64 users 8,192 tokens or more each, on as few accelerators as do.",
        _sixty_four_users,
    ),
    Question("engines", "copied", "Raise the count until K/V heads have to be copied.", _copied),
    Question(
        "accuracy",
        "costliest",
        "Which family suffers most from a well-known mistake? Choose it.",
        _costliest_family,
    ),
)


def questions(page: str) -> tuple[Question, ...]:
    """The questions of a page, in order."""
    return tuple(q for q in QUESTIONS if q.page == page)
