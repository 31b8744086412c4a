"""Text to token ids and back: SentencePiece byte-pair encoding (section 5.1).

The tokenizer is made from the bytes of a SentencePiece model, so that a checkpoint can hold it. It knows no corpora
and no tensors. SentencePiece calls tokens "pieces".
"""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece as spm

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.characters import INVISIBLE, character_class, has_content, valid
from lit_transformer.data.learning_text import evenly_spread, short_lines
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
_SPACE = "\u2581"
"""How SentencePiece writes a space."""
_STAND_INS = str.maketrans({_SPACE: "\ufdd0", "\u2585": "\ufdd1"})
"""SentencePiece decodes U+2581 to a space, and learns nothing from lines with U+2585, which it writes for unknown
characters. These code points, which Unicode reserves for the inside of programs, stand in for both."""
_RESERVED = [chr(code_point) for code_point in _STAND_INS]
_STOOD_FOR = {ord(stand_in): chr(code_point) for code_point, stand_in in _STAND_INS.items()}
_LITERAL_SPACE = "\uff3f"
"""How U+2581 of a text is shown in tokens, where U+2581 begins a word."""
_SHOWN = {**_STOOD_FOR, ord(_STAND_INS[ord(_SPACE)]): _LITERAL_SPACE}
OUTSIDE = "<outside>"
"""A control token that ends the vocabulary. What follows in the SentencePiece model is unknown, but splits texts."""
_SPECIAL_TOKENS = {PAD_ID: "<pad>", UNK_ID: "<unk>", BOS_ID: "<s>", EOS_ID: "</s>"}


