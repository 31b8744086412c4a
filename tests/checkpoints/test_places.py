"""Which checkpoint is meant by a run folder, by a folder above runs, and by `auto` and `last`."""

import os
import shutil
from pathlib import Path

import pytest

from lit_transformer import Translator
from lit_transformer.checkpoints.format import read_checkpoint, remove_training_state, save_checkpoint
from lit_transformer.checkpoints.names import (
    best_path,
    interrupted_path,
    regular_checkpoints,
    step_path,
)
from lit_transformer.checkpoints.places import (
    find_checkpoint,
    load_checkpoint,
    newest_checkpoints_folder,
    newest_readable_checkpoint,
)
from lit_transformer.errors import UserError


@pytest.fixture(scope="module")
def file(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a training state."""
    path = tmp_path_factory.mktemp("resumable") / "file.ckpt"
    save_checkpoint({**read_checkpoint(step_path(tiny_run / "checkpoints", 120)), "optimizer_states": []}, path)
    return path


def write_run(folder: Path, file: Path, *steps: int, best: int | None = None, time: int = 1_000_000) -> Path:
    """Write the checkpoints of a run, all with the same content, one second apart."""
    (folder / "checkpoints").mkdir(parents=True)
    paths = [step_path(folder / "checkpoints", step) for step in steps]
    if best is not None:
        paths.append(best_path(folder / "checkpoints", best))
    for number, path in enumerate(paths):
        shutil.copy(file, path)
        os.utime(path, (time + number, time + number))
    return folder


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


@pytest.mark.parametrize(
    "place", ["missing.ckpt", "empty", "a" * 300, "~nobody-has-this-name/x", "nul\0byte", "file.ckpt/below"]
)
def test_nothing_there(tmp_path: Path, place: str, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(file, tmp_path / "file.ckpt")
    path = place if place.startswith("~") else str(tmp_path / place)
    for find in (find_checkpoint, load_checkpoint, newest_checkpoints_folder, Translator.load):
        with pytest.raises(UserError, match=r"there is no checkpoint|cannot read the checkpoint|no such home") as error:
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


def test_resuming_passes_over_weights_alone(tmp_path: Path, file: Path) -> None:
    """A user may have removed the newest checkpoint, or saved another one with weights only."""
    paths = regular_checkpoints(write_run(tmp_path / "run", file, 10, 20) / "checkpoints")
    remove_training_state(paths[1])
    assert newest(tmp_path) == (paths[0], [paths[1]])
    assert find_checkpoint(tmp_path) == paths[1]
    assert Translator.load(tmp_path).translate(["A cat."])


def test_checkpoints_of_lightning_are_found(tmp_path: Path, file: Path) -> None:
    """A plain trainer names them by epoch and step."""
    folder = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    names = ("epoch=0-step=9.ckpt", "epoch=0-step=111.ckpt", "epoch=0-step=111-v1.ckpt", "last.ckpt", "step.ckpt")
    for name in names:
        shutil.copy(file, folder / name)
    assert find_checkpoint(tmp_path).name == "epoch=0-step=111.ckpt"
    assert [path.name for path in regular_checkpoints(folder)] == ["epoch=0-step=9.ckpt", names[2], names[1]]
    step_path(folder, 50).touch()
    assert regular_checkpoints(folder) == [step_path(folder, 50)]


def newest(root: Path) -> tuple[Path | None, list[Path]]:
    found, unreadable = newest_readable_checkpoint(root)
    return found.path if found else None, list(unreadable)


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
    """Runs, or the checkpoints of a run, may be on another disk. A link may lead back."""
    root, disk = tmp_path / "runs", tmp_path / "disk"
    folder = write_run(root / "logs" / "version_0", file, 10, 20) / "checkpoints"
    (root / linked).rename(disk)
    (root / linked).symlink_to(disk)
    (root / "logs" / "again").symlink_to(root)
    assert newest(root) == (folder / "step-00000020.ckpt", [])
    assert find_checkpoint(root) == folder / "step-00000020.ckpt"
