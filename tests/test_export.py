"""What `export` writes translates without lit_transformer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import MarianMTModel, MarianTokenizer

from lit_transformer import SearchSettings, Translator, export
from lit_transformer.checkpoints.folder import VOCABULARY_FILE

pytest.importorskip("ctranslate2", reason="the package ctranslate2 is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

LINES = ["The cat sleeps.", "A dog eats.", "cat cat"]
ALONE = """
import json, sys
import ctranslate2, sentencepiece
folder, source, target, *lines = sys.argv[1:]
source, target = (sentencepiece.SentencePieceProcessor(model_file=f"{folder}/{name}") for name in (source, target))
translator = ctranslate2.Translator(folder, intra_threads=1)
results = translator.translate_batch(source.encode(lines, out_type=str), beam_size=1, max_decoding_length=30)
print(json.dumps([target.decode(result.hypotheses[0]) for result in results]))
assert not {"torch", "lit_transformer"} & {*sys.modules}
"""
"""A program that has ctranslate2 and sentencepiece only."""


def translate_alone(folder: Path, source: str) -> list[str]:
    command = [sys.executable, "-P", "-c", ALONE, str(folder), source, VOCABULARY_FILE, *LINES]
    found: list[str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
def test_the_folder_needs_no_lit_transformer(
    compute_type: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "exported"
    options = ["--format", "ctranslate2", "--output", str(output), "--compute_type", compute_type]
    export.main(["--checkpoint", str(tiny_run), *options])
    assert str(output) in capsys.readouterr().out
    found = translate_alone(output, VOCABULARY_FILE)
    assert len(found) == len(LINES)
    if compute_type == "float32":
        translator = Translator.load(tiny_run, device="cpu")
        encoded = translator.tokenizer.encode(LINES)
        for line, ids, text in zip(LINES, encoded, found, strict=True):
            extra = 30 - len(ids) - 1
            assert translator.translate(line, SearchSettings(beam_size=1, max_extra_length=extra)) == text


def test_a_folder_of_marian_translates_with_transformers(tiny_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    export.main(["--checkpoint", str(tiny_run), "--format", "marian", "--output", str(output)])
    model, tokenizer = MarianMTModel.from_pretrained(output), MarianTokenizer.from_pretrained(output)
    ids = model.generate(**tokenizer(LINES[:2], return_tensors="pt", padding=True), num_beams=1)
    expected = Translator.load(tiny_run, device="cpu").translate(LINES[:2], SearchSettings(beam_size=1))
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == expected


def test_compute_type_is_for_ctranslate2(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "exported"
    options = ["--format", "marian", "--output", str(output), "--compute_type", "int8"]
    with pytest.raises(SystemExit) as exit_:
        export.main(["--checkpoint", str(tiny_run), *options])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "compute_type" in error
    assert error.count("\n") == 1
    assert not output.exists()
