"""The peer `marian`: the Transformer of Hugging Face's `transformers` that computes what ours does.

Its attention is the one that is written out (`eager`), which is faster on CPUs than its default.

Legend: B batch, S source length, T target length.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from lit_transformer.batch import EOS_ID, NEVER_PREDICTED, PAD_ID, pad
from lit_transformer.benchmarks.contest import Entry
from lit_transformer.benchmarks.decoding import DecodingJob, DecodingWork, prepare_model
from lit_transformer.benchmarks.torch_work import set_up_torch
from lit_transformer.benchmarks.training import TrainingJob, TrainingLoop, prepare_peer
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.marian import to_marian
from lit_transformer.pretrained.marian_folder import marian_config


class MarianPeer(nn.Module):
    """Marian with the weights of ours, which must have an architecture that Marian has.

    Args:
        ours: The model.
        max_positions: The longest sequence.
    """

    def __init__(self, ours: Transformer, *, max_positions: int) -> None:
        super().__init__()
        self.model: Any = marian_of(ours, max_positions=max_positions)

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        """Logits under teacher forcing, batch x target length x vocabulary."""
        mask_BS = source_BS != PAD_ID
        return self.model(input_ids=source_BS, attention_mask=mask_BS, decoder_input_ids=target_input_BT).logits

    @torch.inference_mode()
    def translate(self, source_BS: Tensor, *, beam_size: int, max_length: int) -> list[list[int]]:
        """The best hypothesis of each sentence, without EOS.

        Its length penalty is length^p, which differs from GNMT's. Without any, both search for the same.
        """
        options: dict[str, Any] = {"early_stopping": "never", "length_penalty": 0.0} if beam_size > 1 else {}
        rows = self.model.generate(
            input_ids=source_BS,
            attention_mask=source_BS != PAD_ID,
            num_beams=beam_size,
            do_sample=False,
            max_new_tokens=max_length,
            suppress_tokens=list(NEVER_PREDICTED),
            **options,
        )
        return [_content(row[1:]) for row in rows.tolist()]


def marian_of(ours: Transformer, *, max_positions: int) -> MarianMTModel:
    """Marian with the weights of ours.

    Raises:
        UserError: If Marian has no such architecture.
    """
    theirs: Any = MarianMTModel(MarianConfig(**marian_config(ours) | {"max_position_embeddings": max_positions}))
    theirs.to(ours.embedding.weight.dtype).set_attn_implementation("eager")
    # Sinusoids and copies of the embedding are not among the weights.
    theirs.load_state_dict(to_marian(ours.state_dict(), ours.config), strict=False)
    theirs.tie_weights()
    return theirs


def _content(ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in (EOS_ID, PAD_ID)), len(ids))
    return list(ids[:end])


class MarianWork(DecodingWork):
    """Decodes batch by batch, as a script does."""

    def __init__(self, model: MarianPeer, job: DecodingJob) -> None:
        super().__init__(job)
        self._model, self._job = model, job

    def run(self, batches: Sequence[int]) -> int:
        return self.keep(batches, [self._translate(self._job.sources[number]) for number in batches])

    def _translate(self, sources: list[list[int]]) -> list[list[int]]:
        source_BS = torch.from_numpy(pad(sources)).to(self._job.device)
        settings = self._job.settings
        longest = source_BS.shape[1] + settings.max_extra_length
        return self._model.translate(source_BS, beam_size=settings.beam_size, max_length=longest)


def training_entries(job: TrainingJob) -> dict[str, Entry]:
    """The contestants that train."""
    return {"marian": (prepare_training, job)}


def decoding_entries(job: DecodingJob) -> dict[str, Entry]:
    """The contestants that decode."""
    return {"marian": (prepare_decoding, job)}


def prepare_training(job: TrainingJob) -> TrainingLoop:
    """The peer in a plain loop."""
    longest = max(side.shape[1] for sides in job.batches for side in sides)
    return prepare_peer(job, lambda ours: MarianPeer(ours, max_positions=longest))


def prepare_decoding(job: DecodingJob) -> MarianWork:
    """The peer with the weights of ours."""
    set_up_torch(job.device, threads=job.threads, is_plain=job.is_plain)
    ours = prepare_model(job)
    longest = max(len(ids) for batch in job.sources for ids in batch) + job.settings.max_extra_length + 1
    peer = MarianPeer(ours, max_positions=longest)
    return MarianWork(peer.to(job.device, getattr(torch, job.engine.compute_type)).eval(), job)
