"""The state of the process that trains. It may be a notebook's or a server's, and gets it back."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from lit_transformer.cli.frame import torch_kept


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Give back what training changes in its process.

    That is the levels, filters and streams of loggers, the filters of warnings, the states of random
    number generators, torch's threads, and its choice of kernels.
    """
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    levels, filters = [logger.level for logger in loggers], [[*logger.filters] for logger in loggers]
    handlers = [each for logger in loggers for each in logger.handlers if type(each) is logging.StreamHandler]
    streams = [handler.stream for handler in handlers]
    debug_mode = torch.get_deterministic_debug_mode()
    benchmark, cudnn_deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    # Asking a GPU for its state would start CUDA, and tokenizing forks processes afterwards.
    with torch_kept(), warnings.catch_warnings(), isolate_rng(include_cuda=torch.cuda.is_initialized()):
        try:
            yield
        finally:
            for logger, level, former in zip(loggers, levels, filters, strict=True):
                logger.setLevel(level)
                logger.filters[:] = former
            for handler, stream in zip(handlers, streams, strict=True):
                handler.stream = stream
            torch.set_deterministic_debug_mode(debug_mode)
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, cudnn_deterministic
