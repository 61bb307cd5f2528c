"""Parts of the uptraining lab: its controls, its live run, the recorded study, and the picture of pooling."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from attention import sharing
from attention.tiny import findings, merged, results, slices
from attention.tiny.config import MODELS
from attention.tiny.results import Run, Study
from attention.tiny.text import glyphs
from attention.units import binary_bytes, ratio
from ui import controls, frame, lesson, params
from ui.jobs import Seen
from ui.sections import heads_learn
from viz import lab, lab_pooling
from viz.lab import Level, Line

KEY = "lab"
PERCENTS = (1, 2, 5, 10)
PARAMS = (
    params.choice("lab_kv", list(results.KV_HEADS), 2),
    params.choice("lab_pool", list(results.POOL_METHODS), "mean"),
    params.choice("lab_alpha", list(PERCENTS), 5),
    params.choice("lab_layer", [1, 2, 3, 4], 1),
    params.choice("lab_matrix", ["k", "v"], "k"),
    params.token("lab_kept"),
)
PROJECTIONS = {"k": "Keys", "v": "Values"}
STAGES = {"original": "MHA", "converted": "converted", "uptrained": "uptrained"}
MHA_HEADS = max(results.KV_HEADS)


class Chosen(NamedTuple):
    """The settings of the controls, or of the run in view."""

    n_kv_heads: int
    pool: str
    percent: int

    def payload(self) -> dict[str, Any]:
        """The job's payload. The device is always the CPU, where models of this size are trained."""
        plan = {"n_kv_heads": self.n_kv_heads, "pool": self.pool, "alpha": self.percent / 100}
        return {**plan, "seed": 0, "device": "cpu"}

    @property
    def name(self) -> str:
        if self.n_kv_heads == MHA_HEADS:
            return "MHA trained on, nothing merged"
        how = "calibrated merge" if self.pool == results.CALIBRATED else f"{self.pool} pooling"
        return f"{_shared(self.n_kv_heads)} by {how}"

    @property
    def is_calibrated(self) -> bool:
        """Whether heads are merged by calibration on a text; not if all heads are kept, because nothing is merged."""
        return self.pool == results.CALIBRATED and self.n_kv_heads != MHA_HEADS


def _shared(n_kv_heads: int) -> str:
    return sharing.name(MHA_HEADS, n_kv_heads)


def _trained(n_kv_heads: int) -> str:
    return "MHA trained on" if n_kv_heads == MHA_HEADS else _shared(n_kv_heads)


def chosen() -> Chosen:
    state = st.session_state
    return Chosen(state["lab_kv"], state["lab_pool"], state["lab_alpha"])


@st.cache_data(show_spinner=False, max_entries=1)
def _study(changed_ns: int) -> Study | None:
    return results.read_study()


def study() -> Study | None:
    path = results.STUDY_FILE
    return _study(path.stat().st_mtime_ns if path.exists() else 0)


@st.cache_data(show_spinner=False, max_entries=12)
def _first_maps(n_kv_heads: int, pool: str) -> dict[str, Any]:
    if pool == results.CALIBRATED and n_kv_heads != MHA_HEADS:
        return merged.first_maps(heads_learn.weights("mha"), n_kv_heads)
    return results.first_maps(heads_learn.weights("mha"), n_kv_heads, pool)


def draw(job: Seen | None, plan: Chosen, layer: int) -> None:
    """Draw numbers, curve, download and maps: of the run in view, otherwise of the recorded study."""
    run = Run()
    if job is not None and job.results:
        started = Chosen(job.payload["n_kv_heads"], job.payload["pool"], round(100 * job.payload["alpha"]))
        # after a run has ended, other settings of the controls show the recorded study again
        if not job.done or started == plan:
            plan, run = started, results.run_of(job.results)
    found = study()
    finding = _numbers(plan, run, found)
    _curve(plan, run, found)
    if finding:
        st.subheader(finding, anchor=False)
    st.caption(lesson.text("lab_curve"))
    # in its own container, so that the parts below do not move when the button appears
    with st.container(key="lab_download"):
        if run.validation and job is not None and job.summary and "weights" not in job.summary:
            st.caption("A link keeps the numbers of a run, not its weights: press Start to make them again.")
        elif run.validation and job is not None and job.summary:
            st.download_button(
                f"Download the model after {job.summary['steps']:,} steps (safetensors)",
                base64.b64decode(job.summary["weights"]),
                f"tiny-{_shared(plan.n_kv_heads).lower()}-{plan.pool}-{job.summary['steps']}-steps.safetensors",
                key="lab_weights",
                on_click="ignore",
                help="Opens in transformers as LlamaForCausalLM; its config.json stands in the file's metadata.",
            )
    _maps(plan, run, layer)


