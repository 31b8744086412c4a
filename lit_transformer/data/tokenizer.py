"""Text to pieces and back: SentencePiece byte-pair encoding, one vocabulary for both languages (section 5.1).

The tokenizer is made from the bytes of a SentencePiece model, so that a checkpoint can hold it. It knows no
files of text and no tensors.
"""

import io
import re
from collections.abc import Iterable
from pathlib import Path

import sentencepiece as spm

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.errors import UserError, check_regular, expanded

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
        max_sentences: int = 4_000_000,
    ) -> "Tokenizer":
        """Learn a byte-pair vocabulary; the same text gives the same bytes on every machine.

        Args:
            sentences: Text of both languages.
            vocab_size: Number of pieces, the four special ones included.
            character_coverage: Share of the characters that must have a piece, at most 1.0; the rest become
                unknown.
            max_sentences: Of more sentences than this an evenly spread part is used: it bounds the memory.
        """
        model = io.BytesIO()
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(_evenly_spread(sentences, max_sentences)),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                normalization_rule_name="nmt_nfkc",
                hard_vocab_limit=True,
                num_threads=16,  # the model records this number: the same everywhere keeps the bytes the same
                minloglevel=2,
                pad_id=PAD_ID,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
            )
        except RuntimeError as error:
            raise UserError(_training_error(str(error), vocab_size)) from error
        return cls(model.getvalue())

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the four special ones included."""
        return self._processor.get_piece_size()

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Piece ids of each text; the only special id that text can give is `UNK_ID`."""
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


def _training_error(message: str, vocab_size: int) -> str:
    if largest := re.search(r"too high.*<= (\d+)", message):
        return (
            f"--model.vocab_size {vocab_size} is more than the text can give: the largest possible value is "
            f"{largest.group(1)}"
        )
    if smallest := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"--model.vocab_size {vocab_size} has no room for all characters of the text: the smallest "
            f"possible value is {smallest.group(1)} (or lower the character coverage)"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to learn a vocabulary from: all lines are empty or longer than 4,192 bytes"
    return f"SentencePiece cannot learn a vocabulary of {vocab_size} pieces: {message}"
