"""How exact the arithmetic is, as data: every known model compared with its own code and with well-known wrong rules.

``python -m attention accuracy --write`` fills ``data/accuracy.json``; the page and the tests read it. All rows are
flat, and sizes are bytes of one sequence.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attention.catalog import published as catalog
from attention.formats import TORCH_NAMES
from attention.memory.footprint import cache_bytes, sequence_bytes
from attention.oracle.golden import GOLDEN
from attention.oracle.wrong_rules import RULES, rule_bytes
from attention.spec import ModelSpec, PositionState, Role

FILE = Path(__file__).parents[1] / "data" / "accuracy.json"
CONFIGS = Path(__file__).parents[2] / "tests" / "data"
CONTEXT = 8192
"""Tokens at which models are checked; it is longer than most windows."""
STEPWISE_CONTEXT = 512
"""Tokens at which types are checked whose code processes tokens one by one."""
RULE_CONTEXT = 32_768


@dataclass(frozen=True, slots=True)
class Check:
    """The computed cache of one model, compared with the cache that its own code keeps.

    Attributes:
        model, family, model_type: the model; source: "catalogue" or "test data".
        context, kv_dtype: tokens and element dtype of both sides.
        computed_bytes: bytes by our arithmetic.
        allocated_bytes: bytes in the cache of the model's own code; None if that code cannot be run.
        difference_bytes: allocated_bytes - computed_bytes.
        unexplained_bytes: bytes of the difference that no rule predicts; 0 means exact.
        explanations: the reasons for the differences, each once.
        reason: why the model's own code cannot be run, else None.
        n_parameters: parameters of the model as built, None if not built.
        fingerprint: hash of everything that decides the row, so that a later run can keep the row.
    """

    model: str
    family: str
    model_type: str
    source: str
    context: int
    kv_dtype: str
    computed_bytes: int
    allocated_bytes: int | None
    difference_bytes: int | None
    unexplained_bytes: int | None
    explanations: tuple[str, ...]
    reason: str | None
    n_parameters: int | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RuleError:
    """What a well-known wrong rule gives for a catalogue model in bf16 at RULE_CONTEXT; only where it is wrong.

    Attributes:
        rule: a key of RULES.
        relative_error: rule_bytes / exact_bytes - 1.
    """

    model: str
    family: str
    rule: str
    context: int
    exact_bytes: int
    rule_bytes: int
    relative_error: float


@dataclass(frozen=True, slots=True)
class Golden:
    """A published figure and the computed one.

    Attributes:
        quantity: what the figure counts.
        published: the published figure in bytes; printed: the figure as printed.
        agrees: whether `computed` equals it to the digits printed.
    """

    model: str
    quantity: str
    context: int
    published: float
    printed: str
    computed: int
    agrees: bool
    source: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to check: its configuration, and its layers in the catalogue (None: read from the configuration)."""

    model: str
    family: str
    source: str
    config: Mapping[str, Any]
    spec: ModelSpec | None


def subjects() -> Iterator[Subject]:
    """Every catalogue model with a configuration, then every configuration of the test data, if that is present."""
    for row in catalog.models():
        if row.config is not None and row.spec is not None:
            yield Subject(row.id, row.family, "catalogue", row.config, row.spec)
    if (CONFIGS / "configs").is_dir():
        from attention.configs.reader import load_config

        for path in sorted((CONFIGS / "configs").glob("*.json")):
            yield Subject(path.stem.replace("__", "/", 1), "", "test data", load_config(path), None)
        for name, row in json.loads((CONFIGS / "configs_more.json").read_text(encoding="utf-8")).items():
            yield Subject(name, "", "test data", row["config"], None)


