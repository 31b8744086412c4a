"""The German side of the demo corpus: case, agreement, declension and word order."""

from typing import Literal

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
from lit_transformer.data.demo.lexicon import NO, THE
from lit_transformer.data.demo.words import Agreement, Case

Order = Literal["subject first", "verb first", "verb last"]

_CASES: tuple[Case, ...] = ("nominative", "accusative", "dative")
# In each table, rows are m, f, n and plural (p), columns are nominative, accusative and dative.
_ARTICLE = {"m": "der den dem", "f": "die die der", "n": "das das dem", "p": "die die den"}
_RELATIVE = {**_ARTICLE, "p": "die die denen"}
# Endings. A hyphen means none.
_DER = {"m": "er en em", "f": "e e er", "n": "es es em", "p": "e e en"}
_EIN = {**_DER, "m": "- en em", "n": "- - em"}
_ADJECTIVE = {
    "weak": {"m": "e en en", "f": "e e en", "n": "e e en", "p": "en en en"},
    "mixed": {"m": "er en en", "f": "e e en", "n": "es es en", "p": "en en en"},
    "strong": _DER,
}
_CONTRACTIONS = {("in", "dem"): "im", ("in", "das"): "ins", ("zu", "dem"): "zum", ("zu", "der"): "zur"}
_AUXILIARIES: dict[str, dict[Agreement, str]] = {
    "hat": {"I": "habe", "singular": "hat", "plural": "haben"},
    "ist": {"I": "bin", "singular": "ist", "plural": "sind"},
}


def german_words(sentence: Sentence) -> list[Word]:
    """Return the words of a sentence, each with the keys of what it expresses."""
    if sentence.second is None or sentence.conjunction is None:
        return _clause(sentence.main, "main", _main_order(sentence.main))
    conjunction = Word(sentence.conjunction.german, ("conjunction",))
    is_subordinating = sentence.conjunction.is_subordinating
    second_order = "verb last" if is_subordinating else _main_order(sentence.second)
    second = [conjunction, *_clause(sentence.second, "second", second_order)]
    if sentence.is_second_first:
        # The subordinate clause takes the only place before the verb.
        return [*second, COMMA, *_clause(sentence.main, "main", "verb first")]
    main = _clause(sentence.main, "main", _main_order(sentence.main))
    return [*main, *([COMMA] if sentence.conjunction.german_comma else []), *second]


def _main_order(clause: Clause) -> Order:
    return "verb first" if clause.is_fronted else "subject first"


def _clause(clause: Clause, path: str, order: Order) -> list[Word]:
    finite, end = _verbs(clause, path)
    subject = _phrase(clause.subject, f"{path}.subject", "nominative")
    middle = _middle(clause, path)
    if order == "subject first":
        return [*subject, finite, *middle, *end]
    if order == "verb first":
        time = time_words(clause.time.german, path) if clause.time is not None and clause.is_fronted else []
        return [*time, finite, *subject, *middle, *end]
    if clause.modal is None and not clause.is_past and clause.verb.prefix:
        return [
            *_relative_object(clause, path),
            *subject,
            *middle,
            Word(clause.verb.prefix + finite.text, finite.keys),
        ]
    return [*_relative_object(clause, path), *subject, *middle, *end, finite]


def _verbs(clause: Clause, path: str) -> tuple[Word, list[Word]]:
    """Return the finite verb, and the words at the end of a main clause: infinitive, participle or separable prefix."""
    verb, agreement = clause.verb, clause.subject.agreement
    key = (f"{path}.verb",)
    _, present, perfect = verb.german.split(", ")
    if clause.modal is not None:
        first_person, third_person, plural = clause.modal.german
        forms: dict[Agreement, str] = {"I": first_person, "singular": third_person, "plural": plural}
        return Word(forms[agreement], (f"{path}.modal",)), [Word(verb.infinitive, key)]
    if clause.is_past and verb.preterite:
        return Word(verb.preterite.split()[agreement == "plural"], key), []
    if clause.is_past:
        auxiliary, participle = perfect.split()
        return Word(_AUXILIARIES[auxiliary][agreement], (f"{path}.auxiliary",)), [Word(participle, key)]
    singular = present.split()[0]
    infinitive = verb.infinitive.removeprefix(verb.prefix)
    first_person = verb.first_person or infinitive.removesuffix("n").removesuffix("e") + "e"
    forms = {"I": first_person, "singular": singular, "plural": verb.plural or infinitive}
    return Word(forms[agreement], key), [Word(verb.prefix, key)] if verb.prefix else []


