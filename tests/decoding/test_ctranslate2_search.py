"""CTranslate2 finds what the plain search finds, on tiny random models."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, pad
from lit_transformer.checkpoints.ctranslate2_folder import cached_folder, num_positions
from lit_transformer.decoding.ctranslate2_search import MAX_EXTRA_LENGTH, CTranslate2Search
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.transformer_search import SPECIAL_IDS, limits
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SamplingSettings, SearchSettings

pytest.importorskip("ctranslate2", reason="the package ctranslate2 is not installed")

V = 61
SOURCES = [
    [*torch.randint(EOS_ID + 1, V, (length,), generator=torch.Generator().manual_seed(length)).tolist(), EOS_ID]
    for length in (1, 2, 3, 3, 5, 7, 11, 11, 13, 17)
]
ARCHITECTURES = {
    "the paper's": {},
    "pre-norm": {"norm": "pre"},
    "learned positions": {"positions": "learned", "max_positions": 23},
    "rotary positions": {"positions": "rotary"},
    "no positions": {"positions": "none", "norm": "pre"},
    "heads of another width": {"d_k": 6, "d_v": 6},
    "rotary, heads of another width": {"positions": "rotary", "d_k": 6, "d_v": 6},
    "a vocabulary per side": {"source_vocab_size": 67},
}


def make(source_vocab_size: int | None = None, **config: object) -> Transformer:
    """A random model. Its large weights keep scores apart, and some of its hypotheses end."""
    torch.manual_seed(1)
    sizes = {"d_model": 20, "d_ff": 31, "num_heads": 2, "num_layers": 2} | config
    architecture = TransformerConfig(**sizes)  # type: ignore[arg-type]
    model = Transformer(architecture, vocab_size=V, pad_id=PAD_ID, source_vocab_size=source_vocab_size)
    for weight in model.requires_grad_(False).parameters():
        weight.mul_(1.5)
    model.embedding.weight[EOS_ID] *= 1.6
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Transformer:
    return make()


@pytest.fixture(scope="module")
def engine(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> CTranslate2Search:
    return start(model, tmp_path_factory.mktemp("cache"))


def start(model: Transformer, cache_dir: Path, *, compute_type: str = "float32") -> CTranslate2Search:
    return CTranslate2Search(
        cached_folder(model, cache_dir), model.config, compute_type=compute_type, batch_tokens=40, num_threads=2
    )


def renormalized(_: Tensor, log_prob_NV: Tensor) -> Tensor:
    """CTranslate2 shares the probability of tokens that are never chosen among the others."""
    return log_prob_NV.log_softmax(dim=-1)


def plain(model: Transformer, settings: SearchSettings) -> list[list[Hypothesis]]:
    source_BS = torch.from_numpy(pad(SOURCES))
    length_B = (source_BS != PAD_ID).sum(dim=1)
    return beam_search(
        model.step,
        model.start(model.encode(source_BS), beam_size=settings.beam_size),
        settings=settings,
        max_length_B=limits(length_B, settings, longest=num_positions(model.config)),
        ids=SPECIAL_IDS,
        adjust=renormalized,
    )


def check_equal(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for some, others in zip(found, expected, strict=True):
        assert [(each.tokens, each.finished) for each in some] == [(each.tokens, each.finished) for each in others]
        assert [each.score for each in some] == pytest.approx([each.score for each in others], abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_finds_the_same(architecture: str, tmp_path: Path) -> None:
    model = make(**ARCHITECTURES[architecture])  # type: ignore[arg-type]
    engine = start(model, tmp_path)
    for beam_size in (1, 4):
        settings = SearchSettings(beam_size=beam_size, max_extra_length=9)
        check_equal(engine.search(SOURCES, settings), plain(model, settings))


@pytest.mark.parametrize(
    "settings",
    [
        SearchSettings(beam_size=3, length_penalty=0.0, max_extra_length=9),
        SearchSettings(beam_size=3, length_penalty=2.0, max_extra_length=9),
        SearchSettings(beam_size=5, min_length=4, max_extra_length=9),
        SearchSettings(beam_size=5, min_length=0, max_extra_length=0),
        SearchSettings(beam_size=3, n_best=3, max_extra_length=9),
    ],
    ids=str,
)
def test_settings_mean_the_same(settings: SearchSettings, model: Transformer, engine: CTranslate2Search) -> None:
    expected = plain(model, settings)
    if settings.max_extra_length:
        assert {each.finished for hypotheses in expected for each in hypotheses} == {True, False}
    check_equal(engine.search(SOURCES, settings), expected)


def test_every_sentence_is_reported_once(engine: CTranslate2Search) -> None:
    batches: list[list[int]] = []
    engine.search(SOURCES, SearchSettings(max_extra_length=3), on_batch=batches.append)
    assert len(batches) > 2
    assert sorted(index for batch in batches for index in batch) == [*range(len(SOURCES))]
    assert engine.search([], SearchSettings()) == []


def test_int8_is_close(tmp_path: Path) -> None:
    """With small weights: those of `make` lose much of their precision on processors without AVX-512."""
    small = make()
    for weight in small.parameters():
        weight.mul_(0.25)
    settings = SearchSettings(beam_size=1, max_extra_length=0)
    exact, rounded = (
        [best.score for [best] in start(small, tmp_path, compute_type=compute_type).search(SOURCES, settings)]
        for compute_type in ("float32", "int8")
    )
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.5)


def test_an_interrupted_search_leaves_a_usable_engine(model: Transformer, engine: CTranslate2Search) -> None:
    def interrupt(_: list[int]) -> None:
        raise KeyboardInterrupt

    settings = SearchSettings(max_extra_length=9)
    with pytest.raises(KeyboardInterrupt):
        engine.search(SOURCES, settings, on_batch=interrupt)
    check_equal(engine.search(SOURCES, settings), plain(model, settings))


def children() -> set[int]:
    """The child processes of this one, by thread that started them."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="needs Linux's list of them")
def test_a_killed_process_is_an_error_and_the_next_search_starts_another(model: Transformer, tmp_path: Path) -> None:
    before = children()
    engine = start(model, tmp_path)
    [process] = children() - before

    def kill(_: list[int]) -> None:
        os.kill(process, signal.SIGKILL)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)

    many = [source for source in SOURCES for _ in range(500)]
    settings = SearchSettings(max_extra_length=9)
    with pytest.raises(UserError, match=r"ended with status -9"):
        engine.search(many, settings, on_batch=kill)
    check_equal(engine.search(SOURCES, settings), plain(model, settings))
    [process] = children() - before
    del engine
    assert process not in children()


def test_the_process_imports_no_torch() -> None:
    code = "import ctranslate2, sys, lit_transformer.decoding.ctranslate2_process; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_what_it_cannot_do_is_one_line(model: Transformer, engine: CTranslate2Search, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^max_extra_length is \d+: ") as error:
        engine.search(SOURCES, SearchSettings(max_extra_length=MAX_EXTRA_LENGTH + 1))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^engine ctranslate2 .* torch$"):
        engine.search(SOURCES, SearchSettings(sampling=SamplingSettings()))
    with pytest.raises(UserError, match=r"int7") as error:
        start(model, tmp_path, compute_type="int7")
    assert "\n" not in str(error.value)
