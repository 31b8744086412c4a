"""The task that arguments name, directly or in a recipe."""

from pathlib import Path

import pytest

from lit_transformer.cli.tasks import DEFAULT, TASKS, find_task, task_of
from lit_transformer.errors import UserError


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("# a GPT\nmodel:\n  task: none\ntask: causal_lm  # the next token\n", encoding="utf-8")
    return str(path)


def test_the_task_is_read_from_arguments_and_yaml_files(recipe: str) -> None:
    assert find_task([]) == find_task(["demo", "--data.corpus=copy"]) == DEFAULT
    for args in ([recipe], ["demo", recipe], [f"--config={recipe}"], ["--name", "x", "-c", recipe]):
        assert find_task(args) == TASKS["causal_lm"]
    assert find_task(["--task", "causal_lm"]) == find_task(["--config", "{task: causal_lm}"]) == TASKS["causal_lm"]


def test_the_last_one_counts(recipe: str) -> None:
    assert find_task([recipe, "--task=translation"]) == DEFAULT
    assert find_task(["--task=translation", "--config", recipe]) == TASKS["causal_lm"]


def test_a_misspelt_task_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"causallm.*causal_lm\?.*translation"):
        find_task(["--task", "causallm"])


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_has_its_classes(task: object) -> None:
    assert isinstance(task, type(DEFAULT))
    model, _ = task.classes
    assert task_of(model) == task
