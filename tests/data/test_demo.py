import os
import subprocess
import sys
from itertools import pairwise

import pytest

from lit_transformer.data.demo import lexicon
from lit_transformer.data.demo.corpus import DEMO_SPLITS, MAX_TRAIN_PAIRS, DemoPair, demo_pairs, is_held_out, translate
from lit_transformer.data.demo.grammar import (
    BECAUSE,
    BUT,
    THAT,
    WHEN,
    Clause,
    Gap,
    NounPhrase,
    Place,
    Pronoun,
    Sentence,
    combinations,
    pronoun_for,
)
from lit_transformer.data.demo.lexicon import ADJECTIVES, BARE, MANY, MY, NO, NOUNS, THE, THIS, THREE, TWO, A
from lit_transformer.data.demo.sampler import Sampler
from lit_transformer.data.demo.selection import (
    adjectives_for,
    nouns_tagged,
    object_determiners,
    subject_determiners,
)
from lit_transformer.data.demo.verbs import BE, WITH_CLAUSE, WITH_OBJECT, WITHOUT_OBJECT
from lit_transformer.data.demo.words import Adjective, Determiner, Modal, Noun, Time, Verb
from lit_transformer.errors import UserError


def noun(english: str) -> Noun:
    return next(entry for entry in NOUNS if entry.english == english)


def adjective(english: str) -> Adjective:
    return next(entry for entry in ADJECTIVES if entry.english == english)


def verb(infinitive: str) -> Verb:
    return next(v for v in (*WITHOUT_OBJECT, *WITH_OBJECT, *WITH_CLAUSE) if v.infinitive == infinitive)


def modal(english: str) -> Modal:
    return next(entry for entry in lexicon.MODALS if entry.english == english)


def time(english: str) -> Time:
    return next(entry for entry in lexicon.TIMES if entry.english == english)


def phrase(
    determiner: Determiner, words: str, *, is_plural: bool = False, relative: Clause | None = None
) -> NounPhrase:
    """A phrase like `the black cat`, the noun in the singular."""
    *attribute, head = words.split()
    return NounPhrase(
        noun=noun(head),
        determiner=determiner,
        is_plural=is_plural,
        adjective=adjective(attribute[0]) if attribute else None,
        relative=relative,
    )


def place(preposition: str, where: NounPhrase) -> Place:
    return Place(next(entry for entry in lexicon.PREPOSITIONS if entry.english == preposition), where)


THE_CAT, THE_MAN, THE_DOOR = phrase(THE, "cat"), phrase(THE, "man"), phrase(THE, "door")
THE_GIRL, THE_WOMAN = phrase(THE, "girl"), phrase(THE, "woman")
OPENS = Clause(subject=THE_MAN, verb=verb("aufmachen"), objects=(THE_DOOR,))
SLEEPING_CAT = phrase(THE, "cat", relative=Clause(subject=Gap(noun("cat"), False), verb=verb("schlafen")))
HELPED_BOYS = phrase(
    THE,
    "boy",
    is_plural=True,
    relative=Clause(subject=phrase(THE, "doctor"), verb=verb("helfen"), objects=(Gap(noun("boy"), True),)),
)
BOY_WITH_BALL = phrase(
    THE,
    "boy",
    relative=Clause(subject=Gap(noun("boy"), False), verb=verb("tragen"), objects=(phrase(A, "ball"),)),
)

