"""What may lie where a checkpoint is looked for: the right thing, half of it, something else, something hostile."""

import errno
import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer import Translator, checkpoint
from lit_transformer.errors import UserError


@pytest.fixture(scope="module")
def file(tiny_run: Path) -> Path:
    return checkpoint.step_path(tiny_run / "checkpoints", 120)


@pytest.fixture
def content(file: Path) -> dict[str, Any]:
    """What the file holds, to be changed and saved elsewhere."""
    return checkpoint.read(file)


def write_run(folder: Path, file: Path, *steps: int, best: int | None = None, time: int = 1_000_000) -> Path:
    """A run's checkpoints, each the same model, written a second after each other."""
    (folder / "checkpoints").mkdir(parents=True)
    paths = [checkpoint.step_path(folder / "checkpoints", step) for step in steps]
    if best is not None:
        paths.append(checkpoint.best_path(folder / "checkpoints", best))
    for number, path in enumerate(paths):
        shutil.copy(file, path)
        os.utime(path, (time + number, time + number))
    return folder


def same(mine: checkpoint.TrainedModel, other: checkpoint.TrainedModel) -> bool:
    weights, others = mine.transformer.state_dict(), other.transformer.state_dict()
    return (
        weights.keys() == others.keys()
        and all(torch.equal(weights[name], others[name]) for name in weights)
        and mine.transformer.config == other.transformer.config
        and mine.tokenizer.model_bytes == other.tokenizer.model_bytes
        and (mine.source, mine.target, mine.step) == (other.source, other.target, other.step)
    )


def loaded(path: Path) -> checkpoint.TrainedModel | str:
    """The model, or the error's message."""
    try:
        return checkpoint.load(path)
    except UserError as error:
        return str(error)


def refused(path: Path) -> None:
    """Assert that a file is refused by everything that reads one, with one line that names it."""
    for read in (checkpoint.load, checkpoint.read, lambda path: checkpoint.average([path])):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


# Which checkpoint is meant.


def test_a_run_stands_for_its_best_or_else_its_latest_checkpoint(tmp_path: Path, file: Path) -> None:
    scored = write_run(tmp_path / "scored", file, 100, 7, 300, best=100)
    assert checkpoint.find(scored).name == "best-step-00000100.ckpt"
    unscored = write_run(tmp_path / "unscored", file, 300, 7)
    assert checkpoint.find(unscored).name == "step-00000300.ckpt"
    assert checkpoint.find(unscored / "checkpoints").name == "step-00000300.ckpt"
    assert checkpoint.find(str(file)) == file
    (unscored / "checkpoints" / "average-5.ckpt").write_bytes(b"not regular")
    assert checkpoint.find(unscored).name == "step-00000300.ckpt"


def test_above_several_runs_the_one_written_to_last_is_meant(tmp_path: Path, file: Path) -> None:
    write_run(tmp_path / "logs" / "version_1", file, 10, best=10, time=2_000_000)
    write_run(tmp_path / "logs" / "version_2", file, 900, best=900, time=1_000_000)
    write_run(tmp_path / "other", file, 900, best=900, time=500_000)
    for root in (tmp_path, tmp_path / "logs"):
        assert checkpoint.find(root) == tmp_path / "logs/version_1/checkpoints/best-step-00000010.ckpt"
        assert checkpoint.newest_folder(root) == tmp_path / "logs/version_1/checkpoints"


def test_regular_checkpoints_are_in_the_order_of_steps_not_of_names_or_times(tmp_path: Path, file: Path) -> None:
    run = write_run(tmp_path, file, 100_000_000, 99, 99_999_999, 5, best=99)
    steps = [checkpoint.step_of(path) for path in checkpoint.recent_steps(run / "checkpoints")]
    assert steps == [5, 99, 99_999_999, 100_000_000]


