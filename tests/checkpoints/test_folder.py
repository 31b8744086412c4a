"""Model folders are read bit for bit as they were written. Everything else is refused with one line."""

import contextlib
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import pytest
import sentencepiece as spm
import torch
import yaml
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from lit_transformer import SearchSettings, Translator
from lit_transformer.batch import PAD_ID
from lit_transformer.checkpoints.average import average_checkpoints
from lit_transformer.checkpoints.folder import (
    CARD_FILE,
    CONFIG_FILE,
    MODEL_FOLDER_FILES,
    SOURCE_VOCABULARY_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
)
from lit_transformer.checkpoints.format import model_entry, save_checkpoint
from lit_transformer.checkpoints.names import step_path
from lit_transformer.checkpoints.places import find_checkpoint, load_checkpoint
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.heads import HeadMask
from lit_transformer.model.transformer import Transformer
from tests.helpers.checkpoints import same_model

SENTENCES = ["The cat that sleeps is black.", "A dog eats.", ""]


@pytest.fixture(scope="module")
def good(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good model folder. Tests do not change it."""
    folder = tmp_path_factory.mktemp("folder") / "model"
    Translator.load(tiny_run).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(good, tmp_path / "model")


def refused(folder: Path) -> str:
    """The error, one line that names the folder."""
    with pytest.raises(UserError) as error:
        load_checkpoint(folder)
    message = str(error.value)
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 600 + 2 * len(str(folder))
    return message


# Writing and reading.


def test_a_vocabulary_with_other_special_ids_is_kept_as_it_is(tmp_path: Path) -> None:
    """In checkpoint and folder. Ids are those of `batch.py` none the less, with a row for the padding that it lacks."""
    learned = BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 9), model_writer=learned, vocab_size=22, minloglevel=2
    )
    tokenizer = Tokenizer(learned.getvalue())
    config = TransformerConfig(d_model=12, d_ff=7, num_heads=2, num_layers=1)
    model = Transformer(config, vocab_size=23, pad_id=PAD_ID)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    entry = model_entry(model, Vocabularies.shared(tokenizer), source="en", target="de", step=5)
    path = step_path(tmp_path, 5)
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, path)
    first = Translator.load(path)
    first.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / VOCABULARY_FILE).read_bytes() == learned.getvalue()
    second = Translator.load(tmp_path / "model")
    assert first.tokenizer.encode(SENTENCES) == second.tokenizer.encode(SENTENCES) == tokenizer.encode(SENTENCES)
    assert first.translate(SENTENCES) == second.translate(SENTENCES)


@pytest.mark.parametrize("positions", get_args(PositionScheme))
@pytest.mark.parametrize("norm", get_args(Norm))
def test_a_folder_is_the_checkpoint_to_the_bit(tiny_run: Path, tmp_path: Path, norm: Norm, positions: Any) -> None:
    vocabularies = load_checkpoint(tiny_run).vocabularies
    config = TransformerConfig(
        d_model=12, d_ff=7, num_heads=2, num_layers=2, dropout=0.1, norm=norm, positions=positions, max_positions=150
    )
    model = Transformer(config, vocab_size=vocabularies.target.vocab_size, pad_id=PAD_ID)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    entry = model_entry(model, vocabularies, source="en", target="de", step=5)
    path = step_path(tmp_path, 5)
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, path)
    first = Translator.load(path)
    first.save_pretrained(tmp_path / "model")
    second = Translator.load(tmp_path / "model")
    assert same_model(first, second)
    assert first.translate(SENTENCES) == second.translate(SENTENCES)
    mean = average_checkpoints([path, path])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in mean.transformer.state_dict().items())


@pytest.fixture
def separate(tiny_run: Path, tmp_path: Path) -> Path:
    """A checkpoint of a model with one vocabulary per side."""
    target = load_checkpoint(tiny_run).tokenizer
    source = Tokenizer.train(SENTENCES, vocab_size=29, character_coverage=1.0)
    config = TransformerConfig(d_model=12, d_ff=7, num_heads=2, num_layers=1)
    model = Transformer(config, vocab_size=target.vocab_size, pad_id=PAD_ID, source_vocab_size=source.vocab_size)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    entry = model_entry(model, Vocabularies(source, target), source="en", target="de", step=5)
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, step_path(tmp_path, 5))
    return step_path(tmp_path, 5)


def test_both_vocabularies_are_in_the_checkpoint_and_in_the_folder(separate: Path, tmp_path: Path) -> None:
    first = Translator.load(separate)
    assert not first.vocabularies.are_shared
    assert (first.vocabularies.source.vocab_size, first.vocabularies.target.vocab_size) == (29, 131)
    first.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {*MODEL_FOLDER_FILES}
    second = Translator.load(tmp_path / "model")
    assert same_model(first, second)
    assert first.translate(SENTENCES) == second.translate(SENTENCES)
    assert same_model(average_checkpoints([separate, separate]), second)


def test_a_folder_without_one_of_its_vocabularies(separate: Path, tmp_path: Path) -> None:
    Translator.load(separate).save_pretrained(tmp_path / "model")
    content = json.loads((tmp_path / "model" / CONFIG_FILE).read_text())
    config = {name: value for name, value in content.items() if name != "source_vocab_size"}
    (tmp_path / "model" / CONFIG_FILE).write_text(json.dumps(config))
    assert "source_embedding" in refused(tmp_path / "model")
    for name, size in (("source_vocab_size", 131), ("source_vocab_size", None), ("vocab_size", 29)):
        (tmp_path / "model" / CONFIG_FILE).write_text(json.dumps(content | {name: size}))
        assert re.search(rf"{name} is {size}, .* (29|131) tokens", refused(tmp_path / "model"))
    (tmp_path / "model" / CONFIG_FILE).write_text(json.dumps(content))
    (tmp_path / "model" / SOURCE_VOCABULARY_FILE).unlink()
    assert SOURCE_VOCABULARY_FILE in refused(tmp_path / "model")


def test_every_way_to_read_gives_the_same(tiny_run: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(good.parent)
    trained = Translator.load(tiny_run)
    for mine in (
        Translator.from_pretrained(good),
        Translator.from_pretrained("model"),
        Translator.from_pretrained(tiny_run),
        Translator.load("model", device="cpu"),
    ):
        assert same_model(mine, trained)
    assert find_checkpoint(good) == good


def test_what_is_in_a_folder(good: Path) -> None:
    assert {path.name for path in good.iterdir()} == {*MODEL_FOLDER_FILES} - {SOURCE_VOCABULARY_FILE}
    config = json.loads((good / CONFIG_FILE).read_text())
    assert config["model_type"] == "lit_transformer"
    assert (config["source"], config["target"], config["step"], config["vocab_size"]) == ("en", "de", 120, 131)
    weights = load_file(good / WEIGHTS_FILE)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert [name for name, value in weights.items() if value.shape[0] == 131] == ["embedding.weight"]
    _, front, text = (good / CARD_FILE).read_text().split("---\n")
    assert yaml.safe_load(front)["language"] == ["en", "de"]
    assert f"{sum(value.numel() for value in weights.values()):,} parameters" in text
    # The permissions of any new folder, so that others can read it.
    (good.parent / "new").mkdir()
    assert good.stat().st_mode == (good.parent / "new").stat().st_mode


def test_half_precision_is_read(folder: Path) -> None:
    half = {name: value.half() for name, value in load_file(folder / WEIGHTS_FILE).items()}
    save_file(half, folder / WEIGHTS_FILE)
    read = Translator.load(folder).transformer.state_dict()
    assert all(torch.equal(value, half[name].float()) for name, value in read.items())


def test_a_translator_without_a_head_is_saved_without_it(good: Path, tmp_path: Path) -> None:
    translator = Translator.load(good)
    mask = HeadMask.all(translator.transformer.config)
    mask.cross[0, 1] = False
    without = translator.with_heads(mask)
    without.save_pretrained(tmp_path / "model")
    assert same_model(Translator.load(tmp_path / "model"), without)


def test_a_translator_made_by_hand_has_to_be_told_its_languages(good: Path, tmp_path: Path) -> None:
    model = load_checkpoint(good)
    with pytest.raises(UserError, match=r"languages"):
        Translator(model.transformer, model.tokenizer).save_pretrained(tmp_path / "x")
    Translator(model.transformer, model.tokenizer, source="no", target="se").save_pretrained(tmp_path / "x")
    assert yaml.safe_load((tmp_path / "x" / CARD_FILE).read_text().split("---\n")[1])["language"] == ["no", "se"]


def test_nothing_is_replaced(good: Path, tmp_path: Path) -> None:
    translator = Translator.load(good)
    (tmp_path / "file").write_text("former")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("former")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("file", "full", "file/below", "a" * 300):
        with pytest.raises(UserError, match=r"cannot write the folder .*/"):
            translator.save_pretrained(tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "notes").read_text() == "former"
    for name in ("empty", "link", "new/below"):
        translator.save_pretrained(tmp_path / name)
        assert same_model(Translator.load(tmp_path / name), translator)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full", "empty", "link", "elsewhere", "new"}


def test_what_fails_leaves_nothing(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator.load(good)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write the folder .*: No space left on device"):
        translator.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# The Hub.


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache, without a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_into(hub: Path, name: str, folder: Path) -> None:
    """Lay out a folder as Hugging Face's cache does: as links to files that are named by their hash."""
    commit = "0123456789" * 4
    cached = hub / f"models--{name.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "blobs").mkdir()
    (cached / "snapshots" / commit).mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, cached / "blobs" / f"hash-of-{path.name}")
        (cached / "snapshots" / commit / path.name).symlink_to(f"../../blobs/hash-of-{path.name}")


