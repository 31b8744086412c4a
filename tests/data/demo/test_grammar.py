"""Sentences are written in both languages, and their words aligned, as a native speaker would."""

import pytest

from lit_transformer.data.demo import lexicon
from lit_transformer.data.demo.corpus import DemoPair, translate
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
    pronoun_for,
)
from lit_transformer.data.demo.lexicon import ADJECTIVES, BARE, MANY, MY, NO, NOUNS, THE, THIS, THREE, TWO, A
from lit_transformer.data.demo.verbs import BE, WITH_CLAUSE, WITH_OBJECT, WITHOUT_OBJECT
from lit_transformer.data.demo.words import Adjective, Determiner, Modal, Noun, Time, Verb


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
# The meaning of a sentence, and its text, one phenomenon after the other.
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
# The German words that an annotator would link to each English word.
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


@pytest.mark.parametrize(("meaning", "english", "german"), EXAMPLES, ids=[example[1] for example in EXAMPLES])
def test_sentences_and_alignments_are_those_of_a_native_speaker(
    meaning: Clause | Sentence, english: str, german: str
) -> None:
    sentence = meaning if isinstance(meaning, Sentence) else Sentence(main=meaning)
    pair = translate(sentence)
    assert (pair.english, pair.german) == (english, german)
    if english in ALIGNMENTS:
        assert linked(pair) == ALIGNMENTS[english].split()


def linked(pair: DemoPair) -> list[str]:
    """Return the German words that each English word is linked to."""
    german = pair.german.split()
    return ["+".join(german[j] for i, j in pair.alignment if i == index) for index in range(len(pair.english.split()))]
