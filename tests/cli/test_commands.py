"""What the commands share."""

import subprocess
import sys
from pathlib import Path

import pytest

from lit_transformer.cli.commands import COMMANDS, Parser
from lit_transformer.errors import UserError

SCRIPT = """
import contextlib, importlib, io, sys

for name in sys.argv[1:]:
    main = importlib.import_module(f"lit_transformer.{name}").main
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(["--help"])
    print(name, "usage: python -m lit_transformer" in out.getvalue())
    mistakes = {"fit": [["--help=misspelt"]], "check": [["--help=misspelt"]], "benchmark": [["--misspelt", "1"]]}
    for args in mistakes.get(name, [["--misspelt", "1"], []]):
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
        assert lines.count(f"{name} 2") == (1 if name in ("fit", "check", "benchmark") else 2)


@pytest.mark.parametrize("args", [["--beam_sise", "3"], ["--beam_sise=3", "--checkpoint", "runs"]])
def test_a_misspelt_option_is_named_even_if_another_one_is_missing(args: list[str]) -> None:
    parser = Parser("translate")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--beam_size")
    with pytest.raises(UserError, match=r"--beam_sise.* --beam_size\?"):
        parser.parse_args(args)
