"""The checkpoint format: writing, reading, and files that are damaged or something else."""

import errno
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer.checkpoints.average import average_checkpoints
from lit_transformer.checkpoints.format import load_checkpoint_file, read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.places import (
    load_checkpoint,
    newest_readable_checkpoint,
)
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError
from tests.helpers.checkpoints import same_model


def loaded(path: Path) -> TrainedModel | str:
    """The model, or the error's message."""
    try:
        return load_checkpoint(path)
    except UserError as error:
        return str(error)


def refused(path: Path) -> None:
    """Assert that a file is refused by everything that reads one, with one line that names it."""
    for read in (load_checkpoint_file, read_checkpoint, lambda path: average_checkpoints([path])):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


# What is no checkpoint, or not a whole one.


def test_truncated(tmp_path: Path, file: Path) -> None:
    data, path = file.read_bytes(), tmp_path / "cut.ckpt"
    lengths = [0, 1, 3, 4, 21, 22, 63, 64, *range(0, len(data), len(data) // 37), *range(len(data) - 1, 1, -3571)]
    for length in lengths:
        path.write_bytes(data[:length])
        refused(path)


def test_flipped_bits(tmp_path: Path, file: Path) -> None:
    """A flipped bit is either detected, or without effect (a date or a flag of the archive)."""
    data, path = file.read_bytes(), tmp_path / "flipped.ckpt"
    whole = load_checkpoint(file)
    generator = random.Random(1)
    # Everywhere, and above all where the archive describes itself: in its last bytes and around its first record.
    places = [generator.randrange(len(data)) for _ in range(150)]
    places += [generator.randrange(len(data) - 5000, len(data)) for _ in range(100)] + list(range(0, 200, 3))
    found_out = 0
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :])
        model = loaded(path)
        if isinstance(model, str):
            assert str(path) in model
            found_out += 1
        else:
            assert same_model(model, whole)
    assert found_out > 150


@given(st.binary(max_size=300), st.integers(0, 2**20), st.booleans())
@settings(max_examples=30)
def test_bytes_written_over(
    tmp_path_factory: pytest.TempPathFactory, file: Path, new: bytes, at: int, insert: bool
) -> None:
    data = file.read_bytes()
    at %= len(data) + 1
    path = tmp_path_factory.mktemp("over") / "x.ckpt"
    path.write_bytes(data[:at] + new + data[at + (0 if insert else len(new)) :])
    model = loaded(path)
    assert str(path) in model if isinstance(model, str) else same_model(model, load_checkpoint(file))


def other_kinds() -> Iterator[tuple[str, Callable[[Path], object]]]:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield "dictionary", lambda path: torch.save({"weights": torch.ones(3)}, path)
    yield "list", lambda path: torch.save([1, 2, 3], path)
    yield "tensor", lambda path: torch.save(torch.ones(3), path)
    yield "lightning", lambda path: torch.save({"state_dict": {"w": torch.ones(3)}, "global_step": 5}, path)
    yield "old torch", lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    yield "pickle", lambda path: path.write_bytes(pickle.dumps({"state_dict": {}, "lit_transformer": {}}))
    yield "safetensors", lambda path: path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    yield "text", lambda path: path.write_text("The cat sleeps.\n")
    yield "empty", lambda path: path.write_bytes(b"")
    yield "zeros", lambda path: path.write_bytes(bytes(9999))
    yield "empty zip", lambda path: zipfile.ZipFile(path, "w").close()
    if hasattr(os, "mkfifo"):  # not on Windows
        yield "pipe", os.mkfifo
    yield "folder", lambda path: (path / "step-00000001.ckpt").mkdir(parents=True)


KINDS = dict(other_kinds())


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.ckpt"
    KINDS[kind](path)
    if kind == "folder":
        with pytest.raises(UserError, match=r"step-00000001\.ckpt"):
            load_checkpoint(path)
        return
    refused(path)


def test_another_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    refused(path)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch {self.marker}",)


def test_pickled_code_never_runs(tmp_path: Path, content: dict[str, Any]) -> None:
    marker, path = tmp_path / "touched", tmp_path / "step-00000001.ckpt"
    payload = Payload(marker)
    ways: list[Callable[[Path], object]] = [
        lambda path: torch.save(payload, path),
        lambda path: torch.save(payload, path, _use_new_zipfile_serialization=False),
        lambda path: path.write_bytes(pickle.dumps(payload)),
        lambda path: torch.save({**content, "optimizer_states": [payload]}, path),
        lambda path: torch.save({**content, "lit_transformer": payload}, path),
    ]
    for way in ways:
        way(path)
        refused(path)
        found, unreadable = newest_readable_checkpoint(tmp_path)
        assert (found, list(unreadable)) == (None, [path])
        assert not marker.exists()
    # The payload is sharp.
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()


