"""One large number, with what it is and what it is compared with, as ``st.metric`` draws it. It follows the head map
while that passes through the ways to share on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ui.components.component import component

_component = component(Path(__file__).parent, apart=False)


def big_number(label: str, value: str, beside: str, *, key: str, ways: Mapping[int, tuple[str, str]]) -> None:
    """Draw the number.

    Args:
        ways: for each number of K/V heads of the head map's ``intro`` the value and what stands beside it.
    """
    _component(
        key=key, data={"label": label, "value": value, "beside": beside, "ways": {str(n): w for n, w in ways.items()}}
    )
