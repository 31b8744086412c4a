"""Text to token ids and back: SentencePiece byte-pair encoding, one vocabulary for both languages (section 5.1).

The tokenizer is made from the bytes of a SentencePiece model, so that a checkpoint can hold it. It knows no corpora
and no tensors. SentencePiece calls tokens "pieces".
"""

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import sentencepiece as spm

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.errors import UserError
from lit_transformer.files import check_regular, expanded

Normalization = Literal["identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"]
"""SentencePiece's rules. `cf` folds case."""
NORMALIZATION: Normalization = "identity"
"""The only rule under which every reference can be written.

One rule holds for both languages, so translations lose what it changes. NFKC turns the full-width punctuation of
Chinese and Japanese into ASCII, the no-break spaces of French into spaces, and `m²` into `m2`, and splits Thai's sara
am. The `nmt` rules also turn Persian's zero-width non-joiner and Arabic's direction marks into spaces.
"""
BYTE_FALLBACK_FROM = 8_000
"""Smallest vocabulary that has byte fallback by default.

Its 256 tokens replace byte-pair merges. On Multi30k, English and German, a sentence has 6.7 % more tokens in a
vocabulary of 1,200, 0.8 % more in one of 5,000, 0.4 % in one of 8,000 and 0.1 % in one of 16,000.
"""
_SPECIAL_IDS = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}


class Tokenizer:
    """A SentencePiece model with this project's special ids.

    Args:
        model_bytes: The content of a SentencePiece `.model` file.

    Raises:
        UserError: It is not a SentencePiece model, or its special ids are not those of `batch.py`.
    """

    def __init__(self, model_bytes: bytes) -> None:
        processor = spm.SentencePieceProcessor()
        try:
            # SentencePiece accepts zero bytes and fails later.
            loaded = bool(model_bytes) and processor.LoadFromSerializedProto(model_bytes)
            # It also accepts pieces that are not UTF-8 and would fail when it decodes them.
            processor.id_to_piece(list(range(processor.get_piece_size())))
            unknown = [character for character in _invisible() if loaded and UNK_ID in processor.encode(character)]
        except (RuntimeError, UnicodeDecodeError):
            loaded = False
        if not loaded:
            raise UserError("not a SentencePiece model, or a damaged one: train it again or copy it again")
        special_ids = {name: getattr(processor, name)() for name in _SPECIAL_IDS}
        if special_ids != _SPECIAL_IDS:
            found, needed = (
                ", ".join(f"{name} {value}" for name, value in ids.items()) for ids in (special_ids, _SPECIAL_IDS)
            )
            raise UserError(f"the special ids of the SentencePiece model are {found}: train it with {needed}")
        self.model_bytes = model_bytes
        self._processor = processor
        self._unknown_invisible = re.compile(f"[{''.join(unknown)}]") if unknown else None

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a SentencePiece `.model` file.

        Raises:
            UserError: The file cannot be read or used.
        """
        try:
            file = expanded(path)
            check_regular(file)
            return cls(file.read_bytes())
        except OSError as error:
            raise UserError(f"cannot read the SentencePiece model {path}: {error.strerror or error}") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @classmethod
    def train(
        cls,
        sentences: Iterable[str],
        *,
        vocab_size: int,
        character_coverage: float,
        normalization: Normalization = NORMALIZATION,
        byte_fallback: bool | None = None,
        max_sentences: int = 4_000_000,
    ) -> "Tokenizer":
        """Learn a byte-pair vocabulary. The same text gives the same bytes on every machine.

        Args:
            sentences: Text of both languages.
            vocab_size: Number of tokens, the four special ones included.
            character_coverage: Share of the characters that must have a token, at most 1.0. The rest become unknown.
            normalization: How text is rewritten before it is split. `identity` keeps it as it is (`NORMALIZATION`).
            byte_fallback: Whether characters without a token are written in UTF-8 bytes, each with a token of its own,
                so that none is unknown. By default, they are if `vocab_size` is at least `BYTE_FALLBACK_FROM`.
            max_sentences: Bounds the memory. Of a longer text, an evenly spread part is used.

        Raises:
            UserError: The text cannot give a vocabulary of this size.
        """
        model = io.BytesIO()
        has_bytes = vocab_size >= BYTE_FALLBACK_FROM if byte_fallback is None else byte_fallback
        # Only True is passed. False would also be recorded, and change the bytes of the model.
        byte_option: dict[str, Any] = {"byte_fallback": True} if has_bytes else {}
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(evenly_spread(sentences, max_sentences)),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                normalization_rule_name=normalization,
                **byte_option,
                hard_vocab_limit=True,
                num_threads=16,  # the model records it, so it must be the same on every machine
                minloglevel=2,
                pad_id=PAD_ID,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
            )
        except RuntimeError as error:
            can_lose_bytes = has_bytes and byte_fallback is None
            raise UserError(_training_error(str(error), vocab_size, can_lose_bytes=can_lose_bytes)) from error
        return cls(model.getvalue())

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the four special ones included."""
        return self._processor.get_piece_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text. `UNK_ID` is the only special id that text can give.

        White space around a text is removed. Invisible characters must not make a word unknown: white space that the
        vocabulary lacks becomes a space, and control and format characters that it lacks are left out.
        """
        if self._unknown_invisible is not None:
            texts = [self._unknown_invisible.sub(_visible, text) for text in texts]
        texts = [text.strip() for text in texts]
        try:
            sequences: list[list[int]] = self._processor.encode(texts, num_threads=1)
        except TypeError:
            # Python turns invalid bytes on stdin into half surrogate pairs, which have no UTF-8.
            texts = [text.encode("utf-8", "replace").decode() for text in texts]
            sequences = self._processor.encode(texts, num_threads=1)
        return sequences

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Return the text of each sequence up to its first `EOS_ID`, without `PAD_ID` and `BOS_ID`."""
        return [self._processor.decode(_content(ids)) for ids in sequences]

    def tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as SentencePiece writes them: U+2581 marks the beginning of a word."""
        return [self._processor.id_to_piece(token_id) for token_id in ids]

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self.model_bytes,)


@cache
def _invisible() -> list[str]:
    """Return the white space, control and format characters of Unicode's first plane."""
    return [
        character
        for character in map(chr, range(0x10000))
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
    ]