def entry(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["lit_transformer"].update({name: value})


def weight(value: torch.Tensor) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["state_dict"].update({"transformer.embedding.weight": value})


ACCIDENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another version": (entry("format", 3), r"format 3\b"),
    "another program": (lambda content: content.pop("lit_transformer"), r"lit_transformer"),
    "another architecture": (
        lambda content: content["lit_transformer"]["transformer"].update(d_ff=65),
        r"another architecture",
    ),
    "another vocabulary": (
        weight(torch.ones(130, 32)),
        r"another architecture",
    ),
    "a source vocabulary too many": (
        lambda content: content["lit_transformer"].update(source_tokenizer=content["lit_transformer"]["tokenizer"]),
        r"another architecture.*source_embedding",
    ),
    "a weight is missing": (lambda content: content["state_dict"].popitem(), r"another architecture"),
    "diverged": (weight(torch.full((131, 32), float("nan"))), r"not finite"),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_whole_but_not_to_be_used(tmp_path: Path, content: dict[str, Any], accident: str) -> None:
    change, message = ACCIDENTS[accident]
    change(content)
    path = tmp_path / "x.ckpt"
    save_checkpoint(content, path)
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_other_modules_are_left_out_with_a_note(
    tmp_path: Path, file: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A callback can hang modules on the LightningModule or inside of it, and other ones at other steps."""
    others = {"probe.weight": torch.ones(2), "probe.bias": torch.ones(1), "ema.module.x": torch.ones(3)}
    content["state_dict"] = {**others, **content["state_dict"], "transformer.more": torch.ones(1)}
    path = tmp_path / "x.ckpt"
    save_checkpoint(content, path)
    assert same_model(load_checkpoint(path), load_checkpoint(file))
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: {path} ")
    for part in ("probe (2 tensors)", "ema (1 tensor)", "more (1 tensor)"):
        assert part in note
    content["state_dict"] = {name: value for name, value in content["state_dict"].items() if name not in others}
    save_checkpoint(content, tmp_path / "fewer.ckpt")
    mean = average_checkpoints([path, tmp_path / "fewer.ckpt", path])
    assert same_model(mean, load_checkpoint(file))
    assert "probe (2 tensors)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrapped", ["_orig_mod.transformer.", "transformer._orig_mod.", "module._forward_module.transformer."]
)
def test_names_of_wrappers_do_not_matter(tmp_path: Path, file: Path, content: dict[str, Any], wrapped: str) -> None:
    """torch.compile, DDP and strategies put their own names into those of weights."""
    weights = content["state_dict"]
    content["state_dict"] = {f"{wrapped}{name.removeprefix('transformer.')}": value for name, value in weights.items()}
    save_checkpoint(content, tmp_path / "x.ckpt")
    assert same_model(load_checkpoint(tmp_path / "x.ckpt"), load_checkpoint(file))
    assert same_model(average_checkpoints([file, tmp_path / "x.ckpt"]), load_checkpoint(file))


# Writing.


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, content: dict[str, Any]) -> None:
    content["callbacks"] = {"Mine": {"when": Path("x")}}
    with pytest.raises(UserError, match="callback Mine"):
        save_checkpoint(content, tmp_path / "x.ckpt")
    assert not list(tmp_path.iterdir())
    # As former versions wrote it.
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt holds pathlib\."):
        load_checkpoint(tmp_path / "x.ckpt")


def test_a_full_disk_leaves_the_former_file(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x.ckpt"
    path.write_bytes(b"former")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"x\.ckpt: No space left on device"):
            save_checkpoint(content, path)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x.ckpt", b"former")]


def test_a_file_that_may_not_grow(tmp_path: Path, file: Path, repo_root: Path) -> None:
    """The disk is full in the middle of torch's writing, where torch raises errors of its own."""
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"former")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from lit_transformer.errors import UserError\n"
        "from lit_transformer.checkpoints.format import read_checkpoint, save_checkpoint\n"
        "content = read_checkpoint(Path(sys.argv[1]))\n"
        "size = Path(sys.argv[1]).stat().st_size\n"
        "for limit in (10, size // 50, size // 2, size - 10):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try: save_checkpoint(content, Path(sys.argv[2]))\n"
        "    except UserError as error: print(error, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(file), str(path)]
    done = subprocess.run(command, cwd=repo_root, stdout=subprocess.PIPE, text=True, timeout=100, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(f"{path}: File too large" in line for line in lines)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x.ckpt", b"former")]


def test_places_where_nothing_can_be_written(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("former")
    (tmp_path / "folder").mkdir()
    for place in ("file/x.ckpt", "folder", "a" * 300):
        with pytest.raises(UserError, match=r"cannot write"):
            save_checkpoint(content, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    save_checkpoint(content, tmp_path / "new" / "folders" / "x.ckpt")
    assert read_checkpoint(tmp_path / "new/folders/x.ckpt").keys() == content.keys()
