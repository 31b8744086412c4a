"""`test` as a user runs it: scores, translations and where they are kept."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import sacrebleu

from lit_transformer import Translator, test
from lit_transformer.checkpoints.format import read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.data.demo.corpus import demo_pairs
from tests.helpers.corpora import write_folder

KNOWN = demo_pairs("train", num_pairs=31)
ENGLISH = [pair.english for pair in KNOWN]
GERMAN = [pair.german for pair in KNOWN]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Known sentences, an empty line and some that the model has never seen."""
    folder = tmp_path_factory.mktemp("commands") / "corpus"
    folder.mkdir()
    unknown = demo_pairs("test")[:5]
    for split, pairs in (("test", [*KNOWN[:7], *unknown]), ("valid", KNOWN[7:12])):
        for language in ("en", "de"):
            lines = [pair.english if language == "en" else pair.german for pair in pairs]
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in [*lines, ""]), encoding="utf-8")
    return folder


def run_test(args: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    results = test.main([str(arg) for arg in args])
    assert Path(results["translations"]).exists()
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_scores_are_those_of_sacrebleu(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "out.de"
    base = ["--checkpoint", tiny_run, "--corpus", corpus, "--cache_dir", tmp_path / "cache", "--output", output]
    out, err = run_test([*base, "--json"], capsys)
    assert out.count("\n") == 1
    scores = json.loads(out)
    assert scores.keys() >= {"bleu", "chrf", "signature", "sentences", "seconds"}
    assert f"checkpoint {tiny_run / 'checkpoints/best-step-00000120.ckpt'} (step 120)" in err.splitlines()
    hypotheses = output.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    references = (corpus / "test.de").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert len(hypotheses) == len(references) == scores["sentences"] == 13
    assert scores["empty"] == 1
    assert hypotheses[:7] == GERMAN[:7]
    assert hypotheses[12] == ""
    assert "warning" not in err
    bleu = sacrebleu.corpus_bleu(hypotheses, [references])
    assert scores["bleu"] == bleu.score
    assert 10 < bleu.score < 90
    assert scores["chrf"] == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert scores["signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert 0 < scores["seconds"] < 60
    assert scores["checkpoint"] == str(find_checkpoint(tiny_run))
    assert scores["translations"] == str(output)

    out, _ = run_test([*base, "--tokenize", "none", "--lowercase", "--beam_size", 1, "--batch_tokens", 1], capsys)
    hypotheses = output.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    bleu = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none", lowercase=True, force=True)
    assert out.startswith(f"BLEU {bleu.score:.2f}  nrefs:1|case:lc|eff:no|tok:none|")
    assert "\nchrF " in out
    assert str(output) in out


def test_the_checkpoint_s_target_language_chooses_the_tokenizer(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    content = read_checkpoint(find_checkpoint(tiny_run))
    base = [
        "--corpus",
        corpus,
        "--source",
        "en",
        "--target",
        "de",
        "--cache_dir",
        tmp_path,
        "--output",
        tmp_path / "out",
    ]
    for language, options, tokenizer in (("zh_Hans", [], "zh"), ("ja", ["--tokenize", "intl"], "intl")):
        content["lit_transformer"]["target"] = language
        save_checkpoint(content, tmp_path / f"{language}.ckpt")
        out, _ = run_test([*base, "--checkpoint", tmp_path / f"{language}.ckpt", *options], capsys)
        assert f"|tok:{tokenizer}|" in out
    (tmp_path / "out").unlink()
    with pytest.raises(SystemExit):
        run_test([*base, "--checkpoint", tmp_path / "ja.ckpt"], capsys)
    assert "tokenize ja-mecab needs the extra japanese: pip install -e '.[japanese]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "it is known before anything is translated"


def test_translations_are_kept_in_the_run(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "logs" / "version_3"
    shutil.copytree(tiny_run / "checkpoints", run / "checkpoints")
    base = ["--corpus", corpus, "--cache_dir", tmp_path / "cache"]
    saved = set()
    for checkpoint_args, split in (
        (run, "test"),
        (tmp_path, "valid"),
        (run / "checkpoints" / "step-00000040.ckpt", "validation"),
        (run / "checkpoints" / "step-00000040.ckpt", "val"),
    ):
        out, err = run_test(["--checkpoint", checkpoint_args, *base, "--split", split, "--json"], capsys)
        path = Path(json.loads(out)["translations"])
        assert path.parent == run / "translations"
        assert len(path.read_text(encoding="utf-8").splitlines()) == (13 if split == "test" else 6)
        assert ("step-00000040" in path.name) == ("step-00000040" in err) == ("step-00000040" in str(checkpoint_args))
        saved.add(path)
    assert saved == set((run / "translations").iterdir())
    assert len(saved) == 4
    # Other settings of the search: beside the first ones.
    names = set()
    for option in (["--max_extra_length", 60], ["--min_length", 0], ["--beam_size", 3]):
        out, _ = run_test(["--checkpoint", run, *base, "--split", "valid", "--json", *option], capsys)
        names.add(Path(json.loads(out)["translations"]))
    assert len(names | saved) == 7
    # An average in a run: with the others.
    Translator.load(run).save_pretrained(run / "checkpoints" / "average-1.5")
    out, _ = run_test(["--checkpoint", run / "checkpoints" / "average-1.5", *base, "--json"], capsys)
    path = Path(json.loads(out)["translations"])
    assert path.parent == run / "translations"
    assert "average-1.5" in path.name
    # A checkpoint outside a run: beside it.
    alone = tmp_path / "alone" / "mine.ckpt"
    alone.parent.mkdir()
    shutil.copy(run / "checkpoints" / "step-00000120.ckpt", alone)
    out, _ = run_test(["--checkpoint", alone, *base, "--json"], capsys)
    assert Path(json.loads(out)["translations"]).parent == alone.parent / "translations"


def test_a_former_result_is_replaced_or_kept(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.de"
    output.write_text("former\n" * 99)
    args = ["--checkpoint", tiny_run, "--corpus", corpus, "--output", output, "--cache_dir", tmp_path / "cache"]

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Translator, "stream", interrupted)
        with pytest.raises(SystemExit, match="130"):
            run_test(args, capsys)
    assert output.read_text() == "former\n" * 99
    run_test(args, capsys)
    assert len(output.read_text(encoding="utf-8").splitlines()) == 13
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out.de"]


def test_a_corpus_without_splits_is_scored_whole(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "pairs.tsv"
    sides = [(corpus / f"test.{language}").read_text(encoding="utf-8").split("\n")[:-1] for language in ("en", "de")]
    table.write_text("".join("\t".join(pair) + "\n" for pair in zip(*sides, strict=True)), encoding="utf-8")
    base = ["--checkpoint", tiny_run, "--cache_dir", tmp_path / "cache", "--output", tmp_path / "out", "--json"]
    scores = [
        json.loads(run_test([*base, "--corpus", form], capsys)[0])
        for form in (corpus, corpus / "test", f"{corpus / 'test.en'},{corpus / 'test.de'}", table)
    ]
    assert [(each["sentences"], each["bleu"]) for each in scores] == [(13, scores[0]["bleu"])] * 4
    for source in (corpus / "test.en", table):
        with pytest.raises(SystemExit):
            run_test([*base, "--corpus", corpus / "test" if source != table else table, "--output", source], capsys)
        assert str(source) in capsys.readouterr().err


def test_languages_as_the_corpus_names_them(
    tiny_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for language, name in (("en", "eng"), ("de", "deu")):
        shutil.copy(corpus / f"test.{language}", tmp_path / f"test.{name}")
    args = ["--checkpoint", tiny_run, "--corpus", tmp_path, "--output", tmp_path / "out", "--json"]
    args += ["--cache_dir", tmp_path / "cache"]
    out, _ = run_test([*args, "--source", "eng", "--target", "deu"], capsys)
    assert json.loads(out)["bleu"] > 10


def test_text_whose_scores_mislead(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens and subwords are named, in our words and not in sacreBLEU's."""
    texts = {"test.en": "the un@@ known house .", "test.de": "das Haus ist gro@@ ß ."}
    write_folder(tmp_path / "corpus", {name: f"{text}\n" * 120 for name, text in texts.items()})
    base = ["--checkpoint", tiny_run, "--corpus", tmp_path / "corpus", "--cache_dir", tmp_path / "cache"]
    output = ["--output", tmp_path / "out.de", "--beam_size", 1]
    _, err = run_test([*base, *output], capsys)
    found = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(found) == 2
    assert all(name in found[0] for name in ("test source", "test target"))
    assert "--tokenize none" in found[1]
    assert not caplog.records
    _, err = run_test([*base, *output, "--tokenize", "none"], capsys)
    assert err.count("warning: ") == 1
