"""The weights of a Marian model give the same logits in ours, and back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.marian import table, to_halves, to_marian, to_turns

VOCAB_SIZE, SOURCE_VOCAB_SIZE = 23, 19
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SOURCE = torch.tensor([[5, 6, 7, 8, 9, EOS_ID], [10, 11, EOS_ID, PAD_ID, PAD_ID, PAD_ID]])
TARGET = torch.tensor([[BOS_ID, 12, 13, 14, 15], [BOS_ID, 16, 17, EOS_ID, PAD_ID]])
ALL_BIASES = {"attention_bias": True, "output_bias": True}


def make_ours(*, is_shared: bool = True, **config: Any) -> Transformer:
    sizes = {"d_model": 12, "d_ff": 14, "num_heads": 3, "num_layers": 2, "dropout": 0.0}
    source = {} if is_shared else {"source_vocab_size": SOURCE_VOCAB_SIZE}
    model = Transformer(TransformerConfig(**sizes | config), vocab_size=VOCAB_SIZE, pad_id=PAD_ID, **source)  # type: ignore[arg-type]
    return perturb(model)


def make_theirs(*, is_shared: bool = True, activation: str = "relu", dtype: torch.dtype = torch.float32) -> Any:
    config = MarianConfig(
        vocab_size=VOCAB_SIZE if is_shared else SOURCE_VOCAB_SIZE,
        decoder_vocab_size=VOCAB_SIZE,
        share_encoder_decoder_embeddings=is_shared,
        d_model=12,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=14,
        decoder_ffn_dim=14,
        activation_function=activation,
        scale_embedding=True,
        max_position_embeddings=16,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=BOS_ID,
        forced_eos_token_id=None,
    )
    model: Any = MarianMTModel(config).eval()
    perturb(model)
    model.final_logits_bias.normal_()
    return model.to(dtype)


def perturb(model: Any) -> Any:
    """All parameters are random numbers: nothing stays zero or one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def from_theirs(weights: dict[str, Tensor], config: TransformerConfig, *, is_shared: bool) -> dict[str, Tensor]:
    recipes = table(config, is_shared=is_shared)
    return {name: recipe.make([weights[each] for each in recipe.names]) for name, recipe in recipes.items()}


def share_sinusoids(ours: Transformer, theirs: Any) -> None:
    """Both models round the angles of their sinusoids in another way, so theirs takes ours."""
    table = ours.encoder.positions.embed(torch.zeros(1, 16, 12, dtype=theirs.dtype), torch.arange(16)[None])[0]
    for side in (theirs.model.encoder, theirs.model.decoder):
        side.embed_positions.weight.copy_(to_halves(table, 1))


def differences(ours: Transformer, theirs: Any) -> Tensor:
    with torch.no_grad():
        logits = theirs(input_ids=SOURCE, attention_mask=SOURCE != PAD_ID, decoder_input_ids=TARGET).logits
        return (ours(SOURCE, TARGET) - logits)[TARGET != PAD_ID].abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_theirs_becomes_ours(dtype: torch.dtype, activation: str, *, is_shared: bool) -> None:
    theirs = make_theirs(is_shared=is_shared, activation=activation, dtype=dtype)
    ours = make_ours(is_shared=is_shared, activation=activation, **ALL_BIASES).to(dtype)
    weights = theirs.state_dict()
    ours.load_state_dict(from_theirs(weights, ours.config, is_shared=is_shared))
    if dtype == torch.float64:
        share_sinusoids(ours, theirs)
    assert differences(ours, theirs) < TOLERANCE[dtype]
    back = to_marian(ours.state_dict(), ours.config)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in back.items())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("config", [{}, {"activation": "silu", **ALL_BIASES}])
@pytest.mark.parametrize("is_shared", [True, False])
def test_ours_becomes_theirs(dtype: torch.dtype, config: dict[str, Any], *, is_shared: bool) -> None:
    ours = make_ours(is_shared=is_shared, **config).to(dtype)
    theirs = make_theirs(is_shared=is_shared, activation=ours.config.activation, dtype=dtype)
    weights = ours.state_dict()
    theirs.load_state_dict(to_marian(weights, ours.config), strict=False)
    theirs.tie_weights()
    if dtype == torch.float64:
        share_sinusoids(ours, theirs)
    assert differences(ours, theirs) < TOLERANCE[dtype]
    back = from_theirs(theirs.state_dict(), ours.config, is_shared=is_shared)
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())
    assert not any(tensor.any() for name, tensor in back.items() if name not in weights), "they are zero biases"


@pytest.mark.parametrize("dimension", [0, 1])
def test_sines_come_before_cosines(dimension: int) -> None:
    by_turns = nn.functional.one_hot(torch.arange(6)).float()
    halves = to_halves(by_turns, dimension)
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    assert torch.equal(halves, by_turns.index_select(dimension, order))
    assert torch.equal(to_turns(halves, dimension), by_turns)
