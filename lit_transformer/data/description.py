"""What prepared data tell about themselves: counts, warnings, and sentence pairs to look at."""

import hashlib

from lit_transformer.data.batching import PLAN_VERSION
from lit_transformer.data.corpus import has_splits
from lit_transformer.data.coverage import Coverage
from lit_transformer.data.pair_loaders import LoadedPairs
from lit_transformer.data.prepare import TokenizedPairs
from lit_transformer.data.quality import looks_tokenized
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.notes import counted

MANY_DROPPED = 0.05
MANY_UNKNOWN = 0.001
MIN_USES = 10
"""Fewest training tokens per token of the vocabulary without a warning."""


def little_text(tokens: int, vocab_size: int) -> list[str]:
    """Return a warning if a training text of this many tokens is too short for its vocabulary."""
    if tokens >= MIN_USES * vocab_size:
        return []
    return [
        f"the training text has {tokens:,} tokens for a vocabulary of {vocab_size:,}: lower vocab_size, so that a "
        f"token occurs {MIN_USES} times or more on average"
    ]


class DescribedData(LoadedPairs):
    """Describes the data that a subclass prepares."""

    source: str
    target: str
    tokens_per_batch: int
    valid_corpus: str | None
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
    def title(self) -> str:
        """Languages and corpus."""
        return f"{self.source} to {self.target}, corpus {self.corpus}"

    @property
    def test_set(self) -> tuple[str, str | None] | None:
        """The corpus to test on, and its split if it has some. Without a test split, they are those of validation.

        None if validation pairs were held out of the training pairs, because no split is left to test on.
        """
        if self.splits.test is not None:
            return self.corpus, "test"
        if self.valid_pairs:
            return None
        corpus = self.corpus if self.valid_corpus is None else self.valid_corpus
        return corpus, "valid" if has_splits(corpus, source=self.source, target=self.target) else None

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The vocabularies, the target's first. A shared one comes once. After `prepare_data`."""
        source, target = self.vocabularies
        return (target,) if self.vocabularies.are_shared else (target, source)

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
        found, report = [], self.tokens.report
        dropped = 1.0 - report.num_kept / report.num_pairs
        tokens = report.num_source_tokens + report.num_target_tokens
        unknown = (report.num_source_unknown + report.num_target_unknown) / tokens
        if dropped > MANY_DROPPED:
            found.append(
                f"{dropped:.0%} of the pairs are dropped: correct the corpus, or raise max_length or max_length_ratio"
            )
        if unknown > MANY_UNKNOWN:
            found.append(f"{unknown:.1%} of the tokens are unknown: raise character_coverage or change the tokenizer")
        vocab_size = self.followed.vocab_size + (self.followed.source_vocab_size or 0)
        found += [*little_text(tokens, vocab_size), *(split.warning for split in self.coverage if split.warning)]
        found += self.text_warnings
        if self.num_cut:
            cut = counted(self.num_cut, "validation sentence is", "validation sentences are")
            longest = self.followed.max_positions
            found.append(f"{cut} cut, because a side has more tokens than max_positions {longest}")
        return found

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
