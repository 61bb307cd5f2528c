"""Settings from the environment: what is wrong is named by its variable, with the value and what is accepted."""

from __future__ import annotations

import pytest

from attention import settings
from attention.catalog import hub
from attention.errors import SettingError


def test_silence_gives_the_defaults() -> None:
    assert settings.load({}) == settings.load({"HEADSHARE_MAX_QUEUE": " "}) == settings.Settings()


def test_what_is_set_is_taken() -> None:
    found = settings.load({"HEADSHARE_MAX_QUEUE": "7", "HEADSHARE_GPU": "0", "HEADSHARE_DATA_DIR": "/data"})
    assert (found.max_queue, found.use_gpu, str(found.data_path)) == (7, False, "/data")
    assert settings.load({"HEADSHARE_JOB_MEMORY_MB": "3"}).job_memory_bytes == 3 * 2**20


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("HEADSHARE_MAX_QUEUE", "0", "a whole number from 1"),
        ("HEADSHARE_MAX_QUEUE", "-1", "a whole number from 1"),
        ("HEADSHARE_MAX_QUEUE", "1e3", "a whole number from 1"),
        ("HEADSHARE_MAX_QUEUE", "٣", "a whole number from 1"),
        ("HEADSHARE_JOB_SECONDS", "0", "a whole number from 1"),
        ("HEADSHARE_GPU", "yes", "0 or 1"),
        ("HEADSHARE_HUB", "false", "0 or 1"),
        ("HEADSHARE_CLIENT_HEADER", "x: y", "the name of a header"),
        ("HEADSHARE_PUBLIC_URL", "headshare.example", "an address such as"),
        ("HEADSHARE_PUBLIC_URL", "https://a.example/?x=<b>", "an address such as"),
        ("HEADSHARE_FRAME_ANCESTORS", "a; script-src *", "sites with blanks between"),
    ],
)
def test_what_is_wrong_is_refused(name: str, value: str, accepted: str) -> None:
    with pytest.raises(SettingError) as caught:
        settings.load({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be {accepted}")
    assert message.endswith(f"got {value!r}")


def test_the_hub_is_asked_unless_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSHARE_HUB", raising=False)
    assert hub.allowed()
    monkeypatch.setenv("HEADSHARE_HUB", "0")
    assert not hub.allowed()


def test_memory_is_the_groups_where_it_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory.max": "max"}
    monkeypatch.setattr(settings, "control_group", lambda name: files.get(name, ""))
    whole = settings.host_memory_bytes()
    files["memory.max"] = str(whole // 3)
    assert settings.host_memory_bytes() == whole // 3
    files.clear()
    files["memory/memory.limit_in_bytes"] = str(whole // 5)
    assert settings.host_memory_bytes() == whole // 5
    files["memory/memory.limit_in_bytes"] = str(2**63 - 4096)
    assert settings.host_memory_bytes() == whole


def test_sites_that_may_frame_a_page_are_a_list_and_nothing_else() -> None:
    name = "HEADSHARE_FRAME_ANCESTORS"
    for text in ("*", "'none'", "'self' https://a.example:8443 https://*.b.example"):
        assert settings.load({name: text}).frame_ancestors == text
    for text in ("'self'; script-src *", "https://a.example\nx: y", "https://a.example,https://b.example"):
        with pytest.raises(SettingError, match=name):
            settings.load({name: text})
