"""Strings in, strings out: a trained model as a translator. It does not know Lightning."""

import math
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.checkpoints.folder import write_model_folder
from lit_transformer.checkpoints.places import HUB_PREFIX, load_checkpoint
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.attention import Attention, check_layers, look
from lit_transformer.decoding.batches import padded, too_many
from lit_transformer.decoding.beams import Hypothesis, SpecialIds
from lit_transformer.decoding.devices import default_device, usable_device
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.settings import BATCH_TOKENS, BEAM_SIZE, LENGTH_PENALTY, check_search
from lit_transformer.errors import UserError, enough_memory
from lit_transformer.files import expanded, new_folder
from lit_transformer.model.heads import HeadMask, with_heads
from lit_transformer.model.transformer import Transformer

SPECIAL_IDS = SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=(PAD_ID, UNK_ID, BOS_ID))
OUTPUT_MARGIN = 50
"""An output has at most this many pieces more than its input (section 6.1)."""
NOTE_SECONDS = 60.0
"""Time between notes on the progress."""
MAX_SOURCE_PIECES = 1024
"""Longer lines are translated in parts: attention's memory grows with the square of the length."""


class Translation(NamedTuple):
    """One candidate translation of a sentence, on one line, and its score: log-probability over length penalty."""

    text: str
    score: float


def search(
    transformer: Transformer, source_BS: Tensor, *, beam_size: int, length_penalty: float, n_best: int = 1
) -> list[list[Hypothesis]]:
    """Beam search (greedy for `beam_size` 1) for a padded batch of sources, output at most input + 50 pieces."""
    max_length_B = (source_BS != PAD_ID).sum(dim=1) + OUTPUT_MARGIN
    if transformer.config.longest is not None:
        max_length_B = max_length_B.clamp(max=transformer.config.longest)
    return beam_search(
        transformer.step,
        transformer.start(transformer.encode(source_BS), beam_size=beam_size),
        beam_size=beam_size,
        n_best=n_best,
        alpha=length_penalty,
        max_length_B=max_length_B,
        ids=SPECIAL_IDS,
    )


