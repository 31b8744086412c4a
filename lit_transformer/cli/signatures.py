"""Arguments of classes, read from source files that are parsed and not run.

`--help` must not import torch and Lightning, which takes seconds.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PACKAGE = Path(__file__).parents[1]


class Argument(NamedTuple):
    """An argument of a class that has a default. Type and default are Python source text."""

    name: str
    type: str
    default: str
    description: str


class Signature(NamedTuple):
    """What a class is, by its docstring, and what it takes."""

    summary: str
    arguments: list[Argument]


def read_signature(path: Path, name: str) -> Signature:
    """The arguments of the constructor, or of the fields of a dataclass, of the class `name` in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    [node] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    # Lightning's Trainer describes its arguments in the constructor's docstring.
    docstring = (inits and ast.get_docstring(inits[0])) or ast.get_docstring(node) or ""
    descriptions = _descriptions(docstring)
    names = _Names(tree)
    return Signature(
        " ".join(docstring.partition("\n\n")[0].split()),
        [
            Argument(argument, names.source(annotation), names.source(default), descriptions.get(argument, ""))
            for argument, annotation, default in (_parameters(inits[0]) if inits else _fields(node))
        ],
    )


def _parameters(init: ast.FunctionDef) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    positional, needed = init.args.args, len(init.args.args) - len(init.args.defaults)
    defaults = [*init.args.defaults, *init.args.kw_defaults]
    for parameter, default in zip([*positional[needed:], *init.args.kwonlyargs], defaults, strict=True):
        if parameter.annotation is not None and default is not None:
            yield parameter.arg, parameter.annotation, default


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is not None:
            yield field.target.id, field.annotation, field.value


def _descriptions(docstring: str) -> dict[str, str]:
    """The texts of the section `Args:`."""
    _, _, rest = inspect.cleandoc(docstring).partition("\nArgs:\n")
    section = re.split(r"^(?=\S)", rest, maxsplit=1, flags=re.MULTILINE)[0]
    parts = re.split(r"^ {4}(\w+): ", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


class _Names(ast.NodeTransformer):
    """Replaces names by their values, if a module defines them or imports them from another module of this project."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree

    def source(self, expression: ast.expr) -> str:
        return ast.unparse(self.visit(expression))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        for statement in self._tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if any(isinstance(target, ast.Name) and target.id == node.id for target in targets):
                    return statement.value
            elif isinstance(statement, ast.ImportFrom) and any(alias.name == node.id for alias in statement.names):
                module = statement.module or ""
                return _Names(_module(module)).visit_Name(node) if module.startswith("lit_transformer.") else node
        return node


def _module(name: str) -> ast.Module:
    place = _PACKAGE.joinpath(*name.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
