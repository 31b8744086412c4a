"""Programs of their own that compute for this process, and read requests from stdin and write answers to stdout."""

import os
import subprocess
import sys
from pathlib import Path

Process = subprocess.Popen[bytes]


def start_module(module: str, *arguments: str, **environment: str) -> Process:
    """Start a module of this package (`python -m`), which finds modules where this process does.

    It has a session of its own, so Ctrl-C reaches this process alone.

    Args:
        module: Its name.
        arguments: The arguments of its command line.
        environment: Variables that it has besides those of this process.
    """
    # A relative place, as in a notebook, means another folder if this process has changed its own.
    places = [*sys.path, str(Path(__file__).parents[2])]
    environment |= {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, places))}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        start_new_session=True,
    )
