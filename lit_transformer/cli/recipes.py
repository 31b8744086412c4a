"""The recipes: settings of `fit` in YAML files that come with the project and are found by name."""

from pathlib import Path

from lit_transformer.cli.suggestions import did_you_mean
from lit_transformer.errors import UserError

_PACKAGE = Path(__file__).parents[1]


def recipes() -> dict[str, Path]:
    """The file of each recipe by its name, such as `demo` or `wmt14_en_de/base`.

    An installed package holds the folder `experiments`. In a checkout the folder lies beside the package.
    """
    for folder in (_PACKAGE / "experiments", _PACKAGE.parent / "experiments"):
        files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
        if files:
            return files
    return {}


def recipe_path(name: str) -> str:
    """The file that a value of `--config` names. If a file and a recipe have this name, the file is taken.

    Raises:
        UserError: If there is neither a file nor a recipe of this name.
    """
    # With a colon, the value itself is YAML.
    if ":" in name or _is_file(name):
        return name
    known = recipes()
    if name not in known:
        raise UserError(
            f"--config {name}: there is no such file, and no recipe of this name{did_you_mean(name, known)} "
            f"(recipes: {', '.join(known)})"
        )
    return str(known[name])


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # no file can have this name
        return False
