"""Fixtures of all tests: one thread, seeds, separate caches, and the paths of the checkout."""

import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from tests.helpers.worker import Worker

REPO_ROOT = Path(__file__).resolve().parents[1]

caches = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cpu", choices=("cpu", "cuda", "mps"), help="where the tests of the numbers compute"
    )


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
    # Child processes inherit what `nohup` or a shell's `&` has made of them, and the tests are about signals.
    for name, handler in (("SIGHUP", signal.SIG_DFL), ("SIGINT", signal.default_int_handler)):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    # No deadline, because the first call of a kernel is slow. The same examples in every run, so that a
    # failure belongs to the change that it appears with.
    hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile("house")
    name = config.getoption("--device")
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name != "cpu" and (there is None or there.type != name):
        raise pytest.UsageError(f"--device {name}: there is none here that this PyTorch can use")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[caches].cleanup()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device_name(pytestconfig: pytest.Config) -> str:
    """The value of `--device`."""
    return str(pytestconfig.getoption("--device"))


@pytest.fixture
def device(device_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The device of `--device`. Tensors that name no device are created there.

    Apple's GPUs have no float64. There, tests compute in float32 and compare with larger tolerances.
    """
    device = torch.device(device_name)
    if device.type == "cpu":
        yield device
        return
    if device.type == "mps":
        compare = torch.testing.assert_close
        monkeypatch.setattr(torch, "float64", torch.float32)
        monkeypatch.setattr(torch.Tensor, "double", torch.Tensor.float)
        monkeypatch.setattr(torch.nn.Module, "double", torch.nn.Module.float)
        monkeypatch.setattr(
            torch.testing,
            "assert_close",
            lambda mine, theirs, rtol=0.0, atol=0.0: compare(mine, theirs, rtol=max(rtol, 1e-4), atol=max(atol, 1e-3)),
        )
    with device:
        yield device


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
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of `make_corpus`, with a cache beside it. Tests do not change it."""
    # Here, because `pytest_configure` sets the environment that `datasets` reads when it is imported.
    from tests.helpers.corpora import make_corpus

    return make_corpus(tmp_path_factory.mktemp("toy") / "corpus")


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A process that runs commands."""
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


BY_HEART = 0.8
"""Probability from which a translation counts as known by heart.

All other translations together are then less probable, so that neither rounding nor search settings decide the result.
"""
MAX_UPDATES = 2000


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it. The model knows 31 demo sentences by heart.

    It is trained until it does, because no number of updates suffices on every processor. The steps in the names of the
    checkpoints are not numbers of updates. The first checkpoint is little trained.
    """
    # Here, because `pytest_configure` sets the environment that these read when they are imported.
    from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
    from lit_transformer.checkpoints.format import model_entry, save_checkpoint
    from lit_transformer.checkpoints.names import best_path, step_path
    from lit_transformer.data.demo.corpus import demo_pairs
    from lit_transformer.data.tokenizer import Tokenizer
    from lit_transformer.data.vocabularies import Vocabularies
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
    transformer = Transformer(config, vocab_size=tokenizer.vocab_size, pad_id=PAD_ID).double()
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.01)
    run = tmp_path_factory.mktemp("tiny") / "version_0"
    for step, needed in ((40, 0.0), (80, BY_HEART), (120, BY_HEART)):
        for update in range(MAX_UPDATES):
            logits_BTV = transformer(source_BS, target_input_BT)
            loss_BT = cross_entropy(logits_BTV.mT, target_BT, ignore_index=PAD_ID, reduction="none")
            if update >= 40 and float(loss_BT.detach().sum(dim=1).neg().exp().min()) >= needed:
                break
            optimizer.zero_grad()
            (loss_BT.sum() / (target_BT != PAD_ID).sum()).backward()
            optimizer.step()
        else:
            pytest.fail(f"the tiny model does not know its {len(pairs)} sentences by heart after {MAX_UPDATES} updates")
        entry = model_entry(transformer, Vocabularies.shared(tokenizer), source="en", target="de", step=step)
        weights = {f"transformer.{name}": value.float() for name, value in transformer.state_dict().items()}
        saved = {"state_dict": weights, "lit_transformer": entry}
        save_checkpoint(saved, step_path(run / "checkpoints", step))
    save_checkpoint(saved, best_path(run / "checkpoints", step))
    return run