def test_a_name_of_the_hub(offline_hub: Path, good: Path) -> None:
    put_into(offline_hub, "somebody/some-model", good)
    for mine in (Translator.load("hf:somebody/some-model"), Translator.from_pretrained("somebody/some-model")):
        assert same_model(mine, Translator.load(good))
    # What is written beside it does not go into the cache.
    assert load_checkpoint("hf:somebody/some-model").path == Path("some-model")


def test_only_our_files_are_asked_for(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], **_: object) -> str:
        asked.append((name, allow_patterns))
        return str(good)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load_checkpoint("hf:a/b")
    files = [CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE, SOURCE_VOCABULARY_FILE]
    assert asked == [("a/b", [CONFIG_FILE]), ("a/b", files)]


@pytest.mark.parametrize("name", ["nobody/nothing", "", "a/b/c", "../x", "other/program"])
def test_what_the_hub_does_not_have(offline_hub: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / CONFIG_FILE).write_text('{"model_type": "gpt2"}')
    put_into(offline_hub, "other/program", tmp_path / "other")
    message = "model_type" if name == "other/program" else r"Hugging Face Hub"
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(f"hf:{name}")
    assert "\n" not in str(error.value)


# What is no model, or not a whole one.


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE])
@pytest.mark.parametrize("way", ["missing", "empty", "cut", "folder", "pipe", "device", "dangling link"])
def test_files_that_are_not_whole(folder: Path, name: str, way: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    match way:
        case "empty" | "cut":
            path.write_bytes(b"" if way == "empty" else data[:-50])
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling link":
            path.symlink_to("nowhere")
    # Without its configuration a folder is not taken for one of a model.
    is_any_folder = name == CONFIG_FILE and way == "missing"
    assert ("there is no checkpoint in" if is_any_folder else name) in refused(folder)


def changed(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda config: config.update(values)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda config: config.pop(name)


NUMBERS = [0, -1, 2**20, 2**62, 2**200, 1.5, 1e308, "32", None, True, [], {}]
SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"{name} {value!r:.20}": changed(**{name: value})
        for name in ("d_model", "d_ff", "num_heads", "num_layers")
        for value in NUMBERS
        if value is not True or name not in ("num_layers", "num_heads")  # to Python it is 1
    },
    **{f"no {name}": without(name) for name in ("d_model", "norm", "step", "versions")},
    "unknown field": changed(auto_map={"AutoModel": "evil.py"}),
    "format 3": changed(format=3),
    "format of a long number": changed(format=10**4000),
    "other model": changed(model_type="marian"),
    "source": changed(source=5),
    "step": changed(step="five"),
    "step yes": changed(step=True),
    "versions": changed(versions=None),
    "norm": changed(norm="batch"),
    "dropout": changed(dropout=float("nan")),
    "positions": changed(positions="learned", max_positions=2**62),
    "positions in a list": changed(positions=["learned"]),
    "alibi": changed(positions="alibi", num_heads=2**50, d_k=1, d_v=1),
    "d_v": changed(d_v=2**40),
}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Little more memory than is used, so that building a size that a file states ends in a MemoryError."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the limit on address space is Linux's")
    resource = pytest.importorskip("resource")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("change", SPOILT)
