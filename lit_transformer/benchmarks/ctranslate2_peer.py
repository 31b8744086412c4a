"""The peer `ctranslate2`: an engine in C++ for trained models. It decodes in float32 and in int8."""

import dataclasses

import torch

from lit_transformer.benchmarks.contest import Entry
from lit_transformer.benchmarks.ctranslate2_work import CTranslate2Job, CTranslate2Work
from lit_transformer.benchmarks.decoding import DecodingJob, prepare_model
from lit_transformer.checkpoints.ctranslate2_folder import cached_folder

COMPUTE_TYPES = {"cpu": ("float32", "int8"), "cuda": ("float32", "float16")}


def decoding_entries(job: DecodingJob) -> dict[str, Entry]:
    """Convert the model, and translate with each type.

    Raises:
        UserError: CTranslate2 has no such architecture.
    """
    device = torch.device(job.device)
    folder = cached_folder(prepare_model(job).cpu())
    own = CTranslate2Job(
        folder=str(folder),
        compute_type="float32",
        sources=[[ids[:-1] for ids in batch] for batch in job.sources],
        max_lengths=[max(map(len, batch)) + job.settings.max_extra_length for batch in job.sources],
        beam_size=job.settings.beam_size,
        device=device.type,
        device_index=device.index or 0,
        threads=job.threads,
    )
    return {
        f"ctranslate2 {compute_type}": (CTranslate2Work, dataclasses.replace(own, compute_type=compute_type))
        for compute_type in COMPUTE_TYPES[device.type]
    }
