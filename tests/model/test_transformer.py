import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.benchmarks.torch_peer import copy_layer
from lit_transformer.model.attention import (
    ScaledDotProductAttention,
    attention_weights,
    fused_attention,
    record_weights,
)
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import sinusoids
from lit_transformer.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("device")

B, S, T, V, PAD_ID = 3, 7, 5, 19, 0
SMALL = TransformerConfig(d_model=22, d_ff=13, num_heads=2, num_layers=2, d_k=6, d_v=5, dropout=0.0, max_positions=17)
NORMS: tuple[Norm, ...] = get_args(Norm)
SCHEMES: tuple[PositionScheme, ...] = get_args(PositionScheme)
every_variant = pytest.mark.parametrize(
    "config",
    [dataclasses.replace(SMALL, norm=norm, positions=scheme) for norm, scheme in product(NORMS, SCHEMES)],
    ids=[f"{norm}-{scheme}" for norm, scheme in product(NORMS, SCHEMES)],
)


def make(config: TransformerConfig) -> Transformer:
    """In float64 and with every parameter random, so that none can stand for another unnoticed."""
    transformer = Transformer(config, vocab_size=V, pad_id=PAD_ID).double()
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return transformer


def sentences(length: int) -> Tensor:
    """Pieces without padding, B x length."""
    return torch.randint(1, V, (B, length))


def padded_sentences(length: int) -> Tensor:
    ids = sentences(length)
    ids[1, 2:] = PAD_ID
    ids[2, 4:] = PAD_ID
    return ids


def oracle(ours: Transformer) -> nn.Transformer:
    """PyTorch's model with our weights; the final norms are there for pre-norm only, as in ours."""
    config = ours.config
    settings: dict[str, Any] = {
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": config.norm == "pre",
        "dtype": torch.float64,
    }
    sizes = (config.d_model, config.num_heads, config.d_ff)
    final = [norm if config.norm == "pre" else None for norm in (ours.encoder.norm, ours.decoder.norm)]
    encoder_layer = nn.TransformerEncoderLayer(*sizes, **settings)
    encoder = nn.TransformerEncoder(encoder_layer, config.num_layers, final[0], enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes, **settings), config.num_layers, final[1])
    theirs = nn.Transformer(*sizes[:2], custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    # Only now: the constructor draws all matrices anew.
    for layers, our_layers in ((encoder.layers, ours.encoder.layers), (decoder.layers, ours.decoder.layers)):
        for layer, our_layer in zip(layers, our_layers, strict=True):
            copy_layer(layer, our_layer)
    return theirs


@pytest.mark.parametrize("norm", NORMS)
def test_encoder_and_decoder_equal_torch_nn_transformer(norm: Norm) -> None:
    ours = make(dataclasses.replace(SMALL, norm=norm, d_k=None, d_v=None))
    source_BS, target_BT = padded_sentences(S), padded_sentences(T)
    theirs = oracle(ours)

    def embed(token_BL: Tensor) -> Tensor:
        position_LD = sinusoids(torch.arange(token_BL.shape[1], device=token_BL.device), ours.config.d_model)
        return F.embedding(token_BL, ours.embedding.weight) * ours.config.d_model**0.5 + position_LD

    states_BTD = theirs(
        embed(source_BS),
        embed(target_BT),
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        src_key_padding_mask=source_BS == PAD_ID,
        memory_key_padding_mask=source_BS == PAD_ID,
        tgt_key_padding_mask=target_BT == PAD_ID,
    )
    real_BT = target_BT != PAD_ID
    expected = states_BTD[real_BT] @ ours.embedding.weight.T
    logits = ours(source_BS, target_BT)[real_BT]
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0.0, atol=1e-11)
    names, parameters = zip(*ours.named_parameters(), strict=True)
    upstream = torch.randn_like(logits)
    expected_grads = torch.autograd.grad(expected, [ours.embedding.weight], upstream)
    grads = torch.autograd.grad(logits, parameters, upstream)
    torch.testing.assert_close(grads[names.index("embedding.weight")], expected_grads[0], rtol=0.0, atol=1e-9)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    return attention_weights(query, key, mask) @ value


def by_path(path: Callable[..., Tensor], _module: nn.Module, inputs: tuple[Any, ...], _output: Tensor) -> Tensor:
    """A forward hook that computes the output in another way."""
    return path(*inputs)


@pytest.mark.parametrize(("precision", "atol"), [("float64", 1e-11), ("float32", 1e-4)])
@every_variant
def test_the_paths_of_attention_agree(config: TransformerConfig, precision: str, atol: float) -> None:
    """The explicit weights and the fused kernel, which a CPU does not take by itself."""
    dtype = getattr(torch, precision)
    transformer = make(config).to(dtype)
    source_BS, target_BT = padded_sentences(S), sentences(T)
    logits = transformer(source_BS, target_BT)
    assert logits.dtype == dtype
    for path in (explicit_attention, fused_attention):
        for module in transformer.modules():
            if isinstance(module, ScaledDotProductAttention):
                module.register_forward_hook(partial(by_path, path))
        torch.testing.assert_close(transformer(source_BS, target_BT), logits, rtol=0.0, atol=atol)


