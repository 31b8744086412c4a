"""The data of models of one language: corpus -> vocabulary -> rows of tokens -> plan -> batches of an objective."""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from lit_transformer.batch import EOS_ID, IntArray
from lit_transformer.data import CACHE_DIR
from lit_transformer.data.batching import PLAN_VERSION, BatchPlan
from lit_transformer.data.cache import LateCheck
from lit_transformer.data.following import Followed, follow
from lit_transformer.data.line_coverage import LineCoverage, measure_line_coverage
from lit_transformer.data.lines import TokenizedLines, cut_blocks, tokenize_lines
from lit_transformer.data.loaders import LoadedData, check_settings
from lit_transformer.data.objectives import CausalLM, Example, Ids, Objective
from lit_transformer.data.quality import find_text_warnings
from lit_transformer.data.splits import Splits, find_line_splits
from lit_transformer.data.store import TokenStore
from lit_transformer.data.text import LINE_SCHEMA, Text
from lit_transformer.data.text_rows import (
    TextAssembler,
    fixed_batches,
    fixed_examples,
    held_out_batch,
    longest_row,
    objective_ids,
)
from lit_transformer.data.tokenizer import NORMALIZATION, Normalization, Tokenizer
from lit_transformer.data.validation import ValidationBatches
from lit_transformer.data.vocabulary import find_vocabulary
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import counted

_LONGEST_BLOCK = 1024


