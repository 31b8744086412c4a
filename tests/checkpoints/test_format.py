"""What may lie where a checkpoint is looked for: the right thing, half of it, something else."""

import errno
import json
import os
import pickle
import random
import shutil
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

from lit_transformer import Translator
from lit_transformer.checkpoints.average import average_checkpoints
from lit_transformer.checkpoints.format import load_checkpoint_file, read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.names import (
    best_path,
    interrupted_checkpoints,
    interrupted_path,
    regular_checkpoints,
    step_of,
    step_path,
)
from lit_transformer.checkpoints.places import (
    find_checkpoint,
    load_checkpoint,
    newest_checkpoints_folder,
    newest_readable_checkpoint,
)
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError


@pytest.fixture(scope="module")
def file(tiny_run: Path) -> Path:
    return step_path(tiny_run / "checkpoints", 120)


@pytest.fixture
def content(file: Path) -> dict[str, Any]:
    """What the file holds, to be changed and saved elsewhere."""
    return read_checkpoint(file)


def write_run(folder: Path, file: Path, *steps: int, best: int | None = None, time: int = 1_000_000) -> Path:
    """A run's checkpoints, each the same model, written a second after each other."""
    (folder / "checkpoints").mkdir(parents=True)
    paths = [step_path(folder / "checkpoints", step) for step in steps]
    if best is not None:
        paths.append(best_path(folder / "checkpoints", best))
    for number, path in enumerate(paths):
        shutil.copy(file, path)
        os.utime(path, (time + number, time + number))
    return folder


def same(mine: TrainedModel, other: TrainedModel) -> bool:
    weights, others = mine.transformer.state_dict(), other.transformer.state_dict()
    return (
        weights.keys() == others.keys()
        and all(torch.equal(weights[name], others[name]) for name in weights)
        and mine.transformer.config == other.transformer.config
        and mine.tokenizer.model_bytes == other.tokenizer.model_bytes
        and (mine.source, mine.target, mine.step) == (other.source, other.target, other.step)
    )


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


# Which checkpoint is meant.


def test_a_run_stands_for_its_best_or_else_its_latest_checkpoint(tmp_path: Path, file: Path) -> None:
    scored = write_run(tmp_path / "scored", file, 100, 7, 300, best=100)
    assert find_checkpoint(scored).name == "best-step-00000100.ckpt"
    unscored = write_run(tmp_path / "unscored", file, 300, 7)
    assert find_checkpoint(unscored).name == "step-00000300.ckpt"
    assert find_checkpoint(unscored / "checkpoints").name == "step-00000300.ckpt"
    assert find_checkpoint(str(file)) == file
    (unscored / "checkpoints" / "average-5.ckpt").write_bytes(b"not regular")
    assert find_checkpoint(unscored).name == "step-00000300.ckpt"


def test_above_several_runs_the_one_written_to_last_is_meant(tmp_path: Path, file: Path) -> None:
    write_run(tmp_path / "logs" / "version_1", file, 10, best=10, time=2_000_000)
    write_run(tmp_path / "logs" / "version_2", file, 900, best=900, time=1_000_000)
    write_run(tmp_path / "other", file, 900, best=900, time=500_000)
    for root in (tmp_path, tmp_path / "logs"):
        assert find_checkpoint(root) == tmp_path / "logs/version_1/checkpoints/best-step-00000010.ckpt"
        assert newest_checkpoints_folder(root) == tmp_path / "logs/version_1/checkpoints"


def test_regular_checkpoints_are_in_the_order_of_steps_not_of_names_or_times(tmp_path: Path, file: Path) -> None:
    run = write_run(tmp_path, file, 100_000_000, 99, 99_999_999, 5, best=99)
    steps = [step_of(path) for path in regular_checkpoints(run / "checkpoints")]
    assert steps == [5, 99, 99_999_999, 100_000_000]


