"""The whole training path, through Lightning, equals a plain loop over parts that nobody here wrote."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.batch import PAD_ID
from lit_transformer.benchmarks.torch_peer import copy_layer
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.fit import main
from lit_transformer.model.transformer import Transformer
from lit_transformer.training.translation import LitTransformer
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import D_MODEL, RATE_SCALE, WARMUP_STEPS, arguments, load

STEPS = 50
EPSILON = 0.1
"""Label smoothing (section 5.4)."""


class Oracle(nn.Module):
    """`torch.nn.Transformer` between tied embeddings and sinusoids, with the weights of ours."""

    def __init__(self, ours: Transformer) -> None:
        super().__init__()
        config = ours.config
        options: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "dtype": torch.float64}
        self.transformer = nn.Transformer(
            config.d_model, config.num_heads, config.num_layers, config.num_layers, config.d_ff, **options
        )
        # Post-norm has no norm after the last layer (figure 1).
        self.transformer.encoder.norm = self.transformer.decoder.norm = None
        self.embedding = nn.Embedding.from_pretrained(ours.embedding.weight.detach().clone(), freeze=False)
        for stack, our_stack in ((self.transformer.encoder, ours.encoder), (self.transformer.decoder, ours.decoder)):
            for layer, our_layer in zip(stack.layers, our_stack.layers, strict=True):
                copy_layer(layer, our_layer)
        # The paper's projections are plain matrices.
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.endswith(("in_proj_bias", "out_proj.bias")))

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        length = target_input_BT.shape[1]
        states_BTD = self.transformer(
            self.embed(source_BS),
            self.embed(target_input_BT),
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            src_key_padding_mask=source_BS == PAD_ID,
            memory_key_padding_mask=source_BS == PAD_ID,
        )
        return states_BTD @ self.embedding.weight.T

    def embed(self, token_BL: Tensor) -> Tensor:
        """Section 3.4 and the sinusoids of section 3.5."""
        d_model = self.embedding.weight.shape[1]
        position_L1 = torch.arange(token_BL.shape[1], dtype=torch.float32)[:, None]
        angle = position_L1 * 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float32) / d_model)
        sinusoid_LD = torch.zeros(token_BL.shape[1], d_model)
        sinusoid_LD[:, 0::2], sinusoid_LD[:, 1::2] = angle.sin(), angle.cos()
        return self.embedding(token_BL) * d_model**0.5 + sinusoid_LD


def test_fifty_steps_equal_a_plain_loop(tmp_path: Path) -> None:
    """Micro-batches, sums of losses, label smoothing, the schedule and Adam; weights to 1e-9 in float64."""
    settings = arguments(
        make_corpus(tmp_path / "corpus"),
        tmp_path,
        model__transformer__dropout=0.0,
        trainer__precision="64-true",
        trainer__max_steps=STEPS,
        trainer__val_check_interval=STEPS,
        checkpoints__every_n_train_steps=STEPS,
    )
    # The same seed gives the same weights as in `main`.
    cli = parse(settings, FitCLI)
    ours, data = cast(LitTransformer, cli.model).transformer.double(), cast(TranslationData, cli.datamodule)
    data.prepare_data()
    data.setup("fit")
    oracle = Oracle(ours)
    optimizer = torch.optim.Adam([p for p in oracle.parameters() if p.requires_grad], betas=(0.9, 0.98), eps=1e-9)
    for step in range(1, STEPS + 1):
        batch = data.assembler().batch(data.plan.step_rows(step - 1))
        for group in optimizer.param_groups:
            group["lr"] = RATE_SCALE * D_MODEL**-0.5 * min(step**-0.5, step * WARMUP_STEPS**-1.5)
        optimizer.zero_grad()
        logits_BTV = oracle(batch.source_BS, batch.target_input_BT)
        F.cross_entropy(
            logits_BTV.flatten(0, 1), batch.target_output_BT.flatten(), ignore_index=PAD_ID, label_smoothing=EPSILON
        ).backward()
        optimizer.step()

    main(settings)
    [path] = tmp_path.rglob(f"step-*{STEPS}.ckpt")
    trained = Transformer(ours.config, vocab_size=ours.embedding.num_embeddings, pad_id=PAD_ID).double()
    saved = load(path)
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 2 * STEPS
    trained.load_state_dict({name.removeprefix("transformer."): value for name, value in saved["state_dict"].items()})
    assert not torch.allclose(trained.embedding.weight, ours.embedding.weight, atol=0.01)
    expected = dict(oracle.named_parameters())
    for name, value in Oracle(trained).named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=0.0, atol=1e-9)
