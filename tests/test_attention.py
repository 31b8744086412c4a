"""The command `attention` as a user runs it."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lit_transformer import Translator, attention
from lit_transformer.__main__ import main
from lit_transformer.analysis.maps import KINDS, maps_of
from lit_transformer.checkpoints.descendants import descendant_entry
from lit_transformer.checkpoints.format import MODEL_ENTRY, WEIGHTS_PREFIX, save_checkpoint
from lit_transformer.checkpoints.names import step_path
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT
from tests.helpers.foreign import MAKE, save
from tests.helpers.tokenizers_of_others import byte_level, word_piece

ENGLISH = [pair.english for pair in demo_pairs("train", num_pairs=31)]
START = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "html": b"<!doctype html>", "json": b"["}


def show(run: Path, output: Path, *args: object) -> bytes:
    attention.main(["--checkpoint", str(run), "--output", str(output), *map(str, args)])
    return output.read_bytes()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "html", "json", "PNG"])
def test_the_name_says_what_is_written(
    tiny_run: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / f"map.{ending}"
    assert show(tiny_run, output, "--text", ENGLISH[0]).startswith(START[ending.lower()])
    assert capsys.readouterr() == (f"written: {output}\n", "")
    # Once more, in place of the first, and nothing beside it.
    show(tiny_run, output, "--text", ENGLISH[1])
    assert list(output.parent.iterdir()) == [output]


def test_numbers_are_those_of_the_translator(tiny_run: Path, tmp_path: Path) -> None:
    targets = ["Die Katze schläft.", ""]
    written = json.loads(show(tiny_run, tmp_path / "a.json", "--text", *ENGLISH[:2], "--target", *targets))
    translator = Translator.load(tiny_run)
    for sentence, text, target in zip(written, ENGLISH, targets, strict=False):
        expected = translator.attention(text, target)
        assert list(sentence) == ["source", "target", *KINDS]
        assert (sentence["source"], sentence["target"]) == (text, target)
        for kind in KINDS:
            layers, queries, keys = maps_of(expected, kind)
            assert {**sentence[kind], "weights": None} == {
                "queries": queries,
                "keys": keys,
                "layers": [1],
                "weights": None,
            }
            np.testing.assert_allclose(sentence[kind]["weights"], list(layers.values()), atol=1e-6)
    # Without a target it is the model's own translation.
    [own] = json.loads(show(tiny_run, tmp_path / "own.json", "--text", ENGLISH[0], "--layers", 1))
    said = "".join(own["cross"]["queries"][:-1]).replace("\u2581", " ").strip()
    assert said == translator.translate(ENGLISH[:1])[0]


def test_every_picture_can_be_had(tiny_run: Path, tmp_path: Path) -> None:
    """Each differs from all the others."""
    choices: list[Any] = [
        *[["--kind", kind] for kind in (*KINDS, "all")],
        ["--words"],
        ["--dpi", 50],
        *[["--figure", figure] for figure in ("layers", "rollout", "entropy")],
        *[["--layers", 1, "--head", head] for head in (1, 2)],
        ["--figure", "rollout", "--kind", "encoder"],
    ]
    pictures = {show(tiny_run, tmp_path / "a.png", "--text", ENGLISH[0], *choice) for choice in choices}
    assert len(pictures) == len(choices)


def test_a_picture_has_as_many_pixels_as_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    picture = show(tiny_run, tmp_path / "a.png", "--text", ENGLISH[0], "--size", "1920x1080", "--dpi", 200)
    assert Image.open(BytesIO(picture)).size == (1920, 1080)


def test_words_in_place_of_tokens(tiny_run: Path, tmp_path: Path) -> None:
    [written] = json.loads(show(tiny_run, tmp_path / "a.json", "--text", ENGLISH[0], "--words"))
    assert written["encoder"]["keys"] == [*ENGLISH[0].split(), "</s>"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--output", "PLACE/map.gif"], r"--output PLACE/map\.gif: .*\.html, \.json, \.png, \.svg, \.pdf"),
        (["--output", "PLACE/map"], r"must end in "),
        (["--output", "PLACE/folder.png"], r"cannot write PLACE/folder\.png: it is a folder; .*output"),
        (["--output", "PLACE/file/map.png"], r"cannot write PLACE/file/map\.png: .*output"),
        (["--text", "one", "two"], r"--text has 2 sentences: a picture shows one; \.html and \.json"),
        (["--text", "a " * 2000], r"line 1 "),
        (["--target", "one", "two"], r"1 .*2 targets"),
        (["--layers", "0"], r"--layers 0: the model has layers 1 to 1"),
        (["--layers", "2"], r"--layers 2: the model has layers 1 to 1"),
        (["--head", "1"], r"--head 1: .*--layers"),
        (["--head", "3", "--layers", "1"], r"no head 3: layer 1 has 2, counted from 1"),
        (["--head", "0", "--layers", "1"], r"no head 0"),
        (["--size", "wide"], r"--size wide"),
        (["--size", "300x200"], r"size is "),
        (["--dpi", "0"], r"--dpi 0"),
        (["--kind", "self"], r"--kind"),
        (["--beam_size", "0"], r"beam_size is 0"),
    ],
)
def test_mistakes(
    tiny_run: Path, tmp_path: Path, args: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    former = tmp_path / "map.png"
    former.write_text("former")
    given = ["--checkpoint", str(tiny_run), "--text", ENGLISH[0], "--output", str(former), *args]
    with pytest.raises(SystemExit) as stopped:
        attention.main([arg.replace("PLACE", str(tmp_path)) for arg in given])
    assert stopped.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: .*{complaint.replace('PLACE', re.escape(str(tmp_path)))}.*\n", error)
    assert former.read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png", "map.png"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a GPT-2, a BERT and a T5 that `transformers` wrote."""
    folder = tmp_path_factory.mktemp("others")
    for name, tokenizer in (("gpt2", byte_level()), ("bert", word_piece()), ("t5", byte_level())):
        tokenizer.save_pretrained(folder / name)
        save(MAKE[name](vocab_size=len(tokenizer)), folder / name)
    return folder


