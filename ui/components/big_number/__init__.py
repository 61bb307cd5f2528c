"""One large number with its label and a comparison, drawn as ``st.metric`` draws it.

On arrival the head map shows several sharings in turn; the number then shows the value of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ui.components.component import component

_component = component(Path(__file__).parent, apart=False)


def big_number(label: str, value: str, beside: str, *, key: str, ways: Mapping[int, tuple[str, str]]) -> None:
    """Draw the number.

    Args:
        label: what the number is. value: the number as text. beside: the comparison beside it.
        ways: number of K/V heads -> (value, text beside it), for each number in the head map's ``intro``.
    """
    _component(
        key=key, data={"label": label, "value": value, "beside": beside, "ways": {str(n): w for n, w in ways.items()}}
    )
