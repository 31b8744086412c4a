"""BLEU and chrF of raw strings, computed by sacrebleu. This module knows neither token ids nor models.

sacrebleu does all the arithmetic. torchmetrics only holds BLEU's integer counts and adds them up over processes. Its
own BLEU metrics differ from sacrebleu if an n-gram order has no match.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast, get_args

import torch
from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER
from sacrebleu.metrics.chrf import CHRF
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_transformer.errors import UserError
from lit_transformer.notes import counted

Tokenization = Literal[
    "13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200", "spBLEU-1K"
]
"""sacrebleu's tokenizers. Those with `mecab` need another package, and the last four need a download."""
_BY_LANGUAGE: dict[str, Tokenization] = {
    # Chinese: the macrolanguage, Mandarin, Cantonese, Wu.
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue", "wuu"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    # Languages without spaces between words that sacrebleu has no tokenizer for: Thai, Lao, Khmer, Burmese, Tibetan,
    # Dzongkha.
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bur"), "char"),
    **dict.fromkeys(("bo", "bod", "tib", "dz", "dzo"), "char"),
}
BLEU_IN_WORDS = (
    (10, "it has not learned to translate yet"),
    (20, "the gist comes through here and there"),
    (30, "the gist is clear, with many errors"),
    (40, "understandable to good translations"),
    (60, "good translations, often as a person would write them"),
    (90, "very close to the reference translations"),
    (101, "nearly every word is as in the reference"),
)
"""What a BLEU score below each number means. Corpora differ, so this is a rough guide."""
TOKENIZED_REFERENCES = (
    "the validation references are tokenized, and BLEU splits their tokens again: set bleu_tokenize to none"
)
"""The warning about references that a corpus has split already."""
_END_OF_TEXT = b"\xff"
"""A byte that UTF-8 does not have."""
_EXTRAS = {"ja-mecab": "japanese", "ko-mecab": "korean"}


class TranslationScores(NamedTuple):
    """Corpus scores between 0 and 100. Scores with the same sacrebleu signature can be compared."""

    bleu: float
    chrf: float
    signature: str
    chrf_signature: str


