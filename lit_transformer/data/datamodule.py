"""The LightningDataModule: corpus -> vocabulary -> tokens -> plan -> batches. It does not know the model."""

from collections.abc import Sequence
from typing import Literal

from lit_transformer.data import CACHE_DIR
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.cache import LateCheck
from lit_transformer.data.coverage import measure_coverage
from lit_transformer.data.description import DescribedData
from lit_transformer.data.following import Followed, follow, model_vocabularies
from lit_transformer.data.loaders import check_settings
from lit_transformer.data.packing import PackedPlan
from lit_transformer.data.prepare import tokenize_pairs
from lit_transformer.data.quality import find_text_warnings
from lit_transformer.data.splits import find_splits
from lit_transformer.data.store import TokenStore
from lit_transformer.data.tokenizer import NORMALIZATION, Normalization
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.data.vocabulary import find_vocabularies
from lit_transformer.files import expanded


class TranslationData(DescribedData):
    """Sentence pairs of a corpus in token batches, pairs of similar length together (section 5.1).

    Without a trainer it gives the batches of one device: `prepare_data()`, `setup("fit")`, `train_dataloader()`. With a
    trainer, `vocab_size`, `source_vocab_size`, `max_positions` and `seed` are the module's, unless they are given.

    Args:
        corpus: `demo` (or `demo:PAIRS`), `copy`, a folder of SPLIT.LANG text files or SPLIT.tsv tables, a table (.tsv,
            .csv, .jsonl, .parquet), two text files (SOURCE_FILE,TARGET_FILE, or NAME for NAME.en and NAME.de), or a Hub
            data set with its configuration after a colon. docs/corpora.md has examples.
        source: Language to translate from.
        target: Language to translate into.
        valid_corpus: Corpus of the validation pairs, in any form. By default, they are the split `valid` of `corpus`.
        valid_pairs: Number of training pairs to hold out for validation, in place of the split `valid`.
        vocab_size: Tokens of the shared vocabulary, or of the target's. By default the model's, or without a model the
            paper's 37,000.
        source_vocab_size: Tokens of the source's own vocabulary, if it has one. By default the model's.
        tokenizer: A SentencePiece model file for the shared vocabulary, or for the target's. Special tokens that it
            lacks are added, and vocab_size counts them. The commands also take a trained model, and use its vocabulary.
            By default, a vocabulary is learned from the training split.
        source_tokenizer: The same for the source's own vocabulary. It needs source_vocab_size, unless both sides have
            the same tokens.
        character_coverage: Share of the training text's characters that get a token of their own.
        normalization: Rule by which the learned vocabulary rewrites text. Only `identity` can write every reference.
            `nmt_nfkc` unites variants of characters, also in translations.
        byte_fallback: Whether the learned vocabulary writes characters without a token as bytes, which takes 256 of
            its tokens. By default, it does if vocab_size is 8,000 or more.
        symbols: Strings that are one token wherever they occur, such as `<2de>` or `<URL>`. vocab_size counts them.
        tokens_per_batch: Tokens per optimizer step on each side, over all devices.
        max_tokens_per_device: Padded tokens on each side that a device takes at a time. Larger steps are accumulated.
            `auto` takes as many as fit into a GPU's memory.
        packing: Whether a micro-batch has all its sentences in one row without padding, so that fewer micro-batches
            make a step. All rows have one size. The steps, their pairs and their loss stay the same.
        max_length: Training pairs with more tokens than this on either side are dropped.
        max_length_ratio: Training pairs are also dropped if one side has more than this many times the tokens of the
            other.
        validation_batch_tokens: Padded tokens on each side of a validation batch. By default, 8,192 on a GPU and 2,048
            elsewhere.
        cache_dir: Folder for prepared data.
        num_workers: Processes that assemble batches. By default, one for a GPU and none for a CPU.
        seed: Determines the order of the training pairs. By default the model's, or without a model 1.
        max_positions: Longest sequence that the model takes. Longer validation sentences are cut. By default the
            model's.
    """

    def __init__(
        self,
        corpus: str = "wmt/wmt14:de-en",
        source: str = "en",
        target: str = "de",
        valid_corpus: str | None = None,
        valid_pairs: int = 0,
        vocab_size: int | None = None,
        source_vocab_size: int | None = None,
        tokenizer: str | None = None,
        source_tokenizer: str | None = None,
        character_coverage: float = 0.9999,
        normalization: Normalization = NORMALIZATION,
        byte_fallback: bool | None = None,
        symbols: Sequence[str] = (),
        tokens_per_batch: int = 25000,
        max_tokens_per_device: int | Literal["auto"] = 16384,
        packing: bool = False,
        max_length: int = 256,
        max_length_ratio: float = 4.0,
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
            ("valid_pairs", valid_pairs, 0),
            ("tokens_per_batch", tokens_per_batch, 1),
            ("max_tokens_per_device", max_tokens_per_device, 1),
            ("max_length", max_length, 2),  # one token and EOS
            ("max_length_ratio", max_length_ratio, 1),
            ("validation_batch_tokens", validation_batch_tokens, 1),
            ("num_workers", num_workers, 0),
        )
        self.corpus = corpus
        self.source = source
        self.target = target
        self.valid_corpus = valid_corpus
        self.valid_pairs = valid_pairs
        self.tokenizer_file = tokenizer
        self.source_tokenizer_file = source_tokenizer
        self.character_coverage = character_coverage
        self.normalization: Normalization = normalization
        self.byte_fallback = byte_fallback
        self.symbols = tuple(symbols)
        self.tokens_per_batch = tokens_per_batch
        self.max_tokens_per_device: int | Literal["auto"] = max_tokens_per_device
        self.packing = packing
        self.max_length = max_length
        self.max_length_ratio = max_length_ratio
        self.validation_batch_tokens = validation_batch_tokens
        self.cache_dir = expanded(cache_dir)
        self.num_workers = num_workers
        self._given = {
            "vocab_size": vocab_size,
            "source_vocab_size": source_vocab_size,
            "max_positions": max_positions,
            "seed": seed,
        }
        self.followed = follow(None, **self._given)
        self.hparams.update(self.followed._asdict())

    def _find_text(self) -> None:
        self.splits = find_splits(
            self.corpus,
            valid_corpus=self.valid_corpus,
            valid_pairs=self.valid_pairs,
            source=self.source,
            target=self.target,
            cache_dir=self.cache_dir,
        )
        self.splits.valid.load()  # its errors are reported before the long work
        self.vocabularies = self._module_vocabularies() or find_vocabularies(
            self.splits.train,
            file=self.tokenizer_file,
            source_file=self.source_tokenizer_file,
            vocab_size=self.followed.vocab_size,
            source_vocab_size=self.followed.source_vocab_size,
            character_coverage=self.character_coverage,
            normalization=self.normalization,
            byte_fallback=self.byte_fallback,
            symbols=self.symbols,
            cache_dir=self.cache_dir,
        )

    def _tokenize(self) -> LateCheck:
        self.tokens = tokenize_pairs(
            self.splits.train,
            self.vocabularies,
            max_length=self.max_length,
            max_length_ratio=self.max_length_ratio,
            cache_dir=self.cache_dir,
        )
        held_out = {"validation": self.splits.valid} | ({"test": self.splits.test} if self.splits.test else {})
        self.coverage = [
            measure_coverage(text.load(), self.vocabularies, split=split) for split, text in held_out.items()
        ]
        self.text_warnings = find_text_warnings(self.splits.train, held_out, cache_dir=self.cache_dir)
        return LateCheck(self.tokens.path)

    def _make_plan(self) -> BatchPlan:
        self.store = TokenStore(self.tokens.path)
        lengths = self.store.lengths("source"), self.store.lengths("target")
        plan = PackedPlan if self.packing else BatchPlan
        return plan(*lengths, self.tokens_per_batch, self.followed.seed)

    def _follow_module(self) -> bool:
        """Take from the trainer's module what was not given. Return whether something has changed."""
        former, self.followed = self.followed, follow(self._model, **self._given)
        self.hparams.update(self.followed._asdict())
        learned = self._module_vocabularies()
        return former != self.followed or (self._has_text and learned not in (None, self.vocabularies))

    def _module_vocabularies(self) -> Vocabularies | None:
        files = self.tokenizer_file, self.source_tokenizer_file
        return model_vocabularies(self._model, self.followed) if files == (None, None) else None
