"""Results are written whole or not at all, never over their inputs, and never over a device."""

import os
import re
import threading
from pathlib import Path

import pytest

from lit_transformer import attention
from lit_transformer import test as test_command
from lit_transformer.data.text_folder import pair_batches
from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import read_gold
from lit_transformer.files import expanded, new_folder, output_file, remove_unfinished, whole_file


def test_two_containers_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their process ids may be equal. Each file is whole, and the last one stays."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write_text("first")
        with whole_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file") as unfinished:
            unfinished.write_text("text")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(former)


def test_only_unfinished_files_are_removed(tmp_path: Path) -> None:
    for name in ("a.ckpt", "a.ckpt.1.tmp", "b.ckpt.1.tmp", "a.tmp.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a.2.tmp").mkdir()
    (tmp_path / "a.2.tmp" / "file").touch()
    remove_unfinished(tmp_path, "a.")
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "b.ckpt.1.tmp", "a.tmp.txt"}
    remove_unfinished(tmp_path / "nowhere", "a.")


def write(path: Path, *inputs: Path, text: str = "new") -> None:
    with output_file(path, inputs=inputs) as unfinished:
        unfinished.write_text(text)


def test_a_file_is_replaced_and_its_folder_is_made(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "new" / "file", text=text)
        assert (tmp_path / "new" / "file").read_text() == text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("file", "missing"):
        (tmp_path / name).symlink_to(tmp_path / "there" / name)
    (tmp_path / "there" / "file").write_text("former")
    for name in ("file", "missing"):
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_text() == "new"


def test_a_pipe_receives_the_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(60)
    assert read == ["new"]
    assert pipe.is_fifo()


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    """An administrator, as in a container, could replace /dev/null."""
    device = tmp_path / "null"
    device.symlink_to(os.devnull)
    write(device)
    assert device.is_symlink()
    assert Path(os.devnull).is_char_device()


def test_a_read_only_file_stays(tmp_path: Path) -> None:
    """Even for an administrator, who may write to any file."""
    file = tmp_path / "file"
    file.write_text("former")
    file.chmod(0o444)
    with pytest.raises(UserError, match=r"/file: .*read-only"):
        write(file)
    assert file.read_text() == "former"


def test_inputs_stay(tmp_path: Path) -> None:
    """Under another name, in a folder, and through a link."""
    (tmp_path / "folder").mkdir()
    for name in ("input", "folder/input"):
        (tmp_path / name).write_text("input")
    os.link(tmp_path / "input", tmp_path / "other name")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "input")
    inputs = tmp_path / "input", tmp_path / "folder", tmp_path / "missing"
    for name in ("input", "folder/input", "other name", "link", "folder/../input"):
        with pytest.raises(UserError, match=rf"output {tmp_path / name} .*input"):
            write(tmp_path / name, *inputs)
    assert (tmp_path / "input").read_text() == (tmp_path / "folder" / "input").read_text() == "input"
    write(tmp_path / "folder" / "another", *inputs)


def test_the_file_that_stdout_goes_to_stays(tmp_path: Path) -> None:
    """By its own name and by /dev/stdout."""
    stdout = os.dup(1)
    with (tmp_path / "printed").open("w") as file:
        os.dup2(file.fileno(), 1)
    try:
        os.write(1, b"former")
        names = [tmp_path / "printed", *(path for path in [Path("/dev/stdout")] if path.exists())]
        for name in names:
            with pytest.raises(UserError, match=f"output {name}\\b"):
                write(name)
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    assert (tmp_path / "printed").read_text() == "former"


def test_commands_name_their_inputs(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("en", "de"):
        (tmp_path / f"test.{language}").write_text("a\n")
    checkpoint = tmp_path / "model.json"  # pictures and numbers have these endings
    checkpoint.write_bytes((tiny_run / "checkpoints" / "step-00000120.ckpt").read_bytes())
    run = ["--checkpoint", str(checkpoint)]
    scoring = [*run, "--corpus", str(tmp_path), "--cache_dir", str(tmp_path / "cache"), "--output"]
    for main, args, output in (
        (test_command.main, scoring, tmp_path / "test.de"),
        (test_command.main, scoring, checkpoint),
        (attention.main, [*run, "--text", "a", "--output"], checkpoint),
    ):
        former = output.read_bytes()
        with pytest.raises(SystemExit, match="2"):
            main([*args, str(output)])
        assert f"output {output} is an input" in capsys.readouterr().err
        assert output.read_bytes() == former


def test_a_folder_is_new(tmp_path: Path) -> None:
    """An earlier result is replaced only if all its files are named as replaceable."""
    folder = tmp_path / "folder"
    for text in ("one", "two"):
        with new_folder(folder, replaceable=["model"]) as unfinished:
            (unfinished / "model").write_text(text)
        assert (folder / "model").read_text() == text
    for replaceable in ([], ["model"]):
        message = r"/folder: "
        with pytest.raises(UserError, match=message), new_folder(folder, replaceable=replaceable):
            pass
        (folder / "mine").touch()
    with pytest.raises(KeyError), new_folder(folder, replaceable=["model", "mine"]):
        raise KeyError
    assert {path.name for path in folder.iterdir()} == {"model", "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_places_where_no_folder_can_be(tmp_path: Path) -> None:
    """The root has no name, and a link may lead to itself."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place in (Path("/"), loop, loop / "folder"):
        with pytest.raises(UserError, match="cannot write"), new_folder(place):
            pass
    write(loop)
    assert loop.read_text() == "new"


ADDRESSES = (
    "s3://bucket/runs",
    "gs://bucket/runs",
    "memory://runs",
    "https://host/runs",
    "hf://owner/name",
    "file:///runs",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_no_paths(address: str, kind: type[str] | type[Path]) -> None:
    """A `Path` would be a folder with the name `s3:`."""
    with pytest.raises(UserError, match=f"^{re.escape(str(kind(address)))} is an address.* give") as error:
        expanded(kind(address))
    assert str(error.value).endswith(", /runs") == address.startswith("file:")


def test_paths_that_look_like_addresses() -> None:
    for path in ("demo:20000", "wmt/wmt14:de-en", "a:b/c", "C:/runs", "runs/a://b", "hf:owner/name"):
        assert expanded(path) == Path(path)


def test_paths_whose_status_cannot_be_read() -> None:
    """`check_regular` passes them, and opening the file reports why."""
    name = "x" * 300
    for read in (read_gold, lambda name: list(pair_batches(Path(name), Path(name)))):
        with pytest.raises(UserError, match=f"cannot read .*{name}"):
            read(name)
