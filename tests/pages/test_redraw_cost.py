"""What a page draws of a configuration with ten thousand different layers stays bounded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from attention.configs.reader import spec_from_config
from attention.memory import breakdown, footprint
from attention.memory.load import Load
from attention.spec import ModelSpec
from tests.memory.test_terms import windows
from tests.pages.test_pages import assert_sound, open_page, said
from ui import params
from viz.formula import cache_formula

PASTE = json.dumps(windows())
PAGES = ("fit", "kv_cache", "spectrum", "heads", "why", "roofline", "decode_step", "code")


@pytest.mark.parametrize("where", ["app.py", *(f"pages/{page}.py" for page in PAGES)])
def test_a_redraw_of_ten_thousand_different_layers(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page(where, model=params.PASTED)
    at.text_area(key="config_text").set_value(PASTE).run()
    assert_sound(at)
    built: list[int] = []
    layers_bytes, terms = footprint.layers_bytes, breakdown.terms

    def counted_layers(*args: Any, **kwargs: Any) -> object:
        rows = layers_bytes(*args, **kwargs)
        built.append(len(rows))
        return rows

    def counted_terms(*args: Any, **kwargs: Any) -> object:
        rows = terms(*args, **kwargs)
        built.append(len(rows))
        return rows

    specs: list[ModelSpec] = []
    check = ModelSpec.__post_init__

    def counted_spec(spec: ModelSpec) -> None:
        check(spec)
        if len(spec.layers) > 5_000:
            specs.append(spec)

    monkeypatch.setattr(ModelSpec, "__post_init__", counted_spec)
    monkeypatch.setattr(footprint, "layers_bytes", counted_layers)
    monkeypatch.setattr(breakdown, "terms", counted_terms)
    start = time.process_time()
    at.session_state["context"] = 12_345
    at.run()
    assert time.process_time() - start < 3  # takes about 0.05
    assert_sound(at)
    assert sum(built) <= 300
    assert not specs, "a variant of the model is built anew: it costs 0.1 s, and all that was summed of it is lost"
    assert max((len(box.options) for box in at.selectbox), default=0) <= 256
    if where in ("pages/kv_cache.py", "pages/heads.py"):
        assert "of this model's 10,000 kinds" in said(at) or "of 10,000 layers; the files hold all" in said(at)


def test_a_long_formula_says_how_many_terms_are_left_and_what_they_add_up_to() -> None:
    spec = spec_from_config(windows(100))
    shown = breakdown.terms(spec, Load(50), most=3)
    every = breakdown.terms(spec, Load(50))
    assert shown == every[:3]
    rest = sum(term.total_bytes for term in every[3:])
    text = cache_formula(shown, len(every) - 3, rest)
    assert f"{len(every) - 3} more" in text
    assert f"{rest:,} bytes" in text
    assert f"{footprint.cache_bytes(spec, 50).state_bytes:,} bytes" in text


@pytest.mark.parametrize("where", ["app.py", "pages/kv_cache.py"])
def test_a_cache_is_counted_once_a_redraw(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page(where, model="meta-llama/Llama-3.1-8B")
    made: list[footprint.CacheBytes] = []
    whole = footprint.CacheBytes

    def counted(*values: Any) -> footprint.CacheBytes:
        made.append(whole(*values))
        return made[-1]

    monkeypatch.setattr(footprint, "CacheBytes", counted)
    at.session_state["context"] = 12_345
    at.run()
    assert_sound(at)
    # once by the page, and once for the sentence about the view, which is then kept
    assert [cache.context for cache in made] == [12_345, 12_345]
    made.clear()
    at.run()
    assert [cache.context for cache in made] == [12_345]
