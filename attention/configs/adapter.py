"""An adapter says how the configurations of one family are read."""

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
        read: makes the layers from a reader.
        uses_class: whether the defaults come from a configuration class of transformers.
        class_type: the type of that class where it differs from the file's type (a published alias).
        same_code: whether the modelling code of that class is the model's own; False: the class only gives defaults.
        by_layer: whether `read` uses per_layer_config, in which transformers writes fields that differ between layers.
        prepare: rewrites checked fields into names and values that the class understands.
        foreign: from the decoder's fields, whether a file came with modelling code of its own.
    """

    read: Callable[[Reader], list[Layer]]
    uses_class: bool = True
    class_type: str | None = None
    same_code: bool = True
    by_layer: bool = False
    prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    foreign: Callable[[Mapping[str, Any]], bool] = lambda part: False

    def oracle_type(self, model_type: str) -> str | None:
        """The type of the modelling code that transformers has for these files; None where it has none."""
        if not self.same_code or not (self.uses_class or self.class_type):
            return None
        return self.class_type or model_type
