"""Files from others run no code and make no command write elsewhere."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from lit_transformer import Translator
from lit_transformer.checkpoints.format import read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.names import regular_checkpoints
from lit_transformer.data.corpus import load_pairs
from tests.helpers.tiny import TINY_CORPUS, TINY_RECIPE, write_tiny_corpus
from tests.helpers.worker import Worker

TABLE = {language: TINY_CORPUS[f"train.{language}"].splitlines() for language in ("en", "de")}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.canary,)


@pytest.fixture
def home(tmp_path: Path, tiny_run: Path) -> Path:
    """A user's folder: a corpus, a recipe, a run, and private files."""
    write_tiny_corpus(tmp_path / "corpus")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "run" / "checkpoints")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "test.csv").write_text("en,de\nsecret,geheim\n")
    return tmp_path


def fit(home: Path, *args: object, command: str = "fit") -> list[object]:
    """Training as a command that writes to `cache` and `runs`."""
    places = [f"--data.cache_dir={home / 'cache'}", f"--trainer.default_root_dir={home / 'runs'}"]
    return [command, f"--config={home / 'recipe.yaml'}", f"--data.corpus={home / 'corpus'}", *places, *args]


def score(home: Path, *args: object) -> list[object]:
    base = ["--checkpoint", home / "run", "--corpus", home / "corpus", "--cache_dir", home / "cache", "--beam_size=1"]
    return ["test", *base, *args]


def files(folder: Path, *left_out: str) -> dict[str, bytes | str | None]:
    """The content of every file in a folder except in some subfolders, and the targets of links."""
    paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in left_out]
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in paths
    }


# Code.


def saved(payload: object, path: Path) -> None:
    torch.save(payload, path)


