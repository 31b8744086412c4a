import dataclasses
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_transformer import SearchSettings, Translator
from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.checkpoints.format import model_entry, save_checkpoint
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding import candidates as candidates_module
from lit_transformer.decoding.attention import Attention
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.transformer_search import SPECIAL_IDS
from lit_transformer.errors import UserError
from lit_transformer.model.attention import record_weights
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.heads import HeadMask
from lit_transformer.model.stack import DecoderState
from lit_transformer.model.transformer import Transformer

KNOWN = demo_pairs("train", num_pairs=31)
STRANGE = [pair.english for pair in demo_pairs("test")[:13]]
KINDS = ("encoder", "decoder", "cross")
VARIANTS = list(product(get_args(Norm), get_args(PositionScheme)))
every_variant = pytest.mark.parametrize(("norm", "scheme"), VARIANTS)


@pytest.fixture(scope="module")
def translator(tiny_run: Path, device_name: str) -> Translator:
    """In float64, where no two hypotheses come so close that a rounding decides between them."""
    translator = Translator.load(tiny_run, device=device_name)
    translator.transformer.double()
    return translator


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([pair.english for pair in KNOWN], vocab_size=61, character_coverage=1.0)


def untrained(tokenizer: Tokenizer, **changes: Any) -> Translator:
    """A model of three layers with every parameter random."""
    config = TransformerConfig(d_model=16, d_ff=13, num_heads=2, num_layers=3, dropout=0.0, max_positions=101)
    config = dataclasses.replace(config, **changes)
    transformer = Transformer(config, vocab_size=tokenizer.vocab_size, pad_id=PAD_ID)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return Translator(transformer, tokenizer)


def check_same(mine: Attention, theirs: Attention, atol: float = 1e-6) -> None:
    assert (mine.source, mine.target_input, mine.target_output) == (
        (theirs.source, theirs.target_input, theirs.target_output)
    )
    for kind in KINDS:
        maps, expected = getattr(mine, kind), getattr(theirs, kind)
        assert list(maps) == list(expected)
        for layer in maps:
            np.testing.assert_allclose(maps[layer], expected[layer], rtol=0.0, atol=atol)


@every_variant
def test_every_map_with_its_tokens(norm: Norm, scheme: PositionScheme, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """From a checkpoint file of any architecture."""
    model = untrained(tokenizer, norm=norm, positions=scheme).transformer
    entry = model_entry(model, Vocabularies.shared(tokenizer), source="en", target="de", step=3)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, tmp_path / "step-00000003.ckpt")
    translator = Translator.load(tmp_path, device="cpu")
    attention = translator.attention(STRANGE[0], "The cat sleeps.")
    source, target = tokenizer.encode([STRANGE[0], "The cat sleeps."])
    assert attention.source == [*tokenizer.tokens(source), "</s>"]
    assert attention.target_input == ["<s>", *tokenizer.tokens(target)]
    assert attention.target_output == [*tokenizer.tokens(target), "</s>"]
    maps = model.eval().attention_maps(torch.tensor([[*source, EOS_ID]]), torch.tensor([[BOS_ID, *target]]))
    for kind in KINDS:
        assert list(getattr(attention, kind)) == [0, 1, 2]
        for layer, weights_HLM in getattr(attention, kind).items():
            assert weights_HLM.dtype == np.float32
            np.testing.assert_allclose(weights_HLM, getattr(maps, kind)[layer][0].detach(), rtol=0.0, atol=1e-6)
            np.testing.assert_allclose(weights_HLM.sum(axis=-1), 1.0, rtol=0.0, atol=1e-5)
    for weights_HTT in attention.decoder.values():
        assert not np.triu(weights_HTT, 1).any()


class Seen(NamedTuple):
    """What a step of the search computed for one row: by layer, H x keys."""

    decoder: list[Tensor]
    cross: list[Tensor]


