"""What an optimizer step promises beyond its gradients, which tests/test_fit.py compares between devices."""

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, make_batch
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.loss import LossSums, smoothed_cross_entropy
from lit_transformer.training.module import LitModel
from lit_transformer.training.schedule import learning_rate
from lit_transformer.training.translation import LitTransformer
from tests.helpers.plain import quiet_trainer

SMALL = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1, dropout=0.3)
VOCAB_SIZE = 17
SETTINGS: dict[str, Any] = {
    "d_model": 8,
    "warmup_steps": 20,
    "learning_rate_scale": 1.0,
    "seed": 1,
    "optimizer": None,
    "learning_rate": None,
    "schedule": "inverse_square_root",
}
STRATEGY = SimpleNamespace(root_device=torch.device("cpu"))


class Successors(NamedTuple):
    """Pairs of tokens. A model predicts the second one from the first one."""

    first_P: Tensor
    second_P: Tensor
    step: int
    micro_batch: int
    step_target_tokens: int
    num_target_tokens: int
    num_source_tokens: int = 1
    num_positions: int = 2


class Bigrams(LitModel):
    """The smallest descendant: all that a model of another kind has to write."""

    def __init__(self) -> None:
        super().__init__(**SETTINGS)
        self.embedding = nn.Embedding(VOCAB_SIZE, 8)
        self.output = nn.Linear(8, VOCAB_SIZE, bias=False)

    def loss_sums(self, batch: Successors) -> LossSums:
        states_PD = self.embedding(batch.first_P)
        return smoothed_cross_entropy(states_PD, self.output.weight, batch.second_P, pad_id=PAD_ID, epsilon=0.0)


def micro_batches(step: int) -> list[Successors]:
    """13 pairs in which each token has one successor, in two micro-batches of unequal sizes."""
    first_P = torch.arange(1, 14)
    return [
        Successors(part_P, part_P % 13 + 1, step, micro_batch, len(first_P), len(part_P))
        for micro_batch, part_P in enumerate(first_P.split([8, 5]))
    ]


def test_a_validation_batch_without_sentences_changes_no_mean() -> None:
    """A rank gets one if there are fewer batches than ranks."""
    model = Bigrams()
    model.validation_step(micro_batches(0)[0], 0)
    expected = model.val_losses["loss"].compute()
    padding_P = torch.tensor([PAD_ID])
    filler = Successors(padding_P, padding_P, step=0, micro_batch=0, step_target_tokens=0, num_target_tokens=0)
    model.validation_step(filler, 1)
    assert float(model.val_losses["loss"].compute()) == float(expected)


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")  # of data workers
def test_any_model_with_loss_sums_trains_and_validates() -> None:
    """Through a plain trainer, with micro-batches of other sizes; every token weighs the same (section 5)."""
    steps = 100
    model = Bigrams()
    batches = [batch for step in range(steps) for batch in micro_batches(step)]
    oracle = Bigrams()
    oracle.load_state_dict(model.state_dict())
    adam = torch.optim.Adam(oracle.parameters(), betas=(0.9, 0.98), eps=1e-9)
    for step in range(steps):
        adam.param_groups[0]["lr"] = learning_rate(step + 1, d_model=8, warmup_steps=20)
        adam.zero_grad()
        for batch in micro_batches(step):
            (oracle.loss_sums(batch).smoothed / batch.step_target_tokens).backward()
        adam.step()
    trainer = quiet_trainer(max_steps=steps, accumulate_grad_batches=2, logger=False, enable_checkpointing=False)
    trainer.fit(model, DataLoader(batches, batch_size=None), DataLoader(micro_batches(0), batch_size=None))  # type: ignore[arg-type]
    for mine, expected in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    loss, perplexity = (trainer.callback_metrics[f"val/{name}"] for name in ("loss", "perplexity"))
    assert loss < 0.1
    torch.testing.assert_close(perplexity, loss.exp())


@pytest.mark.parametrize(
    ("name", "value"),
    [("warmup_steps", 0), ("learning_rate_scale", 0.0), ("learning_rate", -1.0), ("schedule", "cosinus")],
)
def test_mistakes(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{name} is '?{value}"):
        LitModel(**(SETTINGS | {name: value}))


def batch(*, step: int = 0, micro_batch: int = 0) -> Batch:
    ids = torch.randint(4, VOCAB_SIZE, (5, 7), generator=torch.Generator().manual_seed(0)).numpy()
    ids[:, -1] = EOS_ID
    return make_batch(ids, ids[::-1].copy(), step_target_tokens=35, step=step, micro_batch=micro_batch)


def loss(*, seed: int = 1, rank: int = 0, step: int = 0, micro_batch: int = 0) -> float:
    torch.manual_seed(0)
    module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE, seed=seed)
    # All that a training step asks of a trainer.
    trainer = SimpleNamespace(
        global_rank=rank, global_step=step, world_size=1, accumulate_grad_batches=1, strategy=STRATEGY
    )
    module.trainer = trainer  # type: ignore[assignment]
    torch.seed()  # what came before a step must not matter
    return module.training_step(batch(step=step, micro_batch=micro_batch), 0).item()


def test_dropout_follows_seed_step_micro_batch_and_rank() -> None:
    """And nothing else: a resumed run has it again, and no two devices or micro-batches drop the same units."""
    losses = [loss(), loss(seed=2), loss(rank=1), loss(step=1), loss(micro_batch=1), loss(step=1, micro_batch=1)]
    assert len(set(losses)) == len(losses)
    assert loss() == losses[0]
    assert loss(step=1, micro_batch=1) == losses[-1]


def test_only_the_generators_in_use_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` seeds every kind of device, which took up to a millisecond of each micro-batch."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(0)
    assert seeded == [0]
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0, global_step=0, world_size=1, accumulate_grad_batches=1, strategy=STRATEGY
    )
    module.training_step(batch(), 0)
    assert seeded == [0]


def test_no_statistics_are_buffers() -> None:
    """FSDP would cast them to bfloat16, where sums stop growing; DDP would overwrite them with those of rank 0."""
    assert list(LitTransformer(SMALL, vocab_size=VOCAB_SIZE).buffers()) == []


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")  # no validation
@pytest.mark.parametrize("clip", [None, 0.01])
def test_float16_reports_and_clips_the_gradients_and_not_their_multiple(clip: float | None) -> None:
    """Adam's first moment after a step is a tenth of what it got."""
    taken = []
    scaled: list[Any] = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))]
    for plugins in ([], scaled):
        torch.manual_seed(0)
        module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE, bleu_tokenize="none")
        trainer = quiet_trainer(
            max_steps=1, gradient_clip_val=clip, plugins=plugins, logger=False, enable_checkpointing=False
        )
        trainer.fit(module, DataLoader(cast(Any, [batch()]), batch_size=None))
        [adam] = trainer.optimizers
        moments = [state["exp_avg"] for state in adam.state.values()]
        taken.append((float(module.meter.gradient_norm), 10 * float(torch.nn.utils.get_total_norm(moments))))
    (norm, applied), (float16_norm, float16_applied) = taken
    assert applied == pytest.approx(norm if clip is None else clip, rel=1e-3)
    assert float16_norm == pytest.approx(norm, rel=0.05)
    assert float16_applied == pytest.approx(applied, rel=0.05)
