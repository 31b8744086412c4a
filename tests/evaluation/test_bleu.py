"""BLEU equals sacrebleu to the digit, however the sentences are split over batches and processes."""

import pickle
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args
from urllib.error import URLError

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed
from torch.multiprocessing.spawn import spawn

from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import (
    CorpusBLEU,
    Tokenization,
    check_tokenization,
    compound_split_bleu,
    score_translations,
    tokenization_of,
)

REFERENCES = [
    "Der alte Hund schläft heute unter dem großen Tisch.",
    "Die Frau, die ich kenne, liest ein Buch.",
    "Wir haben kein Geld!",
    "Er steht um 7.30 Uhr auf.",
    "Der Zug nach Berlin-Mitte fährt nicht.",
    "Ja.",
    "Ein roter Ball liegt im Garten der Nachbarn.",
]
HYPOTHESES = [
    "Der alte Hund schläft heute unter dem Tisch.",
    "Die Frau, die ich kenne, liest das Buch.",
    "",
    "Er steht um 7.30 Uhr auf.",
    "Der Zug nach Berlin-Mitte fährt heute nicht.",
    "Nein",
    "Der Ball liegt im roten Garten der Nachbarn .",
]

words = st.lists(st.sampled_from(["der", "Hund", "schläft", "Berlin-Mitte", ",", "7.30", "Hund."]), max_size=7)
pairs = st.lists(st.tuples(words.map(" ".join), words.map(" ".join)), min_size=1, max_size=6)


@given(pairs=pairs, cut=st.integers(min_value=0, max_value=6))
@settings(max_examples=200)
def test_corpus_bleu_equals_sacrebleu_to_the_digit(pairs: list[tuple[str, str]], cut: int) -> None:
    # Such short sentences often match in no 3- or 4-gram, have none at all, or are empty.
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    metric = CorpusBLEU().half()
    metric.update(hypotheses[:cut], references[:cut])
    metric.update(hypotheses[cut:], references[cut:])
    assert metric.compute().item() == sacrebleu.corpus_bleu(hypotheses, [references]).score


@pytest.mark.parametrize(
    ("hypothesis", "reference"), [("der Hund schläft nicht", "nicht schläft Hund der"), ("", "Ja.")]
)
def test_no_match_and_no_words(hypothesis: str, reference: str) -> None:
    metric = CorpusBLEU()
    metric.update([hypothesis], [reference])
    assert metric.compute().item() == sacrebleu.corpus_bleu([hypothesis], [[reference]]).score


def test_options_survive_copies_and_reset() -> None:
    metric = pickle.loads(pickle.dumps(CorpusBLEU(tokenize="none", lowercase=True)))
    metric.update(REFERENCES, REFERENCES)
    metric.reset()
    metric.update(HYPOTHESES, REFERENCES)
    expected = sacrebleu.BLEU(tokenize="none", lowercase=True).corpus_score(HYPOTHESES, [REFERENCES])
    assert metric.clone().compute().item() == expected.score


def score_part(rank: int, world_size: int, folder: Path) -> None:
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    metric = CorpusBLEU()
    # Two processes have the sentences, and a third has none.
    share = slice(rank, None, 2) if rank < 2 else slice(0)
    metric.update(HYPOTHESES[share], REFERENCES[share])
    torch.save(metric.compute(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_corpus_bleu_has_the_same_digits_on_several_processes(world_size: int, tmp_path: Path) -> None:
    spawn(score_part, args=(world_size, tmp_path), nprocs=world_size)
    scores = [torch.load(tmp_path / f"{rank}.pt").item() for rank in range(world_size)]
    assert scores == [sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score] * world_size


needs_mecab = pytest.mark.skipif(find_spec("MeCab") is None, reason="the extra `japanese` is not installed")
needs_mecab_ko = pytest.mark.skipif(find_spec("mecab_ko") is None, reason="the extra `korean` is not installed")


@pytest.mark.parametrize(
    ("tokenize", "target"),
    [
        *[("zh", code) for code in ("zh", "zh-CN", "zh_Hans", "ZHO", "zho_Hant", "cmn")],
        *[("ja-mecab", code) for code in ("ja", "jpn", "ja_JP", "jpn_Jpan")],
        *[("ko-mecab", code) for code in ("ko", "kor", "ko-KR")],
        *[("char", code) for code in ("th", "tha_Thai", "lo", "km", "my", "mya_Mymr", "bo")],
        *[("13a", code) for code in ("en", "de", "fr_FR", "vi", "fa", "ar", "hi", "", "zhx", "copy")],
    ],
)
def test_the_target_language_chooses_the_tokenizer(tokenize: str, target: str) -> None:
    assert tokenization_of(target) == tokenize


CHINESE = ["我们明天去北京，你呢？", "今天天气很好，我想去公园走一走。"]
JAPANESE = ["私は明日東京へ行きます。", "猫が庭で寝ています。"]
KOREAN = ["나는 내일 서울에 갑니다.", "고양이가 마당에서 자고 있습니다."]
THAI = ["พรุ่งนี้ฉันจะไปกรุงเทพ", "แมวนอนอยู่ในสวน"]


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        ("zh", CHINESE),
        pytest.param("ja", JAPANESE, marks=needs_mecab),
        pytest.param("ko", KOREAN, marks=needs_mecab_ko),
        ("th", THAI),
    ],
)
def test_nearly_right_sentences_without_spaces_have_a_score(target: str, texts: list[str]) -> None:
    """One character is missing in each. With 13a their score is near 0."""
    nearly = [text[:3] + text[4:] for text in texts]
    scores = score_translations(nearly, texts, tokenize=check_tokenization(tokenization_of(target)))
    assert f"tok:{tokenization_of(target)}" in scores.signature
    assert scores.bleu > 40
    assert score_translations(texts, texts, tokenize=tokenization_of(target)).bleu == pytest.approx(100)
    metric = CorpusBLEU(tokenize=tokenization_of(target))
    metric.update(nearly, texts)
    assert metric.compute().item() == scores.bleu


