"""Text to pieces and back: SentencePiece byte-pair encoding, one vocabulary for both languages (section 5.1).

The tokenizer is made from the bytes of a SentencePiece model, so that a checkpoint can hold it. It knows no
files of text and no tensors.
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

One rule holds for both languages, so what it changes is lost in translations. NFKC turns the full-width punctuation of
Chinese and Japanese into ASCII, the no-break spaces of French into spaces, and `m²` into `m2`, and splits Thai's sara
am. The `nmt` rules also turn Persian's zero-width non-joiner and Arabic's direction marks into spaces.
"""
BYTE_FALLBACK_FROM = 8_000
"""Smallest vocabulary with byte fallback unless told otherwise.

The 256 tokens are taken from byte-pair merges. On Multi30k, English and German, a sentence has 6.7 % more tokens in a
vocabulary of 1,200, 0.8 % more in one of 5,000, 0.4 % in one of 8,000 and 0.1 % in one of 16,000.
"""
_SPECIAL_IDS = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}


class Tokenizer:
    """A SentencePiece model with this project's special ids.

    Args:
        model_bytes: The content of a SentencePiece `.model` file.
    """

    def __init__(self, model_bytes: bytes) -> None:
        processor = spm.SentencePieceProcessor()
        try:
            # SentencePiece takes no bytes at all for a model that is not loaded yet, and complains only
            # later.
            loaded = bool(model_bytes) and processor.LoadFromSerializedProto(model_bytes)
            # It takes pieces that are no UTF-8, too, and would stumble over them when it decodes.
            processor.id_to_piece(list(range(processor.get_piece_size())))
            unknown = [character for character in _invisible() if loaded and UNK_ID in processor.encode(character)]
        except (RuntimeError, UnicodeDecodeError):
            loaded = False
        if not loaded:
            raise UserError("this is not a SentencePiece model, or a damaged one: train it again or copy it again")
        special_ids = {name: getattr(processor, name)() for name in _SPECIAL_IDS}
        if special_ids != _SPECIAL_IDS:
            raise UserError(
                "the SentencePiece model has other special ids "
                f"({', '.join(f'{name} {value}' for name, value in special_ids.items())}): train it with "
                f"{' '.join(f'--{name}={value}' for name, value in _SPECIAL_IDS.items())}"
            )
        self.model_bytes = model_bytes
        self._processor = processor
        self._unknown_invisible = re.compile(f"[{''.join(unknown)}]") if unknown else None

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a SentencePiece `.model` file."""
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
        """Learn a byte-pair vocabulary; the same text gives the same bytes on every machine.

        Args:
            sentences: Text of both languages.
            vocab_size: Number of pieces, the four special ones included.
            character_coverage: Share of the characters that must have a piece, at most 1.0; the rest become
                unknown.
            normalization: How text is rewritten before it is cut; `identity` keeps it as it is (`NORMALIZATION`).
            byte_fallback: Whether characters without a piece are written in UTF-8 bytes, each with a piece of its own,
                so that none is unknown; by default if `vocab_size` is at least `BYTE_FALLBACK_FROM`.
            max_sentences: Of more sentences than this an evenly spread part is used: it bounds the memory.
        """
        model = io.BytesIO()
        has_bytes = vocab_size >= BYTE_FALLBACK_FROM if byte_fallback is None else byte_fallback
        # The model would record False, too, and differ from those of older versions.
        byte_option: dict[str, Any] = {"byte_fallback": True} if has_bytes else {}
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(_evenly_spread(sentences, max_sentences)),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                normalization_rule_name=normalization,
                **byte_option,
                hard_vocab_limit=True,
                num_threads=16,  # the model records this number: the same everywhere keeps the bytes the same
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
        """Number of pieces, the four special ones included."""
        return self._processor.get_piece_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text; the only special id that text can give is `UNK_ID`.

        White space around a text is no part of it. What cannot be seen must not make a word unknown: white space that
        the vocabulary lacks is a space, and control and format characters that it lacks are left out.
        """
        if self._unknown_invisible is not None:
            texts = [self._unknown_invisible.sub(_visible, text) for text in texts]
        texts = [text.strip() for text in texts]
        try:
            sequences: list[list[int]] = self._processor.encode(texts, num_threads=1)
        except TypeError:
            # Half a surrogate pair, which Python makes of invalid bytes on stdin, has no UTF-8.
            texts = [text.encode("utf-8", "replace").decode() for text in texts]
            sequences = self._processor.encode(texts, num_threads=1)
        return sequences

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Text of each sequence up to its first `EOS_ID`; `PAD_ID` and `BOS_ID` are nothing."""
        return [self._processor.decode(_content(ids)) for ids in sequences]

    def pieces(self, ids: list[int]) -> list[str]:
        """The pieces as SentencePiece writes them, a word's beginning marked with U+2581."""
        return [self._processor.id_to_piece(piece_id) for piece_id in ids]

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self.model_bytes,)


@cache
def _invisible() -> list[str]:
    """White space, control and format characters of Unicode's first plane."""
    return [
        character
        for character in map(chr, range(0x10000))
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
    ]


def _visible(match: re.Match[str]) -> str:
    return " " if match.group().isspace() else ""


def _content(ids: list[int]) -> list[int]:
    end = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
    return [piece_id for piece_id in ids[:end] if piece_id not in (PAD_ID, BOS_ID)]


def _evenly_spread(sentences: Iterable[str], max_sentences: int) -> list[str]:
    """Every n-th sentence, n the smallest power of three that leaves at most `max_sentences`.

    SentencePiece's own sampling differs from run to run. An odd step keeps both languages of a stream in
    which they take turns.
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
        return (
            f"--model.vocab_size {vocab_size} is more than the text can give: the largest possible value is {largest}"
        )
    if smallest := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"--model.vocab_size {vocab_size} has no room for all characters of the text: the smallest "
            f"possible value is {smallest.group(1)} (or lower the character coverage, or leave out the byte fallback)"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to learn a vocabulary from: all lines are empty or longer than 4,192 bytes"
    return f"SentencePiece cannot learn a vocabulary of {vocab_size} pieces: {message}"
