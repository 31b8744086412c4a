"""What the Markdown files say holds: links lead somewhere, commands have the options that are named, examples run."""

import importlib
import re
import shlex
import tomllib
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import lit_transformer
from lit_transformer.cli.commands import COMMANDS
from lit_transformer.cli.recipes import recipes
from tests.helpers.foreign import gpt2, save
from tests.helpers.tokenizers_of_others import byte_level

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md"))
)
TRAINING = {"fit", "check"}

each_page = pytest.mark.parametrize("page", PAGES)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a part of a page can name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = ROOT / Path(page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@each_page
def test_files_that_are_named_exist(page: str) -> None:
    for name in re.findall(r"(?<![\w/])([a-z_]+/[a-z_/]+\.(?:py|sh|txt))\b", read(page)):
        assert (ROOT / name).exists() or (ROOT / "lit_transformer" / name).exists(), name


def test_the_version_is_the_same_everywhere() -> None:
    versions = re.findall(r"^## \[(.+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert yaml.safe_load(read("CITATION.cff"))["version"] == lit_transformer.__version__ == versions[0]


def commands(page: str) -> list[list[str]]:
    """The commands of this project in a page, word by word; a command ends before `|`, `&`, `<`, `>` or `#`."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    found = [re.findall(r"-m lit_transformer\.(\w+.*?)(?=$| [|&<>#])", line) for line in lines]
    return [shlex.split(command) for line in found for command in line]


@each_page
def test_commands_have_the_options_that_are_named(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, *args in commands(page):
        known = training_options() if command in TRAINING else help_options(command, capsys)
        named = {arg.split("=")[0].removeprefix("--").rstrip("+") for arg in args if arg.startswith("--")}
        # Arguments of the class that a setting names, such as `--trainer.callbacks.monitor`.
        named -= {name for name in named if name.rpartition(".")[0] in known}
        assert named <= known, f"{command}: {named - known}"
        configs = {value for name, value in pairwise(args) if name == "--config"}
        assert configs <= {*recipes(), "mine.yaml"}, f"{command}: {configs}"


def test_the_readme_lists_the_commands() -> None:
    rows = re.findall(r"^\| `python -m lit_transformer\.(\w+)` \|", read("README.md"), re.MULTILINE)
    assert rows == list(COMMANDS)


def help_options(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        importlib.import_module(f"lit_transformer.{command}").main(["--help"])
    return set(re.findall(r"--(\w+)", capsys.readouterr().out))


@cache
def settings() -> dict[str, Any]:
    """What `--print_config` prints."""
    with redirect_stdout(StringIO()) as output, pytest.raises(SystemExit):
        importlib.import_module("lit_transformer.check").main(["--print_config"])
    printed: dict[str, Any] = yaml.safe_load(output.getvalue())
    return printed


def training_options() -> set[str]:
    """The options of `fit` or `check`, from the settings and their sections."""

    def names(section: dict[str, Any], prefix: str) -> set[str]:
        return {f"{prefix}{name}" for name in section} | {
            inner
            for name, value in section.items()
            if isinstance(value, dict)
            for inner in names(value, f"{prefix}{name}.")
        }

    return names(settings(), "") | {"config", "devices", "print_config", "help"}


SHORTER = {"max_epochs=1": "max_epochs=1, limit_train_batches=3, limit_test_batches=1, limit_predict_batches=1"}
"""Changes of examples. The results do not matter here."""


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in read(page)])
def test_examples_run(page: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after the other, with a tiny model where the demo's is named."""
    code = "\n".join(blocks(page, "python"))
    for text, shorter in SHORTER.items():
        code = code.replace(text, shorter)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(tiny_run.parent)
    if '"gpt2"' in code:
        tokenizer = byte_level()
        tokenizer.save_pretrained(tmp_path / "gpt2")
        save(gpt2(vocab_size=len(tokenizer)), tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": page})


def test_the_architecture_lists_every_module() -> None:
    """Rooms in the order of the import contract, and in each room its modules and no others."""
    [listed] = [block for block in blocks("docs/architecture.md", "") if block.startswith("__main__.py")]
    rooms = re.findall(r"^(\w+)(?:/|\.py) ", listed.replace("/\n", "/ \n"), re.MULTILINE)
    contract = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    floors = [re.split(r" [|:] ", layer) for layer in contract["layers"]]
    assert [set(rooms[sum(map(len, floors[:level])) :][: len(floor)]) for level, floor in enumerate(floors)] == [
        set(floor) for floor in floors
    ]
    package = ROOT / "lit_transformer"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"}
    folders: list[str] = []
    found = []
    for indent, name in re.findall(r"^( *)(\w+/|\w+\.py)", listed, re.MULTILINE):
        folders[len(indent) // 2 :] = [name]
        found.append("".join(folders))
    assert sorted(name for name in found if name.endswith(".py")) == sorted(modules)
