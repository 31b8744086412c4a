"""A `Transformer` with BART's settings equals the BART of `transformers`, and its steps equal its forward pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration

from lit_transformer.model.bart import BART_BASE
from lit_transformer.model.transformer import Transformer
from tests.helpers.foreign import LONGEST, assert_equal, bart, every_dtype, load, random_tokens, save
from tests.helpers.oracles import TOLERANCE

B, S, T, PAD = 3, 11, 13, 1
LENGTHS = torch.tensor([5, S, 7])


def padded_source() -> Tensor:
    return torch.where(torch.arange(S) < LENGTHS[:, None], random_tokens(B, S), PAD)


@every_dtype
def test_steps_equal_the_forward_pass_of_bart(tmp_path: Path, dtype: torch.dtype) -> None:
    oracle = save(bart(), tmp_path, dtype)
    transformer, source_BS, target_BT = load(tmp_path), padded_source(), random_tokens(B, LONGEST)
    expected = oracle(source_BS, attention_mask=source_BS != PAD, decoder_input_ids=target_BT).logits
    state = transformer.start(transformer.encode(source_BS))
    for place in range(LONGEST):
        logits_BV, state = transformer.step(target_BT[:, place], state)
        assert_equal(logits_BV, expected[:, place])


@every_dtype
def test_gradients_of_the_loss_equal_those_of_bart(tmp_path: Path, dtype: torch.dtype) -> None:
    oracle = save(bart(), tmp_path, dtype)
    transformer, source_BS, target_BT = load(tmp_path).requires_grad_(True), padded_source(), random_tokens(B, T)
    logits_BTV = transformer(source_BS, target_BT)
    theirs_BTV = oracle(source_BS, attention_mask=source_BS != PAD, decoder_input_ids=target_BT).logits
    assert_equal(logits_BTV, theirs_BTV)
    for logits in (logits_BTV, theirs_BTV):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), target_BT[:, 1:].flatten()).backward()
    theirs = oracle.model
    for mine, expected in (
        (transformer.embedding.weight.grad, theirs.shared.weight.grad),
        (transformer.encoder.positions.table.weight.grad, theirs.encoder.embed_positions.weight.grad[2:]),
        (transformer.decoder.embedding_norm.bias.grad, theirs.decoder.layernorm_embedding.bias.grad),
        (transformer.encoder.layers[0].feed_forward.inner.bias.grad, theirs.encoder.layers[0].fc1.bias.grad),
        (
            transformer.decoder.layers[1].cross_attention.query.bias.grad,
            theirs.decoder.layers[1].encoder_attn.q_proj.bias.grad,
        ),
    ):
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=TOLERANCE[dtype])


def test_the_published_settings(tmp_path: Path) -> None:
    """Our tables of positions lack two rows that nothing uses. The bias of the logits is no parameter in theirs."""
    save(bart(), tmp_path)
    sizes: dict[str, Any] = {
        "d_model": 35,
        "d_ff": 23,
        "num_heads": 5,
        "num_layers": 2,
        "max_positions": LONGEST,
        "output_bias": True,
    }
    assert load(tmp_path).config == replace(BART_BASE, **sizes)
    one_side: dict[str, Any] = {"layers": 6, "ffn_dim": 3072, "attention_heads": 12}
    sides: dict[str, Any] = {
        f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in one_side.items()
    }
    with torch.device("meta"):
        ours = Transformer(BART_BASE, vocab_size=50265, pad_id=PAD)
        published = BartForConditionalGeneration(BartConfig(d_model=768, **sides))
    unused = 2 * 2 * 768
    assert sum(parameter.numel() for parameter in ours.parameters()) == published.num_parameters() - unused
    assert published.num_parameters() == 139_420_416
