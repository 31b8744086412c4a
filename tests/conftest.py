"""What every test gets: one thread, seeds, caches of its own, and the paths of the checkout."""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from tests.worker import Worker

REPO_ROOT = Path(__file__).resolve().parents[1]

caches = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module imports `datasets`, which reads its paths once. A user's own cache stays
    # untouched, and what an earlier run left there cannot make a test pass.
    config.stash[caches] = tempfile.TemporaryDirectory(prefix="lit_transformer_", ignore_cleanup_errors=True)
    for name in list(os.environ):
        if name.startswith("HF_") and name.endswith(("_HOME", "_CACHE")):
            del os.environ[name]
    os.environ["HF_HOME"] = config.stash[caches].name
    # One thread, here and in child processes: sums have one order, and tests do not fight over shared cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    # No deadline, because the first call of a kernel is slow. The same examples in every run, so that a
    # failure belongs to the change that it appears with.
    hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile("house")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[caches].cleanup()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """The folder of real parallel text that some checkouts have beside them."""
    folder = repo_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real text of ../shared/data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Runs verbs in a process of its own."""
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it, of a model that has learnt a few demo sentences by heart within seconds."""
    # Here, because `pytest_configure` sets the environment that these read when they are imported.
    from lit_transformer import checkpoint
    from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
    from lit_transformer.data.demo import demo_pairs
    from lit_transformer.data.tokenizer import Tokenizer
    from lit_transformer.model.config import TransformerConfig
    from lit_transformer.model.transformer import Transformer

    pairs = demo_pairs("train", num_pairs=31)
    texts = [pair.english for pair in pairs], [pair.german for pair in pairs]
    tokenizer = Tokenizer.train([*texts[0], *texts[1]], vocab_size=131, character_coverage=1.0)
    source_BS, target_BT = (
        pad_sequence([torch.tensor([*ids, EOS_ID]) for ids in tokenizer.encode(side)], batch_first=True)
        for side in texts
    )
    target_input_BT = torch.cat([torch.full((len(pairs), 1), BOS_ID), target_BT[:, :-1]], dim=1)
    torch.manual_seed(1)
    config = TransformerConfig(d_model=32, d_ff=64, num_heads=2, num_layers=1, dropout=0.0)
    transformer = Transformer(config, vocab_size=tokenizer.vocab_size, pad_id=PAD_ID)
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.01)
    run = tmp_path_factory.mktemp("tiny") / "lightning_logs" / "version_0"
    for step in range(1, 121):
        logits_BTV = transformer(source_BS, target_input_BT)
        optimizer.zero_grad()
        cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=PAD_ID).backward()
        optimizer.step()
        if step % 40 == 0:
            entry = checkpoint.describe(transformer, tokenizer, source="en", target="de", step=step)
            weights = {f"transformer.{name}": value for name, value in transformer.state_dict().items()}
            saved = {"state_dict": weights, "lit_transformer": entry}
            checkpoint.save(saved, checkpoint.step_path(run / "checkpoints", step))
    checkpoint.save(saved, checkpoint.best_path(run / "checkpoints", step))
    return run
