"""Layers written as one line of text: the notation of the model catalogue.

A layer is ``KIND [HEADS[/KV_HEADS]xDIM[:V_DIM]] [option=value …] [+ STATE …]``::

    full 32/8x128                               32 query heads share 8 K/V heads of size 128
    sliding 32/16x128 window=1024               16 K/V heads, and only the last 1,024 positions
    latent 128x192:128 + latent 1x512:64        one latent vector of 512 + 64 for all heads
    recurrent + convolution 32768 + recurrent 524288 heads=32
    shared 8x256 shares=18                      reads the cache of layer 18

After ``+`` a state is ``ROLE KV_HEADSxDIM[:V_DIM]`` (one entry per position; options window, stride, reads, dtype)
or ``ROLE ELEMENTS`` (constant size; options dtype, heads). A pattern such as ``10(5s f) 2s`` lists layers by letter: a
count before a letter or a bracket repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from attention.spec import FixedState, Kind, Layer, PositionState, Role, State

ROLES = {
    "kv": Role.KEY_VALUE,
    "latent": Role.LATENT,
    "indexer": Role.INDEXER,
    "compressed": Role.COMPRESSED,
    "cross": Role.CROSS,
    "convolution": Role.CONVOLUTION,
    "recurrent": Role.RECURRENT,
    "buffer": Role.BUFFER,
}
_WORDS = {role: word for word, role in ROLES.items()}
_HEADS = re.compile(r"(\d+)(?:/(\d+))?x(\d+)(?::(\d+))?")
_PATTERN = re.compile(r"(\d*)(?:([a-zA-Z])|\(([^()]*)\))|\s+|(.)")


@lru_cache(maxsize=4096)
def parse_layer(text: str) -> Layer:
    """The layer that `text` stands for.

    Raises:
        ValueError: text that is not in the notation, or a layer that contradicts itself.
    """
    head, *rest = text.split(" + ")
    kind, sizes, options = _parts(head, text)
    n_heads = k_head_dim = v_head_dim = 0
    states: list[State] = []
    if sizes is not None:
        n_heads, k_head_dim = int(sizes[1]), int(sizes[3])
        v_head_dim = int(sizes[4]) if sizes[4] is not None else k_head_dim
        if sizes[2] is not None:
            window = options.pop("window", None)
            states.append(PositionState(Role.KEY_VALUE, int(sizes[2]), k_head_dim, v_head_dim, _int(window)))
    states += [_state(part, text) for part in rest]
    shares = _int(options.pop("shares", None))
    if options or kind not in Kind.__members__.values():
        raise ValueError(f"layer {text!r} is not understood")
    return Layer(Kind(kind), tuple(states), n_heads, k_head_dim, v_head_dim, shares)


def _state(part: str, text: str) -> State:
    word, sizes, options = _parts(part, text)
    if word not in ROLES:
        raise ValueError(f"layer {text!r}: a state's role is one of {', '.join(ROLES)}, got {word!r}")
    dtype = options.pop("dtype", None)
    state: State
    if sizes is not None:
        k_dim = int(sizes[3])
        v_dim = int(sizes[4]) if sizes[4] is not None else k_dim
        window, stride = _int(options.pop("window", None)), _int(options.pop("stride", "1"))
        assert stride is not None
        reads = _int(options.pop("reads", None))
        state = PositionState(ROLES[word], int(sizes[1]), k_dim, v_dim, window, stride, dtype, reads)
    else:
        elements, heads = _int(options.pop("elements", None)), _int(options.pop("heads", "1"))
        if elements is None or heads is None:
            raise ValueError(f"layer {text!r}: the state {part!r} has no size")
        state = FixedState(ROLES[word], elements, dtype, heads)
    if options:
        raise ValueError(f"layer {text!r}: unknown option {next(iter(options))!r}")
    return state


def _parts(part: str, text: str) -> tuple[str, re.Match[str] | None, dict[str, str]]:
    word, *rest = part.split()
    sizes = None
    options: dict[str, str] = {}
    for item in rest:
        name, equals, value = item.partition("=")
        if equals:
            options[name] = value
        elif item.isdecimal():
            options["elements"] = item
        elif match := _HEADS.fullmatch(item):
            sizes = match
        else:
            raise ValueError(f"layer {text!r}: {item!r} is not understood")
    return word, sizes, options


def _int(value: str | None) -> int | None:
    return None if value is None else int(value)


def parse_layers(pattern: str, kinds: Mapping[str, str]) -> tuple[Layer, ...]:
    """The layers of a pattern; `kinds` gives the text of the layer for each letter.

    Raises:
        ValueError: an unknown letter, or text that is not in the notation.
    """
    layers: list[Layer] = []
    for count, letter, group, stray in _PATTERN.findall(pattern):
        if stray or (letter and letter not in kinds):
            raise ValueError(f"pattern {pattern!r}: {(stray or letter)!r} is not understood")
        if letter:
            layers += [parse_layer(kinds[letter])] * int(count or 1)
        elif group:
            layers += parse_layers(group, kinds) * int(count or 1)
    return tuple(layers)


def layer_text(layer: Layer) -> str:
    """The text from which :func:`parse_layer` makes `layer`."""
    words: list[str] = [layer.kind]
    states = list(layer.states)
    own = next((s for s in states if isinstance(s, PositionState) and s.role is Role.KEY_VALUE), None)
    # the short form is for the usual state; any other state is written after a plus
    usual = (
        own is not None
        and states[0] is own
        and (own.k_head_dim, own.v_head_dim) == (layer.k_head_dim, layer.v_head_dim)
        and (own.stride, own.dtype, own.reads) == (1, None, None)
    )
    if layer.n_heads:
        kv = f"/{own.n_kv_heads}" if usual and own else ""
        words.append(f"{layer.n_heads}{kv}x{_dims(layer.k_head_dim, layer.v_head_dim)}")
    if usual and own:
        states.remove(own)
        if own.window is not None:
            words.append(f"window={own.window}")
    if layer.shares is not None:
        words.append(f"shares={layer.shares}")
    return " + ".join([" ".join(words), *(_state_text(s) for s in states)])


def _state_text(state: State) -> str:
    words = [_WORDS[state.role]]
    if isinstance(state, PositionState):
        words.append(f"{state.n_kv_heads}x{_dims(state.k_head_dim, state.v_head_dim)}")
        words += [f"window={state.window}"] if state.window is not None else []
        words += [f"stride={state.stride}"] if state.stride != 1 else []
        words += [f"reads={state.reads}"] if state.reads is not None else []
    else:
        words.append(str(state.elements))
        words += [f"heads={state.n_heads}"] if state.n_heads != 1 else []
    return " ".join(words + ([f"dtype={state.dtype}"] if state.dtype else []))


def _dims(k_dim: int, v_dim: int) -> str:
    return str(k_dim) if k_dim == v_dim else f"{k_dim}:{v_dim}"
