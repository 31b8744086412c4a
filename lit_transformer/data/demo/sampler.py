"""Draws sentences of the demo corpus, with one method per construction."""

from dataclasses import replace

from lit_transformer.data.demo.clauses import ClauseSampler, can_negate
from lit_transformer.data.demo.grammar import (
    ALTHOUGH,
    AND,
    BECAUSE,
    BUT,
    IF,
    THAT,
    WHEN,
    Clause,
    NounPhrase,
    Sentence,
    pronoun_for,
)
from lit_transformer.data.demo.lexicon import ADJECTIVES, EVERY, NO, THE, A
from lit_transformer.data.demo.selection import (
    HEAD_DETERMINERS,
    nouns_tagged,
    predicates_for,
    subject_determiners,
    verbs_explained_by_states,
    verbs_of,
)
from lit_transformer.data.demo.verbs import BE, WITH_CLAUSE
from lit_transformer.data.demo.words import Adjective, Noun

_STATES = tuple(adjective for adjective in ADJECTIVES if adjective.is_state)
_FEELINGS = tuple(state for state in _STATES if state.english in ("happy", "sad", "angry"))
_OBSTACLES = tuple(state for state in _STATES if state.english in ("tired", "sick", "hungry"))
_THINGS = "food drink reading vehicle container opening clothing device furniture gift toy tool place plant"

_UNSPECIFIC = (A, EVERY, NO)
"""A subject with one of these may be tired, but is not black or white."""


