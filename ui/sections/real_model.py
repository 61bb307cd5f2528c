"""Parts of the page A real model: the controls' values, the columns that write, and the record of the model."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention import foreign_text
from attention.llm import place, recorded
from attention.llm.plan import CACHE_DTYPES, MERGES, SHARINGS, Plan
from attention.llm.written import ENDS, Column, Written
from attention.units import binary_bytes, counted, duration, ratio
from attention.worker.client import Job, State
from ui import controls, frame, lesson, params
from ui.components import writing
from ui.jobs import Seen
from ui.params import Param
from ui.sections import real_formats, real_heads, real_text
from viz import real_model as figures
from viz.theme import SHARING_COLORS, kv_color

KEY = "real"
REFRESH_S = 0.1
"""Seconds between two drawings while words come."""
WAITING_S = 0.4
"""The same before the first word: where browser and model share a machine, each drawing takes time from the model."""
FILLS = (0, 512, 2048, 6144)
TOKENS = (32, 64, 128, 256)
TEMPERATURES = (0.0, 0.7, 1.0)
KINDS = {"mha": "K/V heads copied", "gqa": "as published", "mqa": "K/V heads averaged"}
CALIBRATED = "K/V heads merged on a text"
MERGE = {"mean": "averaged", "calibrated": "merged on a text"}
VIEWS = {"words": "It writes", "heads": "Its heads", "formats": "Its cache"}
SAME = "as the keys"
CHAT = {"answer": "a question", "continue": "a text to go on with"}
LIKENESS = {"all": "counted", "without_first": "left out"}
ROLES = ("induction", "previous", "first", "duplicate", "matching")
FIRST_PROMPT = "Why is the sky blue? Answer in two sentences."


PROMPT = Param("real_prompt", FIRST_PROMPT, real_text.checked, f"a text of 1 to {real_text.MAX_TYPED:,} characters")
PARAMS = (
    params.choice("real_view", list(VIEWS), "words"),
    PROMPT,
    real_text.TEXT,
    *real_heads.PARAMS,
    *real_formats.PARAMS,
    params.choice("real_tokens", list(TOKENS), 64),
    params.choice("real_fill", list(FILLS), 0),
    params.choice("real_temperature", list(TEMPERATURES), 0.0),
    params.integer("real_seed", 0, 0, 2**31 - 1),
    params.choice("real_batch", [1, 4, 16], 1),
    params.choice("real_kv", list(CACHE_DTYPES), "bf16"),
    params.choice("real_kv_values", [SAME, *CACHE_DTYPES], SAME),
    params.choice("real_merge", list(MERGES), "mean"),
    params.choice("real_chat", ["answer", "continue"], "answer"),
    params.choice("real_likeness", ["all", "without_first"], "all"),
    params.choice("real_role", list(ROLES), "induction"),
    params.token("real_kept"),
)


def refresh_s(job: Job) -> float:
    """Seconds until the next drawing of a run."""
    return REFRESH_S if any(item.get("kind") == "first" for item in job.results) else WAITING_S


def payload() -> dict[str, Any] | None:
    """The payload of a run; None without a valid prompt or a model. Draws a message that says what is wrong."""
    real_text.say(PROMPT.key)
    state = st.session_state
    if real_text.valid(PROMPT.key) is None or missing():
        return None
    values = state["real_kv_values"]
    plan = Plan(
        state[PROMPT.key], SHARINGS, state["real_tokens"], state["real_temperature"], state["real_seed"],
        state["real_fill"], state["real_kv"], state["real_batch"], state["real_chat"] == "answer",
        "" if values == SAME else values, state["real_merge"],
    )  # fmt: skip
    return {**plan.to_json(), "device": "cpu"}


def missing() -> bool:
    """Whether there is no model on this server; if so, draws a message that says how to get one."""
    if place.find() is not None:
        return False
    st.info(f"{place.MISSING} What is shown below was recorded.")
    return True


@st.cache_resource(scope="session", show_spinner=False)
def last_shown() -> dict[str, Any]:
    """What this session has seen last: its job, what that has written, and what stays until the next first word."""
    return {}


def _written(job: Seen) -> Written:
    """The text that the job has written so far; each result is read once."""
    kept = last_shown()
    if kept.get("job") is not job:
        kept.update(job=job, written=Written())
    found: Written = kept["written"]
    return found.take_in(job.results)


def draw(job: Seen | None, merge: str) -> None:
    """Draw the columns, and above them their origin. Until a run's first word the columns from before stay."""
    kept = last_shown()
    now = None if job is None else _written(job)
    if now is not None and any(column.n_tokens for column in now.columns.values()):
        assert job is not None
        live = not job.done
        kept["shown"] = now, job.payload, "This run"
        _columns(now, job.payload, "Live on this server" if live else "This run", live, job.state)
        return
    machine = recorded.load()["host"]["cpu"]
    recording = recorded.run(merge), recorded.load()["plan"], f"A recorded run on {machine}"
    written, plan, origin = recording if job is None else kept.get("shown", recording)
    if job is not None:
        waiting = job.state in (State.QUEUED, State.RUNNING)
        origin = f"{'Until the first word' if waiting else 'No word came; as before'}: {origin[:1].lower()}{origin[1:]}"
    _columns(written, plan, origin, False, State.DONE)


