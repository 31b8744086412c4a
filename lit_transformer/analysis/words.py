"""From tokens to words: the tokens of each word, and attention between words.

Legend: H heads, L query length, M key length.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from lit_transformer.analysis.maps import WORD_BEGIN, is_special, word_text
from lit_transformer.characters import has_content, split_words
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.attention import Attention, Weights
from lit_transformer.errors import UserError


def word_spans(tokens: Sequence[str]) -> list[range]:
    """The tokens of every word, in order and without gaps. A special token is a word of its own."""
    begins = [
        index
        for index, token in enumerate(tokens)
        if index == 0 or token.startswith(WORD_BEGIN) or is_special(token) or is_special(tokens[index - 1])
    ]
    return [range(begin, end) for begin, end in pairwise([*begins, len(tokens)])]


def text_spans(text: str, tokens: Sequence[str], tokenizer: Tokenizer) -> list[range]:
    """The tokens of every word of a text. The words are those of `split_words`.

    Some vocabularies normalize text before they split it into tokens. A word can then become two words or none. It has
    the tokens of both, or an empty span.

    Args:
        text: One sentence.
        tokens: Its tokens without EOS, unknown ones with their characters. They must be those of
            `" ".join(split_words(text))`.
        tokenizer: The vocabulary that they come from.

    Raises:
        UserError: If the tokens do not follow the words, as in a vocabulary with tokens of several words.
    """
    encode = tokenizer.encode_words if has_content(text) else tokenizer.encode
    words = split_words(text)
    alone = [
        tokenizer.name_unknown(tokenizer.tokens(ids), word) for word, ids in zip(words, encode(words), strict=True)
    ]
    begins = accumulate((len(word_spans(word)) for word in alone), initial=0)
    # The begin of every marked word, and at last the end of the text.
    marks = [*(span.start for span in word_spans(tokens)), len(tokens)]
    spans = [range(marks[begin], marks[end]) if end < len(marks) else range(0) for begin, end in pairwise(begins)]
    whole = ["".join(tokens[index] for index in span) for span in spans]
    if whole != ["".join(word) for word in alone] or sum(map(len, spans)) != len(tokens):
        raise UserError(
            f"the vocabulary does not split {text!r} at its spaces: words need a vocabulary whose tokens end where "
            "words end"
        )
    return spans


def merge(weights_HLM: Weights, rows: Sequence[range], columns: Sequence[range]) -> Weights:
    """Turn weights between tokens into weights between words.

    Columns are summed and rows are averaged, so that rows still sum to 1. Words without tokens have zeros.

    Args:
        weights_HLM: Weights between tokens.
        rows: The tokens of every word of the rows.
        columns: The tokens of every word of the columns.
    """
    column_sums = _indicator(columns, weights_HLM.shape[2]).T
    row_sums = _indicator(rows, weights_HLM.shape[1])
    row_means = row_sums / np.maximum(row_sums.sum(axis=1, keepdims=True), np.float32(1.0))
    merged: Weights = row_means @ weights_HLM @ column_sums
    return merged


def in_words(attention: Attention) -> Attention:
    """The same attention between words.

    Rows of `cross` are the words that the decoder predicts. Rows of `decoder` are the words that it reads, so that they
    still attend to earlier words only.
    """
    source, read, predicted = (
        word_spans(tokens) for tokens in (attention.source, attention.target_input, attention.target_output)
    )
    return Attention(
        source=_texts(attention.source, source),
        target_input=_texts(attention.target_input, read),
        target_output=_texts(attention.target_output, predicted),
        encoder=_merge_all(attention.encoder, source, source),
        decoder=_merge_all(attention.decoder, read, read),
        cross=_merge_all(attention.cross, predicted, source),
    )


def _merge_all(maps: Mapping[int, Weights], rows: Sequence[range], columns: Sequence[range]) -> dict[int, Weights]:
    return {layer: merge(weights, rows, columns) for layer, weights in maps.items()}


def _texts(tokens: Sequence[str], spans: Sequence[range]) -> list[str]:
    return [word_text([tokens[index] for index in span]) for span in spans]


def _indicator(spans: Sequence[range], num_tokens: int) -> Weights:
    """1 if a token belongs to a word, else 0: words x tokens."""
    indicator = np.zeros((len(spans), num_tokens), np.float32)
    for word, span in enumerate(spans):
        indicator[word, span.start : span.stop] = 1.0
    return indicator
