"""Which words of the demo corpus go together, so that sentences make sense: cows do not read.

An entry that a tuple has three times is drawn three times as often.
"""

from functools import cache

from lit_transformer.data.demo.lexicon import (
    ADJECTIVES,
    BARE,
    EVERY,
    FIVE,
    MANY,
    MODALS,
    MY,
    NO,
    NOUNS,
    OUR,
    PREPOSITIONS,
    THE,
    THIS,
    THREE,
    TIMES,
    TWO,
    A,
)
from lit_transformer.data.demo.verbs import WITH_OBJECT, WITHOUT_OBJECT
from lit_transformer.data.demo.words import Adjective, Determiner, Modal, Noun, Preposition, Slot, Time, Verb

_SUBJECT = (THE,) * 10 + (A,) * 3 + (MY,) * 3 + (OUR,) * 2 + (THIS,) * 2 + (EVERY, NO, MANY, TWO, THREE, FIVE)
_OBJECT = (THE,) * 7 + (A,) * 5 + (BARE,) * 2 + (MY,) * 2 + (OUR, THIS, TWO, THREE, MANY, FIVE)
_SINGLE = (THE,) * 3 + (A,) * 3 + (MY, THIS)
_KNOWN = (THE,) * 4 + (MY, OUR, THIS)
_MASS = (THE,) * 4 + (BARE,) * 4 + (THIS,)
_PLACE = (THE,) * 8 + (A,) * 2 + (OUR,) * 2 + (MY, THIS)
HEAD_DETERMINERS = (THE,) * 8 + (A, MANY, TWO, THREE)
"""Determiners of nouns with a relative clause."""


@cache
def nouns_tagged(tags: str) -> tuple[Noun, ...]:
    return tuple(noun for noun in NOUNS if noun.is_any(tags))


@cache
def adjectives_for(noun: Noun) -> tuple[Adjective, ...]:
    """Return the attributes of a noun: lasting properties more often than passing states."""
    adjectives = predicates_for(noun)
    lasting = tuple(adjective for adjective in adjectives if not adjective.is_state)
    return () if noun.is_name else adjectives + lasting * 2


@cache
def predicates_for(noun: Noun) -> tuple[Adjective, ...]:
    """Return the predicates of a noun or name."""
    return tuple(adjective for adjective in ADJECTIVES if noun.is_any(adjective.fits))


@cache
def verbs_of(agent: Noun, *, with_object: bool) -> tuple[Verb, ...]:
    return tuple(verb for verb in (WITH_OBJECT if with_object else WITHOUT_OBJECT) if agent.is_any(verb.subjects))


@cache
def verbs_explained_by_states(agent: Noun) -> tuple[Verb, ...]:
    return tuple(verb for verb in WITHOUT_OBJECT + WITH_OBJECT if verb.reasons and agent.is_any(verb.subjects))


@cache
def verbs_taking(noun: Noun) -> tuple[Verb, ...]:
    """Return the verbs that take the noun as their only object, without a German preposition."""
    return tuple(v for v in WITH_OBJECT if len(v.objects) == 1 and not v.objects[0].german and fits(noun, v.objects[0]))


def fits(noun: Noun, slot: Slot) -> bool:
    return noun.is_any(slot.fits)


@cache
def places_of(verb: Verb, agent: Noun) -> tuple[tuple[Preposition, Noun], ...]:
    """Return the places where somebody may do something."""
    return tuple(
        (preposition, noun)
        for preposition in PREPOSITIONS
        for noun in nouns_tagged(preposition.fits)
        if preposition.kind == verb.place and noun is not agent and _can_be_at(agent, preposition, noun)
    )


def _can_be_at(agent: Noun, preposition: Preposition, noun: Noun) -> bool:
    """Whether it may be there: wild animals stay outside and away from people, and only pets lie on furniture."""
    if agent.is_any("wild") and (noun.is_any("person") or (preposition.fits == "inside" and not noun.is_any("nature"))):
        return False
    return agent.is_any("pet") or not noun.is_any("furniture")


@cache
def subject_determiners(noun: Noun) -> tuple[Determiner, ...]:
    return (THE,) if noun.is_mass else _owned(noun, _SUBJECT)


@cache
def object_determiners(noun: Noun, verb: Verb) -> tuple[Determiner, ...]:
    """Return the determiners of an object. Nobody drinks five waters or helps mere children."""
    if noun.is_mass:
        return _MASS
    determiners = {"any": _OBJECT, "single": _SINGLE, "known": _KNOWN}[verb.quantity]
    if noun.is_any("person"):
        determiners = tuple(determiner for determiner in determiners if determiner is not BARE)
    return _owned(noun, determiners)


@cache
def place_determiners(noun: Noun) -> tuple[Determiner, ...]:
    return _owned(noun, _PLACE)


def _owned(noun: Noun, determiners: tuple[Determiner, ...]) -> tuple[Determiner, ...]:
    """Leave out `my` for nouns that nobody owns, and leave little else for relatives."""
    if noun.is_name:
        return (BARE,)
    if noun.is_any("foreign"):
        return tuple(determiner for determiner in determiners if determiner not in (MY, OUR))
    if noun.is_any("kin"):
        return (MY, MY, OUR, THE)
    return determiners


@cache
def definite_only(determiners: tuple[Determiner, ...]) -> tuple[Determiner, ...]:
    """Return the definite determiners. Names have none and stay as they are."""
    return tuple(determiner for determiner in determiners if determiner in (THE, MY, OUR, THIS)) or determiners


@cache
def negatable_only(determiners: tuple[Determiner, ...]) -> tuple[Determiner, ...]:
    """Return the determiners that an object can have in a negated clause. Numbers would change what is negated."""
    return tuple(determiner for determiner in determiners if determiner in (THE, MY, OUR, THIS, A, BARE))


@cache
def times_for(verb: Verb, kinds: str, *, allows_mid: bool) -> tuple[Time, ...]:
    wanted = set(kinds.split()) & set(verb.times.split())
    times = tuple(time for time in TIMES if time.kind in wanted and (allows_mid or not time.is_mid))
    return times + tuple(time for time in times if time.kind in ("today", "now")) * 2


@cache
def modals_for(verb: Verb, agent: Noun, *, is_negated: bool) -> tuple[Modal, ...]:
    """Return the modals. Only people are obliged or allowed to do something, and only what is done on purpose."""
    return tuple(
        modal
        for modal in MODALS
        if (modal.negated or modal.needs_do or not is_negated)
        and ((agent.is_any("person") and "today" in verb.times) or modal.english in ("can", "want to", "will"))
    )
