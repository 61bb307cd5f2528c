"""What is read from a log, and what of it is never kept."""

from __future__ import annotations

import pytest

from attention.engines.explain import explain
from attention.engines.log import MAX_BYTES, MAX_EXPLAINED, UNKNOWN, read

VLLM = """\
(APIServer pid=7) INFO 07-22 10:11:12 [api_server.py:1505] vLLM API server version 0.10.1
INFO 07-22 Initializing a V1 LLM engine (v0.10.1) with config: model='Qwen/Qwen3-8B', speculative_config=None, \
dtype=torch.bfloat16, max_seq_len=40960, tensor_parallel_size=2, pipeline_parallel_size=1, kv_cache_dtype=fp8_e4m3, \
INFO 07-22 Chunked prefill is enabled with max_num_batched_tokens=2048.
(Worker_TP1 pid=9) INFO Available KV cache memory: 20.11 GiB
(Worker_TP0 pid=8) INFO Available KV cache memory: 20.13 GiB
INFO [kv_cache_utils.py:864] GPU KV cache size: 585,728 tokens
INFO [kv_cache_utils.py:868] Maximum concurrency for 40,960 tokens per request: 14.30x
"""
LLAMA = """\
build: 6900 (0123abcd) with cc for x86_64-linux-gnu
print_info: arch                  = qwen3
print_info: general.name          = Qwen3 8B
print_info: n_layer               = 36
print_info: n_head                = 32
print_info: n_head_kv             = 8
print_info: n_embd_head_k         = 128
print_info: n_embd_head_v         = 128
print_info: n_swa                 = 0
llama_context: n_seq_max     = 1
llama_context: n_ctx         = 2560
llama_context: n_ctx_seq     = 2560
llama_context: n_ubatch      = 512
llama_context: flash_attn    = auto
llama_context: kv_unified    = false
llama_kv_cache:      CUDA0 KV buffer size =   191.25 MiB
llama_kv_cache: size =  191.25 MiB (  2560 cells,  36 layers,  1/1 seqs), K (q8_0):   95.62 MiB, V (q8_0):   95.62 MiB
"""
FIGURES = [
    ("memory", ("20.11",)),
    ("memory", ("20.13",)),
    ("tokens", ("585,728",)),
    ("concurrency", ("40,960", "14.30")),
]


def figures(text: str) -> list[tuple[str, tuple[str | None, ...]]]:
    return [(kind, values) for kind, values in read(text.encode()).figures]


def test_settings_and_figures_of_vllm() -> None:
    log = read(VLLM.encode())
    assert (log.engine, log.version, log.conflicting) == ("vllm", "0.10.1", ())
    assert log.settings == {
        "max_model_len": "40960", "tp": "2", "pp": "1", "kv_dtype": "fp8_e4m3", "dtype": "bfloat16",
        "in_flight": "2048",
    }  # fmt: skip
    assert figures(VLLM) == FIGURES
    assert "Qwen/Qwen3-8B" in log.names


def test_settings_and_figures_of_llama_cpp() -> None:
    log = read(LLAMA.encode())
    assert (log.engine, log.version) == ("llama.cpp", "6900")
    assert log.settings == {
        "n_ctx": "2560", "n_ubatch": "512", "n_seq_max": "1", "unified": "false", "flash_attn": "auto", "arch": "qwen3",
        "n_layer": "36", "n_head": "32", "n_head_kv": "8", "k_head_dim": "128", "v_head_dim": "128", "n_swa": "0",
    }  # fmt: skip
    line = ("191.25", "2560", "36", "1", "1", "q8_0", "95.62", "q8_0", "95.62")
    assert [(f.kind, f.values) for f in log.figures] == [("buffer", ("191.25",)), ("kv", line)]


@pytest.mark.parametrize(
    "line",
    [
        "llama_new_context_with_model: KV self size  = 2196.00 MiB, K (f16): 1098.00 MiB, V (f16): 1098.00 MiB",
        "llama_kv_cache_unified: size = 2196.00 MiB ( 4096 cells, 61 layers, 1 seqs), "
        "K (f16): 1098.00 MiB, V (f16): 1098.00 MiB",
    ],
)
def test_older_lines_of_llama_cpp(line: str) -> None:
    [(kind, values)] = figures(line + "\n")
    assert kind == "kv"
    assert (values[0], values[5], values[6]) == ("2196.00", "f16", "1098.00")