@pytest.mark.parametrize(("name", "kind"), [("gpt2", "decoder"), ("bert", "encoder")])
def test_a_model_of_others(others: Path, tmp_path: Path, name: str, kind: str) -> None:
    folder = others / name
    prefixed = Path(f"hf:{folder}")
    text = "The cats sleep."
    for ending in ("html", "png"):
        shown = show(prefixed, tmp_path / f"map.{ending}", "--text", text, "--words")
        assert shown.startswith(START[ending])
    [written] = json.loads(show(folder, tmp_path / "a.json", "--text", text, "--layers", 2))
    assert list(written) == ["text", kind]
    assert written[kind]["layers"] == [2]
    # The kind need not be named.
    pictures = [["--kind", kind], [], ["--kind", "all"]]
    assert len({show(folder, tmp_path / "a.png", "--text", text, *choice) for choice in pictures}) == 1


def test_a_model_of_others_with_two_stacks(others: Path, tmp_path: Path) -> None:
    options = ["--text", "The cat.", "--target", "Die Katze."]
    [written] = json.loads(show(others / "t5", tmp_path / "a.json", *options))
    assert list(written) == ["source", "target", *KINDS]


def test_our_own_gpt(tmp_path: Path) -> None:
    """The checkpoint of a run, with its vocabulary."""
    tokenizer = Tokenizer.train(ENGLISH, vocab_size=61, character_coverage=1.0)
    config = TransformerConfig(d_model=16, d_ff=13, num_heads=2, num_layers=3, norm="pre")
    gpt = GPT(config, vocab_size=tokenizer.vocab_size)
    entry = descendant_entry("gpt", config, {"vocab_size": gpt.vocab_size}, tokenizer=tokenizer, step=7)
    weights = {f"{WEIGHTS_PREFIX}{name}": weight for name, weight in gpt.state_dict().items()}
    save_checkpoint({MODEL_ENTRY: entry, "state_dict": weights}, step_path(tmp_path / "checkpoints", 7))
    [written] = json.loads(show(tmp_path, tmp_path / "a.json", "--text", ENGLISH[0], "--words"))
    assert written["text"] == ENGLISH[0]
    assert written["decoder"]["keys"] == ["<s>", *ENGLISH[0].split()]
    assert written["decoder"]["layers"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "args", "complaint"),
    [
        ("bert", ["--kind", "cross"], r"--kind cross: .*bert.*encoder"),
        ("bert", ["--target", "x"], r"--target"),
        ("gpt2", ["--beam_size", "7"], r"--beam_size"),
        ("gpt2", ["--kind", "encoder"], r"--kind encoder: .*gpt.*decoder"),
        ("gpt2", ["--layers", "3"], r"--layers 3: the model has layers 1 to 2"),
        ("t5", [], r"--target"),
    ],
)
def test_options_that_make_no_sense_for_a_descendant(
    others: Path, tmp_path: Path, name: str, args: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        show(others / name, tmp_path / "a.png", "--text", "cats", *args)
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: .*{complaint}.*\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["translate", "test", "align", "export", "fit", "average"])
def test_other_commands_say_what_a_model_of_others_is(
    others: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = f"hf:{others / 'bert'}", str(tmp_path / "out")
    args = {
        "translate": ["--checkpoint", place],
        "test": ["--checkpoint", place, "--corpus", "demo", "--output", output],
        "align": ["--checkpoint", place, "--demo", "test"],
        "export": ["--checkpoint", place, "--format", "ctranslate2", "--output", output],
        "average": ["--run", str(others / "bert")],
        "fit": ["--init_from", place, "--data.corpus", "demo", "--trainer.default_root_dir", output],
    }
    with pytest.raises(SystemExit) as stopped:
        main([command, *args[command]])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    expected = r"model folder.*run folder" if command == "average" else r"\battention\b"
    assert re.fullmatch(rf"error: .*bert.*{expected}.*\n", error)
