"""Reads the fields of a config.json that decide its cache. Types are checked, and used class defaults are noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NoReturn

from attention.configs.names import HEADS, KV_HEADS, LAYERS, MAX_LAYERS, WIDTH, check_list
from attention.errors import shown
from attention.spec import check_size

_MISSING = object()


@dataclass
class Reader:
    """The decoder's part of a config.json, with the class defaults of its architecture.

    Attributes:
        model_type: the decoder's type.
        raw: the decoder's stated fields, with checked types (see `check_fields`).
        prefix: where the fields stand in the file, e.g. "text_config.".
        defaults: transformers' configuration object made from `raw`, or None for a type that transformers does not
            know.
        notes: what a user of the result must know; adapters add to it while they read.
    """

    model_type: str
    raw: dict[str, Any]
    prefix: str = ""
    defaults: Any = None
    notes: list[str] = field(default_factory=list)

    @property
    def nested(self) -> bool:
        """Whether the fields stand in a part of a composite model's file."""
        return bool(self.prefix)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Refuse the file because of the field `name`.

        Raises:
            ValueError: always; the message names the field and says `why`.
        """
        raise ValueError(f"{self.prefix}{name} {why}")

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def stated(self, *names: str) -> Any:
        """The value that the file states under one of `names`, None if it states none of them.

        Raises:
            ValueError: two of the names are stated with different values.
        """
        hits = [(name, self.raw[name]) for name in self.spellings(names) if self.raw.get(name) is not None]
        for name, value in hits[1:]:
            if value != hits[0][1]:
                self.refuse(name, f"= {shown(value)} contradicts {hits[0][0]} = {shown(hits[0][1])}")
        return hits[0][1] if hits else None

    def spellings(self, names: Sequence[str]) -> tuple[str, ...]:
        """`names`, and the class's names for the same fields: JetMoE's head_dim is kv_channels, T5's is d_kv."""
        aliases = getattr(self.defaults, "attribute_map", {})
        own = (aliases[name] for name in names if name in aliases)
        others = (alias for alias, name in aliases.items() if name in names)
        return tuple(dict.fromkeys((*names, *own, *others)))

    def default(self, name: str) -> Any:
        """The value of `name` in the class's object (after the class's own derivations), None if it has none."""
        try:
            return getattr(self.defaults, name, None)
        except Exception:  # heterogeneous configurations refuse global reads; the adapters read them per layer
            return None

    def class_default(self, name: str) -> Any:
        """The class's default for `name`, or for the class's own name of that field, before any derivation."""
        if self.defaults is None or not is_dataclass(self.defaults):
            return None
        name = self._own_name(name)
        for item in fields(self.defaults):
            if item.name == name:
                return item.default
        return None

    def _own_name(self, name: str) -> str:
        """The class's own name of a field: for JetMoE's head_dim it is kv_channels."""
        return str(getattr(self.defaults, "attribute_map", {}).get(name, name))

    def value(self, *names: str, default: Any = _MISSING) -> Any:
        """The stated value, else the class default (which is noted), else `default`.

        Raises:
            ValueError: there is none of the three.
        """
        hit = self.stated(*names)
        if hit is not None:
            return hit
        for name in names:
            value = self.default(name)
            if value is not None:
                self.note(
                    f"{self.prefix}{name} is not stated; {self.model_type}'s class default {shown(value)} is used"
                )
                return value
        if default is not _MISSING:
            return default
        self.refuse(names[0], f"is missing ({self.model_type} has no default for it)")

    def size(self, *names: str, minimum: int = 1, default: Any = _MISSING) -> int:
        """A whole number of at least `minimum`; see `value`."""
        return check_size(self.prefix + names[0], self.value(*names, default=default), minimum)

    def essential(self, what: str, names: Sequence[str]) -> int:
        """A size that the file must state itself; `what` names it in the message.

        The decoder's part of a composite model's file may leave it to the class: published files leave out values that
        equal class defaults (gemma-3-4b-it states neither heads nor K/V heads).

        Raises:
            ValueError: the size is missing or out of range.
        """
        value = self.stated(*names)
        if value is not None:
            return check_size(self.prefix + names[0], value)
        if self.nested:
            return self.size(*names)
        self.refuse(names[0], f"is missing: the file does not state {what}")

    # the four numbers that every adapter needs

    @property
    def n_layers(self) -> int:
        """Number of layers, 1 to MAX_LAYERS; see `essential`."""
        return check_size(self.prefix + LAYERS[0], self.essential("the number of layers", LAYERS), 1, MAX_LAYERS)

    @property
    def n_heads(self) -> int:
        """Number of query heads; see `essential`."""
        return self.essential("the number of query heads", HEADS)

    def n_kv_heads(self, *names: str, absent: int | None = None) -> int:
        """K/V heads: as stated; else by the class's own rule; else `absent` (the rule of a type without a class).

        Raises:
            ValueError: missing, out of range, or not a divisor of the query heads.
        """
        stated = self.stated(*(names or KV_HEADS))
        heads = self.n_heads
        if stated is None:
            stated = self._unstated_kv_heads(heads, absent, (names or KV_HEADS)[0])
        if isinstance(stated, list):
            self.refuse((names or KV_HEADS)[0], f"must be a whole number, got {shown(stated)}")
        value = check_size(self.prefix + (names or KV_HEADS)[0], stated)
        for name in () if names or self.defaults is None else KV_HEADS[1:]:
            if (
                self.raw.get(name) is not None
                and self.raw.get(KV_HEADS[0]) is None
                and not hasattr(type(self.defaults), name)
            ):
                self.refuse(
                    name, f"= {shown(self.raw[name])} is not read by {self.model_type}'s code; state {KV_HEADS[0]}"
                )
        if heads % value:
            self.refuse((names or KV_HEADS)[0], f"= {value} does not divide num_attention_heads = {heads}")
        return value

    def _unstated_kv_heads(self, heads: int, absent: int | None, name: str) -> int:
        if self.defaults is not None:
            known = self.default("num_key_value_heads")
            if known is None and name not in self.raw:  # the value differs from layer to layer, or has no default
                known = self.class_default("num_key_value_heads")
            if known is None:  # the class has no such field, or null: every query head has its own
                return heads
            if name not in self.raw and self.class_default("num_key_value_heads") is not None:
                self.note(f"{self.prefix}{name} is not stated; {self.model_type}'s class default {known!r} is used")
            return int(known)
        if absent is not None:
            return absent
        self.refuse(name, f"is missing ({self.model_type} has no default for it)")

    def head_dim(self, *names: str) -> int:
        """Size of a head: as stated; else the class default where that is a number; else width over query heads.

        For a stated null, the class's value after its own derivations counts in place of the class default.

        Raises:
            ValueError: out of range, or missing where query heads do not divide the width.
        """
        names = names or ("head_dim",)
        stated = self.stated(*names)
        if stated is not None:
            return check_size(self.prefix + names[0], stated)
        # a stated null is not an absent field: the class then works the size out, if it can
        fixed = self.default(names[0]) if names[0] in self.raw else self.class_default(names[0])
        if isinstance(fixed, int) and not isinstance(fixed, bool) and fixed > 0:
            self.note(f"{self.prefix}{names[0]} is not stated; {self.model_type}'s class default {fixed} is used")
            return fixed
        return self.even_head_dim(names[0])

    def even_head_dim(self, name: str = "head_dim") -> int:
        """Width over query heads, whatever the file states: the code of some families reads nothing else."""
        width, heads = self.width, self.n_heads
        if width % heads:
            missing = "is missing" if self.raw.get(name) is None else f"is not read by {self.model_type}'s code"
            self.refuse(name, f"{missing}, and hidden_size = {width} is not a multiple of {heads} query heads")
        stated = self.raw.get(name)
        if stated is not None and stated != width // heads:
            self.note(
                f"{self.prefix}{name} = {shown(stated)} is stated, but {self.model_type}'s code takes "
                f"hidden_size / query heads = {width // heads}, as counted here"
            )
        return width // heads

    @property
    def width(self) -> int:
        """Elements of a token's hidden state; see `essential`."""
        return self.essential("the width", WIDTH)

    def per_layer(self, name: str, n_layers: int) -> list[Any] | None:
        """A list with one entry per layer, as the class derives it or as the file states it; None if neither has it."""
        value = self.default(name)
        if value is None:
            value = self.raw.get(name)
        if value is None or len(value) == 0:
            return None
        return check_list(self.prefix + name, value, n_layers)

    def window(self, *names: str) -> int:
        """The window of a sliding layer, at least 1."""
        return self.size(*(names or ("sliding_window",)))
