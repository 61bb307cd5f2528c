"""Every definition of "the cache" for one model and one load: exact bytes side by side, each with its rule.

The definitions are: the least that the states need, what the model's own code keeps, what each engine sets aside, what
a step reads, what must be in the accelerator's memory, and what a reader would conclude from the tokens that engines
print. All are for one accelerator that holds the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from attention.engines import sglang, tensorrt_llm, vllm
from attention.engines.reserved import VLLM_FORMATS, Reserved, reserved
from attention.engines.rules import NAMES, rule
from attention.formats import cache_format
from attention.memory.footprint import cache_of, sequence_bytes
from attention.memory.load import Load
from attention.memory.terms import fixed_state_bytes, remembered, state_counts
from attention.oracle import accuracy
from attention.spec import FixedState, ModelSpec, PositionState, State, check_size

Kind = Literal["needed", "own code", "reserved", "step", "printed"]
HOT_ENTRIES = 2
"""Size of HiSparse's default buffer on the device, as a multiple of the entries that an indexer picks."""


class Entry(NamedTuple):
    """One definition.

    Attributes:
        name: the definition in a few words; kind: the sort of definition.
        n_bytes: bytes of the load, None where no rule is known.
        says: the rule with its numbers, or why there is none; source: where the rule is found.
        tokens: the printed number of tokens, for entries of kind "printed".
    """

    name: str
    kind: Kind
    n_bytes: int | None
    says: str
    source: str
    tokens: int | None = None


def ledger(
    spec: ModelSpec, load: Load, conv_kernel: int | None = None, memory_bytes: int | None = None
) -> tuple[Entry, ...]:
    """All definitions, in the order in which they build on each other.

    Args:
        conv_kernel: columns of the model's convolution, see ``rules.kernel_of``.
        memory_bytes: bytes for the cache on the accelerator; None leaves out entries of kind "printed".

    Raises:
        ValueError: a memory out of range, or recurrent states of unknown dtype.
    """
    cache = cache_of(spec, load)
    entries = [
        Entry(
            "the states, at least",
            "needed",
            cache.state_bytes,
            f"every entry that a later step can read, once, in {load.kv_dtype}"
            + "; recurrent states in the dtype of the model's own code" * bool(_fixed_bytes(spec, load)),
            "attention/memory/terms.py",
        )
    ]
    for engine in ("transformers", *(engine for engine in NAMES if engine != "transformers")):
        found = reserved(engine, spec, load, conv_kernel)
        own = engine == "transformers"
        says = found.says + (_recorded(spec) if own else "")
        name = "the model's own code" if own else NAMES[engine]
        entries.append(Entry(name, "own code" if own else "reserved", found.n_bytes, says, _sources(found)))
    entries += _step(spec, load)
    if memory_bytes is not None:
        check_size("memory", memory_bytes, maximum=2**50)
        entries += _printed(spec, load, conv_kernel, memory_bytes)
    return tuple(entries)


def _recorded(spec: ModelSpec) -> str:
    """The recorded cache of the model's own code, in words; "" where there are no records at all."""
    try:
        checks = accuracy.load().checks
    except FileNotFoundError:
        return ""
    row = next((check for check in checks if check.model == spec.name and check.allocated_bytes is not None), None)
    if row is None:
        return "; its code has not been asked"
    return f"; asked at {row.context:,} tokens in {row.kv_dtype}: {row.allocated_bytes:,} bytes"


def _sources(found: Reserved) -> str:
    rows = [rule(found.engine, name) for name in found.rules]
    return "; ".join(dict.fromkeys(f"{row.source} ({row.version})" for row in rows))


def _step(spec: ModelSpec, load: Load) -> list[Entry]:
    """The entries for what one decode step reads, and for what must be in the memory from which it reads."""
    read = load.batch * sequence_bytes(spec.as_read, load.context, load.kv_dtype)
    says, fixed = "every entry held", _fixed_bytes(spec, load)
    sparse = spec.as_read is not spec
    if sparse:
        picked = sorted({state.reads for state in _positions(spec) if state.reads})
        says = f"all of the indexer's keys, and the {' or '.join(f'{n:,}' for n in picked)} entries that it picks"
    says += f"; {fixed:,} bytes of recurrent states are written back as well" * bool(fixed)
    entries = [Entry("read by a step", "step", read, says, "attention/serving/roofline.py")]
    if sparse:
        hot = load.batch * sequence_bytes(_hot(spec), load.context, load.kv_dtype)
        says = f"the indexer's keys, and a buffer of {HOT_ENTRIES} times the entries it picks; the rest in host memory"
        entries.append(Entry("resident with HiSparse", "step", hot, says, "SGLang, vLLM 0.33: hisparse_config"))
    else:
        held = load.batch * sequence_bytes(spec, load.context, load.kv_dtype)
        says = "a step reads all of it, so none of it can lie elsewhere"
        entries.append(Entry("resident", "step", held, says, "attention/memory/terms.py"))
    return entries


