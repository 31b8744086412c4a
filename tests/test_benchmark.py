"""The benchmark command: options, tables and lines of JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from lit_transformer.benchmark import main
from lit_transformer.benchmarks import contest, gpu, peers, sizes
from lit_transformer.benchmarks.sizes import Size
from lit_transformer.model.config import TransformerConfig

TINY = Size(config=TransformerConfig(d_model=16, d_ff=16, num_heads=2, num_layers=1), vocab_size=61)


@pytest.fixture(autouse=True)
def tiny_and_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.SIZES, "tiny", TINY)

    def remote(prepare: Any, job: Any) -> Any:
        local = contest.Local(prepare(job))
        local.end = lambda: None  # type: ignore[attr-defined]
        return local

    monkeypatch.setattr("lit_transformer.benchmarks.measures.Remote", remote)
    monkeypatch.setattr("lit_transformer.benchmarks.measures.wait_until_ready", lambda remotes, _: remotes)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_training_and_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    options = ["--seconds=0.01", "--tokens_per_batch=120", "--batch_size=3", "--threads=1", "--device=cpu"]
    main(["train", "decode", "--against", "torch", "marian", *options, "--json", str(path)])
    found = lines_of(path)
    assert [(line["measure"], line["contestant"]) for line in found] == [
        ("train", "ours"),
        ("train", "torch"),
        ("train", "marian"),
        ("decode", "ours"),
        ("decode", "marian"),
    ]
    for line in found:
        assert line["per_second"]["low"] <= line["per_second"]["median"] <= line["per_second"]["high"]
        assert (line["speedup"] is None) == (line["contestant"] == "ours")
        assert {"cpu", "load", "packages", "machine", "commit", "threads", "intervals"} <= line.keys()
    printed = capsys.readouterr().out
    assert printed.count("| marian") == 2


def test_lines_on_stdout_leave_tables_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "decode",
            "--against",
            "none",
            "--seconds=0.01",
            "--batch_size=2",
            "--threads=1",
            "--device=cpu",
            "--json",
            "-",
        ]
    )
    printed = capsys.readouterr()
    assert [json.loads(line)["contestant"] for line in printed.out.splitlines()] == ["ours"]
    assert "| ours" in printed.err


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_everything_for_a_gpu_runs_on_a_cpu(compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    if not compiled:
        monkeypatch.setattr(gpu, "TRAINING_SETTINGS", {"base": ("packing", "activation_checkpointing"), "big": ()})
    main(["gpu", "--device=cpu", "--threads=1", "--against", "none", "--json", str(path)])
    lines = lines_of(path)
    assert [line["name"] for line in lines if "name" in line] == ["ceilings"]
    contestants = [line["contestant"] for line in lines if "contestant" in line]
    assert contestants.count("ours") == 3
    assert contestants.count("torch") == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dekode"], "dekode"),
        (["--against", "fairseq"], "fairseq"),
        (["--threads", "0"], "--threads"),
        (["--seconds=-1"], "--seconds"),
        (["--json", "missing/folder/file"], "--json"),
        (["train", "--against", "none", "--settings", "fast", "--device=cpu", "--threads=1"], "fast"),
    ],
)
def test_mistakes(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_a_peer_that_is_missing_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda package: None if package == "transformers" else object())
    with pytest.raises(SystemExit):
        main(["train", "--against", "marian"])
    assert "pip install" in capsys.readouterr().err
