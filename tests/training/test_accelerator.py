"""Training, validating, translating and exploring on a device that is not the host (tests/accelerator.py)."""

from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from lit_transformer.batch import PAD_ID, Batch
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.packing import PackedPlan
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.validation import validation_batches
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.translator import Translator
from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import Stack
from lit_transformer.model.transformer import Transformer
from lit_transformer.runs.divergence import Divergence
from lit_transformer.search_settings import SearchSettings
from lit_transformer.training.translation import LitTransformer
from tests.helpers.accelerator import DEVICE, Accelerator

PAIRS = demo_pairs("train", num_pairs=5)
SOURCES, TARGETS = [pair.english for pair in PAIRS], [pair.german for pair in PAIRS]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SOURCES + TARGETS, vocab_size=71, character_coverage=1.0)


def module_of(tokenizer: Tokenizer, **changes: Any) -> LitTransformer:
    config = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1, dropout=0.3, **changes)
    module = LitTransformer(config, vocab_size=71, validation_beam_size=2)
    trainer = SimpleNamespace(
        global_rank=0,
        global_step=1,
        log_every_n_steps=50,
        fast_dev_run=False,
        lightning_module=module,
        world_size=1,
        accumulate_grad_batches=1,
        precision_plugin=SimpleNamespace(scaler=None),
        strategy=SimpleNamespace(reduce=lambda value, reduce_op: value, root_device=DEVICE),
    )
    module.vocabularies = Vocabularies.shared(tokenizer)
    module.trainer = trainer  # type: ignore[assignment]
    return module.to(DEVICE)


def on_device(batch: Batch) -> Batch:
    moved: Batch = move_data_to_device(batch, DEVICE)
    return moved._replace(step_target_tokens=batch.num_target_tokens, step=1)


def packed(batch: Batch) -> Batch:
    source, target = ((ids != PAD_ID).sum(dim=1).numpy() for ids in (batch.source_BS, batch.target_output_BT))
    return PackedPlan(source, target, 1000, 1).lay_out(batch, 1)


every_scheme = pytest.mark.parametrize("positions", get_args(PositionScheme))


@every_scheme
@pytest.mark.parametrize("packing", [False, True])
def test_a_training_step_and_its_report(packing: bool, positions: PositionScheme, tokenizer: Tokenizer) -> None:
    [text_batch], _ = validation_batches(SOURCES, TARGETS, Vocabularies.shared(tokenizer), 1000)
    with Accelerator() as accelerator:
        module = module_of(tokenizer, positions=positions)
        batch = on_device(packed(text_batch.batch) if packing else text_batch.batch)
        divergence = Divergence()
        divergence.on_fit_start(module.trainer, module)
        accelerator.copies_from_host = 0
        module.training_step(batch, 0).backward()
        module.on_before_optimizer_step(torch.optim.SGD(module.parameters()))
        divergence.on_train_batch_end(module.trainer, module, None, batch, 0)
        assert accelerator.copies_from_host == 0, "a step that copies from the host waits for it"
        assert all(weight.grad is not None for weight in module.parameters())
        smoothed, _, num_tokens = module.meter.state(module.trainer)
    assert 1.0 < smoothed / num_tokens < 20.0


@every_scheme
@pytest.mark.parametrize("causal", [False, True])
def test_a_window_over_a_long_sequence(causal: bool, positions: PositionScheme) -> None:
    """In blocks, through the fused kernel of the device."""
    config = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=2, positions=positions, window=5)
    stack = Stack(config, make_positions(config, causal=causal)).eval()
    vectors_BLD, keys_BL = torch.randn(2, 211, 12), torch.arange(211) < torch.tensor([[211], [97]])
    expected = stack(vectors_BLD, Mask(causal=causal, keys_BM=keys_BL))
    with Accelerator() as accelerator:
        on_device = vectors_BLD.to(DEVICE), Mask(causal=causal, keys_BM=keys_BL.to(DEVICE))
        stack.to(DEVICE)
        accelerator.copies_from_host = 0
        states_BLD = stack(*on_device)
        states_BLD.sum().backward()
        assert accelerator.copies_from_host == 0
        found = states_BLD.detach().cpu()
    torch.testing.assert_close(found, expected.detach(), rtol=0.0, atol=1e-4)


@every_scheme
def test_validation(positions: PositionScheme, tokenizer: Tokenizer) -> None:
    with Accelerator(), torch.no_grad():
        module = module_of(tokenizer, positions=positions).eval()
        [batch], _ = validation_batches(SOURCES, TARGETS, Vocabularies.shared(tokenizer), 1000)
        module.validation_step(batch._replace(batch=on_device(batch.batch)), 0)
        assert 1.0 < float(module.val_losses["loss"].compute()) < 20.0
        assert float(module.val_scores["bleu"].compute()) >= 0.0


@every_scheme
def test_translations_and_attention(positions: PositionScheme, tokenizer: Tokenizer) -> None:
    config = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1, positions=positions)
    transformer = Transformer(config, vocab_size=71, pad_id=PAD_ID)
    alone = Translator(transformer, tokenizer, device="cpu")
    expected = alone.translate(SOURCES[:2], SearchSettings(beam_size=2)), alone.attention(SOURCES[0], TARGETS[0])
    with Accelerator():
        translator = Translator(transformer, tokenizer, device=str(DEVICE))
        translations, attention = (
            translator.translate(SOURCES[:2], SearchSettings(beam_size=2)),
            translator.attention(SOURCES[0], TARGETS[0]),
        )
    assert translations == expected[0]
    np.testing.assert_allclose(attention.cross[0], expected[1].cross[0], atol=1e-5)


@every_scheme
def test_a_device_without_numbers(positions: PositionScheme) -> None:
    """The meta device has shapes alone, and refuses the host's tensors: no shape depends on a number."""
    source_BS = target_BT = torch.ones(3, 5, dtype=torch.int64, device="meta")
    with torch.device("meta"):
        transformer = Transformer(
            TransformerConfig(d_model=12, positions=positions, num_heads=2), vocab_size=7, pad_id=0
        )
    logits_NV, state = transformer.step(
        source_BS[0, :3].repeat(2), transformer.start(transformer.encode(source_BS), beam_size=2)
    )
    maps = transformer.attention_maps(source_BS, target_BT, [0])
    results = [
        transformer(source_BS, target_BT),
        logits_NV,
        *(heads for past in state.cache.values() for heads in (past.key_BHMK, past.value_BHMK)),
        maps.encoder[0],
        maps.decoder[0],
        maps.cross[0],
    ]
    assert all(result.is_meta for result in results)
