"""The results of a run of the job "heads", for pages. Free of torch."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_LAYER_BYTES = 64 * 2**20


def squeezed(maps: bytes) -> str:
    """A layer's maps as compressed text. Most of their bytes are zeros."""
    return base64.b64encode(zlib.compress(maps, 1)).decode("ascii")


def unpacked(text: str) -> bytes:
    """The maps from the text that :func:`squeezed` made, at most MAX_LAYER_BYTES bytes."""
    return zlib.decompressobj().decompress(base64.b64decode(text), MAX_LAYER_BYTES)


@dataclass
class Looked:
    """A text, and what each layer's heads look at in it.

    Attributes:
        about: model, n_layers, n_heads, n_kv_heads.
        tokens: the texts of the tokens.
        predictions: for each token the likeliest next tokens, and the one that follows, see ``heads.predictions``.
        layers: layer -> its maps from :func:`squeezed`, for the layers that have come so far.
    """

    about: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    layers: dict[int, str] = field(default_factory=dict)
    _seen: int = 0

    def take_in(self, results: Sequence[dict[str, Any]]) -> Looked:
        """Add the results since the last call. `results` only grows at its end."""
        for item in results[self._seen : len(results)]:
            match item["kind"]:
                case "model":
                    self.about = {name: value for name, value in item.items() if name not in ("kind", "tokens")}
                    self.tokens = item["tokens"]
                case "predictions":
                    self.predictions = item["predictions"]
                case "layer":
                    self.layers[item["layer"]] = item["maps"]
            self._seen += 1
        return self
