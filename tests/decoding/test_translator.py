import contextlib
import io
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece as spm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer import SamplingSettings, SearchSettings, Translator, progress
from lit_transformer.analysis.alignment import CrossHead, align
from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding import candidates as candidates_module
from lit_transformer.decoding import transformer_search
from lit_transformer.decoding.devices import allow_tf32, inference, moved
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.translations import Translation
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.heads import HeadMask
from lit_transformer.model.transformer import Transformer
from tests.helpers.processes import fork, status_of
from tests.helpers.vocabularies import with_renumbered_source

KNOWN = demo_pairs("train", num_pairs=31)
STRANGE = [pair.english for pair in demo_pairs("test")[:13]]


@pytest.fixture(scope="module")
def translator(tiny_run: Path, device_name: str) -> Translator:
    """In float64, where no two hypotheses come so close that a rounding decides between them."""
    translator = Translator.load(tiny_run, device=device_name)
    translator.transformer.double()
    return translator


def test_what_was_learnt_comes_out_in_the_order_of_the_input(translator: Translator) -> None:
    german = translator.translate([pair.english for pair in KNOWN])
    assert german == [pair.german for pair in KNOWN]
    assert translator.translate([pair.english for pair in reversed(KNOWN)]) == german[::-1]


@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_batch_does_not_change_a_translation(translator: Translator, beam_size: int) -> None:
    texts = [*STRANGE, KNOWN[0].english, "", STRANGE[0] + " " + STRANGE[1]]
    search = SearchSettings(beam_size=beam_size)
    alone = [translator.translate([text], search)[0] for text in texts]
    assert len(set(alone)) > 3  # else it would be no test
    for batch_tokens in (1, 37, 2048):
        batched = Translator(
            translator.transformer, translator.tokenizer, device=str(translator.device), batch_tokens=batch_tokens
        )
        assert batched.translate(texts, search) == alone
    repeated = translator.translate(texts + texts[::-1], search)
    assert repeated == alone + alone[::-1]


