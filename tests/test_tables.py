"""Tables to download: nothing is lost, and nothing in them would be run by another program."""

import csv
import io
import json

from attention import tables

ROWS: list[tables.Row] = [
    {"model": "a|b", "bytes": 1024, "note": None},
    {"model": "=cmd()", "bytes": None, "note": "two\nlines"},
]


def test_csv_can_be_read_back_and_holds_no_formula() -> None:
    first, second = csv.DictReader(io.StringIO(tables.to_csv(ROWS)))
    assert first == {"model": "a|b", "bytes": "1024", "note": ""}
    assert second["model"] == "'=cmd()"
    assert tables.to_csv([]) == ""


def test_json_says_what_it_is_for() -> None:
    data = json.loads(tables.to_json(ROWS, context=7))
    assert data["context"] == 7
    assert data["rows"] == ROWS


def test_markdown_keeps_its_columns() -> None:
    heading, rule, first, second = tables.to_markdown(ROWS).splitlines()
    assert heading == "| model | bytes | note |"
    assert rule == "| --- | ---: | --- |"
    assert first == "| a\\|b | 1024 |  |"
    assert second == "| \\=cmd\\(\\) |  | two lines |"
    assert tables.to_markdown([]) == ""


def test_text_stands_in_columns() -> None:
    assert tables.to_text([("name", "n", "size"), ("a", "17", "5 B")]) == "name   n  size\na     17   5 B"
    assert tables.to_text([("name", "n", "size"), ("a", "17", "")], left=2) == "name  n   size\na     17"
