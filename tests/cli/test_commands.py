"""What the commands share."""

import subprocess
import sys
from pathlib import Path

from lit_transformer.cli.commands import COMMANDS

SCRIPT = """
import contextlib, importlib, io, sys

for name in sys.argv[1:]:
    main = importlib.import_module(f"lit_transformer.{name}").main
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(["--help"])
    print(name, "usage: python -m lit_transformer" in out.getvalue())
    for args in ([["--misspelt", "1"], []] if name not in ("fit", "check") else [["--help=misspelt"]]):
        try:
            main(args)
        except SystemExit as end:
            print(name, end.code)
print(*sys.modules)
"""


def test_help_and_mistakes_are_answered_at_once(repo_root: Path) -> None:
    """Nothing heavy is imported before the arguments are parsed."""
    command = [sys.executable, "-c", SCRIPT, *COMMANDS]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=100, check=True)
    *lines, modules = done.stdout.splitlines()
    heavy = {"torch", "lightning", "jsonargparse", "datasets", "numpy", "sacrebleu", "sentencepiece"}
    assert not heavy & {name.split(".")[0] for name in modules.split()}
    for name in COMMANDS:
        assert lines.count(f"{name} True") == 1
        assert lines.count(f"{name} 2") == (1 if name in ("fit", "check") else 2)