@pytest.mark.parametrize(
    ("tokenize", "module", "extra"),
    [("ja-mecab", "tokenizer_ja_mecab", "japanese"), ("ko-mecab", "tokenizer_ko_mecab", "korean")],
)
def test_the_extra_that_a_tokenizer_needs_is_named(
    tokenize: Tokenization, module: str, extra: str, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.{module}.MeCab", None)
    with pytest.raises(UserError, match=rf"tokenize {tokenize} .*\.\[{extra}\].*\bchar\b"):
        check_tokenization(tokenize)
    extras = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in extras["optional-dependencies"]


def test_a_tokenizer_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.download_file", refuse)
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.SACREBLEU_DIR", "/nowhere")
    for tokenize in ("flores101", "flores200", "spBLEU-1K"):
        with pytest.raises(UserError, match=rf"tokenize {tokenize} .*no network"):
            check_tokenization(tokenize)


def test_every_tokenizer_of_sacrebleu_can_be_named() -> None:
    assert set(get_args(Tokenization)) == set(sacrebleu.BLEU.TOKENIZERS)


@pytest.mark.parametrize("tokenize", ["13a", "none", "intl", "char", "zh"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_and_signatures_equal_sacrebleu(tokenize: Tokenization, lowercase: bool) -> None:
    scores = score_translations(HYPOTHESES, REFERENCES, tokenize=tokenize, lowercase=lowercase)
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase), sacrebleu.CHRF(lowercase=lowercase)
    assert scores.bleu == bleu.corpus_score(HYPOTHESES, [REFERENCES]).score
    assert scores.chrf == chrf.corpus_score(HYPOTHESES, [REFERENCES]).score
    case, version = "lc" if lowercase else "mixed", sacrebleu.__version__
    assert scores.signature == f"nrefs:1|case:{case}|eff:no|tok:{tokenize}|smooth:exp|version:{version}"
    assert scores.chrf_signature == f"nrefs:1|case:{case}|eff:yes|nc:6|nw:0|space:no|version:{version}"


def test_compounds_are_split_on_both_sides_and_nothing_is_smoothed() -> None:
    hypothesis, reference = (
        "Eine A-B-C-Waffe vom Rhein-Main-Gebiet.",
        "Die A-B-C-Waffe vom Rhein-Main-Gebiet.",
    )
    # Matches of the substitution do not overlap, so the hyphen between B and C stays.
    rest = "A ##AT##-##AT## B-C ##AT##-##AT## Waffe vom Rhein ##AT##-##AT## Main ##AT##-##AT## Gebiet ."
    expected = sacrebleu.corpus_bleu([f"Eine {rest}"], [[f"Die {rest}"]], tokenize="none", force=True).score
    assert compound_split_bleu([hypothesis], [reference]) == expected
    # Two pairs of words agree, but no three words do.
    assert compound_split_bleu(["der Hund schläft heute nicht"], ["der Hund bellt heute nicht"]) == 0.0


@pytest.mark.parametrize(
    ("hypotheses", "references", "tokenize", "message"),
    [
        (["a"], ["a", "b"], "13a", r"1 translation .* 2 references"),
        ([], [], "13a", "no sentences"),
        (["a"], ["a"], "moses", r"tokenize is 'moses': .* 13a, none"),
    ],
)
def test_mistakes_are_named(hypotheses: list[str], references: list[str], tokenize: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_translations(hypotheses, references, tokenize=tokenize)


def test_corpus_bleu_refuses_unpaired_sentences() -> None:
    with pytest.raises(UserError, match=r"1 translation .* 0 references"):
        CorpusBLEU().update(["a"], [])
