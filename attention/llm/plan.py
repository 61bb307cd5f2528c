"""What a reader asks of the model. It is checked without torch, so that a page can refuse it before anything runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from attention.errors import check_choice, shown
from attention.spec import check_size

SHARINGS = ("mha", "gqa", "mqa")
"""mha: each K/V head copied to its query heads. gqa: as published. mqa: all K/V heads merged into one."""
MERGES = ("mean", "calibrated")
"""How mqa's K/V heads are merged: by their mean, or calibrated on a text (``attention.llm.merged``)."""
CACHE_DTYPES = ("bf16", "fp16", "fp32", "fp8", "int8-token", "int4-g32", "q8_0", "q4_0")
"""Formats of the cache. fp8 is e4m3; int8-token has a scale per position and head; the last three have groups of 32."""
FIRST_TEXT = (
    "The old lighthouse keeper polished the brass lamp every evening. Nobody came to see it, and still, every evening, "
    "the old lighthouse keeper polished"
)
"""A text that repeats a phrase, so that an induction head shows."""
MAX_CHARACTERS = 20_000
MAX_TOKENS = 512
MAX_BATCH = 16
MAX_FILL = 2**17
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def check_prompt(text: Any) -> str:
    """`text`, if the model can read it as a prompt.

    Raises:
        ValueError: no text, only blanks, more than MAX_CHARACTERS, or control characters.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("prompt must be a text with at least one character that is no blank, got none")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"prompt must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    if (bad := _CONTROL.search(text)) is not None:
        raise ValueError(
            f"prompt must hold no control characters but tabs and line ends, got U+{ord(bad[0]):04X} as its "
            f"character {bad.start() + 1:,}"
        )
    return text


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the job "generate".

    Attributes:
        sharings: the columns, some of SHARINGS.
        tokens: most tokens to write.
        temperature: 0 always takes the likeliest token; else tokens are drawn.
        seed: decides the draws.
        context_fill: tokens of a long text that are in the cache before the prompt.
        kv_dtype: format of the cache.
        v_dtype: format of its values; "" takes `kv_dtype`.
        merge: how mqa's K/V heads are merged, one of MERGES.
        batch: sequences decoded at once, all from the same prompt; the first is shown.
        chat: the prompt is a question in a conversation, not a text to continue.

    Raises:
        ValueError: a field that is not accepted.
    """

    prompt: str
    sharings: tuple[str, ...] = SHARINGS
    tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    context_fill: int = 0
    kv_dtype: str = "bf16"
    batch: int = 1
    chat: bool = True
    v_dtype: str = ""
    merge: str = "mean"

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        wrong = not self.sharings or len({*self.sharings}) < len(self.sharings) or {*self.sharings} - {*SHARINGS}
        if wrong:
            raise ValueError(f"sharings must be some of {', '.join(SHARINGS)}, each once; got {shown(self.sharings)}")
        check_size("tokens", self.tokens, 1, MAX_TOKENS)
        check_size("seed", self.seed, 0, 2**31 - 1)
        check_size("context_fill", self.context_fill, 0, MAX_FILL)
        check_size("batch", self.batch, 1, MAX_BATCH)
        if isinstance(self.temperature, bool) or not isinstance(self.temperature, (int, float)):
            raise ValueError(f"temperature must be a number from 0 to 2, got {shown(self.temperature)}")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be a number from 0 to 2, got {shown(self.temperature)}")
        check_choice("kv_dtype", self.kv_dtype, CACHE_DTYPES)
        if self.v_dtype != "":
            check_choice("v_dtype", self.v_dtype, CACHE_DTYPES)
        check_choice("merge", self.merge, MERGES)
        if not isinstance(self.chat, bool):
            raise ValueError(f"chat must be true or false, got {shown(self.chat)}")

    @property
    def values_dtype(self) -> str:
        """The values' format."""
        return self.v_dtype or self.kv_dtype

    @property
    def cache_words(self) -> str:
        """The cache's formats in words."""
        if self.values_dtype == self.kv_dtype:
            return self.kv_dtype
        return f"{self.kv_dtype} (keys) and {self.values_dtype} (values)"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "sharings": list(self.sharings)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The plan in a job's payload. Other fields of the payload are ignored.

        Raises:
            ValueError: a field that is not accepted.
        """
        given = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        if "prompt" not in given:
            raise ValueError("prompt is missing")
        if isinstance(given.get("sharings"), list):
            given["sharings"] = tuple(str(one)[:20] for one in given["sharings"])
        return cls(**given)