def test_attention_maps_are_the_weights_by_layer_and_kind() -> None:
    transformer = make(SMALL)
    source_BS, target_BT = padded_sentences(S), sentences(T)
    maps = transformer.attention_maps(source_BS, target_BT)
    heads = SMALL.num_heads
    for layers, shape in (
        (maps.encoder, (B, heads, S, S)),
        (maps.decoder, (B, heads, T, T)),
        (maps.cross, (B, heads, T, S)),
    ):
        assert [weights.shape for weights in layers.values()] == [shape] * SMALL.num_layers
        for weights in layers.values():
            torch.testing.assert_close(weights.sum(-1), torch.ones(shape[:-1]).double())
    for weights in [*maps.encoder.values(), *maps.cross.values()]:
        assert torch.equal(weights == 0.0, (source_BS == PAD_ID)[:, None, None].expand_as(weights))
    for weights in maps.decoder.values():
        assert torch.equal(weights == 0.0, torch.ones(T, T).triu(1).bool().expand_as(weights))
    # The first layer's map of the source is made of the embeddings, by equation (1).
    scaled_BSD = F.embedding(source_BS, transformer.embedding.weight) * SMALL.d_model**0.5
    states_BSD = transformer.encoder.positions.embed(scaled_BSD, torch.arange(S)[None])
    first = transformer.encoder.layers[0].self_attention
    with record_weights([first]) as recorded:
        first(states_BSD, Mask())
    torch.testing.assert_close(maps.encoder[0][0], recorded[first][0])


@every_variant
def test_maps_of_some_layers_are_those_of_all(config: TransformerConfig) -> None:
    transformer = make(dataclasses.replace(config, num_layers=3))
    source_BS, target_BT = padded_sentences(S), sentences(T)
    whole = transformer.attention_maps(source_BS, target_BT)
    for layers in ([], [1], [2, 0]):
        some = transformer.attention_maps(source_BS, target_BT, layers)
        for maps, all_maps in zip(some, whole, strict=True):
            assert list(maps) == layers
            torch.testing.assert_close(maps, {layer: all_maps[layer] for layer in layers}, rtol=0.0, atol=1e-12)


@every_variant
def test_maps_do_not_depend_on_padding_or_on_later_target_pieces(config: TransformerConfig) -> None:
    transformer = make(config)
    source_BS, target_BT = padded_sentences(S), sentences(T)
    maps = transformer.attention_maps(source_BS, target_BT)
    alone = transformer.attention_maps(source_BS[2:, :4], target_BT[2:, :3])
    for kind, queries, keys in (("encoder", 4, 4), ("decoder", 3, 3), ("cross", 3, 4)):
        cut = {layer: weights[2:, :, :queries, :keys] for layer, weights in getattr(maps, kind).items()}
        torch.testing.assert_close(cut, getattr(alone, kind), rtol=0.0, atol=1e-11)


def closed_formula(config: TransformerConfig, vocab_size: int) -> int:
    d_model, d_ff, norm = config.d_model, config.d_ff, 2 * config.d_model
    attention = config.num_heads * 2 * d_model * (config.key_size + config.value_size)
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    layer_pair = (attention + feed_forward + 2 * norm) + (2 * attention + feed_forward + 3 * norm)
    final_norms = 2 * norm if config.norm == "pre" else 0
    tables = 2 * config.max_positions * d_model if config.positions == "learned" else 0
    return vocab_size * d_model + config.num_layers * layer_pair + final_norms + tables


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TransformerConfig(), 63_045_632),
        (TransformerConfig(d_model=1024, d_ff=4096, num_heads=16), 214_171_648),
        (TransformerConfig(d_k=16), None),
        (SMALL, None),
        (dataclasses.replace(SMALL, norm="pre", positions="learned"), None),
        (dataclasses.replace(SMALL, positions="rotary"), None),
    ],
    ids=["base", "big", "row-B", "odd", "pre-learned", "rotary"],
)
def test_number_of_parameters(config: TransformerConfig, expected: int | None) -> None:
    with torch.device("meta"):
        transformer = Transformer(config, vocab_size=37_000, pad_id=PAD_ID)
    count = sum(parameter.numel() for parameter in transformer.parameters())
    assert count == closed_formula(config, 37_000)
    assert expected in (None, count)


