"""The static search against the plain one, step by step called, and recorded and replayed as a CUDA graph is."""

import random
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.engines import make_engine
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.settings import EngineSettings
from lit_transformer.decoding.static_batch import CacheMemory, Shape, StaticBatch
from lit_transformer.decoding.static_search import StaticSearch, shaped_batches
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.errors import UserError
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SamplingSettings, SearchSettings

V = 17
LENGTHS = [1, 3, 4, 17, 33]


def make_transformer(
    positions: PositionScheme = "sinusoidal", norm: Norm = "post", window: int | None = None
) -> Transformer:
    """In float64, where no two hypotheses come so close that a rounding decides between them."""
    config = TransformerConfig(
        d_model=14,
        d_ff=19,
        num_heads=2,
        num_layers=2,
        d_k=6,
        d_v=5,
        positions=positions,
        norm=norm,
        max_positions=43,
        window=window,
    )
    transformer = Transformer(config, vocab_size=V, pad_id=PAD_ID).double().eval().requires_grad_(False)
    transformer.embedding.weight[EOS_ID] *= 1.5  # so that some hypotheses end and some do not
    return transformer


def make_sources() -> list[list[int]]:
    return [[*random.choices(range(EOS_ID + 1, V), k=length - 1), EOS_ID] for length in LENGTHS]


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert [[best.tokens for best in one] for one in found] == [[best.tokens for best in one] for one in expected]
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine.score == pytest.approx(theirs.score, rel=1e-5, abs=1e-5)
            assert mine.token_scores == pytest.approx(theirs.token_scores, rel=1e-5, abs=1e-5)