def score_translations(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenization = "13a",
    lowercase: bool = False,
) -> TranslationScores:
    """Score translations against one reference each.

    Args:
        hypotheses: Detokenized translations, one per sentence.
        references: The raw reference text in the same order.
        tokenize: The tokenizer that BLEU applies to both sides. `none` is for text that is already tokenized.
        lowercase: Whether case is ignored.

    Raises:
        UserError: The tokenizer cannot be loaded, there are no sentences, or the numbers of sentences differ.
    """
    bleu, chrf = _sacrebleu(tokenize, lowercase=lowercase), CHRF(lowercase=lowercase)
    _check_pairs(hypotheses, references)
    _check_not_empty(hypotheses)
    return TranslationScores(
        bleu=bleu.corpus_score(hypotheses, [references]).score,
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


class CorpusBLEU(Metric):
    """sacrebleu's corpus BLEU over several batches and processes.

    The states are integers and are added up over processes. So the score has the same digits for any number of batches
    and processes, if every sentence is given to exactly one of them.

    Args:
        tokenize: As in `score_translations`.
        lowercase: Whether case is ignored.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    matches: Tensor
    totals: Tensor
    hypothesis_length: Tensor
    reference_length: Tensor

    def __init__(self, *, tokenize: Tokenization = "13a", lowercase: bool = False) -> None:
        super().__init__()
        self.tokenize = tokenize
        self.bleu = _sacrebleu(tokenize, lowercase=lowercase)
        # Each state is a tensor of its own, because `update` adds in place.
        self.add_state("matches", torch.zeros(MAX_NGRAM_ORDER, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("totals", torch.zeros(MAX_NGRAM_ORDER, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("hypothesis_length", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("reference_length", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @property
    def label(self) -> str:
        """The name to print. Scores with the same label can be compared."""
        return f"BLEU ({self.tokenize})"

    def update(self, hypotheses: Sequence[str], references: Sequence[str]) -> None:
        """Count the n-grams of some sentences. There may be none."""
        _check_pairs(hypotheses, references)
        if not hypotheses:
            return
        counts = self.bleu.corpus_score(hypotheses, [references])
        self.matches += torch.tensor(counts.counts, device=self.matches.device)
        self.totals += torch.tensor(counts.totals, device=self.totals.device)
        self.hypothesis_length += counts.sys_len
        self.reference_length += counts.ref_len

    def compute(self) -> Tensor:
        """Return the score of all sentences so far, on the CPU, because some accelerators have no float64."""
        score = BLEU.compute_bleu(
            self.matches.tolist(),
            self.totals.tolist(),
            int(self.hypothesis_length),
            int(self.reference_length),
            smooth_method=self.bleu.smooth_method,
        ).score
        return torch.tensor(score, dtype=torch.float64)


class CorpusCHRF(Metric):
    """sacrebleu's corpus chrF over several batches and processes.

    The state is the text itself, because sacrebleu does not give its counts. Every process needs one `update` or more.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    texts: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("texts", [], dist_reduce_fx="cat")

    def update(self, hypotheses: Sequence[str], references: Sequence[str]) -> None:
        """Keep some sentences. There may be none."""
        _check_pairs(hypotheses, references)
        texts = [text for pair in zip(hypotheses, references, strict=True) for text in pair]
        content = b"".join(text.encode(errors="replace") + _END_OF_TEXT for text in texts)
        self.texts.append(torch.tensor(list(content), dtype=torch.uint8, device=self.device))

    def compute(self) -> Tensor:
        """Return the score of all sentences so far, on the CPU, because some accelerators have no float64."""
        *texts, _ = bytes(dim_zero_cat(self.texts).tolist()).split(_END_OF_TEXT)
        hypotheses, references = ([text.decode() for text in texts[side::2]] for side in (0, 1))
        _check_not_empty(hypotheses)
        return torch.tensor(CHRF().corpus_score(hypotheses, [references]).score, dtype=torch.float64)


def compound_split_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return BLEU approximately as the paper's authors measured it, with the tokenizer 13a instead of Moses.

    Both sides are tokenized and split at the hyphens inside words, which adds about 0.7 to the score of an
    English-German system. BLEU is then computed without smoothing, as in multi-bleu. The tokenizers differ: 13a keeps
    typographic quotes attached to words, and Moses does not. So the result is an approximation. Compare it only with
    published compound-split scores.

    Raises:
        UserError: There are no sentences, or the numbers of sentences differ.
    """
    _check_pairs(hypotheses, references)
    _check_not_empty(hypotheses)
    tokenize = BLEU(tokenize="13a").tokenizer
    split_hypotheses = [_split_compounds(tokenize(sentence)) for sentence in hypotheses]
    split_references = [_split_compounds(tokenize(sentence)) for sentence in references]
    bleu = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(bleu.corpus_score(split_hypotheses, [split_references]).score)


def _split_compounds(sentence: str) -> str:
    # As in the original, matches do not overlap: `a-b-c` is split only at its first hyphen.
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", sentence)


def check_tokenization(name: str) -> Tokenization:
    """Return the name of a tokenizer.

    Raises:
        UserError: There is no such tokenizer, or it cannot be loaded here.
    """
    _sacrebleu(name, lowercase=False)
    return cast(Tokenization, name)


def tokenization_of(language: str) -> Tokenization:
    """Return the tokenizer that BLEU needs for a language.

    13a splits at spaces and punctuation. In a language without spaces, a whole clause would be one token, and BLEU
    would be 0 until whole clauses match.

    Args:
        language: Code of the target language, with or without a script or region: `zh`, `zh-CN`, `zho_Hans`.
    """
    return _BY_LANGUAGE.get(re.split("[-_]", language.lower())[0], "13a")


def _sacrebleu(tokenize: str, *, lowercase: bool) -> BLEU:
    if tokenize not in get_args(Tokenization):
        raise UserError(f"tokenize is {tokenize!r}: choose one of {', '.join(get_args(Tokenization))}")
    try:
        # `force` only silences a hint about tokenized text. The hint names this parameter, and commands give their own.
        return BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    except Exception as error:  # a missing package, or a failed download
        if extra := _EXTRAS.get(tokenize):
            reason = f"needs the extra {extra}: pip install -e '.[{extra}]'"
        else:
            reason = f"cannot be loaded ({error}): connect to the network once"
        raise UserError(f"tokenize {tokenize} {reason}, or choose another, for example char") from error


def _check_pairs(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise UserError(
            f"{counted(len(hypotheses), 'translation')} cannot be scored against "
            f"{counted(len(references), 'reference')}: give one translation per reference"
        )


def _check_not_empty(hypotheses: Sequence[str]) -> None:
    if not hypotheses:
        raise UserError("there are no sentences to score: choose a corpus and a split with at least one pair")


def describe_bleu(score: float, how: str) -> str:
    """Describe a validation BLEU, from 0 to 100. A value below 1 stands for any BLEU below 1.

    Args:
        score: The BLEU.
        how: How it was measured.
    """
    if score < 1.0:
        return f"validation BLEU below 1 of 100 ({how}): {BLEU_IN_WORDS[0][1]}"
    words = next(words for limit, words in BLEU_IN_WORDS if score < limit)
    return f"validation BLEU {score:.1f} of 100 ({how}): {words}"
