"""The choices of words: there are enough for a large corpus."""

from lit_transformer.data.demo.selection import (
    adjectives_for,
    nouns_tagged,
    object_determiners,
    subject_determiners,
)
from lit_transformer.data.demo.verbs import WITH_OBJECT
from lit_transformer.data.demo.words import Determiner, Noun


def test_the_grammar_makes_over_a_million_sentences() -> None:
    # Counting one construction is enough: a subject and a verb with one object.
    total = 0
    for act in {verb.english: verb for verb in WITH_OBJECT if len(verb.objects) == 1}.values():
        agents, objects = nouns_tagged(act.subjects), nouns_tagged(act.objects[0].fits)
        subjects = {agent: num_phrases(agent, subject_determiners(agent)) for agent in agents}
        for target in objects:
            count = num_phrases(target, object_determiners(target, act))
            total += count * sum(number for agent, number in subjects.items() if agent is not target)
    assert total > 1_000_000


def num_phrases(head: Noun, determiners: tuple[Determiner, ...]) -> int:
    return len(set(determiners)) * (1 + len(set(adjectives_for(head))))
