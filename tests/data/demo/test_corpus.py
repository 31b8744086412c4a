"""The splits: distinct sentences, the same in every process, and combinations that only `unseen` has."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from lit_transformer.data.demo.corpus import DEMO_SPLITS, MAX_TRAIN_PAIRS, DemoPair, demo_pairs, is_held_out, translate
from lit_transformer.data.demo.grammar import combinations
from lit_transformer.data.demo.lexicon import NOUNS
from lit_transformer.data.demo.sampler import Sampler
from lit_transformer.data.demo.selection import adjectives_for
from lit_transformer.errors import UserError


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[DemoPair]]:
    return {split: demo_pairs(split) for split in DEMO_SPLITS}


def test_an_english_sentence_has_one_translation_and_one_split(corpus: dict[str, list[DemoPair]]) -> None:
    pairs = [pair for split in DEMO_SPLITS for pair in corpus[split]]
    assert len({pair.english for pair in pairs}) == len({pair.german for pair in pairs}) == len(pairs)


def test_alignments_link_every_word_within_the_sentence(corpus: dict[str, list[DemoPair]]) -> None:
    for pair in corpus["test"]:
        english, german = zip(*pair.alignment, strict=True)
        assert set(english) == set(range(len(pair.english.split()))), pair
        assert set(german) == set(range(len(pair.german.split()))), pair


def test_unseen_combinations_are_in_unseen_only(corpus: dict[str, list[DemoPair]]) -> None:
    english = {split: {pair.english for pair in corpus[split]} for split in DEMO_SPLITS}
    seen = english["train"] | english["valid"] | english["test"]
    num_found = {"seen": 0, "unseen": 0}
    for seed in (1, 4):  # the seeds of `train` and `unseen`, so that many sentences of the corpus come up
        sampler = Sampler(seed)
        for _ in range(5000):
            sentence = sampler.sentence()
            text = translate(sentence).english
            if any(is_held_out(pair) for clause in sentence.clauses for pair in combinations(clause)):
                assert text not in seen
                num_found["unseen"] += text in english["unseen"]
            else:
                assert text not in english["unseen"]
                num_found["seen"] += text in seen
    assert num_found["seen"] > 1000
    assert num_found["unseen"] > 100


def test_held_out_attributes_never_stand_before_their_noun_in_train(corpus: dict[str, list[DemoPair]]) -> None:
    held_out = {
        (entry.english, form)
        for head in NOUNS
        for entry in adjectives_for(head)
        for form in (head.english, head.english_plural or head.english + "s")
        if is_held_out(f"{entry.german} {head.german}")
    }
    neighbors: dict[str, set[tuple[str, str]]] = {split: set() for split in DEMO_SPLITS}
    for split in DEMO_SPLITS:
        for pair in corpus[split]:
            neighbors[split].update(pairwise(pair.english.strip(".").split()))
    assert held_out
    assert not held_out & (neighbors["train"] | neighbors["valid"] | neighbors["test"])
    assert held_out & neighbors["unseen"]


def test_train_has_every_word_of_the_other_splits(corpus: dict[str, list[DemoPair]]) -> None:
    known = words(corpus["train"])
    for split in DEMO_SPLITS[1:]:
        assert words(corpus[split]) <= known


def words(pairs: list[DemoPair]) -> set[str]:
    return {word.strip(".,").lower() for pair in pairs for word in pair.english.split()}


def test_sentences_are_short(corpus: dict[str, list[DemoPair]]) -> None:
    lengths = [max(len(pair.english.split()), len(pair.german.split())) for pair in corpus["train"]]
    assert max(lengths) <= 18
    assert 6 < sum(lengths) / len(lengths) < 10


@pytest.mark.slow
def test_a_large_corpus_is_distinct() -> None:
    pairs = demo_pairs("train", num_pairs=200_000)
    assert len({pair.english for pair in pairs}) == len({pair.german for pair in pairs}) == 200_000


def test_fewer_training_pairs_are_a_prefix_of_more() -> None:
    assert demo_pairs("train", num_pairs=700)[:300] == demo_pairs("train", num_pairs=300)


def test_the_corpus_is_the_same_in_every_process() -> None:
    code = "from lit_transformer.data.demo.corpus import demo_pairs; print(ascii(demo_pairs('train', num_pairs=500)))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ascii(demo_pairs("train", num_pairs=500))


@pytest.mark.parametrize(
    ("split", "num_pairs", "named"),
    [
        ("dev", None, "train, valid, test, unseen"),
        ("test", 10, r"num_pairs is 10, .*test"),
        ("train", 0, r"num_pairs is 0: .* 1 "),
        ("train", MAX_TRAIN_PAIRS + 1, str(MAX_TRAIN_PAIRS)),
    ],
)
def test_mistakes_are_named(split: str, num_pairs: int | None, named: str) -> None:
    with pytest.raises(UserError, match=named):
        demo_pairs(split, num_pairs=num_pairs)
