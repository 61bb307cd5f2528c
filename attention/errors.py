"""This project's own exceptions, all of them, and the words of a message that refuses a value. ::

    ValueError                what somebody asked for cannot be done; the message is for them
    ├── SettingError          a setting is wrong: for the operator, never shown to a visitor
    ├── RefusedError          a run was not taken into the queue
    ├── StoreError            kept runs cannot be read or written
    ├── ContradictionError    a configuration states one field twice, with different values
    └── NotFiniteError        a document holds NaN or an infinity
    Exception
    ├── TooSlowError          an upload did not arrive in time
    ├── EnoughError           a forward pass has come as far as it is needed
    └── StoppedError          a run was stopped in the middle of what cannot be asked whether it should stop

What a user can mend and nobody needs to tell apart is a plain ValueError: it names the field, the value and what would
be accepted. They are told apart by class, never by a name or by words of a message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar


class SettingError(ValueError):
    """A setting that is not what it has to be. For the operator: the message is not for visitors."""


class RefusedError(ValueError):
    """A run that was not taken into the queue; the message is for the visitor."""


class StoreError(ValueError):
    """The store can't do it; the message is for the visitor and names no address or path."""


class ContradictionError(ValueError):
    """A configuration states one field under two names with different values."""


class NotFiniteError(ValueError):
    """A document holds NaN or an infinity, which JSON has not."""


class TooSlowError(Exception):
    """An upload that did not arrive in time."""


class EnoughError(Exception):
    """A model's forward pass has come as far as it is needed: what follows is not run."""


class StoppedError(Exception):
    """A run was stopped inside a call that is never asked whether it should stop."""


Name = TypeVar("Name", bound=str)


def check_choice(name: str, value: object, known: Iterable[Name]) -> Name:
    """Return `value` if it is one of the names that are known.

    Raises:
        ValueError: naming the field, the value received and what would be accepted.
    """
    known = tuple(known)
    for each in known:
        if each == value:
            return each
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")


def shown(value: object, most: int = 80) -> str:
    """A value as a message quotes it: its repr, cut after `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} …"
