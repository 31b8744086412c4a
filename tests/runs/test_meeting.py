"""How a run of several processes begins and what is said when one of them is missing or dies."""

import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import distributed
from torch.utils.data import get_worker_info

from lit_transformer.batch import Batch
from lit_transformer.data import datamodule
from lit_transformer.data.stream import TrainingStream
from lit_transformer.runs import launching
from lit_transformer.runs.ending import explain
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import fit


def trainer(world_size: int) -> Any:
    return SimpleNamespace(world_size=world_size, global_rank=0, num_nodes=world_size)


def test_who_waits_for_other_processes_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launching, "MEETING_SECONDS", 0.0)
    for world_size in (1, 2):
        with launching.waiting_noted(trainer(world_size)):
            time.sleep(0.1)
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("note: rank 0 waits for the other processes of 2 at ")


def test_a_port_in_use_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(distributed.DistError) as error:
            distributed.init_process_group("gloo", rank=0, world_size=2)
    message = explain(trainer(2), error.value)
    assert message is not None
    assert f"cannot meet at 127.0.0.1:{port}" in message
    assert "\n" not in message


def test_data_is_prepared_before_the_ranks_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizing forks, and NCCL's threads would not be in the forked processes."""
    order = []

    def noted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def note_and_call(*args: Any, **options: Any) -> Any:
            order.append(name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, note_and_call)

    noted(datamodule, "tokenize_pairs")
    noted(launching, "start_processes")
    fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", trainer__max_steps=1)
    assert order == ["tokenize_pairs", "start_processes"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_data_worker_that_is_killed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the system does when memory is full."""
    real = TrainingStream.batch

    def killed(stream: TrainingStream, step: int, micro_batch: int) -> Batch:
        if step == 3 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(stream, step, micro_batch)

    monkeypatch.setattr(TrainingStream, "batch", killed)
    with pytest.raises(SystemExit) as status:
        fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", data__num_workers=1)
    assert status.value.code == 2
    last_line = capfd.readouterr().err.splitlines()[-1]
    assert last_line.startswith("error: a process that prepares data or batches was ended from outside")
