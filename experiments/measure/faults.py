"""Measures what a run loses if it is killed or stopped, or if its files are damaged, with real processes.

    python experiments/measure/faults.py [--kills 20] [--seed 1]

A small model trains on the demo corpus and is disturbed. The same command with `--ckpt_path auto` starts it again until
it reaches its last step. Each line of the table is a fault. `lost` counts the optimizer steps that are repeated.
`recovered` is the time in seconds from the new start to its first report, most of it imports. `same` tells whether the
final weights and Adam's moments equal those of an undisturbed run to the bit. The full disk needs root, for a tmpfs.
"""

import argparse
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_transformer.checkpoints.format import WEIGHTS_ENTRY, read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.names import step_of
from lit_transformer.checkpoints.places import newest_readable_checkpoint

STEPS, EVERY = 900, 50
RECIPE = {
    "model.transformer.d_model": 64,
    "model.transformer.d_ff": 128,
    "model.transformer.num_heads": 4,
    "model.transformer.num_layers": 1,
    "model.vocab_size": 400,
    "model.warmup_steps": 60,
    "data.corpus": "demo:2000",
    "data.tokens_per_batch": 450,
    "data.max_tokens_per_device": 450,
    "data.validation_batch_tokens": 500,
    "trainer.accelerator": "cpu",
    "trainer.limit_val_batches": 2,
    "trainer.val_check_interval": 150,
    "trainer.log_every_n_steps": 10,
    "trainer.max_steps": STEPS,
    "checkpoints.every_n_train_steps": EVERY,
    "checkpoints.save_top_k": 4,
    "checkpoints.save_weights_only": False,  # a damaged one is passed over for an older one
}


@dataclass
class Training:
    """A run that can be started again and again."""

    root: Path
    cache: Path
    devices: int = 1

    def start(self) -> subprocess.Popen[str]:
        settings = RECIPE | {"data.cache_dir": self.cache, "trainer.default_root_dir": self.root}
        settings["trainer.devices"] = self.devices
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", "lit_transformer.fit", *options, "--ckpt_path", "auto"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, float, str]:
        """Start again and train to the end. Return the first reported step, the seconds until it, and stderr."""
        begin = time.perf_counter()
        process = self.start()
        step = next_step(process)
        seconds = time.perf_counter() - begin
        errors = process.communicate()[1]
        if process.returncode != 0:
            raise RuntimeError(errors)
        return step, seconds, errors

    def newest(self) -> int:
        """The step that the next start resumes from."""
        found = newest_readable_checkpoint(self.root)[0]
        return (step_of(found.path) or 0) if found else 0

    def final(self) -> dict[str, Any]:
        return read_checkpoint(next(self.root.rglob(f"step-{STEPS:08}.ckpt")))


def next_step(process: subprocess.Popen[str]) -> int:
    """The step of the next report."""
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"step +([\d,]+)/", line)
        if found:
            return int(found[1].replace(",", ""))
    raise RuntimeError(process.communicate()[1])


def tensors(checkpoint: dict[str, Any]) -> list[Any]:
    """What a run has learned: the weights, and Adam's state."""
    return [checkpoint[WEIGHTS_ENTRY], *(optimizer["state"] for optimizer in checkpoint["optimizer_states"])]


@dataclass
class Table:
    """Prints a line when it is known."""

    undisturbed: dict[str, Any]

    def row(self, fault: str, run: Training, *, status: object, lost: int, seconds: float) -> None:
        try:
            torch.testing.assert_close(tensors(run.final()), tensors(self.undisturbed), rtol=0, atol=0)
            same = "yes"
        except AssertionError:
            same = "NO"
        print(f"| {fault} | {status} | {lost} | {seconds:.1f} | {same} |", flush=True)


def signalled(run: Training, number: signal.Signals, times: int, chance: random.Random) -> tuple[object, int, float]:
    """Signals at random moments, then to the end: exit statuses, most steps lost, longest recovery."""
    statuses: list[int] = []
    most_lost, longest, reached = 0, 0.0, 0
    while True:
        begin = time.perf_counter()
        process = run.start()
        step = next_step(process)
        if statuses:
            longest = max(longest, time.perf_counter() - begin)
        if len(statuses) == times:
            process.communicate()
            return ", ".join(map(str, sorted(set(statuses)))), most_lost, longest
        # The run must make progress between the signals, and must not end before the last one.
        reports = (STEPS - step) // (10 * (times - len(statuses) + 1))
        for _ in range(chance.randrange(reports + 1)):
            step = next_step(process)
        time.sleep(chance.random() / 10)
        process.send_signal(number)
        output, _ = process.communicate()
        reached = max([step, *(int(found.replace(",", "")) for found in re.findall(r"^step +([\d,]+)/", output, re.M))])
        statuses.append(process.returncode)
        most_lost = max(most_lost, reached - run.newest())


