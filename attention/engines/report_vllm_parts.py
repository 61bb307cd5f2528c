"""What the bytes of a vLLM pool are for, and the rules that gave them: parts of the findings of ``report_vllm``."""

from __future__ import annotations

from attention.engines.report import Part
from attention.engines.vllm import Plan
from attention.units import counted


def parts_of(blocks: int, pool: Plan, rule: str) -> tuple[Part, ...]:
    """The parts of the pool's bytes. Several groups are counted as the rule `rule` counts them."""
    if len(pool.groups) == 1:
        return (Part("blocks", blocks * pool.block_bytes, f"{pool.token_bytes:,} bytes a token on each rank"),)
    length = pool.settings.max_model_len
    if rule == "tokens by groups" or length is None:
        empty = (
            sum(pool.group_size - group.n_layers for group in pool.groups)
            * pool.page_bytes
            * (blocks // len(pool.groups))
        )
        kept = blocks * pool.block_bytes - empty
        why = f"{counted(len(pool.groups), 'group')} counted as equal, windows as full as the other layers"
        return tuple(part for part in (Part("blocks", kept, why), Part("padding of groups", empty)) if part.n_bytes)
    return request_parts(length, pool)


def request_parts(length: int, pool: Plan) -> tuple[Part, ...]:
    """The parts of the bytes of one request of `length` tokens."""
    words = {"full": "layers that hold all", "window": "windows", "chunk": "chunks", "state": "recurrent states"}
    parts = []
    for kind, name in words.items():
        some = [group for group in pool.groups if group.kind == kind]
        held = sum(pool.group_blocks(group, length) * group.n_layers for group in some) * pool.page_bytes
        parts.append(Part(f"request: {name}", held, f"one of {length:,} tokens, in {counted(len(some), 'group')}"))
    empty = sum(pool.group_blocks(group, length) * (pool.group_size - group.n_layers) for group in pool.groups)
    parts.append(Part("request: padding of groups", empty * pool.page_bytes, "places that short groups leave empty"))
    return tuple(part for part in parts if part.n_bytes)


def rules_of(pool: Plan, rule: str) -> tuple[str, ...]:
    """Names in ``rules.RULES`` of all rules that such a pool follows, with the rule by which its tokens are printed."""
    rules = ["blocks", rule]
    kinds = {group.kind for group in pool.groups}
    rules += ["groups"] if len(pool.groups) > 1 else []
    rules += ["one page size"] if len({group.block_tokens for group in pool.groups}) > 1 else []
    rules += ["state page"] if "state" in kinds else []
    rules += ["window"] if "window" in kinds and rule == "tokens by concurrency" else []
    rules += ["fp8_ds_mla"] if pool.settings.kv_dtype == "fp8_ds_mla" else []
    return tuple(rules)