@dataclasses.dataclass(frozen=True)
class Watched:
    """The decoder's state together with what each row has read."""

    state: DecoderState
    read: list[tuple[int, ...]]

    def reorder(self, row_N: Tensor) -> Self:
        return type(self)(self.state.reorder(row_N), [self.read[row] for row in row_N.tolist()])

    def keep(self, sentence_B: Tensor) -> Self:
        assert sentence_B.tolist() == [0], "there is one sentence"
        return type(self)(self.state.keep(sentence_B), self.read)


@pytest.mark.parametrize("beam_size", [1, 4])
@every_variant
def test_maps_are_what_the_steps_of_beam_search_computed(
    norm: Norm, scheme: PositionScheme, beam_size: int, tokenizer: Tokenizer
) -> None:
    """Along the winning hypothesis, step by step, through every reordering of the beam."""
    translator = untrained(tokenizer, norm=norm, positions=scheme)
    transformer, seen = translator.transformer, dict[tuple[int, ...], Seen]()

    def step(token_N: Tensor, watched: Watched) -> tuple[Tensor, Watched]:
        in_self, in_cross = transformer.decoder.self_attentions, transformer.decoder.cross_attentions
        with record_weights([*in_self, *in_cross]) as weights:
            logits_NV, state = transformer.step(token_N, watched.state)
        read = [(*before, int(token)) for before, token in zip(watched.read, token_N, strict=True)]
        for row, tokens in enumerate(read):
            # The beams are queries of one sentence in cross-attention and rows in self-attention.
            seen[tokens] = Seen(
                [weights[attention][row, :, 0] for attention in in_self],
                [weights[attention][0, :, row] for attention in in_cross],
            )
        return logits_NV, Watched(state, read)

    [source] = tokenizer.encode([STRANGE[0]])
    with torch.inference_mode():
        memory = transformer.encode(torch.tensor([[*source, EOS_ID]]))
        start = Watched(transformer.start(memory, beam_size=beam_size), [()] * beam_size)
        settings = SearchSettings(beam_size=beam_size)
        limit = torch.tensor([len(source) + 1 + settings.max_extra_length])
        [[best]] = beam_search(step, start, settings=settings, max_length_B=limit, ids=SPECIAL_IDS)
    attention = translator.attention(STRANGE[0], settings=settings)
    # An untrained model hardly ever ends by itself. Then no step has predicted `</s>`.
    assert attention.target_output == [*tokenizer.tokens(best.tokens), *["</s>"] * best.finished]
    assert attention.target_input == ["<s>", *attention.target_output[:-1]]
    assert len(best.tokens) > 2
    for position in range(len(attention.target_output)):
        now = seen[(BOS_ID, *best.tokens[:position])]
        for layer in range(3):
            in_self = attention.decoder[layer][:, position, : position + 1]
            np.testing.assert_allclose(in_self, now.decoder[layer], rtol=0.0, atol=1e-5)
            np.testing.assert_allclose(attention.cross[layer][:, position], now.cross[layer], rtol=0.0, atol=1e-5)


def test_without_a_target_it_is_the_translation(translator: Translator) -> None:
    for pair in KNOWN[:3]:
        check_same(translator.attention(pair.english), translator.attention(pair.english, pair.german))


@every_variant
def test_a_batch_is_as_each_sentence_alone(norm: Norm, scheme: PositionScheme, tokenizer: Tokenizer) -> None:
    translator = untrained(tokenizer, norm=norm, positions=scheme)
    texts = [*STRANGE[:5], "", STRANGE[0] + " " + STRANGE[1]]
    targets = ["", *STRANGE[7:13]]
    alone = [translator.attention(text, target) for text, target in zip(texts, targets, strict=True)]
    for batch_tokens in (1, 67, 2048):
        batched = Translator(translator.transformer, tokenizer, batch_tokens=batch_tokens)
        together = batched.attentions(texts, targets)
        for mine, theirs in zip(together, alone, strict=True):
            check_same(mine, theirs)


