"""The loggers of a run: where they write, how they go on when the run does, and what each kind can hold.

Every logger gets the curves and the settings. Text and pictures go to those that have a place for them.
"""

import csv
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from lit_transformer.runs.private_names import draw_settings
from lit_transformer.runs.run_folder import STARTS
from lit_transformer.training.samples import Sample

FILES = (TensorBoardLogger, CSVLogger)
"""Loggers that only write files. Training goes on without them."""
CHARTS = {
    "1 loss and quality": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "perplexity": ["Multiline", ["train/perplexity", "val/perplexity"]],
        "validation BLEU": ["Multiline", ["val/bleu"]],
    },
    "2 optimizer": {
        "learning rate": ["Multiline", ["train/learning_rate"]],
        "gradient norm": ["Multiline", ["train/gradient_norm"]],
    },
    "3 speed": {
        "tokens per second": ["Multiline", ["train/source_tokens_per_second", "train/target_tokens_per_second"]],
        "shares": ["Multiline", ["train/padding_share", "train/data_wait_share"]],
    },
}
"""TensorBoard's page CUSTOM SCALARS. The page SCALARS sorts curves by their names, so the loss is not its first."""
SHOWN_SETTINGS = ("model.", "data.corpus", "data.tokens_per_batch", "trainer.max_steps", "trainer.precision")
"""Beginnings of the names of settings in TensorBoard's table, which sorts by name and shows the first five at first."""
TRANSLATIONS = "val/translations"
COLUMNS = ("source", "translation", "reference")


def placed(kind: type[Logger], given: Mapping[str, Any], folder: Path, root: Path, former: object) -> dict[str, Any]:
    """Return the arguments of a logger that follow from the run, and that the user has left open.

    Args:
        kind: Its class.
        given: The user's arguments. Those that are not given have the logger's defaults.
        folder: The run's.
        root: The folder of all runs.
        former: The `version` of the logger in the last start of the run that is continued.
    """
    follow: dict[str, Any] = {}
    if given.get("save_dir", folder) is None:
        follow["save_dir"] = str(folder)
        if issubclass(kind, FILES):
            # Without a folder below the run's.
            follow |= {
                name: ""
                for name, default in (("name", "lightning_logs"), ("version", None))
                if given.get(name) == default
            }
    name = "/".join(folder.parts[-2:])
    if issubclass(kind, WandbLogger):
        follow |= {"name": given.get("name") or name, "version": given.get("version") or given.get("id") or former}
    elif issubclass(kind, MLFlowLogger):
        follow |= {"run_name": given.get("run_name") or name, "run_id": given.get("run_id") or former}
        if not given.get("tracking_uri"):
            follow |= _mlflow_store(Path(given.get("save_dir") or root))
    elif issubclass(kind, FILES) and given.get("version") is None:
        follow.setdefault("version", former)
    return follow


def _mlflow_store(folder: Path) -> dict[str, Any]:
    """Return the arguments for a store in a folder. It has many runs, so that they can be compared.

    The package mlflow-skinny has no database. It keeps files instead, if MLFLOW_ALLOW_FILE_STORE allows that.
    """
    if find_spec("sqlalchemy") is None:
        return {"save_dir": str(folder / "mlruns")}
    return {
        "save_dir": str(folder),
        "tracking_uri": f"sqlite:///{folder.resolve() / 'mlflow.db'}",
        "artifact_location": (folder.resolve() / "mlruns").as_uri(),
    }


def former_versions(folder: Path) -> list[tuple[str, object]]:
    """Return the class and the `version` of each logger in the last start of a run, as far as they are recorded."""
    with suppress(OSError, ValueError, KeyError):
        *_, last = (folder / STARTS).read_text(encoding="utf-8").splitlines()
        return [(kind, version) for kind, version in json.loads(last)["loggers"]]
    return []


def begin_csv(logger: CSVLogger, first_step: int) -> None:
    """Keep the rows of the earlier starts of a run, up to the step at which it continues.

    `CSVLogger` deletes them, and warns of a folder that is not empty.
    """
    file = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
    rows: list[dict[str, str]] = []
    if file.exists():
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer: Any = logger.experiment
    for row in rows:
        step = int(row.pop("step"))
        if step < first_step:
            writer.log_metrics({name: float(value) for name, value in row.items() if value}, step)
    if rows:
        writer.save()


