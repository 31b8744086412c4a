"""Prompts in, continuations out."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from lit_transformer import SamplingSettings, SearchSettings, TextGenerator
from lit_transformer.batch import BOS_ID, NEVER_PREDICTED
from lit_transformer.errors import UserError
from tests.helpers.foreign import gpt2, save
from tests.helpers.gpt import TEXTS, write_gpt

PROMPTS = [" ".join(text.split()[:2]) for text in TEXTS[:5]]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TextGenerator:
    """In float64, where no two tokens come so close that a rounding decides between them."""
    generator = TextGenerator.load(write_gpt(tmp_path_factory.mktemp("run")), device="cpu", batch_tokens=60)
    generator.gpt.double()
    return generator


@pytest.mark.parametrize("settings", [SamplingSettings(), SearchSettings(beam_size=3, min_length=0)])
def test_a_text_begins_with_its_prompt(generator: TextGenerator, settings: SamplingSettings | SearchSettings) -> None:
    for prompt, generations in zip(
        PROMPTS, generator.generate(PROMPTS, settings, max_new_tokens=7, num_samples=3), strict=True
    ):
        assert len(generations) == 3
        for each in generations:
            assert each.text.startswith(prompt)
            assert each.text == prompt + each.continuation
            assert each.score < 0.0


def test_neither_the_others_nor_their_order_change_a_continuation(generator: TextGenerator) -> None:
    """What a prompt is drawn is known by its number, among prompts of unequal lengths."""
    together = generator.generate(PROMPTS, max_new_tokens=7, num_samples=2)
    assert len({each.text for generations in together for each in generations}) == 10
    for number, prompt in enumerate(PROMPTS, start=1):
        [alone] = generator.generate(prompt, max_new_tokens=7, num_samples=2, first_line=number)
        assert [each.text for each in alone] == [each.text for each in together[number - 1]]
    other = generator.generate(PROMPTS, SamplingSettings(seed=1), max_new_tokens=7, num_samples=2)
    assert [each.text for [each, _] in other] != [each.text for [each, _] in together]


def test_greedy_is_temperature_0_and_a_beam_of_1(generator: TextGenerator) -> None:
    drawn = generator.generate(PROMPTS, SamplingSettings(temperature=0.0), max_new_tokens=7)
    found = generator.generate(PROMPTS, SearchSettings(beam_size=1, min_length=0), max_new_tokens=7)
    assert [each.text for [each] in drawn] == [each.text for [each] in found]


def test_our_models_begin_with_bos_and_write_no_special_tokens(generator: TextGenerator) -> None:
    """With an empty prompt, too."""
    read = []
    hook = generator.gpt.embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].clone()))
    try:
        generator.generate(["", PROMPTS[0]], max_new_tokens=5, num_samples=20)
    finally:
        hook.remove()
    firsts = [tokens_NL[:, 0] for tokens_NL in read]
    assert firsts[0].tolist() == [BOS_ID] * len(firsts[0])
    assert any(tokens_NL.shape[1] > 1 and set(tokens_NL[:, 0].tolist()) == {BOS_ID} for tokens_NL in read)
    written = torch.cat([tokens_NL[:, 0] for tokens_NL in read if tokens_NL.shape[1] == 1])
    assert not set(written.tolist()) & (set(NEVER_PREDICTED) - {BOS_ID})


def test_positions_end_a_text_with_one_note(generator: TextGenerator, capsys: pytest.CaptureFixture[str]) -> None:
    generator.generate(PROMPTS, max_new_tokens=1000, num_samples=2, first_line=101)
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith("note: prompts 101")
    assert "23 positions" in note
    with pytest.raises(UserError, match=r"^prompt 8 has \d+ tokens, .* 23: "):
        generator.generate([PROMPTS[0], " ".join(TEXTS[:5])], first_line=7)


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([PROMPTS[0], 3], {}, r"^prompts\[1\] is 3 "),
        ({PROMPTS[0]}, {}, r"^prompts is of type set"),
        (PROMPTS, {"max_new_tokens": 0}, r"^max_new_tokens is 0: "),
        (PROMPTS, {"num_samples": 0}, r"^n_best is 0: "),
    ],
)
def test_what_cannot_be_continued(
    generator: TextGenerator, prompts: list[str], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generator.generate(prompts, **settings)  # type: ignore[arg-type]
    assert generator.generate([]) == []


def test_a_gpt_2_of_others(tmp_path: Path) -> None:
    """As `generate` of `transformers`: the prompt as it is, and from the separator of texts if it is empty."""
    library = Library(models.BPE({chr(97 + index): index for index in range(26)} | {"Ċ": 26, "<|endoftext|>": 27}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    oracle = save(gpt2(vocab_size=28, bos_token_id=27, eos_token_id=27), tmp_path).double().eval()
    generator = TextGenerator.load(f"hf:{tmp_path}", device="cpu")
    generator.gpt.double()
    prompts = ["abc\nd", "xyz", ""]
    for prompt, [found] in zip(
        prompts, generator.generate(prompts, SearchSettings(beam_size=1, min_length=0), max_new_tokens=9), strict=True
    ):
        ids = library.encode(prompt).ids or [27]
        expected = oracle.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=9,
            pad_token_id=27,
        )[0].tolist()
        assert found.text == library.decode([token for token in expected if token != 27])
        assert found.finished == (expected[-1] == 27)


def test_models_of_other_kinds_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"translate$"):
        TextGenerator.load(tiny_run)
    save(gpt2(), tmp_path)
    with pytest.raises(UserError, match=r"no vocabulary"):
        TextGenerator.load(f"hf:{tmp_path}")
