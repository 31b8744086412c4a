"""CTranslate2 in a process without torch: with the OpenMP of both in one process, both are several times slower."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CTranslate2Job:
    """What CTranslate2 translates.

    Args:
        folder: The converted model, whose tokens are named by their ids.
        compute_type: The type to compute in.
        sources: Ids without EOS, batch by batch.
        max_lengths: The greatest length of the outputs of each batch.
        beam_size: Live hypotheses per sentence.
        device: `cpu` or `cuda`.
        device_index: Which GPU.
        threads: Batches that are translated at a time, each by one thread.
    """

    folder: str
    compute_type: str
    sources: Sequence[list[list[int]]]
    max_lengths: Sequence[int]
    beam_size: int
    device: str
    device_index: int
    threads: int


class CTranslate2Work:
    """Translates batches, several at a time."""

    def __init__(self, job: CTranslate2Job) -> None:
        import ctranslate2  # an optional package, which the process that starts this one need not load

        self.threads = job.threads
        self._job = job
        self._tokens = [[list(map(str, ids)) for ids in batch] for batch in job.sources]
        self._outputs = dict[int, list[list[int]]]()
        self._translator = ctranslate2.Translator(
            job.folder,
            device=job.device,
            device_index=job.device_index,
            compute_type=job.compute_type,
            inter_threads=job.threads,
            intra_threads=1,
        )

    def run(self, batches: Sequence[int]) -> int:
        started = [self._translate(number) for number in batches]
        for number, results in zip(batches, started, strict=True):
            hypotheses = (result.result().hypotheses[0] for result in results)
            self._outputs[number] = [list(map(int, tokens)) for tokens in hypotheses]
        return sum(len(ids) for number in batches for ids in self._outputs[number])

    def _translate(self, number: int) -> Any:
        return self._translator.translate_batch(
            self._tokens[number],
            beam_size=self._job.beam_size,
            length_penalty=0,
            max_input_length=0,
            max_decoding_length=self._job.max_lengths[number],
            asynchronous=True,
        )

    def wake(self, batch: int) -> None:
        """Do nothing."""

    def rest(self) -> None:
        """Do nothing."""

    def facts(self) -> dict[str, Any]:
        return {"outputs": self._outputs}
