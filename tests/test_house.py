"""The files around the code agree with each other and with the documentation."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lit_transformer.cli.commands import COMMANDS

TOP_LEVEL = {
    ".ci",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "docs",
    "environment.yml",
    "experiments",
    "lit_transformer",
    "notebooks",
    "pyproject.toml",
    "tests",
}
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(read(repo_root / "pyproject.toml"))["project"]
    return project


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def git_files(repo_root: Path, *options: str) -> list[str]:
    if not (repo_root / ".git").exists():
        pytest.skip("this is not a git checkout")
    command = ["git", "ls-files", "-z", *options]
    listing = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.split("\0") if name]


def test_conda_and_pip_install_the_same(repo_root: Path, project: dict[str, Any]) -> None:
    environment = yaml.safe_load(read(repo_root / "environment.yml"))["dependencies"]
    python, _, pip = environment
    # No upper bound: whoever has a newer Python than we tried can try it.
    assert python == f"python{project['requires-python']}" == "python>=3.11"
    assert pip["pip"] == ["-e .", *project["dependencies"], *project["optional-dependencies"]["test"]]


def test_pinned_versions_are_allowed(repo_root: Path, project: dict[str, Any]) -> None:
    """Every dependency has the version that the results were made with, and the bounds allow it."""
    bounds = {requirement.name: requirement.specifier for requirement in map(Requirement, project["dependencies"])}
    lines = [line for line in read(repo_root / "experiments" / "requirements.txt").splitlines() if line[0] != "#"]
    pinned = dict(line.split("==") for line in lines)
    assert list(pinned) == list(bounds)
    assert all(pinned[name] in bounds[name] for name in pinned)


def test_every_bound_has_its_reason(repo_root: Path) -> None:
    lines = [line.strip() for line in read(repo_root / "pyproject.toml").splitlines()]
    runtime = lines[lines.index("dependencies = [") : lines.index("[project.scripts]")]
    for above, line in pairwise(runtime):
        assert not line.startswith('"') or above.startswith("#"), f"no reason above {line}"


def test_everything_imported_is_declared(repo_root: Path, project: dict[str, Any]) -> None:
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    declared = {re.split(r"[^\w-]", line)[0] for line in [*project["dependencies"], *extras]}
    distributions = packages_distributions()
    imported: set[str] = set()
    for path in (repo_root / "lit_transformer").rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    for package in imported - set(sys.stdlib_module_names) - {"lit_transformer"}:
        assert declared & set(distributions.get(package, [])), f"{package} is imported but not declared"


def test_nothing_lies_about(repo_root: Path) -> None:
    assert {name.split("/")[0] for name in git_files(repo_root)} <= TOP_LEVEL
    assert git_files(repo_root, "--cached", "--ignored", "--exclude-standard") == []


IDEAS = {
    "checkpoints/test_architectures.py": "every architecture goes through training, saving, averaging and translating",
    "data/test_scale.py": "the benchmark of preparing data runs",
    "decoding/test_marian.py": "search finds what that of `transformers` finds with the same weights",
    "robustness/test_bad_input.py": "mistakes of users",
    "robustness/test_fuzz.py": "random input",
    "robustness/test_safety.py": "files from others",
    "robustness/test_sweep.py": "every option with unexpected values",
    "runs/test_meeting.py": "how several processes start, and what is said if one of them is missing or dies",
    "test_docs.py": "the documentation tells what is there",
    "test_gpu_measurements.py": "what experiments/measure/gpu times",
    "test_house.py": "the files around the code",
    "test_lightning_flags.py": "each flag of the trainer of Lightning, and each of its callbacks",
    "test_main.py": "the list of commands",
    "test_notebooks.py": "notebooks run",
    "test_package.py": "public names, their types, and the wheel",
    "test_private_names.py": "private names of other projects",
    "test_shape_legends.py": "names with shapes",
    "training/test_accelerator.py": "training and translating on a device that is not the host",
    "training/test_epochs.py": "epochs end, and a run that is cut at any step goes on",
    "training/test_half_precision.py": "weights in half precision",
    "training/test_oracle.py": "fifty steps equal those of a plain loop over PyTorch's own parts",
    "training/test_plain_trainer.py": "module and datamodule with a plain Trainer of Lightning",
    "training/test_tasks.py": "what holds for every task that is trained",
    "training/test_precision.py": "a step under CUDA's autocast",
}
"""Tests of more than one module."""


def test_tests_mirror_the_package(repo_root: Path) -> None:
    package, tests = repo_root / "lit_transformer", repo_root / "tests"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    files = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    without_module = {path.as_posix() for path in files if (path.parent / path.name[5:]).as_posix() not in modules}
    assert without_module <= IDEAS.keys()
    assert {path.parent.name for path in package.glob("*/__init__.py")} <= {path.parts[0] for path in files}


def test_only_commands_spell_option_names(repo_root: Path) -> None:
    """Other modules name the argument. Whole commands in backticks and lists of arguments are allowed."""
    package = repo_root / "lit_transformer"
    commands = {package / f"{name}.py" for name in ("__main__", *COMMANDS)}
    modules = {path for path in package.rglob("*.py") if package / "cli" not in path.parents} - commands
    for module in sorted(modules):
        nodes = list(ast.walk(ast.parse(read(module))))
        arguments = [item for node in nodes if isinstance(node, ast.List) for item in node.elts]
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in arguments:
                text = re.sub(r"`+[a-z][^`]*`+", "", node.value)
                assert not re.search(r"(?<![\w-])--([a-z]|$)", text), f"{module}:{node.lineno}"


def test_what_is_installed_is_complete(repo_root: Path) -> None:
    """A wheel takes the rooms and the files other than Python that pyproject.toml lists."""
    listed = tomllib.loads(read(repo_root / "pyproject.toml"))["tool"]["setuptools"]
    rooms = {path.parent for path in (repo_root / "lit_transformer").rglob("__init__.py")}
    places = {room.relative_to(repo_root).as_posix().replace("/", "."): room for room in rooms}
    places |= {name: repo_root / folder for name, folder in listed["package-dir"].items()}
    assert set(listed["packages"]) == set(places)
    globs = [(places[room], glob) for room, room_globs in listed["package-data"].items() for glob in room_globs]
    data = {path for room, glob in globs for path in room.glob(glob)}
    others = [*git_files(repo_root, "lit_transformer"), *git_files(repo_root, "experiments/**.yaml")]
    assert data == {repo_root / name for name in others if not name.endswith(".py")}


def test_ci_runs_what_contributing_says(repo_root: Path) -> None:
    assert 'pip install -e ".[test]" && pytest' in read(repo_root / "CONTRIBUTING.md")
    script = repo_root / ".ci" / "run"
    checks = ["ruff check", "ruff format --check", "mypy", "lint-imports"]
    # PyTorch first: without a version, pip may take a build for CUDA.
    commands = ["pip install torch==2.13.0", 'pip install -e ".[test]"', *checks, "pytest"]
    assert read(script).splitlines()[-len(commands) :] == commands
    assert script.stat().st_mode & 0o111, ".ci/run is not executable"


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell script")
@pytest.mark.parametrize(
    ("interpreter", "chosen"), [(None, "python3.13"), ("python3.12", "python3.12"), ("python3.14", None)]
)
def test_ci_takes_the_newest_python_that_works(
    interpreter: str | None, chosen: str | None, repo_root: Path, tmp_path: Path
) -> None:
    """Some names in PATH are pyenv's shims, which run no Python."""
    for name in ("python3.14", "python3.11", "python3", "python"):
        stand_in(tmp_path, name, "exit 127")
    for name in ("python3.13", "python3.12"):
        stand_in(tmp_path, name, f'[ "$1" = -c ] || {{ echo {name}; exit 3; }}')
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | ({"PYTHON": interpreter} if interpreter else {})
    done = subprocess.run([repo_root / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((3, f"{chosen}\n") if chosen else (1, ""))
    assert done.stderr.startswith("error: python3.14 was not found") == (chosen is None)


def test_the_workflow_tests_every_python_that_is_named(repo_root: Path, project: dict[str, Any]) -> None:
    workflow = yaml.safe_load(read(repo_root / ".github" / "workflows" / "ci.yml"))
    linux, units = workflow["jobs"]["linux"], workflow["jobs"]["units"]
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python ::" in name]
    assert linux["strategy"]["matrix"]["python"] == units["strategy"]["matrix"]["python"] == named
    assert linux["steps"][-1] == {"run": ".ci/run"}
    assert units["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]
    command, *rooms = units["steps"][-1]["run"].split()
    assert command == "pytest"
    assert rooms
    for room in rooms:
        assert (repo_root / room).is_dir(), room


def test_hooks_run_what_ci_runs(repo_root: Path) -> None:
    hooks = yaml.safe_load(read(repo_root / ".pre-commit-config.yaml"))["repos"][0]["hooks"]
    script = read(repo_root / ".ci" / "run")
    for hook in hooks:
        assert re.search(rf"^{re.escape(hook['entry'])}( --check)?$", script, re.MULTILINE), hook["id"]


def modules_after(statement: str) -> set[str]:
    report = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.check_output([sys.executable, "-c", report], text=True).split())


def test_the_package_imports_nothing_until_asked() -> None:
    assert not modules_after("import lit_transformer") & {"torch", "datasets", "sentencepiece", *LIGHTNING}


@pytest.mark.parametrize(
    "statement",
    [
        "from lit_transformer import Translator",
        "import lit_transformer.test, lit_transformer.translate, lit_transformer.average",
        "import lit_transformer.decoding.translator, lit_transformer.evaluation.bleu",
        "import lit_transformer.align, lit_transformer.analysis.alignment, lit_transformer.analysis.words",
    ],
)
def test_translating_never_loads_lightning(statement: str) -> None:
    assert not modules_after(statement) & LIGHTNING
