"""Notes about translated lines."""

import re

import pytest

from lit_transformer.data.tokenizer import Normalization, Tokenizer
from lit_transformer.decoding.remarks import Remarks
from lit_transformer.model.config import TransformerConfig
from lit_transformer.search_settings import SearchSettings


@pytest.fixture
def remarks() -> Remarks:
    return Remarks(TransformerConfig(), SearchSettings(max_extra_length=7))


@pytest.mark.parametrize("normalization", ["identity", "nmt_nfkc"])
def test_every_copied_line_is_counted(
    normalization: Normalization, remarks: Remarks, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also U+FFFD, which the rules of `nmt` remove."""
    tokenizer = Tokenizer.train(["a b c"] * 9, vocab_size=8, character_coverage=1.0, normalization=normalization)
    texts = ["a", "", "\u200b", "\ufffd", "😀", "a\u200bb"]
    remarks.add_sources(texts, tokenizer.encode(texts), tokenizer, first_line=11)
    remarks.print()
    assert re.fullmatch(r"note: .* lines 14, 15\b.*\n", capsys.readouterr().err)


def test_large_chunks_share_their_notes(remarks: Remarks, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a few lines come at once, because somebody waits for the answer."""
    for number, num_lines in ((3, 3), (1000, 999), (2000, 999)):
        remarks.add_translation(number, "One. Two.", "Eins", finished=False)
        remarks.add_translation(number + 1, "One stop. Two stops.", "Eins.", finished=True)
        remarks.add_translation(number + 2, "One stop. Two stops.", "Eins. Zwei.", finished=True)
        remarks.print_if_due(num_lines)
    cut, shortened = capsys.readouterr().err.splitlines()
    assert re.match(r"note: line 3: .*max_extra_length is 7\b", cut)
    assert shortened.startswith("note: line 4: ")
    remarks.print()
    cut, shortened = capsys.readouterr().err.splitlines()
    assert cut.startswith("note: lines 1000, 2000: ")
    assert shortened.startswith("note: lines 1001, 2001: ")
    remarks.print()
    assert capsys.readouterr().err == ""
