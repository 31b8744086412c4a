"""Warnings with their remedies, the same from `check` and `fit`."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_transformer import check
from lit_transformer.training import samples
from tests.helpers.corpora import make_corpus, write_folder
from tests.helpers.runs import SHORT, arguments, fit


def check_output(corpus: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    capsys.readouterr()
    check.main(arguments(corpus, corpus.parent / "runs", tokens_per_second=1000, **changes))
    return capsys.readouterr().out


def write_lengths(folder: Path, num_pairs: int) -> Path:
    """Write pairs of 5 to 40 words, with about as many on either side."""
    random = np.random.default_rng(1)
    lengths = random.integers(5, 41, num_pairs) + random.integers(0, 3, (2, num_pairs))
    files = {
        f"{split}.{language}": "".join(f"{' '.join(random.choice(list('abcdefgh'), words))}\n" for words in side)
        for language, side in zip(("en", "de"), lengths, strict=True)
        for split in ("train", "valid")
    }
    return write_folder(folder, dict(files))


LENGTHS = {"model__vocab_size": 21, "data__tokens_per_batch": 4000}


def padding(output: str) -> float:
    found = re.search(r"([\d.]+)% padding", output)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(("max_tokens", "remedy"), [(8000, "max_tokens_per_device"), (99_999, "tokens_per_batch")])
def test_the_remedy_against_padding_helps(
    max_tokens: int, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_lengths(tmp_path / "corpus", 300)
    changes = LENGTHS | {"data__max_tokens_per_device": max_tokens}
    output = check_output(corpus, capsys, **changes)
    found = re.search(r"% of the positions are padding: (?:raise|lower) (\w+) to (\d+)\b.*?(\d+)%", output)
    assert found is not None, output
    name, value, promised = found.groups()
    assert name == remedy
    better = padding(check_output(corpus, capsys, **changes | {f"data__{name}": int(value)}))
    assert better < 0.9 * padding(output)
    assert better == pytest.approx(float(promised), abs=1)


def test_padding_of_a_corpus_that_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = check_output(write_lengths(tmp_path / "corpus", 20), capsys, **LENGTHS, data__max_tokens_per_device=99_999)
    assert re.search(r"% of the positions are padding: (?!.*\b(?:raise|lower)\b).*\b20 pairs", output)
    assert re.search(r"an epoch of 20 pairs .*\b1 step\b.* tokens_per_batch", output)


def warnings(output: str) -> list[str]:
    return sorted(re.sub(r"^warning:?\s+", "", line) for line in output.splitlines() if line.startswith("warning"))


def test_fit_and_check_print_the_same_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a tokenized corpus of few sentences, whose validation pairs are those of training."""
    corpus = make_corpus(tmp_path / "corpus")
    for file in corpus.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace(".\n", " .\n"), encoding="utf-8")
    expected = warnings(check_output(corpus, capsys, **SHORT))
    for part in ("bleu_tokenize to none", "64 of 64 validation sources", "for a vocabulary of 400", "warm-up"):
        assert sum(part in warning for warning in expected) == 1, part
    output = fit(corpus, tmp_path / "runs", **SHORT).output
    assert [line for line in warnings(output) if "all translations" not in line] == expected
    assert ", 2 micro-batches per step" in output
    output = check_output(corpus, capsys, **SHORT, model__bleu_tokenize="none")
    assert "bleu_tokenize" not in output


def test_equal_translations_of_a_validation_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "search_batch", lambda _, source_BS, __: [[] for _ in source_BS])
    output = fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", **SHORT, data__max_tokens_per_device=2000).output
    assert ", 1 micro-batch per step" in output
    assert output.count("all translations of this validation are the same") == 1
