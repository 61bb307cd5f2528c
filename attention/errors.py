"""All exceptions of this project, and helpers for the message that refuses a value. ::

    ValueError                a request cannot be done; the message is for the person who asked
    ├── SettingError          a setting is wrong: for the operator, never shown to a visitor
    ├── RefusedError          a run was not taken into the queue
    ├── StoreError            kept runs cannot be read or written
    ├── ContradictionError    a configuration states one field twice, with different values
    └── NotFiniteError        a document holds NaN or an infinity
    Exception
    ├── TooSlowError          an upload did not arrive in time
    ├── EnoughError           a forward pass has computed all that is needed
    └── StoppedError          a run was stopped inside a call that cannot check whether it should stop

An error that a user can correct, and that no code handles in its own way, is a plain ValueError: it names the field,
the value and what would be accepted. Code tells exceptions apart by class, never by name or by the message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar


class SettingError(ValueError):
    """A setting has a wrong value. The message is for the operator and never for visitors."""


class RefusedError(ValueError):
    """A run was not taken into the queue. The message is for the visitor."""


class StoreError(ValueError):
    """The store cannot read or write runs. The message is for the visitor and names no address or path."""


class ContradictionError(ValueError):
    """A configuration states one field under two names with different values."""


class NotFiniteError(ValueError):
    """A document holds NaN or an infinity, which JSON does not have."""


class TooSlowError(Exception):
    """An upload did not arrive in time."""


class EnoughError(Exception):
    """A model's forward pass has computed all that is needed: it ends here."""


class StoppedError(Exception):
    """A run was stopped inside a call that cannot check whether it should stop."""


Name = TypeVar("Name", bound=str)


def check_choice(name: str, value: object, known: Iterable[Name]) -> Name:
    """Return `value` if it is one of the `known` names.

    Raises:
        ValueError: it is not; the message names the field, the value and what is accepted.
    """
    known = tuple(known)
    for each in known:
        if each == value:
            return each
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")


def shown(value: object, most: int = 80) -> str:
    """A value as a message quotes it: the value's repr, cut after `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} …"
