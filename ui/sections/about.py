"""Facts about this installation, for the page About."""

from __future__ import annotations

import platform
import tomllib
from importlib.metadata import version

from attention.catalog import published
from ui.frame import ROOT


def facts() -> dict[str, str]:
    """Counts and versions, by the names that the text uses. The packages themselves are not imported."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        own = str(tomllib.load(file)["project"]["version"])
    packages = ("torch", "transformers", "streamlit", "plotly")
    return {
        "models": f"{len(published.models()):,}",
        "families": f"{len(published.families()):,}",
        "accelerators": f"{len(published.accelerators()):,}",
        "version": own,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