def test_one_matrix_embeds_the_source_and_the_target_and_makes_the_logits() -> None:
    transformer = make(SMALL)
    assert [name for name, weight in transformer.named_parameters() if V in weight.shape] == ["embedding.weight"]
    source_piece, target_piece, said_piece, unused_piece = 3, 5, 11, 13
    logits = transformer(torch.tensor([[source_piece, 2]]), torch.tensor([[2, target_piece]]))
    gradient = torch.autograd.grad(logits[0, -1, said_piece], transformer.embedding.weight)[0]
    for piece in (source_piece, target_piece, said_piece):
        assert gradient[piece].abs().max() > 1e-3
    assert gradient[unused_piece].abs().max() == 0.0


SOURCE_V = 23


def with_source_embedding(shared: Transformer) -> tuple[Transformer, Tensor]:
    """The same model with a source vocabulary of its own, and the new id of every source token."""
    separate = Transformer(shared.config, vocab_size=V, pad_id=PAD_ID, source_vocab_size=SOURCE_V).double()
    new_id_V = torch.cat([torch.tensor([PAD_ID]), 1 + torch.randperm(SOURCE_V - 1)[: V - 1]])
    rows = torch.randn(SOURCE_V, shared.config.d_model, dtype=torch.float64)
    rows[new_id_V] = shared.embedding.weight.detach()
    separate.load_state_dict(shared.state_dict() | {"source_embedding.weight": rows})
    return separate, new_id_V


@every_variant
def test_a_source_embedding_with_the_shared_rows_changes_nothing(config: TransformerConfig) -> None:
    shared = make(config)
    separate, new_id_V = with_source_embedding(shared)
    source_BS, target_BT = padded_sentences(S), padded_sentences(T)
    own_source_BS = new_id_V[source_BS]
    assert not torch.equal(own_source_BS, source_BS)
    expected = shared(source_BS, target_BT)
    torch.testing.assert_close(separate(own_source_BS, target_BT), expected, rtol=0.0, atol=1e-11)
    state = separate.start(separate.encode(own_source_BS))
    for position in range(T):
        logits_NV, state = separate.step(target_BT[:, position], state)
        torch.testing.assert_close(logits_NV, expected[:, position], rtol=0.0, atol=1e-11)


def test_a_source_embedding_leaves_the_other_two_tied() -> None:
    separate, _ = with_source_embedding(make(SMALL))
    sizes = {name: len(weight) for name, weight in separate.named_parameters() if "embedding" in name}
    assert sizes == {"embedding.weight": V, "source_embedding.weight": SOURCE_V}
    source_piece, target_piece, said_piece, unused_piece = 3, 5, 11, 13
    logits = separate(torch.tensor([[source_piece, 2]]), torch.tensor([[2, target_piece]]))
    weights = dict(separate.named_parameters())
    of_target, of_source = torch.autograd.grad(logits[0, -1, said_piece], [weights[name] for name in sizes])
    assert of_source[source_piece].abs().max() > 1e-3
    assert of_source[[target_piece, said_piece, unused_piece]].abs().max() == 0.0
    for piece in (target_piece, said_piece):
        assert of_target[piece].abs().max() > 1e-3
    assert of_target[[source_piece, unused_piece]].abs().max() == 0.0


def test_a_source_embedding_starts_like_the_other() -> None:
    config = TransformerConfig(d_model=64, num_layers=1)
    transformer = Transformer(config, vocab_size=997, pad_id=PAD_ID, source_vocab_size=991)
    assert transformer.source_embedding is not None
    for embedding in (transformer.embedding, transformer.source_embedding):
        assert float(embedding.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.05)


@every_variant
def test_a_future_target_piece_changes_nothing_before_it(config: TransformerConfig) -> None:
    transformer = make(config)
    source_BS, target_BT = padded_sentences(S), sentences(T)
    changed_BT = target_BT.clone()
    changed_BT[:, 3] = target_BT[:, 3] % (V - 1) + 1
    logits, changed = transformer(source_BS, target_BT), transformer(source_BS, changed_BT)
    assert torch.equal(changed[:, :3], logits[:, :3])
    assert (changed[:, 3:] - logits[:, 3:]).abs().amax(dim=-1).min() > 1e-4


