"""Draws the phrases and clauses of the demo corpus.

Only `random.Random.random` is used, because its numbers are the same on every platform and in every Python.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from lit_transformer.data.demo.grammar import Clause, Gap, NounPhrase, Phrase, Place, Pronoun
from lit_transformer.data.demo.lexicon import BARE, NO, NOUNS
from lit_transformer.data.demo.selection import (
    adjectives_for,
    definite_only,
    modals_for,
    negatable_only,
    nouns_tagged,
    object_determiners,
    place_determiners,
    places_of,
    subject_determiners,
    times_for,
    verbs_of,
    verbs_taking,
)
from lit_transformer.data.demo.verbs import BE
from lit_transformer.data.demo.words import Adjective, Determiner, Modal, Noun, Time, Verb

Item = TypeVar("Item")

_PRONOUNS = (
    Pronoun("I", "ich", "I"),
    Pronoun("he", "er", "singular"),
    Pronoun("she", "sie", "singular"),
    Pronoun("we", "wir", "plural"),
    Pronoun("they", "sie", "plural"),
)
_ANYBODY = NOUNS[0]
"""Represents the person that a pronoun means: an adult."""


class ClauseSampler:
    """Draws phrases and clauses from one stream of random numbers.

    In all methods `detail` scales the probability of adjectives and places: 1 in simple sentences, less in parts of
    longer ones.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self._random.random() * len(items))]

    def subject(self, tags: str = "animate", *, detail: float = 1.0) -> tuple[Phrase, Noun]:
        """Draw a subject. Returns it and the noun that verbs are chosen for."""
        if self.chance(0.2):
            return self.pick(_PRONOUNS), _ANYBODY
        noun = self.pick(nouns_tagged(tags))
        determiners = subject_determiners(noun)
        if detail < 1.0:
            # In longer sentences a reader loses track of what `no cat` does.
            determiners = tuple(determiner for determiner in determiners if determiner is not NO)
        return self.phrase(noun, determiners, detail=detail), noun

    def phrase(
        self,
        noun: Noun,
        determiners: tuple[Determiner, ...],
        *,
        detail: float = 1.0,
        can_be_plural: bool = True,
    ) -> NounPhrase:
        """Draw a noun phrase with one of the determiners."""
        determiner = self.pick(determiners)
        is_plural = determiner.number == "plural" or (
            determiner.number == "both"
            and can_be_plural
            and bool(noun.german_plural)
            and (determiner is BARE or self.chance(0.3))
        )
        adjectives = adjectives_for(noun)
        adjective = self.pick(adjectives) if adjectives and self.chance(0.4 * detail) else None
        return NounPhrase(noun=noun, determiner=determiner, is_plural=is_plural, adjective=adjective)

    def relative_clause(self, noun: Noun, *, is_plural: bool, is_object: bool) -> Clause:
        """Draw a relative clause where the noun is the object (`that the man reads`) or the subject (`that sleeps`)."""
        gap = Gap(noun, is_plural)
        if not is_object:
            return self.event(gap, noun, detail=0.4)
        verb = self.pick(verbs_taking(noun))
        if self.chance(0.3) and _ANYBODY.is_any(verb.subjects):
            subject: Phrase = self.pick(_PRONOUNS)
            agent = _ANYBODY
        else:
            agent = self.pick(nouns_tagged(verb.subjects))
            while agent is noun:
                agent = self.pick(nouns_tagged(verb.subjects))
            subject = self.phrase(agent, definite_only(subject_determiners(agent)), detail=0.2)
        time, modal, is_past = self._tense(verb, agent, is_negated=False, has_time=True)
        if not is_past:
            time = None
        return Clause(subject=subject, verb=verb, objects=(gap,), time=time, modal=modal, is_past=is_past)

    def state(self, subject: Phrase, predicate: Adjective, *, detail: float = 1.0) -> Clause:
        """Draw a clause that says what something is like."""
        is_negated = can_negate(subject) and self.chance(0.15)
        time = None
        if predicate.is_state and self.chance(0.4 * detail):
            time = self.pick(times_for(BE, "habit today now past", allows_mid=not is_negated))
        return Clause(
            subject=subject,
            verb=BE,
            predicate=predicate,
            time=time,
            is_past=time is not None and time.kind == "past",
            is_negated=is_negated,
        )

    def event(
        self,
        subject: Phrase,
        agent: Noun,
        *,
        detail: float = 1.0,
        verb: Verb | None = None,
        has_time: bool = True,
        is_plain: bool = False,
    ) -> Clause:
        """Draw a clause that says what somebody does.

        Args:
            subject: The subject.
            agent: The noun that the verb is chosen for.
            detail: Scales the probability of adjectives and of a place.
            verb: The verb. None draws one.
            has_time: Whether a time may be named. The past needs one.
            is_plain: Whether negation and modals are left out.
        """
        if verb is None:
            intransitive = verbs_of(agent, with_object=False)
            transitive = verbs_of(agent, with_object=True)
            verb = self.pick(intransitive if self.chance(0.35) else transitive)
            while not (has_time or verb.times):
                verb = self.pick(transitive)
        is_negated = not is_plain and can_negate(subject) and self.chance(0.15)
        time, modal, is_past = self._tense(verb, agent, is_negated=is_negated, has_time=has_time)
        if is_plain:
            modal = None
            time = time if is_past else None
        objects = self._objects(verb, agent, is_negated=is_negated, detail=detail)
        return Clause(
            subject=subject,
            verb=verb,
            objects=objects,
            place=self._place(verb, agent, objects, is_negated=is_negated, detail=detail),
            time=time,
            modal=modal,
            is_past=is_past,
            is_negated=is_negated,
        )

    def _tense(
        self, verb: Verb, agent: Noun, *, is_negated: bool, has_time: bool
    ) -> tuple[Time | None, Modal | None, bool]:
        """Draw a time, a modal, and whether it is past. The past has a time, because English `read` can be either."""
        number = self._random.random()
        if number < 0.25 and has_time and "past" in verb.times:
            return self.pick(times_for(verb, "past", allows_mid=False)), None, True
        if 0.25 <= number < 0.45 and verb.times:
            times = times_for(verb, "today future", allows_mid=False)
            time = self.pick(times) if times and has_time and self.chance(0.5) else None
            return time, self.pick(modals_for(verb, agent, is_negated=is_negated)), False
        times = times_for(verb, "habit today now", allows_mid=not is_negated)
        return self.pick(times) if times and has_time and self.chance(0.5) else None, None, False

    def _objects(self, verb: Verb, agent: Noun, *, is_negated: bool, detail: float) -> tuple[NounPhrase, ...]:
        objects: list[NounPhrase] = []
        for index, slot in enumerate(verb.objects):
            taken = (agent, *(phrase.noun for phrase in objects))
            noun = self.pick(nouns_tagged(slot.fits))
            while noun in taken:
                noun = self.pick(nouns_tagged(slot.fits))
            determiners = object_determiners(noun, verb)
            if is_negated:
                # `Kein` fits the last object. With a preposition, or before another object, it would be odd.
                can_be_kein = not slot.german and index == len(verb.objects) - 1
                determiners = negatable_only(determiners) if can_be_kein else definite_only(determiners)
            can_be_plural = verb.quantity != "single"
            objects.append(self.phrase(noun, determiners, detail=detail, can_be_plural=can_be_plural))
        return tuple(objects)

    def _place(
        self, verb: Verb, agent: Noun, objects: tuple[NounPhrase, ...], *, is_negated: bool, detail: float
    ) -> Place | None:
        if is_negated and objects:
            # It would not be clear what is negated.
            return None
        if verb.place == "none" or not (verb.place == "direction" or self.chance(0.4 * detail)):
            return None
        preposition, noun = self.pick(places_of(verb, agent))
        if any(phrase.noun is noun for phrase in objects):
            return None
        determiners = place_determiners(noun)
        return Place(
            preposition,
            self.phrase(
                noun,
                definite_only(determiners) if is_negated else determiners,
                detail=0.6,
                can_be_plural=self.chance(0.3),
            ),
        )


def can_negate(subject: Phrase) -> bool:
    """Whether a negation after this subject has only one reading."""
    return not isinstance(subject, NounPhrase) or subject.is_definite
