"""``python -m attention log``: published lines explained, differences split, bad input refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from attention import cli
from tests.engines.test_log import LLAMA, VLLM


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_HUB", "0")


@pytest.fixture
def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(text: str | bytes, *argv: str) -> dict[str, Any]:
        path = tmp_path / "start.log"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        code = cli.main(["log", str(path), *argv, "--json"])
        out, err = capsys.readouterr()
        return {"code": code, "err": err, **(json.loads(out) if code == 0 else {})}

    return ask


def verdicts(report: dict[str, Any]) -> list[str]:
    return [figure["verdict"] for figure in report["figures"]]


def figure(report: dict[str, Any], beginning: str) -> dict[str, Any]:
    [found] = [f for f in report["figures"] if f["line"].startswith(beginning)]
    return found


def parts(found: dict[str, Any]) -> dict[str, int]:
    return {part["name"]: part["n_bytes"] for part in found["parts"]}


def vllm(
    memory: str, tokens: str, *, version: str = "0.33.0", length: str = "", ratio: str = "", more: str = ""
) -> str:
    concurrency = f"INFO Maximum concurrency for {length} tokens per request: {ratio}x\n" if length else ""
    return (
        f"INFO Initializing a V1 LLM engine (v{version}) with config: {more}\n"
        f"INFO Available KV cache memory: {memory} GiB\nINFO GPU KV cache size: {tokens} tokens\n{concurrency}"
    )


@pytest.mark.parametrize(
    ("model", "text", "rule"),
    [
        ("meta-llama/Llama-3.1-8B", vllm("40.00", "327,680", length="131,072", ratio="2.50"), "tokens by concurrency"),
        ("openai/gpt-oss-120b", vllm("5.38", "147,318", length="131,072", ratio="1.12"), "groups"),
        ("google/gemma-3-27b-pt", vllm("30.00", "276,405", length="131,072", ratio="2.11"), "window"),
        ("google/gemma-4-31B", vllm("24.54", "26,800", version="0.19.0"), "tokens by groups"),
        ("openai/gpt-oss-120b", vllm("5.38", "78,384", version="0.11.0"), "tokens by groups"),
        (
            "Qwen/Qwen3-30B-A3B",
            vllm("10.55", "230,528", length="100,000", ratio="2.31", more="kv_cache_dtype=fp8,"),
            "blocks",
        ),
    ],
)
def test_published_lines_of_vllm_are_reproduced(asked: Any, model: str, text: str, rule: str) -> None:
    report = asked(text, "--model", model)
    assert verdicts(report)[0] == "given"
    assert set(verdicts(report)[1:]) == {"reproduced"}
    found = figure(report, "GPU KV cache size")
    assert rule in [row["name"] for row in found["rules"]]
    assert all(row["source"] and row["version"] for row in found["rules"])


@pytest.mark.parametrize(("memory", "tokens"), [("40.01", "327,680"), ("40.00", "327,664"), ("40.00", "327,840")])
def test_a_figure_that_is_another_is_not_reproduced(asked: Any, memory: str, tokens: str) -> None:
    report = asked(vllm(memory, tokens), "--model", "meta-llama/Llama-3.1-8B")
    reproduced = memory == "40.00" and tokens == "327,664"  # one block fewer rounds to the same GiB
    assert figure(report, "GPU KV cache size")["verdict"] == ("reproduced" if reproduced else "unexplained")


def test_what_cannot_be_explained_is_said_in_bytes(asked: Any) -> None:
    found = figure(asked(vllm("40.00", "300,000"), "--model", "meta-llama/Llama-3.1-8B"), "GPU KV cache size")
    assert found["verdict"] == "unexplained"
    assert parts(found) == {"cannot be explained": 40 * 2**30 - 300_000 * 131072}
    assert "327,680" in found["says"]


def test_one_rank_of_four(asked: Any) -> None:
    # vllm #21348
    text = vllm("8.11", "178,880", version="0.9.2")
    model = ("--model", "Qwen/Qwen3-235B-A22B")
    found = figure(asked(text, *model, "--tp", "4"), "GPU KV cache size")
    assert found["verdict"] == "split"
    assert parts(found)["blocks"] == 178880 * 48128
    assert sum(parts(found).values()) == pytest.approx(8.11 * 2**30, abs=1)
    # the smallest of four ranks explains it all; without a second rank nothing would
    named = text.replace("Available KV cache memory: 8.11", "Available KV cache memory: 8.02", 1) + text
    assert figure(asked(named, *model, "--tp", "4"), "GPU KV cache size")["verdict"] == "reproduced"
    assert figure(asked(text, *model), "GPU KV cache size")["verdict"] == "unexplained"


def test_a_rank_may_have_somewhat_less_and_not_much_less(asked: Any) -> None:
    model = ("--model", "Qwen/Qwen3-235B-A22B", "--tp", "4")
    for tokens, verdict in (("165,008", "split"), ("159,008", "unexplained")):  # 8.8 and 12.1 per cent less
        assert figure(asked(vllm("8.11", tokens), *model), "GPU KV cache size")["verdict"] == verdict


def test_ranks_that_each_print_their_tokens(asked: Any) -> None:
    text = vllm("8.11", "180,928") + vllm("8.02", "178,880")
    report = asked(text, "--model", "Qwen/Qwen3-235B-A22B", "--tp", "4")
    assert verdicts(report) == ["given", "reproduced", "reproduced"]


def test_changes_count_tokens_as_the_log_does(asked: Any) -> None:
    model = ("--model", "google/gemma-4-31B")
    for version in ("0.19.0", "0.99.0"):
        report = asked(vllm("24.54", "26,800", version=version, more="max_seq_len=131072,"), *model)
        assert {change["before"] for change in report["changes"]} == {26800}


def test_the_version_says_how_tokens_were_printed(asked: Any) -> None:
    for version, name in (("0.10.1", "tokens by groups"), ("0.33.0", "tokens by concurrency")):
        text = vllm("40.00", "327,680", version=version, more="max_seq_len=131072,")
        found = figure(asked(text, "--model", "meta-llama/Llama-3.1-8B"), "GPU KV cache size")
        assert name in [row["name"] for row in found["rules"]]


def test_gb_are_told_from_gib(asked: Any) -> None:
    tokens = 40 * 10**9 // (16 * 131072) * 16
    found = figure(asked(vllm("40.00", f"{tokens:,}"), "--model", "meta-llama/Llama-3.1-8B"), "GPU KV cache size")
    assert found["verdict"] == "split"
    assert parts(found)["GB against GiB"] == pytest.approx(40 * (2**30 - 10**9), abs=8)


def test_a_draft_layer_is_named_where_the_log_speaks_of_one(asked: Any) -> None:
    tokens = 40 * 2**30 // (16 * 4096 * 33) * 16
    told = vllm("40.00", f"{tokens:,}", more="speculative_config=SpeculativeConfig(num_speculative_tokens=2),")
    model = ("--model", "meta-llama/Llama-3.1-8B")
    found = figure(asked(told, *model), "GPU KV cache size")
    assert (found["verdict"], parts(found)) == ("split", {"draft layers": tokens * 4096})
    assert figure(asked(vllm("40.00", f"{tokens:,}"), *model), "GPU KV cache size")["verdict"] == "unexplained"


def test_a_refused_length_is_reproduced(asked: Any) -> None:
    # vllm #25350
    text = (
        "ValueError: To serve at least one request with the models's max seq len (221000), (10.12 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (5.59 GiB). Based on the available memory, the "
        "estimated maximum model length is 122080. Try increasing `gpu_memory_utilization` (vllm)\n"
    )
    model = ("--model", "Qwen/Qwen3-30B-A3B", "--kv-dtype", "fp8")
    [found] = asked(text, *model)["figures"]
    assert (found["verdict"], parts(found)) == ("reproduced", {"request": 13813 * 16 * 49152})
    for wrong in (text.replace("10.12", "10.13"), text.replace("122080", "122480")):
        assert verdicts(asked(wrong, *model)) == ["unexplained"]


def test_changes_are_computed(asked: Any) -> None:
    report = asked(vllm("30.00", "276,405", length="131,072", ratio="2.11"), "--model", "google/gemma-3-27b-pt")
    gains = {change["what"]: (change["before"], change["after"], change["gain"]) for change in report["changes"]}
    assert gains["--kv-cache-dtype fp8"] == (276405, 552810, 276405)
    # 25,395 blocks (31 GiB) over 11,654 a request
    assert gains["--gpu-memory-utilization: 1 GiB more on each rank"][1] == int(25395 / 11654 * 131072)
    assert gains["--max-num-batched-tokens 2048"][1] == int(24576 / (8192 + 6 * (192 + 1)) * 131072)


def test_two_batches_in_flight(asked: Any) -> None:
    # asynchronous scheduling: the windows of two batches of 2,048 tokens are held
    tokens = int(24576 / (8192 + 6 * (-(-(1023 + 4096) // 16) + 1)) * 131072)
    text = vllm("30.00", f"{tokens:,}", length="131,072", ratio="2.43", more="max_num_batched_tokens=2048,")
    report = asked(text, "--model", "google/gemma-3-27b-pt")
    assert verdicts(report) == ["given", "reproduced", "reproduced"]
    assert "4,096 tokens in flight" in figure(report, "GPU KV cache size")["says"]


def test_ranks_interleaved(asked: Any) -> None:
    report = asked(VLLM)
    assert report["model"] == "Qwen/Qwen3-8B"
    assert verdicts(report) == ["given", "reproduced", "reproduced"]
    assert parts(report["figures"][0])["left unused on other ranks"] == pytest.approx(0.02 * 2**30, abs=2)


def size_line(total: str, cells: int, n_layers: int, k: str, v: str, kind: str = "f16") -> str:
    where = f"({cells:7} cells, {n_layers:3} layers,  1/1 seqs)"
    return f"llama_kv_cache: size = {total:>7} MiB {where}, K ({kind}): {k:>7} MiB, V ({kind}): {v:>7} MiB\n"


@pytest.mark.parametrize(
    ("kind", "total", "half"), [("f16", "180.00", "90.00"), ("q8_0", "95.62", "47.81"), ("q4_0", "50.62", "25.31")]
)
def test_lines_of_llama_cpp_are_reproduced(asked: Any, kind: str, total: str, half: str) -> None:
    text = "llama_context: n_ctx = 8000\n" + size_line(total, 8192, 30, half, half, kind)
    report = asked(text, "--model", "HuggingFaceTB/SmolLM2-135M")
    assert verdicts(report) == ["given", "reproduced"]
    assert report["figures"][0]["parts"][0]["n_bytes"] == 192


def test_a_model_from_the_sizes_that_the_log_states(asked: Any) -> None:
    report = asked(LLAMA.replace("Qwen3 8B", "my own"))
    assert report["model"] == "the sizes that the log states"
    assert verdicts(report) == ["given", "reproduced", "reproduced"]
    windowed = LLAMA.replace("Qwen3 8B", "my own").replace("n_swa                 = 0", "n_swa                 = 4096")
    assert "say which it is with --model" in asked(windowed)["err"]


def windows(cells: int, total: str, half: str) -> str:
    return (
        "llama_context: n_ctx         = 32768\n"
        "llama_kv_cache_iswa: creating non-SWA KV cache, size = 32768 cells\n"
        + size_line("2560.00", 32768, 10, "1280.00", "1280.00")
        + f"llama_kv_cache_iswa: creating     SWA KV cache, size = {cells} cells\n"
        + size_line(total, cells, 52, half, half)
    )


def test_windows_of_llama_cpp(asked: Any) -> None:
    model = ("--model", "google/gemma-3-27b-pt")
    assert verdicts(asked(windows(1536, "624.00", "312.00"), *model)) == ["given", *["reproduced"] * 4]
    report = asked("using full-size SWA cache\n" + windows(32768, "13312.00", "6656.00"), *model)
    assert verdicts(report) == ["given", *["reproduced"] * 4]
    [gain] = [c for c in report["changes"] if c["what"] == "without --swa-full"]
    assert gain["after"] > 5 * gain["before"]
    report = asked(windows(1792, "728.00", "364.00"), *model)
    assert figure(report, "SWA")["verdict"] == "unexplained"
    # the bytes are right for the cells that it states; the cells are not those of its settings
    assert "the settings would give 1,536 cells" in report["figures"][4]["says"]


def test_the_latent_and_what_it_once_kept(asked: Any) -> None:
    line = "llama_kv_cache: size = {} MiB ( 32768 cells, 61 layers, 1/1 seqs), K ({}): 2196.00 MiB, V (f16): {} MiB\n"
    model = ("--model", "deepseek-ai/DeepSeek-R1")
    for total, v, rule in (("2196.00", "0.00", "latent"), ("4148.00", "1952.00", "latent as K and V")):
        [found] = asked(line.format(total, "f16", v), *model)["figures"]
        assert found["verdict"] == "reproduced"
        assert rule in [row["name"] for row in found["rules"]]
    assert "type of K or V is not known" in asked(line.format("2196.00", "turbo3", "0.00"), *model)["err"]


def test_layers_more_than_the_configuration_states(asked: Any) -> None:
    model = ("--model", "meta-llama/Llama-3.1-8B")
    found = asked(size_line("1080.00", 8192, 34, "540.00", "540.00"), *model)["figures"][0]
    assert found["verdict"] == "unexplained"  # 33.75 layers
    found = asked(size_line("1056.00", 8192, 33, "528.00", "528.00"), *model)["figures"][0]
    assert (found["verdict"], parts(found)["more layers"]) == ("split", 32 * 2**20)


def test_the_old_line_without_a_type(asked: Any) -> None:
    # llama-cpp-python #66
    text = "llama_model_load_internal: n_ctx      = 512\nllama_init_from_file: kv self size  = 1560.00 MB\n"
    found = asked(text, "--model", "huggyllama/llama-30b")["figures"][1]
    assert (found["verdict"], found["says"]) == ("reproduced", "in f32; 60 layers × 512 cells")


def test_secrets_do_not_come_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "hf_AbCdEfGhIjKlMnOp"
    for text in (VLLM, VLLM.replace("Qwen/Qwen3-8B", f"/srv/{secret}"), LLAMA + f"general.name = {secret}\n"):
        path = tmp_path / "start.log"
        path.write_text(f"api_key={secret} \n{text}token={secret}\nkv_cache_dtype={secret},\n")
        for argv in ((), ("--json",), ("--model", "Qwen/Qwen3-8B")):
            cli.main(["log", str(path), *argv])
            assert secret not in "".join(capsys.readouterr())


def test_what_is_refused_says_why(asked: Any) -> None:
    assert "catalogue has not" in asked(VLLM.replace("Qwen/Qwen3-8B", "/srv/mine"))["err"]
    assert "does not name its model" in asked(vllm("1.00", "1,024"))["err"]
    assert (
        "pipeline parallelism is not known"
        in asked(VLLM.replace("pipeline_parallel_size=1", "pipeline_parallel_size=2"))["err"]
    )
    assert "kv_cache_dtype of this log is not known" in asked(VLLM.replace("fp8_e4m3", "turboquant_k8v4"))["err"]
    assert "no line about the cache" in asked("INFO vLLM is here\n")["err"]
    assert "at most 10,000,000 bytes" in asked(b"vllm " * 2_000_001)["err"]
    compressed = asked(vllm("1.00", "1,024"), "--model", "deepseek-ai/DeepSeek-V4-Flash")
    assert (compressed["code"], "how vLLM lays out" in compressed["err"]) == (2, True)


def test_standard_input_and_plain_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(VLLM.encode())))
    assert cli.main(["log", "-"]) == 0
    out = capsys.readouterr().out
    assert "GPU KV cache size: 585,728 tokens\n  reproduced to the digit" in out
    assert "for more tokens in the same memory:" in out