def _middle(clause: Clause, path: str) -> list[Word]:
    """Return the words between the finite verb and the end.

    Time precedes objects, but follows a name, a definite recipient (`dem Kind heute ein Buch`) and, with `nicht`, all
    objects (`das Buch heute nicht`). For an indefinite object, `kein` replaces `nicht`. A place precedes objects with
    a preposition (`im Park auf den Bus`).
    """
    early: list[Word] = []
    bare: list[Word] = []
    prepositional: list[Word] = []
    has_kein = False
    for index, (phrase, slot) in enumerate(zip(clause.objects, clause.verb.objects, strict=True)):
        key = f"{path}.object{index}"
        if isinstance(phrase, Gap):
            continue
        if slot.german:
            prepositional += _with_preposition(slot.german, phrase, key, slot.case)
        elif clause.is_negated and phrase.is_indefinite:
            has_kein = True
            bare += _noun_phrase(phrase, key, slot.case, negation=f"{path}.negation")
        elif phrase.noun.is_name or (index == 0 and len(clause.objects) == 2 and phrase.is_definite):
            early = _noun_phrase(phrase, key, slot.case)
        else:
            bare += _noun_phrase(phrase, key, slot.case)
    has_time = clause.time is not None and not clause.is_fronted
    time = time_words(clause.time.german, path) if clause.time is not None and has_time else []
    place = []
    if clause.place is not None:
        preposition = clause.place.preposition
        place = _with_preposition(preposition.german, clause.place.phrase, f"{path}.place", preposition.case)
    rest = [*place, *prepositional]
    if clause.predicate is not None:
        rest.append(Word(clause.predicate.german, (f"{path}.predicate",)))
    if clause.is_negated and not has_kein:
        return [*early, *bare, *time, Word("nicht", (f"{path}.negation",)), *rest]
    return [*early, *time, *bare, *rest]


def _relative_object(clause: Clause, path: str) -> list[Word]:
    """Return the relative pronoun of a clause where the noun is an object (`dem die Frau hilft`)."""
    for index, (phrase, slot) in enumerate(zip(clause.objects, clause.verb.objects, strict=True)):
        if isinstance(phrase, Gap):
            return [_relative_pronoun(phrase, f"{path}.object{index}", slot.case)]
    return []


def _relative_pronoun(gap: Gap, path: str, case: Case) -> Word:
    return Word(_form(_RELATIVE, gap, case), (f"{path}.noun",))


def _form(table: dict[str, str], phrase: NounPhrase | Gap, case: Case) -> str:
    forms = table["p" if phrase.is_plural else phrase.noun.gender]
    return forms.split()[_CASES.index(case)].strip("-")


def _phrase(phrase: Phrase, path: str, case: Case) -> list[Word]:
    match phrase:
        case Pronoun():
            return [Word(phrase.german, (f"{path}.noun",))]
        case Gap():
            return [_relative_pronoun(phrase, path, case)]
        case NounPhrase():
            return _noun_phrase(phrase, path, case)


def _with_preposition(preposition: str, phrase: NounPhrase, path: str, case: Case) -> list[Word]:
    first, *rest = _noun_phrase(phrase, path, case)
    key = f"{path}.preposition"
    contraction = _CONTRACTIONS.get((preposition, first.text)) if phrase.determiner is THE else None
    if contraction is not None:
        return [Word(contraction, (key, *first.keys)), *rest]
    return [Word(preposition, (key,)), first, *rest]


def _noun_phrase(phrase: NounPhrase, path: str, case: Case, *, negation: str = "") -> list[Word]:
    """Return the words of a noun phrase. With the key `negation`, its determiner becomes `kein`."""
    determiner = NO if negation else phrase.determiner
    match determiner.endings:
        case "article":
            text = _form(_ARTICLE, phrase, case)
        case "der":
            text = determiner.german + _form(_DER, phrase, case)
        case "ein":
            text = determiner.german + _form(_EIN, phrase, case)
        case "none":
            text = determiner.german
    words = []
    if text:
        words.append(Word(text, (f"{path}.determiner", negation) if negation else (f"{path}.determiner",)))
    if phrase.adjective is not None:
        stem = phrase.adjective.german_stem or phrase.adjective.german
        ending = _form(_ADJECTIVE[determiner.adjective], phrase, case)
        words.append(Word(stem + ending, (f"{path}.adjective",)))
    words.append(Word(_noun(phrase, case), (f"{path}.noun",)))
    if phrase.relative is not None:
        words += [COMMA, *_clause(phrase.relative, f"{path}.relative", "verb last"), COMMA]
    return words


def _noun(phrase: NounPhrase, case: Case) -> str:
    noun = phrase.noun
    if not phrase.is_plural:
        return noun.german if case == "nominative" else noun.german_oblique or noun.german
    ends_in_n_or_s = noun.german_plural[-1] in "ns"
    return noun.german_plural if case != "dative" or ends_in_n_or_s else noun.german_plural + "n"
