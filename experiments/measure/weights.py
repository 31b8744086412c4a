"""A fingerprint of the weights after a few steps of each recipe. A change that must not touch the numbers keeps it.

    python experiments/measure/weights.py [--steps 40] [any option of fit]

Run it before and after the change, on one machine. PYTHONPATH chooses the checkout whose code trains. The fingerprint
does not depend on the weights' names, so it also compares versions that name them differently.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

RECIPES = ("copy", "demo", "notebooks")
"""The recipes that need no other corpus. An option of fit like `--data.corpus` would hold for all of them."""
PRECISIONS = ("32-true", "bf16-mixed")
EXPERIMENTS = Path(__file__).resolve().parents[1]


def main() -> None:
    """Train each recipe in each precision, and print a line for each."""
    parser = argparse.ArgumentParser(description="Print a fingerprint of the weights after a few steps of each recipe.")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="names of files in experiments/, without .yaml")
    options, fit_options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.recipes:
            for precision in PRECISIONS:
                run = Path(folder) / f"{recipe}-{precision}"
                train(recipe, precision, run, options.steps, [f"--data.cache_dir={folder}/cache", *fit_options])
                print(f"{recipe:16}{precision:12}{fingerprint(run)}", flush=True)


def train(recipe: str, precision: str, run: Path, steps: int, fit_options: list[str]) -> None:
    """Train for `steps` optimizer steps on the CPU, with one validation at the end."""
    settings = {
        "config": EXPERIMENTS / f"{recipe}.yaml",
        "trainer.accelerator": "cpu",
        "trainer.precision": precision,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.default_root_dir": run,
    }
    command = [sys.executable, "-m", "lit_transformer.fit", *(f"--{name}={value}" for name, value in settings.items())]
    subprocess.run([*command, *fit_options], check=True, stdout=subprocess.DEVNULL)


def fingerprint(run: Path) -> str:
    """The first digits of a SHA-256 over all weights of a run's last checkpoint."""
    checkpoint = max(run.rglob("checkpoints/step-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"].values()
    digests = {hashlib.sha256(weight.contiguous().numpy().tobytes()).hexdigest() for weight in weights}
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
