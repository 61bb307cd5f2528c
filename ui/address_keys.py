"""How every control with a key relates to the address: it is an address key, moves one, or is no part of the view.

A test draws every page and compares these lists with the controls that it finds. So a new control is entered here or
declared with ``ui.params``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from attention.find_out.pages import PAGES

MOVES: dict[str, tuple[str, ...]] = {
    "model_search": ("model",),
    "cmp_search": ("cmp",),
    "context_pick": ("context",),
    "context_exact": ("context",),
    "r_batch_pick": ("batch",),
    "why_users_*": ("batch",),
    "fit_remedy_*": ("kv", "f_weights", "context", "batch", "f_count"),
    "h_kv_pick": ("h_kv",),
    "spec_kv_pick": ("spec_kv",),
    "e_kv_pick": ("e_kv",),
    "code_kv_pick": ("code_kv",),
    "config_text": ("config",),
    "parameters_pick": ("parameters",),
    "config_file": ("config",),
    "attention": ("learn_byte", "learn_heads"),
    "t_upload": ("run",),
    "t_add": ("run",),
    "t_only": ("run",),
    "t_show_*": ("run",),
    "timings_run": ("run",),
    "kinds_run": ("tk_kept",),
    "explore_run": ("e_kept",),
    "lab_run": ("lab_kept",),
    "real_run": ("real_kept",),
    "real_formats_run": ("real_formats_kept",),
    "real_attention": ("real_token", "real_heads"),
    "spectrum_run": ("spec_kept",),
    "published_run": ("pub_kept",),
    "code_trap_run": ("code_kept",),
    "code_check_run": ("code_check_kept",),
    "kv_verify_run": ("k_kept",),
    "decode_step_run": ("d_kept",),
    "r_calibrate_run": ("r_kept", "run"),
    "cmp_add": ("cmp",),
    "eng_example_*": ("model", "context"),
    "cmp_example_*": ("cmp", "context", "cmp_view"),
    **{f"guess_{page}-*": (f"g_{page}",) for page in PAGES},
}
"""Control -> the address keys that it moves. The control's own key is not in the address."""

TRANSIENT: dict[str, str] = {
    "*_stop": "ends a run",
    "real_heads_run": "what heads look at is too much to keep, and is measured again in a second",
    "cmp_add_*": "settings of a column that is not added yet; the column is in cmp",
    "h_kv_none": "stands where there is nothing to choose",
    "*_csv": "takes away what is shown",
    "*_json": "takes away what is shown",
    "csv_*": "takes away what is shown",
    "json_*": "takes away what is shown",
    "lab_weights": "takes away what is shown",
    "eng_log*": "of a log, which is never kept and never in an address",
    "copy_link": "copies the address",
    "navigation": "leads to other pages",
    "path": "leads to other pages",
    "lecture": "leads to other pages",
    "words": "tells what a word means",
    "more_close": "closes a panel",
    "decode": "an animation: it begins anew for everybody",
    "headshare_head_map": "lights up what the pointer is on",
    "headshare_bars": "only draws",
    "headshare_ranking": "only draws",
    "headshare_latent": "a picture in steps: it begins anew for everybody",
    "headshare_recompute": "a picture in steps: it begins anew for everybody",
    "headshare_windows": "a picture in steps: it begins anew for everybody",
    "headshare_one_row": "a picture in steps: it begins anew for everybody",
    "headshare_ranks": "a picture in steps: it begins where the slider of K/V heads stands",
    "headshare_big_number": "only draws",
    "real_columns": "only draws",
}
"""Control or component -> the reason why an address does not restore it."""


def moves(control: str) -> tuple[str, ...]:
    """The address keys that a control moves; empty if it is not listed in MOVES."""
    return next((keys for name, keys in MOVES.items() if fnmatchcase(control, name)), ())


def reason(control: str) -> str | None:
    """Why a control is no part of the view; None if it is not listed in TRANSIENT."""
    return next((why for name, why in TRANSIENT.items() if fnmatchcase(control, name)), None)
