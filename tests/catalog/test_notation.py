import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.catalog.notation import (
    layer_text,
    parse_layer,
    parse_layers,
)
from attention.spec import FixedState, Kind, Layer, PositionState, Role, attention_layer, latent_layer


def test_the_short_form_is_ordinary_attention() -> None:
    assert parse_layer("full 14/7x5") == attention_layer(14, 7, 5)
    assert parse_layer("sliding 14/7x5 window=11") == attention_layer(14, 7, 5, 11)
    assert parse_layer("chunked 14/7x5:3 window=11") == attention_layer(14, 7, 5, 11, v_head_dim=3, chunked=True)


def test_states_are_spelled_out_after_a_plus() -> None:
    assert parse_layer("latent 17x18:13 + latent 1x31:7 + indexer 1x5:0") == latent_layer(17, 31, 7, 11, 13, 5)
    recurrent = (FixedState(Role.CONVOLUTION, 21), FixedState(Role.RECURRENT, 55, "fp32", 5))
    assert parse_layer("recurrent + convolution 21 + recurrent 55 heads=5 dtype=fp32") == Layer(
        Kind.RECURRENT, recurrent
    )
    assert parse_layer("shared 14x5 shares=3") == Layer(Kind.SHARED, (), 14, 5, 5, shares=3)


def test_a_pattern_repeats_letters_and_brackets() -> None:
    kinds = {"s": "sliding 4/2x3 window=5", "f": "full 4/2x3"}
    letters = {parse_layer(text): letter for letter, text in kinds.items()}
    assert "".join(letters[layer] for layer in parse_layers("2(3s f) 2s", kinds)) == "sssfsssfss"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fuller 4/2x3",
        "full 4/2y3",
        "full 4/2x3 colour=5",
        "full 4/3x5",
        "full 4x3",
        "recurrent + warp 5",
        "full + kv",
    ],
)
def test_what_is_not_of_the_notation_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_layer(text)


@pytest.mark.parametrize("pattern", ["2z", "2(a", "a;a"])
def test_a_pattern_that_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        parse_layers(pattern, {"a": "full 4/2x3"})


_SIZE = st.integers(1, 97)
_DTYPE = st.sampled_from([None, "fp32", "bf16"])
_MAYBE = st.none() | _SIZE
_POSITION = st.builds(
    PositionState,
    st.sampled_from(Role),
    st.just(1),
    _SIZE,
    st.integers(0, 97),
    st.none() | _SIZE,
    _SIZE,
    _DTYPE,
    st.none() | _SIZE,
)
_FIXED = st.builds(FixedState, st.sampled_from(Role), _SIZE, _DTYPE, _SIZE)
_LAYER = st.builds(
    Layer,
    st.sampled_from([kind for kind in Kind if kind not in (Kind.SHARED, Kind.NONE)]),
    st.lists(_POSITION | _FIXED, min_size=1, max_size=3).map(tuple),
    _SIZE,
    _SIZE,
    _SIZE,
)


@given(_LAYER)
def test_every_layer_survives_the_round_trip(layer: Layer) -> None:
    assert parse_layer(layer_text(layer)) == layer