def test_a_sample_depends_on_seed_and_line_only(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on batches nor on chunks, also if a line before it is translated in parts."""
    texts = [" ".join(STRANGE[:5]), *STRANGE, "", *STRANGE]
    search = SearchSettings(sampling=SamplingSettings(temperature=1.5, seed=3), max_extra_length=9)
    monkeypatch.setattr(candidates_module, "MAX_SOURCE_TOKENS", 31)
    together = translator.translate(texts, search)
    assert translator.translate(texts, search) == together
    for batch_tokens in (1, 99):
        batched = Translator(
            translator.transformer, translator.tokenizer, device=str(translator.device), batch_tokens=batch_tokens
        )
        chunks = list(batched.stream([texts[:3], texts[3:10], texts[10:]], search))
        assert [best[0].text for chunk in chunks for best in chunk] == together
    later = translator.candidates(texts[5:], replace(search, n_best=1), first_line=6)
    assert [best[0].text for best in later] == together[5:]
    assert together[1:14] != together[15:], "another line, another sample"
    assert translator.translate(texts, replace(search, sampling=SamplingSettings(seed=4))) != together


def test_samples_are_independent_and_equal_ones_count_once(translator: Translator) -> None:
    search = SearchSettings(sampling=SamplingSettings(temperature=1.5), n_best=5, max_extra_length=9)
    [found] = translator.candidates([STRANGE[0]], search)
    assert 1 < len(found) <= 5
    assert len({candidate.text for candidate in found}) == len(found)
    [known] = translator.candidates([KNOWN[0].english], replace(search, sampling=SamplingSettings(temperature=0.01)))
    assert [candidate.text for candidate in known] == [KNOWN[0].german]
    assert translator.translate([STRANGE[0]], search) == [found[0].text], "the first sample, however many there are"


def test_the_source_has_its_own_vocabulary(translator: Translator) -> None:
    """Its ids are others, and everything else is the same."""
    own = with_renumbered_source(translator)
    texts, settings = [KNOWN[0].english, "", *STRANGE], SearchSettings(beam_size=3, n_best=3)
    assert own.vocabularies.source.encode(texts) != translator.tokenizer.encode(texts)
    found, expected = (
        [[candidate.text for candidate in candidates] for candidates in each.candidates(texts, settings)]
        for each in (own, translator)
    )
    assert found == expected
    for targets in (None, [pair.german for pair in KNOWN[: len(texts)]]):
        for mine, theirs in zip(own.attentions(texts, targets), translator.attentions(texts, targets), strict=True):
            assert (mine.source, mine.target_input, mine.target_output) == (
                theirs.source,
                theirs.target_input,
                theirs.target_output,
            )
            np.testing.assert_allclose(mine.cross[0], theirs.cross[0], rtol=0.0, atol=1e-6)
    mask = HeadMask.all(translator.transformer.config)
    mask.cross[0, 1] = False
    assert own.with_heads(mask).translate(texts) == translator.with_heads(mask).translate(texts)


def test_the_vocabularies_must_be_the_model_s(translator: Translator) -> None:
    own = with_renumbered_source(translator)
    tokenizer = translator.tokenizer
    smaller = Tokenizer.train([pair.english for pair in KNOWN], vocab_size=97, character_coverage=1.0)
    for transformer, wrong in (
        (own.transformer, tokenizer),
        (own.transformer, Vocabularies(smaller, tokenizer)),
        (own.transformer, Vocabularies(own.vocabularies.source, smaller)),
        (translator.transformer, own.vocabularies),
        (translator.transformer, smaller),
    ):
        with pytest.raises(UserError, match=r"vocab_size \d+ and source_vocab_size"):
            Translator(transformer, wrong)


def test_text_without_tokens_gives_nothing(translator: Translator) -> None:
    nothing = ["", " ", "\t \u3000", "\n", "\u2028\u0085", "\u200b", "\ufeff", "\u2060", "\ufe0f \u3164", "\x00\x07"]
    assert translator.translate([*nothing, KNOWN[3].english]) == [""] * len(nothing) + [KNOWN[3].german]
    assert translator.candidates([""], SearchSettings(n_best=3)) == [[Translation("", 0.0, finished=True)]]
    assert translator.translate([]) == []


def test_text_without_known_characters_is_copied(
    translator: Translator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model would invent a sentence for it, the same one for all."""
    texts = ["😀", " 你好 \u2028 ☃\ufe0f ", "▁", KNOWN[3].english, "\u2060", "\udc80"]
    # Spaces around a text stay, and line ends do not.
    expected = ["😀", " 你好   ☃\ufe0f ", "▁", KNOWN[3].german, "", "?"]
    found = translator.candidates(texts, SearchSettings(n_best=2), first_line=101)
    assert [best[0].text for best in found] == expected
    assert [best[0].score for best in found if len(best) == 1] == [0.0] * 5
    assert re.fullmatch(r"note: .* lines 101, 102, 103, 106\b.*\n", capsys.readouterr().err)
    # A part of a long text is not invented, either.
    monkeypatch.setattr(candidates_module, "MAX_SOURCE_TOKENS", 3)
    assert translator.translate(["😀 😀 😀 😀"]) == ["😀 😀 😀 😀"]


def test_unknown_characters_are_named(translator: Translator, capsys: pytest.CaptureFixture[str]) -> None:
    english, german = KNOWN[3].english, KNOWN[3].german
    assert translator.translate([english, "", "😀", f"😀{english}", f"你😀 {english}"])[:3] == [german, "", "😀"]
    left_out, copied = capsys.readouterr().err.splitlines()
    assert left_out.startswith("note: ")
    assert re.search(r" 2 of 5 lines .*: 😀 2, 你 1 .* line 4\b", left_out)
    assert re.search(r" line 3\b", copied)
    # Attention shows them where they are.
    attention = translator.attention(f"😀{english}", "Die 你好")
    assert attention.source[:2] == ["▁", "<unk:😀>"]
    assert attention.target_input[-2:] == ["▁", "<unk:你好>"]
    assert attention.target_output[-3:] == ["▁", "<unk:你好>", "</s>"]
    assert capsys.readouterr().err == ""
    for text, source in (("😀", ["▁", "<unk:😀>", "</s>"]), ("\u2060", ["</s>"])):
        attention = translator.attention(text)
        assert (attention.source, attention.target_output) == (source, ["</s>"])


def test_links_of_unknown_and_empty_text(translator: Translator) -> None:
    at = CrossHead(0, None, "said")
    [unknown, empty] = align(translator, ["😀 你好", "\u200b"], ["Das 😀", "Das"], at)
    assert {target for _, target in unknown} == {0, 1}
    assert empty == frozenset()


@given(st.lists(st.text(max_size=11), max_size=5))
@settings(max_examples=20)
def test_any_text_gives_one_line(translator: Translator, texts: list[str]) -> None:
    """Surrogates, control characters, unassigned code points: `st.text` makes all of them."""
    german = translator.translate(texts, SearchSettings(beam_size=1))
    assert len(german) == len(texts)
    assert all(len(line.splitlines()) <= 1 for line in german)


def test_n_best(translator: Translator) -> None:
    found = translator.candidates(STRANGE, SearchSettings(n_best=3))
    assert any(best[0].text != best[1].text for best in found)
    for text, best in zip(STRANGE, found, strict=True):
        scores = [candidate.score for candidate in best]
        assert len(best) == 3
        assert scores == sorted(scores, reverse=True)
        assert best[0].text == translator.translate([text])[0]


def test_candidates_have_different_texts(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text can be split into tokens in several ways. The best of them counts, and others take their places."""
    decode = translator.tokenizer.decode
    monkeypatch.setattr(translator.tokenizer, "decode", lambda ids: [text[:9] for text in decode(ids)])
    everything = translator.candidates(STRANGE, SearchSettings(beam_size=9, n_best=9))
    assert min(map(len, everything)) < 9
    for n_best in (1, 2, 3):
        found = translator.candidates(STRANGE, SearchSettings(beam_size=9, n_best=n_best))
        for mine, theirs in zip(found, everything, strict=True):
            assert len({each.text for each in mine}) == len(mine)
            assert [each.text for each in mine] == [each.text for each in theirs[:n_best]]
            assert [each.score for each in mine] == pytest.approx([each.score for each in theirs[:n_best]])


def test_translations_that_are_cut(translator: Translator, capsys: pytest.CaptureFixture[str]) -> None:
    """At the number of tokens of the source. A note names the lines, and attention has no `</s>` and no row for it."""
    english = [pair.english for pair in KNOWN]
    settings = SearchSettings(beam_size=1, max_extra_length=0)
    found = translator.candidates(english, settings, first_line=101)
    encoded = zip(*map(translator.tokenizer.encode, (english, [pair.german for pair in KNOWN])), strict=True)
    fits = [len(target) <= len(source) for source, target in encoded]
    assert [best.finished for [best] in found] == fits
    cut = [number for number, finished in enumerate(fits, start=101) if not finished]
    assert len(KNOWN) > len(cut) > 5
    error = capsys.readouterr().err
    assert re.fullmatch(rf"note: lines {cut[0]}, {cut[1]}, .* {len(cut) - 5} more.*max_extra_length is 0.*\n", error)
    for pair, finished, [best] in zip(KNOWN, fits, found, strict=True):
        assert pair.german.startswith(best.text)
        attention = translator.attention(pair.english, settings=settings)
        assert (attention.target_output[-1] == "</s>") == finished
        assert len(attention.target_output) == len(attention.target_input) == attention.cross[0].shape[1]
    assert capsys.readouterr().err.count("note: line 1: ") == len(cut)


def test_a_long_text_is_translated_in_parts(
    translator: Translator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = translator.tokenizer.encode
    longest = max(len(ids) for ids in encode([pair.english for pair in KNOWN]))
    # A sentence of the greatest length fills a part, so that the cuts fall between sentences.
    whole = next(pair for pair in KNOWN if len(encode([pair.english])[0]) == longest)
    monkeypatch.setattr(candidates_module, "MAX_SOURCE_TOKENS", longest + 1)
    texts = ["", " ".join([whole.english] * 3), KNOWN[0].english]
    found = translator.candidates(texts, SearchSettings(n_best=2), first_line=101)
    assert [best[0].text for best in found] == ["", " ".join([whole.german] * 3), KNOWN[0].german]
    assert [len(best) for best in found] == [1, 2, 2]
    # The second best has the second best translation of one part.
    part = translator.candidates([whole.english], SearchSettings(n_best=2))[0]
    expected = [3 * part[0].score, 2 * part[0].score + part[1].score]
    assert [each.score for each in found[1]] == pytest.approx(expected, rel=1e-4)
    assert sorted(found[1][1].text.split()) == sorted(f"{whole.german} {whole.german} {part[1].text}".split())
    assert re.fullmatch(r"note: .*line 102 .* 3 parts\n", capsys.readouterr().err)


def test_long_work_is_announced(
    translator: Translator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it begins, and then from time to time: a line of two megabytes takes minutes."""
    monkeypatch.setattr(candidates_module, "MAX_SOURCE_TOKENS", 5)
    monkeypatch.setattr(progress, "MOST_SECONDS_PER_LINE", -1.0)
    monkeypatch.setattr(progress, "LARGE_SHARE", 2.0)
    searched = 0

    def search(*args: Any, **options: Any) -> Any:
        nonlocal searched
        searched += 1
        assert capsys.readouterr().err.startswith("note: line 1 " if searched == 1 else "translating: ")
        return original(*args, **options)

    original = transformer_search.search_batch
    monkeypatch.setattr(transformer_search, "search_batch", search)
    one_by_one = Translator(translator.transformer, translator.tokenizer, device=str(translator.device), batch_tokens=1)
    one_by_one.translate([STRANGE[0], "a"])
    assert searched > 2


@pytest.mark.parametrize("text", [KNOWN[0].english, ""])
def test_one_text_has_one_translation(translator: Translator, text: str) -> None:
    """Not one per letter."""
    assert translator.translate(text) == translator.translate([text])[0]
    assert translator.candidates(text) == translator.candidates([text])[0]


def test_generators_and_columns(translator: Translator) -> None:
    english, german = ([getattr(pair, name) for pair in KNOWN[:3]] for name in ("english", "german"))
    for texts in (tuple(english), (text for text in english), np.array(english)):
        assert translator.translate(texts) == german
    assert len(translator.attentions((text for text in english), (text for text in german))) == 3


@pytest.mark.parametrize("wrong", [["a", None], ["a", 7], ["a", "b\nc"]])
def test_texts_that_are_none(translator: Translator, wrong: Any) -> None:
    for method in (translator.translate, translator.candidates, translator.attentions):
        with pytest.raises(UserError, match=r"^texts\[1\] "):
            method(wrong)
    with pytest.raises(UserError, match=r"^targets\[1\] "):
        translator.attentions(["a", "b"], wrong)
    with pytest.raises(UserError, match=r"^targets is of type str"):
        translator.attentions(["a"], "a")
    for text, target, name in ((wrong, None, "text"), ("a", wrong, "target")):
        with pytest.raises(UserError, match=f"^{name} is "):
            translator.attention(text, target)


def test_candidates_are_as_many_as_the_beam_holds(translator: Translator) -> None:
    text = STRANGE[0]
    for search in (SearchSettings(), SearchSettings(beam_size=3)):
        found = translator.candidates(text, search)
        assert found == translator.candidates(text, replace(search, n_best=search.beam_size))
        assert len(found) > 1
    assert len(translator.candidates(text, SearchSettings(n_best=1))) == 1


def test_lost_sentences_are_named(translator: Translator, capsys: pytest.CaptureFixture[str]) -> None:
    """The model has learned single sentences by heart."""
    two = f"{KNOWN[0].english} {KNOWN[1].english}"
    for ask in (lambda: translator.translate(["", two]), lambda: translator.attentions(["", two])):
        ask()
        assert re.fullmatch(r"note: line 2: .* fewer sentences .*\n", capsys.readouterr().err)
    translator.translate([KNOWN[0].english, KNOWN[1].english])
    assert capsys.readouterr().err == ""


def test_learned_positions_limit_the_parts_and_the_output() -> None:
    tokenizer = Tokenizer.train([pair.english for pair in KNOWN], vocab_size=61, character_coverage=1.0)
    config = TransformerConfig(
        d_model=8, d_ff=8, num_heads=2, num_layers=1, positions="learned", max_positions=7, dropout=0.0
    )
    translator = Translator(Transformer(config, vocab_size=61, pad_id=PAD_ID), tokenizer)
    assert len(translator.translate([pair.english for pair in KNOWN[:5]], SearchSettings(beam_size=2))) == 5


def test_tokens_that_end_a_line_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary with tokens for single bytes can spell every character, line ends among them."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9),
        model_writer=model,
        model_type="bpe",
        vocab_size=266,
        byte_fallback=True,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    tokenizer = Tokenizer(model.getvalue())
    lines = "x\ny\r\nz\u2028\u0085\x0b\x0c\x1cw"
    # As SentencePiece lays them out: the 256 bytes follow the four special tokens.
    bytes_of_lines = [4 + byte for byte in lines.encode()]
    assert tokenizer.decode([bytes_of_lines]) == [lines]
    monkeypatch.setattr(transformer_search, "search_batch", lambda *_, **__: [[Hypothesis(bytes_of_lines, -1.0, [])]])
    config = TransformerConfig(d_model=8, d_ff=8, num_heads=2, num_layers=1)
    translator = Translator(Transformer(config, vocab_size=266, pad_id=PAD_ID), tokenizer)
    [german] = translator.translate(["a b"])
    assert german.split() == ["x", "y", "z", "w"]
    assert len(german.splitlines()) == 1


def test_a_batch_without_tokens(translator: Translator) -> None:
    with pytest.raises(UserError, match=r"^batch_tokens is 0: "):
        Translator(translator.transformer, translator.tokenizer, batch_tokens=0)


@pytest.mark.parametrize("device", ["", "tpu9", "meta", "cpu:x", "cuda:99", "hpu"])
def test_devices_that_cannot_be_used(translator: Translator, device: str) -> None:
    with pytest.raises(UserError, match=r"^device '.*' cannot be used here: .*; give cpu") as error:
        Translator(translator.transformer, translator.tokenizer, device=device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_model_that_computes_no_numbers(tiny_run: Path, beam_size: int) -> None:
    broken = Translator.load(tiny_run)
    torch.nn.init.constant_(broken.transformer.embedding.weight, 1e38)
    with pytest.raises(UserError, match=r"scores .* earlier checkpoint"):
        broken.translate(STRANGE, SearchSettings(beam_size=beam_size))


def test_too_little_memory(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(transformer_search, "search_batch", search)
    with pytest.raises(UserError, match=r"memory \(CUDA .* beam_size 4 or batch_tokens: .* 2 sentences"):
        translator.translate([KNOWN[0].english, KNOWN[1].english])


def test_tf32_is_for_gpus() -> None:
    """On some CPUs the same setting would change products."""
    former = torch.get_float32_matmul_precision()
    try:
        allow_tf32(torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == former == "highest"
        allow_tf32(torch.device("cuda"))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(former)


@pytest.mark.parametrize("training", [True, False])
def test_the_caller_s_model_stays_as_it_is(translator: Translator, training: bool) -> None:
    """It may be in training, with parts that are not, and translating leaves nothing that training could not use."""
    config = TransformerConfig(d_model=8, d_ff=8, num_heads=2, num_layers=1, dropout=0.9)
    size = translator.tokenizer.vocab_size
    transformer = Transformer(config, vocab_size=size, pad_id=PAD_ID).to(translator.device).train(training)
    transformer.encoder.eval()
    modes = {name: part.training for name, part in transformer.named_modules()}
    mine = Translator(transformer, translator.tokenizer, device=str(translator.device))
    assert mine.translate(STRANGE) == mine.translate(STRANGE), "dropout is off"
    mine.attention(STRANGE[0], KNOWN[0].german)
    assert {name: part.training for name, part in transformer.named_modules()} == modes
    ids = torch.tensor([[5, 6, EOS_ID]], device=translator.device)
    transformer(ids, ids).sum().backward()
    assert all(weight.grad is not None for weight in transformer.parameters())


def test_threads_share_a_model_that_is_being_trained() -> None:
    """The first one to end its computation does not turn on dropout for the other."""
    model = torch.nn.Dropout().train()
    of_other = contextlib.ExitStack()
    with ThreadPoolExecutor(max_workers=1) as other:
        other.submit(of_other.enter_context, inference(model)).result()
        with inference(model):
            other.submit(of_other.close).result()
            assert not model.training
    assert model.training


def test_a_model_on_another_device_is_copied() -> None:
    """Each weight once, so that tied ones stay tied, and without its gradient."""
    config = TransformerConfig(d_model=8, d_ff=8, num_heads=2, num_layers=1)
    transformer = Transformer(config, vocab_size=31, pad_id=PAD_ID).requires_grad_(False)
    there = moved(transformer, torch.device("meta"))
    assert {weight.device.type for weight in [*there.parameters(), *there.buffers()]} == {"meta"}
    assert {weight.device.type for weight in [*transformer.parameters(), *transformer.buffers()]} == {"cpu"}
    assert [(name, weight.shape, weight.requires_grad) for name, weight in there.named_parameters()] == [
        (name, weight.shape, False) for name, weight in transformer.named_parameters()
    ]
    assert there.state_dict().keys() == transformer.state_dict().keys()
    assert moved(transformer, torch.device("cpu")) is transformer


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="no processes are forked here")
def test_a_forked_process_translates_after_its_parent(tiny_run: Path, tmp_path: Path) -> None:
    """The parent's threads of OpenMP are not in the child, which must not wait for them."""

    def translate() -> int:
        torch.set_num_threads(2)
        translator = Translator.load(tiny_run, device="cpu")
        torch.ones(512, 512) @ torch.ones(512, 512)  # uses both threads, as a larger model does
        german = translator.translate(STRANGE)
        child = fork(lambda: int(translator.translate(STRANGE) != german))
        (tmp_path / "child").write_text(str(child))
        return status_of(child)

    try:
        assert status_of(fork(translate)) == 0
    finally:
        if (tmp_path / "child").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("setting", ["float64", "bfloat16", "meta", "inference"])
def test_the_caller_s_defaults_do_not_matter(setting: str, tiny_run: Path) -> None:
    """Neither the default type and device of new tensors nor a block without gradients."""
    former = torch.get_default_dtype()
    blocks: dict[str, Any] = {"meta": torch.device("meta"), "inference": torch.inference_mode()}
    try:
        if setting in ("float64", "bfloat16"):
            torch.set_default_dtype(getattr(torch, setting))
        with blocks.get(setting, contextlib.nullcontext()):
            translator = Translator.load(tiny_run, device="cpu")
            assert translator.translate([KNOWN[0].english]) == [KNOWN[0].german]
            assert translator.attention(KNOWN[0].english, KNOWN[0].german).cross[0].dtype == "float32"
        assert {weight.dtype for weight in translator.transformer.parameters()} == {torch.float32}
    finally:
        torch.set_default_dtype(former)
