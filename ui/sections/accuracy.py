"""Parts of the accuracy page: the checks, the published figures, the text before any results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from attention import foreign_text
from attention.engines import asked, asked_sglang, asked_vllm
from attention.engines.rules import NAMES
from attention.oracle.accuracy import Check, Golden, Results
from attention.oracle.accuracy_view import WHICH, Mistake, Summary
from attention.units import binary_bytes, ratio
from ui import downloads, frame, lesson

EVERY = "every family"

RULE_NAMES = {
    "hidden_size": "every head its own K and V",
    "head_dim": "head size = hidden / heads",
    "no_windows": "windows ignored",
    "full_layers_only": "windowed layers left out",
    "latent_as_heads": "latent counted as heads",
    "latent_without_rope": "latent without RoPE part",
    "every_layer": "every layer has attention",
    "no_states": "recurrent states forgotten",
    "shared_layers": "shared layers counted",
    "no_indexer": "indexer keys forgotten",
}


def metrics(counts: Summary) -> None:
    """Draw three numbers that show how exact the arithmetic is."""
    with frame.numbers():
        beside = f"{counts.exact} exact, {counts.explained} of them up to an explained difference"
        _metric("Models asked for their own cache", f"{counts.asked:,}", beside)
        _metric("Bytes apart without explanation", f"{counts.unexplained_bytes:,}", "computed against their own code")
        _metric("Published figures matched", f"{counts.agreeing} of {counts.golden}", "to the digits printed")


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


def pickers(results: Results) -> tuple[str | None, str]:
    """Draw both pickers; return the chosen family (None for all) and which checks to list."""
    families = sorted(
        {check.family for check in results.checks if check.family} | {row.family for row in results.rules}
    )
    left, right, _ = frame.bar(2, 2, 4)
    if st.session_state["a_family"] not in (EVERY, *families):
        st.session_state["a_family"] = EVERY
    with left:
        family = st.selectbox("Family", [EVERY, *families], key="a_family", help="For the figure and for the table.")
    with right:
        which = st.selectbox("List", WHICH, key="a_which", help="Which checks the table below the figure lists.")
    return (None if family == EVERY else str(family)), str(which)


def alt(mistakes: Sequence[Mistake]) -> str:
    """The figure in words."""
    parts = [
        f"{RULE_NAMES.get(m.rule, m.rule)}: {len(m.models)} models, {ratio(min(m.factors))} to {ratio(max(m.factors))}"
        for m in mistakes
    ]
    return f"Bytes by each wrong rule over exact bytes. {'; '.join(parts) or 'No model is touched'}."


def rules(results: Results, mistakes: Sequence[Mistake]) -> None:
    """Draw the finding of the figure, and a sentence for each wrong rule that says what it does."""
    lesson.show("accuracy_rules", finding=_mistakes_finding(mistakes))
    names = results.about["rules"]
    st.markdown(
        "\n".join(f"- **{RULE_NAMES.get(rule, rule)}**: {foreign_text.markdown(text)}." for rule, text in names.items())
    )


def _mistakes_finding(mistakes: Sequence[Mistake]) -> str:
    """The heading: the rule that claims too much by the largest factor, or otherwise too little."""
    wrong = [(factor, m, model) for m in mistakes for factor, model in zip(m.factors, m.models, strict=True)]
    if not wrong:
        return "None of the well-known mistakes touches these models"
    factor, mistake, model = max(wrong, key=lambda row: row[0])
    if factor < 1:
        factor, mistake, model = min(wrong, key=lambda row: row[0])
    name = RULE_NAMES.get(mistake.rule, mistake.rule)
    return f"The worst mistake, “{name}”, claims {ratio(factor)} the bytes of {foreign_text.markdown(model)}"


def golden(rows: Sequence[Golden]) -> None:
    """Draw the table of published figures beside the computed ones."""
    agreeing = sum(row.agrees for row in rows)
    st.subheader(f"{agreeing} of {len(rows)} published figures are met, to the digits printed", anchor=False)
    frame.table(
        {
            "model": [row.model for row in rows],
            "quantity": [row.quantity.replace("_", " ") for row in rows],
            "context": [row.context for row in rows],
            "published": [row.printed for row in rows],
            "computed, bytes": [row.computed for row in rows],
            "computed": [binary_bytes(row.computed) for row in rows],
            "agrees": [row.agrees for row in rows],
            "where": [row.source for row in rows],
        },
        key="a_golden",
        column_config={n: st.column_config.NumberColumn(format="localized") for n in ("context", "computed, bytes")},
    )


def checks(rows: Sequence[Check], results: Results) -> None:
    """Draw the table of computed bytes beside the bytes of the model's own code, with its downloads."""
    st.subheader(_checks_finding(rows), anchor=False)
    about = results.about
    st.caption(f"transformers {about['transformers']}, torch {about['torch']}, {about['date']}; one sequence.")
    if not rows:
        st.caption("No such check.")
        return
    frame.table(
        {
            "model": [row.model for row in rows],
            "from": [row.source for row in rows],
            "context": [row.context for row in rows],
            "dtype": [row.kv_dtype for row in rows],
            "computed, bytes": [row.computed_bytes for row in rows],
            "own code, bytes": [row.allocated_bytes for row in rows],
            "difference": [row.difference_bytes for row in rows],
            "not explained": [row.unexplained_bytes for row in rows],
            "why": [row.reason or "; ".join(row.explanations) for row in rows],
        },
        height=420,
        placeholder="–",
        key="a_checks",
        column_config={
            name: st.column_config.NumberColumn(format="localized")
            for name in ("context", "computed, bytes", "own code, bytes", "difference", "not explained")
        },
    )
    downloads.buttons(
        [{**asdict(row), "explanations": "; ".join(row.explanations)} for row in rows], "accuracy", **about
    )


