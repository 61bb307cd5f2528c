"""Converts a checkpoint to fewer K/V heads: from multi-head to grouped-query or multi-query attention.

The plan (``plan``) has every size, so a file's header is written first and its bytes follow. The kernel copies
unchanged bytes from file to file. Pooled and cast tensors pass through memory, a piece at a time. So the memory that is
needed does not depend on the size of the model or of its shards.

The result is written to a hidden folder beside its place, and renamed when it is whole and on the disk. An interrupted
run leaves nothing that looks like a checkpoint, and the next run starts from the beginning.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from attention.convert import checkpoint as ckpt
from attention.convert.plan import Plan, plan_conversion
from attention.convert.report import Report, report_of
from attention.convert.streamed import (
    Calibration,
    LayerDone,
    calibrate_plan,
    scratch_bytes,
    scratch_of,
)
from attention.convert.write import write_shard
from attention.files import resolved, sync

_COPIED_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".md", ".tiktoken", ".bpe", ".vocab", ".spm")
_COPIED_NAMES = ("LICENSE", "NOTICE", "USE_POLICY", "README")
_COPIED_FOLDERS = ("additional_chat_templates",)
_STALE = ("params.json",)
"""Files that describe the weights for another tool. After the conversion they would be wrong, so they are left out."""

Progress = Callable[[int, int], None]
"""Called with (bytes written, bytes in all)."""


def convert(
    source: Path,
    target: Path,
    n_kv_heads: int,
    pool: str = "mean",
    seed: int = 0,
    dtype: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    calibration: Calibration | None = None,
    layer_done: LayerDone = lambda report, n_layers: None,
) -> Report:
    """Write a copy of the checkpoint in `source` whose K/V heads are merged into `n_kv_heads`.

    Args:
        source: folder with config.json and model.safetensors, or model.safetensors.index.json and its shards. It is
            only read.
        target: the new folder; an empty one is accepted.
        n_kv_heads: a divisor of the model's number of K/V heads.
        pool: "mean", "first", "random" (with `seed`), or "calibrated" (with `calibration`).
        dtype: fp32, bf16 or fp16 for all floating-point tensors; None keeps the dtype of each.
        dry_run: check everything and report, but write nothing.
        progress: called with the bytes written and the bytes in all.
        calibration: text and settings of a calibrated conversion.
        layer_done: called after each layer of a calibrated conversion.

    Raises:
        ValueError: anything wrong with the arguments or the checkpoint, or too little space on the disk.
        OSError: the disk failed; nothing is left at `target`.
    """
    _check_places(source, target)
    if (pool == "calibrated") != (calibration is not None):
        raise ValueError(
            f"calibration belongs to pool calibrated, and pool calibrated to calibration; pool is {pool!r}"
        )
    # a calibrated result has the same shapes as a mean
    plan = plan_conversion(ckpt.read_checkpoint(source), n_kv_heads, "mean" if calibration else pool, seed, dtype)
    if calibration:
        plan = replace(plan, pool="calibrated")
    others, left_out = _other_files(plan)
    report = report_of(plan, target, tuple(str(p.relative_to(source)) for p in others), left_out, dry_run)
    if dry_run:
        return report
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_room(plan, others, target, scratch_bytes(plan) if calibration else 0)
    with _staging(target) as folder:
        if calibration and n_kv_heads < plan.n_kv_heads:
            done = calibrate_plan(plan, calibration, target, layer_done)
            plan, report = done.plan, replace(report, calibration=done.report)
        _write_checkpoint(plan, others, folder, progress or (lambda done, total: None))
        # the rename replaces an empty folder in one step, and fails for a folder with files in it
        folder.replace(target)
        sync(target.parent)
        shutil.rmtree(scratch_of(target), ignore_errors=True)
    return report


def _check_places(source: Path, target: Path) -> None:
    here, there = resolved(source), resolved(target)
    if there == here or there.is_relative_to(here) or here.is_relative_to(there):
        raise ValueError(f"{target} and {source} must be apart from each other, neither inside the other")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ValueError(f"{target} is not a folder")
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: choose a new folder, or empty this one")


def _check_room(plan: Plan, others: list[Path], target: Path, scratch: int = 0) -> None:
    """Check that the disk has space for weights, headers, other files and JSON, each in whole blocks, and `scratch`.

    Raises:
        ValueError: the disk has less space.
    """
    sizes = [path.stat().st_size for path in others]
    for shard, tensors in plan.shards:
        entries = [(tensor.name, tensor.dtype, tensor.shape, tensor.size) for tensor in tensors]
        sizes.append(len(ckpt.header_bytes(entries, shard.metadata)) + sum(tensor.size for tensor in tensors))
    sizes.append(len(_as_json(plan.config)))
    if plan.source.index is not None:
        sizes.append(len(_as_json(new_index(plan))))
    usage = os.statvfs(target.parent) if hasattr(os, "statvfs") else None
    block = (usage.f_frsize or 1) if usage else 4096
    needed = sum(-(-size // block) * block for size in sizes) + scratch
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise ValueError(f"{target.parent} has {free:,} bytes free, the result needs {needed:,}")


def _other_files(plan: Plan) -> tuple[list[Path], tuple[str, ...]]:
    """Files that belong to the model (tokenizer, generation settings, licence), and the names of files left out.

    Other weights, pickles and code are left out: they do not fit the new shapes, or we must not pass them on.
    """
    folder = plan.source.folder
    ours = {"config.json", ckpt.INDEX_NAME, *(shard.name for shard in plan.source.shards)}
    copied, left_out = [], []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name in _COPIED_FOLDERS and not path.is_symlink():
                copied += [p for p in sorted(path.iterdir()) if p.suffix == ".jinja" and not p.is_symlink()]
            else:
                left_out.append(f"{path.name}/")
        elif path.name in ours:
            continue
        elif (
            path.is_file()
            and path.name not in _STALE
            and not path.name.endswith(".index.json")
            and (path.suffix in _COPIED_SUFFIXES or path.stem.upper() in _COPIED_NAMES)
        ):
            copied.append(ckpt.inside(folder, path.name))
        else:
            left_out.append(path.name)
    return copied, tuple(left_out)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden, empty folder beside `target`. At the end it is removed if it is still there.

    The folder of an earlier run that was killed is removed first. A lock tells whether such a run is still working; the
    kernel releases the lock when its owner dies.
    """
    folder = target.parent / f".{target.name}.converting"
    lock_path = target.parent / f".{target.name}.converting.lock"
    try:
        lock = FileLock(lock_path, timeout=0).acquire()
    except Timeout as error:
        raise ValueError(f"another conversion to {target} is running") from error
    with lock, _terminable():
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock_path.unlink(missing_ok=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM raise an exception like Ctrl-C meanwhile, so that the staging folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_checkpoint(plan: Plan, others: list[Path], folder: Path, progress: Progress) -> None:
    total, done = plan.n_bytes, 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    for shard, tensors in plan.shards:
        write_shard(folder / shard.name, tensors, shard.metadata, plan, advance)
    for path in others:
        copy = folder / path.relative_to(plan.source.folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
        sync(copy)
    if plan.source.index is not None:
        _write_json(folder / ckpt.INDEX_NAME, new_index(plan))
    # config.json comes last: without it no library reads the folder as a model
    _write_json(folder / "config.json", plan.config)
    sync(folder)


def new_index(plan: Plan) -> dict[str, Any]:
    """The index of the result: the file of each tensor, and the total size and parameters."""
    assert plan.source.index is not None
    metadata = plan.source.index.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata["total_size"] = plan.n_bytes
    if "total_parameters" in metadata:
        metadata["total_parameters"] = plan.n_parameters
    weight_map = {tensor.name: shard.name for shard, tensors in plan.shards for tensor in tensors}
    return {**plan.source.index, "metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(_as_json(content))
    sync(path)


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
