"""The vocabularies of a corpus: read from files, or learned once from the training text and then found in the cache."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lit_transformer.data.cache import cached_file
from lit_transformer.data.text import SIDES, Text, sentences
from lit_transformer.data.tokenizer import Normalization, Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.notes import counted
from lit_transformer.progress import announce

_ARGUMENT = re.compile(r"(?<!\S)(vocab_size|tokenizer)(?!\S)")


def find_vocabularies(
    text: Text,
    *,
    file: str | None,
    source_file: str | None,
    vocab_size: int,
    source_vocab_size: int | None,
    character_coverage: float,
    normalization: Normalization,
    byte_fallback: bool | None,
    symbols: Sequence[str],
    cache_dir: Path,
) -> Vocabularies:
    """Read, find or learn the vocabularies of both sides.

    Args:
        text: As in `find_vocabulary`, like all arguments without their own line.
        file: A SentencePiece model for the target, or for both sides.
        source_file: A SentencePiece model for the source alone.
        vocab_size: Number of tokens of the target's vocabulary, or of the one that both sides share.
        source_vocab_size: Number of tokens of the source's vocabulary. None shares one.
        character_coverage: For both vocabularies, like the next three settings.
        normalization: How text is rewritten.
        byte_fallback: Whether characters without a token are written as bytes.
        symbols: Strings that are one token.
        cache_dir: Where learned vocabularies are kept.

    Raises:
        UserError: As in `find_vocabulary`. For the source's vocabulary, the message names the source's arguments.
    """
    find = partial(
        find_vocabulary,
        text,
        character_coverage=character_coverage,
        normalization=normalization,
        byte_fallback=byte_fallback,
        symbols=symbols,
        cache_dir=cache_dir,
    )
    if source_vocab_size is None:
        target = find(file=file, vocab_size=vocab_size)
        return Vocabularies.shared(target) if source_file is None else _same_tokens(source_file, target)
    try:
        source = find(sides=SIDES[:1], file=source_file, vocab_size=source_vocab_size)
    except UserError as error:
        raise UserError(_ARGUMENT.sub(r"source_\1", str(error))) from error
    return Vocabularies(source, find(sides=SIDES[1:], file=file, vocab_size=vocab_size))


def _same_tokens(file: str, target: Tokenizer) -> Vocabularies:
    """The vocabularies of a model that has one matrix for both. Raises UserError unless they have the same tokens."""
    vocabularies = Vocabularies(Tokenizer.from_file(file), target)
    if not vocabularies.have_same_tokens:
        raise UserError(f"source_tokenizer is {file}, but source_vocab_size is not set: give its number of tokens")
    return vocabularies


def find_vocabulary(
    text: Text,
    *,
    sides: Sequence[str] = SIDES,
    file: str | None,
    vocab_size: int,
    character_coverage: float,
    normalization: Normalization,
    byte_fallback: bool | None,
    symbols: Sequence[str],
    cache_dir: Path,
) -> Tokenizer:
    """Read, find or learn a vocabulary.

    Args:
        text: The training text. It is loaded only if a vocabulary must be learned from it.
        sides: The columns of the text that use the vocabulary. It is learned from their sentences.
        file: A SentencePiece model to read. None learns one.
        vocab_size: Number of tokens. A given file must have this many.
        character_coverage: As in `Tokenizer.train`, like the next two settings.
        normalization: How text is rewritten.
        byte_fallback: Whether characters without a token are written as bytes.
        symbols: Strings that are one token wherever they occur. A given file must have them.
        cache_dir: Where a learned vocabulary is kept.

    Raises:
        UserError: The file cannot be used, the text cannot give a vocabulary of this size, or the cache cannot be
            written.
    """
    if file is not None:
        tokenizer = Tokenizer.from_file(file)
        if tokenizer.vocab_size != vocab_size:
            added = f" with {', '.join(tokenizer.added)}, which the file lacks" if tokenizer.added else ""
            raise UserError(
                f"vocab_size is {vocab_size}, but tokenizer {file} has {tokenizer.vocab_size} tokens{added}: "
                f"give vocab_size {tokenizer.vocab_size}"
            )
        for symbol in symbols:
            if not tokenizer.keeps(symbol):
                raise UserError(f"symbols has {symbol!r}, but tokenizer {file} splits it: leave out one of them")
        return tokenizer

    def train(unfinished: Path) -> None:
        pairs = text.load()
        rows = counted(len(pairs), "pair" if pairs.column_names == list(SIDES) else "line")
        announce(f"learning a vocabulary of {vocab_size:,} tokens from {rows}", len(pairs))
        learned = Tokenizer.train(
            sentences(pairs, sides),
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            normalization=normalization,
            byte_fallback=byte_fallback,
            symbols=symbols,
        )
        unfinished.write_bytes(learned.model_bytes)

    settings: tuple[object, ...] = (text.fingerprint, vocab_size, character_coverage, normalization, byte_fallback)
    if sides != SIDES:
        settings += (tuple(sides),)
    if symbols:
        settings += (("symbols", *symbols),)
    name = hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()
    return Tokenizer.from_file(cached_file(cache_dir / "tokenizers" / f"{name}.model", train))


def vocabulary_file(tokenizer: Tokenizer, cache_dir: Path) -> str:
    """Return a SentencePiece file with a vocabulary that was read from elsewhere. It is kept in the cache."""
    digest = hashlib.blake2b(tokenizer.model_bytes, digest_size=16).hexdigest()
    path = cache_dir / "tokenizers" / f"{digest}.model"
    return str(cached_file(path, lambda unfinished: unfinished.write_bytes(tokenizer.model_bytes)))