def _numbers(plan: Chosen, run: Run, found: Study | None) -> str:
    """Draw the losses and the size of the cache; the finding of the curve, in words."""
    start = end = mha = None
    if run.validation:
        start, mha = run.validation[0][1], run.references.get("mha")
        end = run.validation[-1][1] if len(run.validation) > 1 else None
        trained = f"{run.validation[-1][0]:,} steps"
        end_name = f"After {trained}"
    else:
        trained = f"training for {plan.percent} % of the original steps"
        end_name = f"After alpha = {plan.percent} %, recorded"
        if found:
            points = {p.alpha: p.mean for p in found.points(plan.n_kv_heads, plan.pool)}
            start, mha = points.get(0.0), found.mha
            # calibrated starts are measured for fewer alphas: take the largest one, and name it
            at = max((alpha for alpha in points if 0 < alpha <= plan.percent / 100), default=None)
            if at is not None:
                end, end_name = points[at], f"After alpha = {100 * at:g} %, recorded"
                trained = f"training for {100 * at:g} % of the original steps"
    own, full = (results.cache_bytes_per_token(k) for k in (plan.n_kv_heads, MHA_HEADS))
    unit = "Held-out loss in nats per byte; below it, the distance to the MHA model it was made from."
    with frame.numbers():
        for name, value in (("Just converted", start), (end_name, end)):
            above = f"{value - mha:+.2f} to MHA" if value is not None and mha is not None else None
            shown = "–" if value is None else f"{value:.2f}"
            st.metric(name, shown, delta=above, delta_color="off", delta_arrow="off", help=unit)
        saved = f"{ratio(full / own)} less than MHA" if own < full else "as MHA"
        st.metric("Cache per token", binary_bytes(own), delta=saved, delta_color="off", delta_arrow="off")
    return "" if plan.n_kv_heads == MHA_HEADS else findings.cost_finding(mha, start, end, trained)


def _levels(plan: Chosen, mha: float | None, scratch: float | None) -> list[Level]:
    levels = [] if mha is None else [Level("MHA", mha, lab.LEVELS["MHA"])]
    if scratch is not None:
        levels.append(Level(f"{_shared(plan.n_kv_heads)} from scratch", scratch, lab.LEVELS["from scratch"]))
    return levels


def _curve(plan: Chosen, run: Run, found: Study | None) -> None:
    steps = found.about["original_steps"] if found else heads_learn.records()["mha"]["recipe"]["steps"]
    n_steps = round(plan.percent / 100 * steps)
    recorded = None
    if found:
        points = [p for p in found.points(plan.n_kv_heads, plan.pool) if p.alpha * steps <= n_steps]
        spread = [p.spread or 0.0 for p in points]
        color = lab.KV_LINE[plan.n_kv_heads]
        if points:
            recorded = Line("recorded", [p.alpha * steps for p in points], [p.mean for p in points], color, spread)
    if run.validation:
        levels = _levels(plan, run.references.get("mha"), run.references.get("scratch"))
    else:
        levels = _levels(plan, found.mha, found.scratch(plan.n_kv_heads)) if found else []
    origin = "live on this server" if run.validation else "recorded"
    color = lab.KV_LINE[plan.n_kv_heads]
    figure = lab.plot_run(run.train, run.validation, recorded, levels, n_steps, color, f"{plan.name}, {origin}")
    frame.chart(
        figure,
        key="lab_curve",
        filename=f"uptraining-{_shared(plan.n_kv_heads).lower()}-{plan.pool}",
        # the text stays the same during a run: another text would make Streamlit draw a new figure for every point
        alt=f"Held-out loss of {plan.name} over {n_steps} steps of uptraining.",
    )


def _maps(plan: Chosen, run: Run, layer: int) -> None:
    found = run.maps if "converted" in run.maps else _first_maps(plan.n_kv_heads, plan.pool)
    present = [when for when in STAGES if when in found]
    text = glyphs(results.SAMPLE)
    order = _order(plan, run, layer)
    maps = {when: found[when][layer] for when in present}
    if order:
        maps["original"] = maps["original"][list(order)]
    moved = " Heads stand in their new order, group by group." if order else ""
    shown = "".join(text).replace("`", "")
    lesson.show("lab_maps", finding=_maps_finding(maps, layer, plan.n_kv_heads), text=shown, moved=moved)
    frame.chart(
        lab.plot_maps(
            [(STAGES[when], maps[when]) for when in present],
            [MHA_HEADS if when == "original" else plan.n_kv_heads for when in present],
            text,
            order,
        ),
        key="lab_maps",
        filename=f"attention-before-after-layer-{layer + 1}",
        alt=f"Attention maps of layer {layer + 1}'s heads: {', '.join(STAGES[when] for when in present)}.",
    )


def _maps_finding(maps: Mapping[str, Any], layer: int, n_kv_heads: int) -> str:
    """The heading: how much of their attention the heads of a layer give to other bytes than before."""
    last = [when for when in STAGES if when in maps][-1]
    moved = 100 * findings.moved_attention(maps["original"], maps[last])
    if moved < 0.5:
        return f"The heads of layer {layer + 1} look where they looked before"
    said = ["Merged"] * (n_kv_heads != MHA_HEADS) + ["trained on"] * (last == "uptrained")
    what = " and ".join(said) or "Copied"
    where = f"the heads of layer {layer + 1} look elsewhere with {moved:.0f} % of their attention"
    return f"{what[:1].upper()}{what[1:]}, {where}"


