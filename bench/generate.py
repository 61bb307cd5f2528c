"""Tokens per second of a published model: our own loop beside transformers and llama.cpp, the same file and prompt.

    python -m bench.generate [--context 256,8000] [--tokens 32] [--rounds 7] [--without transformers llama.cpp]

Our loop takes part twice: with the file's quantised blocks, and with the same weights in float32, as transformers
converts them. llama.cpp takes part where `xllamacpp` is installed (requirements-engines.txt). Every loop fills its
cache once for a context and then writes from there, in turn, in rounds. The command writes
bench/results/generate-HOST.json and .md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

import psutil
import torch

from attention import units
from attention.commands.arguments import numbers, tell_of_waiting
from attention.llm import corpus, place
from attention.llm.caches import held_bytes
from attention.llm.generate import PIECE, held
from attention.llm.loaded import Loaded, give_back
from attention.timing import device_queue, host, speed
from attention.timing.other_load import OtherLoad
from attention.timing.runs import versions
from attention.timing.steadiness import ratio_interval
from bench import files

HELP = "tokens per second of the published model against transformers and llama.cpp"
PROMPT = 100
MOST_FIRST_S, MOST_FLOOR, LEAST = 1.0, 1.5, 3.0
"""Limits: seconds to the first token after PROMPT tokens, a step's time over its floor, speed over transformers'."""


class Writer(Protocol):
    """One loop that generates text from the model."""

    name: str
    about: str

    def first(self, ids: Sequence[int]) -> float:
        """Seconds until the first token after a prompt is known."""
        ...

    def hold(self, ids: Sequence[int]) -> None:
        """Fill the cache with a context; :meth:`steps` goes on from there."""
        ...

    def steps(self, n: int) -> float:
        """Seconds per token over `n` tokens after the held context; each is the likeliest token."""
        ...


class Ours:
    """``attention.llm``. Its floor counts the bytes that one step reads."""

    def __init__(self, name: str, loaded: Loaded, cache: str) -> None:
        self.name, self.model, self._dtype = name, loaded.model, cache
        self.about = f"{held(loaded.model)}; cache in {cache}"
        self._caches = self.model.caches(0)
        self._n, self._next = 0, torch.zeros(1, 1, dtype=torch.int64)

    def _read(self, ids: Sequence[int], spare: int) -> None:
        self._caches = self.model.caches(len(ids) + spare, 1, self._dtype)
        logits = torch.empty(0)
        for at in range(0, len(ids), PIECE):
            logits = self.model.forward(torch.tensor([list(ids[at : at + PIECE])]), self._caches)
        self._n, self._next = len(ids), logits[:, -1].argmax(-1, keepdim=True)

    def first(self, ids: Sequence[int]) -> float:
        began = time.perf_counter()
        self._read(ids, 1)
        return time.perf_counter() - began

    def hold(self, ids: Sequence[int]) -> None:
        self._read(ids, 512)
        self._start = self._next

    def steps(self, n: int) -> float:
        for cache in self._caches:
            cache.length = self._n
        now = self._start
        began = time.perf_counter()
        for _ in range(n):
            now = self.model.forward(now, self._caches)[:, -1].argmax(-1, keepdim=True)
        return (time.perf_counter() - began) / n

    def step_bytes(self) -> int:
        """Bytes that one step reads: all weights, and the keys and values held."""
        for cache in self._caches:
            cache.length = self._n
        return self.model.step_bytes + sum(held_bytes(cache) for cache in self._caches)


class Transformers:
    """``generate`` of transformers, with its own default cache."""

    name, about = "transformers", "float32; cache in float32"

    def __init__(self, path: Path) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()
        self._cache: Any = None
        self._ids = torch.empty(0)

    def _write(self, ids: torch.Tensor, n: int, cache: Any) -> float:
        began = time.perf_counter()
        self._model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False, max_new_tokens=n,
            min_new_tokens=n,
        )  # fmt: skip
        return time.perf_counter() - began

    def first(self, ids: Sequence[int]) -> float:
        return self._write(torch.tensor([list(ids)]), 1, None)

    @torch.inference_mode()
    def hold(self, ids: Sequence[int]) -> None:
        from transformers import DynamicCache

        self._ids, self._cache = torch.tensor([list(ids)]), DynamicCache(config=self._model.config)
        for at in range(0, len(ids) - 1, PIECE):
            piece = self._ids[:, at : min(at + PIECE, len(ids) - 1)]
            self._model(piece, past_key_values=self._cache, logits_to_keep=1)

    def steps(self, n: int) -> float:
        if (more := self._cache.get_seq_length() - (self._ids.shape[1] - 1)) > 0:
            self._cache.crop(-more)
        return self._write(self._ids, n, self._cache) / n


class LlamaCpp:
    """llama.cpp through ``xllamacpp``. The times are its own; its cache is float16."""

    name, about = "llama.cpp", "the file's blocks; cache in float16"

    def __init__(self, path: Path, context: int, threads: int) -> None:
        xllamacpp = import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = str(path), context, 1
        params.n_gpu_layers = params.verbosity = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self._server, self._ids = xllamacpp.Server(params), list[int]()

    def _write(self, ids: Sequence[int], n: int, goes_on: bool) -> dict[str, float]:
        asked = {
            "prompt": list(ids), "n_predict": n, "temperature": 0, "cache_prompt": goes_on, "ignore_eos": True,
            "stream": False,
        }  # fmt: skip
        found = self._server.handle_completions(asked)
        found = json.loads(found) if isinstance(found, (str, bytes)) else found
        timings: dict[str, float] = found["timings"]
        return timings

    def first(self, ids: Sequence[int]) -> float:
        return self._write(ids, 1, False)["prompt_ms"] / 1000

    def hold(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._write(ids, 1, True)

    def steps(self, n: int) -> float:
        # the first token comes from the prompt; llama.cpp does not count it among those it times
        return self._write(self._ids, n + 1, True)["predicted_per_token_ms"] / 1000


class Row(NamedTuple):
    """One writer at one context: seconds per token, round by round."""

    context: int
    name: str
    first_s: float
    step_s: list[float]
    floor_s: float | None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--context", type=numbers, default=(256, 8000))
    parser.add_argument("--tokens", type=int, default=32, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without", nargs="*", default=[], choices=["transformers", "llama.cpp"])
    args = parser.parse_args(argv)
    path = place.local()
    with device_queue.turn("cpu", waiting=tell_of_waiting):
        blocks, grown = _loaded(path)
        writers = _writers(path, blocks, max(args.context) + 512, args.without)
        bandwidth = speed.calibrate("cpu").read_bytes_per_s
        load = OtherLoad()
        rows = [r for n in args.context for r in _at(n, writers, blocks, args.tokens, args.rounds, bandwidth)]
        others = load.taken().others
    memory = (
        f"Loading the blocks and reading a prompt of {PROMPT} tokens takes {units.binary_bytes(grown)}, "
        f"{grown / blocks.model.step_bytes:.2f} × the weights."
    )
    _write(rows, writers, others, bandwidth, memory)
    return 0


def _loaded(path: Path) -> tuple[Loaded, int]:
    """(the model as the file's blocks, bytes by which the process grew for it and a prompt). Libraries load before."""
    Loaded(path)
    give_back()
    before = psutil.Process().memory_info().rss
    blocks = Loaded(path)
    Ours("", blocks, "bf16").first(corpus.fill(blocks.tokens, PROMPT))
    # the model's own loop does the same after a prompt
    give_back()
    return blocks, psutil.Process().memory_info().rss - before


def _writers(path: Path, blocks: Loaded, context: int, without: Sequence[str]) -> list[Writer]:
    out: list[Writer] = [
        Ours("ours, blocks", blocks, "bf16"),
        Ours("ours, float32", Loaded(path, as_blocks=False), "fp32"),
    ]
    made: dict[str, Callable[[], Writer]] = {
        "transformers": lambda: Transformers(path),
        "llama.cpp": lambda: LlamaCpp(path, context, torch.get_num_threads()),
    }
    for name, make in made.items():
        if name in without:
            continue
        try:
            out.append(make())
        except ImportError as error:
            print(f"{error.name} is not installed: {name} is left out", flush=True)
    return out


def _at(
    context: int, writers: Sequence[Writer], loaded: Loaded, tokens: int, rounds: int, bandwidth: float
) -> list[Row]:
    ids = corpus.fill(loaded.tokens, context)
    firsts: dict[str, list[float]] = {writer.name: [] for writer in writers}
    times: dict[str, list[float]] = {writer.name: [] for writer in writers}
    for at in range(4):
        for writer in writers:
            taken = writer.first(ids[:PROMPT])
            if at:  # the first one warms up
                firsts[writer.name].append(taken)
    for writer in writers:
        writer.hold(ids)
        writer.steps(2)
    for at in range(rounds):
        for writer in [*writers[at % len(writers) :], *writers[: at % len(writers)]]:
            times[writer.name].append(writer.steps(tokens))
    floors = {w.name: w.step_bytes() / bandwidth for w in writers if isinstance(w, Ours)}
    return [Row(context, n, median(firsts[n]), times[n], floors.get(n)) for n in times]


def _lines(rows: Sequence[Row]) -> list[str]:
    head = f"| context | who | tokens/s | step | floor | × floor | first of {PROMPT} | × transformers | × llama.cpp |"
    lines = [head, "|" + " --- |" * 9]
    for row in rows:
        step = median(row.step_s)
        cells = [
            f"{row.context:,}", row.name, f"{1 / step:.1f}", units.duration(step),
            units.duration(row.floor_s) if row.floor_s else "–", f"{step / row.floor_s:.2f}" if row.floor_s else "–",
            units.duration(row.first_s),
        ]  # fmt: skip
        for peer in ("transformers", "llama.cpp"):
            other = next((o for o in rows if (o.context, o.name) == (row.context, peer)), None)
            ratio = ratio_interval(other.step_s, row.step_s) if other and other is not row else None
            cells.append("–" if ratio is None else f"{ratio.mid:.2f} ({ratio.low:.2f}–{ratio.high:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _write(rows: Sequence[Row], writers: Sequence[Writer], others: float, bandwidth: float, memory: str) -> None:
    described = host.describe()
    path = files.RESULTS / f"generate-{files.slug(described, 'cpu')}.json"
    path.parent.mkdir(exist_ok=True)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    about = {
        "host": described.to_json(), "versions": versions(), "finished": finished, "others": others,
        "read_bytes_per_s": bandwidth, "model": place.name(),
    }  # fmt: skip
    path.write_text(json.dumps({**about, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")
    text = [
        f"# {place.name()} writing on {described.cpu}", "",
        f"{described.cores} cores, {described.threads} threads, batch 1; PyTorch {described.torch}. The memory reads "
        f"{bandwidth / 1e9:.1f} GB/s. Other processes took {others:.0%} of the processor. Finished {finished}.", "",
        f"Limits: first token {MOST_FIRST_S:g} s, step {MOST_FLOOR} times its floor (bytes of weights and cache over "
        f"that rate), {LEAST:g} times as fast as transformers; as fast as llama.cpp is the goal.", "",
        *(f"{writer.name}: {writer.about}." for writer in writers), "", memory, "", *_lines(rows),
    ]  # fmt: skip
    path.with_suffix(".md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    print(f"written: {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    sys.exit(main())
