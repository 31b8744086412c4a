"""`fit --help` and `check --help`: all settings, the project's own first, without an import of torch."""

import re
from pathlib import Path

import pytest

from lit_transformer import check, fit
from lit_transformer.cli.sections import SECTIONS, read_section, sections_of, spell_settings
from lit_transformer.cli.tasks import TASKS, Task
from lit_transformer.cli.training import CheckCLI, FitCLI, parse


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_help_shows_every_setting(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with its default, which is the one of the real parser."""
    sections = sections_of(task)
    for main, cli, own in ((fit.main, FitCLI, set()), (check.main, CheckCLI, {"tokens_per_second"})):
        main([f"--task={task.name}", "--help"])
        text = shown(capsys)
        names = {"config", "task", "name", "seed_everything", "ckpt_path", "init_from", *own}
        assert {"devices", "print_config", "help", *names} == set(re.findall(r"^  --(\w+)[ \n]", text, re.MULTILINE))
        defaults = vars(parse([f"--task={task.name}", f"--trainer.default_root_dir={tmp_path}"], cli).config.as_flat())
        linked = {"model.seed", "data.seed", "data.vocab_size", "data.source_vocab_size", "data.max_positions"}
        linked |= {"data.image_size", "data.num_channels"}
        found = re.findall(r"^  --(\w+\.[\w.]+) \([^-]*?default:\s+([^-]*?)\)$", text, re.MULTILINE)
        settings = {name: " ".join(default.split()) for name, default in found}
        assert set(re.findall(r"^  --(\w+\.[\w.]+)", text, re.MULTILINE)) == set(defaults) - names - linked
        # The interval between validations depends on other settings.
        for name in set(settings) - {"trainer.default_root_dir", "trainer.val_check_interval"}:
            assert settings[name] == repr(defaults[name]).replace("None", "null"), name
        assert len(settings) > 60
    order = re.findall(r"^([\w.]+): ", text, re.MULTILINE)
    assert [name for name in order if name in sections] == list(sections)
    assert order.index("model") < order.index("data") < order.index("trainer")


@pytest.mark.parametrize("args", [["--help", "model"], ["--help=model"], ["--data.source", "en", "-h", "model"]])
def test_one_section(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fit.main(args)
    options = re.findall(r"^  --([\w.]+)", shown(capsys), re.MULTILINE)
    assert {"model.vocab_size", "model.transformer.d_model"} <= set(options)
    assert all(option.startswith("model.") for option in options)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described(section: str, task: Task) -> None:
    if section not in sections_of(task):
        return
    summary, arguments = read_section(section, task)
    assert summary
    assert all(argument.description for argument in arguments)


def test_a_misspelt_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        check.main(["--help", "modle"])
    assert "model?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        ("d_ff is 0: raise it", "model.transformer.d_ff is 0: raise it"),
        ("dropout is 2.0: lower it", "model.transformer.dropout is 2.0: lower it"),
        ("symbols has x: leave it out", "data.symbols has x: leave it out"),
        ("source is xx: lower max_length.", "data.source is xx: lower data.max_length."),
        ("raise trainer.max_steps, --vocab_size or keep", "raise trainer.max_steps, --vocab_size or keep"),
        (
            "/runs/max_length/d_ff.ckpt and max_length.txt of seed_x",
            "/runs/max_length/d_ff.ckpt and max_length.txt of seed_x",
        ),
    ],
)
def test_messages_name_settings_in_full(message: str, spelled: str) -> None:
    assert spell_settings(message) == spelled


def test_a_mistake_names_its_setting_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for main in (fit.main, check.main):
        with pytest.raises(SystemExit, match="2"):
            main([f"--trainer.default_root_dir={tmp_path}", "--data.tokens_per_batch", "0"])
        assert "data.tokens_per_batch is 0" in capsys.readouterr().err
