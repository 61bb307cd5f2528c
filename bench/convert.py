"""How fast a checkpoint is converted, beside `cp` of the same checkpoint on the same disk, and in how much memory.

    python -m bench.convert [--gigabytes 10] [--rounds 2] [--dir DIR] [--json bench/results/convert.json]

It writes a synthetic multi-head checkpoint of random bf16 weights, with the layout of Llama 2 7B's layers, to a
temporary folder and removes it afterwards. Before every timed copy or conversion it drops the original from the page
cache, so both read from the disk. cp and the conversion take turns. The conversion's time is the time of the whole
command, from the start of Python to its end, and includes fsync of every file it wrote. The time of cp is given without
a sync, which is the one to compare with, and with a sync.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from attention.convert.checkpoint import (
    INDEX_NAME,
    header_bytes,
    tensor_bytes,
    write_all,
)
from attention.timing.host import describe

HIDDEN, HEADS, INTERMEDIATE, VOCAB = 4096, 32, 11008, 32000
SHARD_BYTES = 5 * 10**9
Entry = tuple[str, str, tuple[int, ...], int]


def layer_entries(layer: int) -> list[Entry]:
    shapes = {f"self_attn.{p}_proj": (HIDDEN, HIDDEN) for p in "qkvo"}
    shapes |= {"mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN)}
    shapes |= {"mlp.down_proj": (HIDDEN, INTERMEDIATE)}
    return [entry(f"model.layers.{layer}.{name}.weight", shape) for name, shape in shapes.items()]


def entry(name: str, shape: tuple[int, int]) -> Entry:
    return name, "BF16", shape, 2 * shape[0] * shape[1]


def make_checkpoint(folder: Path, size: int) -> int:
    """Write a checkpoint of about `size` bytes; return the bytes of its tensors."""
    outer = [entry("model.embed_tokens.weight", (VOCAB, HIDDEN)), entry("lm_head.weight", (VOCAB, HIDDEN))]
    per_layer = sum(e[3] for e in layer_entries(0))
    n_layers = max(1, -(-(size - sum(e[3] for e in outer)) // per_layer))
    shards: list[list[Entry]] = [[]]
    for item in [outer[0], *(e for i in range(n_layers) for e in layer_entries(i)), outer[1]]:
        if sum(e[3] for e in shards[-1]) + item[3] > SHARD_BYTES:
            shards.append([])
        shards[-1].append(item)
    noise = tensor_bytes(torch.randn(32 * 2**20, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16))
    weight_map: dict[str, str] = {}
    for number, entries in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {e[0]: name for e in entries}
        with open(folder / name, "wb", buffering=0) as file:
            write_all(file.fileno(), header_bytes(entries, {"format": "pt"}))
            for item in entries:
                for start in range(0, item[3], len(noise)):
                    write_all(file.fileno(), noise[: item[3] - start])
            os.fsync(file.fileno())
    total = sum(e[3] for entries in shards for e in entries)
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    config = {"model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
              "num_hidden_layers": n_layers, "intermediate_size": INTERMEDIATE, "vocab_size": VOCAB,
              "torch_dtype": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return total


def evict(folder: Path) -> None:
    """Drop the files' pages from the page cache, so that the next reader reads from the disk."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def time_cp(source: Path, target: Path) -> tuple[float, float]:
    """(seconds of cp, seconds of cp and sync)."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    copied = time.perf_counter() - start
    subprocess.run(["sync", *map(str, target.iterdir())], check=True)
    return copied, time.perf_counter() - start


CHILD = """
import sys
from attention.cli import main
code = main(sys.argv[1:])
# the high-water mark of this program's own memory, mapped files included
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
raise SystemExit(code)
"""


def time_convert(source: Path, target: Path, options: list[str]) -> tuple[float, int, dict[str, Any]]:
    """(seconds of the whole command, its peak resident bytes, its JSON report)."""
    command = [sys.executable, "-c", CHILD, "convert", str(source), str(target), "--json", *options]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    took = time.perf_counter() - start
    return took, int(done.stderr.split()[-1]) * 1024, json.loads(done.stdout)


def measure(folder: Path, gigabytes: float, rounds: int, options: list[str]) -> dict[str, Any]:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    size = make_checkpoint(source, int(gigabytes * 1e9))
    cp, cp_sync, convert, peaks = [], [], [], []
    report: dict[str, Any] = {}
    for _ in range(rounds):
        evict(source)
        copied, synced = time_cp(source, target)
        shutil.rmtree(target)
        evict(source)
        took, peak, report = time_convert(source, target, options)
        shutil.rmtree(target)
        cp.append(copied)
        cp_sync.append(synced)
        convert.append(took)
        peaks.append(peak)
    return {
        "host": asdict(describe()),
        "options": options,
        "source_bytes": size,
        "written_bytes": report["bytes_after"],
        "largest_shard_bytes": max(p.stat().st_size for p in source.iterdir()),
        "rounds": rounds,
        "cp_s": cp,
        "cp_sync_s": cp_sync,
        "convert_s": convert,
        "cp_bytes_per_s": size / statistics.median(cp),
        "cp_sync_bytes_per_s": size / statistics.median(cp_sync),
        "convert_bytes_per_s": size / statistics.median(convert),
        "rate_of_cp": statistics.median(cp) / statistics.median(convert),
        "rate_of_cp_sync": statistics.median(cp_sync) / statistics.median(convert),
        "peak_resident_bytes": max(peaks),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    parser.add_argument("--n-kv-heads", default="8")
    parser.add_argument("--dtype", help="also cast: measures the path on which every byte passes through memory")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "convert.json")
    args = parser.parse_args()
    options = ["--n-kv-heads", args.n_kv_heads, *(["--dtype", args.dtype] if args.dtype else [])]
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="convert-bench-") as folder:
        needed = 2.2e9 * args.gigabytes
        if shutil.disk_usage(folder).free < needed:
            parser.error(f"{folder} needs {needed / 1e9:.0f} GB free: choose another --dir or fewer --gigabytes")
        result = measure(Path(folder), args.gigabytes, args.rounds, options)
        # removing the folder takes a while: write first, so that Ctrl-C does not lose the measurement
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