class Tokenizer:
    """A SentencePiece model with the special ids of `batch.py`.

    Models that were trained elsewhere have other special ids. Their tokens are renumbered: the special ones come first,
    those that the model lacks are added, and the others follow in the order of the model.

    Args:
        model_bytes: The content of a SentencePiece `.model` file.

    Raises:
        UserError: It is not a SentencePiece model.
    """

    def __init__(self, model_bytes: bytes) -> None:
        processor = spm.SentencePieceProcessor()
        try:
            # SentencePiece accepts zero bytes and fails later.
            loaded = bool(model_bytes) and processor.LoadFromSerializedProto(model_bytes)
            # It also accepts pieces that are not UTF-8 and would fail when it decodes them.
            pieces: list[str] = processor.id_to_piece(list(range(processor.get_piece_size())))
            invisible = sorted(INVISIBLE)
            encoded = processor.encode(invisible, num_threads=1) if loaded else []
        except (RuntimeError, UnicodeDecodeError):
            loaded = False
        if not loaded:
            raise UserError("not a SentencePiece model, or a damaged one: train it again or copy it again")
        special = {
            PAD_ID: processor.pad_id(),
            UNK_ID: processor.unk_id(),
            BOS_ID: processor.bos_id(),
            EOS_ID: processor.eos_id(),
        }
        # A translation is one line, so a line feed is a space.
        unknown = [
            each for each, ids in zip(invisible, encoded, strict=True) if processor.unk_id() in ids or each == "\n"
        ]
        visible = {each: " " if each.isspace() else "" for each in unknown}
        self.model_bytes = model_bytes
        self.added = [_SPECIAL_TOKENS[special_id] for special_id, piece_id in special.items() if piece_id < 0]
        """Special tokens that the model lacks. `vocab_size` counts them."""
        self.replaced: dict[str, str] = visible | {chr(each): stand_in for each, stand_in in _STAND_INS.items()}
        """Characters that `encode` replaces before the SentencePiece model sees them."""
        self._processor = processor
        self._unknown_invisible = re.compile(f"[{character_class(unknown)}]")
        end = processor.piece_to_id(OUTSIDE)
        size = end if processor.is_control(end) else len(pieces)
        others = [piece_id for piece_id in range(size) if piece_id not in special.values()]
        self._piece_ids = [*(special[special_id] for special_id in sorted(special)), *others]
        """The model's id of each token, or -1 if it was added."""
        self._token_ids = {piece_id: token_id for token_id, piece_id in enumerate(self._piece_ids)}
        self._is_renumbered = self._piece_ids != list(range(len(pieces)))
        spaces = [token_id for piece_id, token_id in self._token_ids.items() if not pieces[piece_id].strip(_SPACE)]
        self._token_ids |= dict.fromkeys(range(size, len(pieces)), UNK_ID)
        self._without_content = {*_SPECIAL_TOKENS, *spaces}

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
        symbols: Sequence[str] = (),
        max_sentences: int = 4_000_000,
    ) -> "Tokenizer":
        """Learn a byte-pair vocabulary. The same text gives the same bytes on every machine.

        Args:
            sentences: Text of every language that uses the vocabulary.
            vocab_size: Number of tokens, the four special ones included.
            character_coverage: Share of the characters that must have a token, at most 1.0. The rest become unknown.
            normalization: How text is rewritten before it is split. `identity` keeps it as it is (`NORMALIZATION`).
            byte_fallback: Whether characters without a token are written in UTF-8 bytes, each with a token of its own,
                so that none is unknown. By default, they are if `vocab_size` is at least `BYTE_FALLBACK_FROM`.
            symbols: Strings that are one token wherever they occur, for example `<2de>` or `<URL>`.
            max_sentences: Bounds the memory. Of a longer text, an evenly spread part is used.

        Raises:
            UserError: The text cannot give a vocabulary of this size, or a symbol cannot be a token.
        """
        _check_symbols(symbols)
        model = io.BytesIO()
        has_bytes = vocab_size >= BYTE_FALLBACK_FROM if byte_fallback is None else byte_fallback
        # Only True is passed. False would also be recorded, and change the bytes of the model.
        byte_option: dict[str, Any] = {"byte_fallback": True} if has_bytes else {}
        lines = short_lines(filter(has_content, evenly_spread(sentences, max_sentences)))
        lines = (line.replace("\n", " ") for line in lines)  # as `encode` does
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=map(_without_reserved, lines),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                normalization_rule_name=normalization,
                user_defined_symbols=[_without_reserved(symbol) for symbol in symbols],
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
            by_default = byte_fallback is None
            raise UserError(_training_error(str(error), vocab_size, has_bytes, by_default=by_default)) from error
        return cls(model.getvalue())

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the four special ones included."""
        return len(self._piece_ids)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text. `UNK_ID` is the only special id that text can give.

        White space around a text is removed, and a text without content has no tokens (`characters.has_content`).
        Invisible characters must not make a word unknown: white space that the vocabulary lacks becomes a space, and
        other invisible characters that it lacks are left out. A line feed becomes a space, because a translation is one
        line.
        """
        return self.encode_words([text if has_content(text) else "" for text in texts])

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Return the token ids of words of a text. A word without content may have tokens inside a text."""
        words = self._prepared(words)
        try:
            sequences: list[list[int]] = self._processor.encode(words, num_threads=1)
        except TypeError:
            # Python turns invalid bytes on stdin into half surrogate pairs, which have no UTF-8.
            sequences = self._processor.encode([valid(word) for word in words], num_threads=1)
        if self._is_renumbered:
            return [[self._token_ids[piece_id] for piece_id in ids] for ids in sequences]
        return sequences

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Return the text of each sequence up to its first `EOS_ID`, without `PAD_ID` and `BOS_ID`."""
        texts = [self._processor.decode([self._piece_ids[each] for each in _content(ids)]) for ids in sequences]
        return [text.translate(_STOOD_FOR) for text in texts]

    def tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as SentencePiece writes them: U+2581 marks the beginning of a word.

        U+2581 of a text looks like U+FF3F.
        """
        pieces = (
            _SPECIAL_TOKENS.get(token_id) or self._processor.id_to_piece(self._piece_ids[token_id]) for token_id in ids
        )
        return [piece.translate(_SHOWN) for piece in pieces]

    def pieces(self) -> list[str]:
        """Return all tokens by id, as SentencePiece writes them. The special ones have the names of `tokens`.

        Raises:
            UserError: Two tokens have the same name.
        """
        names = self._names()
        if twice := next((name for name in _SPECIAL_TOKENS.values() if names.count(name) > 1), None):
            raise UserError(f"the vocabulary has a token {twice}, which is the name of a special one: choose another")
        return names

    def has_tokens_of(self, other: "Tokenizer") -> bool:
        """Whether another tokenizer has the same tokens with the same ids."""
        names, others = (
            [*map(each._processor.id_to_piece, filter((0).__le__, each._piece_ids))] for each in (self, other)
        )
        return names == others and self.added == other.added

    def _names(self) -> list[str]:
        pieces = self._processor.id_to_piece([max(piece_id, 0) for piece_id in self._piece_ids])
        return [_SPECIAL_TOKENS.get(token_id, piece) for token_id, piece in enumerate(pieces)]

    def name_unknown(self, tokens: list[str], text: str) -> list[str]:
        """Return the tokens of a text with the characters of the unknown ones: `<unk:😀>` for `<unk>`."""
        unknown = _SPECIAL_TOKENS[UNK_ID]
        if unknown not in tokens:
            return tokens
        # A token of text that is outside the vocabulary may begin a word.
        names = (
            f"{_SPACE * piece.startswith(_SPACE)}<unk:{piece.removeprefix(_SPACE).translate(_SHOWN)}>"
            for piece in self._unknown_pieces(text)
        )
        return [next(names) if token == unknown else token for token in tokens]

    def unknown(self, text: str) -> list[str]:
        """Return the characters of each unknown token of a text, as they are after normalization."""
        return [piece.replace(_SPACE, "").translate(_STOOD_FOR) for piece in self._unknown_pieces(text)]

    def _unknown_pieces(self, text: str) -> list[str]:
        [prepared] = self._prepared([valid(text)])
        ids, pieces = (self._processor.encode(prepared, out_type=kind) for kind in (int, str))
        return [piece for piece_id, piece in zip(ids, pieces, strict=True) if self._token_ids[piece_id] == UNK_ID]

    def keeps(self, symbol: str) -> bool:
        """Whether a string is one token."""
        shown = symbol.replace(_SPACE, _LITERAL_SPACE)
        return self.tokens(self.encode([symbol])[0])[-1:] in ([shown], [f"{_SPACE}{shown}"])

    def has_known(self, ids: Iterable[int]) -> bool:
        """Whether any token is known and has content. Unknown and special tokens and spaces say nothing."""
        return not self._without_content.issuperset(ids)

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        """Return texts as SentencePiece takes them."""
        texts = [_without_reserved(text) for text in texts]
        return [self._unknown_invisible.sub(lambda match: self.replaced[match[0]], text).strip() for text in texts]

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self.model_bytes,)


def _without_reserved(text: str) -> str:
    first, second = _RESERVED  # a loop over them would take longer than the search
    return text.translate(_STAND_INS) if first in text or second in text else text


def _content(ids: list[int]) -> list[int]:
    end = ids.index(EOS_ID) if EOS_ID in ids else len(ids)
    return [token_id for token_id in ids[:end] if token_id not in (PAD_ID, BOS_ID)]


def _check_symbols(symbols: Sequence[str]) -> None:
    for symbol in symbols:
        if symbol in _SPECIAL_TOKENS.values() or len(symbol.split()) != 1 or symbol != symbol.strip():
            raise UserError(f"symbols has {symbol!r}: give symbols without white space that are not special tokens")
    if len(set(symbols)) < len(symbols):
        raise UserError(f"symbols has {max(symbols, key=symbols.count)!r} more than once: give each symbol once")


def _training_error(message: str, vocab_size: int, has_bytes: bool, *, by_default: bool) -> str:
    if found := re.search(r"too high.*<= (\d+)", message):
        largest = int(found.group(1))
        if has_bytes and by_default and largest < BYTE_FALLBACK_FROM:
            largest -= 256
        return f"vocab_size is {vocab_size}, more than the text can give: the largest possible value is {largest}"
    if smallest := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"vocab_size is {vocab_size}, too few for all characters of the text: the smallest possible value is "
            f"{smallest.group(1)}; or lower character_coverage{', or set byte_fallback to false' if has_bytes else ''}"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to learn a vocabulary from: all lines are empty"
    return f"SentencePiece cannot learn a vocabulary of {vocab_size} tokens: {message}"
