"""Fetches a model's published config.json from the Hugging Face Hub, if the operator allows it.

Nothing else is fetched, and nothing that is fetched is executed. ``HEADSHARE_HUB=0`` turns the Hub off. The token comes
from ``HF_TOKEN`` alone, never from a file or a page.
"""

from __future__ import annotations

import os
import re
from typing import Any

from attention.errors import shown

TIMEOUT_S = 5.0
"""Longest time to wait for the Hub's answer, in seconds."""

# organisation/name in the form that the Hub allows: no second slash, no scheme, no query
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)


def allowed() -> bool:
    """Whether the operator lets this process ask the Hub."""
    from attention.settings import load  # late: the catalogue itself needs no setting

    return load().use_hub


def is_model_id(text: str) -> bool:
    """Whether `text` has the form ``organisation/name``; text with a path, a scheme or a query does not."""
    return _MODEL_ID.fullmatch(text) is not None and ".." not in text and "--" not in text


def fetch_config(model_id: str) -> dict[str, Any]:
    """The config.json of `model_id` as now published, or an earlier cached copy if the Hub cannot be reached.

    Raises:
        ValueError: not a model id, the Hub is turned off, the Hub cannot be reached and no copy is cached, no such
            model or file, access not granted, or a file over 8 MB.
    """
    if not is_model_id(model_id):
        raise ValueError(f"a Hugging Face model id looks like organisation/name, got {shown(model_id)}")
    if not allowed():
        raise ValueError(f"{model_id!r} is not in the catalogue, and asking the Hugging Face Hub is turned off here")
    path = _download(model_id)
    # imported late: reading configurations loads transformers
    from attention.configs.reader import load_config

    return load_config(path)


def _download(model_id: str) -> str:
    """Path of the config.json in the Hub's local cache. Its size is checked before it is fetched."""
    # imported late: a page that only computes must not wait for these imports
    import httpx2
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    from attention.configs.reader import MAX_BYTES

    token = os.environ.get("HF_TOKEN") or False
    try:
        url = hf_hub_url(model_id, "config.json")
        size = get_hf_file_metadata(url, token=token, timeout=TIMEOUT_S).size
        if size is not None and size > MAX_BYTES:
            raise ValueError(f"the config.json of {model_id} has {size:,} bytes; at most {MAX_BYTES:,} are read")
        return hf_hub_download(model_id, "config.json", token=token, etag_timeout=TIMEOUT_S)
    except GatedRepoError:
        raise ValueError(
            f"{model_id} is gated: access must be granted to the token in HF_TOKEN; or paste its config.json"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(f"the Hugging Face Hub knows no public model {model_id!r}") from None
    except LocalEntryNotFoundError:
        pass
    except EntryNotFoundError:
        raise ValueError(f"{model_id} has no config.json on the Hugging Face Hub") from None
    except HFValidationError:
        raise ValueError(f"{model_id!r} is not a Hugging Face model id") from None
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError):
        pass
    cached = try_to_load_from_cache(model_id, "config.json")
    if isinstance(cached, str):
        return cached
    raise ValueError(
        f"{model_id!r} is not in the catalogue and the Hugging Face Hub cannot be reached; give its config.json instead"
    )