def _fingerprint(subject: Subject, spec: ModelSpec, context: int) -> str:
    text = json.dumps(
        [subject.model, subject.source, subject.config, context, version("transformers")], sort_keys=True
    ) + repr(spec.layers)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(subject: Subject, known: Mapping[str, Check] | None = None) -> Check:
    """Compare the computed cache with that of the model's own code.

    Args:
        known: earlier rows by fingerprint; a row with the same fingerprint is returned in place of a new run.

    Raises:
        ValueError: the configuration is refused.
    """
    from attention.configs.reader import spec_from_config
    from attention.oracle.verify import STEPWISE, verify

    spec = subject.spec or spec_from_config(subject.config, subject.model)
    model_type = spec.model_type or ""
    context = STEPWISE_CONTEXT if model_type in STEPWISE else CONTEXT
    if model_type == "mpt":  # its position biases are only built up to its longest context
        context = min(context, spec.max_context or context)
    fingerprint = _fingerprint(subject, spec, context)
    if known and fingerprint in known:
        return known[fingerprint]
    dtype = spec.model_dtype if spec.model_dtype in TORCH_NAMES else "bf16"
    assert dtype is not None
    common = {"model": subject.model, "family": subject.family, "model_type": model_type, "source": subject.source}
    try:
        found = verify(subject.config, context, subject.model, spec)
    except ValueError as error:
        computed = sequence_bytes(spec, context, dtype)
        return Check(
            **common,
            context=context,
            kv_dtype=dtype,
            computed_bytes=computed,
            allocated_bytes=None,
            difference_bytes=None,
            unexplained_bytes=None,
            explanations=(),
            reason=str(error),
            n_parameters=None,
            fingerprint=fingerprint,
        )
    return Check(
        **common,
        context=context,
        kv_dtype=found.kv_dtype,
        computed_bytes=found.computed_bytes,
        allocated_bytes=found.allocated_bytes,
        difference_bytes=found.allocated_bytes - found.computed_bytes,
        unexplained_bytes=found.unexplained_bytes,
        explanations=tuple(dict.fromkeys(c.explanation for c in found.layers if c.explanation)),
        reason=None,
        n_parameters=found.n_parameters,
        fingerprint=fingerprint,
    )


def rule_errors() -> list[RuleError]:
    """The results of every wrong rule for every catalogue model for which it is wrong."""
    out = []
    for row in catalog.models():
        if row.spec is None:
            continue
        exact = sequence_bytes(row.spec, RULE_CONTEXT, "bf16")
        for rule in RULES:
            size = rule_bytes(rule, row.spec, RULE_CONTEXT)
            if size is not None and size != exact and exact:
                out.append(RuleError(row.id, row.family, rule, RULE_CONTEXT, exact, size, size / exact - 1))
    return out


def golden() -> list[Golden]:
    """Published figures beside the computed ones."""
    out = []
    for model, quantity, context, published, printed, tolerance, source in GOLDEN:
        spec = catalog.model(model).spec
        assert spec is not None
        computed = _key_value_bytes(spec, context)
        if quantity.startswith("bytes_per_token"):
            computed = cache_bytes(spec, context, 1, "bf16").bytes_per_token
        agrees = abs(computed - published) <= tolerance
        out.append(Golden(model, quantity, context, published, printed, computed, agrees, source))
    return out


def _key_value_bytes(spec: ModelSpec, context: int) -> int:
    """Bytes of all states with one entry per position, in 16 bits. The published figures count these and leave out
    recurrent states."""
    return 2 * sum(
        state.elements_per_position * state.positions(context)
        for layer in spec.layers
        for state in layer.states
        if isinstance(state, PositionState) and state.role is not Role.CROSS
    )


def write(checks: Iterable[Check], path: Path = FILE) -> None:
    """Write the results file."""
    content = {
        "about": {
            "transformers": version("transformers"),
            "torch": version("torch").partition("+")[0],
            "python": platform.python_version(),
            "date": datetime.now(UTC).date().isoformat(),
            "rules": RULES,
        },
        "checks": [asdict(c) for c in checks],
        "rules": [asdict(r) for r in rule_errors()],
        "golden": [asdict(g) for g in golden()],
    }
    path.parent.mkdir(exist_ok=True)
    lines = [f' "about": {json.dumps(content["about"], ensure_ascii=False)}']
    for key in ("checks", "rules", "golden"):
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in content[key])
        lines.append(f' "{key}": [\n  {rows}\n ]')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@dataclass(frozen=True)
class Results:
    """The results file. `about` states the versions, the date and the text of each rule."""

    about: Mapping[str, Any]
    checks: tuple[Check, ...]
    rules: tuple[RuleError, ...]
    golden: tuple[Golden, ...]


@lru_cache(maxsize=2)
def load(path: Path = FILE) -> Results:
    """Read the results file.

    Raises:
        FileNotFoundError: it was never written.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    return Results(
        data["about"],
        tuple(Check(**{**row, "explanations": tuple(row["explanations"])}) for row in data["checks"]),
        tuple(RuleError(**row) for row in data["rules"]),
        tuple(Golden(**row) for row in data["golden"]),
    )


def run(progress: Callable[[Check], None], path: Path = FILE, fresh: bool = False) -> list[Check]:
    """Check every subject and write the file now and then. Results that are in the file are kept unless `fresh`.

    Args:
        progress: called with each check.
    """
    before = () if fresh or not path.exists() else load(path).checks
    known = {c.fingerprint: c for c in before if c.reason is None}
    checks: list[Check] = []
    for index, subject in enumerate(subjects()):
        checks.append(check(subject, known))
        progress(checks[-1])
        if checks[-1].fingerprint not in known and index % 20 == 0:
            write([*checks, *(c for c in known.values() if c not in checks)], path)
    write(checks, path)
    load.cache_clear()
    return checks
