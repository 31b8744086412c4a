"""Measures the CPU time of the attention curves as a share of the CPU time of the run.

    python experiments/measure/attention_cost.py --config demo [options of fit]

Comparing two runs, with and without the curves, would not do: the times of equal runs differ by more than the share.
"""

import sys
import time
from typing import Any

from lit_transformer import fit
from lit_transformer.runs.attention_curves import AttentionCurves


def main() -> None:
    """Train with the options of the command line, measure the callback, and print."""
    seconds: list[float] = []
    work = AttentionCurves.on_validation_end

    def timed(*args: Any) -> None:
        begin = time.process_time()
        work(*args)
        seconds.append(time.process_time() - begin)

    AttentionCurves.on_validation_end = timed  # type: ignore[method-assign, assignment] # in this script only
    fit.main(sys.argv[1:])
    total = time.process_time()
    each = ", ".join(f"{value:.2f}" for value in seconds)
    print(f"attention: {each} CPU s at {len(seconds)} validations, {sum(seconds) / total:.2%} of {total:.0f} CPU s")


if __name__ == "__main__":
    main()
