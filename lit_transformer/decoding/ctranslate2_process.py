"""The process that runs CTranslate2. It never imports torch: with a second OpenMP, both are several times slower.

It reads one request per line from stdin and writes lines to stdout, all in JSON. The first line is the `Greeting`. Each
request is answered by one line per batch, in their order. It ends with its parent, when stdin or stdout is closed.
"""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TypedDict

Found = list[tuple[list[int], float]]
"""The tokens of each hypothesis of a sentence, with EOS if it has ended, and the sum of their scores."""
PATIENCE = 2
"""The search of a sentence ends when this many times the beam size of hypotheses are finished.

It is the exact search's end in nearly all cases: with 1, a few translations differ from those of the plain engine.
"""
NO_LENGTH_PENALTY = 1e-9
"""Scores stay sums. With 0, the search would end with the first hypothesis that is better than the live ones."""


class Request(TypedDict):
    """Sentences to search for."""

    batches: list[list[list[int]]]
    """The source ids of each sentence of each batch, without EOS."""
    max_lengths: list[list[int]]
    """The greatest length of the hypotheses of each sentence, EOS included."""
    min_length: int
    beam_size: int


class Model:
    """A loaded model whose tokens are named by their ids.

    Args:
        folder: A folder of the cache (`checkpoints/ctranslate2_folder.py`).
        compute_type: The type to compute in.
        num_threads: Batches that can be translated at a time.
    """

    def __init__(self, folder: str, compute_type: str, num_threads: int) -> None:
        import ctranslate2  # an optional package, which the parent does not import

        self._translator = ctranslate2.Translator(
            folder, compute_type=compute_type, inter_threads=num_threads, intra_threads=1
        )

    def search(self, sources: Sequence[Sequence[int]], max_lengths: Sequence[int], request: Request) -> list[Found]:
        """Search for the translations of a batch.

        CTranslate2 has one greatest length for a batch. A sentence whose search went on beyond its own one is searched
        for again, together with others of that length. Such a search leaves a longer hypothesis behind.
        """
        found = self._search(sources, max(max_lengths), request)
        late = [
            number
            for number, hypotheses in enumerate(found)
            if max(len(tokens) for tokens, _ in hypotheses) > max_lengths[number]
        ]
        late.sort(key=lambda number: max_lengths[number])
        for max_length, numbers in groupby(late, key=lambda number: max_lengths[number]):
            again = list(numbers)
            shorter = self._search([sources[number] for number in again], max_length, request)
            for number, hypotheses in zip(again, shorter, strict=True):
                found[number] = hypotheses
        return found

    def _search(self, sources: Sequence[Sequence[int]], max_length: int, request: Request) -> list[Found]:
        beam_size = request["beam_size"]
        patience = 1 if beam_size == 1 else PATIENCE
        results = self._translator.translate_batch(
            [list(map(str, source)) for source in sources],
            beam_size=beam_size,
            patience=patience,
            num_hypotheses=patience * beam_size,
            length_penalty=NO_LENGTH_PENALTY,
            return_scores=True,
            return_end_token=True,
            max_input_length=0,  # not limited here
            max_decoding_length=max_length,
            min_decoding_length=request["min_length"],
        )
        return [
            [(list(map(int, tokens)), score) for tokens, score in zip(result.hypotheses, result.scores, strict=True)]
            for result in results
        ]


def serve(folder: str, compute_type: str, num_threads: int) -> None:
    """Answer requests until stdin is closed."""
    model = Model(folder, compute_type, num_threads)
    reply([])
    # CTranslate2 releases Python's lock.
    with ThreadPoolExecutor(num_threads) as pool:
        for line in sys.stdin:
            request: Request = json.loads(line)
            searches = [
                pool.submit(model.search, sources, max_lengths, request)
                for sources, max_lengths in zip(request["batches"], request["max_lengths"], strict=True)
            ]
            for search in searches:
                reply(search.result())


def reply(answer: object) -> None:
    """Write a line. If nobody reads it, this process ends with what its threads still do."""
    try:
        print(json.dumps(answer), flush=True)
    except OSError:
        os._exit(1)


def main() -> None:
    """Serve the model that the arguments name. An error is the last answer."""
    folder, compute_type, num_threads = sys.argv[1:]
    try:
        serve(folder, compute_type, int(num_threads))
    except Exception as error:
        reply(str(error) or type(error).__name__)
        os._exit(1)


if __name__ == "__main__":
    main()
