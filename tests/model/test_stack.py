"""A stack agrees with itself however it is called, and other models than the Transformer are made of it."""

import dataclasses
from itertools import product
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.decoding.search import beam_search
from lit_transformer.errors import UserError
from lit_transformer.model import positions as positions_module
from lit_transformer.model.attention import Cache, record_weights
from lit_transformer.model.bert import BERT
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import frequencies, make_positions
from lit_transformer.model.stack import Memory, Stack
from lit_transformer.search_settings import SearchSettings

pytestmark = pytest.mark.usefixtures("device")

B, S, L, V = 3, 7, 11, 19
LENGTHS = (11, 4, 7)
"""Of the B sequences of L positions, where they are padded."""
CONFIG = TransformerConfig(d_model=22, d_ff=13, num_heads=2, num_layers=3, d_k=6, d_v=5, dropout=0.0, max_positions=17)
every_variant = pytest.mark.parametrize(("norm", "positions"), list(product(get_args(Norm), get_args(PositionScheme))))
every_window = pytest.mark.parametrize("window", [None, 3])


def make_stack(norm: Norm, positions: PositionScheme, *, attends_to_source: bool = False) -> Stack:
    """In float64 and with every parameter random."""
    config = dataclasses.replace(CONFIG, norm=norm, positions=positions)
    stack = Stack(config, make_positions(config), attends_to_source=attends_to_source).double().eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    return stack


def vectors() -> Tensor:
    return torch.randn(B, L, CONFIG.d_model, dtype=torch.float64)


def assert_same(mine: Tensor, theirs: Tensor) -> None:
    """Angles of positions are computed in float32."""
    assert theirs.std() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-5)


@every_window
@every_variant
def test_padding_changes_nothing(norm: Norm, positions: PositionScheme, window: int | None) -> None:
    stack, vectors_BLD = make_stack(norm, positions), vectors()
    keys_BL = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    for causal in (False, True):
        states_BLD = stack(vectors_BLD, Mask(causal=causal, window=window, keys_BM=keys_BL))
        for row, length in enumerate(LENGTHS):
            alone_1LD = stack(vectors_BLD[row : row + 1, :length], Mask(causal=causal, window=window))
            assert_same(states_BLD[row, :length], alone_1LD[0])


@every_window
@every_variant
def test_packed_rows_are_as_each_sequence_alone(norm: Norm, positions: PositionScheme, window: int | None) -> None:
    stack, vectors_BLD = make_stack(norm, positions), vectors()
    packed_1LD = torch.cat([vectors_BLD[row, :length] for row, length in enumerate(LENGTHS)])[None]
    segments_1L = torch.arange(B).repeat_interleave(torch.tensor(LENGTHS))[None]
    positions_1L = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    for causal in (False, True):
        mask = Mask(causal=causal, window=window, segments_BM=segments_1L)
        parts = stack(packed_1LD, mask, positions_BL=positions_1L)[0].split(LENGTHS)
        for row, (part_LD, length) in enumerate(zip(parts, LENGTHS, strict=True)):
            assert_same(part_LD, stack(vectors_BLD[row : row + 1, :length], Mask(causal=causal, window=window))[0])


@every_window
@every_variant
@pytest.mark.parametrize("attends_to_source", [False, True])
@pytest.mark.parametrize("chunks", [[1] * L, [4, 1, 6], [1, L - 1]], ids=["steps", "chunks", "a step and the rest"])
def test_with_a_cache_it_is_as_at_once(
    norm: Norm, positions: PositionScheme, window: int | None, attends_to_source: bool, chunks: list[int]
) -> None:
    stack, vectors_BLD = make_stack(norm, positions, attends_to_source=attends_to_source), vectors()
    source = None
    if attends_to_source:
        keys_BS = torch.arange(S) < torch.tensor([[S], [2], [5]])
        source = stack.project(Memory(torch.randn(B, S, CONFIG.d_model).double(), Mask(keys_BM=keys_BS)))
    mask = Mask(causal=True, window=window)
    cache: Cache = {}
    parts = [stack(part_BLD, mask, cache=cache, source=source) for part_BLD in vectors_BLD.split(chunks, dim=1)]
    assert_same(torch.cat(parts, dim=1), stack(vectors_BLD, mask, source=source))
    assert cache.keys() == set(stack.self_attentions)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "none"])
def test_a_padded_prompt_and_steps_after_it(norm: Norm, positions: PositionScheme) -> None:
    """Rows of different lengths continue from a cache: the mask knows the padding, and the rows their positions.

    Not with ALiBi, whose distances would count the padding between them.
    """
    stack, vectors_BLD, next_BLD = make_stack(norm, positions), vectors(), vectors()[:, :2]
    keys_BL = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    cache: Cache = {}
    stack(vectors_BLD, Mask(causal=True, keys_BM=keys_BL), cache=cache)
    positions_BL = torch.tensor(LENGTHS)[:, None] + torch.arange(2)
    mask = Mask(causal=True, keys_BM=F.pad(keys_BL, (0, 2), value=True))
    states_BLD = stack(next_BLD, mask, positions_BL=positions_BL, cache=cache)
    for row, length in enumerate(LENGTHS):
        alone_1LD = torch.cat([vectors_BLD[row : row + 1, :length], next_BLD[row : row + 1]], dim=1)
        assert_same(states_BLD[row], stack(alone_1LD, Mask(causal=True))[0, -2:])


