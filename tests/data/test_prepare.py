import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.batch import EOS_ID, PAD_ID, UNK_ID
from lit_transformer.data import prepare
from lit_transformer.data.arrow_file import open_arrow, write_arrow
from lit_transformer.data.prepare import PreparationReport, TokenizedPairs, tokenize_pairs
from lit_transformer.data.store import TokenStore
from lit_transformer.data.text_folder import Text
from lit_transformer.data.tokenizer import Tokenizer
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
    tokenizer: Tokenizer,
    cache_dir: Path,
    max_length: int = 1000,
    max_length_ratio: float = 9.0,
    num_proc: int | None = None,
) -> TokenizedPairs:
    return tokenize_pairs(
        Text(pairs._fingerprint, lambda: pairs),
        tokenizer,
        max_length=max_length,
        max_length_ratio=max_length_ratio,
        cache_dir=cache_dir,
        num_proc=num_proc,
    )


def test_rows_are_the_pieces_and_the_end_in_small_integers(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    dataset, report, _ = tokenize(pairs, tokenizer, tmp_path)
    for column in ("source", "target"):
        assert dataset[column][:] == [[*ids, EOS_ID] for ids in tokenizer.encode(pairs[column][:])]
    assert str(dataset.data.schema.field("source").type) == "list<item: uint16>"
    assert len(dataset.cache_files) == 1
    assert report.num_pairs == report.num_kept == 53


def test_filter_and_report(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def length(text: str) -> int:
        return len(tokenizer.encode([text])[0]) + 1

    short, middle, long = "dog", SENTENCES[0], " ".join(SENTENCES[:3])
    limit, ratio = length(long) - 1, length(middle) / length(short)
    rows = [
        (short, middle),  # kept: the ratio is exactly the limit
        ("", middle),
        (middle, " \u2028 "),
        ("", long),  # empty comes before too long
        (long, short),  # too long comes before the ratio
        (middle, long),
        (f"{middle} cats", short),
        ("dogß", "ßß dog"),  # kept: characters that the vocabulary lacks
    ]
    data = Dataset.from_dict(dict(zip(("source", "target"), map(list, zip(*rows, strict=True)), strict=True)))
    dataset, report, _ = tokenize(data, tokenizer, tmp_path, limit, ratio)
    kept = [rows[0], rows[-1]]
    unknown = [sum(tokenizer.encode([pair[side]])[0].count(UNK_ID) for pair in kept) for side in (0, 1)]
    assert unknown == [1, 1]  # two unknown characters side by side are one piece
    assert report == PreparationReport(
        num_pairs=8,
        num_kept=2,
        dropped_empty=3,
        dropped_long=2,
        dropped_ratio=1,
        num_source_tokens=sum(length(source) for source, _ in kept),
        num_target_tokens=sum(length(target) for _, target in kept),
        num_source_unknown=1,
        num_target_unknown=1,
    )
    assert tokenizer.decode(dataset["target"][:])[0] == middle
    assert "2 of 8 pairs kept" in str(report)
    with pytest.raises(UserError, match=r"none of the 8 pairs .* 3 have an empty side, 5 more than 1 tokens"):
        tokenize(data, tokenizer, tmp_path, max_length=1)


def test_second_call_finds_everything_in_the_cache(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenize(pairs, tokenizer, tmp_path)

    class EncodedAgainError(Exception):
        pass

    def refuse(self: Tokenizer, texts: list[str]) -> list[list[int]]:
        raise EncodedAgainError

    monkeypatch.setattr(Tokenizer, "encode", refuse)
    second = tokenize(pairs, tokenizer, tmp_path)
    assert second.report == first.report
    assert second.dataset[:] == first.dataset[:]
    unread = Text(pairs._fingerprint, lambda: pytest.fail("the text was read"))
    third = tokenize_pairs(unread, tokenizer, max_length=1000, max_length_ratio=9.0, cache_dir=tmp_path)
    assert third.dataset[:] == first.dataset[:]
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
def test_damaged_cache_is_named_and_made_anew(
    suffix: str,
    damage: Callable[[bytes], bytes],
    pairs: Dataset,
    tokenizer: Tokenizer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    first = tokenize(pairs, tokenizer, tmp_path)
    rows = first.dataset[:]
    [path] = tmp_path.rglob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()  # the open data set keeps the old file
    path.write_bytes(damage(content))
    second = tokenize(pairs, tokenizer, tmp_path)
    assert (second.dataset[:], second.report) == (rows, first.report)
    assert f"note: the cache file {path} is damaged" in capfd.readouterr().err
    assert path.read_bytes() == content


def test_killed_preparation_leaves_nothing_that_is_taken_for_whole(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    whole = tokenize(pairs, tokenizer, tmp_path).dataset[:]
    [report] = tmp_path.rglob("*.json")
    report.unlink()  # killed between the two files
    assert tokenize(pairs, tokenizer, tmp_path).dataset[:] == whole
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
    assert two.dataset[:] == one.dataset[:]
    assert two.report == one.report


TOKENS = st.lists(st.integers(1, 2**16 - 1), max_size=7)


@given(
    rows=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=13),
    item_type=st.sampled_from([pa.uint16(), pa.int32()]),
    chunk_size=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_store_gathers_what_the_file_holds(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[list[int], list[int]]],
    item_type: pa.DataType,
    chunk_size: int,
    seed: int,
) -> None:
    """Whatever record batches the rows are in, up to the last row of the file."""
    schema = pa.schema([("source", pa.list_(item_type)), ("target", pa.list_(item_type))])
    chunks = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
    path = tmp_path_factory.mktemp("store") / "rows.arrow"
    sides = [list(map(list, zip(*chunk, strict=True))) for chunk in chunks]
    write_arrow(path, schema, [pa.record_batch(side, schema=schema) for side in sides])
    data = open_arrow(path, fingerprint="rows")
    store = pickle.loads(pickle.dumps(TokenStore(data)))
    chosen = np.random.default_rng(seed).integers(0, len(rows), size=5)
    for side, column in enumerate(("source", "target")):
        width = max(len(rows[row][side]) for row in chosen)
        expected = [rows[row][side] + [PAD_ID] * (width - len(rows[row][side])) for row in chosen]
        gathered = store.gather(chosen, column)
        assert gathered.dtype == np.int64
        assert gathered.tolist() == expected
        assert store.lengths(column).tolist() == [len(row[side]) for row in rows]


def test_rows_lie_together_on_disk(
    pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_BATCH_SIZE", 10)
    found = []
    for num_bytes, num_batches in ((1, 5), (2**27, 1)):
        monkeypatch.setattr(prepare, "_BYTES_TOGETHER", num_bytes)
        prepared = tokenize(pairs.select(range(45)), tokenizer, tmp_path / str(num_bytes))
        assert len(prepared.dataset.data.to_batches()) == num_batches
        store = TokenStore(prepared.dataset)
        found.append((prepared.dataset[:], prepared.report, store.gather(np.arange(len(store)), "target").tolist()))
    assert found[0] == found[1]


def test_store_of_selected_rows(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    dataset = tokenize(pairs, tokenizer, tmp_path).dataset
    for view in (dataset.select([7, 3, 5]), dataset.select(range(11, 23)), dataset.shuffle(seed=1)):
        store = TokenStore(view)
        assert len(store) == len(view)
        rows = store.gather(np.arange(len(view)), "target")
        assert [row[row != PAD_ID].tolist() for row in rows] == view["target"][:]
        assert store.lengths("target").tolist() == [len(row) for row in view["target"][:]]


@pytest.mark.parametrize(("longest", "kind"), [(2**15 - 1, np.int16), (2**15, np.int32)])
def test_lengths_are_held_in_as_few_bytes_as_they_need(longest: int, kind: type, tmp_path: Path) -> None:
    rows = [list(range(length)) for length in (3, longest, 5)]
    schema = pa.schema([(name, pa.list_(pa.uint16())) for name in ("source", "target")])
    batches = [pa.record_batch([[row], [row]], schema=schema) for row in rows]
    write_arrow(tmp_path / "rows.arrow", schema, batches)
    store = TokenStore(open_arrow(tmp_path / "rows.arrow", fingerprint="rows"))
    assert store.lengths("target").dtype == kind
    assert store.lengths("target").tolist() == [3, longest, 5]
    assert store.gather(np.array([1]), "target").tolist() == [rows[1]]


def test_pickled_store_is_small(pairs: Dataset, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """It takes the file's name along, not its content: longer text does not make it longer."""
    few = pickle.dumps(TokenStore(tokenize(pairs, tokenizer, tmp_path).dataset))
    many_pairs = Dataset.from_dict({name: pairs[name][:] * 50 for name in ("source", "target")})
    many = pickle.dumps(TokenStore(tokenize(many_pairs, tokenizer, tmp_path).dataset))
    assert len(many) < len(few) + 100
