"""The Lab: it converts as the paper says, a run streams and stops, and the study's numbers are what a run gives."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_bytes

from attention.convert.pooling import POOLS
from attention.jobs import uptrain_lab
from attention.tiny import results as lab_view
from attention.tiny import slices, train, uptraining
from attention.tiny.config import TinyConfig
from attention.tiny.corpus import load_corpus
from attention.tiny.model import TinyLM, initialised
from attention.tiny.numpy_forward import load_named, maps

SMALL = TinyConfig(n_kv_heads=6, n_heads=6, head_dim=10, n_layers=2, ffn_dim=23, max_context=37)
TEXT = b"def area(width, height):\n    return width * height\n" * 40


@pytest.mark.parametrize("pool", POOLS)
def test_all_heads_kept_is_the_same_model(mha: TinyLM, pool: Any) -> None:
    converted = uptraining.convert(mha, 8, pool, seed=3)
    state = mha.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in converted.state_dict().items())


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3])
def test_mean_pooling_is_the_mean_of_neighbours(n_kv_heads: int) -> None:
    model = initialised(SMALL, 5)
    converted = uptraining.convert(model, n_kv_heads, "mean").state_dict()
    size = SMALL.n_heads // n_kv_heads
    for name, before in model.state_dict().items():
        after = converted[name].double().numpy()
        if ".k_proj." not in name and ".v_proj." not in name:
            assert np.array_equal(after, before.double().numpy()), name
            continue
        rows = before.double().numpy()
        assert after.shape == (n_kv_heads * 10, 60)
        for head in range(n_kv_heads):
            for row in range(10):
                expected = sum(rows[(head * size + i) * 10 + row] for i in range(size)) / size
                # one rounding to float32
                assert np.allclose(after[head * 10 + row], expected, rtol=1e-6, atol=1e-9)


def test_first_and_random(mha: TinyLM) -> None:
    name = "model.layers.1.self_attn.k_proj.weight"
    before = mha.state_dict()[name]
    first = uptraining.convert(mha, 2, "first").state_dict()[name]
    assert torch.equal(first, torch.cat([before[:16], before[64:80]]))
    drawn = [uptraining.convert(mha, 2, "random", seed).state_dict()[name] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    # 4,096 draws: the deviation is known to about one percent
    assert float(drawn[0].std()) == pytest.approx(128**-0.5 / 2, rel=0.06)


def test_a_model_whose_groups_are_alike_loses_nothing() -> None:
    model = initialised(SMALL, 7)
    with torch.no_grad():
        for name in uptraining.shared_roles(model):
            weight = model.get_parameter(name).view(2, 3, 10, 60)
            weight.copy_(weight[:, :1].expand_as(weight).clone())
    tokens = torch.randint(0, 256, (2, 31))
    for pool in ("mean", "first"):
        # float32 sums in two orders
        assert torch.allclose(uptraining.convert(model, 2, pool)(tokens), model(tokens), atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_kv_heads", 3),
        ("n_kv_heads", 0),
        ("pool", "best"),
        ("alpha", 0.2),
        ("alpha", -0.1),
        ("alpha", "1"),
        ("seed", -1),
    ],
)
def test_an_impossible_plan_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        uptraining.Plan(**{"n_kv_heads": 2, field: value})


def test_uptraining_lowers_the_loss_and_depends_on_its_seed_alone() -> None:
    stream = np.frombuffer(TEXT, dtype=np.uint8)
    recipe = train.Recipe(steps=100, batch=1, warmup=2)
    runs = [
        uptraining.Uptraining(uptraining.convert(initialised(SMALL, 5), 2, "mean"), stream, seed, recipe)
        for seed in (4, 4, 5)
    ]
    losses = [[run.advance() for _ in range(12)] for run in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert np.mean(losses[0][-3:]) < 0.9 * np.mean(losses[0][:3])
    assert runs[0].step == 12


def test_the_study_is_what_is_computed_now(mha: TinyLM, rows: torch.Tensor) -> None:
    document = json.loads(lab_view.STUDY_FILE.read_text())
    same = document["about"]["corpus_sha256"] == load_corpus().sha256
    # the same windows: float32 in another order; windows of another Python release: another text of the same kind
    tolerance = 1e-4 if same else 0.1
    cell = next(c for c in document["cells"] if (c["n_kv_heads"], c["pool"], c["alpha"]) == (1, "random", 0.0))
    value = train.mean_loss(uptraining.convert(mha, 1, "random", cell["seed"]), rows)
    assert value == pytest.approx(cell["loss"], rel=tolerance)
    assert train.mean_loss(mha, rows) == pytest.approx(document["references"]["mha"], rel=tolerance)


def test_the_job_streams_and_hands_over_what_it_trained(mha: TinyLM, four_windows: None) -> None:
    threads = torch.get_num_threads()
    results: list[dict] = []
    progress: list[dict] = []
    payload = {"n_kv_heads": 2, "pool": "mean", "alpha": 0.004, "seed": 1, "device": "cpu"}
    summary = uptrain_lab.run(
        payload, lambda item: (progress if "progress" in item else results).append(item), lambda: False
    )
    assert torch.get_num_threads() == threads
    json.dumps([*results, summary])
    # the first loss that a reader sees waits for nothing else
    assert results[0]["kind"] == "loss"
    run = lab_view.run_of(results)
    steps = [step for step, _ in run.validation]
    assert steps[0] == 0
    assert steps[-1] == 10 == summary["steps"]
    assert [step for step, _ in run.train] == list(range(10))
    rows = uptraining.text()[1]
    assert run.validation[0][1] == pytest.approx(train.mean_loss(uptraining.convert(mha, 2, "mean"), rows), rel=1e-5)
    assert run.references["mha"] == pytest.approx(train.mean_loss(mha, rows), rel=1e-5)
    assert run.references["scratch"] < run.validation[0][1]
    assert run.validation[-1][1] < run.validation[0][1]
    state = load_bytes(base64.b64decode(summary["weights"]))
    model = TinyLM(TinyConfig(**summary["config"]))
    model.load_state_dict(state)
    # weights are handed over in float16
    assert train.mean_loss(model, rows) == pytest.approx(run.validation[-1][1], rel=2e-3)
    assert progress[-1]["progress"] == 1.0
    assert len(json.dumps(summary)) < 3 * 2**20


def test_a_stopped_job_gives_what_it_has(four_windows: None) -> None:
    stop = threading.Event()
    results: list[dict] = []

    def emit(item: dict) -> None:
        results.append(item)
        if item.get("kind") == "train":
            stop.set()

    summary = uptrain_lab.run({"n_kv_heads": 1, "pool": "first", "alpha": 0.1}, emit, stop.is_set)
    assert 0 < summary["steps"] < 250
    assert summary["weights"]
    assert "uptrained" in lab_view.run_of([r for r in results if "kind" in r]).maps


def test_the_job_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="n_kv_heads"):
        uptrain_lab.run({"n_kv_heads": 5}, lambda item: None, lambda: False)


def test_measured_steps_end_with_the_last() -> None:
    for n in (0, 1, 25, 50, 125, 250):
        steps = uptraining.measured_steps(n)
        assert steps == sorted(set(steps))
        assert steps[-1] == n
    assert len(uptraining.measured_steps(125)) < 13


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_the_picture_shows_the_slices_that_are_converted(mha: TinyLM, pool: Any) -> None:
    weights = load_named("mha")
    for matrix in ("k", "v"):
        found = slices.slices(weights, 2, matrix, 4, pool)
        expected = uptraining.convert(mha, 4, pool).state_dict()[f"model.layers.2.self_attn.{matrix}_proj.weight"]
        assert np.array_equal(found.merged.reshape(64, 128), expected.numpy())
        assert found.heads.shape == (8, 16, 128)


def test_likeness_of_what_is_alike_and_of_what_is_not() -> None:
    one = np.random.default_rng(3).normal(size=(1, 5, 7)).astype(np.float32)
    alike = slices.Slices(np.repeat(one, 6, axis=0), np.repeat(one, 2, axis=0))
    assert slices.likeness(alike) == pytest.approx((1.0, 1.0))
    opposite = slices.Slices(np.concatenate([one, -one]), one)
    assert slices.likeness(opposite) == pytest.approx((-1.0, 0.0))
    assert slices.likeness(slices.Slices(one, one)) is None


def test_maps_survive_the_wire(mha: TinyLM) -> None:
    original = uptraining.attention_of(mha)
    unpacked = lab_view.unpack_maps(json.loads(json.dumps(lab_view.pack_maps(original))))
    # half a step of 255
    assert np.abs(unpacked - np.sqrt(original)).max() < 0.002 + 1e-6
    assert np.allclose(original, maps(load_named("mha"), lab_view.SAMPLE).attention, atol=1e-6)
    converted = lab_view.first_maps(load_named("mha"), 2, "mean")["converted"]
    assert np.allclose(converted, np.sqrt(uptraining.attention_of(uptraining.convert(mha, 2, "mean"))), atol=1e-4)


def test_cache_bytes_of_the_tiny_model() -> None:
    # 4 layers, keys and values, heads of 16 elements of 2 bytes
    assert [lab_view.cache_bytes_per_token(k) for k in (1, 2, 4, 8)] == [256, 512, 1024, 2048]


def test_what_is_handed_over_opens_in_transformers(mha: TinyLM) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = uptraining.convert(mha, 2, "mean")
    raw = uptraining.stored(model)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    settings = json.loads(header["__metadata__"]["config"])
    assert settings["num_key_value_heads"] == 2
    peer = LlamaForCausalLM(
        LlamaConfig(**{k: v for k, v in settings.items() if k not in ("architectures", "torch_dtype")})
    )
    peer.load_state_dict(load_bytes(raw), strict=False)
    tokens = torch.tensor([list(lab_view.SAMPLE)])
    with torch.no_grad():
        # float16 weights on one side
        assert torch.allclose(peer.eval()(tokens).logits, model(tokens), atol=0.1)
