"""The kinds of entries in the lexicon of the demo corpus: forms in both languages, and which words go with them.

The tags of a noun say which words select it: only a noun with the tag `reading` can be read. Tags in one string are
separated by spaces. If several tags are asked for, a noun with any one of them fits.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Gender = Literal["m", "f", "n"]
Case = Literal["nominative", "accusative", "dative"]
Agreement = Literal["I", "singular", "plural"]
"""What a finite verb agrees with: `I`, any other singular, or a plural."""


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun or name: its forms, its gender and its tags.

    Args:
        german_plural: Empty for mass nouns and names.
        pronoun: The English pronoun. The German one follows from the gender.
        english_plural: Empty if it is regular.
        german_oblique: Accusative and dative singular of weak masculines (`den Jungen`), empty elsewhere.
    """

    english: str
    german: str
    gender: Gender
    german_plural: str
    pronoun: Literal["he", "she", "it"]
    tags: str
    english_plural: str = ""
    german_oblique: str = ""

    def is_any(self, tags: str) -> bool:
        """Whether it has any of these tags."""
        return not self._tags.isdisjoint(tags.split())

    @cached_property
    def _tags(self) -> frozenset[str]:
        return frozenset(self.tags.split())

    @property
    def is_name(self) -> bool:
        return self.is_any("name")

    @property
    def is_mass(self) -> bool:
        return not self.german_plural and not self.is_name


@dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective and the tags of the nouns it fits.

    Args:
        german_stem: The form that takes endings, if it is not the base form (`teuer`, but `teur-`).
    """

    english: str
    german: str
    fits: str
    german_stem: str = ""

    @property
    def is_state(self) -> bool:
        """Whether it is a passing state of people and animals, true today and perhaps not tomorrow."""
        return "animate" in self.fits.split()


@dataclass(frozen=True, eq=False)
class Determiner:
    """An article, possessive, quantifier or number.

    Args:
        german: The form that takes endings.
        endings: `article` for `der` itself, `der` or `ein` for words that are declined like these, else `none`.
        adjective: The declension of an adjective that follows.
        number: Which numbers of the noun it goes with.
    """

    english: str
    english_plural: str
    german: str
    endings: Literal["article", "der", "ein", "none"]
    adjective: Literal["weak", "mixed", "strong"]
    number: Literal["singular", "plural", "both"]


@dataclass(frozen=True, eq=False)
class Time:
    """An adverbial of time. In a phrase, the last words of both languages correspond, and so do those before them.

    Args:
        kind: `habit` goes with the simple present, `today` and `now` with the progressive,
            `past` with the past, `today` and `future` with modals.
        is_mid: Whether it stands before the English verb (`often`), and is never fronted.
    """

    english: str
    german: str
    kind: Literal["habit", "today", "now", "past", "future"]
    is_mid: bool = False


@dataclass(frozen=True, eq=False)
class Preposition:
    """A preposition of place, the case it governs here, and the tags of the nouns it fits.

    Args:
        kind: The kind of place that verbs select: where to be, where to go, or water to swim in.
    """

    english: str
    german: str
    case: Case
    kind: Literal["location", "direction", "water"]
    fits: str


@dataclass(frozen=True, eq=False)
class Modal:
    """A modal verb, or a phrase that serves as one (`wants to`, `will`).

    Args:
        negated: The English negative. Empty if it has another meaning than the German one (`must not`).
        needs_do: Whether English negates it with `do`.
        german: Forms for `I`, any other singular, and the plural.
    """

    english: str
    third_person: str
    german: tuple[str, str, str]
    negated: str = ""
    needs_do: bool = False


@dataclass(frozen=True, eq=False)
class Slot:
    """An object of a verb: the tags of the nouns it takes and its case.

    Args:
        english: A preposition before the English object. Without a German one it is part of the verb (`look for`).
        german: A preposition before the German object.
    """

    fits: str
    case: Case = "accusative"
    english: str = ""
    german: str = ""


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb with its objects. `essen` and `fressen` are two entries, although English has one verb.

    Args:
        english: Base form, third person singular, past and -ing form: `get up, gets up, got up, getting up`.
        german: Infinitive, third person singular and perfect: `aufstehen, steht auf, ist aufgestanden`.
        subjects: Tags of its subjects.
        objects: Its objects in English order.
        first_person: The form with `ich`, if it is not the infinitive's stem and -e.
        plural: The German plural, if it is not the infinitive.
        preterite: Singular and plural, for verbs that have no perfect here (`war waren`).
        place: The kind of place that may be added.
        times: Kinds of time that go with it.
        reasons: States that explain why somebody does this.
        quantity: `single` for what is done to one thing at a time (`wear a hat`), `known` if an unknown object
            makes little sense (`think of a village`), else `any`.
    """

    english: str
    german: str
    subjects: str
    objects: tuple[Slot, ...] = ()
    first_person: str = ""
    plural: str = ""
    preterite: str = ""
    place: Literal["none", "location", "direction", "water"] = "none"
    times: str = "habit today now past future"
    reasons: str = ""
    quantity: Literal["any", "single", "known"] = "any"

    @property
    def infinitive(self) -> str:
        return self.german.split(",")[0]

    @property
    def prefix(self) -> str:
        """The separable prefix (`auf`), or an empty string."""
        return self.german.split(", ")[1].partition(" ")[2]
