"""The messages of a page: its elements, the text of each, and the value that a message gives to a control."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from streamlit.proto.Common_pb2 import FileUploaderState
from streamlit.runtime.state.common import user_key_from_element_id

from ui import address_keys

TRIGGERS = ("button", "download_button")
VALUES = ("selectbox", "radio", "multiselect", "slider", "number_input", "text_input", "text_area", "checkbox",
          "button_group", "file_uploader")  # fmt: skip


class Part(NamedTuple):
    """An element of the page: its kind, its message, its path in the page, the fragment that drew it (or "")."""

    kind: str
    proto: Any
    path: tuple[int, ...]
    fragment: str

    @property
    def id(self) -> str:
        return str(getattr(self.proto, "id", ""))

    @property
    def name(self) -> str:
        """The key given in the program, or kind and label."""
        return user_key_from_element_id(self.id) or f"{self.kind}: {getattr(self.proto, 'label', '')}"


def says(part: Part, reads: Callable[[Part], Any]) -> str:
    """The text that an element shows; for figures and tables a digest of their data and its beginning.

    Args:
        reads: gives the present value of a control.
    """
    p = part.proto
    match part.kind:
        case "metric":
            return f"{p.label}: {p.body} ({p.delta})"
        case "markdown" | "alert" | "heading" | "html":
            return "" if p.body.startswith("<style>") or "<style" in p.body[:40] else str(p.body)
        case "code":
            return str(p.code_text)
        case "plotly_chart":
            return f"{p.alt} {_digest(p.spec)}"
        case "dataframe":
            return _digest(p.arrow_data.data)
        case "bidi_component":
            return "" if "navigation" in p.component_name or "copy_link" in p.component_name else (
                f"{p.component_name} {_digest(p.json or str(p.mixed) or p.bytes)}"
            )  # fmt: skip
        case "button" | "download_button" | "page_link":
            return str(p.label)
        case "progress" | "text":
            return str(getattr(p, "text", "") or getattr(p, "body", ""))
        case kind if kind in VALUES and address_keys.reason(part.name):
            return ""  # an address does not restore this control
        case kind if kind in VALUES:
            return f"{p.label} = {reads(part)!r}"
    return ""


def of_message(part: Part) -> Any:
    """The value that the newest message gives to a control: one that the program has set, otherwise its default."""
    p, put = part.proto, bool(getattr(part.proto, "set_value", False))
    match part.kind:
        case "selectbox" | "radio":
            if put:
                return p.raw_value if p.HasField("raw_value") else None
            return p.options[p.default] if p.HasField("default") and p.options else None
        case "multiselect":
            return list(p.raw_values) if put else [p.options[i] for i in p.default]
        case "button_group":
            return list(p.raw_values) if put else [p.options[i].content for i in p.default]
        case "slider" if p.options:
            return list(p.raw_value) if put else [p.options[int(i)] for i in p.default]
        case "slider":
            return list(p.value if put else p.default)
        case _:
            field = "value" if put else "default"
            optional = p.DESCRIPTOR.fields_by_name[field].has_presence
            return getattr(p, field) if not optional or p.HasField(field) else None


def uploads(chosen: list[tuple[str, str, int]]) -> FileUploaderState:
    state = FileUploaderState()
    for file_id, name, size in chosen:
        info = state.uploaded_file_info.add(file_id=file_id, name=name, size=size)
        info.file_urls.file_id = file_id
    return state


def _digest(data: Any) -> str:
    if isinstance(data, str):
        data = re.sub(r"/mock/media/\S+", "", data)
    raw = data if isinstance(data, bytes) else str(data).encode()
    return f"[{hashlib.sha1(raw).hexdigest()[:10]} {str(data)[:300] if isinstance(data, str) else ''}]"


def differences(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> Iterator[str]:
    """The entries that only one of two pages shows, for both pages."""
    for mine, theirs, word in ((one, other, "only here"), (other, one, "only there")):
        left = list(theirs)
        for entry in mine:
            if entry in left:
                left.remove(entry)
            else:
                yield f"{word}: {json.dumps(entry, ensure_ascii=False)[:400]}"
