"""Strings in, strings out: a trained model as a translator. It does not know Lightning."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from lit_transformer.batch import EOS_ID
from lit_transformer.checkpoints.folder import write_model_folder
from lit_transformer.checkpoints.places import HUB_PREFIX, load_checkpoint
from lit_transformer.checkpoints.trained_model import check_sizes
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.attention import Attention, check_layers, compute_attention, name_unknown
from lit_transformer.decoding.devices import default_device, moved, usable_device
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.settings import BATCH_TOKENS, SearchSettings
from lit_transformer.decoding.transformer_search import search_all
from lit_transformer.decoding.translations import Translation, decode, join_parts, note_cut, split_ids
from lit_transformer.decoding.unknown_text import copied, note_unknown
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, new_folder
from lit_transformer.model.heads import HeadMask, with_heads
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import counted, print_note

MAX_SOURCE_TOKENS = 1024
"""Longer texts are translated in parts, because the memory of attention grows with the square of the length."""


class Translator:
    """A trained model that translates text.

    Args:
        transformer: The model. It may be one that is being trained. It stays as it is: if it is on another device, the
            translator has a copy of it, else it translates with the model's current weights.
        tokenizer: The vocabulary that both sides share, or the `Vocabularies` of both sides.
        device: Where to compute, as in `torch.device`.
        batch_tokens: Padded source tokens per batch. It changes speed and memory, not the translations.
        source: The language to translate from. Only `save_pretrained` needs the languages.
        target: The language to translate into.
        step: How many optimizer steps the model was trained for.

    Raises:
        UserError: If the device cannot be used, `batch_tokens` is below 1, or the vocabularies are not the model's.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: Tokenizer | Vocabularies,
        *,
        device: str = "cpu",
        batch_tokens: int = BATCH_TOKENS,
        source: str = "",
        target: str = "",
        step: int = 0,
    ) -> None:
        if batch_tokens < 1:
            raise UserError(f"batch_tokens is {batch_tokens}: it must be at least 1")
        vocabularies = Vocabularies.shared(tokenizer) if isinstance(tokenizer, Tokenizer) else tokenizer
        check_sizes(transformer, vocabularies)
        self.device = usable_device(device)
        self.transformer = moved(transformer, self.device)
        self.vocabularies = vocabularies
        self.batch_tokens = batch_tokens
        self.source, self.target, self.step = source, target, step

    @classmethod
    def load(cls, place: str | Path, *, device: str | None = None, batch_tokens: int = BATCH_TOKENS) -> Self:
        """Read a trained model.

        Args:
            place: A checkpoint, a run folder, a folder above runs, a model folder, or `hf:NAME` on the Hugging Face
                Hub.
            device: Where to compute. By default the first GPU if there is one, else the CPU.
            batch_tokens: As for `Translator`.

        Raises:
            UserError: If there is no model that can be read.
        """
        trained = load_checkpoint(place)
        return cls(
            trained.transformer,
            trained.vocabularies,
            device=default_device() if device is None else device,
            batch_tokens=batch_tokens,
            source=trained.source,
            target=trained.target,
            step=trained.step,
        )

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path, *, device: str | None = None) -> Self:
        """Read what `save_pretrained` wrote, from a folder or, if there is none, from the Hugging Face Hub.

        Args:
            folder_or_name: A model folder, or the name of a model on the Hub.
            device: As for `load`.

        Raises:
            UserError: If there is no model that can be read.
        """
        is_here = expanded(folder_or_name).exists()
        return cls.load(folder_or_name if is_here else f"{HUB_PREFIX}{folder_or_name}", device=device)

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary that both sides share. Raises UserError if each has its own."""
        return self.vocabularies.tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder in Hugging Face's layout, which can be uploaded (`hf upload NAME FOLDER`).

        Raises:
            UserError: If the folder exists and is not empty, or the languages are unknown.
        """
        if not self.source or not self.target:
            raise UserError("save_pretrained needs the languages: make the Translator with source= and target=")
        with new_folder(folder) as unfinished:
            write_model_folder(
                unfinished, self.transformer, self.vocabularies, source=self.source, target=self.target, step=self.step
            )

    def translate(self, texts: Sequence[str], settings: SearchSettings = SearchSettings()) -> list[str]:
        """Translate texts.

        Args:
            texts: One sentence each.
            settings: How to search, for example `SearchSettings(beam_size=1)`.

        Returns:
            The best translation of each text, in the same order. An empty text gives the empty string. A text without
            known characters gives itself.

        Raises:
            UserError: If the memory does not suffice, or the model's scores are not numbers.
        """
        return [best[0].text for best in self.candidates(texts, settings)]

    def candidates(
        self, texts: Sequence[str], settings: SearchSettings = SearchSettings(), *, first_line: int = 1
    ) -> list[list[Translation]]:
        """Translate texts, with scores and more than one translation each.

        Candidates of a text differ: of hypotheses with the same text, the best one counts. Finished translations come
        before those that were cut at the length limit. A text of more than `MAX_SOURCE_TOKENS` tokens is translated in
        parts. A text without known characters, or an empty one, has one candidate: itself, with the score 0. Notes on
        stderr name the lines that were cut or translated in parts, and unknown characters.

        Args:
            texts: One sentence each.
            settings: How to search, for example `SearchSettings(n_best=4)`.
            first_line: The line number of the first text in notes.

        Returns:
            The `settings.n_best` best translations of each text, best first. There are fewer if the beam does not hold
            this many different ones.

        Raises:
            UserError: As for `translate`.
        """
        source = self.vocabularies.source
        encoded = source.encode(texts)
        note_unknown(texts, encoded, source, first_line=first_line)
        parts = [[part for part in split_ids(ids, self._longest()) if source.has_known(part)] for ids in encoded]
        for number, text_parts in enumerate(parts, start=first_line):
            if len(text_parts) > 1:
                print_note(
                    f"line {number} is too long to be translated at once: it is translated in {len(text_parts):,} parts"
                )
        found = iter(self._different([part for text_parts in parts for part in text_parts], settings))
        translations = [
            join_parts([next(found) for _ in text_parts], settings.n_best)
            if text_parts
            else [Translation(copied(text), 0.0, finished=True)]
            for text, text_parts in zip(texts, parts, strict=True)
        ]
        note_cut([best[0].finished for best in translations], settings, self.transformer.config, first_line)
        return translations

    def attention(
        self,
        text: str,
        target: str | None = None,
        settings: SearchSettings = SearchSettings(),
        *,
        layers: Collection[int] | None = None,
    ) -> Attention:
        """Record the attention weights of one sentence pair.

        They are the weights of teacher forcing with this target, which equal those of decoding it step by step.

        Args:
            text: One sentence, which may be empty.
            target: Its translation. By default the model's own best one.
            settings: How to search for the model's own translation.
            layers: The layers to keep, counted from 0. By default all. Other layers take no memory.

        Returns:
            The weights of all heads, with the tokens that their rows and columns belong to.

        Raises:
            UserError: If there is no such layer, a side is too long, the memory does not suffice, or the model's
                weights are not numbers.
        """
        [attention] = self.attentions([text], None if target is None else [target], settings, layers=layers)
        return attention

    def attentions(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        settings: SearchSettings = SearchSettings(),
        *,
        layers: Collection[int] | None = None,
        first_line: int = 1,
    ) -> list[Attention]:
        """Record the attention weights of many sentence pairs, as `attention` does for one.

        Args:
            texts: One sentence each. The model's own translation of one without known characters is empty.
            targets: Their translations, in the same order.
            settings: As for `attention`.
            layers: As for `attention`.
            first_line: The line number of the first text in notes and errors.

        Returns:
            One `Attention` per text, in the same order.

        Raises:
            UserError: As for `attention`, or if there are more or fewer targets than texts.
        """
        check_layers(layers, self.transformer.config)
        sources = [[*ids, EOS_ID] for ids in self._encode(texts, self.vocabularies.source, first_line)]
        if targets is None:
            has_known = self.vocabularies.source.has_known
            found = iter(self._search([ids for ids in sources if has_known(ids)], settings))
            best = [next(found)[0] if has_known(ids) else Hypothesis([], 0.0, [0.0]) for ids in sources]
            note_cut([each.finished for each in best], settings, self.transformer.config, first_line)
            target_ids = [[*each.tokens, EOS_ID] if each.finished else each.tokens for each in best]
        elif len(targets) != len(texts):
            numbers = f"{counted(len(texts), 'text')} for {counted(len(targets), 'target')}"
            raise UserError(f"{numbers}: give one target for each text, in the same order")
        else:
            target_ids = [[*ids, EOS_ID] for ids in self._encode(targets, self.vocabularies.target, first_line)]
        attentions = compute_attention(
            self.transformer, self.vocabularies, sources, target_ids, layers=layers, batch_tokens=self.batch_tokens
        )
        return [
            # The model's own translation has no unknown tokens.
            name_unknown(attention, text, target, self.vocabularies)
            for attention, text, target in zip(attentions, texts, targets or texts, strict=True)
        ]

    def with_heads(self, mask: HeadMask) -> Self:
        """The same translator with only the heads of `mask`, to see what the others contribute."""
        return type(self)(
            with_heads(self.transformer, mask),
            self.vocabularies,
            device=str(self.device),
            batch_tokens=self.batch_tokens,
            source=self.source,
            target=self.target,
            step=self.step,
        )

    def _search(self, sources: list[list[int]], settings: SearchSettings) -> list[list[Hypothesis]]:
        return search_all(self.transformer, sources, settings, batch_tokens=self.batch_tokens)

    def _different(self, sources: list[list[int]], settings: SearchSettings) -> list[list[Translation]]:
        """The best translations of every source, with different texts."""
        target = self.vocabularies.target
        found = [decode(hypotheses, target) for hypotheses in self._search(sources, settings)]
        few = [index for index, best in enumerate(found) if len(best) < settings.n_best < settings.beam_size]
        # Tokens can be split in several ways, and their text is the same. Here, the search goes on until all places of
        # the beam are certain. The best hypotheses stay the same.
        everything = replace(settings, n_best=settings.beam_size)
        for index, hypotheses in zip(few, self._search([sources[index] for index in few], everything), strict=True):
            found[index] = decode(hypotheses, target)[: settings.n_best]
        return found

    def _encode(self, texts: Sequence[str], tokenizer: Tokenizer, first_line: int) -> list[list[int]]:
        encoded = tokenizer.encode(texts)
        for number, ids in enumerate(encoded, start=first_line):
            if len(ids) >= self._longest():
                raise UserError(
                    f"line {number} has {len(ids):,} tokens, but attention is recorded for at most "
                    f"{self._longest() - 1:,}: cut it into sentences"
                )
        return encoded

    def _longest(self) -> int:
        longest = self.transformer.config.longest
        return MAX_SOURCE_TOKENS if longest is None else min(MAX_SOURCE_TOKENS, longest)