class Sampler:
    """Draws sentences without end. The same seed gives the same sentences."""

    def __init__(self, seed: int) -> None:
        self._clauses = ClauseSampler(seed)
        self._chance = self._clauses.chance
        self._pick = self._clauses.pick

    def sentence(self) -> Sentence:
        """Draw the next sentence. About half of all sentences are one simple clause."""
        constructions = (
            (self._simple,) * 25
            + (self._description,) * 6
            + (self._with_relative_subject,) * 5
            + (self._with_relative_object,) * 3
            + (self._with_reason,) * 4
            + (self._with_feeling, self._with_condition, self._with_condition)
            + (self._with_content, self._with_content, self._coordinated, self._coordinated)
        )
        return self._pick(constructions)()

    def _simple(self) -> Sentence:
        subject, agent = self._clauses.subject()
        return self._maybe_fronted(self._clauses.event(subject, agent))

    def _description(self) -> Sentence:
        """`The small cat is tired.`"""
        if self._chance(0.6):
            subject, noun = self._clauses.subject()
        else:
            noun = self._pick(nouns_tagged(_THINGS))
            determiners = tuple(d for d in subject_determiners(noun) if d not in _UNSPECIFIC)
            subject = self._clauses.phrase(noun, determiners)
        predicates = predicates_for(noun)
        if isinstance(subject, NounPhrase) and subject.determiner in _UNSPECIFIC:
            predicates = _STATES
        predicate = self._pick(predicates)
        if isinstance(subject, NounPhrase) and not _go_together(subject.adjective, predicate):
            subject = replace(subject, adjective=None)
        return self._maybe_fronted(self._clauses.state(subject, predicate))

    def _maybe_fronted(self, clause: Clause) -> Sentence:
        can_be_fronted = clause.time is not None and not clause.time.is_mid
        return Sentence(main=replace(clause, is_fronted=can_be_fronted and self._chance(0.5)))

    def _with_relative_subject(self) -> Sentence:
        """`The cat that sleeps is black.`, `The book that the man reads is new.`"""
        is_object = self._chance(0.4)
        noun = self._head(_THINGS if is_object else "human animal")
        head = self._relativized(noun, is_object=is_object)
        if is_object or self._chance(0.7):
            return Sentence(main=self._clauses.state(head, self._pick(predicates_for(noun)), detail=0.0))
        verb = self._pick(verbs_of(noun, with_object=False))
        return Sentence(main=self._clauses.event(head, noun, detail=0.3, verb=verb, has_time=False))

    def _with_relative_object(self) -> Sentence:
        """`The woman knows the man who opens the door.` No German word may follow the relative clause."""
        subject, agent = self._clauses.subject(detail=0.5)
        verbs = verbs_of(agent, with_object=True)
        verb = self._pick(tuple(verb for verb in verbs if len(verb.objects) == 1 and not verb.prefix))
        noun = self._head(verb.objects[0].fits)
        while noun is agent:
            noun = self._head(verb.objects[0].fits)
        is_object = not noun.is_any("human animal") or self._chance(0.3)
        return Sentence(
            main=Clause(subject=subject, verb=verb, objects=(self._relativized(noun, is_object=is_object),))
        )

    def _head(self, tags: str) -> Noun:
        """Draw a noun that can have a relative clause."""
        return self._pick(tuple(noun for noun in nouns_tagged(tags) if not noun.is_any("name kin")))

    def _relativized(self, noun: Noun, *, is_object: bool) -> NounPhrase:
        head = self._clauses.phrase(noun, (THE,) if noun.is_mass else HEAD_DETERMINERS, detail=0.0)
        relative = self._clauses.relative_clause(noun, is_plural=head.is_plural, is_object=is_object)
        return replace(head, relative=relative)

    def _with_reason(self) -> Sentence:
        """`The cat sleeps because it is tired.`, where the pronoun refers to the subject."""
        noun = self._pick(nouns_tagged("animate"))
        determiners = tuple(d for d in subject_determiners(noun) if d not in (EVERY, NO))
        subject = self._clauses.phrase(noun, determiners, detail=0.5)
        verb = self._pick(verbs_explained_by_states(noun))
        conjunction = BECAUSE if self._chance(0.6) else ALTHOUGH
        reasons = tuple(state for state in _STATES if state.english in verb.reasons.split())
        obstacles = tuple(state for state in _OBSTACLES if state not in reasons)
        main = self._clauses.event(subject, noun, detail=0.3, verb=verb, is_plain=True)
        predicate = self._pick(reasons if conjunction is BECAUSE else obstacles)
        second = Clause(subject=pronoun_for(subject), verb=BE, predicate=predicate, is_past=main.is_past)
        return Sentence(main=main, conjunction=conjunction, second=second)

    def _with_feeling(self) -> Sentence:
        """`The woman is happy because the dog plays in the garden.`"""
        subject, noun = self._clauses.subject("human", detail=0.0)
        main = Clause(subject=subject, verb=BE, predicate=self._pick(_FEELINGS))
        return Sentence(main=main, conjunction=BECAUSE, second=self._event_of_another(noun))

    def _with_condition(self) -> Sentence:
        """`When the dog barks, the baby wakes up.`, `The man will sing if the woman dances.`"""
        main, second = self._two_events(is_plain=True)
        conjunction = IF if main.modal else WHEN
        return Sentence(main=main, conjunction=conjunction, second=second, is_second_first=self._chance(0.5))

    def _coordinated(self) -> Sentence:
        """`The man sings and the woman dances.`"""
        main, second = self._two_events(is_plain=False)
        return Sentence(main=main, conjunction=self._pick((AND, BUT)), second=second)

    def _with_content(self) -> Sentence:
        """`The man knows that the cat sleeps.`"""
        subject, noun = self._clauses.subject("adult", detail=0.5)
        is_negated = can_negate(subject) and self._chance(0.15)
        main = Clause(subject=subject, verb=self._pick(WITH_CLAUSE), is_negated=is_negated)
        return Sentence(main=main, conjunction=THAT, second=self._event_of_another(noun))

    def _two_events(self, *, is_plain: bool) -> tuple[Clause, Clause]:
        subject, agent = self._clauses.subject(detail=0.4)
        main = self._clauses.event(subject, agent, detail=0.3, has_time=False)
        return main, self._event_of_another(agent, has_time=False, is_plain=is_plain)

    def _event_of_another(self, agent: Noun, *, has_time: bool = True, is_plain: bool = False) -> Clause:
        subject, other = self._clauses.subject(detail=0.4)
        while other is agent:
            subject, other = self._clauses.subject(detail=0.4)
        return self._clauses.event(subject, other, detail=0.3, has_time=has_time, is_plain=is_plain)


def _go_together(attribute: Adjective | None, predicate: Adjective) -> bool:
    """Whether a noun can have both: a small cat may be tired, but a black cat is not white, and a sad one not happy."""
    return attribute is None or (predicate.is_state and not attribute.is_state)
