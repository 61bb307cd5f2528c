"""Lines of SGLang explained; sources beside them."""

from __future__ import annotations

from typing import Any

import pytest

from attention.catalog.sources import resolve
from attention.engines.explain import Known, explain
from attention.engines.lines import predict
from attention.engines.log import read
from attention.engines.report import Report
from attention.engines.rules import kernel_of

HEAD = "server_args=ServerArgs(model_path='{}', tp_size={}, kv_cache_dtype='auto', page_size=1, api_key='hunter2')\n"
# a log of March 2025, cut to one line of each of four ranks
RANKS = "".join(
    f"[2025-03-08 12:29:21 TP{i}] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB\n"
    for i in range(4)
)


def report(text: str, model: str | None = None, **stated: Any) -> Report:
    known = None
    if model is not None:
        spec = resolve(model)
        known = Known(spec, kernel_of(spec, model))
    return explain(read(text.encode()), known, **stated)


def test_a_log_of_four_ranks() -> None:
    found = report(HEAD.format("/models/Qwen/Qwen2.5-32B-Instruct", 4) + RANKS + "max_total_num_tokens=46611, x\n")
    assert (found.engine, found.settings["tp"], found.settings["kv_dtype"]) == ("sglang", 4, "bf16")
    line, total = found.findings
    assert (line.verdict, total.verdict) == ("reproduced", "reproduced")
    assert sum(part.n_bytes for part in line.parts) == 46612 * 65536
    assert [change.what.split(",")[0] for change in found.changes] == ["--kv-cache-dtype fp8_e4m3", "--tp 8"]
    assert found.changes[0].after == 46611 * 2
    assert "hunter2" not in repr(found)


def test_ranks_are_counted_where_their_number_is_not_stated() -> None:
    found = report(RANKS, "Qwen/Qwen2.5-32B")
    assert found.settings["tp"] == 4
    assert "4 ranks wrote lines" in found.notes[0]
    [alone] = report(RANKS.splitlines()[0].replace(" TP0", "") + "\n", "Qwen/Qwen2.5-32B").findings
    assert alone.verdict == "split"
    assert "one of 4 ranks" in alone.says


def test_both_pools_of_gemma_4() -> None:
    # a log of gemma-4-E4B-it in bf16
    found = report(
        "SWAKVPool mem usage: 79.94 GB, swa size: 798276, full size: 997846\nmax_total_num_tokens=997846, \n",
        "google/gemma-4-E4B",
    )
    assert [finding.verdict for finding in found.findings] == ["reproduced", "reproduced"]
    assert any("--swa-full-tokens-ratio 0.2" in change.what for change in found.changes)


@pytest.mark.parametrize(
    "model",
    ["openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3-Next-80B-A3B-Instruct", "google/gemma-3-12b-pt"],
)
def test_a_log_of_the_predicted_lines_is_explained(model: str) -> None:
    spec = resolve(model)
    lines = predict("sglang", spec, kernel_of(spec, model), 20 * 2**30, 8192)
    found = report("".join(f"{line.text}\n" for line in lines), model)
    assert {finding.verdict for finding in found.findings} == {"reproduced"}
    assert len(found.findings) == len(lines)


def test_what_is_not_explained_says_how_many_bytes() -> None:
    text = "KV Cache is allocated. #tokens: 1000, K size: 9.00 GB, V size: 9.00 GB\n"
    [finding] = report(text, "meta-llama/Llama-3.1-8B").findings
    assert finding.verdict == "unexplained"
    assert finding.parts[0].n_bytes == 18 * 2**30 - 1001 * 131072
    ratio = report("full_layer_tokens=1000, swa_layer_tokens=500\n", "openai/gpt-oss-20b").findings[0]
    assert (ratio.verdict, "0.500" in ratio.says) == ("split", True)


def test_what_is_refused_says_why() -> None:
    text = HEAD.format("meta-llama/Llama-3.1-8B", 1) + RANKS
    with pytest.raises(ValueError, match="data parallel attention"):
        report(text + "enable_dp_attention=True, \n")
    with pytest.raises(ValueError, match="kv_cache_dtype of this log"):
        report(text.replace("'auto'", "'int2'"))
    with pytest.raises(ValueError, match="must be one of"):
        report(text, kv_dtype="q8_0")
    assert report(text, tp=2, kv_dtype="fp8_e5m2").settings == {"kv_dtype": "fp8", "page_tokens": 1, "tp": 2}
