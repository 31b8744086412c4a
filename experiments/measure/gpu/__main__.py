"""Explorations on a GPU that no command has: kernels of attention, variants of the loss, and long sequences.

    python -m experiments.measure.gpu [PART ...]      attention, loss, long; all of them when none is named

Training and decoding are measured by `python -m lit_transformer.benchmark gpu`. Every result is one line: a name and
its values. The inputs are random.
"""

import argparse

import torch

from experiments.measure.gpu import attention, loss
from experiments.measure.gpu.timing import report

PARTS = {"attention": attention.short, "loss": loss.measure, "long": attention.measure_long}
"""What each part runs."""


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    report("machine", gpu=gpu, torch=torch.__version__)
    for part in options.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
