"""The papers' tables say what was printed (arXiv:2305.13245 Table 1; arXiv:1911.02150 Tables 1, 2 and 3)."""

from __future__ import annotations

import pytest

from attention.catalog.papers import table

GQA_1 = """\
MHA-Large 0.37 46.0 42.9 44.6 46.2 35.5 46.6 27.7 78.2
MHA-XXL 1.51 47.2 43.8 45.6 47.5 36.4 46.9 28.4 81.9
MQA-XXL 0.24 46.6 43.0 45.0 46.9 36.1 46.5 28.5 81.3
GQA-8-XXL 0.28 47.1 43.5 45.4 47.7 36.3 47.2 28.4 81.6"""
MQA_2 = """\
multi-head 13.2 1.7 46 2.0 203
multi-query 13.0 1.5 3.8 1.6 32
multi-head local 13.2 1.7 23 1.9 47
multi-query local 13.0 1.5 3.3 1.6 16"""
MQA_1 = [
    ("multi-head", ("8", "128", "4096", "1.424", "26.7", "27.7 / 28.4")),
    ("multi-query", ("8", "128", "5440", "1.439", "26.5", "27.5 / 28.5")),
    ("multi-head local", ("8", "128", "4096", "1.427", "26.6", "27.5 / 28.3")),
    ("multi-query local", ("8", "128", "5440", "1.437", "26.5", "27.6 / 28.2")),
    ("multi-head", ("1", "128", "6784", "1.518", "25.8", "")),
    ("multi-head", ("2", "64", "6784", "1.480", "26.2", "26.8 / 27.9")),
    ("multi-head", ("4", "32", "6784", "1.488", "26.1", "")),
    ("multi-head", ("8", "16", "6784", "1.513", "25.8", "")),
]
MQA_3 = [
    ("multi-head", ("8", "128", "8192", "29.9")),
    ("multi-query", ("8", "128", "9088", "30.2")),
    ("multi-head", ("1", "128", "9984", "31.2")),
    ("multi-head", ("2", "64", "9984", "31.1")),
    ("multi-head", ("4", "32", "9984", "31.0")),
    ("multi-head", ("8", "16", "9984", "30.9")),
]


@pytest.mark.parametrize(("paper", "number", "printed"), [("gqa", 1, GQA_1), ("mqa", 2, MQA_2)])
def test_numbers_as_printed(paper: str, number: int, printed: str) -> None:
    found = table(paper, number)
    assert "\n".join(" ".join((model, *values)) for model, values in found.rows) == printed
    assert len(found.columns) == len(found.rows[0][1])


@pytest.mark.parametrize(("number", "printed"), [(1, MQA_1), (3, MQA_3)])
def test_quality_tables_as_printed(number: int, printed: list) -> None:
    assert list(table("mqa", number).rows) == printed


def test_citation_names_paper_and_table() -> None:
    assert table("gqa", 1).citation == "[Ainslie et al. 2023](https://arxiv.org/abs/2305.13245), Table 1"
    assert table("mqa", 2).citation == "[Shazeer 2019](https://arxiv.org/abs/1911.02150), Table 2"


def test_columns_are_found_by_name() -> None:
    one = table("gqa", 1)
    assert one.value("GQA-8-XXL", "T_infer (s)") == 0.28
    assert one.value("MQA-XXL", "TriviaQA F1") == 81.3
    assert one.columns[-1] == "TriviaQA F1"
    assert table("mqa", 2).value("multi-query", "Beam-4 dec") == 32
    with pytest.raises(KeyError):
        one.value("GQA-8-XXL", "BLEU")


def test_the_papers_figures_have_no_values_here() -> None:
    with pytest.raises(KeyError):
        table("gqa", 4)