def _columns(written: Written, plan: dict[str, Any], origin: str, live: bool, state: State) -> None:
    about = written.about
    st.markdown(
        f"{origin}: {foreign_text.code(about['name'], 80)}, {about['prompt_tokens']:,} tokens of prompt"
        + (f" behind {about['fill']:,} of another text" if about["fill"] else "")
        + f", cache in {about['kv_dtype']}, weights in {about['weight_dtype']}"
        + (f", {about['batch']} sequences at once, of which the first is shown" if about["batch"] > 1 else "")
        + ".  \n"
        + f"Prompt: *{foreign_text.markdown(foreign_text.seen(plan['prompt'].strip(), 300))}*"
    )
    stopped = not live and state is not State.DONE
    most = _most_cache(written, int(plan["tokens"]))
    losses = recorded.losses(about["name"], about.get("merge", "mean"))
    writing.writing(
        [_column(written, column, most, losses, live, stopped) for column in written.columns.values()],
        key="real_columns",
        alt="The same model in three sharings, writing: " + ", ".join(written.title(name) for name in written.columns),
    )
    if not live:
        _said(written)


def _most_cache(written: Written, tokens: int) -> int:
    """The bytes of the largest cache at the end of the run."""
    about = written.about
    context = about["fill"] + about["prompt_tokens"] + tokens
    widest = max(written.columns.values(), key=lambda c: c.n_kv_heads)
    return max(1, widest.cache_bytes * context // widest.context if widest.context else 1)


def _column(
    written: Written, column: Column, most: int, losses: dict[str, float], live: bool, stopped: bool
) -> writing.Column:
    about, floor = written.about, column.floor_s(written.read_bytes_per_s)
    step = column.step_s
    per_token = column.cache_bytes // column.context // about["batch"] if column.context else 0
    speed = about["batch"] / step if step else None
    rows = [
        ("Cache", f"{binary_bytes(column.cache_bytes)}" if column.cache_bytes else "–"),
        ("a token adds", f"{per_token:,} B" if per_token else "–"),
        ("Tokens per second", f"{speed:.1f}" if speed else "–"),
        ("Time per step", duration(step) if step else "–"),
        ("its floor", duration(floor) if floor else "–"),
        ("step beside floor", ratio(step / floor) if step and floor else "–"),
        ("First token after", duration(column.prefill_s) if column.prefill_s else "–"),
        ("Loss, nats per token", f"{losses[column.sharing]:.2f}" if column.sharing in losses else "–"),
    ]
    name = written.title(column.sharing)
    group = about["n_heads"] // column.n_kv_heads
    ended = f"{counted(column.n_tokens, 'token')}: {ENDS[column.ended]}." if column.ended else ""
    if stopped and not ended:
        ended = f"Ended after {counted(column.n_tokens, 'token')}; the text so far is kept."
    return writing.Column(
        name=name,
        kind=CALIBRATED if (column.sharing, about.get("merge")) == ("mqa", "calibrated") else KINDS[column.sharing],
        color=SHARING_COLORS[column.sharing.upper()],
        colors=[kv_color(i, column.n_kv_heads) for i in range(column.n_kv_heads)],
        group=group,
        text=column.text,
        live=live and not column.ended,
        share=min(1.0, column.cache_bytes / most),
        figures=rows,
        state=ended or (counted(column.n_tokens, "token") if column.n_tokens else ""),
        waiting="…" if live else "(nothing but the end of its answer)",
    )


def _said(written: Written) -> None:
    """Draw the finding of the three columns in words."""
    c = written.columns
    parts = []
    if {"mha", "gqa"} <= c.keys() and c["gqa"].cache_bytes and c["mha"].n_tokens == c["gqa"].n_tokens:
        same = c["mha"].text == c["gqa"].text
        times = ratio(c["mha"].cache_bytes / c["gqa"].cache_bytes)
        alike = "the same words to the letter" if same else "other words, because rounding decided a near tie otherwise"
        parts.append(f"{written.title('mha')} wrote {alike} as {written.title('gqa')} with {times} its cache.")
    if written.others > 0.1:
        parts.append(
            f"Other processes took {100 * written.others:.0f} % of this machine meanwhile, so times say little: the "
            "floor was measured on a quieter one."
        )
    if parts:
        st.caption(" ".join(parts))


def recorded_likeness() -> None:
    """Draw whether heads that share a K/V head look at the same places, on held-out text, over all layers."""
    record = recorded.load()
    title = st.container()
    chosen = controls.segmented("The first token", list(LIKENESS), "real_likeness", format_func=LIKENESS.__getitem__)
    pair = record["likeness"][chosen]
    within, between = (sum(pair[name]) / len(pair[name]) for name in ("within", "between"))
    more = sum(w > b for w, b in zip(pair["within"], pair["between"], strict=True))
    said = f"{'more' if within > between else 'no more'} alike: {within:.2f} against {between:.2f}"
    with title:
        lesson.show("real_likeness_title", title=f"Heads that share a K/V head are {said}")
    lesson.show(
        "real_likeness", group=record["n_heads"] // record["n_kv_heads"], layers=record["n_layers"], more=more,
        within=f"{within:.2f}", between=f"{between:.2f}", n_texts=record["n_looked_at"], length=record["length"],
    )  # fmt: skip
    frame.chart(
        figures.plot_likeness(pair["within"], pair["between"]),
        key="real_likeness_chart",
        filename="likeness-within-and-between-groups",
        alt=f"Likeness of heads by layer: {within:.2f} among heads that share a K/V head, {between:.2f} among others.",
    )
    st.caption("What to see: in a layer where the first mark is farther right, heads that share are more alike.")


def recorded_roles() -> None:
    """Draw the score of each head in a role, on held-out text."""
    record = recorded.load()
    maps = {key: figures.role_map(role) for key, role in record["roles"].items()}
    title = st.container()
    key = controls.segmented("Role", ROLES, "real_role", format_func=lambda one: maps[one].label)
    best = figures.best_of(maps[key])
    said = (
        f"Layer {best.layer}, head {best.head} does it most: {100 * best.score:.0f} % of its attention, "
        f"{ratio(best.score / best.chance)} chance."
    )
    with title:
        lesson.show("real_roles_title", title=f"{maps[key].label.capitalize()}: layer {best.layer}, head {best.head}")
    lesson.show("real_roles", definition=record["roles"][key]["definition"], best=said, n=record["n_looked_at"])
    frame.chart(
        figures.plot_roles(maps[key], record["n_kv_heads"]),
        key="real_roles_chart",
        filename=f"role-{key}-by-layer-and-head",
        alt=f"Score of every head as {maps[key].label}, by layer. {said}",
    )
    st.caption("What to see: how few heads do most of it, and in which layers they are.")


def provenance() -> None:
    """Draw how the recorded figures were made."""
    record = recorded.load()
    names = {"mqa": "MQA averaged", "mqa_calibrated": "MQA merged on a text"}
    losses = ", ".join(f"{names.get(key, key.upper())} {value:.3f}" for key, value in record["losses"].items())
    lesson.show(
        "real_provenance", model=record["model"], text=record["text"], created=record["created"][:10],
        cpu=record["host"]["cpu"], torch=record["host"]["torch"], n_texts=record["n_texts"], length=record["length"],
        losses=losses,
    )  # fmt: skip