@every_variant
def test_extra_padding_changes_nothing(config: TransformerConfig) -> None:
    transformer = make(config)
    source_BS, target_BT = padded_sentences(S), padded_sentences(T)
    logits = transformer(source_BS, target_BT)
    longer = transformer(F.pad(source_BS, (0, 4), value=PAD_ID), F.pad(target_BT, (0, 6), value=PAD_ID))
    torch.testing.assert_close(longer[:, :T], logits, rtol=0.0, atol=1e-11)
    alone = transformer(source_BS[1:2, :2], target_BT[1:2, :2])
    torch.testing.assert_close(logits[1:2, :2], alone, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_order_matters_with_positions_only(scheme: PositionScheme) -> None:
    """One layer: a second one would see the order of the target through the causal mask."""
    transformer = make(dataclasses.replace(SMALL, positions=scheme, num_layers=1))
    source_BS, target_BT = sentences(S), sentences(T)
    source_order, target_order = [0, 4, 2, 3, 1, 5, 6], [0, 2, 1, 3, 4]
    # What changes places differs, whatever numbers the device has drawn.
    source_BS[:, 4], target_BT[:, 2] = source_BS[:, 1] % (V - 1) + 1, target_BT[:, 1] % (V - 1) + 1
    states = transformer.encode(source_BS).states_BSD
    swapped_source = transformer.encode(source_BS[:, source_order]).states_BSD
    last = transformer(source_BS, target_BT)[:, -1]
    swapped_target = transformer(source_BS, target_BT[:, target_order])[:, -1]
    if scheme == "none":
        torch.testing.assert_close(swapped_source, states[:, source_order], rtol=0.0, atol=1e-11)
        torch.testing.assert_close(swapped_target, last, rtol=0.0, atol=1e-11)
    else:
        assert (swapped_source - states[:, source_order]).abs().amax(dim=(1, 2)).min() > 1e-6
        assert (swapped_target - last).abs().amax(dim=1).min() > 1e-6


@every_variant
def test_steps_equal_forward_also_after_reorder_and_keep(config: TransformerConfig) -> None:
    transformer = make(config)
    beams, length = 5, 6
    source_BS = padded_sentences(S)
    token_NT = torch.randint(1, V, (B * beams, length))
    state = transformer.start(transformer.encode(source_BS), beam_size=beams)
    for position in range(length):
        logits_NV, state = transformer.step(token_NT[:, position], state)
        source_NS = source_BS.repeat_interleave(beams, dim=0)
        expected_NV = transformer(source_NS, token_NT[:, : position + 1])[:, -1]
        # Angles are computed in float32.
        torch.testing.assert_close(logits_NV, expected_NV, rtol=0.0, atol=1e-5)
        if position == 1:
            within = torch.tensor([3, 0, 0, 4, 2])
            row_N = (torch.arange(len(source_BS))[:, None] * beams + within).flatten()
            state, token_NT = state.reorder(row_N), torch.cat([token_NT[row_N, :2], token_NT[:, 2:]], dim=1)
        if position == 3:
            going_B = torch.tensor([2, 0])
            state, source_BS = state.keep(going_B), source_BS[going_B]
            token_NT = token_NT.unflatten(0, (B, beams))[going_B].flatten(0, 1)


def test_a_step_leaves_the_state_that_it_starts_from_as_it_was() -> None:
    """So several continuations can be tried from one state."""
    transformer = make(SMALL)
    start = transformer.start(transformer.encode(padded_sentences(S)))
    _, state = transformer.step(sentences(1)[:, 0], start)
    token_B = sentences(1)[:, 0]
    first_BV, _ = transformer.step(token_B, state)
    again_BV, _ = transformer.step(token_B, state)
    assert torch.equal(first_BV, again_BV)
    assert start.cache == {}


def test_dropout_is_applied_to_embeddings_and_to_every_sublayer() -> None:
    """Section 5.4: once each side on embeddings plus positions, and once a sub-layer."""
    transformer = make(dataclasses.replace(SMALL, dropout=0.5))
    zeroed: list[float] = []
    for module in transformer.modules():
        if hasattr(module, "rate"):
            module.register_forward_hook(lambda _module, _inputs, output: zeroed.append((output == 0).double().mean()))
    transformer.train()(sentences(S), sentences(T))
    assert len(zeroed) == 2 + SMALL.num_layers * (2 + 3)
    assert all(0.35 < share < 0.65 for share in zeroed)
    zeroed.clear()
    transformer.eval()(sentences(S), sentences(T))
    assert max(zeroed) == 0.0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("positions", "tolerance"), [("sinusoidal", 0.0), ("relative", 1e-4)])
def test_layers_that_are_computed_again_take_less_memory_and_give_the_same(
    positions: PositionScheme, tolerance: float, norm: Norm
) -> None:
    """To the bit, dropout included. The gradients of relative positions are summed in another order."""
    config = dataclasses.replace(SMALL, norm=norm, positions=positions, dropout=0.3)
    source_BS, target_BT = padded_sentences(S), sentences(T)
    results: list[tuple[int, list[Tensor]]] = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        transformer = Transformer(config, vocab_size=V, pad_id=PAD_ID, activation_checkpointing=recomputes)
        weights = list(transformer.parameters())
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = transformer(source_BS, target_BT).square().sum()
        kept = sum(sizes.values()) - sum(weight.nbytes for weight in weights if weight.data_ptr() in sizes)
        results.append((kept, [loss, *torch.autograd.grad(loss, weights)]))
    (full, expected), (less, found) = results
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert less < full / 3