def _visible(match: re.Match[str]) -> str:
    return " " if match.group().isspace() else ""


def _content(ids: list[int]) -> list[int]:
    end = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
    return [token_id for token_id in ids[:end] if token_id not in (PAD_ID, BOS_ID)]


def evenly_spread(sentences: Iterable[str], max_sentences: int) -> list[str]:
    """Return every n-th sentence, where n is the smallest power of three that leaves at most `max_sentences`.

    SentencePiece's own sampling differs from run to run. In a stream where two languages alternate, an odd n keeps
    both.
    """
    kept: list[str] = []
    step = 1
    for index, sentence in enumerate(sentences):
        if index % step:
            continue
        if len(kept) == max_sentences:
            kept = kept[::3]
            step *= 3
            if index % step:
                continue
        kept.append(sentence)
    return kept


def _training_error(message: str, vocab_size: int, *, can_lose_bytes: bool) -> str:
    if found := re.search(r"too high.*<= (\d+)", message):
        largest = int(found.group(1))
        if can_lose_bytes and largest < BYTE_FALLBACK_FROM:
            largest -= 256
        return f"vocab_size is {vocab_size}, more than the text can give: the largest possible value is {largest}"
    if smallest := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"vocab_size is {vocab_size}, too few for all characters of the text: the smallest possible value is "
            f"{smallest.group(1)}; or lower character_coverage, or set byte_fallback to false"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to learn a vocabulary from: all lines are empty or longer than 4,192 bytes"
    return f"SentencePiece cannot learn a vocabulary of {vocab_size} tokens: {message}"