def _order(plan: Chosen, run: Run, layer: int) -> tuple[int, ...] | None:
    """The old head at each place of a calibrated conversion: of the run in view, otherwise of the recorded one."""
    if not plan.is_calibrated:
        return None
    if "converted" in run.maps and run.layers:
        return merged.layer_of(run.layers[layer]).order
    found = merged.layers(plan.n_kv_heads)
    return found[layer].order if found else None


def recorded(plan: Chosen) -> None:
    """Draw the study's two figures and their findings."""
    found = study()
    if found is None:
        lesson.show("lab_no_study")
        return
    about, (fewest, most) = found.about, found.n_seeds
    lesson.show(
        "lab_study",
        conversion=results.at_conversion(found),
        order=results.pooling_order(found),
        recovery=results.recovery(found),
        calibrated=merged.from_there(found),
    )
    kept = plan.n_kv_heads if plan.n_kv_heads != MHA_HEADS else 1
    left, right = st.columns(2, gap="large")
    poolings = [_line(found, kept, pool, pool, lab.POOL_COLORS[pool]) for pool in results.POOL_METHODS]
    heads = [_line(found, k, plan.pool, _trained(k), lab.KV_LINE[k]) for k in results.KV_HEADS]
    scratch = _levels(plan._replace(n_kv_heads=kept), found.mha, found.scratch(kept))
    for column, key, lines, levels, title in (
        (left, "lab_by_pool", poolings, scratch, f"{_shared(kept)}: {len([p for p in poolings if p.x])} ways to merge"),
        (
            right,
            "lab_by_heads",
            heads,
            _levels(plan, found.mha, None),
            f"{'calibrated merge' if plan.is_calibrated else f'{plan.pool} pooling'}: K/V heads",
        ),
    ):
        ends = "; ".join(f"{line.name} {line.y[-1]:.2f}" for line in lines if line.y)
        with column:
            frame.chart(
                lab.plot_study(lines, levels, title[:1].upper() + title[1:]),
                key=key,
                filename=f"uptraining-study-{key}",
                alt=f"Recorded loss against alpha, {title}. At the end: {ends}.",
            )
    st.caption(lesson.text("lab_study_figure"))
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    unshipped = [str(k) for k in results.KV_HEADS if k != MHA_HEADS and found.scratch(k) is None]
    missing = f" No model trained from scratch with {', '.join(unshipped)} K/V heads is shipped." if unshipped else ""
    if any(p.alpha > found.furthest for points in found.series.values() for p in points):
        missing += f" Beyond alpha = {100 * found.furthest:g} % only some runs have been made."
    lesson.show(
        "lab_provenance", seeds=seeds, missing=missing, **{**about, "original_steps": f"{about['original_steps']:,}"}
    )


def _line(found: Study, n_kv_heads: int, pool: str, name: str, color: str) -> Line:
    points = found.points(n_kv_heads, pool)
    x, y = [100 * p.alpha for p in points], [p.mean for p in points]
    return Line(name, x, y, color, [p.spread or 0.0 for p in points])


def pooling_picture(plan: Chosen, layer: int) -> None:
    """Draw the choice of the projection, and its head slices, as trained and as pooled, below their finding."""
    place = st.container()
    matrix = controls.segmented("Projection", ["k", "v"], "lab_matrix", format_func=PROJECTIONS.__getitem__)
    source = heads_learn.weights("mha")
    if plan.is_calibrated:
        found = merged.slices(source, layer, matrix, plan.n_kv_heads)
        finding = merged.finding(merged.layers(plan.n_kv_heads)[layer], matrix)
        at_lines = " The percentage at a line is what the merge keeps of that head's energy, before the fit."
    else:
        found = slices.slices(source, layer, matrix, plan.n_kv_heads, plan.pool)
        finding, at_lines = slices.likeness_finding(found), ""
    draws = " Random heads are drawn anew in every run; one draw is shown." if plan.pool == "random" else ""
    place.subheader(_pooling_title(plan, layer, matrix), anchor=False)
    lesson.show(
        "lab_pooling",
        finding=finding + draws,
        n_heads=MODELS["mha"],
        after=results.heads(plan.n_kv_heads),
        which="those" if plan.is_calibrated else "neighbours",
        at_lines=at_lines,
    )
    frame.chart(
        lab_pooling.plot_pooling(found),
        key="lab_pooling",
        filename=f"pooling-layer-{layer + 1}-{matrix}",
        alt=f"{MODELS['mha']} head slices of layer {layer + 1}'s {matrix.upper()} projection and the "
        f"{plan.n_kv_heads} they become. {finding}",
    )


def _pooling_title(plan: Chosen, layer: int, matrix: str) -> str:
    """The heading: how many slices of trained weights become one."""
    if plan.n_kv_heads == MHA_HEADS:
        return f"{PROJECTIONS[matrix]} of layer {layer + 1}: {MHA_HEADS} heads stay {MHA_HEADS}"
    each = MHA_HEADS // plan.n_kv_heads
    return f"{PROJECTIONS[matrix]} of layer {layer + 1}: every {each} heads of trained weights become one"
