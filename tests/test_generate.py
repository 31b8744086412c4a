"""`generate` as a user runs it."""

import io
import re
import sys
from pathlib import Path

import pytest

from lit_transformer import SamplingSettings, generate
from lit_transformer.decoding.generator import Generation
from tests.helpers.foreign import bert, save
from tests.helpers.gpt import TEXTS, write_gpt

PROMPTS = [" ".join(text.split()[:2]) for text in TEXTS[:3]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt(tmp_path_factory.mktemp("gpt"))


def test_prompts_of_options_and_of_stdin(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each sample. A line of stdin is drawn the same, whatever the chunks."""
    args = ["--checkpoint", str(run), "--max_new_tokens", "5", "--num_samples", "2", "--seed", "3"]
    generate.main([*args, *(word for prompt in PROMPTS for word in ("--prompt", prompt))])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 6
    for index, row in enumerate(rows):
        assert row.startswith(PROMPTS[index // 2])
    for largest in (256, 2):
        monkeypatch.setattr(generate, "LARGEST_CHUNK", largest)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(PROMPTS).encode())))
        generate.main(args)
        assert capsys.readouterr().out.splitlines() == rows


def test_line_feeds_of_a_text_are_spaces() -> None:
    class Written:
        def generate(self, prompts: list[str], *_: object, **__: object) -> list[list[Generation]]:
            return [[Generation(f"{prompt}\na\r\nb", "", 0.0, finished=True)] for prompt in prompts]

    rows = generate.continued(Written(), [["x"], ["y\u2028"]], SamplingSettings(), 5, 1)  # type: ignore[arg-type]
    assert list(rows) == [["x a b"], ["y  a b"]]


def test_a_search_and_greedy_sampling(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for options in (["--beam_size", "1"], ["--temperature", "0"], ["--beam_size", "3", "--length_penalty", "0"]):
        generate.main(["--checkpoint", str(run), "--prompt", PROMPTS[0], "--max_new_tokens", "9", *options])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[2].startswith(PROMPTS[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beam_size", "3", "--top_k", "5"], r"^error: --top_k .*--beam_size"),
        (["--length_penalty", "1"], r"^error: --length_penalty .*--beam_size"),
        (["--num_samples", "0"], r"^error: --num_samples 0: "),
        (["--beam_size", "2", "--num_samples", "3"], r"^error: --num_samples 3: "),
        (["--max_new_tokens", "0"], r"^error: max_new_tokens is 0: "),
        (["--top_p", "0"], r"^error: top_p is 0\.0: "),
        (["--device", "abacus"], r"^error: device 'abacus' "),
        (["--checkpoint", "PLACE/nowhere"], r"^error: .*nowhere"),
        (["--checkpoint", "PLACE/bert"], r"^error: .* bert, .*attention"),
        (["--checkpoint", "TINY"], r"^error: .*lit_transformer\.translate$"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str],
    message: str,
    run: Path,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "PLACE/bert" in options:
        save(bert(), tmp_path / "bert")
        capsys.readouterr()
    placed = [option.replace("PLACE", str(tmp_path)).replace("TINY", str(tiny_run)) for option in options]
    with pytest.raises(SystemExit, match="2"):
        generate.main(["--checkpoint", str(run), "--prompt", PROMPTS[0], *placed])
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
