"""Checks whether a converted checkpoint can be served: transformers opens it in a fresh process and generates from it.

The fresh process has only the folder: no patched modules, and no weights that are still in memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

N_TOKENS = 8
PROMPT = "The cache holds"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Files of tokenizers. Without any of them bytes are tokens."""


def check(folder: Path, timeout_s: float | None = None) -> dict[str, Any]:
    """Open the folder in a fresh process and generate N_TOKENS tokens greedily.

    Returns:
        {"transformers": its version, "class", "n_kv_heads", "prompt_tokens": their number, "tokens": the generated ids,
        "text": their text, or None without a tokenizer}.

    Raises:
        ValueError: the folder cannot be opened, tensors are missing or left over, or logits are not finite.
        subprocess.TimeoutExpired: it takes longer than `timeout_s`.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "attention.convert.served", str(folder.resolve())],
        capture_output=True, text=True, errors="replace", timeout=timeout_s,
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )  # fmt: skip
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        why = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ValueError(f"transformers cannot serve {folder} from a fresh process: {why}")
    found: dict[str, Any] = json.loads(said[-1])
    return found


def main(folder: Path) -> dict[str, Any]:
    """The check itself, which runs in the fresh process; see :func:`check`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True, **options)
    for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[name]:
            raise ValueError(
                f"{len(info[name])} {name.replace('_', ' ')}, {sorted(map(str, info[name]))[0]} among them"
            )
    own = any((folder / name).is_file() for name in TOKENIZERS)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False) if own else None
    vocabulary = model.config.get_text_config().vocab_size
    ids = tokenizer(PROMPT)["input_ids"] if tokenizer else [b % vocabulary for b in PROMPT.encode()]
    prompt = torch.tensor([ids])
    with torch.no_grad():
        logits = model(prompt).logits
        if not bool(logits.isfinite().all()):
            raise ValueError("its logits are not finite")
        written = model.eval().generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=N_TOKENS, pad_token_id=0
        )
    new = written[0, len(ids) :].tolist()
    return {
        "transformers": transformers.__version__,
        "class": type(model).__name__,
        "n_kv_heads": model.config.get_text_config().to_dict().get("num_key_value_heads"),
        "prompt_tokens": len(ids),
        "tokens": new,
        "text": tokenizer.decode(new) if tokenizer else None,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
