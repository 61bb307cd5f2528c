"""Versions of the engines' own wheels, which are installed apart from this project's requirements."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version


def version_of(wheel: str, how: str) -> str:
    """The version of an installed wheel.

    Args:
        wheel: its name, also as a module. how: the arguments of pip that install it.

    Raises:
        ValueError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec(wheel) is None:
        raise ValueError(f"{wheel} is not installed: pip install {how}")
    return version(wheel)
