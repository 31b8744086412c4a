"""`python -m lit_transformer` and the console script."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import lit_transformer
from lit_transformer import fit
from lit_transformer.__main__ import main
from lit_transformer.cli.commands import COMMANDS
from lit_transformer.fit import FitResult


def test_every_command_is_listed(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--help"], ["-h"]):
        main(args)
        listing = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
        assert dict(listing) == COMMANDS
    modules = (repo_root / "lit_transformer").glob("*.py")
    assert {path.stem for path in modules if "\ndef main(" in path.read_text()} == {*COMMANDS, "__main__"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--no_such_option"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert callable(import_module(f"lit_transformer.{command}").main)


def test_what_a_command_returns_is_no_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "main", lambda options: FitResult(Path(), None, {}))
    main(["fit"])
    monkeypatch.setattr(sys, "argv", ["lit-transformer", "fit"])
    with pytest.raises(SystemExit) as end:
        sys.exit(main())  # type: ignore[func-returns-value] # as the console script does
    assert end.value.code is None


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["trnaslate"])
    assert "translate?" in capsys.readouterr().err


def test_one_version(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.split() == ["lit-transformer", lit_transformer.__version__]
    project = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "lit_transformer.__version__"}
    assert project["project"]["scripts"] == {"lit-transformer": "lit_transformer.__main__:main"}
