import pytest

from attention.spec import ModelSpec, uniform_spec
from attention.states import FixedState, Kind, Layer, PositionState, Role, attention_layer, check_size, latent_layer


@pytest.mark.parametrize("value", [True, 1.0, "7", None])
def test_a_size_is_a_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=f"n_heads must be a whole number, got {value!r}"):
        check_size("n_heads", value)


@pytest.mark.parametrize("value", [0, -3, 2**41])
def test_a_size_is_in_range(value: int) -> None:
    with pytest.raises(ValueError, match=r"n_heads must be between 1 and 1,099,511,627,776, got"):
        check_size("n_heads", value)


def test_a_window_holds_at_most_so_many_entries() -> None:
    state = PositionState(Role.KEY_VALUE, 3, 5, 7, window=11)
    assert [state.positions(n) for n in (0, 1, 10, 11, 12, 1000)] == [0, 1, 10, 11, 11, 11]
    assert state.elements_per_position == 3 * (5 + 7)


def test_a_stride_keeps_whole_blocks_only() -> None:
    state = PositionState(Role.COMPRESSED, 1, 13, 0, stride=5)
    assert [state.positions(n) for n in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]


def test_n_kv_heads_must_divide_n_heads() -> None:
    with pytest.raises(ValueError, match="n_kv_heads must divide n_heads = 7, got 3"):
        attention_layer(7, 3, 5)


def test_a_layer_without_states_says_so_in_its_kind() -> None:
    with pytest.raises(ValueError, match="kind full must say what it keeps"):
        Layer(Kind.FULL, (), 7, 5, 5)
    with pytest.raises(ValueError, match="kind none keeps no state"):
        Layer(Kind.NONE, (FixedState(Role.BUFFER, 3),))
    with pytest.raises(ValueError, match="shares belongs to layers of kind shared"):
        Layer(Kind.SHARED, n_heads=3, k_head_dim=5, v_head_dim=5)


def test_a_shared_layer_names_an_earlier_layer_with_a_cache() -> None:
    full = attention_layer(6, 3, 5)
    shared = Layer(Kind.SHARED, (), 6, 5, 5, shares=0)
    assert ModelSpec("m", (full, shared)).n_layers == 2
    for layers in ((shared, full), (full, shared, Layer(Kind.SHARED, (), 6, 5, 5, shares=1))):
        with pytest.raises(ValueError, match="which is not an earlier layer with a cache"):
            ModelSpec("m", layers)


def test_a_model_has_layers_and_known_dtypes() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        ModelSpec("m", ())
    with pytest.raises(ValueError, match=r"model_dtype must be one of .*, got 'float99'"):
        ModelSpec("m", (attention_layer(2, 1, 3),), model_dtype="float99")


def test_the_layer_that_stands_for_the_model_is_the_most_frequent_with_a_cache() -> None:
    window, full = attention_layer(10, 5, 7, window=3), attention_layer(10, 2, 11)
    recurrent = Layer(Kind.RECURRENT, (FixedState(Role.RECURRENT, 13),))
    spec = ModelSpec("m", (window, full, window, recurrent, recurrent, recurrent))
    assert spec.attention_layer is window
    assert (spec.n_heads, spec.n_kv_heads, spec.head_dim) == (10, 5, 7)
    assert spec.groups == ((window, 2), (full, 1), (recurrent, 3))
    alone = ModelSpec("m", (recurrent,))
    assert (alone.n_heads, alone.n_kv_heads, alone.head_dim) == (0, 0, 0)


def test_a_latent_layer_keeps_one_vector_for_all_heads() -> None:
    layer = latent_layer(17, 31, 7, 11, 13, index_head_dim=5)
    latent, indexer = layer.states
    assert isinstance(latent, PositionState)
    assert isinstance(indexer, PositionState)
    assert (latent.role, latent.n_kv_heads, latent.elements_per_position) == (Role.LATENT, 1, 31 + 7)
    assert (indexer.role, indexer.elements_per_position) == (Role.INDEXER, 5)
    assert (layer.n_heads, layer.k_head_dim, layer.v_head_dim, layer.group_size) == (17, 11 + 7, 13, 17)


def test_typed_sizes_make_equal_layers() -> None:
    spec = uniform_spec(3, 14, 7, 5, window=11)
    assert spec.groups == ((attention_layer(14, 7, 5, window=11), 3),)
    with pytest.raises(ValueError, match=r"n_layers must be between 1 and 10,000, got 10001"):
        uniform_spec(10_001, 14, 7, 5)
