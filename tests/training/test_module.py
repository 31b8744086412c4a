"""What a training step promises beyond its gradients, which tests/test_fit.py compares between devices."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader

from lit_transformer.batch import EOS_ID, Batch, make_batch
from lit_transformer.data.validation import ValidationBatches, validation_batches
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training import translation as training_module
from lit_transformer.training.samples import NUM_SAMPLES
from lit_transformer.training.step_statistics import MAX_SKIPPED_IN_A_ROW
from lit_transformer.training.translation import LitTransformer

SMALL = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1, dropout=0.3)
VOCAB_SIZE = 17
STRATEGY = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda value, reduce_op: value)


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
    module.on_fit_start()
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
    module.on_fit_start()
    module.training_step(batch(), 0)
    assert seeded == [0]


def test_what_is_counted_is_no_buffer() -> None:
    """FSDP would cast it to bfloat16, where sums stop growing; DDP would overwrite it with the first rank's."""
    assert list(LitTransformer(SMALL, vocab_size=VOCAB_SIZE).buffers()) == []


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")  # no validation
@pytest.mark.parametrize("clip", [None, 0.01])
def test_float16_reports_and_clips_the_gradients_and_not_their_multiple(clip: float | None) -> None:
    """Adam's first moment after a step is a tenth of what it got."""
    taken = []
    for plugins in ([], [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))]):
        torch.manual_seed(0)
        module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE, bleu_tokenize="none")
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=1,
            gradient_clip_val=clip,
            plugins=plugins,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader([batch()], batch_size=None))
        [adam] = trainer.optimizers
        moments = [state["exp_avg"] for state in adam.state.values()]
        taken.append((float(module.statistics.gradient_norm), 10 * float(torch.nn.utils.get_total_norm(moments))))
    (norm, applied), (float16_norm, float16_applied) = taken
    assert applied == pytest.approx(norm if clip is None else clip, rel=1e-3)
    assert float16_norm == pytest.approx(norm, rel=0.05)
    assert float16_applied == pytest.approx(applied, rel=0.05)


def after_steps(norms: list[float], *, scaler: object | None) -> LitTransformer:
    """A module that has seen gradients of these norms, one a step."""
    module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE)
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=scaler),
        strategy=STRATEGY,
        datamodule=SimpleNamespace(describe_step=lambda step: f"the pairs of {step}"),
    )
    module.trainer = trainer  # type: ignore[assignment]
    module.on_fit_start()
    weight = module.transformer.embedding.weight
    for trainer.global_step, norm in enumerate(norms):
        weight.grad = torch.zeros_like(weight)
        weight.grad[0, 0] = norm
        module.on_before_optimizer_step(torch.optim.SGD([weight]))
    return module


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_stop_the_run(norm: float) -> None:
    """The first step is named, whenever somebody asks."""
    after_steps([1.0, 2.0], scaler=None).check_numbers()
    with pytest.raises(UserError, match=r"the gradients of step 2 are not finite.*the pairs of 1$"):
        after_steps([1.0, norm, 3.0, norm], scaler=None).check_numbers()


def test_float16_skips_and_counts_single_steps() -> None:
    overflow = float("inf")
    module = after_steps([1.0, overflow, 1.0, overflow, overflow], scaler=object())
    module.check_numbers()
    assert int(module.statistics.skipped_steps) == 3
    with pytest.raises(UserError, match=f"the gradients of step {MAX_SKIPPED_IN_A_ROW + 1} are not finite"):
        after_steps([1.0] + [overflow] * MAX_SKIPPED_IN_A_ROW, scaler=object()).check_numbers()


def samples_of_ranks(world_size: int, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The sources that each rank shows after a validation of at most `limit` batches a rank."""
    texts = list("bcdefghijkl")
    tokenizer = SimpleNamespace(
        encode=lambda texts: [[ord(text) - ord("a") + EOS_ID] * (5 * ord(text) % 7 + 1) for text in texts],
        decode=lambda translations: [""] * len(translations),
    )
    batches, _ = validation_batches(texts, texts, tokenizer, batch_tokens=7)  # type: ignore[arg-type]
    modules = []
    for rank in range(world_size):
        module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE)
        module.trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokenizer))  # type: ignore[assignment]
        monkeypatch.setattr(module, "log", lambda *_, **__: None)
        module.on_validation_epoch_start()
        for number, text_batch in enumerate(list(ValidationBatches(batches, rank, world_size))[:limit]):
            module.validation_step(text_batch, number)
        modules.append(module)
    samples = [module.samples for module in modules]
    monkeypatch.setattr(training_module, "gather", lambda mine: samples)
    for module in modules:
        module.on_validation_epoch_end()
    return [[sample.source for sample in module.samples] for module in modules]


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_the_first_sentences_are_shown_wherever_they_are_validated(
    world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the validation set, on every rank."""
    assert samples_of_ranks(world_size, None, monkeypatch) == [list("bcde")] * world_size


def test_a_part_of_the_validation_set_shows_its_first_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """`trainer.limit_val_batches` leaves out whole batches, which lie in the order of their lengths."""
    [shown] = samples_of_ranks(1, 4, monkeypatch)
    assert len(shown) == NUM_SAMPLES
    assert shown == sorted(shown) != list("bcde")
