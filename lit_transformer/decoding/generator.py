"""Prompts in, continuations out: a trained GPT as a writer of text. It does not know Lightning."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from lit_transformer.batch import NEVER_PREDICTED
from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.checkpoints.format import USES
from lit_transformer.data.text_tokenizer import SpecialIds, TextTokenizer
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding import scoring
from lit_transformer.decoding.devices import default_batch_tokens, default_device, moved, usable_device
from lit_transformer.decoding.given_texts import check_string, listed_texts
from lit_transformer.decoding.gpt_search import NO_TOKEN, GPTSearch, most_new_tokens
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.errors import UserError
from lit_transformer.model.gpt import GPT
from lit_transformer.notes import first_few, print_note
from lit_transformer.pretrained.places import load_pretrained
from lit_transformer.search_settings import SamplingSettings, SearchSettings


class Generation(NamedTuple):
    """A text that a model has continued."""

    text: str
    """The prompt and its continuation, as the model reads them."""
    continuation: str
    score: float
    """The log-probability of the continuation, for a beam search over the length penalty."""
    finished: bool
    """Whether the model ended it. If not, it was cut."""


class TextGenerator:
    """A GPT that continues text.

    Args:
        gpt: The model. If it is on another device, the generator has a copy of it.
        tokenizer: Its vocabulary.
        special: The special ids of the vocabulary.
        device: Where to compute, as in `torch.device`.
        batch_tokens: The most tokens of prompts and continuations that are computed together, if a prompt has not more.
            It changes speed and memory, not the texts. By default, 2,048 on a CPU, and more on a GPU.

    Raises:
        UserError: If the device cannot be used, or the vocabulary is not the model's.
    """

    def __init__(
        self,
        gpt: GPT,
        tokenizer: TextTokenizer,
        special: SpecialIds,
        *,
        device: str = "cpu",
        batch_tokens: int | None = None,
    ) -> None:
        if tokenizer.vocab_size > gpt.vocab_size:
            raise UserError(f"tokenizer has {tokenizer.vocab_size} tokens, and the model has {gpt.vocab_size}")
        self.device = usable_device(device)
        self.gpt = moved(gpt, self.device)
        self.tokenizer, self.special = tokenizer, special
        self.batch_tokens = default_batch_tokens(self.device) if batch_tokens is None else batch_tokens

    @classmethod
    def load(cls, place: str | Path, *, device: str | None = None, batch_tokens: int | None = None) -> Self:
        """Read a trained GPT.

        Args:
            place: A checkpoint, a run folder, a folder above runs, or `hf:FOLDER_OR_NAME` of a GPT-2.
            device: Where to compute. By default the first GPU if there is one, else the CPU.
            batch_tokens: As for `TextGenerator`.

        Raises:
            UserError: If there is no model that can be read, or it does not generate text.
        """
        trained = load_pretrained(place)
        if not isinstance(trained, TrainedDescendant):
            raise UserError(f"{trained.path} is a model that translates: use python -m lit_transformer.translate")
        if not isinstance(trained.model, GPT):
            kind = f"a model of kind {trained.name}"
            raise UserError(f"{trained.path} is {kind}, which does not continue text: {USES[trained.name]}")
        if trained.tokenizer is None:
            raise UserError(f"{trained.path} has no vocabulary, so it cannot read text: make a TextGenerator with one")
        device = default_device() if device is None else device
        return cls(trained.model, trained.tokenizer, trained.special, device=device, batch_tokens=batch_tokens)

    def generate(
        self,
        prompts: str | Iterable[str],
        settings: SamplingSettings | SearchSettings = SamplingSettings(),
        *,
        max_new_tokens: int = 50,
        num_samples: int = 1,
        first_line: int = 1,
    ) -> list[list[Generation]]:
        """Continue texts.

        Args:
            prompts: One text or many. With an empty one, the model writes a text of its own.
            settings: How to sample. `SearchSettings` search for the most probable continuations, by beam search, or by
                greedy search with `beam_size` 1.
            max_new_tokens: A continuation has at most this many tokens, EOS included.
            num_samples: Continuations per prompt: samples, or the best ones of the beam.
            first_line: The number of the first prompt, which its samples depend on, and which notes and errors name.

        Returns:
            The continuations of each prompt: samples in the order in which they are drawn, or the best one first.

        Raises:
            UserError: If a prompt is not a string or too long, a value is out of range, the memory does not suffice, or
                the model's scores are not numbers.
        """
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
        if isinstance(settings, SamplingSettings):
            settings = SearchSettings(sampling=settings, n_best=num_samples, length_penalty=0.0, min_length=0)
        settings = replace(settings, n_best=num_samples)
        texts = [prompts] if isinstance(prompts, str) else listed_texts(prompts, "prompts")
        for index, text in enumerate(texts):
            check_string(text, f"prompts[{index}]")
        encoded = [self._with_begin(ids) for ids in self.tokenizer.encode(texts)]
        longest = self.gpt.config.longest
        for number, ids in enumerate(encoded, start=first_line):
            if longest is not None and len(ids) > longest:
                raise UserError(
                    f"prompt {number} has {len(ids):,} tokens, and the model reads at most {longest:,}: shorten it"
                )
        search = GPTSearch(self.gpt, self._ids(), self.batch_tokens)
        numbers = range(first_line, first_line + len(encoded))
        found = search.search(encoded, settings, numbers, max_new_tokens=max_new_tokens)
        results = [
            [self._generation(ids, each) for each in hypotheses] for ids, hypotheses in zip(encoded, found, strict=True)
        ]
        if longest is not None:
            self._note_cut(encoded, results, longest, max_new_tokens, first_line)
        return results

    def _with_begin(self, ids: list[int]) -> list[int]:
        """Our models read BOS first. GPT-2 was trained on texts that EOS separates, so only an empty text begins so."""
        bos = self.special.bos if self.special.bos is not None else self.special.eos
        if isinstance(self.tokenizer, Tokenizer) or not ids:
            if bos is None:
                raise UserError("prompts has an empty text, and the model has no token to begin with: give some text")
            return [bos, *ids]
        return ids

    def _ids(self) -> scoring.SpecialIds:
        eos = NO_TOKEN if self.special.eos is None else self.special.eos
        banned = NEVER_PREDICTED if isinstance(self.tokenizer, Tokenizer) else ()
        return scoring.SpecialIds(bos=NO_TOKEN, eos=eos, banned=banned)

    def _generation(self, ids: list[int], hypothesis: Hypothesis) -> Generation:
        prompt, text = self.tokenizer.decode([ids, [*ids, *hypothesis.tokens]])
        return Generation(text, text.removeprefix(prompt), hypothesis.score, hypothesis.finished)

    def _note_cut(
        self,
        encoded: Sequence[list[int]],
        results: Sequence[list[Generation]],
        longest: int,
        max_new_tokens: int,
        first_line: int,
    ) -> None:
        """Print a note about the continuations that end because the model has no more positions."""
        numbers = [
            number
            for number, (ids, found) in enumerate(zip(encoded, results, strict=True), start=first_line)
            if most_new_tokens(len(ids), max_new_tokens, longest) < max_new_tokens
            and not all(each.finished for each in found)
        ]
        if numbers:
            print_note(
                f"{first_few('prompt', numbers)}: the text is cut before max_new_tokens {max_new_tokens}, because the "
                f"model has {longest:,} positions"
            )
