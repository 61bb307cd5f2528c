"""``python -m attention verify``: compare the computed cache with that of the model's own code, byte by byte."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from attention import units
from attention.catalog import published
from attention.catalog.sources import configuration, resolve
from attention.commands.arguments import DEFAULT_CONTEXT, memory, whole_number
from attention.engines import ask_llama_cpp, ask_sglang, ask_vllm, asked, asked_sglang, asked_vllm, sglang, vllm
from attention.engines.llama_cpp import Settings
from attention.engines.rules import kernel_of
from attention.spec import check_size
from attention.worker import client

HELP = "compare the computed cache with the one the model's own transformers code keeps, layer by layer"
SECONDS = 240.0
MEMORY_BYTES = 3 * 2**30


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="MODEL", nargs="?", help="catalogue name, config.json or its folder, or GGUF file"
    )
    parser.add_argument(
        "--context", type=whole_number, default=DEFAULT_CONTEXT, help=f"tokens (default {DEFAULT_CONTEXT})"
    )
    parser.add_argument(
        "--engine",
        choices=("llama.cpp", "vllm", "sglang"),
        help="ask this engine in place of transformers (requirements-engines.txt, -vllm.txt, -sglang.txt)",
    )
    parser.add_argument(
        "--kv-type",
        help="with --engine: llama.cpp's type of K and V (default f16), vLLM's kv_cache_dtype (default auto), or bf16 "
        "(default), fp32 or fp8 of SGLang",
    )
    parser.add_argument(
        "--memory", type=memory, help=f"with vllm, sglang: bytes for the cache (default {asked_vllm.MEMORY_BYTES:,})"
    )
    parser.add_argument(
        "--record", action="store_true", help="with --engine: ask for the whole catalogue and store the answers"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Exit code 0: equal, or every difference is explained; 1: an unexplained difference; 2: it cannot be checked."""
    check_size("context", args.context, 2, 2**24)
    if args.record and args.engine:
        ask = {"llama.cpp": asked.record, "vllm": asked_vllm.record, "sglang": asked_sglang.record}[args.engine]
        rows = ask(lambda name: print(name, file=sys.stderr))
        equal = sum(row.equal for row in rows)
        print(f"{equal} of {sum(row.reason is None for row in rows)} answers equal")
        return 0 if all(row.equal or row.reason for row in rows) else 1
    if args.source is None:
        raise ValueError("a model is needed: its name in the catalogue, or a file")
    if args.engine:
        return {"vllm": _vllm, "sglang": _sglang, "llama.cpp": _engine}[args.engine](args)
    job = client.submit(
        "verify",
        _payload(args.source, args.context),
        owner="command line",
        limits=client.Limits(seconds=SECONDS, memory_bytes=MEMORY_BYTES),
    )
    try:
        job.wait()
    finally:
        client.queues().close()
    if job.summary is None:
        raise ValueError(f"{args.source}: {job.error or 'the check was stopped'}")
    found = job.summary
    print(json.dumps(found) if args.json else "\n".join(_lines(found)))
    return 1 if found["unexplained_bytes"] else 0


def _engine(args: argparse.Namespace) -> int:
    """Compare with the buffers that llama.cpp itself prints."""
    spec, kind = resolve(args.source), args.kv_type or "f16"
    settings = Settings(args.context, type_k=kind, type_v=kind, conv_kernel=kernel_of(spec, args.source))
    [answers] = ask_llama_cpp.ask(spec, settings)
    equal = all(answer.equal for answer in answers)
    if args.json:
        pools = [answer._asdict() for answer in answers]
        print(json.dumps({"model": spec.name, "engine": args.engine, "equal": equal, "pools": pools}))
    else:
        print(f"{spec.name}, llama.cpp of xllamacpp {ask_llama_cpp.asked_version()}, n_ctx {args.context:,}")
        for pool in answers:
            where = f"{pool.name}: {units.counted(pool.cells, 'cell')} × {units.counted(pool.n_layers, 'layer')}"
            print(f"  {where}: printed {pool.printed}, computed {pool.computed}")
        print("  equal" if equal else "  not equal")
    return 0 if equal else 1


