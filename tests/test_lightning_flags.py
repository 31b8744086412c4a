"""Each flag of Lightning's trainer and each of its callbacks works visibly, or is refused in one line.

Epochs and limits, checkpoints, loggers and the bar have tests of their own.
"""

import random
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lit_transformer.fit import main
from tests.helpers.callbacks import Weights, flat
from tests.helpers.runs import events, load

SETTINGS = {
    "config": "copy",
    "model.transformer.d_model": 16,
    "model.transformer.d_ff": 16,
    "model.transformer.num_heads": 2,
    "model.transformer.num_layers": 1,
    "data.tokens_per_batch": 400,
    "data.max_tokens_per_device": 200,  # two micro-batches per step
    "attention.sentences": 0,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.precision": "32-true",
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.limit_val_batches": 1,
    "trainer.log_every_n_steps": 2,
}
CALLBACKS = "--trainer.callbacks"
EVENTS = "events.out.tfevents"
"""How TensorBoard's files begin."""
STOPPING = f"{CALLBACKS}=EarlyStopping {CALLBACKS}.monitor=val/loss"
PRUNING = f"{CALLBACKS}=ModelPruning {CALLBACKS}.pruning_fn=l1_unstructured {CALLBACKS}.amount=0.5"


class Result(NamedTuple):
    status: int
    output: str
    errors: str
    run: Path

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.run)) for path in self.run.rglob("*") if path.is_file())

    @property
    def curves(self) -> set[str]:
        return set(events(self.run).Tags()["scalars"])

    @property
    def refusal(self) -> str:
        """The only line of the errors."""
        assert self.status == 2, self.output + self.errors
        [line] = [line for line in self.errors.splitlines() if not line.startswith(("note: ", "Tokenizing", "/"))]
        assert line.startswith("error: ")
        return line


class Start:
    """Runs `fit` in this process with a small model and a few steps."""

    def __init__(
        self, root: Path, cache: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        self._root = root
        self._cache = cache
        self._capfd = capfd
        self._caplog = caplog

    def __call__(self, flags: str) -> Result:
        settings = SETTINGS | {"trainer.default_root_dir": self._root / "runs", "data.cache_dir": self._cache}
        status = 0
        self._capfd.readouterr()
        self._caplog.clear()
        try:
            main([*(f"--{name}={value}" for name, value in settings.items()), *flags.split()])
        except SystemExit as exit_status:
            status = int(exit_status.code or 0)
        output, errors = self._capfd.readouterr()
        # Lightning logs to stderr, unless the process has handlers of its own, as pytest has.
        return Result(status, output + self._caplog.text, errors, self._root / "runs" / "version_0")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(
    tmp_path: Path,
    cache: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Start:
    monkeypatch.chdir(tmp_path)  # where callbacks with relative paths write
    return Start(tmp_path, cache, capfd, caplog)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ("--trainer.enable_model_summary=true", "Total params"),
        (f"{CALLBACKS}=ModelSummary {CALLBACKS}.max_depth=3", "Total params"),
        (f"{CALLBACKS}=RichModelSummary", "Total params"),
        ("--trainer.profiler=simple", "FIT Profiler Report"),
        ("--trainer.profiler=advanced", "Profile stats for: run_training_batch"),
        (f"{PRUNING} {CALLBACKS}.verbose=1", "Applied `L1Unstructured`"),
        (f"{STOPPING} {CALLBACKS}.stopping_threshold=100", "EarlyStopping has ended the run: .*threshold.*100"),
        ("--trainer.limit_val_batches=0", r"never validated .*limit_val_batches"),
        ("--seed_everything=true", "note: .*random seed"),
        ("--trainer.gradient_clip_algorithm=value", "note: .*gradient_clip_algorithm .*gradient_clip_val"),
        *(
            (f"--trainer.{name}={value}", rf"note: .*{name}\b.* no effect")
            for name, value in {
                "limit_test_batches": 3,
                "limit_predict_batches": 3,
                "inference_mode": "false",
                "sync_batchnorm": "true",
                "use_distributed_sampler": "true",
            }.items()
        ),
    ],
)
def test_what_is_printed(start: Start, flags: str, shown: str) -> None:
    result = start(flags)
    assert result.status == 0, result.errors
    assert re.search(shown, result.output + result.errors)


@pytest.mark.parametrize(
    ("flags", "curve"),
    [
        (f"{CALLBACKS}=LearningRateMonitor", "lr-Adam"),
        (f"{CALLBACKS}=DeviceStatsMonitor {CALLBACKS}.cpu_stats=true", ".*cpu_percent"),
    ],
)
def test_what_is_drawn(start: Start, flags: str, curve: str) -> None:
    result = start(flags)
    assert result.status == 0, result.errors
    assert any(re.fullmatch(curve, name) for name in result.curves), result.curves


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--trainer.profiler=SimpleProfiler --trainer.profiler.filename=perf", "fit-perf.txt"),
        (f"{CALLBACKS}=ModelCheckpoint {CALLBACKS}.monitor=val/bleu {CALLBACKS}.filename=mine", r"checkpoints/mine.*"),
    ],
)
def test_what_is_written(start: Start, flags: str, pattern: str) -> None:
    result = start(flags)
    assert result.status == 0, result.errors
    assert any(re.fullmatch(pattern, name) for name in result.files), result.files


