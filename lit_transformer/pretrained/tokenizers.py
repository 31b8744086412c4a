"""Tokenizers of others: `tokenizer.json`, or the older files from which the same tokenizer is built.

| files | tokenizer | models |
|---|---|---|
| `tokenizer.json` | what the file says, by the package tokenizers | any |
| `vocab.json` and `merges.txt` | byte-level BPE | GPT-2, BART |
| `vocab.txt` | WordPiece | BERT |
| `spiece.model` | SentencePiece | T5 |
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece as spm

from lit_transformer.characters import valid
from lit_transformer.checkpoints.folder import read_json
from lit_transformer.data.text_tokenizer import SpecialIds, TextTokenizer
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import check_regular
from lit_transformer.pretrained.config import ForeignConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE, SETTINGS_FILE = "tokenizer.json", "tokenizer_config.json"
BPE_FILES = ("vocab.json", "merges.txt")
WORDPIECE_FILE, SENTENCEPIECE_FILE = "vocab.txt", "spiece.model"
NAMES = {"bos": ("<s>", "[CLS]"), "eos": ("</s>", "[SEP]"), "pad": ("<pad>", "[PAD]"), "mask": ("<mask>", "[MASK]")}
"""How models call their special tokens, if their settings have no ids."""
SPECIAL_NAMES = (*(name for names in NAMES.values() for name in names), "<|endoftext|>", "<unk>", "[UNK]")
"""Tokens that a text never becomes in part, whatever the files say."""
NUM_EXTRA_IDS = 100
"""T5's `<extra_id_0>` to `<extra_id_99>`. They come after the pieces of the model, the last one first."""
SPACE, LITERAL_SPACE = "\u2581", "\uff3f"
"""What marks the beginning of a word in tokens, and how the same character of a text is shown."""


def read_tokenizer(folder: Path, config: ForeignConfig, *, vocab_size: int) -> tuple[TextTokenizer | None, SpecialIds]:
    """Read the tokenizer in a folder, and the special ids that the model and the tokenizer name.

    Args:
        folder: A folder in Hugging Face's layout.
        config: The settings of the model.
        vocab_size: Tokens that the model knows.

    Returns:
        The tokenizer, or None if there is none, and the ids.

    Raises:
        UserError: If a file is damaged, the package tokenizers is not installed, or the model knows fewer tokens.
    """
    tokenizer = _read(folder)
    if tokenizer is not None and tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, but the model has {vocab_size}; copy the "
            "folder again"
        )
    ids = {}
    for name, written in NAMES.items():
        number = config.token(f"{name}_token_id")
        if number is None and tokenizer is not None:
            found = (tokenizer.token_id(each) for each in written)
            number = next((each for each in found if each is not None), None)
        ids[name] = number if number is not None and number < vocab_size else None
    return tokenizer, SpecialIds(**ids)