def _vllm(args: argparse.Namespace) -> int:
    """Compare with the answer of vLLM's own planner."""
    spec, kind = resolve(args.source), args.kv_type or "auto"
    settings = vllm.Settings(args.context, kv_dtype=kind, conv_kernel=kernel_of(spec, args.source))
    room = args.memory or asked_vllm.MEMORY_BYTES
    [answer] = ask_vllm.ask([(spec, settings, room)])
    title = f"{spec.name}, vLLM {ask_vllm.asked_version()}, {room:,} bytes, max_model_len {args.context:,}, {kind}"
    return _told(args, title, answer)


def _sglang(args: argparse.Namespace) -> int:
    """Compare with the pools that SGLang's own code counts."""
    spec, kind, config = resolve(args.source), args.kv_type or "bf16", configuration(args.source)
    if config is None:
        raise ValueError(f"{args.source}: SGLang reads a config.json, and this model has none here")
    settings = sglang.Settings(kind, conv_kernel=kernel_of(spec, args.source), dtype="bf16")
    room = args.memory or asked_sglang.MEMORY_BYTES
    [answer] = ask_sglang.ask([ask_sglang.Question(spec, config, settings, room)])
    if answer.reason:
        raise ValueError(f"{args.source}: SGLang gives no answer: {answer.reason}")
    return _told(args, f"{spec.name}, SGLang {ask_sglang.asked_version()}, {room:,} bytes, {kind}", answer)


def _told(args: argparse.Namespace, title: str, answer: ask_vllm.Answer | ask_sglang.Answer) -> int:
    """Print what the engine says beside what is computed; the exit code."""
    if args.json:
        words = {"asked": answer.asked, "computed": answer.computed}
        print(json.dumps({"model": args.source, "engine": args.engine, "equal": answer.equal, **words}))
    else:
        verdict = "equal" if answer.equal else "not equal"
        print(f"{title}\n  asked     {answer.asked}\n  computed  {answer.computed}\n  {verdict}")
    return 0 if answer.equal else 1


def _payload(source: str, context: int) -> dict[str, Any]:
    try:
        return {"model": published.model(source).id, "context": context}
    except ValueError:
        return {"config": configuration(source), "name": source, "context": context}


def _lines(found: dict[str, Any]) -> list[str]:
    """The result in words. Layers with the same outcome are counted together."""
    lines = [
        f"{found['model']} ({found['model_type']}), {units.parameters(found['n_parameters'])} parameters, "
        f"context {found['context']:,}, {found['kv_dtype']}",
        f"computed   {found['computed_bytes']:>20,} B  {units.binary_bytes(found['computed_bytes'])}",
        f"model's own{found['allocated_bytes']:>20,} B  {units.binary_bytes(found['allocated_bytes'])}",
    ]
    groups: dict[tuple[str, int, str | None], list[int]] = {}
    for layer in found["layers"]:
        difference = layer["allocated_bytes"] - layer["computed_bytes"]
        groups.setdefault((layer["kind"], difference, layer["explanation"]), []).append(layer["index"])
    for (kind, difference, why), indices in groups.items():
        verdict = "equal" if not difference else why or f"UNEXPLAINED: {difference:+,} bytes"
        lines.append(f"  {len(indices)} {kind} layer{'s' if len(indices) > 1 else ''}: {verdict}")
    lines += [f"  note: {note}" for note in found["notes"]]
    explained = any(layer["explanation"] for layer in found["layers"])
    verdict = "equal to the byte" if not explained else "equal up to what is explained"
    if found["unexplained_bytes"]:
        verdict = f"{found['unexplained_bytes']:,} bytes are NOT explained"
    lines.append(f"{verdict}; {units.duration(found['seconds'])}, peak memory {units.binary_bytes(found['peak_rss'])}")
    return lines
