"""What it costs to watch attention during training: its CPU seconds as a share of all that the same run takes.

    python experiments/measure/attention_cost.py --config experiments/demo.yaml [any option of fit]

Two runs, with and without, would differ by more than this from one time to the next.
"""

import sys
import time
from typing import Any

from lit_transformer import fit
from lit_transformer.runs.attention_curves import AttentionCurves


def main() -> None:
    """Train as the command line says, with a watch on the callback, and print."""
    seconds: list[float] = []
    work = AttentionCurves.on_validation_end

    def timed(*args: Any) -> None:
        begin = time.process_time()
        work(*args)
        seconds.append(time.process_time() - begin)

    AttentionCurves.on_validation_end = timed  # type: ignore[method-assign, assignment] # a watch, in this script only
    fit.main(sys.argv[1:])
    total = time.process_time()
    each = ", ".join(f"{value:.2f}" for value in seconds)
    print(f"attention: {each} CPU s at {len(seconds)} validations, {sum(seconds) / total:.2%} of {total:.0f} CPU s")


if __name__ == "__main__":
    main()
