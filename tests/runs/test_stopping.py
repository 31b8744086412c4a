"""Runs that are stopped by signals and kills, and go on as if nothing had happened."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from lit_transformer.checkpoints.names import interrupted_path, step_path
from lit_transformer.checkpoints.places import newest_readable_checkpoint
from lit_transformer.data.corpus import find_text
from lit_transformer.fit import main
from lit_transformer.runs.run_folder import LOCK
from tests.helpers.processes import fork, status_of, wait_for_file
from tests.helpers.runs import EVERY, MAX_STEPS, Run, arguments, fit, load, own_lines, same

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

LIMIT_SECONDS = 180


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path) -> Run:
    return fit(corpus, corpus.parent / "uninterrupted")


def start(
    corpus: Path, root: Path, environment: dict[str, object] | None = None, **changes: object
) -> subprocess.Popen[str]:
    """The same command again and again, as a cluster gives it."""
    command = [sys.executable, "-m", "lit_transformer.fit", *arguments(corpus, root, ckpt_path="auto", **changes)]
    return subprocess.Popen(
        command,
        env=os.environ | {name: str(value) for name, value in (environment or {}).items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], step: int) -> None:
    """Until the run has reported the step."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step") and int(line.split()[1].split("/")[0].replace(",", "")) >= step:
            return
    raise AssertionError(process.communicate()[1])


def stop(process: subprocess.Popen[str], number: signal.Signals, *, after_step: int, whole_group: bool = False) -> str:
    """Sends the signal once the run has reported the step; returns the rest of what it says."""
    wait_for(process, after_step)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    output, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert own_lines(errors) == []
    return output


def test_a_run_that_is_stopped_again_and_again_is_the_uninterrupted_one(
    corpus: Path, uninterrupted: Run, tmp_path: Path
) -> None:
    """Weights and optimizer to the bit, with dropout and accumulation; no point of a curve missing or drawn twice."""
    for number, step in ((signal.SIGHUP, 20), (signal.SIGKILL, 110), (signal.SIGINT, 140)):
        process = start(corpus, tmp_path)
        output = stop(process, number, after_step=step)
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            continue
        assert process.returncode == 128 + number
        assert f"Stopped by {number.name} after step" in output
        saved = Path(output.split("Checkpoint: ")[1].splitlines()[0])
        stopped = load(saved)["global_step"]
        assert stopped >= step
        path = interrupted_path if stopped % EVERY else step_path
        assert saved == path(saved.parent, stopped)
    resumed = fit(corpus, tmp_path, ckpt_path="auto")
    mine, theirs = (load(run.checkpoint(MAX_STEPS)) for run in (resumed, uninterrupted))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(mine[part], theirs[part]), part
    assert [path.name for path in resumed.folder.parent.iterdir()] == ["version_0"]
    assert resumed.names() == uninterrupted.names()
    assert not (resumed.folder / LOCK).exists()
    assert resumed.curve("val/bleu") == uninterrupted.curve("val/bleu")
    assert resumed.curve("train/loss") == pytest.approx(uninterrupted.curve("train/loss"), rel=1e-5)
    assert drawn(resumed) == drawn(uninterrupted)


def drawn(run: Run) -> Counter[tuple[str, int]]:
    """How often TensorBoard draws each point of the curves: what a later process of the run draws anew is purged."""
    points: Counter[tuple[str, int]] = Counter()
    for path in sorted(run.folder.glob("events.*"), key=lambda path: path.stat().st_mtime):
        for event in EventFileLoader(str(path)).Load():
            if event.HasField("session_log") and event.session_log.status == event.session_log.START:
                points = Counter({point: count for point, count in points.items() if point[1] < event.step})
            points.update(
                (value.tag, event.step) for value in event.summary.value if value.tag.startswith(("train/", "val/"))
            )
    return points


