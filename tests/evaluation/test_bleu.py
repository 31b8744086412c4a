"""BLEU is sacrebleu's to the digit, however the sentences are split over batches and processes."""

import pickle
from pathlib import Path

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import CorpusBLEU, compound_split_bleu, score_translations

REFERENCES = [
    "Der alte Hund schläft heute unter dem großen Tisch.",
    "Die Frau, die ich kenne, liest ein Buch.",
    "Wir haben kein Geld!",
    "Er steht um 7.30 Uhr auf.",
    "Der Zug nach Berlin-Mitte fährt nicht.",
    "Ja.",
    "Ein roter Ball liegt im Garten der Nachbarn.",
]
HYPOTHESES = [
    "Der alte Hund schläft heute unter dem Tisch.",
    "Die Frau, die ich kenne, liest das Buch.",
    "",
    "Er steht um 7.30 Uhr auf.",
    "Der Zug nach Berlin-Mitte fährt heute nicht.",
    "Nein",
    "Der Ball liegt im roten Garten der Nachbarn .",
]

words = st.lists(st.sampled_from(["der", "Hund", "schläft", "Berlin-Mitte", ",", "7.30", "Hund."]), max_size=7)
pairs = st.lists(st.tuples(words.map(" ".join), words.map(" ".join)), min_size=1, max_size=6)


@given(pairs=pairs, cut=st.integers(min_value=0, max_value=6))
@settings(max_examples=200)
def test_corpus_bleu_is_sacrebleus_to_the_digit(pairs: list[tuple[str, str]], cut: int) -> None:
    # Such short sentences often match in no 3- or 4-gram, have none at all, or are empty.
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    metric = CorpusBLEU().half()
    metric.update(hypotheses[:cut], references[:cut])
    metric.update(hypotheses[cut:], references[cut:])
    assert metric.compute().item() == sacrebleu.corpus_bleu(hypotheses, [references]).score


@pytest.mark.parametrize(
    ("hypothesis", "reference"), [("der Hund schläft nicht", "nicht schläft Hund der"), ("", "Ja.")]
)
def test_no_match_and_no_words(hypothesis: str, reference: str) -> None:
    metric = CorpusBLEU()
    metric.update([hypothesis], [reference])
    assert metric.compute().item() == sacrebleu.corpus_bleu([hypothesis], [[reference]]).score


def test_options_reset_and_copies() -> None:
    metric = pickle.loads(pickle.dumps(CorpusBLEU(tokenize="none", lowercase=True)))
    metric.update(REFERENCES, REFERENCES)
    metric.reset()
    metric.update(HYPOTHESES, REFERENCES)
    expected = sacrebleu.BLEU(tokenize="none", lowercase=True).corpus_score(HYPOTHESES, [REFERENCES])
    assert metric.clone().compute().item() == expected.score


def _score_a_share(rank: int, world_size: int, folder: Path) -> None:
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    metric = CorpusBLEU()
    # Two processes share the sentences, a third has none.
    share = slice(rank, None, 2) if rank < 2 else slice(0)
    metric.update(HYPOTHESES[share], REFERENCES[share])
    torch.save(metric.compute(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_corpus_bleu_has_the_same_digits_on_several_processes(world_size: int, tmp_path: Path) -> None:
    multiprocessing.spawn(_score_a_share, args=(world_size, tmp_path), nprocs=world_size)
    scores = [torch.load(tmp_path / f"{rank}.pt").item() for rank in range(world_size)]
    assert scores == [sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score] * world_size


@pytest.mark.parametrize("tokenize", ["13a", "none", "intl", "char", "zh"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_and_signatures_are_sacrebleus(tokenize: str, lowercase: bool) -> None:
    scores = score_translations(HYPOTHESES, REFERENCES, tokenize=tokenize, lowercase=lowercase)
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase), sacrebleu.CHRF(lowercase=lowercase)
    assert scores.bleu == bleu.corpus_score(HYPOTHESES, [REFERENCES]).score
    assert scores.chrf == chrf.corpus_score(HYPOTHESES, [REFERENCES]).score
    case, version = "lc" if lowercase else "mixed", sacrebleu.__version__
    assert scores.signature == f"nrefs:1|case:{case}|eff:no|tok:{tokenize}|smooth:exp|version:{version}"
    assert scores.chrf_signature == f"nrefs:1|case:{case}|eff:yes|nc:6|nw:0|space:no|version:{version}"


def test_compounds_are_split_on_both_sides_and_nothing_is_smoothed() -> None:
    hypothesis, reference = (
        "Eine A-B-C-Waffe vom Rhein-Main-Gebiet.",
        "Die A-B-C-Waffe vom Rhein-Main-Gebiet.",
    )
    # Matches of the substitution do not overlap, so the hyphen between B and C stays.
    rest = "A ##AT##-##AT## B-C ##AT##-##AT## Waffe vom Rhein ##AT##-##AT## Main ##AT##-##AT## Gebiet ."
    expected = sacrebleu.corpus_bleu([f"Eine {rest}"], [[f"Die {rest}"]], tokenize="none", force=True).score
    assert compound_split_bleu([hypothesis], [reference]) == expected
    # Two pairs of words agree, but no three words do.
    assert compound_split_bleu(["der Hund schläft heute nicht"], ["der Hund bellt heute nicht"]) == 0.0


@pytest.mark.parametrize(
    ("hypotheses", "references", "tokenize", "message"),
    [
        (["a"], ["a", "b"], "13a", "1 translations cannot be scored against 2 references"),
        ([], [], "13a", "no sentences to score"),
        (["a"], ["a"], "spm", "choose one of 13a, none"),
    ],
)
def test_mistakes_are_named(hypotheses: list[str], references: list[str], tokenize: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_translations(hypotheses, references, tokenize=tokenize)


def test_corpus_bleu_refuses_unpaired_sentences() -> None:
    with pytest.raises(UserError, match="cannot be scored"):
        CorpusBLEU().update(["a"], [])
