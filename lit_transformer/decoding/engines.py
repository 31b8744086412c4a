"""The engines by name. What is installed never changes translations, so the default is always the plain one."""

import torch

from lit_transformer.decoding.devices import default_batch_tokens
from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.settings import FLOAT32, EngineSettings
from lit_transformer.decoding.static_search import StaticSearch
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.decoding.workers import WorkerSearch, default_workers
from lit_transformer.errors import UserError
from lit_transformer.model.transformer import Transformer


def make_engine(settings: EngineSettings, transformer: Transformer) -> Engine:
    """Make the engine that the settings name.

    Args:
        settings: The engine, and how it computes.
        transformer: The model, on the device that it computes on.

    Raises:
        UserError: The engine cannot be used here, or it has no such type.
    """
    device = transformer.embedding.weight.device
    batch_tokens = default_batch_tokens(device) if settings.batch_tokens is None else settings.batch_tokens
    if settings.compute_type != FLOAT32:
        raise UserError(f"compute_type is {settings.compute_type!r}: engine {settings.engine} has {FLOAT32}")
    if settings.engine == "cuda_graphs":
        if device.type != "cuda":
            raise UserError(f"engine cuda_graphs needs an NVIDIA GPU, and the device is {device}: choose engine torch")
        return StaticSearch(transformer, batch_tokens)
    workers = num_workers(settings, device)
    if workers == 1:
        return TransformerSearch(transformer, batch_tokens)
    return WorkerSearch(transformer, batch_tokens, workers)


def num_workers(settings: EngineSettings, device: torch.device) -> int:
    """The most processes that search, this one included.

    Raises:
        UserError: There are to be several, and the device is not the CPU.
    """
    if device.type == "cpu":
        return default_workers() if settings.workers is None else settings.workers
    if settings.workers not in (None, 1):
        raise UserError(f"workers is {settings.workers}: it must be 1 on {device}, because only a CPU has several")
    return 1