@pytest.mark.parametrize(
    ("flag", "files"),
    [
        (
            "--trainer.enable_checkpointing=false",
            {"config.yaml", "hparams.yaml", "starts.jsonl", EVENTS},
        ),
        ("--trainer.barebones=true", {"config.yaml", "starts.jsonl"}),
        ("--trainer.fast_dev_run=true", set()),
    ],
)
def test_what_is_left_out(start: Start, flag: str, files: set[str]) -> None:
    """The folder of a run that writes nothing is deleted."""
    result = start(flag)
    assert result.status == 0, result.errors
    assert {re.sub(rf"{EVENTS}.*", EVENTS, name) for name in result.files} == files
    assert result.run.exists() == bool(files)
    assert "never validated" not in result.output


def test_averaged_weights_are_validated_and_saved(start: Start) -> None:
    """And those that are trained are saved beside them, also if the last step is saved only because training ends."""
    result = start(
        f"--trainer.max_steps=5 --checkpoints.save_weights_only=false --checkpoints.every_n_train_steps=2 "
        f"{CALLBACKS}=EMAWeightAveraging {CALLBACKS}.decay=0.75 {CALLBACKS}+=tests.helpers.callbacks.Weights"
    )
    assert result.status == 0, result.errors
    average = Weights.trained[1]
    for step in range(2, 6):
        average = torch.lerp(average, Weights.trained[step], 0.25)
        if step in (2, 4):
            assert torch.allclose(Weights.validated[step], average)
        if step in (2, 4, 5):
            saved = load(result.run / "checkpoints" / f"step-{step:08}.ckpt")
            assert torch.allclose(flat(saved["state_dict"]), average)
            assert torch.equal(flat(saved["current_model_state"]), Weights.trained[step])


@pytest.mark.parametrize(
    "flags",
    [
        "--trainer.deterministic=true",
        "--trainer.benchmark=true",
        "--trainer.detect_anomaly=true",
        "--trainer.gradient_clip_val=1.0 --trainer.gradient_clip_algorithm=value",
        "--trainer.num_sanity_val_steps=2",
        "--trainer.enable_autolog_hparams=false",
        "--trainer.reload_dataloaders_every_n_epochs=1",
        "--trainer.strategy=ddp",
        "--trainer.precision=64-true",
        f"{CALLBACKS}=EMAWeightAveraging",
        f"{CALLBACKS}=LambdaCallback",
    ],
)
def test_what_only_trains(start: Start, flags: str) -> None:
    result = start(flags)
    assert result.status == 0, result.errors
    assert "Trained to step 4" in result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--trainer.accelerator=nonsense", ["nonsense", "cpu"]),
        ("--trainer.strategy=nonsense", ["nonsense", "ddp"]),
        ("--trainer.strategy=ddp_notebook", ["ddp_notebook", "ddp"]),
        ("--trainer.devices=0", ["devices", "0"]),
        ("--trainer.num_nodes=2", ["num_nodes is 2", "torchrun"]),
        ("--trainer.precision=nonsense", ["precision", "bf16-mixed"]),
        ("--trainer.fast_dev_run=-1", ["fast_dev_run", "-1"]),
        ("--trainer.max_steps=0", ["max_steps is 0"]),
        ("--trainer.min_steps=9", ["min_steps is 9", "max_steps is 4"]),
        ("--trainer.num_sanity_val_steps=-3", ["num_sanity_val_steps is -3"]),
        ("--trainer.limit_val_batches=-1", ["limit_val_batches", "-1"]),
        ("--trainer.max_time=5", ["duration='5'", "DD:HH:MM:SS"]),
        ("--trainer.log_every_n_steps=0", ["log_every_n_steps is 0"]),
        ("--trainer.gradient_clip_algorithm=nonsense", ["gradient_clip_algorithm", "norm"]),
        ("--trainer.profiler=nonsense", ["profiler", "simple"]),
        ("--trainer.profiler=xla", ["profiler is xla", "simple"]),
        ("--trainer.plugins=nonsense", ["plugins", "nonsense"]),
        ("--trainer.plugins=SLURMEnvironment", ["SLURMEnvironment", "SLURM_NTASKS"]),
        ("--trainer.accumulate_grad_batches=4", ["accumulate_grad_batches", "max_tokens_per_device"]),
        ("--trainer.bogus=3", ["trainer.bogus"]),
        ("--trainer.max_step=3", ["did you mean --trainer.max_steps?"]),
        (f"{CALLBACKS}=EarlyStopping", ["monitor"]),
        (f"{CALLBACKS}=EarlyStopping {CALLBACKS}.monitor=val_loss", ["EarlyStopping", "val_loss", "val/loss"]),
        (f"{CALLBACKS}=ModelCheckpoint {CALLBACKS}.monitor=val_bleu", ["ModelCheckpoint", "val_bleu", "val/bleu"]),
        (
            "--model.schedule=torch.optim.lr_scheduler.ReduceLROnPlateau --trainer.limit_val_batches=0",
            ["Plateau", "limit_val_batches"],
        ),
        (f"{STOPPING} --trainer.limit_val_batches=0", ["EarlyStopping", "val/loss", "limit_val_batches"]),
        (f"{CALLBACKS}=LearningRateMonitor --trainer.logger=false", ["LearningRateMonitor", "logger"]),
        (f"{CALLBACKS}=LearningRateMonitor {CALLBACKS}.logging_interval=minute", ["logging_interval", "minute"]),
        (f"{CALLBACKS}=DeviceStatsMonitor --trainer.logger=false", ["DeviceStatsMonitor", "logger"]),
        (f"{CALLBACKS}=BackboneFinetuning", ["BackboneFinetuning", "backbone"]),
        (f"{CALLBACKS}=BaseFinetuning", ["BaseFinetuning"]),
        (f"{CALLBACKS}=Timer", ["Timer", "trainer.max_time"]),
        (f"{CALLBACKS}=nonsense", ["callbacks", "nonsense"]),
    ],
)
def test_what_is_refused(start: Start, flags: str, words: list[str]) -> None:
    result = start(flags)
    line = result.refusal
    assert all(word in line for word in words), line
    assert len(line) < 400
    assert not result.run.exists()


