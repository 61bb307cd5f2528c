"""Makes ``data/parameters.json``: the parameters of every catalogue model with a known total, by what a decode step
does with them.

They are counted in the model's own code where transformers has it, else by the arithmetic of
``configs/parameter_rules.py``. A few are written by hand from what the makers published.
"""

from __future__ import annotations

from importlib.metadata import version

from attention.catalog import published
from attention.parameters import Parameters, Routed
from attention.parameters import write as write_file

BY_HAND: dict[str, Parameters] = {
    # the output projection is the embedding; 2,048 learned positions are looked up
    "openai/GPT-3-175B": Parameters(175_000_000_000, 2048 * 12_288, 12_288, source="arXiv:2005.14165, table 2.1"),
    # the output projection is the embedding (run.py); 8 experts of three matrices 6144 x 32768, 2 chosen
    "xai-org/grok-1": Parameters(
        314_000_000_000, routed=(Routed(64, 8, 2, 3 * 6144 * 32_768),), source="xai-org/grok-1, README and run.py"
    ),
    # input and output embeddings are separate; 32 experts of three matrices 6144 x 9216, 2 chosen
    "MiniMaxAI/MiniMax-Text-01": Parameters(
        456_000_000_000,
        200_064 * 6144,
        6144,
        routed=(Routed(80, 32, 2, 3 * 6144 * 9216),),
        source="arXiv:2501.08313, section 2",
    ),
    # "We share input and output embeddings"
    "google/PaLM-8B": Parameters(8_630_000_000, source="arXiv:2204.02311, table 1 and section 2"),
    "google/PaLM-62B": Parameters(62_500_000_000, source="arXiv:2204.02311, table 1 and section 2"),
    "google/PaLM-540B": Parameters(540_350_000_000, source="arXiv:2204.02311, table 1 and section 2"),
}


def record(row: published.ModelRow) -> Parameters | None:
    """The parameters of one row; None where the total or the layers are not known.

    Raises:
        ValueError: neither the model's own code nor a rule counts the parameters.
    """
    if row.n_parameters is None or row.spec is None:
        return None
    if row.id in BY_HAND:
        return BY_HAND[row.id]
    from attention.configs.reader import spec_from_config
    from attention.oracle.built import supported
    from attention.oracle.parameters import count

    assert row.config is not None, row.id
    if supported(row.config) is None:
        return count(row.config)
    found = spec_from_config(row.config, row.id).weights
    if found is None:
        raise ValueError(f"{row.id}: neither its own code nor a rule counts its parameters")
    return found


def write() -> int:
    """Count the parameters of all models and write the file; returns the number of models."""
    models = {row.id: found for row in published.models() if (found := record(row)) is not None}
    about = {"transformers": version("transformers"), "torch": version("torch").partition("+")[0]}
    write_file(models, about)
    return len(models)