class ForeignTokenizer:
    """A tokenizer of the package tokenizers.

    Args:
        tokenizer: The tokenizer. What it cuts or fills up is switched off.
        path: Its file, for errors.
    """

    def __init__(self, tokenizer: "Tokenizer", path: Path) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._path = tokenizer, path
        self._special = {number: each.content for number, each in tokenizer.get_added_tokens_decoder().items()}
        parts = json.loads(tokenizer.to_str())
        self._is_bytes = '"ByteLevel"' in json.dumps([parts["pre_tokenizer"], parts["decoder"]])
        is_word_piece = parts["model"]["type"] == "WordPiece"
        self._continues: str | None = parts["model"]["continuing_subword_prefix"] if is_word_piece else None

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without special tokens around it.

        Raises:
            UserError: If the tokenizer of the file cannot read them.
        """
        with _one_line(self._path, "cannot read this text"):
            encodings = self._tokenizer.encode_batch([valid(text) for text in texts], add_special_tokens=False)
        return [each.ids for each in encodings]

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Return the text of each sequence, without special tokens."""
        return self._tokenizer.decode_batch(sequences, skip_special_tokens=True)

    def tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as people read them: U+2581 marks the beginning of a word."""
        return [self._shown(number) for number in ids]

    def token_id(self, token: str) -> int | None:
        """The id of a token as its file writes it, or None if there is none."""
        return self._tokenizer.token_to_id(token)

    def _shown(self, number: int) -> str:
        token = self._special.get(number)
        if token is not None:
            return token
        token = self._tokenizer.id_to_token(number) or ""
        if self._continues is not None:
            return token.removeprefix(self._continues) if token.startswith(self._continues) else SPACE + token
        return _text_of_bytes(token) if self._is_bytes else token


class SentencePieceTokenizer:
    """A SentencePiece model with its own ids, followed by T5's extra ids.

    Args:
        path: The file.

    Raises:
        UserError: If it is not a SentencePiece model.
    """

    def __init__(self, path: Path) -> None:
        check_regular(path)
        self._processor = spm.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(path.read_bytes())
            self._num_pieces = self._processor.get_piece_size()
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot read {path}: {innermost_reason(error)}; copy the folder again") from error
        if not self._num_pieces:
            raise UserError(f"{path} is not a SentencePiece model: copy the folder again")

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._num_pieces + NUM_EXTRA_IDS

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without special tokens around it."""
        return [
            [number for part in re.split(r"(<extra_id_\d+>)", text) for number in self._encode(part)]
            for text in map(valid, texts)
        ]

    def decode(self, sequences: list[list[int]]) -> list[str]:
        """Return the text of each sequence, without special tokens."""
        return [self._processor.decode([each for each in ids if each < self._num_pieces]) for ids in sequences]

    def tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as people read them: U+2581 marks the beginning of a word."""
        last = self.vocab_size - 1
        return [
            self._processor.id_to_piece(each) if each < self._num_pieces else f"<extra_id_{last - each}>"
            for each in ids
        ]

    def token_id(self, token: str) -> int | None:
        """The id of a token as its file writes it, or None if there is none."""
        if extra := re.fullmatch(r"<extra_id_(\d+)>", token):
            return self.vocab_size - 1 - int(extra[1]) if int(extra[1]) < NUM_EXTRA_IDS else None
        number = self._processor.piece_to_id(token)
        return number if number != self._processor.unk_id() or token == self._processor.id_to_piece(number) else None

    def _encode(self, part: str) -> list[int]:
        number = self.token_id(part) if part.startswith("<extra_id_") else None
        return self._processor.encode(part) if number is None else [number]


def _read(folder: Path) -> ForeignTokenizer | SentencePieceTokenizer | None:
    if (folder / TOKENIZER_FILE).exists():
        return _built(_from_json, folder / TOKENIZER_FILE)
    if all((folder / name).exists() for name in BPE_FILES):
        return _built(_byte_level, *(folder / name for name in BPE_FILES))
    if (folder / WORDPIECE_FILE).exists():
        return _built(_word_piece, folder / WORDPIECE_FILE)
    if (folder / SENTENCEPIECE_FILE).exists():
        return SentencePieceTokenizer(folder / SENTENCEPIECE_FILE)
    return None


def _built(build: Callable[..., "Tokenizer"], path: Path, *others: Path) -> ForeignTokenizer:
    """What a function makes of files."""
    if find_spec("tokenizers") is None:
        raise UserError(
            f'{path} needs the package tokenizers, which is not installed: pip install "lit-transformer[pretrained]"'
        )
    for each in (path, *others):
        check_regular(each)
    with _one_line(path, "holds no tokenizer"):
        tokenizer: Tokenizer = build(path, *others)
        tokenizer.add_special_tokens([name for name in SPECIAL_NAMES if tokenizer.token_to_id(name) is not None])
        return ForeignTokenizer(tokenizer, path)


@contextmanager
def _one_line(path: Path, problem: str) -> Iterator[None]:
    """The package's errors as UserError. It raises them as `Exception`, and panics of Rust as `BaseException`."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{path} {problem}: {innermost_reason(error)}; copy the folder again") from error


def _from_json(path: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(path.read_text(encoding="utf-8"))


def _byte_level(vocabulary: Path, merges: Path) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    prefix = bool(_settings(vocabulary.parent).get("add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _word_piece(path: Path) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    settings = _settings(path.parent)
    tokenizer = Tokenizer(models.WordPiece.from_file(str(path), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _settings(folder: Path) -> Mapping[str, Any]:
    return read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).exists() else {}


def _text_of_bytes(token: str) -> str:
    """A token of byte-level BPE as text: a space as U+2581, and bytes that are no whole character as `<0xE2>`."""
    try:
        content = bytes(_BYTES[character] for character in token)
    except KeyError:  # a token that was added as text
        return token
    text = content.decode("utf-8", "surrogateescape").replace(SPACE, LITERAL_SPACE).replace(" ", SPACE)
    return re.sub("[\udc80-\udcff]", lambda match: f"<0x{ord(match.group()) - 0xDC00:02X}>", text)


def _byte_characters() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable ones of Latin-1 by themselves, others from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [number for number in range(256) if number not in printable]
    return {chr(number): number for number in printable} | {chr(256 + i): number for i, number in enumerate(others)}


_BYTES = _byte_characters()
