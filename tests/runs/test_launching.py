"""How runs and their ranks start: which checkpoint they resume from, in which folder, and who is refused.

Two processes, started once, stand for two nodes. Each of them runs `fit` as `torchrun` would.
"""

import contextlib
import io
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from torch import multiprocessing

from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError
from lit_transformer.fit import main
from lit_transformer.runs import run_folder as run_folder_module
from lit_transformer.runs.resuming import continued_run, find_start
from lit_transformer.runs.run_folder import claimed_folder, run_folder
from tests.helpers.corpora import NUM_SENTENCES, make_corpus
from tests.helpers.runs import SHORT, Run, arguments, fit, own_lines

LIMIT_SECONDS = 60
"""Ranks that wait for each other would do so for 30 minutes."""


@pytest.fixture(scope="module")
def run(corpus: Path) -> Run:
    return fit(corpus, corpus.parent / "runs", **SHORT)


def test_a_start_reads_its_checkpoint_once(
    corpus: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = torch.load

    def note_and_load(file: Path, **options: Any) -> Any:
        read.append(file)
        return load(file, **options)

    monkeypatch.setattr(torch, "load", note_and_load)
    fit(corpus, tmp_path, **SHORT | {"trainer__max_steps": 5}, ckpt_path=run.checkpoint(4))
    assert read == [run.checkpoint(4)]


def test_no_two_starts_take_one_folder(corpus: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder_module, "LOCK_SECONDS", 0.0)

    def parsed(root: Path, **changes: Any) -> FitCLI:
        return parse(arguments(corpus, root, **SHORT, **changes), FitCLI)

    # Both have looked for a folder before the other has one.
    first, second = parsed(tmp_path), parsed(tmp_path)
    with claimed_folder(first.trainer, first.config, None), claimed_folder(second.trainer, second.config, None):
        folders = [run_folder(cli.trainer).relative_to(tmp_path).as_posix() for cli in (first, second)]
        assert folders == ["version_0", "version_1"]
    # What was never written to is not left behind.
    assert not list(tmp_path.iterdir())
    # A run that is resumed while it goes on.
    first, second = (parsed(run.folder.parent, ckpt_path="auto") for _ in range(2))
    found = find_start("auto", run.folder.parent)
    assert found is not None
    continued = continued_run(found.path, "auto")
    with (
        claimed_folder(first.trainer, first.config, continued),
        pytest.raises(UserError, match=r"the run .*version_0 is in progress"),
        claimed_folder(second.trainer, second.config, continued),
    ):
        pass
    with claimed_folder(second.trainer, second.config, continued):
        assert run_folder(second.trainer) == run.folder


def test_a_checkpoint_beside_runs_goes_on_in_a_new_run(corpus: Path, run: Run, tmp_path: Path) -> None:
    """Its run's folder is not known: two folders up may be anything, such as the working directory."""
    root = tmp_path / "runs"
    root.mkdir()
    shutil.copy(run.checkpoint(4), root)
    cli = parse(arguments(corpus, root, **SHORT, ckpt_path="auto"), FitCLI)
    with claimed_folder(cli.trainer, cli.config, continued_run(root / run.checkpoint(4).name, "auto")):
        assert run_folder(cli.trainer) == root / "version_0"


def node(rank: int, orders: "Queue[Any]", answers: "Queue[Any]") -> None:
    """Run `fit` whenever there is an order, and answer with its exit status and what it wrote to stderr."""
    while order := orders.get():
        os.chdir(order["cwd"])
        os.environ |= {"RANK": str(rank), "GROUP_RANK": str(rank), "MASTER_PORT": order["port"]}
        status: object = 0
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            try:
                main(order["args"])
            except SystemExit as end:
                status = end.code
            except BaseException as error:
                status = repr(error)
        answers.put((status, errors.getvalue()))


class Nodes:
    """Two processes that are told what to run."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues = [(context.Queue(), context.Queue()) for _ in range(2)]
        environment = {"LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "localhost"}
        os.environ |= {name: str(value) for name, value in environment.items()} | {"TORCHELASTIC_RUN_ID": "test"}
        self._processes = [
            context.Process(target=node, args=(rank, *queues), daemon=True) for rank, queues in enumerate(self._queues)
        ]
        for process in self._processes:
            process.start()
        for name in (*environment, "TORCHELASTIC_RUN_ID"):
            del os.environ[name]

    def fit(self, *args: list[str], cwds: tuple[Path, Path]) -> list[tuple[object, str]]:
        """Exit status and stderr of both ranks, which are given these arguments and run in these folders."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        for (orders, _), rank_args, cwd in zip(self._queues, args, cwds, strict=True):
            orders.put({"args": rank_args, "cwd": str(cwd), "port": port})
        return [answers.get(timeout=LIMIT_SECONDS) for _, answers in self._queues]

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.close()


OTHER_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "learning rate": ({"model__learning_rate_scale": 0.5}, "model.learning_rate_scale 0.5, rank 0 has 0.7"),
    "steps": ({"trainer__max_steps": 6}, "trainer.max_steps 6, rank 0 has 4"),
    "interval": ({"trainer__val_check_interval": 2}, "trainer.val_check_interval 2, rank 0 has 4"),
    "precision": ({"trainer__precision": "64-true"}, "trainer.precision 64-true, rank 0 has 32-true"),
}
TWO_NODES = {**SHORT, "trainer__num_nodes": 2}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_a_rank_with_another_setting_is_refused(name: str, nodes: Nodes, corpus: Path, tmp_path: Path) -> None:
    """By all of them, so that none is left waiting, and before anything is written."""
    changes, message = OTHER_SETTINGS[name]
    args = arguments(corpus, tmp_path, **TWO_NODES), arguments(corpus, tmp_path, **TWO_NODES | changes)
    said = [f"error: rank 1 has {message}: give all ranks the same"]
    results = nodes.fit(*args, cwds=(tmp_path, tmp_path))
    assert [(status, own_lines(errors)) for status, errors in results] == [(2, said), (2, said)]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("run")
