"""Runs of timings as documents: what is written is read again; incoherent and hostile documents are refused."""

import csv
import io
import json

import pytest

from attention.kernels.case import Case, Result
from attention.timing import runs
from tests.timing_samples import result, run


def changed(**values):
    """The JSON text of a good run with some top-level values replaced; None removes a value."""
    document = run().to_json()
    document.update(values)
    return json.dumps({key: value for key, value in document.items() if value is not None})


def changed_timing(**values):
    document = run().to_json()
    document["results"][1].update(values)
    return json.dumps(document)


def test_what_is_written_is_read_again():
    before = run()
    assert runs.parse(before.dumps()) == before
    assert runs.parse(before.dumps().encode()) == before


def test_a_timing_that_was_not_taken_keeps_its_note():
    skipped = result(median_s=None)
    assert runs.parse(run(skipped).dumps()).results[0] == skipped


def test_the_machine_is_named_without_decoration():
    assert run(calibration={}).label == "Test 3000, 2 threads"
    gpu = run(result(device="cuda"), host={"cpu": "x", "gpus": [{"name": "NVIDIA Test"}]}, calibration={})
    assert gpu.label == "NVIDIA Test"


def test_an_upload_is_marked_whatever_it_says():
    assert runs.uploaded(changed(source="recorded")).source == "uploaded"


def test_csv_is_stamped_and_holds_every_field():
    rows = list(csv.DictReader(io.StringIO(run().to_csv())))
    assert [int(row["n_kv_heads"]) for row in rows] == [77, 7, 1]
    assert float(rows[1]["median_s"]) == 0.013
    assert (rows[0]["host"], rows[0]["torch_version"], rows[0]["system"]) == (
        "Test 3000, 2 threads",
        "2.13.0",
        "TestOS",
    )
    held = {*Result.__dataclass_fields__, *Case.__dataclass_fields__, "cache_bytes"} - {"case"}
    assert held < set(rows[0])


def test_csv_starts_no_formula_in_a_spreadsheet():
    text = run(versions={"torch": "=HYPERLINK()"}).to_csv()
    assert "'=HYPERLINK()" in text
    assert ",=" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "must be a JSON object"),
        ('{"headshare_run": 2}', "must be a JSON object"),
        (changed(title=None), "must say its title"),
        (changed(surplus=1), "unknown field 'surplus'"),
        (changed(results=[]), "results must be a list of 1 to 2,000"),
        (changed(results="x"), "results must be a list"),
        (changed(results=[7]), "timing 1: a result must be an object"),
        (changed(source="god"), "source must be one of"),
        (changed(host={}), "names its cpu"),
        (changed(host={"cpu": "x\n[click](javascript:0)"}), "must be a line"),
        (changed(host={"cpu": "x", "deep": [[[[1]]]]}), "host.deep must hold"),
        (changed(calibration={"a": 1e300}), "calibration.a must be a smaller number"),
        (changed(created="yesterday"), "created must be a time"),
        (changed(created="2026-03-05T07:11:13"), "with its zone"),
        (changed(title="x" * 301), "title must be a line of at most 300"),
        (changed_timing(median_s=float("nan")), "numbers must be finite, got NaN"),
        (changed_timing(median_s=-1.0), "timing 2: median_s must be a number of at least 0"),
        (changed_timing(median_s="fast"), "timing 2: median_s"),
        (changed_timing(median_s=0.0065), "timing 2: bytes_per_s must be"),
        (changed_timing(times_floor=1.0), "timing 2: times_floor must be"),
        (changed_timing(cache_bytes=1), "timing 2: cache_bytes must be 1,089,536"),
        (changed_timing(n_kv_heads=3), "timing 2: n_kv_heads must divide n_heads"),
        (changed_timing(n_kv_heads=7.0), "timing 2: n_kv_heads must be a whole number"),
        (changed_timing(implementation="<b>"), "timing 2: implementation must be a name"),
        (changed_timing(device="auto"), "timing 2: device must say where"),
        (changed_timing(device="cuda"), "results must be of one device"),
        (changed_timing(repeats=True), "timing 2: repeats"),
        (changed_timing(surprise=1), "timing 2: unknown field 'surprise'"),
        (changed_timing(bound="magic"), "timing 2: bound"),
        (" " * 1_000_001, "at most 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_what_is_not_a_run_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        runs.parse(text)
    assert len(str(caught.value)) < 300


def test_runs_that_ship_are_coherent_and_say_where_they_were_taken():
    assert runs.recorded(), "the pages show a recorded run first"
    for shipped in runs.recorded():
        assert shipped.source == "recorded"
        assert shipped.versions["torch"]
        assert shipped.host["cpu"]
        assert shipped.calibration["read_bytes_per_s"] > 0
        assert all(timing.median_s is not None or timing.note for timing in shipped.results)


def test_titles_name_the_shapes():
    title = runs.title_of([result(n_kv_heads=77), result(n_kv_heads=1)])
    assert title == "decode, 77 query heads of 19, K/V heads 77, 1, float32"
    assert runs.title_of([]) == "nothing timed"


def test_a_document_is_nobody_elses():
    document = runs.recorded()[0].to_json()
    for part in ("versions", "host", "calibration"):
        document[part].clear()
    document["results"].clear()
    again = runs.recorded()[0]
    assert again.versions
    assert again.host
    assert again.calibration
    assert again.results