class TextData(LoadedData):
    """Text of one language in token batches, rows of similar length together. The module says what is learned.

    Without a trainer it gives the batches of a GPT on one device: `prepare_data()`, `setup("fit")`,
    `train_dataloader()`. With a trainer, `vocab_size`, `max_positions`, `seed` and the objective are the module's,
    unless they are given.

    Args:
        corpus: `demo`, one text file, a folder of SPLIT.LANG text files, a table or a Hub data set with a column
            `text`, or any corpus of two languages. docs/corpora.md has examples.
        language: The language that is read, as in the names of files or columns.
        valid_corpus: Corpus of the validation lines, in any form. By default, they are the split `valid` of `corpus`.
        valid_lines: Number of training lines to hold out for validation, in place of the split `valid`.
        vocab_size: Tokens of the vocabulary. By default the model's, or without a model 37,000.
        tokenizer: A SentencePiece model file for the vocabulary. Special tokens that it lacks are added, and vocab_size
            counts them. By default, a vocabulary is learned from the training split.
        character_coverage: Share of the training text's characters that get a token of their own.
        normalization: Rule by which the learned vocabulary rewrites text. `identity` rewrites nothing.
        byte_fallback: Whether the learned vocabulary writes characters without a token as bytes, which takes 256 of
            its tokens. By default, it does if vocab_size is 8,000 or more.
        symbols: Strings that are one token wherever they occur. The objective adds its own. vocab_size counts them.
        tokens_per_batch: Tokens per optimizer step that the model reads, and that it predicts, over all devices.
        max_tokens_per_device: Padded tokens that a device takes at a time. Larger steps are accumulated. `auto` takes
            as many as fit into a GPU's memory.
        max_length: Training lines with more tokens than this are dropped. A GPT reads all lines.
        block_length: Tokens of the blocks that a GPT reads. By default 1,024, or what the model takes if that is less.
        validation_batch_tokens: Padded tokens of a validation batch. By default, 8,192 on a GPU and 2,048 elsewhere.
        cache_dir: Folder for prepared data.
        num_workers: Processes that assemble batches. By default, one for a GPU and none for a CPU.
        seed: Determines the order of the rows and their noise. By default the model's, or without a model 1.
        max_positions: Longest sequence that the model takes. By default the model's.
    """

    row: ClassVar[str] = "row"
    # By `prepare_data`:
    splits: Splits
    tokenizer: Tokenizer
    tokens: TokenizedLines
    coverage: list[LineCoverage]
    text_warnings: list[str]
    # By `setup`:
    store: TokenStore
    num_cut: int

    def __init__(
        self,
        corpus: str = "wmt/wmt14:de-en",
        language: str = "en",
        valid_corpus: str | None = None,
        valid_lines: int = 0,
        vocab_size: int | None = None,
        tokenizer: str | None = None,
        character_coverage: float = 0.9999,
        normalization: Normalization = NORMALIZATION,
        byte_fallback: bool | None = None,
        symbols: Sequence[str] = (),
        tokens_per_batch: int = 25000,
        max_tokens_per_device: int | Literal["auto"] = 16384,
        max_length: int = 256,
        block_length: int | None = None,
        validation_batch_tokens: int | None = None,
        cache_dir: str = CACHE_DIR,
        num_workers: int | None = None,
        seed: int | None = None,
        max_positions: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=Followed._fields)
        check_settings(
            character_coverage,
            ("valid_lines", valid_lines, 0),
            ("tokens_per_batch", tokens_per_batch, 1),
            ("max_tokens_per_device", max_tokens_per_device, 1),
            ("max_length", max_length, 2),  # one token and EOS
            ("block_length", block_length, 2),
            ("validation_batch_tokens", validation_batch_tokens, 1),
            ("num_workers", num_workers, 0),
        )
        self.corpus = corpus
        self.language = language
        self.valid_corpus = valid_corpus
        self.valid_lines = valid_lines
        self.tokenizer_file = tokenizer
        self.character_coverage = character_coverage
        self.normalization: Normalization = normalization
        self.byte_fallback = byte_fallback
        self.symbols = tuple(symbols)
        self.tokens_per_batch = tokens_per_batch
        self.max_tokens_per_device: int | Literal["auto"] = max_tokens_per_device
        self.max_length = max_length
        self.block_length = block_length
        self.validation_batch_tokens = validation_batch_tokens
        self.cache_dir = expanded(cache_dir)
        self.num_workers = num_workers
        self._given = {"vocab_size": vocab_size, "max_positions": max_positions, "seed": seed}
        self.followed = follow(None, source_vocab_size=None, **self._given)
        self.objective: Objective = CausalLM()
        """What the model learns: the module's, or that of a GPT. It can be set before `prepare_data`."""
        self.hparams.update(self.followed._asdict())

    def assembler(self, *, count: int = 0, margin: float = 1.0) -> TextAssembler:  # noqa: ARG002 # for packed pairs
        """Return what makes micro-batches from training rows. After `setup`."""
        return TextAssembler(self.store, self.objective, self._ids, self.followed.seed)

    @property
    def length_setting(self) -> str:
        return "block_length" if self.objective.takes_blocks else "max_length"

    @property
    def title(self) -> str:
        """Language and corpus."""
        return f"{self.language}, corpus {self.corpus}"

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The vocabulary. After `prepare_data`."""
        return (self.tokenizer,)

    @property
    def counts(self) -> list[str]:
        """Counts of lines and tokens. After `prepare_data`."""
        counts = [*str(self.tokens.report).splitlines(), *map(str, self.coverage)]
        if self.valid_lines:
            counts.insert(0, f"held out for validation: {counted(len(self.splits.valid.load()), 'training line')}")
        return counts

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the text or the vocabulary, each with its remedy. After `setup`."""
        warnings = [split.warning for split in self.coverage if split.warning] + self.text_warnings
        if self.num_cut:
            cut = counted(self.num_cut, "validation line is", "validation lines are")
            warnings.append(f"{cut} cut to {self._longest} tokens, the most that max_length and the model allow")
        return warnings

    @property
    def fingerprint(self) -> str:
        """Identifies the training rows, their order and their noise. After `prepare_data`."""
        settings = (PLAN_VERSION, self.tokens.path.stem, self.tokens_per_batch, self.followed.seed, self.objective)
        return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()

    def describe_step(self, step: int) -> str:
        """Describe the rows of an optimizer step (counted from 0), for a person who looks for a mistake."""
        rows = self.plan.step_rows(self.epochs.plan_step(step))
        tokens = self.store.gather(rows[:1], "text")[0]
        [first] = self.tokenizer.decode([tokens[tokens != EOS_ID].tolist()])
        longest = self.store.lengths("text")[rows].max()
        return f"{counted(len(rows), self.row)} of up to {longest} tokens, the first: {first}"

    def test_dataloader(self) -> ValidationBatches[Any]:
        """Return this rank's part of the split `test`. No row is on two ranks."""
        return self._of_rank(self.test_batches, self.trainer.limit_test_batches if self.trainer else 1.0)

    @property
    def test_batches(self) -> list[Any]:
        """The whole split `test`, for all ranks."""
        return list(fixed_batches(self.test_rows, self.objective, self._ids, self._validation_tokens))

    @property
    def test_rows(self) -> list[IntArray]:
        """The rows of the split `test`. After `setup`."""
        if self.splits.test is None:
            raise UserError(f"corpus {self.corpus} has no split test: add one, or take trainer.validate")
        return self._rows(self.splits.test)[0]

    @property
    def test_examples(self) -> list[Example]:
        """What `test_batches` have, row by row."""
        return fixed_examples(self.test_rows, self.objective, self._ids)

    @property
    def test_sentences(self) -> list[IntArray]:
        """The tokens of the lines of the split `test`, each with its `EOS_ID`, without empty lines."""
        return self._sentences(self.test_rows)

    @property
    def num_test_words(self) -> int:
        """The words of these lines between spaces, and their ends."""
        text = self.splits.test
        assert text is not None, "`test_rows` has found it"
        return sum(len(line.split()) + 1 for line in text.load()[LINE_SCHEMA.names[0]] if line.split())

    @property
    def training_sentences(self) -> list[IntArray]:
        """The tokens of the training lines, each with its `EOS_ID`. After `setup`."""
        return self._sentences(self.training_rows)

    @property
    def training_rows(self) -> list[IntArray]:
        """All training rows, without noise. After `setup`."""
        tokens, lengths = self.store.gather(np.arange(len(self.store)), "text"), self.store.lengths("text")
        return [row[:length] for row, length in zip(tokens, lengths, strict=True)]

    def _follow_module(self) -> bool:
        former = self.followed, self.objective
        self.followed = follow(self._model, source_vocab_size=None, **self._given)
        self.objective = getattr(self._model, "objective", self.objective)
        self.hparams.update(self.followed._asdict())
        learned = self._model_tokenizer()
        has_other = self._has_text and learned is not None and learned.model_bytes != self.tokenizer.model_bytes
        return former != (self.followed, self.objective) or has_other

    def _find_text(self) -> None:
        most = self.followed.max_positions
        self._block_length: int | None = None
        if self.objective.takes_blocks:
            self._block_length = self.block_length or min(most or _LONGEST_BLOCK, _LONGEST_BLOCK)
            if most is not None and self._block_length > most:
                raise UserError(
                    f"block_length is {self.block_length}, but the model has max_positions {most}: lower it"
                )
        self._longest = min(self.max_length, sys.maxsize if most is None else longest_row(self.objective, most))
        self.splits = find_line_splits(
            self.corpus,
            valid_corpus=self.valid_corpus,
            valid_lines=self.valid_lines,
            language=self.language,
            cache_dir=self.cache_dir,
        )
        self.splits.valid.load()  # its errors are reported before the long work
        needed = self.objective.symbols(self._longest)
        self.tokenizer = self._model_tokenizer() or find_vocabulary(
            self.splits.train,
            sides=LINE_SCHEMA.names,
            file=self.tokenizer_file,
            vocab_size=self.followed.vocab_size,
            character_coverage=self.character_coverage,
            normalization=self.normalization,
            byte_fallback=self.byte_fallback,
            symbols=tuple(dict.fromkeys((*needed, *self.symbols))),
            cache_dir=self.cache_dir,
        )
        if missing := [symbol for symbol in needed if not self.tokenizer.keeps(symbol)]:
            raise UserError(
                f"the vocabulary has no token {missing[0]}, which {type(self.objective).__name__} needs: learn another "
                "vocabulary"
            )
        self._ids: Ids = objective_ids(needed, self.tokenizer)

    def _tokenize(self) -> LateCheck:
        self.tokens = tokenize_lines(
            self.splits.train,
            self.tokenizer,
            max_length=self._longest,
            block_length=self._block_length,
            cache_dir=self.cache_dir,
        )
        held_out = {"validation": self.splits.valid} | ({"test": self.splits.test} if self.splits.test else {})
        self.coverage = [
            measure_line_coverage(text.load(), self.tokenizer, split=split) for split, text in held_out.items()
        ]
        self.text_warnings = find_text_warnings(self.splits.train, held_out, cache_dir=self.cache_dir)
        return LateCheck(self.tokens.path)

    def _validation_batches(self) -> list[Any]:
        rows, self.num_cut = self._rows(self.splits.valid)
        return list(fixed_batches(rows, self.objective, self._ids, self._validation_tokens))

    def _make_plan(self) -> BatchPlan:
        self.store = TokenStore(self.tokens.path)
        lengths = self.objective.lengths(self.store.lengths("text").astype(np.int32))
        if (longest := int(max(each.max() for each in lengths))) > self.tokens_per_batch and self._block_length:
            raise UserError(
                f"tokens_per_batch is {self.tokens_per_batch}, less than the {longest} tokens of a block: raise it, or "
                "lower block_length"
            )
        return BatchPlan(*lengths, self.tokens_per_batch, self.followed.seed)

    @property
    def _filler(self) -> Any:
        return held_out_batch([], self.objective)

    def _rows(self, text: Text) -> tuple[list[IntArray], int]:
        """Return the rows of a text that is not trained on, and how many of its lines are cut. Empty lines are none."""
        lines = [ids for ids in self.tokenizer.encode(text.load()[LINE_SCHEMA.names[0]][:]) if ids]
        if self._block_length:
            return cut_blocks(np.concatenate([[*ids, EOS_ID] for ids in lines]), self._block_length), 0
        most = self._longest - 1
        return [np.array([*ids[:most], EOS_ID]) for ids in lines], sum(len(ids) > most for ids in lines)

    def _sentences(self, rows: list[IntArray]) -> list[IntArray]:
        if self._block_length is None:
            return rows
        flat = np.concatenate([row[1:] for row in rows])
        return np.split(flat, np.flatnonzero(flat == EOS_ID) + 1)[:-1]

    def _model_tokenizer(self) -> Tokenizer | None:
        """Return the vocabulary that the model was trained with, if it has one of this size."""
        found = getattr(self._model, "tokenizer", None) if self.tokenizer_file is None else None
        return found if isinstance(found, Tokenizer) and found.vocab_size == self.followed.vocab_size else None