@pytest.mark.parametrize(
    "place", ["missing.ckpt", "empty", "a" * 300, "~nobody-has-this-name/x", "nul\0byte", "file.ckpt/below"]
)
def test_nothing_there(tmp_path: Path, place: str, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(file, tmp_path / "file.ckpt")
    path = place if place.startswith("~") else str(tmp_path / place)
    for find in (find_checkpoint, load_checkpoint, newest_checkpoints_folder, Translator.load):
        with pytest.raises(UserError, match=r"there is no checkpoint|cannot read the checkpoint") as error:
            find(path)
        assert len(str(error.value).splitlines()) == 1


def test_resuming_passes_over_what_is_damaged(tmp_path: Path, file: Path) -> None:
    run = write_run(tmp_path / "run", file, 10, 20, 30, 40, best=25)
    paths = regular_checkpoints(run / "checkpoints")
    best = best_path(run / "checkpoints", 25)
    data = file.read_bytes()
    for path, damaged in ((paths[3], data[:-100]), (paths[2], data[:9999] + b"\0\0\0\0" + data[10_003:])):
        times = path.stat()
        path.write_bytes(damaged)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert newest(tmp_path) == (best, [paths[3], paths[2]])
    best.unlink()
    assert newest(tmp_path) == (paths[1], [paths[3], paths[2]])
    assert newest(tmp_path / "nowhere") == (None, [])


def newest(root: Path) -> tuple[Path | None, list[Path]]:
    found, damaged = newest_readable_checkpoint(root)
    return found.path if found else None, damaged


def test_resuming_takes_the_newest_run_and_there_the_highest_step(tmp_path: Path, file: Path) -> None:
    """Copying changes the times of files, and reading a folder shuffles them."""
    copied = write_run(tmp_path / "logs" / "version_9", file, 40, 30, 10, time=2_000_000)
    write_run(tmp_path / "logs" / "version_10", file, 900, time=1_000_000)
    assert newest(tmp_path) == (step_path(copied / "checkpoints", 40), [])
    interrupted = interrupted_path(copied / "checkpoints", 47)
    shutil.copy(file, interrupted)
    assert newest(tmp_path) == (interrupted, [])
    best = best_path(copied / "checkpoints", 50)
    shutil.copy(file, best)
    assert newest(tmp_path) == (best, [])


@pytest.mark.parametrize("linked", ["logs", "logs/version_0/checkpoints"])
def test_links_to_folders_are_followed(tmp_path: Path, file: Path, linked: str) -> None:
    """A larger disk holds the runs, or the checkpoints of one; a link that leads back does no harm."""
    root, disk = tmp_path / "runs", tmp_path / "disk"
    folder = write_run(root / "logs" / "version_0", file, 10, 20) / "checkpoints"
    (root / linked).rename(disk)
    (root / linked).symlink_to(disk)
    (root / "logs" / "again").symlink_to(root)
    assert newest(root) == (folder / "step-00000020.ckpt", [])
    assert find_checkpoint(root) == folder / "step-00000020.ckpt"


def test_checkpoints_of_interruptions_are_no_regular_ones(tmp_path: Path, file: Path) -> None:
    folder = write_run(tmp_path, file, 10, 20) / "checkpoints"
    interrupted = interrupted_path(folder, 15)
    shutil.copy(file, interrupted)
    assert regular_checkpoints(folder) == [step_path(folder, step) for step in (10, 20)]
    assert interrupted_checkpoints(folder) == [interrupted]
    assert find_checkpoint(interrupted) == interrupted
    assert load_checkpoint(interrupted).path == interrupted


# What is no checkpoint, or not a whole one.


def test_truncated(tmp_path: Path, file: Path) -> None:
    data, path = file.read_bytes(), tmp_path / "cut.ckpt"
    lengths = [0, 1, 3, 4, 21, 22, 63, 64, *range(0, len(data), len(data) // 37), *range(len(data) - 1, 1, -3571)]
    for length in lengths:
        path.write_bytes(data[:length])
        refused(path)


def test_flipped_bits(tmp_path: Path, file: Path) -> None:
    """A bit that matters is found out; one that does not (a date, a flag of the archive) changes nothing."""
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
            assert same(model, whole)
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
    assert str(path) in model if isinstance(model, str) else same(model, load_checkpoint(file))


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
        with pytest.raises(UserError, match=r"cannot read the checkpoint .*step-00000001\.ckpt"):
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
        assert newest_readable_checkpoint(tmp_path) == (None, [path])
        assert not marker.exists()
    # The payload is sharp.
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()


def entry(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["lit_transformer"].update({name: value})


def weight(value: torch.Tensor) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["state_dict"].update({"transformer.embedding.weight": value})


ACCIDENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another version": (
        entry("format", 3),
        r"has format 3, this version reads up to 2: take the version that wrote it",
    ),
    "another program": (lambda content: content.pop("lit_transformer"), r"is not a checkpoint of lit_transformer"),
    "another architecture": (
        lambda content: content["lit_transformer"]["transformer"].update(d_ff=65),
        r"has weights of another architecture: .*size mismatch",
    ),
    "another vocabulary": (weight(torch.ones(130, 32)), r"has weights of another architecture: .*size mismatch"),
    "a weight is missing": (lambda content: content["state_dict"].popitem(), r"another architecture: .*Missing"),
    "a weight too many": (
        lambda content: content["state_dict"].update({"transformer.more": torch.ones(1)}),
        r"another architecture: .*Unexpected",
    ),
    "diverged": (weight(torch.full((131, 32), float("nan"))), r"has weights that are not finite: its training"),
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


# Writing.


def test_a_full_disk_leaves_the_former_file(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "x.ckpt"
    path.write_bytes(b"former")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            UserError, match=r"cannot write the checkpoint .*x\.ckpt: No space left on device; make room"
        ):
            save_checkpoint(content, path)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x.ckpt", b"former")]


def test_a_file_that_may_not_grow(tmp_path: Path, file: Path, repo_root: Path) -> None:
    """The disk refuses in the middle of torch's writing, where torch raises what it likes."""
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
    message = f"cannot write the checkpoint {path}: File too large; make room or choose another place"
    assert done.stdout.splitlines() == [message] * 4
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x.ckpt", b"former")]


def test_places_where_nothing_can_be_written(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("former")
    (tmp_path / "folder").mkdir()
    for place in ("file/x.ckpt", "folder", "a" * 300):
        with pytest.raises(UserError, match=r"cannot write the checkpoint"):
            save_checkpoint(content, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    save_checkpoint(content, tmp_path / "new" / "folders" / "x.ckpt")
    assert read_checkpoint(tmp_path / "new/folders/x.ckpt").keys() == content.keys()


# Averaging.


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_the_mean_of_copies_is_the_copy_to_the_bit(file: Path, content: dict[str, Any], number: int) -> None:
    mean = average_checkpoints([file] * number).transformer.state_dict()
    assert {f"transformer.{name}" for name in mean} == content["state_dict"].keys()
    for name, value in mean.items():
        former = content["state_dict"][f"transformer.{name}"]
        assert torch.equal(value.view(torch.int32), former.view(torch.int32)), name


def test_the_mean_is_that_of_float64(tiny_run: Path) -> None:
    paths = regular_checkpoints(tiny_run / "checkpoints")
    assert len(paths) == 3
    mean = average_checkpoints(paths)
    weights = [read_checkpoint(path)["state_dict"] for path in paths]
    for name, value in mean.transformer.state_dict().items():
        expected = torch.stack([each[f"transformer.{name}"].double() for each in weights]).mean(dim=0)
        assert torch.equal(value, expected.float()), name
        assert not torch.equal(value, weights[-1][f"transformer.{name}"])
    last = load_checkpoint(paths[-1])
    assert mean.tokenizer.model_bytes == last.tokenizer.model_bytes
    assert (mean.source, mean.target, mean.step) == (last.source, last.target, last.step)
    # The embedding is tied three ways.
    assert [name for name, value in mean.transformer.state_dict().items() if value.shape[0] == 131] == [
        "embedding.weight"
    ]


def test_an_average_of_former_versions(tmp_path: Path, file: Path, content: dict[str, Any]) -> None:
    """They wrote a checkpoint without a training state."""
    path = tmp_path / "average-1.ckpt"
    save_checkpoint({name: content[name] for name in ("state_dict", "lit_transformer")}, path)
    assert same(load_checkpoint(path), load_checkpoint(file))


def test_only_checkpoints_of_one_run_are_averaged(tmp_path: Path, file: Path, content: dict[str, Any]) -> None:
    other = tmp_path / "other.ckpt"

    def check(message: str) -> None:
        save_checkpoint(content, other)
        with pytest.raises(UserError, match=message) as error:
            average_checkpoints([file, other])
        assert str(other) in str(error.value)
        assert str(file) in str(error.value)
        content.update(read_checkpoint(file))

    content["lit_transformer"]["tokenizer"] += b"\x00"
    check(r"has another tokenizer than")
    content["lit_transformer"]["transformer"]["num_heads"] = 4
    check(r"has another transformer than")
    content["lit_transformer"]["target"] = "fr"
    check(r"has another target than")
    # Dropout may change on the way; it is no part of what the weights mean.
    content["lit_transformer"]["transformer"]["dropout"] = 0.3
    save_checkpoint(content, other)
    assert average_checkpoints([file, other]).transformer.config.dropout == 0.3