def test_a_node_that_does_not_see_the_run_is_refused(nodes: Nodes, corpus: Path, tmp_path: Path) -> None:
    """Rank 0 decides what is resumed, and a rank without the file does not start afresh."""
    changes = {**TWO_NODES, "trainer__max_steps": 6, "data__cache_dir": tmp_path / "cache", "ckpt_path": "auto"}
    args = arguments(corpus, Path("runs"), **changes)
    results = nodes.fit(args, args, cwds=(corpus.parent, tmp_path))
    message = r"error: rank 1 cannot read runs/.*/step-00000004\.ckpt, .* all nodes must share the folder .*"
    assert [status for status, _ in results] == [2, 2]
    said = [own_lines(errors) for _, errors in results]
    assert said[0] == said[1]
    assert re.fullmatch(message, said[0][0])


def test_a_node_with_other_data_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        make_corpus(tmp_path / name / "corpus")
    with (tmp_path / "second" / "corpus" / "train.en").open("a+", encoding="utf-8") as file:
        file.truncate(0)
        file.write("The cat sleeps .\n" * NUM_SENTENCES)
    args = arguments(Path("corpus"), Path("runs"), **TWO_NODES, model__vocab_size=200)
    results = nodes.fit(args, args, cwds=(tmp_path / "first", tmp_path / "second"))
    assert [status for status, _ in results] == [2, 2]
    errors = [re.findall("error: rank 1 has data .*, rank 0 has .*", said) for _, said in results]
    assert errors[0] == errors[1]
    assert len(errors[0]) == 1


def test_two_nodes_resume_what_rank_0_has_found(nodes: Nodes, corpus: Path, run: Run, tmp_path: Path) -> None:
    """Though they have other caches and see the folder under another name of their own."""
    (tmp_path / "runs").symlink_to(corpus.parent / "runs")
    args = [
        arguments(
            corpus,
            Path("runs"),
            **{**TWO_NODES, "trainer__max_steps": 5, "ckpt_path": "auto", "data__cache_dir": tmp_path / f"cache{rank}"},
        )
        for rank in range(2)
    ]
    results = nodes.fit(*args, cwds=(corpus.parent, tmp_path))
    assert [status for status, _ in results] == [0, 0], results
    assert run.checkpoint(5).exists()


SLURM = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "fit", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
LAUNCHERS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "torchrun": (
        {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3", "WORLD_SIZE": "3"},
        {"trainer__devices": 1},
        "trainer.devices is 1 and trainer.num_nodes is 1, .* 3 processes",
    ),
    "more nodes": (
        {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "3"},
        {"trainer__devices": "auto", "trainer__num_nodes": 2},
        "trainer.devices is 1 and trainer.num_nodes is 2, .* 3 processes",
    ),
    "srun": (
        {**SLURM, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
        {"trainer__devices": "auto"},
        "trainer.devices is 1 and trainer.num_nodes is 1, .* 2 processes",
    ),
    "by hand": (
        {"WORLD_SIZE": "3"},
        {"trainer__devices": 1},
        "trainer.devices is 1 and trainer.num_nodes is 1, .* 3 processes",
    ),
    "none": ({}, {"trainer__devices": 1, "trainer__num_nodes": 2}, "num_nodes is 2, .*no launcher.* MASTER_ADDR"),
    "spawn": ({}, {"trainer__strategy": "ddp_spawn"}, "trainer.strategy is ddp_spawn: .*not supported"),
    "fork": ({}, {"trainer__strategy": "ddp_fork", "trainer__devices": 2}, "trainer.strategy is ddp_fork: .*"),
    "fsdp": ({}, {"trainer__strategy": "fsdp"}, "trainer: .*fsdp.* requires a GPU"),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_processes_that_cannot_train_together_are_refused(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything is prepared. Otherwise each would train alone, or wait for others."""
    environment, changes, message = LAUNCHERS[name]
    for variable in ("MASTER_ADDR", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as exit_status:
        main(arguments(corpus, tmp_path / "runs", data__cache_dir=tmp_path / "cache", **changes))
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(f"error: .*{message}", error)
    assert not (tmp_path / "cache").exists()