def _hot(spec: ModelSpec) -> ModelSpec:
    """A model whose layers hold only what HiSparse keeps on the device."""

    def hot(state: State) -> State:
        if not isinstance(state, PositionState) or state.reads is None:
            return state
        most = HOT_ENTRIES * state.reads
        return replace(state, window=min(most, state.window or most), reads=None)

    def make() -> ModelSpec:
        held = {layer: replace(layer, states=tuple(map(hot, layer.states))) for layer, _ in spec.groups}
        return replace(spec, layers=tuple(held[layer] for layer in spec.layers))

    return remembered(spec, ("hot",), make)


def _fixed_bytes(spec: ModelSpec, load: Load) -> int:
    fixed = ((state, n) for (_, state), n in state_counts(spec).items() if isinstance(state, FixedState))
    fmt = cache_format(load.kv_dtype)
    return load.batch * sum(n * fixed_state_bytes(state, spec.model_dtype, fmt) for state, n in fixed)


def _positions(spec: ModelSpec) -> list[PositionState]:
    return [state for _, state in state_counts(spec) if isinstance(state, PositionState)]


def _printed(spec: ModelSpec, load: Load, kernel: int | None, memory_bytes: int) -> list[Entry]:
    """The entries for the tokens that engines print for the memory, and for the bytes that a reader would conclude."""
    entries = []
    for engine, (ask, named) in _TOKENS.items():
        row = rule(engine, named)
        source = f"{row.source} ({row.version})"
        try:
            tokens = ask(spec, load, kernel, memory_bytes)
        except ValueError as error:
            entries.append(Entry(f"as {NAMES[engine]} prints it", "printed", None, str(error), source))
            continue
        concluded = memory_bytes * load.context * load.batch // tokens
        says = f"{tokens:,} tokens in {memory_bytes:,} bytes: {memory_bytes / tokens:,.1f} bytes a token, {row.says}"
        entries.append(Entry(f"as {NAMES[engine]} prints it", "printed", concluded, says, source, tokens))
    return entries


def _of_vllm(spec: ModelSpec, load: Load, kernel: int | None, memory_bytes: int) -> int:
    if load.kv_dtype not in VLLM_FORMATS:
        raise ValueError(f"vLLM has no cache format that stores {load.kv_dtype} as it is counted here")
    settings = vllm.Settings(load.context, kv_dtype=VLLM_FORMATS[load.kv_dtype], conv_kernel=kernel)
    plan = vllm.plan(spec, settings)
    blocks = plan.blocks(memory_bytes)
    if blocks < plan.request_blocks(load.context):
        raise ValueError("vLLM does not start: the memory holds no request of this length")
    return plan.tokens(blocks, "tokens by concurrency")


def _of_sglang(spec: ModelSpec, load: Load, kernel: int | None, memory_bytes: int) -> int:
    tokens, _ = sglang.slots(spec, sglang.Settings(load.kv_dtype, conv_kernel=kernel)).tokens(memory_bytes)
    if not tokens:
        raise ValueError("the memory holds not one token, or no layer keeps tokens")
    return tokens


def _of_tensorrt_llm(spec: ModelSpec, load: Load, kernel: int | None, memory_bytes: int) -> int:
    pools = tensorrt_llm.pools(spec, load.kv_dtype)
    tokens = pools.blocks(memory_bytes) * pools.block_tokens
    if not tokens:
        raise ValueError("the memory holds not one block")
    return tokens


_TOKENS: dict[str, tuple[Callable[[ModelSpec, Load, int | None, int], int], str]] = {
    "vllm": (_of_vllm, "tokens by concurrency"),
    "sglang": (_of_sglang, "slots"),
    "tensorrt-llm": (_of_tensorrt_llm, "blocks"),
}
"""For each engine, a function that gives the tokens it prints, and the name of the rule that says what they mean."""
