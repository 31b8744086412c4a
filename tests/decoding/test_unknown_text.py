"""Notes about text that the vocabulary does not know."""

import re

import pytest

from lit_transformer.data.tokenizer import Normalization, Tokenizer
from lit_transformer.decoding.unknown_text import note_unknown


@pytest.mark.parametrize("normalization", ["identity", "nmt_nfkc"])
def test_every_copied_line_is_counted(normalization: Normalization, capsys: pytest.CaptureFixture[str]) -> None:
    """Also U+FFFD, which the rules of `nmt` remove."""
    tokenizer = Tokenizer.train(["a b c"] * 9, vocab_size=8, character_coverage=1.0, normalization=normalization)
    texts = ["a", "", "\u200b", "\ufffd", "😀", "a\u200bb"]
    note_unknown(texts, tokenizer.encode(texts), tokenizer, first_line=11)
    assert re.fullmatch(r"note: .* lines 14, 15\b.*\n", capsys.readouterr().err)