class Recording(TorchDispatchMode):
    """Records every operation with its tensors, and refuses those that a CUDA graph cannot have."""

    HOST = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "lift_fresh", "item")
    """Operations that wait for the device, whose results depend on its numbers, or that copy from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(func).split(".")[1]
        assert name not in self.HOST, f"{func}: the host waits"
        if name in ("index", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{func}: by booleans"
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, tensors_of(result)))
        return result

    def replay(self) -> None:
        """Do the same to the same tensors. Numbers of the host stay what they were."""
        for func, args, kwargs, results in self.operations:
            for old, new in zip(results, tensors_of(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def tensors_of(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


class Recorded:
    """Replays steps as CUDA graphs do, on any device: calls the first one of a key and records the second."""

    def __init__(self) -> None:
        self.recordings: dict[Hashable, Recording | None] = {}
        self.num_replays = self.num_clears = 0

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        if key not in self.recordings:
            step()
            self.recordings[key] = None
        elif (recording := self.recordings[key]) is None:
            recording = self.recordings[key] = Recording()
            with recording:
                step()
        else:
            recording.replay()
            self.num_replays += 1

    def clear(self) -> None:
        self.recordings.clear()
        self.num_clears += 1


SETTINGS = [
    SearchSettings(beam_size=1, max_extra_length=5),
    SearchSettings(beam_size=1, max_extra_length=12, min_length=4, length_penalty=0.0),
    SearchSettings(beam_size=2, n_best=2, max_extra_length=5, min_length=0),
    SearchSettings(beam_size=4, n_best=4, max_extra_length=12, length_penalty=1.0),
    SearchSettings(beam_size=4, max_extra_length=0),
    SearchSettings(beam_size=3, n_best=2, max_extra_length=9, min_length=7, length_penalty=2.0),
]


@pytest.mark.parametrize(
    ("positions", "norm", "window"),
    [
        ("sinusoidal", "post", None),
        ("learned", "pre", None),
        ("rotary", "post", None),
        ("alibi", "post", None),
        ("none", "post", None),
        ("sinusoidal", "post", 3),
    ],
)
def test_it_finds_what_the_plain_search_finds(positions: PositionScheme, norm: Norm, window: int | None) -> None:
    transformer, sources = make_transformer(positions, norm, window), make_sources()
    lengths, finished = set(), set()
    engines = [StaticSearch(transformer, 70, Recorded()), StaticSearch(transformer, 999)]
    for number, settings in enumerate(SETTINGS):
        expected = TransformerSearch(transformer, 64).search(sources, settings)
        assert_same(engines[number % 2].search(sources, settings), expected)
        lengths |= {len(best.tokens) for one in expected for best in one}
        finished |= {best.finished for one in expected for best in one}
    assert len(lengths) > 10
    assert finished == {True, False}


@pytest.mark.parametrize("batch_tokens", [1, 70, 999])
def test_batches_do_not_change_what_is_found(batch_tokens: int) -> None:
    transformer, sources = make_transformer(), make_sources()
    for settings in SETTINGS[::2]:
        expected = TransformerSearch(transformer, 64).search(sources, settings)
        assert_same(StaticSearch(transformer, batch_tokens, Recorded()).search(sources, settings), expected)


def test_a_recorded_step_serves_other_sentences_and_new_weights() -> None:
    """Also after a search of another size, and after weights that changed in their places or moved."""
    transformer, settings = make_transformer(), SearchSettings(beam_size=3, max_extra_length=12)
    plain: Engine = TransformerSearch(transformer, 64)
    replay = Recorded()
    engine = StaticSearch(transformer, 200, replay)
    first = make_sources()
    assert_same(engine.search(first, settings), plain.search(first, settings))
    clears, replays = replay.num_clears, replay.num_replays
    for _ in range(2):
        others = make_sources()
        assert_same(engine.search(others, settings), plain.search(others, settings))
    assert replay.num_clears == clears
    assert replay.num_replays > 2 * replays
    for weight in transformer.parameters():
        weight.mul_(1.1)
    changed = plain.search(first, settings)
    assert_same(engine.search(first, settings), changed)
    assert replay.num_clears == clears, "the optimizer changes weights in place"
    for module in transformer.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(1.1 * weight, requires_grad=False))
    assert_same(engine.search(first, settings), plain.search(first, settings))
    assert replay.num_clears == clears + 1


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "alibi", "none"])
def test_a_step_needs_no_number(positions: PositionScheme, beam_size: int) -> None:
    """The meta device has shapes alone. It refuses what would make the host wait."""
    with torch.device("meta"):
        transformer = make_transformer(positions)
        shape = Shape(sentences=3, source_length=5, steps=7)
        memory = CacheMemory(transformer, num_past=3 * beam_size * 7, num_source=15)
        batch = StaticBatch(transformer, memory, shape, SearchSettings(beam_size=beam_size))
    for filled in (2, 7):
        batch.step(filled)
    assert batch.hypotheses.done_B.is_meta


def test_what_an_earlier_batch_left_does_not_matter() -> None:
    """0 times NaN is NaN, so masked places must hold numbers."""
    transformer, settings = make_transformer(), SearchSettings(beam_size=2)
    engine, sources = StaticSearch(transformer, 99), [[7, 8, EOS_ID], [9, EOS_ID]]
    embedding = transformer.embedding.weight.clone()
    transformer.embedding.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not numbers"):
        engine.search(sources, settings)
    transformer.embedding.weight.copy_(embedding)
    assert_same(engine.search(sources, settings), TransformerSearch(transformer, 99).search(sources, settings))


def test_batches_are_reported_and_cover_every_sentence_once() -> None:
    reported: list[int] = []
    engine: Engine = StaticSearch(make_transformer(), 99)
    assert engine.search([], SearchSettings()) == []
    engine.search(make_sources(), SearchSettings(beam_size=1, max_extra_length=2), on_batch=reported.extend)
    assert sorted(reported) == list(range(len(LENGTHS)))


def test_there_are_few_shapes_and_their_memory_is_bounded() -> None:
    lengths = [random.randint(1, 700) for _ in range(3000)]
    for batch_tokens in (1024, 16384):
        batches = list(shaped_batches(lengths, batch_tokens, SearchSettings(), None))
        assert sorted(index for _, batch in batches for index in batch) == list(range(3000))
        assert len({shape for shape, _ in batches}) <= 6
        for shape, batch in batches:
            assert len(batch) <= shape.sentences
            assert max(lengths[index] for index in batch) <= shape.source_length
            if shape.sentences > 1:
                assert shape.sentences * shape.source_length <= batch_tokens
                assert shape.sentences * shape.steps <= 2 * batch_tokens
    shapes = {shape for shape, _ in shaped_batches([1, 2, 40], 999, SearchSettings(), 41)}
    assert shapes == {Shape(4, 32, 41), Shape(1, 41, 41)}


def test_the_engine_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"^engine cuda_graphs .* device is cpu: choose engine torch$"):
        make_engine(EngineSettings(engine="cuda_graphs"), make_transformer())


def test_the_engine_does_not_sample() -> None:
    with pytest.raises(UserError, match=r"^engine cuda_graphs .* torch$"):
        StaticSearch(make_transformer(), 99).search([[EOS_ID]], SearchSettings(sampling=SamplingSettings()))
