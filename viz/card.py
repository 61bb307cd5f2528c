"""The picture in the preview of a link: a view's finding, its bars and its heads on 1200 × 630 pixels.

Pillow draws it, and nothing is fetched. Text is drawn letter by letter, so markup in it has no effect.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from viz.theme import kv_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viz.bars import Bar

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDTH, HEIGHT = 1200, 630
_MARGIN = 64
_INK, _GREY, _PAPER, _LINE = "#1c2529", "#5b676d", "#ffffff", "#dfe4e6"
_BRAND = ("#0072B2", "#009E73", "#E69F00", "#D55E00")
_TOGETHER = re.compile(r"(?<=\d) (?=[KMGTPE]?i?B\b|%|times|×)|(?<=×) ")
"""Blanks between a number and its unit; a line must not break there."""
_MOST_HEADS = 128
"""A layer with more query heads is not drawn, because each head would be too thin."""


class Card(NamedTuple):
    """The content of the picture.

    Attributes:
        page: the page's label, small, beside the site's name. says: the finding, in one to three lines.
        bars: at most five, on one scale.
        heads: (query heads, K/V heads), None for none.
    """

    page: str
    says: str
    bars: tuple[Bar, ...] = ()
    heads: tuple[int, int] | None = None


class _Pen:
    """Pillow's drawing object with a font file."""

    def __init__(self, picture: Image.Image, font: str) -> None:
        self.draw = ImageDraw.Draw(picture)
        self._file = font

    def font(self, size: int, weight: int = 400) -> _Font:
        return _font(self._file, size, weight)

    def length(self, text: str, font: _Font) -> float:
        return self.draw.textlength(text, font)


def draw_card(card: Card, font: str = "") -> bytes:
    """The picture as PNG. Call it in one thread at a time, because the font library is not safe in several.

    Args:
        font: file of a variable font; if it is empty or cannot be read, Pillow's own font is used.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen = _Pen(picture, font)
    _brand(pen, card.page)
    below = _finding(pen, card.says)
    if card.heads is not None and card.heads[0] <= _MOST_HEADS:
        below = _heads(pen, below, *card.heads)
    if card.bars:
        _bars(pen, below, card.bars)
    else:
        _three_ways(pen, below)
    buffer = io.BytesIO()
    # with a palette the file has a third of the bytes; this method takes less time than the smaller file saves
    colors = picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colors.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


@lru_cache(maxsize=32)
def _font(file: str, size: int, weight: int) -> _Font:
    try:
        font = ImageFont.truetype(file, size)
        font.set_variation_by_axes([weight])
    except OSError:  # there is no font file, or the font library cannot read WOFF2
        return ImageFont.load_default(size)
    return font


def _brand(pen: _Pen, page: str) -> None:
    for i, color in enumerate(_BRAND):
        pen.draw.rounded_rectangle((_MARGIN + 22 * i, 52, _MARGIN + 22 * i + 17, 80), 4, fill=color)
    pen.draw.text((_MARGIN + 104, 66), "Headshare", _INK, pen.font(34, 600), anchor="lm")
    pen.draw.text((WIDTH - _MARGIN, 66), page, _GREY, pen.font(30), anchor="rm")
    pen.draw.line((_MARGIN, 108, WIDTH - _MARGIN, 108), _LINE, 2)


def _finding(pen: _Pen, says: str) -> int:
    """Draw the finding as large as three lines allow; returns its lower end in pixels."""
    room = WIDTH - 2 * _MARGIN
    for size in (64, 56, 48, 40):
        lines = _lines(pen, says, size, room)
        if len(lines) <= (2 if size > 48 else 3):
            break
    top = 132
    for line in lines[:3]:
        pen.draw.text((_MARGIN, top), line, _INK, pen.font(size, 600))
        top += round(size * 1.18)
    return top + 20


def _lines(pen: _Pen, text: str, size: int, room: int) -> list[str]:
    lines, line = [], ""
    for word in _TOGETHER.sub("\u00a0", text).split(" "):
        longer = f"{line} {word}".strip()
        if line and pen.length(longer, pen.font(size, 600)) > room:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def _heads(pen: _Pen, top: int, n_heads: int, n_kv_heads: int) -> int:
    """Draw the query heads in the colours of their K/V heads, and these below; returns the lower end in pixels."""
    room, gap = WIDTH - 2 * _MARGIN, 3 if n_heads <= 64 else 1
    step = room / n_heads
    per_kv = n_heads / n_kv_heads
    for i in range(n_heads):
        left = _MARGIN + round(i * step)
        color = kv_color(int(i // per_kv), n_kv_heads)
        pen.draw.rounded_rectangle((left, top, left + round(step) - gap - 1, top + 28), min(5, step // 3), fill=color)
    for j in range(n_kv_heads):
        left, right = _MARGIN + round(j * per_kv * step), _MARGIN + round((j + 1) * per_kv * step)
        pen.draw.rounded_rectangle((left, top + 36, right - gap - 1, top + 48), 4, fill=kv_color(j, n_kv_heads))
    return top + 78


def _bars(pen: _Pen, top: int, bars: Sequence[Bar]) -> None:
    longest = max((bar.end for bar in bars), default=0) or 1
    step = min(84, (HEIGHT - 44 - top) / len(bars))
    size = max(20, min(34, round(step * 0.5)))
    label_room = min(320.0, max(pen.length(bar.label, pen.font(size, 600)) for bar in bars)) + 24
    text_room = max(pen.length(bar.text, pen.font(size, 600)) for bar in bars) + 20
    left = _MARGIN + label_room
    room = WIDTH - _MARGIN - text_room - left
    for i, bar in enumerate(bars):
        middle = top + step * (i + 0.5)
        font = pen.font(size, 600 if bar.own else 400)
        pen.draw.text((_MARGIN, middle), _cut(pen, bar.label, font, label_room - 20), _INK, font, anchor="lm")
        begin, end = sorted((left + room * bar.start / longest, left + room * bar.end / longest))
        end = max(end, begin + 3)
        half = step * 0.34
        pen.draw.rounded_rectangle(
            (begin, middle - half, end, middle + half), min(6, (end - begin) / 2), fill=bar.color
        )
        pen.draw.text((end + 14, middle), bar.text, _INK, font, anchor="lm")


def _cut(pen: _Pen, text: str, font: _Font, room: float) -> str:
    if pen.length(text, font) <= room:
        return text
    while text and pen.length(f"{text}…", font) > room:
        text = text[:-1]
    return f"{text}…"


def _three_ways(pen: _Pen, top: int) -> None:
    """Draw eight query heads over eight, two and one K/V head: for a page that is not about one model."""
    top = max(top + 20, 330)
    width = (WIDTH - 2 * _MARGIN - 2 * 56) / 3
    for at, (name, n_kv_heads) in enumerate((("MHA", 8), ("GQA", 2), ("MQA", 1))):
        left, step = _MARGIN + at * (width + 56), width / 8
        for i in range(8):
            color = kv_color(i * n_kv_heads // 8, n_kv_heads)
            pen.draw.rounded_rectangle((left + i * step, top, left + (i + 1) * step - 6, top + 70), 7, fill=color)
        for j in range(n_kv_heads):
            span = width / n_kv_heads
            pen.draw.rounded_rectangle(
                (left + j * span, top + 90, left + (j + 1) * span - 6, top + 116), 7, fill=kv_color(j, n_kv_heads)
            )
        pen.draw.text((left + width / 2 - 3, top + 156), name, _GREY, pen.font(32, 600), anchor="mm")