def test_two_processes_stop_at_one_step(corpus: Path, tmp_path: Path) -> None:
    """Though only the first has got the signal; and both go on."""
    process = start(corpus, tmp_path, trainer__devices=2)
    output = stop(process, signal.SIGTERM, after_step=20)
    assert process.returncode == 128 + signal.SIGTERM
    saved = Path(output.split("Checkpoint: ")[1].splitlines()[0])
    again = start(corpus, tmp_path, trainer__devices=2, trainer__max_steps=60)
    output, errors = again.communicate(timeout=LIMIT_SECONDS)
    assert again.returncode == 0, errors
    [note] = own_lines(errors)
    assert note.endswith(": trainer.max_steps 230 -> 60")
    assert f"resuming from {saved}" in output
    assert "Trained to step 60" in output


def test_ctrl_c_leaves_the_worker_process_at_work(corpus: Path, tmp_path: Path) -> None:
    """A terminal sends it to all processes."""
    process = start(corpus, tmp_path, data__num_workers=1)
    output = stop(process, signal.SIGINT, after_step=20, whole_group=True)
    assert process.returncode == 128 + signal.SIGINT
    assert "Stopped by SIGINT" in output


def slurm(folder: Path, root: Path) -> dict[str, object]:
    """The environment of a SLURM job whose `scontrol` notes in `folder` how it is called and what is saved then."""
    scontrol = folder / "bin" / "scontrol"
    scontrol.parent.mkdir()
    note = folder / "calls"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {note}\nls {root}/*/checkpoints >> {note}\n')
    scontrol.chmod(0o755)
    return {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": 77,
        "SLURM_JOB_NAME": "fit",
        "SLURM_NTASKS": 1,
        "SLURM_NTASKS_PER_NODE": 1,
        "SLURM_PROCID": 0,
        "SLURM_LOCALID": 0,
        "SLURM_NODEID": 0,
        "SLURM_NODELIST": "localhost",
    }


def test_slurm_job_is_requeued(corpus: Path, tmp_path: Path) -> None:
    """By SIGUSR1, which SLURM sends before the time is up, with the checkpoint already there."""
    folder = tmp_path / "runs"
    process = start(corpus, folder, slurm(tmp_path, folder))
    output = stop(process, signal.SIGUSR1, after_step=20)
    assert process.returncode == 128 + signal.SIGUSR1
    assert "back into its queue" in output
    call, *files = (tmp_path / "calls").read_text().splitlines()
    assert call == "requeue 77"
    assert Path(output.split("Checkpoint: ")[1].splitlines()[0]).name in files


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_signal_before_the_first_step(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process prepares the same text, here for ever; SLURM's signal puts the job back into the queue."""
    number = signal.Signals[name]
    fingerprint = find_text(str(corpus), split="train", source="en", target="de", cache_dir=tmp_path).fingerprint
    cache, output = tmp_path / "cache", tmp_path / "output"
    (cache / "text").mkdir(parents=True)
    for variable, value in slurm(tmp_path, tmp_path / "runs").items():
        monkeypatch.setenv(variable, str(value))

    def run() -> int:
        with output.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        main(arguments(corpus, tmp_path / "runs", data__cache_dir=cache))
        return 0

    with FileLock(cache / "text" / f"{fingerprint}.arrow.lock"):
        child = fork(run)
        wait_for_file(output, "another process")
        os.kill(child, number)
        assert status_of(child) == 128 + number
    assert f"Stopped by {name} before the first step" in output.read_text()
    assert "Traceback" not in output.read_text()
    assert (tmp_path / "calls").exists() == (number == signal.SIGUSR1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the child process in Linux' /proc")
@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_dies_ends_the_run(rank: int, corpus: Path, tmp_path: Path) -> None:
    """With a reason, and before others give up waiting; what it leaves can be gone on from."""
    process = start(corpus, tmp_path, trainer__devices=2)
    wait_for(process, 60)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill((process.pid, child)[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert re.search("another process of this run has died|terminated with code", errors)
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"  # nobody has fetched its status
    assert newest_readable_checkpoint(tmp_path)[0] is not None