def test_a_run_with_a_random_seed_keeps_it_when_it_is_resumed(start: Start) -> None:
    first = start("--seed_everything=true --trainer.max_steps=2 --trainer.limit_val_batches=0")
    again = start("--seed_everything=true --trainer.max_steps=3 --trainer.limit_val_batches=0 --ckpt_path=auto")
    assert again.status == 0, again.errors
    seeds = [re.findall(r"random seed of this run is (\d+)", result.errors) for result in (first, again)]
    assert seeds[0] == seeds[1] != []
    assert "seed_everything" not in again.errors.partition("settings that differ")[2]


def test_a_callback_that_stops_is_named(start: Start) -> None:
    result = start(f"{CALLBACKS}=tests.helpers.callbacks.Stop")
    assert re.search("Ended: Stop has ended the run", result.output)


def test_a_run_goes_on_from_what_was_saved_on_an_exception(start: Start) -> None:
    """As in Lightning, without `ckpt_path`. The error itself is the user's, and stays a traceback."""
    saving = f"{CALLBACKS}=OnExceptionCheckpoint {CALLBACKS}.dirpath=saved"
    with pytest.raises(ZeroDivisionError):
        start(f"{saving} {CALLBACKS}+=tests.helpers.callbacks.Fail")
    again = start(saving)
    assert again.status == 0, again.errors
    assert "resuming from saved/on_exception.ckpt" in again.output
    assert "last model of the previous" not in again.errors


@pytest.mark.slow
def test_pairs_of_flags(start: Start) -> None:
    """Each pair ends well or with one line."""
    flags = [
        "--trainer.fast_dev_run=true",
        "--trainer.fast_dev_run=3",
        "--trainer.max_time=00:00:00:00",
        "--trainer.limit_val_batches=0",
        "--trainer.limit_val_batches=0.5",
        "--trainer.num_sanity_val_steps=-1",
        "--trainer.enable_progress_bar=true",
        "--trainer.enable_model_summary=true",
        "--trainer.logger=false",
        "--trainer.logger=CSVLogger",
        "--trainer.profiler=simple",
        "--trainer.profiler=advanced",
        "--trainer.detect_anomaly=true",
        "--trainer.barebones=true",
        "--trainer.enable_checkpointing=false",
        "--trainer.gradient_clip_val=1",
        "--trainer.gradient_clip_algorithm=value",
        "--trainer.deterministic=true",
        "--trainer.strategy=ddp",
        "--trainer.precision=bf16-true",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.overfit_batches=2",
        "--trainer.val_check_interval=0.5",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.reload_dataloaders_every_n_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--ckpt_path=auto",
        "--seed_everything=true",
        STOPPING,
        f"{CALLBACKS}+=LearningRateMonitor",
        f"{CALLBACKS}+=EMAWeightAveraging",
        f"{CALLBACKS}+=ModelCheckpoint",
        f"{CALLBACKS}+=DeviceStatsMonitor",
        f"{CALLBACKS}+=RichProgressBar",
        f"{CALLBACKS}+=OnExceptionCheckpoint {CALLBACKS}.dirpath=saved",
        PRUNING.replace("callbacks=", "callbacks+=", 1),
    ]
    drawn = random.Random(1)
    for _ in range(60):
        pair = " ".join(drawn.sample(flags, 2))
        result = start(pair)
        assert result.status in (0, 2), pair
        assert "Traceback" not in result.errors, pair
        if result.status:
            assert result.errors.count("error: ") == 1, pair
