"""Preparation: tokenized once, filtered, counted, cached."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from lit_transformer.batch import EOS_ID, UNK_ID
from lit_transformer.data import tokenizing
from lit_transformer.data.arrow_file import open_arrow
from lit_transformer.data.prepare import PreparationReport, TokenizedPairs, tokenize_pairs
from lit_transformer.data.store import TokenStore
from lit_transformer.data.text import Text
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError

SENTENCES = [f"the dog sees {number} small cats" for number in range(53)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES, vocab_size=41, character_coverage=1.0)


@pytest.fixture
def pairs() -> Dataset:
    return Dataset.from_dict({"source": SENTENCES, "target": [text[::-1] for text in SENTENCES]})


def tokenize(
    pairs: Dataset,
    tokenizer: Tokenizer | Vocabularies,
    cache_dir: Path,
    max_length: int = 1000,
    max_length_ratio: float = 9.0,
    num_proc: int | None = None,
) -> TokenizedPairs:
    return tokenize_pairs(
        Text(f"{len(pairs)} pairs", lambda: pairs),
        Vocabularies.shared(tokenizer) if isinstance(tokenizer, Tokenizer) else tokenizer,
        max_length=max_length,
        max_length_ratio=max_length_ratio,
        cache_dir=cache_dir,
        num_proc=num_proc,
    )


def rows_of(tokens: TokenizedPairs) -> Dataset:
    return open_arrow(tokens.path, fingerprint="")


def test_rows_are_token_ids_and_eos_in_small_integers(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens = tokenize(pairs, tokenizer, tmp_path)
    rows = rows_of(tokens)
    for column in ("source", "target"):
        assert rows[column][:] == [[*ids, EOS_ID] for ids in tokenizer.encode(pairs[column][:])]
    assert str(rows.data.schema.field("source").type) == "list<item: uint16>"
    assert tokens.report.num_pairs == tokens.report.num_kept == 53


def test_each_side_has_its_vocabulary(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """In every process, and with a place of its own in the cache."""
    own = Tokenizer.train(SENTENCES, vocab_size=37, character_coverage=1.0)
    vocabularies = [Vocabularies(own, tokenizer), Vocabularies(tokenizer, own), Vocabularies.shared(own)]
    paths = set()
    for number, each in enumerate(vocabularies):
        tokens = tokenize(pairs, each, tmp_path, num_proc=1 + number % 2)
        rows = rows_of(tokens)
        for column, expected in zip(("source", "target"), each, strict=True):
            assert rows[column][:] == [[*ids, EOS_ID] for ids in expected.encode(pairs[column][:])]
        paths.add(tokens.path)
    assert len(paths) == len(vocabularies)


def test_filter_and_report(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def length(text: str) -> int:
        return len(tokenizer.encode([text])[0]) + 1

    short, middle, long = "dog", SENTENCES[0], " ".join(SENTENCES[:3])
    limit, ratio = length(long) - 1, length(middle) / length(short)
    rows = [
        (short, middle),  # kept: the ratio is exactly the limit
        ("", middle),
        (middle, " \u2028\ufe0f "),
        ("", long),  # empty comes before too long
        (long, short),  # too long comes before the ratio
        (middle, long),
        (f"{middle} cats", short),
        ("dogß", "ßß dog"),  # kept: characters that the vocabulary lacks
    ]
    data = Dataset.from_dict(dict(zip(("source", "target"), map(list, zip(*rows, strict=True)), strict=True)))
    tokens = tokenize(data, tokenizer, tmp_path, limit, ratio)
    kept = [rows[0], rows[-1]]
    unknown = [sum(tokenizer.encode([pair[side]])[0].count(UNK_ID) for pair in kept) for side in (0, 1)]
    assert unknown == [1, 1]  # two unknown characters side by side are one token
    assert tokens.report == PreparationReport(
        num_pairs=8,
        num_multiline=0,
        num_kept=2,
        dropped_empty=3,
        dropped_long=2,
        dropped_ratio=1,
        num_source_tokens=sum(length(source) for source, _ in kept),
        num_target_tokens=sum(length(target) for _, target in kept),
        num_source_unknown=1,
        num_target_unknown=1,
    )
    assert tokenizer.decode(rows_of(tokens)["target"][:])[0] == middle
    assert "2 of 8 pairs" in str(tokens.report)
    with pytest.raises(UserError, match=r"8 pairs .*\b3 .* 5 .*max_length 1,"):
        tokenize(data, tokenizer, tmp_path, max_length=1)


def test_second_call_finds_everything_in_the_cache(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenize(pairs, tokenizer, tmp_path)

    class EncodedAgainError(Exception):
        pass

    def refuse(*_: object) -> list[list[int]]:
        raise EncodedAgainError

    monkeypatch.setattr(Tokenizer, "encode", refuse)
    second = tokenize(pairs, tokenizer, tmp_path)
    assert second.report == first.report
    assert rows_of(second)[:] == rows_of(first)[:]
    unread = Text(f"{len(pairs)} pairs", lambda: pytest.fail("the text was read"))
    third = tokenize_pairs(
        unread, Vocabularies.shared(tokenizer), max_length=1000, max_length_ratio=9.0, cache_dir=tmp_path
    )
    assert rows_of(third)[:] == rows_of(first)[:]
    other = Tokenizer.train(SENTENCES, vocab_size=37, character_coverage=1.0)
    with pytest.raises(EncodedAgainError):
        tokenize(pairs, other, tmp_path)
    with pytest.raises(EncodedAgainError):
        tokenize(pairs, tokenizer, tmp_path, max_length=999)
    with pytest.raises(EncodedAgainError):
        tokenize(pairs, tokenizer, tmp_path, max_length_ratio=8.5)
    with pytest.raises(EncodedAgainError):
        tokenize(pairs.select(range(50)), tokenizer, tmp_path)


@pytest.mark.parametrize("suffix", [".arrow", ".json"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]])
def test_a_damaged_cache_file_is_named_and_made_again(
    suffix: str,
    damage: Callable[[bytes], bytes],
    pairs: Dataset,
    tokenizer: Tokenizer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    first = tokenize(pairs, tokenizer, tmp_path)
    rows = rows_of(first)[:]
    [path] = tmp_path.rglob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(content))
    second = tokenize(pairs, tokenizer, tmp_path)
    assert (rows_of(second)[:], second.report) == (rows, first.report)
    assert f"{path} is damaged" in capfd.readouterr().err
    assert path.read_bytes() == content


def test_a_killed_preparation_is_repeated(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    whole = rows_of(tokenize(pairs, tokenizer, tmp_path))[:]
    [report] = tmp_path.rglob("*.json")
    report.unlink()  # killed between the two files
    assert rows_of(tokenize(pairs, tokenizer, tmp_path))[:] == whole
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [
        ".arrow",
        ".crc32",
        ".crc32",
        ".json",
        ".lock",
    ]


def test_processes_give_the_same(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    one = tokenize(pairs, tokenizer, tmp_path / "one")
    two = tokenize(pairs, tokenizer, tmp_path / "two", num_proc=2)
    assert rows_of(two)[:] == rows_of(one)[:]
    assert two.report == one.report


def test_record_batches_are_few_and_large(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "BATCH_SIZE", 10)
    found = []
    for num_bytes, num_batches in ((1, 5), (2**27, 1)):
        monkeypatch.setattr(tokenizing, "RECORD_BATCH_BYTES", num_bytes)
        tokens = tokenize(pairs.select(range(45)), tokenizer, tmp_path / str(num_bytes))
        assert len(rows_of(tokens).data.to_batches()) == num_batches
        store = TokenStore(tokens.path)
        found.append((rows_of(tokens)[:], tokens.report, store.gather(np.arange(len(store)), "target").tolist()))
    assert found[0] == found[1]
