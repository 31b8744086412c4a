"""A process that searches for another one, on one thread (`python -m lit_transformer.decoding.worker_process`).

It reads a pickled `Model` from stdin, then `Request`s, and writes pickled `Reply`s to stdout. It ends when stdin ends,
so also when the process that started it is killed.
"""

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch

from lit_transformer.checkpoints.trained_model import without_memory
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.errors import UserError
from lit_transformer.machine import prepare_process
from lit_transformer.model.config import TransformerConfig
from lit_transformer.search_settings import SearchSettings
from lit_transformer.signals import leave_signals_to_parent


class Model(NamedTuple):
    """All that a process needs to search as the one that starts it does."""

    config: TransformerConfig
    vocab_size: int
    source_vocab_size: int | None
    weights: Path
    """The file of the model's weights. All processes map it into memory and share it."""
    batch_tokens: int
    num_processes: int
    precision: str
    """`torch.get_float32_matmul_precision()`, because products must round alike."""

    def search(self) -> TransformerSearch:
        """The plain engine with this model."""
        torch.set_float32_matmul_precision(self.precision)
        transformer = without_memory(self.config, self.vocab_size, self.source_vocab_size)
        transformer.load_state_dict(torch.load(self.weights, mmap=True, weights_only=True), assign=True)
        return TransformerSearch(transformer.eval().requires_grad_(False), self.batch_tokens, self.num_processes)


class Request(NamedTuple):
    """A batch to search for."""

    sources: list[list[int]]
    settings: SearchSettings
    numbers: list[int]
    """As for `Engine.search`."""

    @property
    def num_tokens(self) -> int:
        """Its source tokens."""
        return sum(map(len, self.sources))


Reply = list[list[Hypothesis]] | UserError
"""What was found, or why nothing can be."""


def main() -> None:
    """Search until stdin ends."""
    # A terminal signals all its processes. The parent ends this one.
    leave_signals_to_parent()
    prepare_process()
    torch.set_num_threads(1)
    # If the parent is killed, the pipes break.
    with suppress(EOFError, BrokenPipeError), os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what libraries print must not come between the replies
        answer(sys.stdin.buffer, replies)


def answer(requests: BinaryIO, replies: BinaryIO) -> None:
    """Reply to each request. The first reply means that the model is loaded.

    Raises:
        EOFError: There are no more requests.
    """
    search = pickle.load(requests).search()
    reply: Reply = []
    while True:
        pickle.dump(reply, replies)
        replies.flush()
        request = pickle.load(requests)
        try:
            reply = search.search(*request)
        except UserError as error:
            reply = error


if __name__ == "__main__":
    main()
