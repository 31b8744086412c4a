"""From SentencePiece's pieces to words: which pieces make a word, and attention between words.

Legend: H heads, L query length, M key length.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from lit_transformer.analysis.maps import WORD_BEGIN
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.attention import BOS, EOS, Attention, Weights
from lit_transformer.errors import UserError

_BYTES = re.compile("(?:<0x[0-9A-F]{2}>)+")


def word_spans(pieces: Sequence[str]) -> list[range]:
    """The pieces of every word, in order and without gaps; `<s>` and `</s>` are words of their own."""
    begins = [
        index
        for index, piece in enumerate(pieces)
        if index == 0 or piece.startswith(WORD_BEGIN) or piece == EOS or pieces[index - 1] == BOS
    ]
    return [range(begin, end) for begin, end in pairwise([*begins, len(pieces)])]


def word_text(pieces: Sequence[str]) -> str:
    """The pieces of a word as text; an unknown piece stays `<unk>`, pieces for single bytes become characters."""
    text = "".join(pieces).replace(WORD_BEGIN, " ").strip()
    return _BYTES.sub(lambda run: bytes.fromhex(re.sub("<0x|>", "", run.group())).decode("utf-8", "replace"), text)


def text_spans(text: str, pieces: Sequence[str], tokenizer: Tokenizer) -> list[range]:
    """The pieces of every word of a text, where words are what `text.split()` gives.

    Some vocabularies normalize text before they cut it, so that one word can become two or none at all: then it has the
    pieces of both, or an empty span.

    Args:
        text: One sentence.
        pieces: Its pieces, without EOS, which must be those of " ".join(text.split()).
        tokenizer: What cut them.

    Raises:
        UserError: Where the pieces do not follow the words, as with a vocabulary whose pieces span several.
    """
    alone = [tokenizer.tokens(ids) for ids in tokenizer.encode(text.split())]
    begins = accumulate((len(word_spans(word)) for word in alone), initial=0)
    # The begin of every marked word, and at last the end of the text.
    marks = [*(span.start for span in word_spans(pieces)), len(pieces)]
    spans = [range(marks[begin], marks[end]) if end < len(marks) else range(0) for begin, end in pairwise(begins)]
    whole = ["".join(pieces[index] for index in span) for span in spans]
    if whole != ["".join(word) for word in alone] or sum(map(len, spans)) != len(pieces):
        raise UserError(
            f"the vocabulary does not cut {text!r} at its spaces: words need one whose pieces end at the ends of words"
        )
    return spans


def merge(weights_HLM: Weights, rows: Sequence[range], columns: Sequence[range]) -> Weights:
    """Weights between pieces to weights between words: columns are summed and rows averaged, so that sums stay 1.

    Words without pieces have zeros.
    """
    column_sums = _indicator(columns, weights_HLM.shape[2]).T
    row_sums = _indicator(rows, weights_HLM.shape[1])
    row_means = row_sums / np.maximum(row_sums.sum(axis=1, keepdims=True), np.float32(1.0))
    merged: Weights = row_means @ weights_HLM @ column_sums
    return merged


def in_words(attention: Attention) -> Attention:
    """The same between words.

    Rows of `cross` are words that are said, rows of `decoder` words that are read, so that they still look back only.
    """
    source, read, said = (
        word_spans(pieces) for pieces in (attention.source, attention.target_input, attention.target_output)
    )
    return Attention(
        source=_texts(attention.source, source),
        target_input=_texts(attention.target_input, read),
        target_output=_texts(attention.target_output, said),
        encoder=_merge_all(attention.encoder, source, source),
        decoder=_merge_all(attention.decoder, read, read),
        cross=_merge_all(attention.cross, said, source),
    )


def _merge_all(maps: Mapping[int, Weights], rows: Sequence[range], columns: Sequence[range]) -> dict[int, Weights]:
    return {layer: merge(weights, rows, columns) for layer, weights in maps.items()}


def _texts(pieces: Sequence[str], spans: Sequence[range]) -> list[str]:
    return [word_text([pieces[index] for index in span]) for span in spans]


def _indicator(spans: Sequence[range], num_pieces: int) -> Weights:
    """1 where a piece belongs to a word, words x pieces."""
    indicator = np.zeros((len(spans), num_pieces), np.float32)
    for word, span in enumerate(spans):
        indicator[word, span.start : span.stop] = 1.0
    return indicator