def pickled(payload: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


@pytest.mark.parametrize("write", [pickled, saved])
def test_no_pickle_is_ever_run(home: Path, worker: Worker, write: Callable[[object, Path], None]) -> None:
    """A payload in place of every file that a command reads, and under names that a library might load."""
    canary = home / "canary"
    payload = Payload(canary)
    hostile = home / "hostile"
    run = hostile / "runs" / "version_0"
    for name in ("step-00000007", "best-step-00000007", "last", "average-5", "hpc_ckpt_1"):
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        write(payload, run / "checkpoints" / f"{name}.ckpt")
    for name in ("hparams.yaml", "config.yaml", "starts.jsonl", "hpc_ckpt_1.ckpt"):
        write(payload, run / name)
    for name, suffixes in {"texts": [], "mixed": [".pkl", ".pt", ".pickle", ".npy"], "copy": [".parquet"]}.items():
        write_tiny_corpus(hostile / name) if name == "mixed" else (hostile / name).mkdir()
        for suffix in suffixes or [".en", ".de"]:
            for split in ("train", "valid", "test"):
                write(payload, hostile / name / f"{split}{suffix}")
    for suffix in (".arrow", ".json", ".csv", ".tar"):
        (hostile / f"copy{suffix}").mkdir()
        write(payload, hostile / f"copy{suffix}" / f"train{suffix}")
        (hostile / f"copy{suffix}" / "x.csv").touch()
    write(payload, hostile / "x.model")

    lines: list[list[object]] = [
        fit(home, f"--data.tokenizer={hostile / 'x.model'}"),
        fit(home, f"--config={run / 'config.yaml'}"),
        *(fit(home, f"--ckpt_path={path}") for path in sorted((run / "checkpoints").iterdir())),
        fit(home, f"--trainer.default_root_dir={hostile / 'runs'}", "--ckpt_path=last"),
        ["average", "--run", hostile / "runs", "--last", 1],
        *(["translate", "--checkpoint", path] for path in (hostile / "runs", run / "checkpoints" / "average-5.ckpt")),
        score(home, "--checkpoint", hostile / "runs"),
    ]
    for folder in [path for path in hostile.iterdir() if path.is_dir() and path.name != "runs"]:
        lines += [fit(home, f"--data.corpus={folder}", command=command) for command in ("fit", "check")]
        lines.append(score(home, "--corpus", folder))
    lines.append(fit(home, f"--trainer.default_root_dir={hostile / 'runs'}", "--ckpt_path=auto"))
    statuses = []
    for command, *args in lines:
        done = worker.run(str(command), *args)
        done.check()
        statuses.append(done.status)
        assert not canary.exists(), (command, args)
    assert statuses.count(0) == 3  # the good corpus beside the payloads
    # The payload is sharp.
    pickle.loads(pickle.dumps(payload))
    assert canary.exists()


def test_no_script_of_a_data_set_is_run(home: Path, worker: Worker) -> None:
    script = f"import os\nos.mkdir({str(home / 'canary')!r})\n"
    for kind in ("texts", "copy"):
        folder = home / kind
        if kind == "texts":
            write_tiny_corpus(folder)
        else:
            Dataset.from_dict(TABLE).to_csv(folder / "test.csv")
        for name in (f"{kind}.py", "__init__.py", "conftest.py", "sitecustomize.py"):
            (folder / name).write_text(script)
        assert worker.run(*score(home, "--corpus", folder)).status == 0
    assert not (home / "canary").exists()


def test_a_file_of_settings_is_plain_yaml(home: Path, worker: Worker) -> None:
    for tag in ("python/object/apply:os.mkdir", "python/object/new:os.mkdir"):
        (home / "x.yaml").write_text(f"data:\n  corpus: !!{tag} ['{home / 'canary'}']\n")
        assert worker.run(*fit(home, f"--config={home / 'x.yaml'}")).check()
    assert not (home / "canary").exists()


@pytest.mark.parametrize("name", ["pandas", "json", "csv", "text"])
def test_a_folder_may_have_the_name_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`datasets` would take such a name as the name of a loader and read files beside the folder."""
    monkeypatch.chdir(tmp_path)
    Dataset.from_dict({"en": ["inside"], "de": ["innen"]}).to_csv(tmp_path / name / "train.csv")
    (tmp_path / "train.csv").write_text("en,de\nbeside,neben\n")
    pickled(Payload(tmp_path / "canary"), tmp_path / "train.pkl")
    pairs = load_pairs(name, split="train", source="en", target="de", cache_dir=tmp_path / "cache")
    assert pairs["source"][:] == ["inside"]
    assert not (tmp_path / "canary").exists()


# Places.


def test_a_language_names_no_folder(home: Path, worker: Worker) -> None:
    folder = home / "run" / "model"
    Translator.load(home / "run").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["target"] = f"x/../../../../{home.name}/private/x"
    (folder / "config.json").write_text(json.dumps(config))
    former = files(home, "cache", "run")
    assert worker.run(*score(home, "--checkpoint", folder, "--target", "de")).check() == ""
    assert files(home, "cache", "run") == former
    assert len(list((home / "run" / "translations").iterdir())) == 1


def test_nothing_is_written_into_a_data_set(home: Path, worker: Worker) -> None:
    """Rows that are not text are converted, and `datasets` would store them beside the data."""
    table = Dataset.from_dict({"en": [None, *TABLE["en"][1:]], "de": TABLE["de"]})
    DatasetDict(train=table, validation=table, test=table).save_to_disk(home / "saved")
    table.to_parquet(home / "copy" / "test.parquet")
    former = files(home, "cache", "run", "runs")
    assert worker.run(*fit(home, f"--data.corpus={home / 'saved'}")).check() == ""
    for folder in ("saved", "copy"):
        assert worker.run(*score(home, "--corpus", home / folder)).check() == ""
    assert files(home, "cache", "run", "runs") == former


def test_a_data_set_names_no_files_elsewhere(home: Path) -> None:
    """Private text would be learned and published with the model."""
    private = home / "private"
    Dataset.from_dict(TABLE).to_csv(home / "copy" / "test.csv")
    for path in ("../private/test.csv", f"{private}/test.csv", "https://localhost:9/test.csv"):
        configurations = f"configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: '{path}'\n"
        (home / "copy" / "README.md").write_text(f"---\n{configurations}---\n# Text\n")
        (home / "copy" / ".huggingface.yaml").write_text(configurations)
        pairs = load_pairs(str(home / "copy"), split="test", source="en", target="de", cache_dir=home / "cache")
        assert pairs["source"][:] == TABLE["en"]
    # What `save_to_disk` writes beside the data.
    DatasetDict(test=Dataset.from_dict(TABLE)).save_to_disk(home / "saved")
    DatasetDict(test=Dataset.from_dict({"en": ["secret"], "de": ["geheim"]})).save_to_disk(private / "saved")
    [file] = (private / "saved" / "test").glob("*.arrow")
    state = json.loads((home / "saved" / "test" / "state.json").read_text())
    state["_data_files"] = [{"filename": os.path.relpath(file, home / "saved" / "test")}]
    (home / "saved" / "test" / "state.json").write_text(json.dumps(state))
    (home / "saved" / "dataset_dict.json").write_text('{"splits": ["test", "../../private/saved/test"]}')
    pairs = load_pairs(str(home / "saved"), split="test", source="en", target="de", cache_dir=home / "cache")
    assert pairs["source"][:] == TABLE["en"]


# Devices, pipes, and files that lie about themselves.


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("text/test.en", "is a device or a pipe"),
        ("text/test.de.gz", "is a device or a pipe"),
        ("copy/README.md", ""),
        ("copy/.huggingface.yaml", ""),
        ("copy/test.csv", "is a device or a pipe"),
        ("saved/test/state.json", ""),
        ("saved/test/dataset_info.json", ""),
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices(home: Path, worker: Worker, name: str, problem: str, kind: str) -> None:
    """Reading a pipe or a device would never end."""
    write_tiny_corpus(home / "text")
    Dataset.from_dict(TABLE).to_csv(home / "copy" / "test.csv")
    DatasetDict(test=Dataset.from_dict(TABLE)).save_to_disk(home / "saved")
    path = home / name
    path.unlink(missing_ok=True)
    path.with_suffix("").unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    message = worker.run(*score(home, "--corpus", home / name.partition("/")[0])).check()
    assert problem in message if problem else not message


def test_a_pipe_for_a_vocabulary(home: Path, worker: Worker) -> None:
    os.mkfifo(home / "x.model")
    assert "is a device or a pipe" in worker.run(*fit(home, f"--data.tokenizer={home / 'x.model'}")).check()


@pytest.mark.parametrize("kind", ["test.arrow", "test/test.arrow", "test.parquet"])
@pytest.mark.parametrize(
    ("true", "lie"),
    [
        (struct.pack("<3i", 0, 5, 10), struct.pack("<3i", 0, 2**30, 2**31 - 1)),
        (struct.pack("<3i", 0, 5, 10), struct.pack("<3i", 0, 7, 3)),
        (b"cats", b"\xff\xfe\xfd\xfc"),
    ],
    ids=["long", "backwards", "not UTF-8"],
)
def test_tables_that_lie(home: Path, worker: Worker, kind: str, true: bytes, lie: bytes) -> None:
    """Arrow trusts the offsets of texts and would read past the end of the file."""
    path = home / "copy" / kind
    path.parent.mkdir(parents=True)
    table = pa.table({"en": ["cats!", "dogs!"], "de": ["a", "b"]})
    if path.suffix == ".parquet":
        parquet.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    if path.parent.name == "test":
        (home / "copy" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    data = path.read_bytes()
    if data.count(true) != 1:
        pytest.skip("Parquet has no offsets")
    path.write_bytes(data.replace(true, lie))
    assert f"{home / 'copy'}" in worker.run(*score(home, "--corpus", home / "copy")).check()


def test_messages_do_not_control_the_terminal(home: Path, worker: Worker) -> None:
    (home / "corpus" / "new.\x1b]0;owned\x07\x1b[31m").touch()
    done = worker.run(*score(home, "--split", "new"))
    assert "owned" in done.check()
    assert done.err.removesuffix("\n").isprintable()


# Going on.


def test_moments_of_other_weights(home: Path, worker: Worker) -> None:
    """Adam would write past the end of moments that are smaller than the weights."""
    assert worker.run(*fit(home)).check() == ""
    path = regular_checkpoints(home / "runs/version_0/checkpoints")[-1]

    def go_on(change: Callable[[dict[int, Any]], object]) -> str:
        content = read_checkpoint(path)
        change(content["optimizer_states"][0]["state"])
        save_checkpoint(content, home / "x.ckpt")
        return worker.run(*fit(home, f"--ckpt_path={home / 'x.ckpt'}", "--trainer.max_steps=3")).check()

    message = "optimizer state of other weights"
    assert message in go_on(lambda state: state[0].update(exp_avg=state[0]["exp_avg"][:1].clone()))
    assert message in go_on(lambda state: state.update({0: state[1], 1: state[0]}))
    assert message in go_on(lambda state: state.pop(1))
    assert go_on(lambda state: None) == ""
