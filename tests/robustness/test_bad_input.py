"""Mistakes of users end in exit status 2 and one line that names the file, line or argument, and the remedy."""

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from huggingface_hub import HfApi
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer import align, attention, average, check, fit, test, translate
from lit_transformer.checkpoints.format import WEIGHTS_ENTRY, read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.places import find_checkpoint, load_checkpoint
from lit_transformer.data.tokenizer import Tokenizer
from tests.helpers.runs import own_lines
from tests.helpers.tiny import ENGLISH, GERMAN, TINY_CORPUS, TINY_RECIPE

COMMANDS = {
    "fit": fit.main,
    "test": test.main,
    "translate": translate.main,
    "average": average.main,
    "attention": attention.main,
    "align": align.main,
}
CORPORA: dict[str, dict[str, str | bytes]] = {
    "good": {**TINY_CORPUS},
    "uneven": {**TINY_CORPUS, "train.de": GERMAN * 8 + "Und?\n"},
    "uneven_valid": {**TINY_CORPUS, "valid.en": ENGLISH},
    "latin": {**TINY_CORPUS, "train.de": GERMAN.encode() * 4 + GERMAN.encode("latin-1")},
    "latin_test": {**TINY_CORPUS, "test.en": b"fine\n\n\xe4\n", "test.de": b"gut\n\nx\n"},
    "empty": {**TINY_CORPUS, "train.en": "", "train.de": ""},
    "empty_valid": {**TINY_CORPUS, "valid.en": "", "valid.de": ""},
    "blank": {**TINY_CORPUS, "train.en": "\n\n", "train.de": "\n \n"},
    "one_side": {name: text for name, text in TINY_CORPUS.items() if name != "train.de"},
    "no_valid": {name: text for name, text in TINY_CORPUS.items() if not name.startswith("valid")},
    "no_test": {name: text for name, text in TINY_CORPUS.items() if not name.startswith("test")},
    "nothing": {},
    "bad_gzip": {
        **{name: text for name, text in TINY_CORPUS.items() if name != "train.en"},
        "train.en.gz": b"\x1f\x8b\x08no",
    },
}
CONFIGS: dict[str, bytes] = {
    "unknown.yaml": b"modle:\n  x: 1\n",
    "unknown_key.yaml": b"model:\n  transformer:\n    d_modle: 16\n",
    "broken.yaml": b"model: [1\n  x: {",
    "list.yaml": b"- model\n- data\n",
    "latin.yaml": b"data:\n  corpus: M\xfcller\n",
    "norwegian.yaml": b"data:\n  target: no\n",
    "number.yaml": b"data:\n  valid_corpus: 2014\n",
    "type.yaml": b"model:\n  transformer:\n    d_model: wide\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """A folder with good and bad inputs. `PLACE` in the arguments below stands for it."""
    place = tmp_path_factory.mktemp("bad")
    for name, files in CORPORA.items():
        (place / name).mkdir()
        for file, text in files.items():
            (place / name / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, config in CONFIGS.items():
        (place / name).write_bytes(config)
    (place / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    (place / "text").write_text("no checkpoint\n")
    (place / "links").write_text("0-0 1p1\n")
    os.mkfifo(place / "pipe")  # opening it would wait for a writer forever
    (place / "cut.ckpt").write_bytes(find_checkpoint(tiny_run).read_bytes()[:-1000])
    torch.save({"model": torch.ones(2)}, place / "other.ckpt")
    (place / "run").symlink_to(tiny_run)
    content = read_checkpoint(find_checkpoint(tiny_run))
    words = Tokenizer.train(ENGLISH.splitlines(), vocab_size=30, character_coverage=1.0)
    content["lit_transformer"]["tokenizer"] = words.model_bytes
    save_checkpoint(content, place / "mixed" / "step-00000120.ckpt")
    save_checkpoint(read_checkpoint(find_checkpoint(tiny_run)), place / "mixed" / "step-00000007.ckpt")
    return place


def arguments(command: str, place: Path, line: str) -> list[str]:
    given = [word.replace("PLACE", str(place)) for word in line.split()]
    if command == "fit":
        base = [f"--config={place / 'recipe.yaml'}", "--trainer.logger=False", f"--data.corpus={place / 'good'}"]
        base += [f"--data.cache_dir={place / 'cache'}", f"--trainer.default_root_dir={place / 'runs'}"]
        return base + given
    if command == "average":
        return given if "--run" in given else [f"--run={place / 'run'}", *given]
    base = [] if "--checkpoint" in given else [f"--checkpoint={place / 'run'}"]
    if command == "test":
        base += [f"--cache_dir={place / 'cache'}", f"--output={place / 'out'}"]
        base += [] if "--corpus" in given else [f"--corpus={place / 'good'}"]
    if command == "attention":
        base += ["--text=A cat.", f"--output={place / 'map.json'}"]
    if command == "align" and "--demo" not in given:
        base += [f"--source={place / 'good' / 'test.en'}", f"--target={place / 'good' / 'test.de'}"]
    return base + given


def complaint(command: str, args: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command that exits with status 2. Returns its error, the last line on stderr."""
    with pytest.raises(SystemExit) as end:
        COMMANDS[command](args)
    error = capfd.readouterr().err
    assert end.value.code == 2
    assert error.endswith("\n")
    [line] = own_lines(error)
    assert line == error.splitlines()[-1]
    return line


FIT = {
    # Options that do not exist.
    "--modle.x 1": r"--modle\.x .*--print_config",
    "--model.transformer.d_modle 16": r"d_modle .*--print_config",
    "--model.transformer.d_mod 16": r"d_mod .*--model\.transformer\.d_model\?",
    "surplus": r"surplus .*--print_config",
    "--devices": r"--trainer\.devices.*--print_config",
    "--config PLACE/unknown.yaml": r"modle\.x.*--print_config",
    "--config PLACE/unknown_key.yaml": r"d_modle.*--print_config",
    # Files of settings.
    "--config PLACE/nowhere.yaml": r"/nowhere\.yaml",
    "--config PLACE/good": r"/good",
    "--config PLACE/broken.yaml": r"broken\.yaml|line 1",
    "--config PLACE/list.yaml": r"config.*--print_config",
    "--config PLACE/latin.yaml": r"file of --config is not UTF-8",
    "--config PLACE/norwegian.yaml": r"\bdata\.target\b.*\bFalse\b.*quot",
    "--config PLACE/number.yaml": r"\bdata\.valid_corpus\b.*\b2014\b.*quot",
    "--config PLACE/type.yaml": r"\bmodel\.transformer\.d_model\b.*\bwide\b",
    # Values of another type.
    "--model.transformer.d_model wide": r"\bmodel\.transformer\.d_model\b.*\bwide\b",
    "--model.transformer.norm batch": r"\bmodel\.transformer\.norm\b.*post, pre",
    "--model.transformer.positions cosine": r"\bmodel\.transformer\.positions\b.*rotary",
    "--model.learning_rate_scale nan": r"\bmodel\.learning_rate_scale\b.*\bnan\b",
    "--model.bleu_tokenize moses": r"\bmodel\.bleu_tokenize\b.*13a",
    "--data.normalization nfd": r"\bdata\.normalization\b.*identity",
    "--data.tokens_per_batch many": r"\bdata\.tokens_per_batch\b.*\bmany\b",
    "--seed_everything x": r"\bseed_everything\b",
    "--trainer.precision 17": r"\btrainer\.precision\b",
    # Values that make no sense.
    "--model.transformer.d_model 0": r"d_model is 0",
    "--model.transformer.num_layers -1": r"num_layers is -1",
    "--model.transformer.dropout 1.5": r"dropout is 1\.5",
    "--model.transformer.num_heads 3": r"d_model 16 does not divide by .*num_heads 3",
    "--model.vocab_size 4": r"vocab_size is 4",
    "--model.vocab_size -3": r"vocab_size is -3",
    "--model.vocab_size 99999999999999": r"too large for this machine .*lower .*vocab_size",
    "--model.vocab_size 99999999999999999999": r"too large for this machine .*lower .*vocab_size",
    "--model.learning_rate_scale -1": r"learning_rate_scale is -1\.0",
    "--model.validation_beam_size 0": r"validation_beam_size is 0",
    "--model.validation_beam_size 100000": r"validation_beam_size is 100000",
    "--data.tokens_per_batch -5": r"tokens_per_batch is -5",
    "--data.max_tokens_per_device 0": r"max_tokens_per_device is 0",
    "--data.max_length 1": r"max_length is 1",
    "--data.max_length_ratio 0.5": r"max_length_ratio is 0\.5",
    "--data.validation_batch_tokens 0": r"validation_batch_tokens is 0",
    "--data.num_workers -1": r"num_workers is -1",
    "--data.character_coverage 1.5": r"character_coverage is 1\.5",
    "--data.character_coverage 0": r"character_coverage is 0\.0",
    "--checkpoints.every_n_train_steps -1": r"every_n_train_steps=-1",
    "--checkpoints.keep 3": r"checkpoints\.save_top_k",
    "--checkpoints.every_n_steps 3": r"checkpoints\.every_n_train_steps",
    "--seed_everything -5": r"--seed_everything is -5",
    "--seed_everything 4294967296": r"--seed_everything is 4294967296",
    "--trainer.max_steps 0": r"trainer\.max_steps is 0",
    "--trainer.max_steps -7": r"trainer\.max_steps is -7",
    "--trainer.val_check_interval 0": r"trainer\.val_check_interval is 0",
    "--trainer.val_check_interval 0.0": r"trainer\.val_check_interval is 0\.0",
    "--trainer.val_check_interval 99 --trainer.check_val_every_n_epoch 1": r"val_check_interval is 99 .*every_n_epoch",
    "--trainer.val_check_interval 00:00:00:01": r"trainer\.val_check_interval is 00:00:00:01",
    "--trainer.check_val_every_n_epoch 0": r"trainer\.check_val_every_n_epoch is 0",
    "--trainer.max_epochs 0": r"trainer\.max_epochs is 0",
    "--trainer.limit_train_batches 0": r"trainer\.limit_train_batches is 0",
    "--trainer.limit_train_batches 1e-3": r"limit_train_batches is 0\.001\b.*step",
    "--trainer.limit_val_batches 1.5": r"trainer\.limit_val_batches is 1\.5",
    "--trainer.overfit_batches -1": r"overfit_batches is -1",
    "--trainer.reload_dataloaders_every_n_epochs -1": r"trainer: .*reload_dataloaders_every_n_epochs",
    "--trainer.log_every_n_steps 0": r"trainer\.log_every_n_steps is 0",
    "--trainer.gradient_clip_val -1": r"trainer\.gradient_clip_val is -1",
    "--trainer.accelerator tpu": r"trainer: .*torch_xla",
    "--trainer.precision transformer-engine": r"trainer: .*transformer_engine",
    "--trainer.accelerator abacus": r"trainer: .*accelerator.*abacus",
    "--trainer.strategy luck": r"trainer: .*strategy.*luck",
    "--trainer.strategy ddp_spawn": r"trainer\.strategy is ddp_spawn: .*Give ddp",
    "--devices 0": r"trainer: .*devices",
    "--devices=x": r"trainer: .*devices",
    # Places.
    "--trainer.default_root_dir PLACE/text/runs": r"trainer\.default_root_dir .*/text/runs cannot be written",
    "--data.cache_dir PLACE/text/cache": r"cannot write the cache .*/text/cache.*cache_dir",
    "--data.tokenizer PLACE/no.model": r"cannot read the SentencePiece model .*/no\.model",
    "--data.tokenizer PLACE/text": r"/text: .*not a SentencePiece model",
    "--ckpt_path PLACE/nowhere.ckpt": r"there is no checkpoint .*/nowhere\.ckpt",
    "--ckpt_path PLACE/cut.ckpt": r"/cut\.ckpt\b.*damaged",
    "--ckpt_path PLACE/other.ckpt": r"/other\.ckpt\b.*lit_transformer",
    # Corpora.
    "--data.corpus PLACE/nowhere": r"corpus .*/nowhere\b",
    "--data.corpus PLACE/text": r"corpus .*/text .*SPLIT\.LANG",
    "--data.corpus PLACE/good/train": r"corpus .*/good/train .*data\.valid_pairs .*data\.valid_corpus",
    "--data.corpus PLACE/good/train --data.valid_pairs 18": r"data\.valid_pairs is 18\b.* 18 ",
    "--data.corpus PLACE/good/train --data.valid_pairs -1": r"data\.valid_pairs is -1",
    "--data.corpus PLACE/pipe": r"/pipe is a device or a pipe",
    "--data.corpus PLACE/pipe,PLACE/good/train.de": r"/pipe is a device or a pipe",
    "--data.valid_corpus=": r"corpus is empty",
    "--data.valid_corpus PLACE/nowhere": r"corpus .*/nowhere\b",
    "--data.valid_corpus demo --data.valid_pairs 2": r"data\.valid_pairs is 2\b.*data\.valid_corpus is demo",
    "--data.corpus PLACE/uneven": r"/train\.en has 18 lines but .*/train\.de has 17",
    "--data.corpus PLACE/uneven_valid": r"/valid\.en has 2 lines but .*/valid\.de has 18",
    "--data.corpus PLACE/latin": r"/train\.de:9: invalid UTF-8 \(byte 0xe4\); .*line",
    "--data.corpus PLACE/empty": r"/train\.en is empty",
    "--data.corpus PLACE/empty_valid": r"/valid\.en is empty",
    "--data.corpus PLACE/blank": r"there is no text to learn a vocabulary from: all lines are empty",
    "--data.corpus PLACE/one_side": r"has no file train\.de: .*; add the file",
    "--data.corpus PLACE/no_valid": r"no split 'valid' .* valid\.en.*data\.valid_pairs.*data\.valid_corpus",
    "--data.corpus PLACE/nothing": r"'train' in en and de: .*none.*train\.en",
    "--data.corpus PLACE/bad_gzip": r"/train\.en\.gz is not a complete \.gz file",
    "--data.corpus demo:some": r"corpus demo:some: .*number",
    "--data.target fr": r"has no file train\.fr: .*choose .*source and .*target among these",
    "--data.source de": r"source and target are both de\b",
    "--model.vocab_size 5000": r"vocab_size is 5000\b.*largest.* \d\d",
    "--model.vocab_size 9": r"vocab_size is 9\b.*smallest.* \d\d",
}


@pytest.mark.parametrize("line", FIT)
def test_fit(line: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert re.search(FIT[line], complaint("fit", arguments("fit", place, line), capfd))
    assert not list((place / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize("setting", ["--trainer.devices=0", "--trainer.num_nodes=-1", "--tokens_per_second=0"])
def test_check_refuses_what_it_cannot_count_with(setting: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        check.main([*arguments("fit", place, ""), setting])
    assert re.fullmatch(r"error: .* it must be (from 1 to 1,000,000|above 0)\n", capfd.readouterr().err)


@pytest.mark.parametrize("setting", ["--trainer.limit_val_batches 0.001", f"--data.max_tokens_per_device {10**30}"])
def test_settings_that_are_refused_where_training_starts(
    setting: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fit.main(arguments("fit", place, f"{setting} --trainer.default_root_dir {tmp_path}"))
    last = capfd.readouterr().err.splitlines()[-1]  # after the progress of tokenizing
    assert last.startswith("error: the settings cannot be used: ")


def test_a_launcher_that_is_missing(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM's variables of a job, but not those that `srun` sets."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert "error: trainer: " in complaint("fit", arguments("fit", place, ""), capfd)


def test_names_that_are_not_utf8(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Python represents bytes of a file name that are not UTF-8 as lone surrogates."""
    for option in ("data.cache_dir", "trainer.default_root_dir"):
        folder = tmp_path / "M\udcfcller"
        with pytest.raises(SystemExit, match="2"):
            fit.main([*arguments("fit", place, ""), "--trainer.logger=true", f"--{option}={folder}"])
        last = capfd.readouterr().err.splitlines()[-1]
        assert re.match(r"error: '.*M\\udcfcller.*' is not UTF-8 and cannot be used here: rename it", last)


SEARCH = {
    "--beam_size 0": r"beam_size is 0",
    "--beam_size 99999999999999999999": r"beam_size is 99999999999999999999",
    "--beam_size four": r"--beam_size.*\bfour\b",
    "--length_penalty -1": r"length_penalty is -1\.0",
    "--length_penalty nan": r"length_penalty is nan",
    "--length_penalty 1000": r"length_penalty is 1000\.0",
    "--max_extra_length -1": r"max_extra_length is -1",
    "--min_length 99": r"min_length is 99: .*max_extra_length",
    "--batch_tokens 0": r"batch_tokens is 0",
    "--device abacus": r"device 'abacus' cannot be used here",
    "--device cuda:77": r"device 'cuda:77' cannot be used here",
    "--beam 4": r"--beam 4.*--beam_size\?.*--help",
    "--checkpoint PLACE/nowhere": r"there is no checkpoint .*/nowhere",
    "--checkpoint PLACE/good": r"there is no checkpoint in .*/good or below it",
    "--checkpoint PLACE/text": r"/text\b.*damaged",
    "--checkpoint PLACE/cut.ckpt": r"/cut\.ckpt\b.*damaged",
    "--checkpoint PLACE/other.ckpt": r"/other\.ckpt\b.*lit_transformer",
    "--checkpoint PLACE/mixed/step-00000120.ckpt": r"/step-00000120\.ckpt has weights of another",
}


@pytest.mark.parametrize("command", ["test", "translate"])
@pytest.mark.parametrize("line", SEARCH)
def test_search_and_checkpoint(
    command: str, line: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistake is reported before stdin is read."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert re.search(SEARCH[line], complaint(command, arguments(command, place, line), capfd))


OTHERS = {
    "test --split new": r"'new' in en and de: .* test, train, valid;.* new\.en",
    "test --corpus PLACE/good/test --split test": r"--split is test, .*/good/test has no splits",
    "test --corpus PLACE/no_test": r"'test' in en and de: .* train, valid;",
    "test --corpus PLACE/latin_test": r"/test\.en:3: invalid UTF-8 \(byte 0xe4\); convert",
    "test --corpus PLACE/uneven --split train": r"/train\.en has 18 lines but .*/train\.de has 17",
    "test --corpus PLACE/nowhere": r"corpus .*/nowhere\b",
    "test --corpus demo --split new": r"'new': .* train, valid, test, unseen",
    "test --target fr": r"has no file test\.fr: .*choose .*source and .*target among these",
    "test --tokenize moses": r"tokenize is 'moses'.*\b13a\b",
    "test --output PLACE/text/out": r"cannot write .*/text/out: .*; .*another file.*output",
    "test --output PLACE/good": r"cannot write .*/good: .*folder; .*another file.*output",
    "test --jsno": r"--jsno.*--json\?",
    "translate --input PLACE/nowhere": r"cannot read .*/nowhere",
    "translate --input PLACE/latin_test/test.en": r"/test\.en, line 3: not UTF-8",
    "translate --output PLACE/new": r"--output needs --input",
    "translate --overwrite": r"--overwrite needs --output",
    "translate --top_k 5": r"--top_k .*--sample",
    "translate --sample --top_p 2": r"^error: top_p is 2\.0: ",
    "translate --sample --beam_size 2": r"--beam_size 2: --sample ",
    "translate --sample --engine ctranslate2": r"--engine ctranslate2 .*--sample",
    "translate --input PLACE/good/test.en --output PLACE/good/test.de": r"/test\.de exists.*--overwrite",
    "translate --input PLACE/good/test.en --output PLACE/good/test.en --overwrite": r"/test\.en is an input",
    "translate --n_best 0": r"n_best is 0",
    "translate --n_best 5": r"n_best is 5",
    "translate --n_best few": r"--n_best.*\bfew\b",
    "translate PLACE/good/test.en": r"test\.en \(all options: --help\)",
    "average --last 0": r"--last 0: .* has 3 regular checkpoints",
    "average --last -1": r"--last -1: .* has 3 regular checkpoints",
    "average --last 4": r"--last 4: .* has 3 regular checkpoints; .* larger .*save_top_k",
    "average --last some": r"--last.*\bsome\b",
    "average --run PLACE/nowhere": r"there is no checkpoint .*/nowhere",
    "average --run PLACE/good": r"there is no checkpoint in .*/good or below it",
    "average --run PLACE/cut.ckpt": r"/cut\.ckpt is a file",
    "average --run PLACE/mixed --last 2": r"120\.ckpt has another tokenizer than .*: average checkpoints of one run",
    "average --last 2 --output PLACE/text/x": r"cannot write the folder .*/text/x: .*choose another place",
    "average --last 2 --output PLACE/good": r"cannot write the folder .*/good: .*remove what is there or",
    "align": r"give --layer, .*--gold",
    "align --layer 2": r"--layer 2: the model has layers 1 to 1",
    "align --layer 0": r"--layer 0: the model has layers 1 to 1",
    "align --layer 1 --head 3": r"--head 3: the model has heads 1 to 2",
    "align --layer 1 --head 0": r"--head 0: the model has heads 1 to 2",
    "align --head 1": r"--head is a head of one layer",
    "align --layer 1 --when later": r"--when.*\blater\b",
    "align --layer 1 --batch_tokens 0": r"batch_tokens is 0",
    "align --layer 1 --checkpoint PLACE/cut.ckpt": r"/cut\.ckpt\b.*damaged",
    "align --layer 1 --device tpu": r"device 'tpu' cannot be used here",
    "align --layer 1 --source PLACE/nowhere": r"cannot read .*/nowhere",
    "align --layer 1 --source PLACE/latin_test/test.en": r"/test\.en:3: invalid UTF-8 \(byte 0xe4\); convert",
    "align --layer 1 --target PLACE/uneven/train.de": r"/test\.en has 18 lines but .*/train\.de has 17",
    "align --gold PLACE/nowhere": r"cannot read .*/nowhere",
    "align --gold PLACE/good/test.en": r"/test\.en:1: 'The' is not a link: write i-j \(sure\) or ipj \(possible\)",
    "align --gold PLACE/links": r"/links has 1 line for 18 ",
    "align --gold PLACE/links --gold_first 1": r"/links:1: '0-0' has a word 0, .* 1\b",
    "align --gold PLACE/links --gold_first 2": r"--gold_first.*\b2\b",
    "align --layer 1 --source PLACE/pipe": r"/pipe is a device or a pipe",
    "align --layer 1 --target PLACE/pipe": r"/pipe is a device or a pipe",
    "align --gold PLACE/pipe": r"/pipe is a device or a pipe",
    "align --gold /dev/zero": r"/dev/zero is a device or a pipe",
    "align --demo dev": r"'dev': .* train, valid",
    "align --demo test --gold PLACE/links": r"--demo has sentences and gold .* its own: leave out --gold",
}


@pytest.mark.parametrize("line", OTHERS)
def test_other_mistakes(line: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command, _, rest = line.partition(" ")
    assert re.search(OTHERS[line], complaint(command, arguments(command, place, rest), capfd))
    assert not (place / "out").exists()


ADDRESSES = (
    "fit --trainer.default_root_dir s3://bucket/runs",
    "fit --trainer.default_root_dir file:///runs",
    "fit --data.cache_dir memory://cache",
    "fit --data.tokenizer gs://bucket/x.model",
    "fit --data.corpus s3://bucket/corpus",
    "fit --ckpt_path file:///x.ckpt",
    "fit --config https://host/x.yaml",
    "test --checkpoint s3://bucket/run",
    "test --corpus gs://bucket/corpus",
    "test --cache_dir s3://bucket/cache",
    "test --output file:///out",
    "translate --checkpoint hf://owner/name",
    "average --run s3://bucket/run",
    "average --last 1 --output s3://bucket/model",
    "attention --output s3://bucket/map.json",
    "align --layer 1 --source s3://bucket/x.en",
    "align --layer 1 --target s3://bucket/x.de",
    "align --gold memory://links",
)


@pytest.mark.parametrize("line", ADDRESSES)
def test_addresses_in_place_of_paths(
    line: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, above all no folder whose name is that of the address."""
    command, _, rest = line.partition(" ")
    given = arguments(command, place, rest)  # before the folder changes
    monkeypatch.chdir(tmp_path)
    assert given[-1] in complaint(command, given, capfd)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["test", "translate"])
def test_closed_standard_streams(
    command: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`<&-` in a shell makes `sys.stdin` None. `test` does not need it."""
    monkeypatch.setattr(sys, "stdin", None)
    line = "--split new" if command == "test" else ""
    message = complaint(command, arguments(command, place, line), capfd)
    assert ("stdin" in message) == (command == "translate")


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_hub_that_cannot_be_reached(
    command: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    option = "--data.corpus" if command == "fit" else "--corpus"
    message = complaint(command, arguments(command, place, f"{option} wmt/wmt14:de-en"), capfd)
    assert re.search(r"corpus wmt/wmt14\b.*`demo`.*SPLIT\.LANG", message)


def test_a_run_that_diverges(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names the step and its sentences, and no checkpoint has broken weights."""
    line = "--model.learning_rate_scale 1e30 --trainer.max_steps 3 --trainer.val_check_interval 3"
    line += " --checkpoints.every_n_train_steps 3"
    with pytest.raises(SystemExit) as end:
        fit.main(arguments("fit", place, f"{line} --trainer.default_root_dir {tmp_path}"))
    message = capfd.readouterr().err.splitlines()[-1]  # after the progress of tokenizing
    assert end.value.code == 2
    assert re.match(r"error: .*gradients of step 2 are not finite.*learning_rate.*A dog eats", message)
    for path in tmp_path.rglob("*.ckpt"):
        load_checkpoint(path)  # refuses weights that are not finite


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize(("value", "problem"), [(math.nan, "has weights that are not finite"), (3e38, "not num")])
def test_weights_that_have_diverged(
    value: float,
    problem: str,
    beam_size: int,
    place: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Translating with such weights is refused."""
    content = read_checkpoint(find_checkpoint(place / "run"))
    for weight in content[WEIGHTS_ENTRY].values():
        weight.fill_(value)
    save_checkpoint(content, tmp_path / "step-00000003.ckpt")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat sleeps.\n")))
    message = complaint("translate", ["--checkpoint", str(tmp_path), "--beam_size", str(beam_size)], capfd)
    assert re.search(f"{problem}.*take an earlier", message)


# Command lines at random.


JUNK = ["0", "-1", "nan", "1e999", "\u2028", "{}", "[1", "null", "true", "--", "99", "\udc80", "%s", "", "x y"]
# Not the number of devices: Lightning would start this many processes.
OPTIONS = {
    "fit": ["--model.transformer.d_k", "--model.vocab_size", "--data.source", "--data.tokenizer", "--seed_everything"]
    + ["--trainer.max_steps", "--trainer.precision", "--trainer.logger", "--ckpt_path", "--model", "--config"],
    "test": ["--corpus", "--split", "--tokenize", "--beam_size", "--length_penalty", "--device", "--source", "--json"],
    "translate": ["--checkpoint", "--n_best", "--beam_size", "--length_penalty", "--batch_tokens", "--device"]
    + ["--max_extra_length", "--min_length", "--input", "--output", "--overwrite"]
    + ["--sample", "--temperature", "--top_k", "--top_p", "--seed"],
    "average": ["--run", "--last", "--output"],
    "attention": ["--text", "--target", "--output", "--layers", "--head", "--kind", "--figure", "--beam_size"],
    "align": [
        "--checkpoint",
        "--source",
        "--target",
        "--demo",
        "--layer",
        "--head",
        "--when",
        "--gold",
        "--gold_first",
    ],
}
# A last argument with which a valid command line does nothing.
LAST = {
    "fit": [],
    "test": ["--corpus=/nowhere"],
    "translate": [],
    "average": ["--last=99"],
    "attention": ["--checkpoint=/nowhere"],
    "align": ["--gold=/nowhere"],
}


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
@settings(max_examples=25)
def test_any_command_line(command: str, place: Path, data: st.DataObject) -> None:
    words = st.one_of(st.sampled_from(OPTIONS[command]), st.sampled_from(JUNK))
    pairs = st.tuples(st.sampled_from(OPTIONS[command]), st.sampled_from(JUNK)).map(list)
    line = data.draw(st.lists(st.one_of(pairs, words.map(lambda word: [word])), max_size=3))
    args = arguments(command, place, "") + [word for part in line for word in part] + LAST[command]
    status, error = outcome(COMMANDS[command], args)
    lines = own_lines(error)
    assert status == (2 if lines or command in ("test", "average", "attention", "align") else 0), (args, error)
    assert len(lines) == (1 if status == 2 else 0), (args, error)
    assert lines == error.splitlines()[-1:] or status == 0


def outcome(main: Callable[[list[str]], object], args: list[str]) -> tuple[object, str]:
    """Run a command without stdin and without training. Returns its exit status and stderr."""
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(error):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        patch.setattr(fit, "fit", lambda cli: None)
        try:
            main(args)
        except SystemExit as end:
            return end.code, error.getvalue()
    return 0, error.getvalue()
