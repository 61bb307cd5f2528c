"""Colours can be told apart, and axes can be read."""

from itertools import pairwise

import plotly.graph_objects as go
import pytest

from viz import theme


def _linear(hex_color):
    channels = [int(hex_color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def _luminance(hex_color):
    r, g, b = _linear(hex_color)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _oklab(rgb):
    r, g, b = rgb
    cone = (
        0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b,
        0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b,
        0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b,
    )
    l_, m, s = (max(c, 0) ** (1 / 3) for c in cone)
    return (
        0.2104542553 * l_ + 0.7936177850 * m - 0.0040720468 * s,
        1.9779984951 * l_ - 2.4285922050 * m + 0.4505937099 * s,
        0.0259040371 * l_ + 0.7827717662 * m - 0.8086757660 * s,
    )


# Machado, Oliveira and Fernandes 2009, severity 1.0, linear RGB
_BLIND = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def _distance(a, b, sight):
    points = []
    for color in (a, b):
        rgb = _linear(color)
        points.append(_oklab([sum(m * c for m, c in zip(row, rgb, strict=True)) for row in _BLIND[sight]]))
    return sum((x - y) ** 2 for x, y in zip(*points, strict=True)) ** 0.5


@pytest.mark.parametrize("sight", _BLIND)
def test_neighbours_can_be_told_apart(sight):
    # 0.02 is about one just noticeable difference in OKLab
    colors = theme.kv_colors(8)
    assert min(_distance(a, b, sight) for a, b in pairwise(colors)) > 0.08


def test_many_heads_have_distinct_colours():
    for n in (16, 32, 64, 128):
        colors = theme.kv_colors(n)
        assert len(set(colors)) == n
        assert min(_distance(a, b, "full") for a, b in pairwise(colors)) > 0.06


def test_colours_show_on_light_and_dark():
    # WCAG asks 3:1 of graphics; the palette's sky blue and orange are lighter and carry their number in dark ink
    for color in theme.kv_colors(128):
        assert (_luminance(color) + 0.05) / (_luminance("#11171a") + 0.05) > 3
        assert 1.05 / (_luminance(color) + 0.05) > 1.9


def test_a_head_keeps_its_colour_when_others_join():
    assert theme.kv_colors(32)[:8] == theme.kv_colors(8)


@pytest.mark.parametrize("i", [-1, 8])
def test_no_such_head(i):
    with pytest.raises(ValueError, match="between 0 and n - 1 = 7"):
        theme.kv_color(i, 8)


def test_axes_read_as_people_say_them():
    fig = theme.token_axis(go.Figure(), 1024, 131_072)
    assert fig.layout.xaxis.ticktext == ("1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k")
    fig = theme.bytes_axis(go.Figure(), 16 * 2**30)
    assert fig.layout.yaxis.ticktext == ("0", "4.00 GiB", "8.00 GiB", "12.0 GiB", "16.0 GiB")
    fig = theme.bytes_axis(go.Figure(), 2**34, 2**20, log=True)
    assert fig.layout.yaxis.type == "log"
    assert {"1.00 MiB", "1.00 GiB"} & set(fig.layout.yaxis.ticktext)


def test_empty_is_titled():
    fig = theme.empty("Cache")
    assert fig.layout.title.text == "Cache"
    assert not fig.data