def test_a_sequence_longer_than_the_learned_positions() -> None:
    stack = make_stack("post", "learned")
    cache: Cache = {}
    vectors_BLD = vectors()
    stack(vectors_BLD, Mask(causal=True), cache=cache)
    stack(vectors_BLD[:, :6], Mask(causal=True), cache=cache)
    with pytest.raises(UserError, match=r"18 tokens .* max_positions 17"):
        stack(vectors_BLD[:, :1], Mask(causal=True), cache=cache)


def test_rotary_angles_are_computed_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def record_size(size: int, device: torch.device, base: float) -> Tensor:
        sizes.append(size)
        return frequencies(size, device, base)

    monkeypatch.setattr(positions_module, "frequencies", record_size)
    make_stack("post", "rotary")(vectors(), Mask())
    assert sizes == [CONFIG.key_size]


def test_only_pre_norm_has_a_norm_at_the_top() -> None:
    for norm in get_args(Norm):
        states_BLD = make_stack(norm, "sinusoidal")(vectors(), Mask())
        names = [name for name, _ in make_stack(norm, "sinusoidal").named_parameters() if name.startswith("norm.")]
        assert len(names) == (2 if norm == "pre" else 0)
        assert states_BLD.shape == (B, L, CONFIG.d_model)


SENTENCES = [[4, 5, 6, 7, 8], [9, 5, 9, 6, 9], [10, 11, 10, 11, 12]]
"""Three texts, each with a beginning of its own."""


def trained_gpt(config: TransformerConfig) -> GPT:
    """Knows the three texts by heart, each with the same probability."""
    gpt = GPT(config, vocab_size=V)
    input_BL = torch.tensor([[BOS_ID, *sentence] for sentence in SENTENCES])
    output_BL = torch.tensor([[*sentence, EOS_ID] for sentence in SENTENCES])
    optimizer = torch.optim.Adam(gpt.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(gpt(input_BL).flatten(0, 1), output_BL.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gpt.eval().requires_grad_(False)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_gpt_is_decoded_by_the_beam_search_of_the_transformer(positions: PositionScheme) -> None:
    config = TransformerConfig(d_model=32, d_ff=32, num_heads=2, num_layers=2, dropout=0.0, positions=positions)
    gpt = trained_gpt(config)
    [found, again] = beam_search(
        gpt.step,
        gpt.start(beam_size=3),
        settings=SearchSettings(beam_size=3, n_best=3, length_penalty=0.0),
        max_length_B=torch.tensor([9, 9]),
        ids=SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=(PAD_ID, UNK_ID, BOS_ID)),
    )
    assert sorted(hypothesis.tokens for hypothesis in found) == SENTENCES
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(torch.tensor(1 / 3).log().item(), abs=0.2)
        tokens = torch.tensor([[BOS_ID, *hypothesis.tokens, EOS_ID]])
        log_prob_LV = gpt(tokens[:, :-1]).log_softmax(dim=-1)[0]
        log_prob = log_prob_LV.gather(1, tokens[0, 1:, None]).sum().item()
        assert hypothesis.score == pytest.approx(log_prob, abs=1e-4)
    assert [hypothesis.tokens for hypothesis in again] == [hypothesis.tokens for hypothesis in found]


def test_a_prompt_is_a_prefix_of_the_search() -> None:
    """The prompts differ in length, and the search completes both."""
    gpt = trained_gpt(TransformerConfig(d_model=32, d_ff=32, num_heads=2, num_layers=2, dropout=0.0))
    found = beam_search(
        gpt.step,
        gpt.start(beam_size=3),
        settings=SearchSettings(beam_size=3),
        max_length_B=torch.tensor([9, 9]),
        ids=SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=(PAD_ID, UNK_ID, BOS_ID)),
        prefix=[[BOS_ID, 9, 5, 9], [BOS_ID, 4]],
    )
    assert [best.tokens for [best] in found] == [[9, 5, 9, 6, 9], [4, 5, 6, 7, 8]]


def test_a_bert_fills_a_gap_from_both_sides_and_ignores_padding() -> None:
    gap = V - 1
    config = TransformerConfig(d_model=32, d_ff=32, num_heads=2, num_layers=2, dropout=0.0, norm="pre")
    bert = BERT(config, vocab_size=V, pad_id=PAD_ID)
    complete_BL = torch.tensor([[4, 5, 6], [7, 5, 8], [4, 9, 8], [7, 9, 6]])
    masked_BL = complete_BL.clone()
    masked_BL[:, 1] = gap  # only the first and the last token together tell it
    padded_BL = F.pad(masked_BL, (0, 2), value=PAD_ID)
    optimizer = torch.optim.Adam(bert.parameters(), lr=1e-2)
    for _ in range(100):
        loss = F.cross_entropy(bert(padded_BL)[:, 1], complete_BL[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bert.eval().requires_grad_(False)
    assert bert(padded_BL)[:, 1].argmax(dim=-1).tolist() == [5, 5, 9, 9]
    torch.testing.assert_close(bert(padded_BL)[:, :3], bert(masked_BL), rtol=0.0, atol=1e-4)
    last = bert.stack.self_attentions[-1]
    with record_weights([last]) as weights:
        bert(padded_BL)
    assert torch.equal((weights[last] == 0.0), (padded_BL == PAD_ID)[:, None, None].expand_as(weights[last]))