def test_configurations_that_lie(folder: Path, change: str) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    SPOILT[change](config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    refused(folder)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "text",
    [
        b"[" * 500_000,
        b'{"a":' * 150_000,
        b"[1, 2]",
        b'"lit_transformer"',
        b"9" * 500_000,
        b'{"model_type": "lit_transformer", "format": 2' + b', "x": 0' * 100 + b"}",
        b" " * 2**20 + b"{}",
        b"\xff\xfe\x00",
        b"format: 2\n",
    ],
    ids=["lists", "objects", "list", "text", "number", "doubled", "long", "not UTF-8", "YAML"],
)
def test_what_is_no_configuration(folder: Path, text: bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(text)
    refused(folder)


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def spoilt(path: Path) -> None:
        weights = load_file(path)
        change(weights)
        save_file({name: value.contiguous() for name, value in weights.items()}, path)

    return spoilt


def header(**lies: object) -> Callable[[Path], None]:
    """A header that describes the embedding wrongly."""

    def spoilt(path: Path) -> None:
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        content = json.loads(data[8 : 8 + size])
        content["embedding.weight"].update(lies)
        text = json.dumps(content).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return spoilt


WRONG_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (tensors(lambda weights: weights.pop("embedding.weight")), r"another architecture.*embedding\.weight"),
    "none": (tensors(dict.clear), r"holds no model"),
    "surplus": (
        tensors(lambda weights: weights.update(more=torch.ones(1), most=torch.ones(2))),
        r"another architecture.*more",
    ),
    "shape": (
        tensors(lambda weights: weights.update({"embedding.weight": torch.ones(130, 32)})),
        r"embedding\.weight.*130",
    ),
    "integers": (
        tensors(lambda weights: weights.update({"embedding.weight": torch.ones(131, 32, dtype=torch.int64)})),
        r"another architecture",
    ),
    "eight bits": (
        tensors(lambda weights: weights.update({"embedding.weight": torch.ones(131, 32).to(torch.float8_e4m3fn)})),
        r"of type torch\.float8_e4m3fn",
    ),
    "complex": (
        tensors(lambda weights: weights.update({"embedding.weight": torch.ones(131, 32, dtype=torch.complex64)})),
        r"of type torch\.complex64",
    ),
    "not numbers": (
        tensors(lambda weights: weights.update({"embedding.weight": torch.full((131, 32), float("nan"))})),
        r"not finite",
    ),
    "header of another size": (header(shape=[2**40, 32]), r"cannot read the weights"),
    "header of no size": (header(shape=[0, 2**62]), r"cannot read the weights"),
    "header that overlaps": (header(data_offsets=[0, 131 * 32 * 4]), r"cannot read the weights"),
    "header outside": (header(data_offsets=[2**60, 2**60 + 131 * 32 * 4]), r"cannot read the weights"),
    "header of another type": (header(dtype="F64"), r"cannot read the weights"),
    "header too long": (
        lambda path: path.write_bytes(struct.pack("<Q", 2**62) + bytes(99)),
        r"cannot read the weights",
    ),
    "header too deep": (
        lambda path: path.write_bytes(struct.pack("<Q", 10**6) + b'{"a":' * 200_000),
        r"cannot read the weights",
    ),
    "pickle": (lambda path: torch.save({"embedding.weight": torch.ones(131, 32)}, path), r"cannot read the weights"),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_weights_that_do_not_fit(folder: Path, kind: str) -> None:
    spoil, message = WRONG_WEIGHTS[kind]
    spoil(folder / WEIGHTS_FILE)
    assert re.search(message, refused(folder))


@settings(max_examples=40)
@given(
    st.sampled_from([CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE]), st.floats(0, 1), st.binary(min_size=1, max_size=9)
)
def test_bytes_written_over(
    good: Path, tmp_path_factory: pytest.TempPathFactory, name: str, at: float, new: bytes
) -> None:
    """The folder is refused with one line, or it translates."""
    folder = shutil.copytree(good, tmp_path_factory.mktemp("over") / "model")
    data = (folder / name).read_bytes()
    # The descriptions at the beginning matter more than the weights.
    place = int(at**3 * len(data))
    (folder / name).write_bytes(data[:place] + new + data[place + len(new) :])
    with contextlib.suppress(UserError):
        assert len(Translator.load(folder).translate(SENTENCES[:1], SearchSettings(beam_size=1))) == 1
