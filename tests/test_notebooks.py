"""The notebooks run as they are, from top to bottom, and lie in the repository with what they print."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SOMEBODYS_PATH = re.compile(r"(?<![\w.:])(/(home|Users|root|tmp|mnt|work)/|[A-Z]:\\\\)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_they_are_numbered_and_in_the_readme(repo_root: Path) -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number}_" for number in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) == 6
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in readme


@each_notebook
def test_the_outputs_are_those_of_one_run_from_top_to_bottom(path: Path) -> None:
    """CONTRIBUTING.md has the command that makes them."""
    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in notebook.cells:
        assert cell.metadata == {}, f"{cell.id} has {cell.metadata}"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "GitHub shows no picture"
    for output in outputs:
        assert output.output_type != "error"
        if output.get("name") == "stderr":  # neither warnings nor progress bars
            assert all(line.startswith("note: ") for line in output.text.splitlines()), output.text
    written = path.read_bytes().decode("utf-8")
    assert not SOMEBODYS_PATH.search(written), "a place that only one machine has"
    assert notebook.metadata.kernelspec.name == "python3"
    # As Jupyter itself writes files, so that saving one changes what was changed.
    assert written == nbformat.writes(notebook, indent=1) + "\n"


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 2_000_000


@pytest.fixture(scope="module", params=["short", pytest.param("whole", marks=pytest.mark.slow)])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """What the notebooks need of the repository, elsewhere: its own `runs` stay as they are.

    All of them share it, so that the model is trained once. `short` trains it little and counts over fewer sentences.
    """
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(repo_root / "notebooks", desk / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (desk / "experiments").mkdir()
    (desk / "home").mkdir()
    recipe = yaml.safe_load((repo_root / "experiments" / "notebooks.yaml").read_text(encoding="utf-8"))
    if request.param == "short":
        recipe["data"]["corpus"] = "demo:2000"
        recipe["trainer"] |= {"max_steps": 30, "val_check_interval": 15, "log_every_n_steps": 5}
        recipe["checkpoints"]["every_n_train_steps"] = 15
        for path in (desk / "notebooks").glob("*.ipynb"):
            text = path.read_text(encoding="utf-8").replace("[:200]", "[:50]")
            path.write_text(re.sub(r"\bsteps=\d+", "steps=10", text), encoding="utf-8")
    (desk / "experiments" / "notebooks.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return desk


@each_notebook
def test_runs(path: Path, desk: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repo_root))
    # The cache of prepared data, and Jupyter's and matplotlib's own files.
    monkeypatch.setenv("HOME", str(desk / "home"))
    place = {"metadata": {"path": str(desk / "notebooks")}}
    # The limit of a cell, for what hangs: training may take long on a busy machine.
    notebook = read(desk / "notebooks" / path.name)
    client = NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=place)
    notebook = client.execute()
    printed = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    streams = [output.text for output in printed if output.output_type == "stream"]
    # tqdm misses ipywidgets, which nothing here needs.
    assert [text for text in streams if "Warning" in text and "IProgress" not in text] == []
