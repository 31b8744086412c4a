"""The engines by name. What is installed never changes translations, so the default is always the plain one."""

from copy import deepcopy

import torch

from lit_transformer.checkpoints.ctranslate2_folder import cached_folder
from lit_transformer.decoding.ctranslate2_search import CTranslate2Search
from lit_transformer.decoding.devices import default_batch_tokens, enough_memory
from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.settings import BFLOAT16, FLOAT32, EngineSettings
from lit_transformer.decoding.static_search import StaticSearch
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.decoding.workers import WorkerSearch, default_workers
from lit_transformer.errors import UserError
from lit_transformer.machine import processor
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import print_note


def make_engine(settings: EngineSettings, transformer: Transformer) -> Engine:
    """Make the engine that the settings name.

    Args:
        settings: The engine, and how it computes.
        transformer: The model, on the device that it computes on.

    Raises:
        UserError: The engine cannot be used here or with this model, or it has no such type.
    """
    device = transformer.embedding.weight.device
    batch_tokens = num_batch_tokens(settings, device)
    if settings.engine == "ctranslate2":
        if device.type != "cpu":
            raise UserError(f"engine ctranslate2 is for CPUs, and the device is {device}: give device cpu")
        return CTranslate2Search(
            cached_folder(transformer),
            transformer.config,
            compute_type=settings.compute_type,
            batch_tokens=batch_tokens,
            num_threads=num_workers(settings, device),
        )
    if settings.engine == "cuda_graphs" and device.type != "cuda":
        raise UserError(f"engine cuda_graphs needs an NVIDIA GPU, and the device is {device}: choose engine torch")
    if settings.compute_type == BFLOAT16:
        transformer = _in_bfloat16(transformer, device)
    elif settings.compute_type != FLOAT32:
        types = f"{FLOAT32} and {BFLOAT16}"
        raise UserError(f"compute_type is {settings.compute_type!r}: engine {settings.engine} has {types}")
    if settings.engine == "cuda_graphs":
        return StaticSearch(transformer, batch_tokens)
    workers = num_workers(settings, device)
    if workers == 1:
        return TransformerSearch(transformer, batch_tokens)
    return WorkerSearch(transformer, batch_tokens, workers)


def _in_bfloat16(transformer: Transformer, device: torch.device) -> Transformer:
    """A copy with weights in bfloat16. The search still adds up scores in float32."""
    features = processor().features
    if device.type == "cpu" and features and not processor().has_bfloat16:
        print_note("this processor has no instructions for bfloat16, so compute_type bfloat16 is slower than float32")
    with enough_memory(f"set compute_type to {FLOAT32}"):
        return deepcopy(transformer).bfloat16()


def num_batch_tokens(settings: EngineSettings, device: torch.device) -> int:
    """Padded source tokens per batch, at most."""
    return default_batch_tokens(device) if settings.batch_tokens is None else settings.batch_tokens


def num_workers(settings: EngineSettings, device: torch.device) -> int:
    """The most searches at a time: processes of engine torch, this one included, or threads of ctranslate2.

    Raises:
        UserError: There are to be several, and the device is not the CPU.
    """
    if device.type == "cpu":
        return default_workers() if settings.workers is None else settings.workers
    if settings.workers not in (None, 1):
        raise UserError(f"workers is {settings.workers}: it must be 1 on {device}, because only a CPU has several")
    return 1
