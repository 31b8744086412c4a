"""Training a ViT: the class of an image. The classes are its vocabulary.

Legend: B batch, C channels, H height, W width, V vocabulary.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lit_transformer.batch import NO_LABEL, SEED, ImageBatch
from lit_transformer.data.pixels import normalized
from lit_transformer.decoding.devices import enough_memory
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.vit import VIT_BASE, ViT
from lit_transformer.training.descendant import LitDescendant
from lit_transformer.training.flops import stack_flops
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import PREFIX, TEST_PREFIX
from lit_transformer.training.schedule import ScheduleName

REMEDY = "lower max_images_per_device"


class LitViT(LitDescendant):
    """A ViT that learns to classify images.

    Args:
        transformer: The architecture. The default is the base model. `max_positions` follows from the image and its
            patches.
        image_size: Height and width of the images, in pixels.
        patch_size: Height and width of the patches. It divides image_size.
        num_channels: 1 for gray, 3 for red, green and blue, 4 with transparency.
        num_classes: The classes of the data.
        label_smoothing: Epsilon of section 5.4, spread over the classes.
        warmup_steps: Optimizer steps over which the learning rate rises (section 5.3).
        learning_rate_scale: Factor on the paper's learning rate. Small models tolerate more than 1.
        learning_rate: The peak rate, at the end of the warm-up. By default, it is the paper's, d_model^-0.5
            warmup_steps^-0.5, times learning_rate_scale.
        optimizer: An optimizer of torch or of another package, such as `AdamW`. Its arguments follow as
            `optimizer.weight_decay` and so on. By default, it is Adam with the paper's betas and epsilon.
        schedule: The course of the learning rate: `inverse_square_root`, `constant`, `linear`, `cosine`, or a scheduler
            of torch.
        seed: Dropout is a function of the seed, the step and the rank. Follows seed_everything.
    """

    kind: ClassVar[str] = "vit"
    batch_type: ClassVar[type] = ImageBatch

    def __init__(
        self,
        transformer: TransformerConfig = VIT_BASE,
        image_size: int = 224,
        patch_size: int = 16,
        num_channels: int = 3,
        num_classes: int = 1000,
        label_smoothing: float = 0.0,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        seed: int = SEED,
    ) -> None:
        sizes = {
            "image_size": image_size,
            "patch_size": patch_size,
            "num_channels": num_channels,
            "num_classes": num_classes,
        }
        super().__init__(
            ViT,
            transformer,
            sizes,
            label_smoothing=label_smoothing,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        self.image_size, self.num_channels, self.num_classes = image_size, num_channels, num_classes
        self.val_scores, self.test_scores = self._accuracy(PREFIX), self._accuracy(TEST_PREFIX)

    def setup(self, stage: str) -> None:
        """Take the names of the classes from the datamodule.

        Raises:
            UserError: They are not those that the model was made for, or trained with.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        classes = tuple(getattr(data, "classes", ()))
        if classes and len(classes) != self.num_classes:
            raise UserError(
                f"the data have {len(classes)} classes, but the model has num_classes {self.num_classes}: give both "
                "the same"
            )
        if classes and self.classes and classes != self.classes:
            raise UserError(
                f"the data have the classes {', '.join(classes[:3])}, ..., but the model was trained with "
                f"{', '.join(self.classes[:3])}, ...: give it the same, or make a new model"
            )
        super().setup(stage)

    def forward(self, pixel_BCHW: Tensor) -> Tensor:  # type: ignore[override] # this model has one input
        """Return the logits of the classes.

        Args:
            pixel_BCHW: Images of pixels from 0 to 255.
        """
        logits: Tensor = self.transformer(normalized(pixel_BCHW, self.transformer.get_parameter("class_vector").dtype))
        return logits

    def loss_sums(self, batch: ImageBatch) -> LossSums:
        """Return the losses of a micro-batch, summed over its images."""
        return self._losses(self(batch.image_BCHW), batch.label_B)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:  # type: ignore[override] # checked
        """Add a batch to the validation loss and accuracy."""
        self._score(batch, self.val_losses, self.val_scores)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:  # type: ignore[override] # checked
        """Add a batch to the test's loss and accuracy."""
        self._score(batch, self.test_losses, self.test_scores)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.log_dict(self.test_scores)

    @property
    def selection(self) -> float:
        """The validation accuracy, which selects the best checkpoint."""
        return float(self.val_scores["accuracy"].compute())

    def describe_selection(self, score: float) -> str:
        """Describe the value that selected the best checkpoint."""
        return f"validation accuracy {100 * score:.1f} %"

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        positions = self.config.max_positions  # an image counts as one token
        return stack_flops(
            self.config,
            outputs=self.num_classes,
            read_tokens=positions * source_tokens,
            predicted_tokens=target_tokens,
            length=positions,
            causal=False,
        )

    def _accuracy(self, prefix: str) -> MetricCollection:
        """Return the share of the images whose class has the highest score."""
        accuracy = MulticlassAccuracy(self.num_classes, average="micro", ignore_index=NO_LABEL)
        return MetricCollection({"accuracy": accuracy}, prefix=prefix, compute_groups=False)

    def _losses(self, logits_BV: Tensor, label_B: Tensor) -> LossSums:
        logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
        options: dict[str, Any] = {"ignore_index": NO_LABEL, "reduction": "sum"}
        return LossSums(
            F.cross_entropy(logits_BV, label_B, label_smoothing=self.label_smoothing, **options),
            F.cross_entropy(logits_BV.detach(), label_B, **options),
        )

    def _score(self, batch: ImageBatch, losses: MetricCollection, scores: MetricCollection) -> None:
        self._checked(batch)
        with enough_memory(REMEDY):
            logits_BV = self(batch.image_BCHW)
        if batch.num_target_tokens:  # a rank may get a batch without images
            losses.update(self._losses(logits_BV, batch.label_B), batch.num_target_tokens)
        scores.update(logits_BV, batch.label_B)
