"""What an adapter is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attention.configs.fields import Reader
from attention.spec import Layer


@dataclass(frozen=True)
class Adapter:
    """How the files of one family are read.

    Attributes:
        read: the layers from a reader.
        uses_class: whether transformers has a configuration class to draw defaults from.
        class_type: the type of that class where it differs from the file's (a published alias).
        same_code: whether that class's modelling code is the model's own; a class may lend its defaults only.
        by_layer: whether `read` heeds per_layer_config, by which transformers writes what differs from layer to layer.
        foreign: which files of the type came with code of their own, from the decoder's fields.
        prepare: rewrites checked fields into a spelling that the class understands.
    """

    read: Callable[[Reader], list[Layer]]
    uses_class: bool = True
    class_type: str | None = None
    same_code: bool = True
    by_layer: bool = False
    prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    foreign: Callable[[Mapping[str, Any]], bool] = lambda part: False

    def oracle_type(self, model_type: str) -> str | None:
        """The type whose modelling code transformers has, None where it has none for these files."""
        if not self.same_code or not (self.uses_class or self.class_type):
            return None
        return self.class_type or model_type
