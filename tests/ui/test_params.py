"""Addresses: what is written is read back, and anything else is not accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention import foreign_text
from ui import params, state
from ui.controls import pack, unpack

OWN = (
    params.choice("x_view", ["a", "b"], "a"),
    params.choices("x_many", ["p", "q", "r"], ["p"]),
    params.number("x_share", 0.5, 0, 1),
    params.integer("x_int", 7, 3, 11),
)
VALUES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["meta-llama/Llama-3.1-8B", "custom", "deepseek-ai/DeepSeek-V3"]),
        "context": st.integers(1, 2**32),
        "batch": st.integers(1, 2**20),
        "kv": st.sampled_from(["bf16", "q4_0", "int4-g32"]),
        "heads": st.integers(1, 1024),
        "x_view": st.sampled_from(["a", "b"]),
        "x_many": st.lists(st.sampled_from(["p", "q", "r"]), unique=True),
        "x_share": st.integers(0, 100).map(lambda n: n / 100),
        "x_int": st.integers(3, 11),
    }
)
KNOWN = (*params.SHARED, *OWN)


@given(VALUES)
def test_what_is_written_is_read_back(values):
    back, replaced = state.read(state.query_of(values, OWN), KNOWN)
    assert replaced == []
    for key, value in values.items():
        if key != "heads" or values["model"] == "custom":
            assert back[key] == value


@given(st.dictionaries(st.sampled_from([p.key for p in KNOWN]), st.lists(st.text(max_size=30), max_size=3)))
def test_any_text_gives_valid_values(query):
    back, replaced = state.read(query, KNOWN)
    again, none = state.read(state.query_of(back, OWN), KNOWN)
    assert none == []
    assert all(again[p.key] == back[p.key] for p in (*OWN, params.CONTEXT, params.BATCH, params.KV))
    assert all("\n" not in sentence for sentence in replaced)


def test_the_decisive_keys_are_always_written_and_defaults_are_not():
    assert set(state.query_of({}, OWN)) == {"v", "model", "context", "batch", "kv"}


def test_junk_is_named_with_what_is_accepted():
    values, (sentence,) = state.read({"x_int": ["12"], "nonsense": ["1"]}, KNOWN)
    assert values["x_int"] == 7
    assert sentence == "x_int: `12` was replaced by `7`; accepted is a whole number from 3 to 11."


@pytest.mark.parametrize("text", ["1_0", " 5", "٥", "5.0", "+5", "", "0x5", "5" * 16])
def test_whole_numbers_are_plain_digits(text):
    with pytest.raises(ValueError):
        OWN[3].parse(text)


def test_quoting_leaves_no_markdown():
    assert foreign_text.code("`x` ![](http://a)\n$") == "`'x' ![](http://a)··`"
    assert len(foreign_text.code("A" * 5000)) < 70


def test_a_configuration_travels_in_the_address():
    text = '{"model_type": "llama",\n "n": 1}'
    packed = pack(text)
    assert packed is not None
    assert unpack(packed) == '{"model_type":"llama","n":1}'
    assert params.CONFIG.parse(packed) == packed
    assert unpack("AAAA") == unpack("") == unpack("%%%") == ""


def test_unpacking_is_bounded():
    import base64
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(b"0" * 50_000_000, 9)).decode().rstrip("=")
    assert len(unpack(bomb)) <= 1_000_000
