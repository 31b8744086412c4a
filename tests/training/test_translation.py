"""Validation by decoding: the samples that are shown."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from lit_transformer import SearchSettings, Translator
from lit_transformer.batch import EOS_ID
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.validation import ValidationBatches, text_filler, validation_batches
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.samples import NUM_SAMPLES, first_samples
from lit_transformer.training.translation import LitTransformer

SMALL = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1)
VOCAB_SIZE = 17


def shown(world_size: int, limit: int | None) -> list[str]:
    """The sources that are shown after a validation of at most `limit` batches per rank."""
    texts = list("bcdefghijkl")
    tokenizer: Any = SimpleNamespace(
        encode=lambda texts: [[ord(text) - ord("a") + EOS_ID] * (5 * ord(text) % 7 + 1) for text in texts],
        decode=lambda translations: [""] * len(translations),
        has_known=lambda ids: True,
    )
    vocabularies = Vocabularies.shared(tokenizer)
    batches, _ = validation_batches(texts, texts, vocabularies, batch_tokens=7)
    modules = []
    for rank in range(world_size):
        module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE)
        module.vocabularies = vocabularies
        module.on_validation_epoch_start()
        loader = ValidationBatches(batches, rank, world_size, filler=text_filler)
        for number, text_batch in enumerate(list(loader)[:limit]):
            module.validation_step(text_batch, number)
        modules.append(module)
    return [sample.source for sample in first_samples(chain.from_iterable(module.samples for module in modules))]


def test_what_translate_copies_is_copied_in_validation() -> None:
    """So validation BLEU and the BLEU of `test` are of the same translations."""
    tokenizer = Tokenizer.train(["Die Katze sieht den Hund."] * 3, vocab_size=26, character_coverage=1.0)
    texts = ["Die Katze", "", "\u2060", "😀 你"]
    batches, _ = validation_batches(texts, texts, Vocabularies.shared(tokenizer), batch_tokens=99)
    module = LitTransformer(SMALL, vocab_size=tokenizer.vocab_size).eval()
    vocabularies = Vocabularies.shared(tokenizer)
    module.vocabularies = vocabularies
    module.on_validation_epoch_start()
    for number, text_batch in enumerate(ValidationBatches(batches, 0, 1, filler=text_filler)):
        module.validation_step(text_batch, number)
    found = {sample.source: sample.translation for sample in module.samples}
    translator = Translator(module.transformer, tokenizer)
    assert found == dict(zip(texts, translator.translate(texts, SearchSettings(beam_size=1)), strict=True))
    assert [found[text] for text in texts[1:]] == ["", "", "😀 你"]


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_the_first_sentences_are_shown_whichever_rank_validates_them(world_size: int) -> None:
    """In the order of the validation set."""
    assert shown(world_size, None) == list("bcde")


def test_a_part_of_the_validation_set_shows_its_first_sentences() -> None:
    """`trainer.limit_val_batches` leaves out whole batches, which lie in the order of their lengths."""
    sources = shown(1, 4)
    assert len(sources) == NUM_SAMPLES
    assert sources == sorted(sources) != list("bcde")
