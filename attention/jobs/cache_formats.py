"""Worker job "cache_formats": how each format of the cache changes the published model's words, on a reader's text.

Payload: "text"; "k_dtype" and "v_dtype", a pair to try first. Emits {"kind": "model", …}, then the messages of
``attention.llm.cache_formats``. Returns the host and its calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention.errors import check_choice
from attention.llm.plan import CACHE_DTYPES, check_prompt


def run(
    payload: dict[str, Any], emit: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """See the module.

    Raises:
        ValueError: a field that is not accepted; there is no model here, or it does not run.
    """
    text, chosen = _fields(payload)
    from attention.llm import cache_formats as formats
    from attention.llm import heads, loaded
    from attention.timing import host, speed

    found = loaded.get()
    ids = heads.tokens_of_text(found, text)
    emit({"kind": "model", "name": found.name, "tokens": len(ids)})
    tried = formats.pairs(chosen)
    timed = [pair for pair in tried if pair == chosen or pair[0] == pair[1]]
    formats.run(found.model, [ids], tried, timed, emit, should_stop)
    return {"host": host.describe().to_json(), "calibration": speed.calibrate("cpu").to_json()}


def prepare(tell: Callable[[str, float], None]) -> None:
    """Load the model. ``tell(words, share)`` reports the progress."""
    from attention.llm import loaded

    loaded.get(tell)


def estimate_bytes(payload: dict[str, Any]) -> int:
    """Bytes that the run needs, for the check before it."""
    _fields(payload)
    from attention.llm import cache_formats as formats
    from attention.llm import loaded

    return formats.memory_needed(loaded.get().model, len(formats.SHOWN) + 1)


def _fields(payload: dict[str, Any]) -> tuple[str, tuple[str, str]]:
    text = check_prompt(payload.get("text"))
    k, v = (check_choice(name, payload.get(name, "bf16"), CACHE_DTYPES) for name in ("k_dtype", "v_dtype"))
    return text, (k, v)
