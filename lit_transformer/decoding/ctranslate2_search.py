"""Token ids in, hypotheses out: CTranslate2's beam search, which is fast on CPUs.

It ends a search by the number of finished hypotheses, and its length penalty is another one. So it returns twice as
many hypotheses as the beam has places, with their sums, and they are ranked by GNMT's penalty here. Scores leave out
the tokens that are never chosen (`checkpoints/ctranslate2_folder.py`), so they are slightly higher.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import torch

from lit_transformer.batch import EOS_ID
from lit_transformer.checkpoints.ctranslate2_folder import NUM_POSITIONS, num_positions
from lit_transformer.data.batching import batches_by_length
from lit_transformer.decoding.candidates import MAX_SOURCE_TOKENS
from lit_transformer.decoding.child_process import Process, start_module
from lit_transformer.decoding.ctranslate2_process import Found, Request
from lit_transformer.decoding.engine import FoundBatches, OnBatch, checked, gathered, refuse_sampling
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import length_penalty
from lit_transformer.decoding.transformer_search import limits
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.search_settings import SearchSettings

MAX_EXTRA_LENGTH = NUM_POSITIONS - MAX_SOURCE_TOKENS
"""With a larger `max_extra_length`, the model could lack positions."""
PROCESS = "lit_transformer.decoding.ctranslate2_process"


class CTranslate2Search:
    """The engine `ctranslate2`: a process of its own searches, which ends with this object.

    Args:
        folder: The model folder of CTranslate2.
        config: The model's architecture.
        compute_type: The type that it computes in.
        batch_tokens: Padded source tokens per batch. It changes speed and memory, not the hypotheses.
        num_threads: Batches that are searched for at a time.

    Raises:
        UserError: If CTranslate2 cannot compute in this type here, or cannot read the model.
    """

    def __init__(
        self, folder: Path, config: TransformerConfig, *, compute_type: str, batch_tokens: int, num_threads: int
    ) -> None:
        self._config = config
        self._batch_tokens = batch_tokens
        self._num_threads = num_threads
        self._arguments = (str(folder), compute_type, str(num_threads))
        self._lock = Lock()
        self._process = _Process(self._arguments)

    def search(
        self,
        sources: Sequence[list[int]],
        settings: SearchSettings,
        numbers: Sequence[int] | None = None,  # noqa: ARG002 # for sampling
        *,
        on_batch: OnBatch = lambda _: None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`."""
        refuse_sampling(settings, "ctranslate2")
        with self._lock:
            return gathered(len(sources), self._search(sources, settings), on_batch)

    def _search(self, sources: Sequence[list[int]], settings: SearchSettings) -> FoundBatches:
        if not sources:
            return
        for name in ("length_normalization", "stopping", "max_length", "unknown"):
            if (value := settings.changes.get(name)) is not None:
                raise UserError(f"{name} is {value!r}: engine ctranslate2 lacks this; take engine torch")
        if settings.max_extra_length > MAX_EXTRA_LENGTH:
            raise UserError(
                f"max_extra_length is {settings.max_extra_length}: engine ctranslate2 takes at most {MAX_EXTRA_LENGTH}"
            )
        lengths = [len(ids) for ids in sources]
        max_lengths = limits(torch.tensor(lengths), settings, longest=num_positions(self._config)).tolist()
        # Every thread gets some of the sentences.
        share = math.ceil(sum(lengths) / self._num_threads)
        batches = list(batches_by_length(lengths, min(self._batch_tokens, share)))
        request = Request(
            batches=[[sources[index][:-1] for index in batch] for batch in batches],
            max_lengths=[[max_lengths[index] for index in batch] for batch in batches],
            min_length=settings.min_length,
            beam_size=settings.beam_size,
        )
        if self._process.has_ended:
            self._process = _Process(self._arguments)
        for batch, answer in zip(batches, self._process.ask(request, len(batches)), strict=True):
            yield batch, checked([_ranked(each, settings) for each in answer])


def _ranked(found: Found, settings: SearchSettings) -> list[Hypothesis]:
    """The best hypotheses by GNMT's length penalty. Those that were cut come last."""
    alpha = settings.length_penalty
    hypotheses = [
        # CTranslate2 does not return the scores of tokens.
        Hypothesis(
            [token for token in tokens if token != EOS_ID],
            total / length_penalty(len(tokens), alpha),
            [math.nan] * len(tokens),
        )
        for tokens, total in found
    ]
    hypotheses.sort(key=lambda each: (not each.finished, -each.score))
    return hypotheses[: settings.num_returned]


class _Process:
    """The running process. It is ended if this object is no longer used, or the program ends or is killed."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = start_module(PROCESS, *arguments)
        self._compute_type = arguments[1]
        self.end = finalize(self, _end, self._process)
        self._read()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, by itself or by `end`."""
        return self._process.poll() is not None

    def ask(self, request: Request, num_answers: int) -> Iterator[list[Found]]:
        """Send a request and yield the answers. If not all of them are taken, the process is ended."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            for _ in range(num_answers):
                yield self._read()
        except BrokenPipeError:
            self._read()
        except BaseException:
            self.end()
            raise

    def _read(self) -> Any:
        """The next answer. Raises UserError if it is an error, or if there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            status = self._process.wait()
            raise UserError(
                f"the process of ctranslate2 has ended with status {status}: if memory is short, lower batch_tokens, "
                "beam_size or workers"
            )
        answer = json.loads(line)
        if isinstance(answer, str):
            reason = " ".join(answer.split())
            raise UserError(f"ctranslate2 with compute_type {self._compute_type!r}: {reason}")
        return answer


def _end(process: Process) -> None:
    process.kill()
    process.communicate()