# What a sentence means, and how it is said, one phenomenon after the other.
EXAMPLES = [
    (  # a relative clause about a subject
        Clause(subject=SLEEPING_CAT, verb=BE, predicate=adjective("black")),
        "The cat that sleeps is black.",
        "Die Katze, die schläft, ist schwarz.",
    ),
    (  # about a dative object
        Clause(subject=HELPED_BOYS, verb=BE, predicate=adjective("tired")),
        "The boys that the doctor helps are tired.",
        "Die Jungen, denen der Arzt hilft, sind müde.",
    ),
    (  # about a weak noun in the accusative
        Clause(subject=phrase(THIS, "woman"), verb=verb("kennen"), objects=(BOY_WITH_BALL,)),
        "This woman knows the boy who carries a ball.",
        "Diese Frau kennt den Jungen, der einen Ball trägt.",
    ),
    (  # verb second after an adverbial; the English progressive
        Clause(subject=THE_CAT, verb=verb("schlafen"), time=time("today"), is_fronted=True),
        "Today the cat is sleeping.",
        "Heute schläft die Katze.",
    ),
    (OPENS, "The man opens the door.", "Der Mann macht die Tür auf."),
    (
        Clause(subject=THE_MAN, verb=verb("aufmachen"), objects=(THE_DOOR,), modal=modal("want to")),
        "The man wants to open the door.",
        "Der Mann will die Tür aufmachen.",
    ),
    (
        Clause(subject=Pronoun("I", "ich", "I"), verb=verb("aufstehen"), time=time("in the morning")),
        "I get up in the morning.",
        "Ich stehe am Morgen auf.",
    ),
    (  # kein, nicht, and where nicht stands
        Clause(subject=THE_GIRL, verb=verb("lesen"), objects=(phrase(A, "book"),), is_negated=True),
        "The girl does not read a book.",
        "Das Mädchen liest kein Buch.",
    ),
    (
        Clause(
            subject=phrase(THE, "farmer"),
            verb=verb("kaufen"),
            objects=(phrase(BARE, "fresh apple", is_plural=True),),
            is_negated=True,
        ),
        "The farmer does not buy fresh apples.",
        "Der Bauer kauft keine frischen Äpfel.",
    ),
    (
        Clause(
            subject=THE_WOMAN,
            verb=verb("lesen"),
            objects=(phrase(THE, "newspaper"),),
            time=time("yesterday"),
            is_past=True,
            is_negated=True,
        ),
        "The woman did not read the newspaper yesterday.",
        "Die Frau hat die Zeitung gestern nicht gelesen.",
    ),
    (
        Clause(
            subject=phrase(NO, "singer"),
            verb=verb("ausschalten"),
            objects=(phrase(THE, "radio"),),
            time=time("tomorrow"),
            modal=modal("will"),
        ),
        "No singer will turn off the radio tomorrow.",
        "Keine Sängerin wird morgen das Radio ausschalten.",
    ),
    (  # a perfect with sein, a contracted preposition
        Clause(
            subject=phrase(MY, "friend"),
            verb=verb("gehen"),
            place=place("to", phrase(THE, "doctor")),
            time=time("yesterday"),
            is_past=True,
            is_fronted=True,
        ),
        "Yesterday my friend went to the doctor.",
        "Gestern ist mein Freund zum Arzt gegangen.",
    ),
    (
        Clause(
            subject=phrase(THE, "doctor", is_plural=True),
            verb=BE,
            predicate=adjective("sick"),
            time=time("last week"),
            is_past=True,
            is_negated=True,
        ),
        "The doctors were not sick last week.",
        "Die Ärzte waren letzte Woche nicht krank.",
    ),
    (  # weak, mixed and strong adjectives; datives
        Clause(
            subject=phrase(THE, "teacher"),
            verb=verb("geben"),
            objects=(phrase(THE, "small child"), phrase(A, "expensive ring")),
            time=time("today"),
        ),
        "The teacher is giving the small child an expensive ring today.",
        "Die Lehrerin gibt dem kleinen Kind heute einen teuren Ring.",
    ),
    (
        Clause(
            subject=phrase(TWO, "old man", is_plural=True),
            verb=verb("helfen"),
            objects=(phrase(THREE, "small child", is_plural=True),),
        ),
        "Two old men help three small children.",
        "Zwei alte Männer helfen drei kleinen Kindern.",
    ),
    (
        Clause(subject=THE_MAN, verb=verb("trinken"), objects=(phrase(BARE, "hot coffee"),)),
        "The man drinks hot coffee.",
        "Der Mann trinkt heißen Kaffee.",
    ),
    (
        Clause(
            subject=phrase(MANY, "cat", is_plural=True),
            verb=verb("spielen"),
            place=place("in", phrase(THE, "dark garden")),
        ),
        "Many cats play in the dark garden.",
        "Viele Katzen spielen im dunklen Garten.",
    ),
    (  # a place before a prepositional object
        Clause(
            subject=phrase(BARE, "Anna"),
            verb=verb("warten"),
            objects=(phrase(THE, "bus"),),
            place=place("in front of", phrase(THE, "school")),
            time=time("often"),
        ),
        "Anna often waits for the bus in front of the school.",
        "Anna wartet oft vor der Schule auf den Bus.",
    ),
    (  # subordinate clauses
        Sentence(
            main=Clause(subject=THE_WOMAN, verb=BE, predicate=adjective("happy")), conjunction=BECAUSE, second=OPENS
        ),
        "The woman is happy because the man opens the door.",
        "Die Frau ist glücklich, weil der Mann die Tür aufmacht.",
    ),
    (
        Sentence(
            main=Clause(subject=THE_GIRL, verb=verb("lachen")),
            conjunction=BECAUSE,
            second=Clause(subject=pronoun_for(THE_GIRL), verb=BE, predicate=adjective("happy")),
        ),
        "The girl laughs because she is happy.",
        "Das Mädchen lacht, weil es glücklich ist.",
    ),
    (
        Sentence(
            main=Clause(
                subject=phrase(THE, "mouse", is_plural=True),
                verb=verb("laufen"),
                place=place("into", phrase(THE, "forest")),
            ),
            conjunction=WHEN,
            second=Clause(subject=phrase(THE, "bear"), verb=verb("aufwachen")),
            is_second_first=True,
        ),
        "When the bear wakes up, the mice run into the forest.",
        "Wenn der Bär aufwacht, laufen die Mäuse in den Wald.",
    ),
    (
        Sentence(
            main=Clause(subject=Pronoun("I", "ich", "I"), verb=verb("wissen")),
            conjunction=THAT,
            second=Clause(
                subject=phrase(THE, "dog", is_plural=True),
                verb=verb("schwimmen"),
                place=place("in", phrase(THE, "lake")),
                modal=modal("can"),
                is_negated=True,
            ),
        ),
        "I know that the dogs cannot swim in the lake.",
        "Ich weiß, dass die Hunde nicht im See schwimmen können.",
    ),
    (
        Sentence(
            main=Clause(subject=phrase(THE, "child"), verb=verb("essen"), objects=(phrase(THE, "apple"),)),
            conjunction=BUT,
            second=Clause(subject=phrase(THE, "horse"), verb=verb("fressen"), objects=(phrase(A, "banana"),)),
        ),
        "The child eats the apple, but the horse eats a banana.",
        "Das Kind isst den Apfel, aber das Pferd frisst eine Banane.",
    ),
]

