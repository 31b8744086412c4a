"""The LightningDataModule: from a corpus's name to an endless stream of token batches. It does not know the model."""

import hashlib
from pathlib import Path
from typing import Literal

import lightning as L
from torch.utils.data import DataLoader

from lit_transformer.batch import EOS_ID, Batch, TextBatch
from lit_transformer.data import CACHE_DIR
from lit_transformer.data.arrow_file import LateCheck, cached
from lit_transformer.data.batching import BatchPlan, Integers
from lit_transformer.data.corpus import find_text, sentences
from lit_transformer.data.coverage import Coverage, measure_coverage
from lit_transformer.data.prepare import PreparationReport, TokenizedPairs, tokenize_pairs
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import (
    TimedLoader,
    TrainingStream,
    ValidationBatches,
    make_batch,
    validation_batches,
)
from lit_transformer.data.text_folder import Text
from lit_transformer.data.tokenizer import NORMALIZATION, Normalization, Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.signals import leave_signals_to_training


class TranslationData(L.LightningDataModule):
    """Sentence pairs of a corpus as length-bucketed token batches (section 5.1).

    Args:
        corpus: `demo` (or `demo:PAIRS`), `copy`, a folder of SPLIT.LANG text files, or a Hub data set with its
            configuration after a colon.
        source: Language to translate from.
        target: Language to translate into.
        vocab_size: Pieces of the shared vocabulary; follows model.vocab_size.
        tokenizer: A SentencePiece model file to use; learnt from the training split when left out.
        character_coverage: Share of the training text's characters that get a piece of their own.
        normalization: Rule by which the learnt tokenizer rewrites text. Only `identity` can write every reference;
            `nmt_nfkc` unites variants of characters, also in translations.
        byte_fallback: Whether the learnt tokenizer writes characters without a piece as bytes, which takes 256 of the
            vocabulary's pieces; from a vocab_size of 8,000 on when left out.
        tokens_per_batch: Tokens of an optimizer step on each side, over all devices.
        max_tokens_per_device: Padded tokens on each side that a device takes at a time; what is more is accumulated.
            `auto` is as many as fit into a GPU's memory.
        max_length: Training pairs with more pieces than this on a side are dropped.
        max_length_ratio: Training pairs are also dropped if one side has more than this many times the pieces of the
            other.
        validation_batch_tokens: Padded tokens on each side of a validation batch.
        cache_dir: Where prepared data is kept.
        num_workers: Processes that assemble batches; one beside a GPU and none beside a CPU when left out.
        seed: Order of the training pairs; follows seed_everything.
        max_positions: Longest sequence that the model takes, beyond which validation sentences are cut; follows
            model.transformer.
    """

    def __init__(
        self,
        corpus: str = "wmt/wmt14:de-en",
        source: str = "en",
        target: str = "de",
        vocab_size: int = 37000,
        tokenizer: str | None = None,
        character_coverage: float = 0.9999,
        normalization: Normalization = NORMALIZATION,
        byte_fallback: bool | None = None,
        tokens_per_batch: int = 25000,
        max_tokens_per_device: int | Literal["auto"] = 16384,
        max_length: int = 256,
        max_length_ratio: float = 4.0,
        validation_batch_tokens: int = 2048,
        cache_dir: str = CACHE_DIR,
        num_workers: int | None = None,
        seed: int = 1,
        max_positions: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("tokens_per_batch", tokens_per_batch, 1),
            ("max_tokens_per_device", 1 if max_tokens_per_device == "auto" else max_tokens_per_device, 1),
            ("max_length", max_length, 2),  # a piece and EOS
            ("max_length_ratio", max_length_ratio, 1),
            ("validation_batch_tokens", validation_batch_tokens, 1),
            ("num_workers", num_workers or 0, 0),
        ):
            if value < least:
                raise UserError(f"data.{name} is {value}: it must be at least {least}")
        # SentencePiece's own limits.
        if not 0.98 <= character_coverage <= 1.0:
            raise UserError(f"data.character_coverage is {character_coverage}: it must be from 0.98 to 1")
        self.corpus = corpus
        self.source = source
        self.target = target
        self.vocab_size = vocab_size
        self.tokenizer_file = tokenizer
        self.character_coverage = character_coverage
        self.normalization: Normalization = normalization
        self.byte_fallback = byte_fallback
        self.tokens_per_batch = tokens_per_batch
        self.max_tokens_per_device: int | Literal["auto"] = max_tokens_per_device
        self.max_length = max_length
        self.max_length_ratio = max_length_ratio
        self.validation_batch_tokens = validation_batch_tokens
        self.cache_dir = expanded(cache_dir)
        self.num_workers = num_workers
        self.seed = seed
        self.max_positions = max_positions
        self.tokenizer: Tokenizer
        self.report: PreparationReport
        self.coverage: list[Coverage] = []
        self.plan: BatchPlan
        self._prepared: TokenizedPairs | None = None
        self._late_check: LateCheck
        self._opened: TokenizedPairs | None = None
        self._store: TokenStore
        self._valid: Text
        self._validation: list[TextBatch]
        self._num_cut: int

    @property
    def summary(self) -> str:
        """Counts of pairs, tokens and steps, and what the vocabulary can write; after `setup`."""
        epoch = f"{self.plan.num_batches:,} optimizer steps of {self.tokens_per_batch:,} tokens an epoch"
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(map(str, [self.report, *self.coverage, *warnings, epoch]))

    @property
    def warnings(self) -> list[str]:
        """References that the vocabulary cannot write, and sentences that are cut; after `setup`."""
        warnings = [split.warning for split in self.coverage if split.warning]
        if self._num_cut:
            warnings.append(
                f"{self._num_cut:,} validation sentences have more than transformer.max_positions {self.max_positions} "
                "tokens on a side: they are cut there"
            )
        return warnings

    @property
    def fingerprint(self) -> str:
        """The same where the same sentences come in the same order, whatever the devices; after `setup`."""
        parts = repr((self._store.fingerprint, self.tokens_per_batch, self.seed)).encode()
        return hashlib.blake2b(parts, digest_size=8).hexdigest()

    def describe_step(self, step: int) -> str:
        """The sentence pairs of an optimizer step (counted from 0), for a person who looks for what is wrong."""
        rows = self.plan.step_rows(step)
        source, target = (self._store.gather(rows[:1], side)[0].tolist() for side in ("source", "target"))
        first = " / ".join(self.tokenizer.decode([ids[: ids.index(EOS_ID)] for ids in (source, target)]))
        return f"{len(rows):,} pairs of up to {self.plan.target_lengths[rows].max()} pieces, the first: {first}"

    def batch(self, rows: Integers) -> Batch:
        """These training pairs as a micro-batch; after `setup`."""
        return make_batch(self._store.gather(rows, "source"), self._store.gather(rows, "target"))

    def validation_pairs(self, number: int) -> list[tuple[str, str]]:
        """The first validation sentences with their references; after `setup`."""
        rows = {
            index: pair
            for batch in self._validation
            for index, *pair in zip(batch.indices, batch.sources, batch.references, strict=True)
        }
        return [(rows[index][0], rows[index][1]) for index in range(min(number, len(rows)))]

    def prepare_data(self) -> None:
        """Fill the cache, once per process, and measure what the vocabulary can write.

        If another process is filling the cache, this one waits.
        """
        if self._prepared is None or self._late_check.damaged:
            self._prepared = self._load()
            self._late_check = LateCheck(self._prepared.path)
            self.coverage = [
                measure_coverage(text.load(), self.tokenizer, split=split)
                for split, text in (("validation", self._valid), ("test", self._test_text()))
                if text is not None
            ]

    def setup(self, stage: str) -> None:
        """Opens the cache and tells the trainer how many micro-batches make a step."""
        self.prepare_data()
        if self._opened is self._prepared:
            return
        assert self._prepared is not None
        self._opened = self._prepared
        self._store = TokenStore(self._prepared.dataset)
        self.plan = BatchPlan(
            self._store.lengths("source"), self._store.lengths("target"), self.tokens_per_batch, self.seed
        )
        rows = self._valid.load()
        self._validation, self._num_cut = validation_batches(
            list(rows["source"]),
            list(rows["target"]),
            self.tokenizer,
            self.validation_batch_tokens,
            longest=self.max_positions,
        )
        if self.trainer is not None:
            if self.trainer.accumulate_grad_batches != 1:
                raise UserError(
                    "trainer.accumulate_grad_batches is set by the project: leave it out, and lower "
                    "data.max_tokens_per_device to accumulate more"
                )
            if self.max_tokens_per_device != "auto":
                accumulation = self.plan.accumulation(
                    max_tokens_per_device=self.max_tokens_per_device, world_size=self.trainer.world_size
                )
                self.set_accumulation(self.trainer, accumulation)

    def train_dataloader(self) -> TimedLoader:
        """This rank's micro-batches from the optimizer step that the trainer has reached, without end."""
        assert self.trainer is not None
        stream = TrainingStream(
            self.plan,
            self._store,
            first_step=self.trainer.global_step,
            accumulation=self.trainer.accumulate_grad_batches,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        workers = self.num_workers if self.num_workers is not None else int(on_gpu)
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            pin_memory=on_gpu,
            worker_init_fn=leave_signals_to_training,
        )
        self._late_check.start()
        return TimedLoader(loader, self._late_check.raise_if_damaged)

    def set_accumulation(self, trainer: L.Trainer, micro_batches: int) -> None:
        """Recipes count in optimizer steps, Lightning in the micro-batches that make them."""
        trainer.accumulate_grad_batches = micro_batches
        if isinstance(trainer.val_check_interval, int):
            trainer.val_check_interval *= micro_batches

    def val_dataloader(self) -> ValidationBatches:
        """This rank's part of the validation set; no sentence is on two ranks."""
        assert self.trainer is not None
        return ValidationBatches(self._validation, self.trainer.global_rank, self.trainer.world_size)

    def _load(self) -> TokenizedPairs:
        """Tokenizer and tokenized training pairs, made or taken from the cache."""
        text = self._text("train")
        self._valid = self._text("valid")
        self._valid.load()  # its errors show before the long work
        if self.tokenizer_file is not None:
            self.tokenizer = Tokenizer.from_file(self.tokenizer_file)
            if self.tokenizer.vocab_size != self.vocab_size:
                raise UserError(
                    f"data.tokenizer {self.tokenizer_file} has {self.tokenizer.vocab_size} pieces: "
                    f"give --model.vocab_size {self.tokenizer.vocab_size}"
                )
        else:
            self.tokenizer = self._trained_tokenizer(text)
        prepared = tokenize_pairs(
            text,
            self.tokenizer,
            max_length=self.max_length,
            max_length_ratio=self.max_length_ratio,
            cache_dir=self.cache_dir,
        )
        self.report = prepared.report
        return prepared

    def _text(self, split: str) -> Text:
        return find_text(self.corpus, split=split, source=self.source, target=self.target, cache_dir=self.cache_dir)

    def _test_text(self) -> Text | None:
        """The test set, if there is one: training needs none."""
        try:
            return self._text("test")
        except UserError:
            return None

    def _trained_tokenizer(self, text: Text) -> Tokenizer:
        settings = repr(
            (text.fingerprint, self.vocab_size, self.character_coverage, self.normalization, self.byte_fallback)
        )
        name = hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()

        def train(unfinished: Path) -> None:
            tokenizer = Tokenizer.train(
                sentences(text.load()),
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                normalization=self.normalization,
                byte_fallback=self.byte_fallback,
            )
            unfinished.write_bytes(tokenizer.model_bytes)

        return Tokenizer.from_file(cached(self.cache_dir / "tokenizers" / f"{name}.model", train))
