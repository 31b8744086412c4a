import dataclasses

import pytest
import torch
from torch import Tensor, nn

from lit_transformer.model.attention import CrossAttention, SelfAttention
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.heads import HeadMask, with_heads
from lit_transformer.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("device")

B, S, T, V, PAD_ID = 3, 7, 5, 19, 0
CONFIG = TransformerConfig(d_model=22, d_ff=13, num_heads=3, num_layers=2, d_k=6, d_v=5, dropout=0.0)


def make() -> Transformer:
    transformer = Transformer(CONFIG, vocab_size=V, pad_id=PAD_ID).double()
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return transformer.eval()


def random_mask() -> HeadMask:
    size = CONFIG.num_layers, CONFIG.num_heads
    return HeadMask(*(torch.rand(size) < 0.5 for _ in range(3)))


def keep_heads(attention: SelfAttention | CrossAttention, keep_H: Tensor) -> None:
    """Multiply the output of every head by 1 or 0."""
    attention.scaled_dot_product.register_forward_hook(lambda _module, _inputs, output: output * keep_H[:, None, None])


def test_a_head_that_is_off_adds_nothing() -> None:
    transformer, mask = make(), random_mask()
    source_BS, target_BT = torch.randint(1, V, (B, S)), torch.randint(1, V, (B, T))
    whole, logits = transformer(source_BS, target_BT), with_heads(transformer, mask)(source_BS, target_BT)
    for number, layer in enumerate(transformer.encoder.layers):
        keep_heads(layer.self_attention, mask.encoder[number])
    for number, layer in enumerate(transformer.decoder.layers):
        keep_heads(layer.self_attention, mask.decoder[number])
        keep_heads(layer.cross_attention, mask.cross[number])
    torch.testing.assert_close(logits, transformer(source_BS, target_BT), rtol=0.0, atol=1e-12)
    assert (logits - whole).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_each_head_counts_and_the_model_stays_as_it_was(kind: str) -> None:
    transformer = make()
    source_BS, target_BT = torch.randint(1, V, (B, S)), torch.randint(1, V, (B, T))
    logits = transformer(source_BS, target_BT)
    assert torch.equal(with_heads(transformer, HeadMask.all(CONFIG))(source_BS, target_BT), logits)
    for layer in range(CONFIG.num_layers):
        for head in range(CONFIG.num_heads):
            mask = HeadMask.all(CONFIG)
            getattr(mask, kind)[layer, head] = False
            ablated = with_heads(transformer, mask)
            assert (ablated(source_BS, target_BT) - logits).abs().max() > 1e-3
            assert torch.equal(transformer(source_BS, target_BT), logits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.ones(3, 2, dtype=torch.bool), r"head mask cross is torch\.bool of size \(3, 2\): .* 2 layers x 3 heads"),
        (torch.ones(2, 3), r"head mask cross is torch\.float32 of size \(2, 3\): it must be boolean"),
    ],
)
def test_masks_that_do_not_fit(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_heads(make(), dataclasses.replace(HeadMask.all(CONFIG), cross=wrong))