def interrupted(run: Training, step: int) -> int:
    """Killed after the step; returns the step of the newest checkpoint."""
    process = run.start()
    while next_step(process) < step:
        pass
    process.kill()
    process.communicate()
    return run.newest()


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def flip_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def break_weights(path: Path, chance: random.Random) -> None:
    checkpoint = read_checkpoint(path)
    weights = checkpoint[WEIGHTS_ENTRY]
    weights[chance.choice(sorted(weights))].view(-1)[0] = math.nan
    save_checkpoint(checkpoint, path)


def run_faults(folder: Path, kills: int, chance: random.Random) -> None:
    def training(name: str) -> Training:
        return Training(folder / name, folder / "cache")

    undisturbed = training("undisturbed")
    undisturbed.finish()
    table = Table(undisturbed.final())
    print("| fault | exit status | steps lost | recovered (s) | same |\n|---|---|---|---|---|")

    for number, times in ((signal.SIGKILL, kills), (signal.SIGTERM, 2), (signal.SIGUSR1, 2), (signal.SIGINT, 2)):
        run = training(number.name)
        status, lost, seconds = signalled(run, number, times, chance)
        table.row(f"{number.name}, {times} times", run, status=status, lost=lost, seconds=seconds)

    for fault, damage in (("newest checkpoint truncated", truncate), ("newest checkpoint, a bit flipped", flip_bit)):
        run = training(damage.__name__)
        before = interrupted(run, 330)
        damage(newest(run), chance)
        lost = before - run.newest()
        _, seconds, errors = run.finish()
        assert "it is damaged" in errors
        table.row(fault, run, status="-", lost=lost, seconds=seconds)

    run = training("cache")
    interrupted(run, 330)
    [tokens, *_] = (folder / "cache" / "tokens").glob("*.arrow")
    flip_bit(tokens, chance)
    _, seconds, errors = run.finish()
    assert "is damaged and is made anew" in errors
    table.row("prepared data, a bit flipped", run, status="-", lost=0, seconds=seconds)

    run = training("nan")
    before = interrupted(run, 330)
    break_weights(newest(run), chance)
    process = run.start()
    _, errors = process.communicate()
    assert f"the gradients of step {before + 1} are not finite" in errors, errors
    newest(run).unlink()
    lost = before - run.newest()
    _, seconds, _ = run.finish()
    table.row("NaN in the newest weights", run, status=process.returncode, lost=lost, seconds=seconds)

    full_disk(table, training("full_disk"))
    dead_rank(folder)


def full_disk(table: Table, run: Training) -> None:
    """A file system that holds two checkpoints where four are to be kept; then room is made."""
    run.root.mkdir()
    size = newest(Training(run.root.parent / "undisturbed", run.cache)).stat().st_size
    mount = ["mount", "-t", "tmpfs", "-o", f"size={2.7 * size:.0f}", "tmpfs", str(run.root)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        print("| full disk | not run: it needs root | | | |")
        return
    try:
        process = run.start()
        output, errors = process.communicate()
        assert "cannot write the checkpoint" in errors, errors
        reached = max(int(found.replace(",", "")) for found in re.findall(r"^step +([\d,]+)/", output, re.M))
        lost = reached - run.newest()
        subprocess.run(["mount", "-o", "remount,size=1g", str(run.root)], check=True)
        _, seconds, _ = run.finish()
        table.row("full disk, then room", run, status=process.returncode, lost=lost, seconds=seconds)
    finally:
        subprocess.run(["umount", str(run.root)], check=True)


def dead_rank(folder: Path) -> None:
    """One of two processes is killed; the other must not wait for it. Compared with two that nobody disturbed."""
    undisturbed, run = (Training(folder / name, folder / "cache", devices=2) for name in ("two_ranks", "dead_rank"))
    undisturbed.finish()
    process = run.start()
    step = 0
    while step < 330:
        step = next_step(process)
    # The first process starts the other one.
    [other] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    begin = time.perf_counter()
    os.kill(int(other), signal.SIGKILL)
    process.communicate()
    ended = time.perf_counter() - begin
    lost = step - run.newest()
    _, seconds, _ = run.finish()
    fault = f"SIGKILL of one of two ranks, all ended {ended:.1f} s later"
    Table(undisturbed.final()).row(fault, run, status=process.returncode, lost=lost, seconds=seconds)


def newest(run: Training) -> Path:
    """Its newest readable checkpoint."""
    found = newest_readable_checkpoint(run.root)[0]
    assert found is not None
    return found.path


def main() -> None:
    """Run every fault and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_faults(Path(folder), options.kills, random.Random(options.seed))


if __name__ == "__main__":
    main()
