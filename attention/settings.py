"""The limits and places that an operator can set by environment variables. The defaults suit a small public demo.

``python -m attention.settings`` prints the table below with the values in force.

The variables are read here without pydantic-settings, which would take 148 ms to load in the server and in most
commands.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from attention.errors import SettingError, shown

PROJECT = Path(__file__).resolve().parent.parent


def control_group(name: str) -> str:
    """The text of the file `name` of this process's control group; "" where there is none.

    Args:
        name: the file's name in version 2, or controller and file in version 1 ("memory/memory.limit_in_bytes").
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::")), "")
        for folder in (f"/sys/fs/cgroup{own}", "/sys/fs/cgroup"):
            path = Path(folder) / name
            if path.exists():
                return path.read_text().strip()
    except OSError:
        pass
    return ""


def host_memory_bytes() -> int:
    """Bytes of memory that this process can use: the machine's, or its control group's limit where that is smaller."""
    import psutil  # late: reading a setting does not need it

    total = int(psutil.virtual_memory().total)
    limit = control_group("memory.max") or control_group("memory/memory.limit_in_bytes")
    return min(total, int(limit)) if limit.isdigit() else total


def _variable(name: str, default: Any, meaning: str, minimum: int = 0) -> Any:
    return field(default=default, metadata={"variable": name, "meaning": meaning, "minimum": minimum})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. :func:`load` reads them; each field names its variable."""

    max_queue: int = _variable(
        "HEADSHARE_MAX_QUEUE", 16, "runs that may wait or run at once on a device of this host", 1
    )
    session_jobs: int = _variable("HEADSHARE_SESSION_JOBS", 2, "runs one visitor may have waiting or running", 1)
    client_jobs: int = _variable("HEADSHARE_CLIENT_JOBS", 4, "runs one client address may have waiting or running", 1)
    job_seconds: int = _variable("HEADSHARE_JOB_SECONDS", 300, "longest run, in seconds", 1)
    job_memory_mb: int = _variable(
        "HEADSHARE_JOB_MEMORY_MB", 0, "most memory of the worker process, in MiB; 0 is half of the host's"
    )
    worker_idle_seconds: int = _variable(
        "HEADSHARE_WORKER_IDLE_SECONDS", 120, "an unused worker process ends after so long and gives its memory back"
    )
    worker_nice: int = _variable(
        "HEADSHARE_WORKER_NICE", 5, "niceness of the worker, so that pages stay quick while it computes"
    )
    warm_worker: bool = _variable(
        "HEADSHARE_WARM_WORKER", True, "1 or 0: whether the worker is started before somebody presses Run"
    )
    use_gpu: bool = _variable("HEADSHARE_GPU", True, "1 or 0: whether runs may use a CUDA device")
    use_hub: bool = _variable(
        "HEADSHARE_HUB", True, "1 or 0: whether a model's config.json may be read from the Hugging Face Hub"
    )
    model: str = _variable(
        "HEADSHARE_MODEL",
        "",
        "folder, GGUF file or Hub id of a Llama-like model to run; empty: the one of requirements-model.txt",
    )
    lock_dir: str = _variable(
        "HEADSHARE_LOCK_DIR",
        "",
        "folder of the host's queue, shared by all app processes; empty: in the temporary folder",
    )
    data_dir: str = _variable(
        "HEADSHARE_DATA_DIR", "", "folder of the kept runs (SQLite); empty: var/ beside the program"
    )
    kernels_dir: str = _variable(
        "HEADSHARE_KERNELS_DIR",
        "",
        "folder of the native kernels that were built ahead; empty: attention/kernels/prebuilt/ of the program",
    )
    database_url: str = _variable(
        "DATABASE_URL", "", "PostgreSQL address of the kept runs, in place of SQLite, for several replicas"
    )
    max_stored_runs: int = _variable("HEADSHARE_MAX_RUNS", 2000, "kept runs; beyond it the oldest are dropped", 1)
    client_header: str = _variable(
        "HEADSHARE_CLIENT_HEADER",
        "",
        "header in which the proxy in front names the client, e.g. X-Forwarded-For; empty: no proxy in front",
    )
    proxies: int = _variable(
        "HEADSHARE_PROXIES", 1, "proxies in front that add to that header: the client is so many from its end", 1
    )
    max_sessions: int = _variable("HEADSHARE_MAX_SESSIONS", 400, "tabs that may be open at once, of all clients", 1)
    client_sessions: int = _variable("HEADSHARE_CLIENT_SESSIONS", 100, "tabs that one client may have open", 1)
    client_connections: int = _variable(
        "HEADSHARE_CLIENT_CONNECTIONS", 256, "open connections of one address, where no proxy is in front", 1
    )
    header_seconds: int = _variable(
        "HEADSHARE_HEADER_SECONDS", 10, "a connection that has not sent a whole request header by then is closed", 1
    )
    upload_seconds: int = _variable("HEADSHARE_UPLOAD_SECONDS", 60, "longest time one upload may take", 1)
    session_upload_mb: int = _variable("HEADSHARE_SESSION_UPLOAD_MB", 8, "MiB of files that one tab may keep", 1)
    client_upload_mb: int = _variable("HEADSHARE_CLIENT_UPLOAD_MB", 32, "MiB of files that one client may keep", 1)
    max_upload_mb: int = _variable("HEADSHARE_MAX_UPLOAD_MB", 128, "MiB of files that all visitors may keep", 1)
    metrics_token: str = _variable(
        "HEADSHARE_METRICS_TOKEN", "", "whoever sends it as a bearer token may read /_stcore/metrics; empty: nobody"
    )
    session_saves: int = _variable("HEADSHARE_SESSION_SAVES", 50, "runs one visitor may keep or upload", 1)
    frame_ancestors: str = _variable(
        "HEADSHARE_FRAME_ANCESTORS",
        "'self' https://huggingface.co https://*.hf.space",
        "sites that may show a page in a frame (?embed=true), with blanks between; * for any, 'none' for none",
    )
    public_url: str = _variable(
        "HEADSHARE_PUBLIC_URL",
        "",
        "address under which visitors reach the server, e.g. https://headshare.example, for what links show of "
        "themselves; empty: the host asked for, where STREAMLIT_SERVER_ALLOWED_HOSTS names it",
    )

    @property
    def job_memory_bytes(self) -> int:
        """The worker's memory budget in bytes."""
        return self.job_memory_mb * 2**20 if self.job_memory_mb else host_memory_bytes() // 2

    @property
    def data_path(self) -> Path:
        """The folder of the kept runs."""
        return Path(self.data_dir) if self.data_dir else PROJECT / "var"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that `environment` (the process's own by default) asks for.

    Raises:
        SettingError: a variable has a wrong value; the message names the variable and what it must be.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for item in fields(Settings):
        name = item.metadata["variable"]
        text = environment.get(name, "").strip()
        if not text:
            continue
        if isinstance(item.default, bool):
            if text not in ("0", "1"):
                raise SettingError(f"{name} must be 0 or 1, got {shown(text)}")
            values[item.name] = text == "1"
        elif isinstance(item.default, int):
            if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < item.metadata["minimum"]:
                raise SettingError(f"{name} must be a whole number from {item.metadata['minimum']}, got {shown(text)}")
            values[item.name] = int(text)
        elif item.name == "frame_ancestors" and not re.fullmatch(r"[!-+\--:<-~]+( +[!-+\--:<-~]+)*", text):
            raise SettingError(
                f"{name} must be sites with blanks between, such as https://example.org, got {shown(text)}"
            )
        elif item.name == "public_url" and not re.fullmatch(
            r"(?!.{301})https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~-]+)*/?", text
        ):
            raise SettingError(f"{name} must be an address such as https://headshare.example, got {shown(text)}")
        else:
            values[item.name] = text
    header = values.get("client_header", "")
    if header and not re.fullmatch(r"[A-Za-z0-9-]{1,100}", header):
        raise SettingError(f"HEADSHARE_CLIENT_HEADER must be the name of a header, got {shown(header)}")
    return Settings(**values)


def load_or_exit() -> Settings:
    """The settings in force. Ends the process with a message where a setting is wrong; for programs at their start."""
    try:
        return load()
    except SettingError as error:
        sys.exit(f"headshare: {error}")


if __name__ == "__main__":
    now = load_or_exit()
    for item in fields(Settings):
        # a database address holds a password
        secret = item.name in ("database_url", "metrics_token") and getattr(now, item.name)
        value = "(set)" if secret else getattr(now, item.name)
        print(f"{item.metadata['variable']}={value!s:10}  {item.metadata['meaning']} (default {item.default!r})")
