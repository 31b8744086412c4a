"""The English side of the demo corpus."""

from lit_transformer.data.demo.grammar import (
    COMMA,
    Clause,
    Gap,
    NounPhrase,
    Phrase,
    Pronoun,
    Sentence,
    Word,
    time_words,
)
from lit_transformer.data.demo.words import Agreement

_BE: dict[Agreement, tuple[str, str]] = {
    "I": ("am", "was"),
    "singular": ("is", "was"),
    "plural": ("are", "were"),
}


def english_words(sentence: Sentence) -> list[Word]:
    """Return the words of a sentence, each with the keys of what it expresses."""
    words = _clause(sentence.main, "main")
    if sentence.second is None or sentence.conjunction is None:
        return words
    conjunction = Word(sentence.conjunction.english, ("conjunction",))
    second = [conjunction, *_clause(sentence.second, "second")]
    if sentence.is_second_first:
        return [*second, COMMA, *words]
    return [*words, *([COMMA] if sentence.conjunction.english_comma else []), *second]


def _clause(clause: Clause, path: str) -> list[Word]:
    words = _phrase(clause.subject, f"{path}.subject")
    words += _verb_group(clause, path)
    for index, (phrase, slot) in enumerate(zip(clause.objects, clause.verb.objects, strict=True)):
        key = f"{path}.object{index}"
        if slot.english:
            words.append(Word(slot.english, (f"{key}.preposition" if slot.german else f"{path}.verb",)))
        if isinstance(phrase, Gap):
            words.insert(0, Word("that", (f"{key}.noun",)))
        else:
            words += _noun_phrase(phrase, key)
    if clause.predicate is not None:
        words.append(Word(clause.predicate.english, (f"{path}.predicate",)))
    if clause.place is not None:
        key = f"{path}.place"
        words += [Word(text, (f"{key}.preposition",)) for text in clause.place.preposition.english.split()]
        words += _noun_phrase(clause.place.phrase, key)
    if clause.time is not None and not clause.time.is_mid:
        time = time_words(clause.time.english, path)
        return [*time, *words] if clause.is_fronted else [*words, *time]
    return words


def _phrase(phrase: Phrase, path: str) -> list[Word]:
    match phrase:
        case Pronoun():
            return [Word(phrase.english, (f"{path}.noun",))]
        case Gap():
            return [Word("who" if phrase.noun.is_any("person") else "that", (f"{path}.noun",))]
        case NounPhrase():
            return _noun_phrase(phrase, path)


def _noun_phrase(phrase: NounPhrase, path: str) -> list[Word]:
    noun, determiner = phrase.noun.english, phrase.determiner.english
    if phrase.is_plural:
        noun = phrase.noun.english_plural or noun + "s"
        determiner = phrase.determiner.english_plural
    words = [Word(noun, (f"{path}.noun",))]
    if phrase.adjective is not None:
        words.insert(0, Word(phrase.adjective.english, (f"{path}.adjective",)))
    if determiner == "a" and words[0].text[0] in "aeiou":
        determiner = "an"
    if determiner:
        words.insert(0, Word(determiner, (f"{path}.determiner",)))
    if phrase.relative is not None:
        words += _clause(phrase.relative, f"{path}.relative")
    return words


def _verb_group(clause: Clause, path: str) -> list[Word]:
    """Return the verb with its auxiliaries, `not`, its particle, and adverbs like `often`."""
    verb, agreement = f"{path}.verb", clause.subject.agreement
    base, third_person, past, progressive = (
        [Word(text, (verb,)) for text in form.split()] for form in clause.verb.english.split(", ")
    )
    negation = [Word("not", (f"{path}.negation",))] if clause.is_negated else []
    be = Word(_BE[agreement][clause.is_past], (verb,))
    often = time_words(clause.time.english, path) if clause.time is not None and clause.time.is_mid else []
    if clause.modal is not None:
        return [*_modal(clause, path), *base]
    if clause.predicate is not None:
        return [be, *often, *negation]
    if clause.is_progressive:
        return [be, *negation, *progressive]
    if clause.is_negated:
        return [_do(clause, path), *negation, *base]
    if clause.is_past:
        return [Word(text, (*keys, f"{path}.auxiliary")) for text, keys in past]
    return [*often, *(third_person if agreement == "singular" else base)]


def _do(clause: Clause, path: str) -> Word:
    """Return the `do` of negation. It aligns with the auxiliary of a German perfect, else with `nicht` or `kein`."""
    has_auxiliary = clause.is_past and not clause.verb.preterite
    key = f"{path}.auxiliary" if has_auxiliary else f"{path}.negation"
    if clause.is_past:
        return Word("did", (key,))
    return Word("does" if clause.subject.agreement == "singular" else "do", (key,))


def _modal(clause: Clause, path: str) -> list[Word]:
    assert clause.modal is not None
    modal, negation = f"{path}.modal", f"{path}.negation"
    if not clause.is_negated:
        text = clause.modal.third_person if clause.subject.agreement == "singular" else clause.modal.english
        return [Word(part, (modal,)) for part in text.split()]
    if clause.modal.needs_do:
        rest = [Word(part, (modal,)) for part in clause.modal.english.split()]
        return [_do(clause, path), Word("not", (negation,)), *rest]
    keys = {"not": (negation,), "cannot": (modal, negation)}
    return [Word(part, keys.get(part, (modal,))) for part in clause.modal.negated.split()]
