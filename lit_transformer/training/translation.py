"""The LightningModule: what a training step and a validation step are. It knows neither files nor sentencepiece."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, TextBatch
from lit_transformer.checkpoints.format import MODEL_ENTRY, model_entry, upgrade_checkpoint
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.settings import MAX_BEAM_SIZE, SearchSettings
from lit_transformer.decoding.transformer_search import search_batch
from lit_transformer.errors import UserError, enough_memory
from lit_transformer.evaluation.bleu import CorpusBLEU, Tokenization
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.runs.ranks import gather
from lit_transformer.runs.resuming import check_moments
from lit_transformer.training.loss import LossSums, smoothed_cross_entropy
from lit_transformer.training.samples import Sample, first_samples
from lit_transformer.training.schedule import learning_rate
from lit_transformer.training.selection import available_tokenization, selection_score
from lit_transformer.training.step_statistics import StepStatistics


class TextSource(Protocol):
    """What the module needs of the datamodule."""

    tokenizer: Tokenizer
    source: str
    target: str

    @property
    def summary(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def describe_step(self, step: int) -> str: ...


class LitTransformer(L.LightningModule):
    """The Transformer with the paper's training recipe (section 5).

    Args:
        transformer: The architecture; the paper's base model when left out.
        vocab_size: Pieces of the vocabulary that both languages share (section 5.1).
        label_smoothing: Epsilon of section 5.4, spread over the whole vocabulary.
        warmup_steps: Optimizer steps of rising learning rate (section 5.3).
        learning_rate_scale: Factor on the paper's learning rate; small models stand more than the paper's 1.
        validation_beam_size: Beam that validation BLEU is decoded with; 1, greedy, is fast.
        bleu_tokenize: sacreBLEU's tokenizer for validation BLEU; by the target language when left out, `none` for a
            corpus that is tokenized already.
        seed: Dropout's randomness is a function of it, the step and the rank; follows seed_everything.
    """

    def __init__(
        self,
        transformer: TransformerConfig = TransformerConfig(),
        vocab_size: int = 37000,
        label_smoothing: float = 0.1,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        validation_beam_size: int = 1,
        bleu_tokenize: Tokenization | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"model.label_smoothing is {label_smoothing}: it must be at least 0 and below 1")
        if not 0.0 < learning_rate_scale < math.inf:
            raise UserError(f"model.learning_rate_scale is {learning_rate_scale}: it must be above 0")
        for name, value, least in (
            ("vocab_size", vocab_size, EOS_ID + 2),
            ("warmup_steps", warmup_steps, 1),
            ("validation_beam_size", validation_beam_size, 1),
        ):
            if value < least:
                raise UserError(f"model.{name} is {value}: it must be at least {least}")
        if validation_beam_size > MAX_BEAM_SIZE:
            raise UserError(f"model.validation_beam_size is {validation_beam_size}: it must be at most {MAX_BEAM_SIZE}")
        try:
            self.transformer = Transformer(transformer, vocab_size=vocab_size, pad_id=PAD_ID)
        # torch's ways to say that there is no memory, or that no number is so large.
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UserError(
                f"the model is too large for this machine ({str(error).splitlines()[0]}): lower model.vocab_size, "
                "model.transformer.d_model or .d_ff"
            ) from error
        self.label_smoothing = label_smoothing
        self.warmup_steps = warmup_steps
        self.learning_rate_scale = learning_rate_scale
        self.validation_beam_size = validation_beam_size
        self.bleu_tokenize = bleu_tokenize
        self.seed = seed
        self.resumed: Mapping[str, Any] | None = None
        """What is in the checkpoint that `trainer.fit` is given, to be checked before anything is loaded from it."""
        self.samples: list[Sample] = []
        # The default leaves out what is not a number: a run that diverges must show it.
        self.val_loss = MeanMetric(nan_strategy=math.nan)
        self.val_nll = MeanMetric(nan_strategy=math.nan)
        self.val_bleu = CorpusBLEU(tokenize=bleu_tokenize or "13a")  # `setup` knows the target language
        self.statistics: StepStatistics
        """Of the training steps since `on_fit_start`."""

    @property
    def text(self) -> TextSource:
        """The datamodule, as far as this module knows it."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def loss_sums(self, batch: Batch) -> LossSums:
        """Sums of the losses of a micro-batch under teacher forcing."""
        memory = self.transformer.encode(batch.source_BS, padded=batch.num_source_tokens < batch.source_BS.numel())
        states_BTD = self.transformer.decode(batch.target_input_BT, memory)
        return smoothed_cross_entropy(
            states_BTD.flatten(0, 1),
            self.transformer.embedding.weight,
            batch.target_output_BT.flatten(),
            pad_id=PAD_ID,
            epsilon=self.label_smoothing,
        )

    def on_fit_start(self) -> None:
        self.statistics = StepStatistics(self.trainer.strategy.root_device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The micro-batch's share of the step's mean loss per target token."""
        assert batch.step == self.trainer.global_step, "the data stream and the optimizer have come apart"
        self._seed_dropout(batch)
        sums = self.loss_sums(batch)
        self.statistics.add_losses(sums)
        # DDP averages gradients over ranks, Lightning over micro-batches: undo both, so every token weighs the same.
        shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return sums.smoothed * (shares / batch.step_target_tokens)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in self.parameters() if weight.grad is not None])
        if isinstance(self.trainer.strategy, FSDPStrategy):  # each rank has another part of them
            norm = self.trainer.strategy.reduce(norm**2, reduce_op="sum").sqrt()
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and optimizer.defaults["fused"]:
            # Fused Adam divides its gradients by the loss scale, but only inside its step.
            norm = norm / scaler.scale(torch.ones_like(norm))
        self.statistics.add_gradients(norm, step=self.trainer.global_step, skips=scaler is not None)

    def check_numbers(self) -> None:
        """Raises if a step since the last check had a loss or gradients that are not finite; all ranks must ask."""
        step = int(self.trainer.strategy.reduce(self.statistics.broken_step, reduce_op="max"))
        if step >= 0:
            raise UserError(
                f"the gradients of step {step + 1} are not finite, so training has diverged there; it was stopped, and "
                "checkpoints from before are whole. Go on from one with --ckpt_path STEP.ckpt and a lower "
                "--model.learning_rate_scale or a higher --model.warmup_steps. "
                f"The step had {self.text.describe_step(step)}"
            )

    def validation_step(self, text_batch: TextBatch, batch_idx: int) -> None:
        with enough_memory("lower data.validation_batch_tokens"):
            self._validate(text_batch)

    def on_validation_epoch_start(self) -> None:
        self.samples = []
        for mean in (self.val_loss, self.val_nll):  # a module in bfloat16 has its metrics converted, too
            mean.set_dtype(torch.promote_types(mean.dtype, torch.float32))

    def on_validation_epoch_end(self) -> None:
        self.samples = first_samples(chain.from_iterable(gather(self.samples)))
        nll = self.val_nll.compute()
        # For the callbacks, which log them under the right step: Lightning's own logging is one behind.
        self.log("val/loss", self.val_loss, logger=False)
        self.log("val/bleu", self.val_bleu, logger=False)
        selection = selection_score(bleu=float(self.val_bleu.compute()), loss=float(self.val_loss.compute()))
        self.log("val/selection", selection, logger=False, sync_dist=True)
        self.log("val/perplexity", nll.exp(), logger=False, sync_dist=True)
        self.val_nll.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam as in section 5.3, the learning rate set at every optimizer step."""
        if self.dtype == torch.float16:
            raise UserError(
                "trainer.precision is 16-true, in which Adam's squared gradients are 0: give 16-mixed, or bf16-true"
            )
        schedule = self._schedule()
        return {"optimizer": schedule.optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _schedule(self) -> LambdaLR:
        # Clipping needs the gradients that mixed precision hides inside the fused step.
        fused = not self.trainer.gradient_clip_val
        optimizer = torch.optim.Adam(self.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9, fused=fused)
        return LambdaLR(optimizer, self._learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[MODEL_ENTRY] = model_entry(
            self.transformer,
            self.text.tokenizer,
            source=self.text.source,
            target=self.text.target,
            step=self.trainer.global_step,
        )

    def setup(self, stage: str) -> None:
        if self.bleu_tokenize is None:
            self.val_bleu = CorpusBLEU(tokenize=available_tokenization(self.text.target))
        # Some strategies load weights and moments by themselves, into parts of them, and before they ask anybody.
        if self.resumed is not None:
            self._check_resumed(self.resumed)
            self.resumed = None  # as large as the run's whole state

    def _check_resumed(self, checkpoint: Mapping[str, Any]) -> None:
        entry = checkpoint.get(MODEL_ENTRY, {})
        if entry.get("tokenizer") != self.text.tokenizer.model_bytes:
            raise UserError(
                "the checkpoint of --ckpt_path was trained with another vocabulary: resume with the same corpus and "
                "--model.vocab_size (and --data.normalization nmt_nfkc --data.byte_fallback false if its config.yaml "
                "names no data.normalization), or start afresh without --ckpt_path"
            )
        mine = asdict(self.transformer.config)
        # Dropout may change on the way; everything else is what the weights mean.
        other = [name for name in mine if name != "dropout" and entry["transformer"].get(name) != mine[name]]
        if other:
            raise UserError(
                "the checkpoint of --ckpt_path is of another architecture: resume with its "
                + ", ".join(f"--model.transformer.{name} {entry['transformer'].get(name)}" for name in other)
            )
        check_moments(checkpoint, self._schedule().optimizer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        upgrade_checkpoint(checkpoint)
        # Lightning counts micro-batches, and on other devices a step may have another number of them.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        surplus = progress["total"]["ready"] - checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        for counts in (progress["total"], progress["current"]):
            counts.update({name: count - surplus for name, count in counts.items()})

    def _learning_rate(self, steps_done: int) -> float:
        d_model = self.transformer.config.d_model
        scale = self.learning_rate_scale
        return learning_rate(steps_done + 1, d_model=d_model, warmup_steps=self.warmup_steps, scale=scale)

    def _seed_dropout(self, batch: Batch) -> None:
        """Makes this micro-batch's dropout the same whether or not the run was interrupted before it."""
        place = (self.seed, batch.step, batch.micro_batch, self.global_rank)
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        # The same streams as after `torch.manual_seed`. That also seeds devices that are not used, and takes 0.1 to
        # 1 ms, because it records a stack trace for each of them.
        torch.default_generator.manual_seed(seed)
        device = batch.source_BS.device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)

    def _validate(self, text_batch: TextBatch) -> None:
        batch, references = text_batch.batch, text_batch.references
        sums = self.loss_sums(batch)
        num_tokens = batch.num_target_tokens
        if num_tokens:
            self.val_loss.update(sums.smoothed / num_tokens, weight=num_tokens)
            self.val_nll.update(sums.nll / num_tokens, weight=num_tokens)
        if references:
            translations = self._translate(batch.source_BS[: len(references)])
            self.val_bleu.update(translations, references)
            self._keep_samples(text_batch, translations)

    def _translate(self, source_BS: Tensor) -> list[str]:
        hypotheses = search_batch(self.transformer, source_BS, SearchSettings(beam_size=self.validation_beam_size))
        # A model that has diverged gives no numbers, and no hypothesis has a score.
        return self.text.tokenizer.decode([best[0].tokens if best else [] for best in hypotheses])

    def _keep_samples(self, text_batch: TextBatch, translations: Sequence[str]) -> None:
        rows = zip(text_batch.indices, text_batch.sources, translations, text_batch.references, strict=True)
        self.samples = first_samples([*self.samples, *(Sample(*row) for row in rows)])
