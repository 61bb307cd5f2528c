"""From text to tokens and back: the model's own byte-level BPE, from ``tokenizer.json`` or a GGUF file's pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from attention.errors import shown
from attention.llm.weights import GgufFile, Source, read_json

_CONTROL, _USER = 3, 4
"""GGUF's types of special tokens, which a reader's text never gives."""
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_OPEN, _CLOSE = "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""The first message of SmolLM2's own chat template."""


def _split(numbers: str) -> Any:
    return [
        pre_tokenizers.Split(Regex(_WORDS.format(numbers)), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _pre_tokenizer(name: str) -> Any:
    """How a text is split before pieces are merged, by its name in GGUF files.

    Raises:
        ValueError: an unknown name.
    """
    kinds: dict[str, Callable[[], list[Any]]] = {
        "default": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "gpt-2": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "smollm": lambda: [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ],
        "llama-bpe": lambda: _split(r"\p{N}{1,3}"),
        "smaug-bpe": lambda: _split(r"\p{N}{1,3}"),
        "qwen2": lambda: _split(r"\p{N}"),
    }
    if name not in kinds:
        raise ValueError(
            f"tokenizer.ggml.pre must be one of {', '.join(kinds)}, got {shown(name)}: put the model's tokenizer.json "
            "beside the file"
        )
    return pre_tokenizers.Sequence(kinds[name]())


class Tokens:
    """A model's vocabulary.

    Attributes:
        ends: tokens that end an answer.
        begin: the token before every text, or None.
        chats: whether the vocabulary has the marks of a conversation (ChatML).
    """

    def __init__(self, tokenizer: Tokenizer, ends: Sequence[int], begin: int | None = None) -> None:
        # "<|im_end|>" in a reader's text is ordinary text, not a special token
        tokenizer.encode_special_tokens = True
        self._tokenizer, self.begin = tokenizer, begin
        self.chats = all(tokenizer.token_to_id(mark) is not None for mark in (_OPEN, _CLOSE))
        self.ends = frozenset(ends) | ({self._mark(_CLOSE)} if self.chats else set())

    def _mark(self, mark: str) -> int:
        found = self._tokenizer.token_to_id(mark)
        assert found is not None
        return int(found)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def prompt(self, text: str, chat: bool) -> list[int]:
        """The tokens of a prompt: with `chat`, where the model has marks for it, a question in a conversation; else a
        text to continue."""
        if not (chat and self.chats):
            return [*([] if self.begin is None else [self.begin]), *self.encode(text)]
        opened, closed = self._mark(_OPEN), self._mark(_CLOSE)

        def turn(role: str, words: str) -> list[int]:
            return [opened, *self.encode(f"{role}\n{words}"), closed, *self.encode("\n")]

        return [*turn("system", SYSTEM), *turn("user", text), opened, *self.encode("assistant\n")]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones. An incomplete character is U+FFFD."""
        found: str = self._tokenizer.decode([*ids], skip_special_tokens=True)
        return found

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, to show them one by one. A special token's text is its name."""
        return [self._tokenizer.decode([one], skip_special_tokens=False) for one in ids]


class Writer:
    """Text that grows token by token. Tokens of an incomplete character are held back."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens, self._held = tokens, list[int]()

    def add(self, token: int) -> str:
        """Add a token, and return the text that it completes."""
        self._held.append(token)
        text = self._tokens.decode(self._held)
        # a character has at most four bytes: more bytes that are no character will never be one
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._held) < 4:
            return ""
        self._held.clear()
        return text


def tokens_of(path: Path, source: Source) -> Tokens:
    """The vocabulary of a model.

    Args:
        path: the model's folder or GGUF file.
        source: the model's tensors.

    Raises:
        ValueError: there is no vocabulary, it is damaged, or its kind is not supported.
    """
    folder = path if path.is_dir() else path.parent
    own = folder / "tokenizer.json"
    if own.exists():
        return _from_file(own, folder)
    if not isinstance(source, GgufFile):
        raise ValueError(f"{folder.name} holds no tokenizer.json")
    return _from_gguf(source.keys)


def _from_file(path: Path, folder: Path) -> Tokens:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ValueError(f"tokenizer.json is damaged: {shown(str(error))}") from None
    ends: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists() and not ends:
            stated = read_json(folder / name).get("eos_token_id")
            ends = [one for one in (stated if isinstance(stated, list) else [stated]) if isinstance(one, int)]
    begin = None
    settings = folder / "tokenizer_config.json"
    if settings.exists() and (known := read_json(settings)).get("add_bos_token"):
        mark = known.get("bos_token")
        begin = tokenizer.token_to_id(mark["content"] if isinstance(mark, dict) else str(mark))
    return Tokens(tokenizer, ends, begin)


def _from_gguf(keys: Mapping[str, Any]) -> Tokens:
    kind = keys.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ValueError(
            f"tokenizer.ggml.model must be gpt2 (byte-level BPE), got {shown(kind)}: put the model's tokenizer.json "
            "beside the file"
        )
    words, merges = keys.get("tokenizer.ggml.tokens"), keys.get("tokenizer.ggml.merges")
    if not isinstance(words, list) or not isinstance(merges, list):
        raise ValueError("tokenizer.ggml.tokens and tokenizer.ggml.merges must be lists of texts")
    pairs = [(left, right) for left, _, right in (str(one).partition(" ") for one in merges)]
    try:
        bpe = models.BPE(vocab={word: at for at, word in enumerate(words)}, merges=pairs)
    except Exception as error:
        raise ValueError(f"tokenizer.ggml.merges does not fit tokenizer.ggml.tokens: {shown(str(error))}") from None
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = _pre_tokenizer(str(keys.get("tokenizer.ggml.pre", "default")))
    tokenizer.decoder = decoders.ByteLevel()
    kinds = keys.get("tokenizer.ggml.token_type")
    if isinstance(kinds, list):
        marks = [word for word, one in zip(words, kinds, strict=False) if one in (_CONTROL, _USER)]
        tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in marks])
    end = keys.get("tokenizer.ggml.eos_token_id")
    begin = keys.get("tokenizer.ggml.bos_token_id") if keys.get("tokenizer.ggml.add_bos_token") else None
    return Tokens(tokenizer, [end] if isinstance(end, int) else [], begin)