class Translator:
    """A trained model that translates text.

    Args:
        transformer: The model.
        tokenizer: Its vocabulary.
        device: Where to compute, as in `torch.device`.
        source: Language that it translates from; `save_pretrained` needs both.
        target: Language that it translates into.
        step: Optimizer steps that it was trained for.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: Tokenizer,
        *,
        device: str = "cpu",
        source: str = "",
        target: str = "",
        step: int = 0,
    ) -> None:
        self.device = usable_device(device)
        with enough_memory("translate on the cpu"):
            self.transformer = transformer.to(self.device).eval()
        self.tokenizer = tokenizer
        self.source, self.target, self.step = source, target, step

    @classmethod
    def load(cls, place: str | Path, *, device: str | None = None) -> Self:
        """Read a trained model.

        Args:
            place: A checkpoint, a run folder, a folder above runs, a model folder, or `hf:NAME` on the Hugging Face
                Hub.
            device: Where to compute; the first GPU if there is one when left out.
        """
        trained = load_checkpoint(place)
        return cls(
            trained.transformer,
            trained.tokenizer,
            device=default_device() if device is None else device,
            source=trained.source,
            target=trained.target,
            step=trained.step,
        )

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path, *, device: str | None = None) -> Self:
        """Read what `save_pretrained` wrote, from a folder or, if there is none, from the Hugging Face Hub.

        Args:
            folder_or_name: A model folder, or the name of a model on the Hub.
            device: Where to compute; the first GPU if there is one when left out.
        """
        is_here = expanded(folder_or_name).exists()
        return cls.load(folder_or_name if is_here else f"{HUB_PREFIX}{folder_or_name}", device=device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder in Hugging Face's layout, to hand on or to upload (`hf upload NAME FOLDER`).

        Raises:
            UserError: If the folder is there and not empty, or the languages are not known.
        """
        if not self.source or not self.target:
            raise UserError("save_pretrained needs the languages: make the Translator with source= and target=")
        with new_folder(folder) as unfinished:
            write_model_folder(
                unfinished, self.transformer, self.tokenizer, source=self.source, target=self.target, step=self.step
            )

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam_size: int = BEAM_SIZE,
        length_penalty: float = LENGTH_PENALTY,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[str]:
        """The best translation of every text, in the same order; text without any piece gives the empty string.

        Args:
            texts: One sentence each.
            beam_size: Live hypotheses a sentence; 1 is greedy search.
            length_penalty: GNMT's alpha.
            batch_tokens: Padded source pieces that are translated together.
        """
        candidates = self.candidates(
            texts, beam_size=beam_size, length_penalty=length_penalty, n_best=1, batch_tokens=batch_tokens
        )
        return [best[0].text for best in candidates]

    def candidates(
        self,
        texts: Sequence[str],
        *,
        beam_size: int = BEAM_SIZE,
        length_penalty: float = LENGTH_PENALTY,
        n_best: int,
        batch_tokens: int = BATCH_TOKENS,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """The `n_best` translations of every text, best first; otherwise as `translate`.

        A text of more than `MAX_SOURCE_PIECES` pieces is translated in parts, which has no n-best list: its single
        candidate joins the best translations of the parts. stderr says so, counting texts from `first_line`.
        """
        check_search(beam_size=beam_size, length_penalty=length_penalty, n_best=n_best, batch_tokens=batch_tokens)
        encoded = self.tokenizer.encode(texts)
        parts = [list(_parts(ids, self._longest())) for ids in encoded]
        for number, text_parts in enumerate(parts, start=first_line):
            if len(text_parts) > 1:
                print(
                    f"note: line {number} is too long for one piece of work: translated in {len(text_parts):,} parts",
                    file=sys.stderr,
                )
        found = self._search(
            [part for text in parts for part in text],
            beam_size=beam_size,
            length_penalty=length_penalty,
            n_best=n_best,
            batch_tokens=batch_tokens,
        )
        rest = map(self._in_words, found)
        return [_joined([next(rest) for _ in text]) for text in parts]

    def attention(
        self,
        text: str,
        target: str | None = None,
        *,
        layers: Collection[int] | None = None,
        beam_size: int = BEAM_SIZE,
        length_penalty: float = LENGTH_PENALTY,
    ) -> Attention:
        """What the model attends to while it says `target`, or its own best translation where that is left out.

        The weights are those that translating computes, step by step, along this very target.

        Args:
            text: One sentence. It may be empty.
            target: Its translation.
            layers: The layers to look at, from 0; all when left out. What is not asked for takes no memory.
            beam_size: As for `translate`.
            length_penalty: As for `translate`.
        """
        targets = None if target is None else [target]
        [attention] = self.attentions(
            [text], targets, layers=layers, beam_size=beam_size, length_penalty=length_penalty
        )
        return attention

    def attentions(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        layers: Collection[int] | None = None,
        beam_size: int = BEAM_SIZE,
        length_penalty: float = LENGTH_PENALTY,
        batch_tokens: int = BATCH_TOKENS,
        first_line: int = 1,
    ) -> list[Attention]:
        """`attention` of many sentences, in the same order; errors count them from `first_line`."""
        check_search(beam_size=beam_size, length_penalty=length_penalty, n_best=1, batch_tokens=batch_tokens)
        check_layers(layers, self.transformer.config)
        sources = [[*ids, EOS_ID] for ids in self._encode(texts, first_line)]
        if targets is None:
            found = self._search(
                # Nothing is translated as nothing.
                [ids for ids in sources if len(ids) > 1],
                beam_size=beam_size,
                length_penalty=length_penalty,
                n_best=1,
                batch_tokens=batch_tokens,
            )
            best = (candidates[0].tokens for candidates in found)
            said = [next(best) if len(ids) > 1 else [] for ids in sources]
        elif len(targets) != len(texts):
            raise UserError(f"{len(texts)} texts have {len(targets)} targets: give one for each, in the same order")
        else:
            said = self._encode(targets, first_line)
        return look(self.transformer, self.tokenizer, sources, said, layers=layers, batch_tokens=batch_tokens)

    def with_heads(self, mask: HeadMask) -> Self:
        """The same translator without the heads outside of the mask (`HeadMask`), to see what they are for."""
        return type(self)(
            with_heads(self.transformer, mask),
            self.tokenizer,
            device=str(self.device),
            source=self.source,
            target=self.target,
            step=self.step,
        )

    def _encode(self, texts: Sequence[str], first_line: int) -> list[list[int]]:
        encoded = self.tokenizer.encode(texts)
        for number, ids in enumerate(encoded, start=first_line):
            if len(ids) >= self._longest():
                raise UserError(
                    f"line {number} has {len(ids):,} pieces, too many to look at (at most {self._longest() - 1:,}): "
                    "cut it into sentences"
                )
        return encoded

    def _search(
        self, sources: list[list[int]], *, beam_size: int, length_penalty: float, n_best: int, batch_tokens: int
    ) -> list[list[Hypothesis]]:
        """The hypotheses of every source, which ends with EOS."""
        found: list[list[Hypothesis]] = [[] for _ in sources]
        done, noted = 0, time.monotonic()
        for batch in batches_by_length([len(ids) for ids in sources], batch_tokens):
            source_BS = padded([sources[index] for index in batch]).to(self.device)
            with torch.inference_mode(), enough_memory(f"lower beam_size {beam_size} or {too_many(source_BS)}"):
                hypotheses = search(
                    self.transformer, source_BS, beam_size=beam_size, length_penalty=length_penalty, n_best=n_best
                )
            for index, candidates in zip(batch, hypotheses, strict=True):
                if not candidates or any(math.isnan(candidate.score) for candidate in candidates):
                    raise UserError(
                        "the model's scores are not numbers: its training diverged; take an earlier checkpoint"
                    )
                found[index] = candidates
            done += len(batch)
            if done < len(sources) and time.monotonic() - noted > NOTE_SECONDS:
                noted = time.monotonic()
                print(f"note: {done:,} of {len(sources):,} sentences or parts are translated", file=sys.stderr)
        return found

    def _in_words(self, candidates: list[Hypothesis]) -> list[Translation]:
        texts = self.tokenizer.decode([candidate.tokens for candidate in candidates])
        # A vocabulary can hold characters that end a line.
        return [
            Translation(" ".join(text.splitlines()), candidate.score)
            for text, candidate in zip(texts, candidates, strict=True)
        ]

    def _longest(self) -> int:
        longest = self.transformer.config.longest
        return MAX_SOURCE_PIECES if longest is None else min(MAX_SOURCE_PIECES, longest)


def _parts(ids: list[int], longest: int) -> Iterator[list[int]]:
    """A text's pieces in parts that fit the model with their EOS; no part for a text without pieces."""
    size = longest - 1
    for begin in range(0, len(ids), size):
        yield [*ids[begin : begin + size], EOS_ID]


def _joined(parts: list[list[Translation]]) -> list[Translation]:
    if len(parts) == 1:
        return parts[0]
    return [Translation(" ".join(part[0].text for part in parts), sum(part[0].score for part in parts))]