def test_the_batch_does_not_change_the_translation_that_is_recorded(translator: Translator) -> None:
    texts = [*STRANGE, "", KNOWN[0].english]
    for mine, text in zip(translator.attentions(texts), texts, strict=True):
        check_same(mine, translator.attention(text), atol=1e-5)
    assert translator.attentions([]) == []


def test_nothing_is_translated_as_nothing(translator: Translator) -> None:
    for text in ("", " \u3000\t", "\u200b"):
        attention = translator.attention(text)
        assert attention.source == attention.target_output == ["</s>"]
        assert attention.target_input == ["<s>"]
        for kind in KINDS:
            assert getattr(attention, kind)[0].tolist() == [[[1.0]], [[1.0]]]


def test_chosen_layers_are_those_of_all_and_nothing_else_is_kept(tokenizer: Tokenizer) -> None:
    translator = untrained(tokenizer)
    whole = translator.attention(STRANGE[0])
    some = translator.attention(STRANGE[0], layers=[2, 0])
    for kind in KINDS:
        assert list(getattr(some, kind)) == [2, 0]
        for layer, weights in getattr(some, kind).items():
            np.testing.assert_allclose(weights, getattr(whole, kind)[layer], rtol=0.0, atol=1e-6)
            assert weights.base is None, "a view keeps the maps of the whole batch in memory"


def test_learned_positions_limit_what_can_be_recorded(tokenizer: Tokenizer) -> None:
    translator = untrained(tokenizer, positions="learned", max_positions=11)
    [*_, word] = (ids[:10] for ids in tokenizer.encode([STRANGE[0]]))
    text = tokenizer.decode([word])[0]
    attention = translator.attention(text, text)
    assert len(attention.source) == len(attention.target_input) == 11
    # An untrained model hardly ever ends by itself.
    translator.transformer.embedding.weight.data[EOS_ID] = 0.0
    cut = translator.attention(text)
    assert len(cut.target_input) == len(cut.target_output) == 11
    assert "</s>" not in cut.target_output
    with pytest.raises(UserError, match=r"^line 2 has 11 tokens, .* 10: "):
        translator.attentions(["", "a" * 11])


def test_a_text_that_is_too_long(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates_module, "MAX_SOURCE_TOKENS", 13)
    for texts, targets in ((["", "a " * 13], None), (["", ""], ["", "a " * 13])):
        with pytest.raises(UserError, match=r"^line 8 has 13 tokens, .* 12: "):
            translator.attentions(texts, targets, first_line=7)
    assert len(translator.attention("a " * 12).source) == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [1]}, r"^layer 1 .* 0 to 0$"),
        ({"layers": [0, -1]}, r"^layer -1 .* 0 to 0$"),
        ({"targets": ["a", "b"]}, r"^1 text .* 2 targets"),
    ],
)
def test_impossible_settings(translator: Translator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        translator.attentions(["a"], **options)


def test_too_little_memory(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    def maps(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(translator.transformer, "attention_maps", maps)
    with pytest.raises(UserError, match=r"memory \(CUDA .* layers .* batch_tokens: .* 2 sentences of \d+ tokens"):
        translator.attentions(STRANGE[:2], STRANGE[:2])


def test_a_model_that_computes_no_numbers(tiny_run: Path) -> None:
    broken = Translator.load(tiny_run)
    torch.nn.init.constant_(broken.transformer.embedding.weight, float("nan"))
    with pytest.raises(UserError, match=r"attention weights .* earlier checkpoint"):
        broken.attention("a", "b")


def test_a_translator_without_some_heads(translator: Translator) -> None:
    mask = HeadMask.all(translator.transformer.config)
    mask.cross[0] = False
    english = [pair.english for pair in KNOWN]
    german = [pair.german for pair in KNOWN]
    blind = translator.with_heads(mask)
    assert blind.device == translator.device
    # Without the source all sentences are the same one. The longest source lets it go on longest.
    blindly = blind.translate(english, SearchSettings(beam_size=1))
    longest = max(blindly, key=len)
    assert all(longest.startswith(text) for text in blindly)
    assert translator.translate(english) == german
