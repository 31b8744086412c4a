"""Strings in, strings out: a trained model as a translator. It does not know Lightning."""

from collections.abc import Collection, Generator, Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Self, overload

from lit_transformer.checkpoints.folder import write_model_folder
from lit_transformer.checkpoints.places import HUB_PREFIX
from lit_transformer.checkpoints.trained_model import check_sizes
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.attention import Attention, record_attention
from lit_transformer.decoding.candidates import stream_candidates
from lit_transformer.decoding.devices import default_device, moved, usable_device
from lit_transformer.decoding.engines import make_engine, num_batch_tokens, num_workers
from lit_transformer.decoding.given_texts import check_text, checked_texts
from lit_transformer.decoding.settings import BATCH_TOKENS, FLOAT32, EngineName, EngineSettings
from lit_transformer.decoding.translations import Translation
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, new_folder
from lit_transformer.model.heads import HeadMask, with_heads
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.places import load_translation_model
from lit_transformer.progress import Advance, progress
from lit_transformer.search_settings import SearchSettings


class Translator:
    """A trained model that translates text.

    Args:
        transformer: The model. It may be one that is being trained. It stays as it is: if it is on another device, the
            translator has a copy of it, else it translates with the model's current weights.
        tokenizer: The vocabulary that both sides share, or the `Vocabularies` of both sides.
        device: Where to compute, as in `torch.device`.
        batch_tokens, engine, compute_type, workers: As for `EngineSettings`.
        source: The language to translate from. Only `save_pretrained` needs it.
        target: The language to translate into.
        step: How many optimizer steps the model was trained for.
        search: How to search if a method is not told otherwise.

    Raises:
        UserError: If the device or the engine cannot be used, or `batch_tokens` or the vocabularies do not fit.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: Tokenizer | Vocabularies,
        *,
        device: str = "cpu",
        batch_tokens: int | None = None,
        engine: EngineName = "torch",
        compute_type: str = FLOAT32,
        workers: int | None = 1,
        source: str = "",
        target: str = "",
        step: int = 0,
        search: SearchSettings = SearchSettings(),
    ) -> None:
        how = EngineSettings(engine=engine, compute_type=compute_type, batch_tokens=batch_tokens, workers=workers)
        self.vocabularies = Vocabularies.shared(tokenizer) if isinstance(tokenizer, Tokenizer) else tokenizer
        check_sizes(transformer, self.vocabularies)
        self.device = usable_device(device)
        self.transformer = moved(transformer, self.device)
        self._take_engine(how)
        self.source, self.target, self.step, self.search = source, target, step, search

    @classmethod
    def load(
        cls,
        place: str | Path,
        *,
        device: str | None = None,
        batch_tokens: int | None = None,
        engine: EngineName = "torch",
        compute_type: str = FLOAT32,
        workers: int | None = 1,
    ) -> Self:
        """Read a trained model.

        Args:
            place: A checkpoint, a run folder, a folder above runs, a model folder, or `hf:NAME`, also one of others.
            device: Where to compute. By default the first GPU if there is one, else the CPU.
            batch_tokens: As for `EngineSettings`.
            engine: As for `EngineSettings`.
            compute_type: As for `EngineSettings`.
            workers: As for `EngineSettings`.

        Raises:
            UserError: If there is no model that can be read.
        """
        trained = load_translation_model(place)
        return cls(
            trained.transformer,
            trained.vocabularies,
            device=default_device() if device is None else device,
            batch_tokens=batch_tokens,
            engine=engine,
            compute_type=compute_type,
            workers=workers,
            **trained.about,
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
                unfinished, self.transformer, self.vocabularies, self.source, self.target, self.step, self.search
            )

    @overload
    def translate(self, texts: str, settings: SearchSettings | None = ...) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def translate(self, texts: Iterable[str], settings: SearchSettings | None = ...) -> list[str]: ...

    def translate(self, texts: str | Iterable[str], settings: SearchSettings | None = None) -> str | list[str]:
        """Translate texts.

        Args:
            texts: One sentence, or a list, a generator or a column of sentences.
            settings: How to search, for example `SearchSettings(beam_size=1)`. By default as the model does (`search`).

        Returns:
            The best translation of each text, or of the one text. An empty text gives the empty string, and a text
            without known characters gives itself.

        Raises:
            UserError: If a text is not a string or has a line feed inside, the memory does not suffice, or the model's
                scores are not numbers.
        """
        best = [best[0].text for best in self._candidates(texts, replace(settings or self.search, n_best=1))]
        return best[0] if isinstance(texts, str) else best

    @overload
    def candidates(  # type: ignore[overload-overlap]
        self, texts: str, settings: SearchSettings | None = ..., *, first_line: int = ...
    ) -> list[Translation]: ...
    @overload
    def candidates(
        self, texts: Iterable[str], settings: SearchSettings | None = ..., *, first_line: int = ...
    ) -> list[list[Translation]]: ...

    def candidates(
        self, texts: str | Iterable[str], settings: SearchSettings | None = None, *, first_line: int = 1
    ) -> list[Translation] | list[list[Translation]]:
        """Translate texts, with scores and more than one translation each.

        Candidates of a text differ: of hypotheses with the same text, the best one counts. Finished translations come
        before those that were cut at the length limit. A text of more than `MAX_SOURCE_TOKENS` tokens is translated in
        parts. A text without known characters, or an empty one, has one candidate: itself, with the score 0. Notes
        name unknown characters, and lines that were cut, translated in parts or lost a sentence.

        Args:
            texts: As for `translate`.
            settings: How to search, for example `SearchSettings(beam_size=8)`.
            first_line: The line number of the first text in notes.

        Returns:
            The `settings.n_best` best translations of each text, or of the one text, best first. By default, there are
            `settings.beam_size` of them. There are fewer if the beam does not hold this many different ones.

        Raises:
            UserError: As for `translate`.
        """
        own = settings or self.search
        found = self._candidates(texts, replace(own, n_best=own.n_best or own.beam_size), first_line)
        return found[0] if isinstance(texts, str) else found

    def _candidates(
        self, texts: str | Iterable[str], settings: SearchSettings, first_line: int = 1
    ) -> list[list[Translation]]:
        checked = [check_text(texts, "texts")] if isinstance(texts, str) else checked_texts(texts, "texts")
        with progress("translating", len(checked), "text") as advance:
            [found] = self.stream([checked], settings, first_line=first_line, advance=advance)
        return found

    def stream(
        self,
        chunks: Iterable[Sequence[str]],
        settings: SearchSettings | None = None,
        *,
        first_line: int = 1,
        advance: Advance = lambda _: None,
    ) -> Generator[list[list[Translation]], None, None]:
        """Translate chunks of texts as they come. Notes about large chunks are printed together.

        Args:
            chunks: Lists of texts without line feeds. Texts of one chunk are translated together by their length.
            settings: As for `candidates`, but `n_best` is 1 by default.
            first_line: As for `candidates`.
            advance: Called with numbers of texts that have just been translated.

        Yields:
            The candidates of each text of a chunk.

        Raises:
            UserError: As for `translate`.
        """
        config, settings = self.transformer.config, settings or self.search
        return stream_candidates(
            self.engine, self.vocabularies, config, chunks, settings, first_line=first_line, advance=advance
        )

    def attention(
        self,
        text: str,
        target: str | None = None,
        settings: SearchSettings | None = None,
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
            UserError: If a text is not one string on one line, there is no such layer, a side is too long, the memory
                does not suffice, or the model's weights are not numbers.
        """
        targets = None if target is None else [check_text(target, "target")]
        return self.attentions([check_text(text, "text")], targets, settings, layers=layers)[0]

    def attentions(
        self,
        texts: Iterable[str],
        targets: Iterable[str] | None = None,
        settings: SearchSettings | None = None,
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
        return record_attention(
            self.transformer,
            self.vocabularies,
            checked_texts(texts, "texts"),
            None if targets is None else checked_texts(targets, "targets"),
            settings or self.search,
            layers=layers,
            batch_tokens=self.engine_settings.batch_tokens or BATCH_TOKENS,
            first_line=first_line,
        )

    def with_heads(self, mask: HeadMask) -> Self:
        """The same translator with only the heads of `mask`, to see what the others contribute."""
        same = copy(self)
        same.transformer = with_heads(self.transformer, mask)
        same._take_engine(EngineSettings(batch_tokens=self.engine_settings.batch_tokens))
        return same

    def _take_engine(self, settings: EngineSettings) -> None:
        self.engine_settings, self.engine = settings, make_engine(settings, self.transformer)
        self.batch_tokens = num_batch_tokens(settings, self.device)
        self.num_workers = num_workers(settings, self.device)