def _checks_finding(rows: Sequence[Check]) -> str:
    """The heading: how many of the listed models keep what is computed, and the bytes without an explanation."""
    asked = [row for row in rows if row.allocated_bytes is not None]
    if not asked:
        return "None of the models listed has code that could be asked"
    equal = sum(not row.unexplained_bytes for row in asked)
    apart = sum(row.unexplained_bytes or 0 for row in asked)
    rest = "" if equal == len(asked) else f"; the others are {binary_bytes(apart)} apart"
    return f"{equal:,} of {len(asked):,} models listed keep what is computed, or differ for a known reason{rest}"


def nothing_yet() -> None:
    """Draw the text for a site without a results file."""
    lesson.show("accuracy_empty")


def engines() -> None:
    """Draw the figures that engines themselves give for every model, beside the computed ones."""
    place = st.container()
    answers = [
        _engine("llama.cpp", asked.FILE, "with files of the models' shapes", "to the cell and to the digit printed"),
        _engine(
            "vllm", asked_vllm.FILE, "its planner with the models' shapes", "to the block and to the token printed"
        ),
        _engine(
            "sglang", asked_sglang.FILE, "its pools with the models' configurations", "to the slot",
            asked_sglang.EXPLAINED,
        ),
    ]  # fmt: skip
    equal, of = (sum(column) for column in zip(*answers, strict=True))
    found = f"Engines asked themselves: {equal:,} of {of:,} answers are those computed" if of else "No engine asked yet"
    place.subheader(found, anchor=False)


def _engine(
    engine: str, file: Path, how: str, equality: str, why: Mapping[tuple[str, str], str] | None = None
) -> tuple[int, int]:
    """Draw one engine's answers. `why` explains those that differ, by model and settings.

    Returns:
        (answers equal to the computed ones, all answers).
    """
    name = NAMES[engine]
    try:
        results = asked.load(file)
    except FileNotFoundError:
        st.caption(f"{name} has not been asked: `python -m attention verify --engine {engine} --record`.")
        return 0, 0
    rows = [row for row in results.rows if row.reason is None]
    equal = sum(row.equal for row in rows)
    models = len({row.model for row in rows})
    # a model that was not asked has one line for all its contexts
    listed = list({(row.model, row.reason) if row.reason else row: row for row in results.rows}.values())
    st.markdown(
        f"{name} ({foreign_text.markdown(results.about[engine])}), asked itself on "
        f"{foreign_text.markdown(results.about['date'])}, {how}, {models} of them: "
        f"**{equal} of {len(rows)} answers equal**, {equality}. "
        f"{len({row.model for row in results.rows}) - models} models were not asked, each with its reason."
    )
    frame.table(
        {
            "model": [row.model for row in listed],
            **({"context": [row.context for row in listed]} if any(row.context for row in listed) else {}),
            "K and V": ["" if row.reason else row.kind for row in listed],
            f"{name} says": [row.printed for row in listed],
            "computed": [row.computed for row in listed],
            "equal, or why not asked": [
                row.reason or ("equal" if row.equal else (why or {}).get((row.model, row.kind), "not equal"))
                for row in listed
            ],
        },
        key=f"a_engines_{engine.replace('.', '_')}",
        height=320,
        column_config={"context": st.column_config.NumberColumn(format="localized")},
    )
    return equal, len(rows)
