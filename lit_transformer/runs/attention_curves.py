"""Attention during training: pictures and entropies of a few validation sentences, in TensorBoard.

Legend: H heads, L query length, M key length.
"""

from typing import TYPE_CHECKING, cast

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lit_transformer.batch import EOS_ID
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.decoding.attention import Attention, compute_attention, name_unknown
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.loggers import holds_pictures, write_histogram, write_picture
from lit_transformer.runs.parts import data_of, model_of
from lit_transformer.training.translation import LitTransformer

if TYPE_CHECKING:
    from lit_transformer.analysis.figures import LiveMeanMap

LONGEST = 40
"""Tokens of the longest sentence that is drawn. More are not readable in TensorBoard."""


class AttentionCurves(Callback):
    """The attention of the first validation sentences, in TensorBoard.

    At each validation this callback draws the cross-attention, as the mean of all heads, and the entropy of every head.
    The target is the reference, so that pictures of different steps show the same words.

    Args:
        sentences: Number of sentences. 0 draws nothing.
    """

    def __init__(self, sentences: int = 2) -> None:
        if sentences < 0:
            raise UserError(f"sentences is {sentences}: it must be at least 0")
        self.sentences = sentences
        self._pictures: list[LiveMeanMap] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._pictures.clear()  # the data may have changed

    @CURVES_MAY_FAIL
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Other strategies split the model over devices.
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        holders = [logger for logger in trainer.loggers if holds_pictures(logger)]
        if not (whole and trainer.is_global_zero and holders and self.sentences):
            return
        # Imported here, because matplotlib takes a second.
        from lit_transformer.analysis.entropy import head_entropy
        from lit_transformer.analysis.figures import LiveMeanMap
        from lit_transformer.analysis.maps import KINDS, maps_of

        attentions = self._attentions(trainer)
        if not self._pictures:
            self._pictures = [LiveMeanMap(attention, "cross") for attention in attentions]
        for number, (picture, attention) in enumerate(zip(self._pictures, attentions, strict=True), start=1):
            pixels = picture.pixels(attention)
            for logger in holders:
                write_picture(logger, f"val_attention/cross_{number}", pixels, trainer.global_step)
        for kind in KINDS if attentions else ():
            entropies = [
                head_entropy(weights_HLM)
                for attention in attentions
                for weights_HLM in maps_of(attention, kind).layers.values()
            ]
            for logger in holders:
                write_histogram(logger, f"val_attention_entropy/{kind}", np.concatenate(entropies), trainer.global_step)

    def _attentions(self, trainer: L.Trainer) -> list[Attention]:
        data = cast(TranslationData, data_of(trainer))
        transformer = cast(LitTransformer, model_of(trainer)).transformer
        pairs = data.validation_pairs(self.sentences)
        sources, targets = (
            tokenizer.encode([pair[side] for pair in pairs]) for side, tokenizer in enumerate(data.vocabularies)
        )
        longest = min(LONGEST, transformer.config.longest or LONGEST)
        short = [row for row in range(len(pairs)) if max(len(sources[row]), len(targets[row])) < longest]
        attentions = compute_attention(
            transformer,
            data.vocabularies,
            [[*sources[row], EOS_ID] for row in short],
            [[*targets[row], EOS_ID] for row in short],
            layers=None,
            batch_tokens=BATCH_TOKENS,
        )
        return [
            name_unknown(attention, *pairs[row], data.vocabularies)
            for attention, row in zip(attentions, short, strict=True)
        ]
