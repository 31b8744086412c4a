"""The copy task is one fixed thing, and a corpus like any other."""

from pathlib import Path

import pytest

from lit_transformer.data.copy_task import COPY_SPLITS, copy_pairs
from lit_transformer.data.corpus import load_pairs, sentences
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError


def test_sequences() -> None:
    """Ten of ten digits; none occurs twice, in one split or in two; always the same ones."""
    everything = [pair for split in COPY_SPLITS for pair in copy_pairs(split)]
    assert all(source == target for source, target in everything)
    assert len({source for source, _ in everything}) == len(everything)
    for source, _ in everything:
        digits = source.split(" ")
        assert len(digits) == 10
        assert set(digits) <= set("0123456789")
    counts = [sum(source.count(digit) for source, _ in everything) for digit in "0123456789"]
    assert max(counts) < 1.05 * min(counts)
    first = ["9 1 6 7 0 2 4 6 2 9", "4 9 2 9 6 3 3 9 4 7", "1 4 4 1 7 6 9 7 7 2"]
    assert [copy_pairs(split)[0][0] for split in COPY_SPLITS] == first


def test_corpus(tmp_path: Path) -> None:
    pairs = load_pairs("copy", split="validation", source="xx", target="yy", cache_dir=tmp_path)
    assert list(zip(pairs["source"], pairs["target"], strict=True)) == copy_pairs("valid")
    tokenizer = Tokenizer.train(sentences(pairs), vocab_size=25, character_coverage=1.0)  # as in experiments/copy.yaml
    assert {len(ids) for ids in tokenizer.encode(pairs["source"][:])} == {10}
    with pytest.raises(UserError, match=r"the largest possible value is 25"):
        Tokenizer.train(sentences(pairs), vocab_size=26, character_coverage=1.0)


@pytest.mark.parametrize(
    ("corpus", "split", "message"),
    [("copy:5", "train", r"has one size: leave out `:5`"), ("copy", "dev", r"there are train, valid, test$")],
)
def test_mistakes(corpus: str, split: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_pairs(corpus, split=split, source="en", target="de", cache_dir=tmp_path)