@pytest.mark.parametrize(
    "place", ["missing.ckpt", "empty", "a" * 300, "~nobody-has-this-name/x", "nul\0byte", "file.ckpt/below"]
)
def test_nothing_there(tmp_path: Path, place: str, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(file, tmp_path / "file.ckpt")
    path = place if place.startswith("~") else str(tmp_path / place)
    for find in (checkpoint.find, checkpoint.load, checkpoint.newest_folder, Translator.load):
        with pytest.raises(UserError, match=r"there is no checkpoint|cannot read the checkpoint") as error:
            find(path)
        assert len(str(error.value).splitlines()) == 1


def test_resuming_passes_over_what_is_damaged(tmp_path: Path, file: Path) -> None:
    run = write_run(tmp_path / "run", file, 10, 20, 30, 40, best=25)
    paths = checkpoint.recent_steps(run / "checkpoints")
    best = checkpoint.best_path(run / "checkpoints", 25)
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
    found, damaged = checkpoint.newest_readable(root)
    return found.path if found else None, damaged


def test_resuming_takes_the_newest_run_and_there_the_highest_step(tmp_path: Path, file: Path) -> None:
    """Copying changes the times of files, and reading a folder shuffles them."""
    copied = write_run(tmp_path / "logs" / "version_9", file, 40, 30, 10, time=2_000_000)
    write_run(tmp_path / "logs" / "version_10", file, 900, time=1_000_000)
    assert newest(tmp_path) == (checkpoint.step_path(copied / "checkpoints", 40), [])
    interrupted = checkpoint.interrupted_path(copied / "checkpoints", 47)
    shutil.copy(file, interrupted)
    assert newest(tmp_path) == (interrupted, [])
    best = checkpoint.best_path(copied / "checkpoints", 50)
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
    assert checkpoint.find(root) == folder / "step-00000020.ckpt"


def test_checkpoints_of_interruptions_are_no_regular_ones(tmp_path: Path, file: Path) -> None:
    folder = write_run(tmp_path, file, 10, 20) / "checkpoints"
    interrupted = checkpoint.interrupted_path(folder, 15)
    shutil.copy(file, interrupted)
    assert checkpoint.recent_steps(folder) == [checkpoint.step_path(folder, step) for step in (10, 20)]
    assert checkpoint.interrupted_steps(folder) == [interrupted]
    assert checkpoint.find(interrupted) == interrupted
    assert checkpoint.load(interrupted).path == interrupted


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
    whole = checkpoint.load(file)
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
    assert str(path) in model if isinstance(model, str) else same(model, checkpoint.load(file))


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
    yield "pipe", os.mkfifo
    yield "folder", lambda path: (path / "step-00000001.ckpt").mkdir(parents=True)


KINDS = dict(other_kinds())


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.ckpt"
    KINDS[kind](path)
    if kind == "folder":
        with pytest.raises(UserError, match=r"step-00000001\.ckpt is a folder"):
            checkpoint.load(path)
        return
    refused(path)


def repacked(file: Path, path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The archive with members replaced, all its checksums right."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.partition("/")[2], old.read(name)))


def test_another_zip(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    refused(path)
    # A member that is packed could unpack to any size.
    repacked(file, path, {}, zipfile.ZIP_DEFLATED)
    refused(path)
    repacked(file, path, {})
    assert same(checkpoint.load(path), checkpoint.load(file))


# What a hostile file tries.


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch {self.marker}",)


class Built(Payload):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return eval, (f"open({self.marker!r}, 'w').close()",)


@pytest.mark.parametrize("payload_type", [Payload, Built])
def test_pickled_code_never_runs(
    tmp_path: Path, file: Path, content: dict[str, Any], payload_type: type[Payload]
) -> None:
    marker, path = tmp_path / "touched", tmp_path / "step-00000001.ckpt"
    payload = payload_type(marker)
    plain, pickled = io.BytesIO(), pickle.dumps(payload)
    torch.save(payload, plain)

    def tarred(path: Path) -> None:  # torch's format of long ago
        with tarfile.open(path, "w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                info = tarfile.TarInfo(name)
                info.size = len(pickled)
                archive.addfile(info, io.BytesIO(pickled))

    ways: list[Callable[[Path], object]] = [
        lambda path: torch.save(payload, path),
        lambda path: torch.save(payload, path, _use_new_zipfile_serialization=False),
        lambda path: path.write_bytes(pickled),
        lambda path: repacked(file, path, {"data.pkl": pickled}),
        lambda path: torch.save({**content, "optimizer_states": [payload]}, path),
        lambda path: torch.save({**content, "lit_transformer": payload}, path),
        lambda path: torch.save({**content, payload: 1}, path),
        tarred,
    ]
    for way in ways:
        path.unlink(missing_ok=True)
        way(path)
        refused(path)
        assert checkpoint.newest_readable(tmp_path) == (None, [path])
        assert not marker.exists()
    # The payload is sharp.
    pickle.loads(pickled)
    assert marker.exists()


def changes() -> dict[str, Callable[[dict[str, Any]], object]]:
    """Ways to spoil a checkpoint that is whole: each changes its content in place."""

    def entry(name: str, value: object) -> Callable[[dict[str, Any]], object]:
        return lambda content: content["lit_transformer"].update({name: value})

    def config(name: str, value: object) -> Callable[[dict[str, Any]], object]:
        return lambda content: content["lit_transformer"]["transformer"].update({name: value})

    def weight(value: object) -> Callable[[dict[str, Any]], object]:
        return lambda content: content["state_dict"].update({"transformer.embedding.weight": value})

    spoilt: dict[str, Callable[[dict[str, Any]], object]] = {
        f"no {name}": lambda content, name=name: content["lit_transformer"].pop(name) for name in checkpoint.FIELDS
    }
    for name, wrong in {
        "format": [2, "1", torch.ones(2), None, 2**64],
        "transformer": [None, [], "base", {}, {1: 2}, {"d_model": torch.ones(2)}, {"unknown": 1}],
        "tokenizer": [None, "text", b"", b"no model", bytearray(b"x")],
        "source": [None, 5, b"en"],
        "step": ["120", None, 1.5, -1, 2**63],
    }.items():
        spoilt |= {f"{name} {number}": entry(name, value) for number, value in enumerate(wrong)}
    numbers = [0, -1, 2**20, 2**62, 2**200, 1.5, "32", None, float("inf"), float("nan")]
    for name in ("d_model", "d_ff", "num_heads", "num_layers"):
        spoilt |= {f"{name} {value!r}": config(name, value) for value in numbers}
    spoilt |= {
        "d_k": config("d_k", 2**40),
        "d_v": config("d_v", -5),
        "dropout": config("dropout", "much"),
        "norm": config("norm", "batch"),
        "positions": config("positions", "learned"),
        "max_positions": lambda content: content["lit_transformer"]["transformer"].update(
            positions="learned", max_positions=2**62
        ),
        "alibi": lambda content: content["lit_transformer"]["transformer"].update(
            positions="alibi", num_heads=2**50, d_k=1, d_v=1
        ),
        "no weights": lambda content: content.pop("state_dict"),
        "empty weights": lambda content: content["state_dict"].clear(),
        "weights in a list": lambda content: content.update(state_dict=[1]),
        "weight missing": lambda content: content["state_dict"].popitem(),
        "weight too many": lambda content: content["state_dict"].update({"transformer.more": torch.ones(1)}),
        "weight without name": lambda content: content["state_dict"].update({5: torch.ones(1)}),
        "weight of another shape": weight(torch.ones(131, 31)),
        "weight of integers": weight(torch.ones(131, 32, dtype=torch.int64)),
        "weight of eight bits": weight(torch.ones(131, 32).to(torch.float8_e4m3fn)),
        "weight sparse": weight(torch.ones(131, 32).to_sparse()),
        "weight on meta": weight(torch.ones(131, 32, device="meta")),
        "weight of text": weight("heavy"),
        "weight repeated": weight(torch.ones(1, 1).expand(131, 2**40)),
        "weight repeated in shape": weight(torch.ones(1, 1).expand(2**31, 32)),
        "weight not a number": weight(torch.full((131, 32), float("nan"))),
        "weight infinite": weight(torch.full((131, 32), float("inf"))),
    }
    return spoilt


SPOILT = changes()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Memory for what is there and not much more, so that a size that is believed ends in a MemoryError."""
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
def test_whole_but_hostile(tmp_path: Path, content: dict[str, Any], change: str) -> None:
    SPOILT[change](content)
    path = tmp_path / "x.ckpt"
    checkpoint.save(content, path)
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600 + 2 * len(str(path))


def test_a_vocabulary_with_flipped_bits(tmp_path: Path, content: dict[str, Any]) -> None:
    """The archive is whole, and SentencePiece reads what it is given in C++: it may refuse, it must not crash."""
    model = content["lit_transformer"]["tokenizer"]
    generator = random.Random(1)
    for _ in range(50):
        place = generator.randrange(3000)
        changed = bytearray(model)
        changed[place] ^= 1 << generator.randrange(8)
        content["lit_transformer"]["tokenizer"] = bytes(changed)
        checkpoint.save(content, tmp_path / "x.ckpt")
        try:
            translator = Translator.load(tmp_path / "x.ckpt")
        except UserError:
            continue
        assert len(translator.translate(["The cat sleeps.", ""], beam_size=1)) == 2


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
            checkpoint.save(content, path)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("x.ckpt", b"former")]


def test_a_file_that_may_not_grow(tmp_path: Path, file: Path, repo_root: Path) -> None:
    """The disk refuses in the middle of torch's writing, where torch raises what it likes."""
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"former")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from lit_transformer import checkpoint, errors\n"
        "content = checkpoint.read(Path(sys.argv[1]))\n"
        "size = Path(sys.argv[1]).stat().st_size\n"
        "for limit in (10, size // 50, size // 2, size - 10):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try: checkpoint.save(content, Path(sys.argv[2]))\n"
        "    except errors.UserError as error: print(error, flush=True)\n"
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
            checkpoint.save(content, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    checkpoint.save(content, tmp_path / "new" / "folders" / "x.ckpt")
    assert checkpoint.read(tmp_path / "new/folders/x.ckpt").keys() == content.keys()


# Averaging.


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_the_mean_of_copies_is_the_copy_to_the_bit(file: Path, content: dict[str, Any], number: int) -> None:
    mean = checkpoint.average([file] * number)["state_dict"]
    assert mean.keys() == content["state_dict"].keys()
    for name, value in mean.items():
        assert value.dtype == content["state_dict"][name].dtype
        assert torch.equal(value.view(torch.int32), content["state_dict"][name].view(torch.int32)), name


def test_the_mean_is_that_of_float64(tiny_run: Path) -> None:
    paths = checkpoint.recent_steps(tiny_run / "checkpoints")
    assert len(paths) == 3
    mean = checkpoint.average(paths)
    weights = [checkpoint.read(path)["state_dict"] for path in paths]
    for name, value in mean["state_dict"].items():
        expected = torch.stack([each[name].double() for each in weights]).mean(dim=0)
        assert torch.equal(value, expected.float()), name
        assert not torch.equal(value, weights[-1][name])
    assert mean["lit_transformer"] == checkpoint.read(paths[-1])["lit_transformer"]
    # No optimizer's state, and each weight once: the embedding is tied three ways.
    assert set(mean) == {"state_dict", "lit_transformer"}
    assert [name for name, value in mean["state_dict"].items() if value.shape[0] == 131] == [
        "transformer.embedding.weight"
    ]


def test_only_checkpoints_of_one_run_are_averaged(tmp_path: Path, file: Path, content: dict[str, Any]) -> None:
    other = tmp_path / "other.ckpt"

    def check(message: str) -> None:
        checkpoint.save(content, other)
        with pytest.raises(UserError, match=message) as error:
            checkpoint.average([file, other])
        assert str(other) in str(error.value)
        assert str(file) in str(error.value)
        content.update(checkpoint.read(file))

    content["lit_transformer"]["tokenizer"] += b"\x00"
    check(r"has another tokenizer than")
    content["lit_transformer"]["transformer"]["num_heads"] = 4
    check(r"has another transformer than")
    content["lit_transformer"]["target"] = "fr"
    check(r"has another target than")
    content["state_dict"]["transformer.embedding.weight"] = torch.ones(130, 32)
    check(r"has other weights than")
    del content["state_dict"]["transformer.embedding.weight"]
    check(r"has other weights than")
    # Dropout may change on the way; it is no part of what the weights mean.
    content["lit_transformer"]["transformer"]["dropout"] = 0.3
    checkpoint.save(content, other)
    assert checkpoint.average([file, other])["lit_transformer"]["transformer"]["dropout"] == 0.3
