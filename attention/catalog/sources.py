"""Finds the model that a user names: by catalogue name, config.json or its folder, GGUF file, or Hugging Face id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention.catalog import published
from attention.errors import shown
from attention.files import ordinary
from attention.spec import ModelSpec

_SUFFIXES = (".json", ".gguf")


def resolve(source: str, *, paths: bool = True) -> ModelSpec:
    """The model that `source` names.

    Args:
        source: a name of the catalogue, else the path of a .json or .gguf file or of a folder with a config.json,
            else a Hugging Face model id (if the Hub is allowed, see ``hub.py``). `source` counts as a path only if the
            path exists or the text can only be a path.
        paths: whether `source` may be a path. False for text from a web page: then no file of the host is read.

    Raises:
        ValueError: no such model is found, or its configuration cannot be read; the message says why.
    """
    row = _row(source)
    if row is not None:
        if row.spec is None:
            raise ValueError(f"{row.label}: {row.unpublished}")
        return row.spec
    # imported late: reading configurations loads transformers, which the catalogue does not need
    from attention.configs.reader import spec_from_config

    return spec_from_config(configuration(source, paths=paths), name=source)


def configuration(source: str, *, paths: bool = True) -> dict[str, Any]:
    """The configuration that `source` names; the arguments are those of :func:`resolve`.

    Raises:
        ValueError: as in :func:`resolve`, and for a model of the catalogue without a configuration.
    """
    row = _row(source)
    if row is not None:
        if row.config is None:
            raise ValueError(f"{row.label}: {row.unpublished or 'the catalogue holds no configuration of it'}")
        return row.config
    path = _path(source) if paths else None
    if path is not None:
        from attention.configs.reader import load_config

        return load_config(path)
    from attention.catalog import hub

    if hub.is_model_id(source) and hub.allowed():
        return hub.fetch_config(source)
    published.model(source)  # raises, naming close matches
    raise AssertionError("unreachable")


def _row(source: str) -> published.ModelRow | None:
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"a model is a name or a path, got {source!r}")
    return published.find(source)


def _path(source: str) -> Path | None:
    """The file that `source` names, None if it names none.

    Raises:
        ValueError: `source` can only be a path, and nothing is there.
    """
    path = Path(source)
    try:
        if path.is_dir():
            path = path / "config.json"
        # a file with another suffix is never opened
        if path.suffix in _SUFFIXES and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):
        raise ValueError(f"{shown(source)} is neither a model's name nor a usable path") from None
    if path.suffix in _SUFFIXES:
        ordinary(path)  # its message says what is there, if it is not a file
        raise ValueError(f"there is no file {shown(str(path), 300)}")
    if source.startswith(("/", ".", "~")):
        raise ValueError(f"{shown(source)} is neither a .json file nor a folder with a config.json, nor a .gguf file")
    return None
