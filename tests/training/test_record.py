"""What a run writes about itself at every start, and which ranks it refuses."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from lit_transformer.errors import UserError
from lit_transformer.training.record import FILE, check_ranks
from tests.runs import fit, make_corpus

SHORT = {"trainer__max_steps": 4, "trainer__val_check_interval": 4, "checkpoints__every_n_steps": 4}


def test_every_start_leaves_a_line(tmp_path: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    run = fit(corpus, tmp_path / "runs", **SHORT)
    fit(corpus, tmp_path / "runs", **SHORT | {"trainer__max_steps": 6}, ckpt_path="auto")
    first, second = (json.loads(line) for line in (run.folder / FILE).read_text(encoding="utf-8").splitlines())
    assert (first["first_step"], second["first_step"]) == (0, 4)
    assert first["data"] == second["data"]
    # A build for CUDA is `2.13.0+cu130` to torch itself, and not to all who package it.
    recorded, here = (name.partition("+")[0] for name in (first["versions"]["torch"], torch.__version__))
    assert (first["devices"], recorded) == (1, here)
    if (repo_root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo_root, capture_output=True, text=True, check=True)
        assert first["commit"].removesuffix("-dirty") == head.stdout.strip()
    assert "note:" not in capsys.readouterr().err
    # Other data under the same checkpoint is allowed, and said.
    fit(corpus, tmp_path / "runs", **SHORT | {"trainer__max_steps": 8}, ckpt_path="auto", seed_everything=2)
    assert "note: the checkpoint was made with data" in capsys.readouterr().err


def _meet(rank: int, folder: Path, facts: list[list[dict[str, Any]]]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    messages = []
    for case in facts:
        try:
            check_ranks(case[rank])
            messages.append("")
        except UserError as error:
            messages.append(str(error))
    (folder / f"{rank}.json").write_text(json.dumps(messages), encoding="utf-8")
    distributed.destroy_process_group()


def test_ranks_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """By all of them, so that none is left waiting."""
    facts = {"devices": 2, "data": "a", "code": "c"}
    cases = [
        [{**facts, "rank": 0}, {**facts, "rank": 1}],
        [{**facts, "rank": 0}, {**facts, "rank": 0}],
        [{**facts, "rank": 0}, {**facts, "rank": 1, "data": "b"}],
        [{**facts, "rank": 0}, {**facts, "rank": 1, "code": "d"}],
    ]
    multiprocessing.spawn(_meet, args=(tmp_path, cases), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2))
    assert first == second
    fine, twice, data, code = first
    assert fine == ""
    assert "process 1 takes itself for rank 0" in twice
    assert "rank 1 has data b, rank 0 has a" in data
    assert "rank 1 has code d, rank 0 has c" in code
