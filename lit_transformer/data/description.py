"""What prepared data tell about themselves: counts, warnings, and sentence pairs to look at."""

import hashlib

from lit_transformer.data.batching import PLAN_VERSION
from lit_transformer.data.coverage import Coverage
from lit_transformer.data.pair_loaders import LoadedPairs
from lit_transformer.data.prepare import TokenizedPairs
from lit_transformer.data.quality import looks_tokenized
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.notes import counted


class DescribedData(LoadedPairs):
    """Describes the data that a subclass prepares."""

    tokens_per_batch: int
    valid_pairs: int
    # By `prepare_data`:
    tokens: TokenizedPairs
    coverage: list[Coverage]
    text_warnings: list[str]

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary that both sides share. Raises UserError if each has its own. After `prepare_data`."""
        return self.vocabularies.tokenizer

    @property
    def counts(self) -> list[str]:
        """Counts of pairs and tokens, and what the vocabulary can write. After `prepare_data`."""
        counts = [*str(self.tokens.report).splitlines(), *map(str, self.coverage)]
        if self.valid_pairs:
            counts.insert(0, f"held out for validation: {counted(len(self.splits.valid.load()), 'training pair')}")
        return counts

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the text or the vocabulary, each with its remedy. After `setup`."""
        warnings = [split.warning for split in self.coverage if split.warning] + self.text_warnings
        if self.num_cut:
            cut = counted(self.num_cut, "validation sentence is", "validation sentences are")
            longest = self.followed.max_positions
            warnings.append(f"{cut} cut, because a side has more tokens than max_positions {longest}")
        return warnings

    @property
    def is_tokenized(self) -> bool:
        """Whether the validation references seem to be tokenized. After `prepare_data`."""
        return looks_tokenized(self.splits.valid.load()["target"])

    @property
    def fingerprint(self) -> str:
        """Identifies the training pairs and their order, which do not depend on the devices. After `prepare_data`."""
        parts = repr((PLAN_VERSION, self.tokens.fingerprint, self.tokens_per_batch, self.followed.seed)).encode()
        return hashlib.blake2b(parts, digest_size=8).hexdigest()

    def describe_step(self, step: int) -> str:
        """Describe the sentence pairs of an optimizer step (counted from 0), for a person who looks for a mistake."""
        rows = self.plan.step_rows(self.epochs.plan_step(step))
        [source] = self.vocabularies.source.decode(self.store.gather(rows[:1], "source").tolist())
        [target] = self.vocabularies.target.decode(self.store.gather(rows[:1], "target").tolist())
        longest = self.plan.target_lengths[rows].max()
        return f"{counted(len(rows), 'pair')} of up to {longest} tokens, the first: {source} / {target}"

    def validation_pairs(self, number: int) -> list[tuple[str, str]]:
        """Return the first validation sentences with their references. After `setup`."""
        rows = self.splits.valid.load()[:number]
        return list(zip(rows["source"], rows["target"], strict=True))
