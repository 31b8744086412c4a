"""The vocabularies of a Marian model, as SentencePiece models with our special ids.

Marian has a SentencePiece model for each side, which splits text, and a table of ids for both (`vocab.json`), or one
per side. Here, each side gets one SentencePiece model that does both: its pieces stand in the order of our ids.

- Tokens of the table that a side's model lacks are there, and never come from text. Single characters are the
  exception: where the model finds an unknown character, Marian's tokenizer looks it up in the table.
- Pieces of the model that the table lacks follow the vocabulary (`tokenizer.OUTSIDE`). They split text and are unknown.
- Language codes such as `>>fra<<`, which begin a source, are pieces.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined] # it is made at run time

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.checkpoints.folder import read_json
from lit_transformer.data.tokenizer import OUTSIDE, Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.pretrained.marian import LANGUAGE_CODE, SENTENCEPIECE_FILES

Piece = ModelProto.SentencePiece
_NAMES = {PAD_ID: "<pad>", UNK_ID: "<unk>", BOS_ID: "<s>", EOS_ID: "</s>"}
_KINDS = {PAD_ID: Piece.CONTROL, UNK_ID: Piece.UNKNOWN, BOS_ID: Piece.CONTROL, EOS_ID: Piece.CONTROL}
_SPACE = "\u2581"


class Special(NamedTuple):
    """Marian's ids of the tokens that are special in ours."""

    pad: int
    unk: int
    start: int | None
    """What the decoder begins with, which may be `pad`. None for a vocabulary of the source alone."""
    eos: int


class Table(NamedTuple):
    """The tokens of a vocabulary."""

    names: list[str]
    """By our id. The special ones have our names."""
    their_ids: list[int | None]
    """Marian's ids, by ours. None for a token that Marian does not have."""


def read_table(path: Path, vocab_size: int, special: Special) -> Table:
    """Read the ids of a vocabulary and put the special ones first.

    Raises:
        UserError: If the table is damaged, or does not have these ids.
    """
    ids = read_ids(path)
    tokens = {token_id: name for name, token_id in ids.items()}
    if sorted(ids.values()) != list(range(vocab_size)):
        raise UserError(
            f"{path} has {len(ids)} tokens, but the model has {vocab_size} with ids from 0 on; copy the folder again"
        )
    if any(token_id is not None and token_id >= vocab_size for token_id in special):
        raise UserError(f"{path}: a special id of {special} is not in the vocabulary; copy the folder again")
    first = [None if special.pad == special.start else special.pad, special.unk, special.start, special.eos]
    others = [token_id for token_id in range(vocab_size) if token_id not in special]
    names = [*_NAMES.values(), *(tokens[token_id] for token_id in others)]
    if twice := set(_NAMES.values()).intersection(names[len(first) :]) | ({OUTSIDE} & set(names)):
        raise UserError(f"{path} has the token {min(twice)}, which is another special one here; take another model")
    return Table(names, [*first, *others])


def read_ids(path: Path) -> dict[str, int]:
    """The ids of tokens by their names. Raises UserError if the file is damaged."""
    ids = read_json(path)
    if not all(type(token_id) is int for token_id in ids.values()):
        raise UserError(f"{path} has a token whose id is no number; copy the folder again")
    return ids


def read_vocabularies(folder: Path, source: Table, target: Table) -> Vocabularies:
    """The vocabularies of both sides.

    Args:
        folder: A folder with `source.spm` and `target.spm`.
        source: The tokens of the source.
        target: Those of the target, the same object if both share them.

    Raises:
        UserError: If a SentencePiece model cannot be read.
    """
    sides = zip(SENTENCEPIECE_FILES, (source, target), strict=True)
    vocabularies = Vocabularies(*(_tokenizer(folder / name, table.names) for name, table in sides))
    is_one = source is target and vocabularies.source.model_bytes == vocabularies.target.model_bytes
    return Vocabularies.shared(vocabularies.target) if is_one else vocabularies


def _tokenizer(path: Path, names: Sequence[str]) -> Tokenizer:
    theirs = Tokenizer.from_file(path).model_bytes  # it checks them
    return Tokenizer(renumbered(ModelProto.FromString(theirs), names))


def renumbered(model: Any, names: Sequence[str]) -> bytes:
    """A SentencePiece model that splits text as `model` does, and whose pieces have these names in this order."""
    pieces: Mapping[str, Any] = {piece.piece: piece for piece in model.pieces}
    lowest = min((piece.score for piece in model.pieces if piece.type == Piece.NORMAL), default=0.0)
    changed = ModelProto()
    changed.CopyFrom(model)
    del changed.pieces[:]
    for token_id, name in enumerate(names):
        if token_id in _KINDS:
            changed.pieces.add(piece=_NAMES[token_id], score=0.0, type=_KINDS[token_id])
        elif name in pieces and pieces[name].type not in _KINDS.values():
            changed.pieces.append(pieces[name])
        elif LANGUAGE_CODE.fullmatch(name):
            changed.pieces.append(_code_piece(name, model))
        elif len(name) == 1:
            changed.pieces.add(piece=name, score=lowest, type=Piece.NORMAL)
        else:
            changed.pieces.add(piece=name, score=0.0, type=Piece.UNUSED)
    known = {*names, *(piece.piece for piece in changed.pieces)}
    outside = [piece for piece in model.pieces if piece.piece not in known and piece.type not in _KINDS.values()]
    if outside:
        changed.pieces.add(piece=OUTSIDE, score=0.0, type=Piece.CONTROL)
        changed.pieces.extend(outside)
    trainer = changed.trainer_spec
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = _NAMES
    trainer.pad_piece, trainer.unk_piece, trainer.bos_piece, trainer.eos_piece = _NAMES.values()
    trainer.unk_surface = ""  # the text of a translation leaves out the unknown token
    trainer.vocab_size = len(changed.pieces)
    return bytes(changed.SerializeToString(deterministic=True))


def _code_piece(name: str, model: Any) -> Any:
    """A language code with the space that SentencePiece puts before a text, which Marian's tokenizer does not see.

    It must be chosen however probable its parts are. In a unigram model, nothing has a higher score than 0.
    """
    is_unigram = model.trainer_spec.model_type == model.trainer_spec.UNIGRAM
    kind = Piece.NORMAL if is_unigram else Piece.USER_DEFINED
    return Piece(piece=f"{_SPACE}{name}", score=0.0, type=kind)
