"""What callbacks and commands ask of a model beside its training, and how it is read from a checkpoint."""

import math
from typing import Any, ClassVar, Self

import lightning as L
from torch import nn

from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.loading import saved_arguments


class DescribedModel(L.LightningModule):
    """Describes the model that a subclass trains."""

    kind: ClassVar[str | None] = None
    """The name of a descendant (`checkpoints.descendants`). None for the encoder-decoder that translates."""
    transformer: nn.Module
    """The model."""

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **changes: Any,
    ) -> Self:
        """Read a model to train further.

        Args:
            checkpoint_path: A checkpoint, a run folder, or a folder above runs.
            map_location: Lightning's, like the next three.
            hparams_file: A YAML file with other arguments.
            strict: Whether all weights must be there.
            weights_only: Whether only plain data are read. A checkpoint with other data is refused in any case.
            changes: Arguments to change, such as `label_smoothing`, also those of `TransformerConfig`, such as
                `dropout`.

        Raises:
            UserError: There is no checkpoint that can be read, it holds a model of another kind, or there is no such
                argument.
        """
        path = find_checkpoint(checkpoint_path)
        arguments = saved_arguments(cls, cls.kind, read_checkpoint(path, mmap=True), changes)
        return super().load_from_checkpoint(path, map_location, hparams_file, strict, weights_only, **arguments)

    @property
    def config(self) -> TransformerConfig:
        """The architecture."""
        config: TransformerConfig = self.transformer.config  # type: ignore[assignment] # all models have it
        return config

    @property
    def compiles(self) -> bool:
        """Whether forward pass and loss of training are compiled."""
        return False

    @property
    def tokenize(self) -> str | None:
        """The tokenizer of the scores, if the user has chosen one."""
        return None

    @property
    def facts(self) -> dict[str, str]:
        """What validation depends on and all ranks must have in common, by name. After `setup`."""
        return {}

    def find_warnings(self, data: Any) -> list[str]:  # for translation
        """Return what would make the scores of prepared data misleading, each with its remedy."""
        return []

    def describe_selection(self, score: float) -> str:
        """Describe the value that selected the best checkpoint."""
        return f"validation loss {-math.log(score):.3f}"

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        """Return the FLOPs of all matrix products of training. The backward pass takes twice those of the forward pass.

        Args:
            source_tokens: Tokens that are read in the whole run, without padding.
            target_tokens: Tokens that are predicted in the whole run.
            lengths: Mean tokens of a source and of a target sentence. The cost of attention grows with them.
        """
        raise NotImplementedError

    def without_memory(self) -> nn.Module:
        """Return a model like `transformer` whose weights have names, shapes and no memory."""
        raise NotImplementedError
