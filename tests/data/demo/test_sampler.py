"""Sampled sentences: German is a function of English."""

from lit_transformer.data.demo.corpus import translate
from lit_transformer.data.demo.sampler import Sampler


def test_meanings_with_the_same_english_have_the_same_german() -> None:
    # Sampled directly, because the corpus leaves out repeated sentences.
    sampler = Sampler(5)
    translations: dict[str, str] = {}
    for _ in range(20_000):
        pair = translate(sampler.sentence())
        assert translations.setdefault(pair.english, pair.german) == pair.german
    assert len(translations) < 20_000, "no sentence came twice, so nothing was compared"
