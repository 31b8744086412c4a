"""Tokenizing, assembling and loading, on little text."""

from lit_transformer.benchmarks.text_data import DataJob, measure_data


def test_data_is_measured() -> None:
    rows = {row["name"]: row for row in measure_data(DataJob(corpus="demo:1000", vocab_size=300, repeats=1))}
    assert list(rows) == ["tokenizing", "assembling", "loading"]
    assert rows["tokenizing"]["sentences"] == 2000
    assert rows["tokenizing"]["share_of_sentencepiece"] > 0
    assert rows["assembling"]["cpu_ms_per_batch"] > 0
    assert 0 <= rows["loading"]["waiting_share"] < 1