@contextmanager
def finish_wandb(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the W&B run of a run. Otherwise, the next run of this process would become a part of it."""
    if not any(isinstance(logger, WandbLogger) for logger in loggers):
        yield
        return
    # Imported here, because few users have it.
    import wandb

    if wandb.run is not None:  # the user's own
        yield
        return
    status = 1
    try:
        yield
        status = 0
    finally:
        wandb.finish(exit_code=status)


@singledispatch
def write_settings(logger: Logger, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run."""
    logger.log_hyperparams(dict(settings))


@write_settings.register
def _(logger: TensorBoardLogger, settings: Mapping[str, Any]) -> None:
    # The logger's own method draws a curve of a made-up value. This names the curves to compare runs by.
    logger.hparams.update(settings)
    shown = {name: value for name, value in settings.items() if name.startswith(SHOWN_SETTINGS)}
    draw_settings(logger.experiment, shown, {"val/bleu": 0.0, "val/loss": 0.0})
    logger.experiment.add_custom_scalars(CHARTS)


@write_settings.register
def _(logger: MLFlowLogger, settings: Mapping[str, Any]) -> None:
    # MLflow refuses to change one when a run is continued. The new value is in `config.yaml`.
    known = logger.experiment.get_run(logger.run_id).data.params
    logger.log_hyperparams({name: value for name, value in settings.items() if name not in known})


@singledispatch
def write_translations(logger: Logger, samples: Sequence[Sample], step: int) -> None:
    """Write translations of validation sentences. A logger without a place for text, such as `CSVLogger`, gets none."""


@write_translations.register
def _(logger: TensorBoardLogger, samples: Sequence[Sample], step: int) -> None:
    rows = (f"| {name} | {_escaped(getattr(sample, name))} |" for sample in samples for name in COLUMNS)
    logger.experiment.add_text(TRANSLATIONS, "\n".join(["| | |", "|---|---|", *rows]), step)


@write_translations.register
def _(logger: WandbLogger, samples: Sequence[Sample], step: int) -> None:
    rows = [[getattr(sample, name) for name in COLUMNS] for sample in samples]
    logger.log_text(TRANSLATIONS, columns=list(COLUMNS), data=rows, step=step)


@write_translations.register
def _(logger: MLFlowLogger, samples: Sequence[Sample], step: int) -> None:
    texts = ("\n".join(f"{name}: {getattr(sample, name)}" for name in COLUMNS) for sample in samples)
    logger.experiment.log_text(logger.run_id, "\n\n".join(texts) + "\n", f"{TRANSLATIONS}/step-{step:08d}.txt")


@singledispatch
def write_picture(logger: Logger, name: str, pixels: np.ndarray, step: int) -> None:
    """Write a picture, with pixels of rows x columns x colors. A logger without a place for pictures gets none."""


@write_picture.register
def _(logger: TensorBoardLogger, name: str, pixels: np.ndarray, step: int) -> None:
    logger.experiment.add_image(name, pixels, step, dataformats="HWC")


@write_picture.register
def _(logger: WandbLogger, name: str, pixels: np.ndarray, step: int) -> None:
    logger.log_image(name, [pixels], step=step)


@write_picture.register
def _(logger: MLFlowLogger, name: str, pixels: np.ndarray, step: int) -> None:
    logger.experiment.log_image(logger.run_id, pixels, key=name, step=step)


def holds_pictures(logger: Logger) -> bool:
    """Return whether a logger has a place for pictures."""
    return write_picture.dispatch(type(logger)) is not write_picture.dispatch(Logger)


@singledispatch
def write_histogram(logger: Logger, name: str, values: np.ndarray, step: int) -> None:
    """Write the distribution of values. A logger without a place for it gets none."""


@write_histogram.register
def _(logger: TensorBoardLogger, name: str, values: np.ndarray, step: int) -> None:
    logger.experiment.add_histogram(name, values, step)


@write_histogram.register
def _(logger: WandbLogger, name: str, values: np.ndarray, step: int) -> None:
    # Imported here, because few users have it.
    import wandb

    histogram: Any = wandb.Histogram(values.tolist())
    logger.log_metrics({name: histogram}, step=step)


class Curves(NamedTuple):
    """Where the curves of a logger are."""

    place: str
    """A file, a folder or an address."""
    program: Literal["tensorboard", "wandb", "mlflow"] | None = None
    """Shows what is at the place. A file and a website need none."""


@singledispatch
def curves_of(logger: Logger) -> Curves | None:
    """Return where the curves of a logger are, or None if only the logger knows."""
    return None if logger.save_dir is None else Curves(logger.save_dir)


@curves_of.register
def _(logger: TensorBoardLogger) -> Curves:
    return Curves(str(Path(logger.log_dir)), "tensorboard")


@curves_of.register
def _(logger: CSVLogger) -> Curves:
    return Curves(str(Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)))


@curves_of.register
def _(logger: WandbLogger) -> Curves:
    run: Any = logger.experiment
    return Curves(run.url) if run.url else Curves(str(Path(run.dir).parent), "wandb")


@curves_of.register
def _(logger: MLFlowLogger) -> Curves:
    address = logger.experiment.tracking_uri
    return Curves(address, None if address.startswith("http") else "mlflow")


def _escaped(text: str) -> str:
    """Escape what Markdown would interpret."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>()#+-.!|" else character for character in text)
