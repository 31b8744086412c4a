import sys
from pathlib import Path

import pytest

from lit_transformer.decoding.child_process import start_module


@pytest.mark.parametrize("module", ["lit_transformer.errors", "folder_module"])
def test_a_child_finds_modules_after_a_change_of_folder(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also this package, if a program found it in the folder where it began, as a notebook does."""
    (tmp_path / "folder_module.py").write_text("")
    others = [place for place in sys.path if not (Path(place) / "lit_transformer").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    monkeypatch.chdir("/")
    with start_module(module) as process:
        assert process.wait(100) == 0