# English words and the German words that they are linked to, as an annotator would have it.
ALIGNMENTS = {
    "The cat that sleeps is black.": "Die Katze, die schläft, ist schwarz.",
    "The man opens the door.": "Der Mann macht+auf. die Tür",
    "The man wants to open the door.": "Der Mann will will aufmachen. die Tür",
    "The girl does not read a book.": "Das Mädchen kein kein liest kein Buch.",
    "The woman did not read the newspaper yesterday.": "Die Frau hat nicht gelesen. die Zeitung gestern",
    "Yesterday my friend went to the doctor.": "Gestern mein Freund ist+gegangen. zum zum Arzt",
    "I get up in the morning.": "Ich stehe+auf. stehe+auf. am am Morgen",
    "The doctors were not sick last week.": "Die Ärzte waren nicht krank. letzte Woche",
}


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[DemoPair]]:
    return {split: demo_pairs(split) for split in DEMO_SPLITS}


@pytest.mark.parametrize(("meaning", "english", "german"), EXAMPLES, ids=[example[1] for example in EXAMPLES])
def test_sentences_are_said_as_a_native_speaker_says_them(
    meaning: Clause | Sentence, english: str, german: str
) -> None:
    sentence = meaning if isinstance(meaning, Sentence) else Sentence(main=meaning)
    pair = translate(sentence)
    assert (pair.english, pair.german) == (english, german)
    if english in ALIGNMENTS:
        assert _linked(pair) == ALIGNMENTS[english].split()


def _linked(pair: DemoPair) -> list[str]:
    """For each English word the German words that it is linked to."""
    german = pair.german.split()
    return ["+".join(german[j] for i, j in pair.alignment if i == index) for index in range(len(pair.english.split()))]


def test_an_english_sentence_has_one_translation_and_one_split(corpus: dict[str, list[DemoPair]]) -> None:
    pairs = [pair for split in DEMO_SPLITS for pair in corpus[split]]
    assert len({pair.english for pair in pairs}) == len({pair.german for pair in pairs}) == len(pairs)


def test_meanings_with_the_same_english_have_the_same_german() -> None:
    # Straight from the sampler: the corpus itself leaves out sentences that it has had.
    sampler = Sampler(5)
    translations: dict[str, str] = {}
    for _ in range(20_000):
        pair = translate(sampler.sentence())
        assert translations.setdefault(pair.english, pair.german) == pair.german
    assert len(translations) < 20_000, "no sentence came twice, so nothing was compared"


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
    known = _words(corpus["train"])
    for split in DEMO_SPLITS[1:]:
        assert _words(corpus[split]) <= known


def _words(pairs: list[DemoPair]) -> set[str]:
    return {word.strip(".,").lower() for pair in pairs for word in pair.english.split()}


def test_sentences_are_short(corpus: dict[str, list[DemoPair]]) -> None:
    lengths = [max(len(pair.english.split()), len(pair.german.split())) for pair in corpus["train"]]
    assert max(lengths) <= 18
    assert 6 < sum(lengths) / len(lengths) < 10


def test_the_grammar_makes_over_a_million_sentences() -> None:
    # Those of one kind are enough: subject, verb with one object. Different choices are different words.
    total = 0
    for act in {verb.english: verb for verb in WITH_OBJECT if len(verb.objects) == 1}.values():
        agents, objects = nouns_tagged(act.subjects), nouns_tagged(act.objects[0].fits)
        subjects = {agent: _num_phrases(agent, subject_determiners(agent)) for agent in agents}
        for target in objects:
            count = _num_phrases(target, object_determiners(target, act))
            total += count * sum(number for agent, number in subjects.items() if agent is not target)
    assert total > 1_000_000


def _num_phrases(head: Noun, determiners: tuple[Determiner, ...]) -> int:
    return len(set(determiners)) * (1 + len(set(adjectives_for(head))))


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
        ("test", 10, "train"),
        ("train", 0, "from 1"),
        ("train", MAX_TRAIN_PAIRS + 1, str(MAX_TRAIN_PAIRS)),
    ],
)
def test_what_is_not_there_is_a_user_error(split: str, num_pairs: int | None, named: str) -> None:
    with pytest.raises(UserError, match=named):
        demo_pairs(split, num_pairs=num_pairs)
