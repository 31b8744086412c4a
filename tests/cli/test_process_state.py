"""A command that is called from Python, such as from a notebook, leaves the process as it was."""

import contextlib
import faulthandler
import io
import logging
import os
import random
import signal
import sys
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

from tests.helpers.runs import SHORT, arguments


def process_state() -> dict[str, Any]:
    """What a caller's later work depends on."""
    loggers = logging.root.manager.loggerDict.items()
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "streams": [
            (stream, getattr(stream, "encoding", None), getattr(stream, "errors", None))
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "warnings": list(warnings.filters),
        "levels": {name: logger.level for name, logger in loggers if isinstance(logger, logging.Logger)},
        "faulthandler": faulthandler.is_enabled(),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "types": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "kernels": (
            torch.get_deterministic_debug_mode(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.get_float32_matmul_precision(),
        ),
        "backend": mpl.rcParams["backend"],
        "style": dict(mpl.rcParams),
    }


def call(command: str, *args: object, stdin: str = "") -> None:
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        import_module(f"lit_transformer.{command}").main([str(arg) for arg in args])


@pytest.mark.parametrize("command", ["fit", "check", "test", "translate", "average", "attention", "align"])
def test_a_command_leaves_the_process_as_it_was(command: str, tiny_run: Path, corpus: Path, tmp_path: Path) -> None:
    training = arguments(corpus, tmp_path / "runs", **SHORT, trainer__benchmark=True, trainer__deterministic="warn")
    model = ["--checkpoint", tiny_run, "--device", "cpu"]
    args: dict[str, list[object]] = {
        "fit": [*training],
        "check": [*training, "--tokens_per_second", "1000"],
        "test": [*model, "--corpus", corpus, "--split", "valid", "--output", tmp_path / "out"],
        "translate": model,
        "average": ["--run", tiny_run, "--last", "2", "--output", tmp_path / "average"],
        "attention": [*model, "--text", "The cat sleeps.", "--output", tmp_path / "map.png"],
        "align": [*model, "--demo", "test", "--layer", "1"],
    }
    call(command, *args[command], stdin="The cat sleeps.\n")  # what it imports may change the process once
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="strict")
    with contextlib.redirect_stdout(stdout), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        # Another state than the first call may have left.
        warnings.resetwarnings()
        for name in [name for name in os.environ if name.startswith(("PL_", "CUBLAS", "MASTER", "WORLD"))]:
            patch.delenv(name)
        for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "matplotlib.font_manager"):
            patch.setattr(logging.getLogger(name), "level", logging.DEBUG)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(97)
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.benchmark = False
        former = process_state()
        call(command, *args[command], stdin="The cat sleeps.\n")
        now = process_state()
    for name, value in former.items():
        assert now[name] == value, name
    assert not stdout.closed
