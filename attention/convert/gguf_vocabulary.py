"""Writes a checkpoint's vocabulary to GGUF, so that llama.cpp splits text as the checkpoint's own tokenizer does.

In GGUF only a name says how a tokenizer splits text into words. A ``tokenizer.json`` gets a name here only if it splits
exactly in that way (``KNOWN``). Any other is refused, because with a wrong name llama.cpp would silently split text in
another way. Source: ggml-org/llama.cpp, ``src/llama-vocab.cpp`` (the regular expressions of each name).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attention.convert import checkpoint as ckpt

TOKENIZER = "tokenizer.json"
OTHERS = ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KNOWN: dict[tuple[Any, ...], str] = {
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", _LETTERS + r"\p{N}{1,3}" + _REST), ("ByteLevel", False)): "llama-bpe",
    (("Split", _LETTERS + r"\p{N}" + _REST), ("ByteLevel", False)): "qwen2",
}
"""How words are split, as in ``tokenizer.json`` -> llama.cpp's name for it."""


def write_vocabulary(writer: Any, folder: Path, n_tokens: int) -> str:
    """Add the tokens to a ``gguf.GGUFWriter``. Returns a description of them in words.

    The tokens of a checkpoint without a tokenizer are bytes, as everywhere in this project.

    Args:
        folder: the checkpoint's folder.
        n_tokens: rows of the embedding. Rows beyond the tokenizer's words become unused tokens.

    Raises:
        ValueError: a tokenizer without a name in ``KNOWN``, one that cannot be read, or a vocabulary too small for it.
    """
    import gguf

    path = folder / TOKENIZER
    if not path.is_file():
        if found := [name for name in OTHERS if (folder / name).is_file()]:
            raise ValueError(
                f"{folder} has {found[0]} and no {TOKENIZER}: only the latter is read. "
                "AutoTokenizer.from_pretrained(…).save_pretrained(…) writes it"
            )
        return _write_bytes(writer, folder, n_tokens, gguf.TokenType)
    try:
        content = ckpt.read_json(path)
        name = _name_of(content)
        words, kinds = _words(content, n_tokens, gguf.TokenType)
        special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=n_tokens)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__} {error}") from None
    if not special.merges:
        raise ValueError(f"{path} has no merges: llama.cpp needs some")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    special.add_to_gguf(writer, quiet=True)
    return f"{len(words):,} tokens, parted as {name} does"


def _name_of(content: dict[str, Any]) -> str:
    if (kind := content["model"].get("type", "BPE")) != "BPE":
        raise ValueError(f"a tokenizer of type {kind} is not exported: only byte-level BPE")
    normalizer = (content.get("normalizer") or {}).get("type")
    # llama.cpp normalises nothing. Its own converter accepts NFC, which does not change text that is composed already
    if normalizer not in (None, "NFC"):
        raise ValueError(f"a tokenizer with the normalizer {normalizer} is not exported: llama.cpp has none")
    parted = tuple(_part(p) for p in _parts(content.get("pre_tokenizer") or {}))
    if parted not in KNOWN:
        said = " then ".join(str(part[0]) for part in parted) or "nothing"
        raise ValueError(
            f"the tokenizer parts words by {said} in a way that llama.cpp has no known name for here; "
            f"exported are those of {', '.join(KNOWN.values())}"
        )
    return KNOWN[parted]


def _parts(pre: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]


def _part(pre: dict[str, Any]) -> tuple[Any, ...]:
    kind = pre.get("type")
    if kind == "ByteLevel" and not pre.get("add_prefix_space"):
        return kind, bool(pre.get("use_regex", True))
    if kind == "Digits":
        return kind, bool(pre.get("individual_digits"))
    if kind == "Split" and pre.get("behavior") == "Isolated" and not pre.get("invert"):
        return kind, pre["pattern"].get("Regex")
    return (kind, None, None)


def _words(content: dict[str, Any], n_tokens: int, kinds: Any) -> tuple[list[str], list[int]]:
    """(words, their kinds), both in the order of the token ids."""
    words = [f"[PAD{i}]" for i in range(n_tokens)]
    types = [int(kinds.UNUSED)] * n_tokens

    def enter(token: int, word: str, kind: int) -> None:
        if not isinstance(word, str) or isinstance(token, bool) or not 0 <= token < n_tokens:
            raise ValueError(f"{TOKENIZER} has token {token!r}, the model's vocabulary has {n_tokens:,}")
        words[token], types[token] = word, int(kind)

    for word, token in content["model"]["vocab"].items():
        enter(token, word, kinds.NORMAL)
    for added in content.get("added_tokens") or ():
        enter(added["id"], added["content"], kinds.CONTROL if added.get("special") else kinds.USER_DEFINED)
    return words, types


def byte_words() -> list[str]:
    """The 256 bytes as the characters by which byte-level BPE writes them: a printable byte is its own character, the
    others begin at U+0100 (Radford et al. 2019, section 2.2; the order of GPT-2's ``bytes_to_unicode``)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _write_bytes(writer: Any, folder: Path, n_tokens: int, kinds: Any) -> str:
    if n_tokens < 256:
        raise ValueError(f"the checkpoint has no tokenizer, and its vocabulary of {n_tokens} cannot hold bytes")
    words = byte_words()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*words, *(f"[PAD{i}]" for i in range(256, n_tokens))])
    writer.add_token_types([int(kinds.NORMAL)] * 256 + [int(kinds.UNUSED)] * (n_tokens - 256))
    # llama.cpp needs a list of merges, and the format has no empty lists. The result of this merge is no token, so
    # llama.cpp never makes it
    writer.add_token_merges([f"{words[0]} {words[0]}"])
    add: dict[str, Callable[[int], None]] = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id}
    config = ckpt.read_json(folder / "config.json")
    for name, enter in add.items():
        token = config.get(f"{name}_token_id")
        # a byte of text cannot be a begin or end token
        if isinstance(token, int) and not isinstance(token, bool) and 256 <= token < n_tokens:
            enter(token)
    writer.add_add_bos_token(False)
    return "256 bytes"