def test_any_order_colours_line_ends_and_encodings() -> None:
    turned = "\n".join(reversed(VLLM.splitlines())) + "\n"
    assert sorted(figures(turned)) == sorted(FIGURES)
    coloured = (
        VLLM.replace("INFO", "\x1b[32mINFO\x1b[0m")
        .replace("GiB", "\x1b[1;36mGiB\x1b[0m")
        .replace("585,", "585\x1b[0m,")
    )
    assert figures(coloured) == FIGURES
    assert figures(VLLM.replace("\n", "\r\n")) == FIGURES
    assert [(f.kind, f.values) for f in read(VLLM.encode("utf-16")).figures] == FIGURES
    assert figures(VLLM.replace("\n", " ")) == FIGURES  # ranks that write into one line
    broken = b"\xff\xfe\x00"[2:] + VLLM.encode() + b"\xf0\x28\x8c"
    assert [(f.kind, f.values) for f in read(broken).figures] == FIGURES


@pytest.mark.parametrize("text", [VLLM, LLAMA])
def test_a_log_cut_off_anywhere_gives_no_other_number(text: str) -> None:
    whole = read(text.encode())
    for end in range(len(text)):
        try:
            log = read(text[:end].encode())
        except ValueError:
            continue
        assert log.settings.items() <= whole.settings.items(), text[:end][-40:]
        for figure in log.figures:
            assert figure in whole.figures or figure.values[1] is None


def test_only_figures_leave_the_log() -> None:
    secrets = ("hf_AbCdEfGhIjKlMnOp", "sk-live-9f8e7d", "hunter2pass")
    lines = f"""\
INFO non-default args: {{'model': '/home/me/{secrets[1]}/my-model', 'api_key': ['{secrets[1]}'], \
'hf_token': '{secrets[0]}'}}
kv_cache_dtype={secrets[0]},
Authorization: Bearer {secrets[2]} GPU KV cache size: {secrets[2]} tokens
"""
    log = read((VLLM + lines).encode())
    for secret in secrets:
        assert secret not in repr(log)
        assert all(secret not in str(values) for _, values in log.figures)
    assert log.settings["kv_dtype"] == UNKNOWN
    types = "llama_kv_cache: size = 1.00 MiB (256 cells, 2 layers, 1/1 seqs), K (hunter2pass): 0.50 MiB, V (f16): 0.50 "
    types += "MiB\n"
    assert "hunter2pass" not in repr(read(types.encode()))


def test_several_values_of_a_setting_are_told() -> None:
    assert read((VLLM + "max_num_batched_tokens=8192,\n").encode()).conflicting == ("in_flight",)


def test_what_is_no_log_of_these_engines_is_said() -> None:
    for raw in (b"", b"\x00" * 100, b"hello\n" * 1000):
        with pytest.raises(ValueError, match=r"no start-up line of vLLM, SGLang, llama\.cpp or TensorRT-LLM"):
            read(raw)


def test_ten_megabytes_and_no_more() -> None:
    filler = b"INFO size = n_ctx = GPU KV cache size: 1,2\n"
    room = MAX_BYTES - len(VLLM)
    raw = VLLM.encode() + (filler * (room // len(filler) + 1))[:room]
    assert len(raw) == MAX_BYTES
    assert [(f.kind, f.values) for f in read(raw).figures] == FIGURES
    with pytest.raises(ValueError, match="at most 10,000,000 bytes"):
        read(raw + b"\n")


def test_a_log_of_ever_other_figures_is_cut_and_says_so() -> None:
    head = "vllm model='google/gemma-3-27b-pt', max_model_len=131072,\nAvailable KV cache memory: 30.00 GiB\n"
    text = head + "".join(f"GPU KV cache size: {276405 + i} tokens\n" for i in range(3000))
    report = explain(read(text.encode()))
    assert len(report.findings) == MAX_EXPLAINED + 1
    assert report.findings[1].verdict == "reproduced"
    assert report.notes[-1].startswith(f"only the first {MAX_EXPLAINED}")
