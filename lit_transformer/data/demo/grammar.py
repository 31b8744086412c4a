"""The meaning of a sentence of the demo corpus, and the alignment of its words in two languages.

Both languages are written from the same `Sentence`. Every word carries the keys of what it expresses, such as
`main.subject.noun`. Two words are aligned if they share a key, so the grammar itself gives the alignment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lit_transformer.data.demo.lexicon import BARE, MY, OUR, THE, THIS, A
from lit_transformer.data.demo.words import (
    Adjective,
    Agreement,
    Determiner,
    Gender,
    Modal,
    Noun,
    Preposition,
    Time,
    Verb,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NounPhrase:
    """A noun with its determiner, and perhaps an adjective and a relative clause, where a `Gap` stands for the noun."""

    noun: Noun
    determiner: Determiner
    is_plural: bool = False
    adjective: Adjective | None = None
    relative: "Clause | None" = None

    @property
    def agreement(self) -> Agreement:
        return "plural" if self.is_plural else "singular"

    @property
    def is_indefinite(self) -> bool:
        """Whether German negates it with `kein`."""
        return self.determiner in (A, BARE) and not self.noun.is_name

    @property
    def is_definite(self) -> bool:
        """Whether it refers to something known."""
        return self.determiner in (THE, MY, OUR, THIS) or self.noun.is_name


@dataclass(frozen=True, slots=True)
class Gap:
    """The place of the noun in its relative clause. It becomes a relative pronoun."""

    noun: Noun
    is_plural: bool

    @property
    def agreement(self) -> Agreement:
        return "plural" if self.is_plural else "singular"


@dataclass(frozen=True, slots=True)
class Pronoun:
    """A personal pronoun as subject."""

    english: str
    german: str
    agreement: Agreement


Phrase = NounPhrase | Gap | Pronoun


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happens, or where somebody goes."""

    preposition: Preposition
    phrase: NounPhrase


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """A subject, what it does or is, and where and when.

    Args:
        objects: One for each slot of the verb.
        predicate: What the subject is, with the verb `BE`.
        is_fronted: Whether a main clause begins with its time. German then puts the subject after the verb.
    """

    subject: Phrase
    verb: Verb
    objects: tuple[NounPhrase | Gap, ...] = ()
    predicate: Adjective | None = None
    place: Place | None = None
    time: Time | None = None
    modal: Modal | None = None
    is_past: bool = False
    is_negated: bool = False
    is_fronted: bool = False

    @property
    def is_progressive(self) -> bool:
        """Whether English uses the progressive. German has none."""
        is_present = not self.is_past and self.modal is None
        return is_present and self.time is not None and self.time.kind in ("today", "now") and self.predicate is None


@dataclass(frozen=True, slots=True)
class Conjunction:
    """A word that joins two clauses. A subordinating one, such as `weil`, sends the German verb to the end."""

    english: str
    german: str
    is_subordinating: bool = True
    english_comma: bool = False
    german_comma: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """One clause, or two with a conjunction before the second.

    Args:
        is_second_first: Whether the sentence begins with the conjunction and its clause.
    """

    main: Clause
    conjunction: Conjunction | None = None
    second: Clause | None = None
    is_second_first: bool = False

    @property
    def clauses(self) -> tuple[Clause, ...]:
        return (self.main,) if self.second is None else (self.main, self.second)


THAT = Conjunction("that", "dass")
BECAUSE = Conjunction("because", "weil")
ALTHOUGH = Conjunction("although", "obwohl")
WHEN = Conjunction("when", "wenn")
IF = Conjunction("if", "wenn")
AND = Conjunction("and", "und", is_subordinating=False, german_comma=False)
BUT = Conjunction("but", "aber", is_subordinating=False, english_comma=True)

_PRONOUNS: dict[Gender, str] = {"m": "er", "f": "sie", "n": "es"}


def pronoun_for(phrase: NounPhrase) -> Pronoun:
    """Return the pronoun for a phrase. German decides by gender, so a cat is `sie` and a girl is `es`."""
    if phrase.is_plural:
        return Pronoun("they", "sie", "plural")
    return Pronoun(phrase.noun.pronoun, _PRONOUNS[phrase.noun.gender], "singular")


def combinations(clause: Clause) -> Iterator[str]:
    """Yield the pairs of adjective and noun, and of verb and object, in a clause and its relative clauses.

    They are written in German base forms. It makes no difference whether the adjective is an attribute or a predicate.
    """
    phrases: list[Phrase] = [clause.subject, *clause.objects]
    if clause.place is not None:
        phrases.append(clause.place.phrase)
    if clause.predicate is not None and not isinstance(clause.subject, Pronoun):
        yield f"{clause.predicate.german} {clause.subject.noun.german}"
    for filler in clause.objects:
        yield f"{clause.verb.infinitive} {filler.noun.german}"
    for phrase in phrases:
        if isinstance(phrase, NounPhrase):
            if phrase.adjective is not None:
                yield f"{phrase.adjective.german} {phrase.noun.german}"
            if phrase.relative is not None:
                yield from combinations(phrase.relative)


class Word(NamedTuple):
    """A word or punctuation mark of one language and the keys of what it expresses."""

    text: str
    keys: tuple[str, ...] = ()


COMMA = Word(",")


def time_words(text: str, path: str) -> list[Word]:
    """Return the words of an adverbial. The last words of both languages correspond, and so do those before them."""
    *opening, last = text.split()
    return [*(Word(word, (f"{path}.time.opening",)) for word in opening), Word(last, (f"{path}.time",))]


def write_sentence(words: list[Word]) -> tuple[str, list[tuple[str, ...]]]:
    """Return a sentence as it is written, and the keys of its words. The full stop replaces a final comma."""
    texts: list[str] = []
    keys: list[tuple[str, ...]] = []
    for word in words:
        if word is not COMMA:
            texts.append(word.text)
            keys.append(word.keys)
        elif not texts[-1].endswith(","):
            texts[-1] += ","
    text = " ".join(texts).removesuffix(",") + "."
    return text[0].upper() + text[1:], keys


def align_words(english: list[tuple[str, ...]], german: list[tuple[str, ...]]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of word indices, English first, whose words share a key."""
    indices: dict[str, list[int]] = {}
    for index, keys in enumerate(german):
        for key in keys:
            indices.setdefault(key, []).append(index)
    links = {(i, j) for i, keys in enumerate(english) for key in keys for j in indices.get(key, ())}
    return tuple(sorted(links))
