"""The command `align` as a user runs it: links on stdout, figures on stderr."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lit_transformer import Translator, align
from lit_transformer.analysis.alignment import CrossHead
from lit_transformer.analysis.alignment import align as links_of
from lit_transformer.checkpoints.format import read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.evaluation.alignment_error import GoldLinks, count_links, read_gold, to_pharaoh
from tests.helpers.runs import own_lines

KNOWN = demo_pairs("train", num_pairs=31)
ENGLISH, GERMAN = [pair.english for pair in KNOWN], [pair.german for pair in KNOWN]
GOLD = [GoldLinks(frozenset(pair.alignment), frozenset()) for pair in KNOWN]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two texts, and gold links in both formats, with an empty pair in the middle."""
    folder = tmp_path_factory.mktemp("align")
    gold = [to_pharaoh(frozenset(pair.alignment)) for pair in KNOWN]
    talp = [" ".join(f"{i + 1}-{j + 1}" for i, j in pair.alignment) for pair in KNOWN]
    for name, lines in (("en", ENGLISH), ("de", GERMAN), ("gold", gold), ("talp", talp)):
        text = "\n".join([*lines[:7], "", *lines[7:], ""])
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[list[str], str]:
    align.main(list(map(str, args)))
    out, err = capsys.readouterr()
    return out.split("\n")[:-1], err


def figures(err: str) -> list[float]:
    found = re.search(r"^AER (.*)  precision (.*)  recall (\d+\.\d+)  ", err, re.MULTILINE)
    assert found
    return [float(figure) for figure in found.groups()]


def test_one_line_a_pair(tiny_run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translator = Translator.load(tiny_run)
    base = ("--checkpoint", tiny_run, "--source", files / "en", "--target", files / "de")
    for options, at in (
        (["--layer", 1], CrossHead(0, None, "said")),
        (["--layer", 1, "--head", 2, "--when", "read"], CrossHead(0, 1, "read")),
    ):
        out, err = run(capsys, *base, *options)
        expected = list(map(to_pharaoh, links_of(translator, ENGLISH, GERMAN, at)))
        assert out == [*expected[:7], "", *expected[7:]]
        head = "" if at.head is None else f" --head {at.head + 1}"
        path = find_checkpoint(tiny_run)
        assert err == f"links by --layer 1{head} --when {at.when} of {path} (step 120)\n"


@pytest.mark.parametrize("gold", [["--gold", "gold"], ["--gold", "talp", "--gold_first", "1"]])
def test_gold_links_give_figures(
    gold: list[str], tiny_run: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--checkpoint", tiny_run, "--source", files / "en", "--target", files / "de"]
    base += [gold[0], files / gold[1], *gold[2:]]
    out, err = run(capsys, *base)
    (files / "out").write_text("\n".join([*out, ""]))
    scores = count_links([pair.sure for pair in read_gold(files / "out")], read_gold(files / "gold"))
    assert figures(err) == [
        pytest.approx(100 * rate, abs=0.005) for rate in (scores.error_rate, scores.precision, scores.recall)
    ]
    # The table holds what each head alone gives, and the best of it is what was printed.
    table = [line.split()[1:] for line in err.splitlines() if re.match(r" +1 +[0-9.]+ ", line)]
    assert [len(line) for line in table] == [3, 3]
    heads: list[list[object]] = [["--head", 1], ["--head", 2], []]
    alone = [
        [figures(run(capsys, *base, "--layer", 1, "--when", when, *head)[1])[0] for head in heads]
        for when in ("said", "read")
    ]
    assert [list(map(float, line)) for line in table] == alone
    assert figures(err)[0] == min(map(min, alone))
    _, one_moment = run(capsys, *base, "--when", "read")
    assert figures(one_moment)[0] == min(alone[1])


def test_the_demo_corpus_in_both_directions(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_checkpoint(find_checkpoint(tiny_run))
    content["lit_transformer"] |= {"source": "de", "target": "en"}
    save_checkpoint(content, tmp_path / "back.ckpt")
    pairs = demo_pairs("unseen")
    for run_or_file in (tiny_run, tmp_path / "back.ckpt"):
        out, err = run(capsys, "--checkpoint", run_or_file, "--demo", "unseen", "--layer", 1)
        (tmp_path / "links").write_text("\n".join([*out, ""]))
        predicted = [pair.sure for pair in read_gold(tmp_path / "links")]
        forward = run_or_file == tiny_run
        gold = [
            GoldLinks(frozenset((i, j) if forward else (j, i) for i, j in pair.alignment), frozenset())
            for pair in pairs
        ]
        assert figures(err)[0] == pytest.approx(100 * count_links(predicted, gold).error_rate, abs=0.005)
        texts = [pair.german if forward else pair.english for pair in pairs]
        assert [len(links) for links in predicted] == [len(text.split()) for text in texts]


def test_nobody_reads_any_more(tiny_run: Path, repo_root: Path) -> None:
    args = ["--checkpoint", str(tiny_run), "--demo", "test", "--layer", "1"]
    command = [sys.executable, "-m", "lit_transformer.align", *args]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, cwd=repo_root, stdout=write, stderr=subprocess.PIPE, text=True, timeout=100, check=False
    )
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert own_lines(done.stderr) == []


def test_text_without_spaces_is_noted(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words are what spaces separate, so a line of Chinese is one word."""
    (tmp_path / "en").write_text("The cat\tsleeps.\n", encoding="utf-8")
    (tmp_path / "zh").write_text("那只猫在那里安静地睡觉。\n", encoding="utf-8")
    for target, noted in (("zh", True), ("en", False)):
        files = ("--source", tmp_path / "en", "--target", tmp_path / target)
        _, err = run(capsys, "--checkpoint", tiny_run, "--layer", 1, *files)
        assert (f"note: {tmp_path / target} has no spaces" in err) is noted
