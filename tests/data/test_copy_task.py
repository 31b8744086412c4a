"""The copy task is fixed."""

from lit_transformer.data.copy_task import COPY_SPLITS, copy_pairs


def test_sequences_are_ten_digits_and_distinct_over_all_splits() -> None:
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
