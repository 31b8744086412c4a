"""The settings of a search (section 6.1), and of what computes it."""

from dataclasses import dataclass
from typing import Literal, get_args

from lit_transformer.errors import UserError

BATCH_TOKENS = 2048
"""Padded source tokens per batch on a CPU."""
EngineName = Literal["torch", "ctranslate2", "cuda_graphs"]
"""What computes a search (`engines.make_engine`). What is installed never changes the default."""
FLOAT32 = "float32"
"""The type of the weights and products that every engine has, and the default."""
BFLOAT16 = "bfloat16"
"""A type of half the size, with 8 bits of precision."""
MAX_BEAM_SIZE = 10_000
"""A larger value is refused before it fills the memory."""
MAX_LENGTH_PENALTY = 10.0
"""From 17 on, the length penalty of the longest outputs overflows float32."""
LARGEST_EXTRA_LENGTH = 10_000
"""With a larger `max_extra_length`, the largest length penalty of the longest outputs could overflow float32."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How translations are searched for.

    Args:
        beam_size: Live hypotheses per sentence. 1 is greedy search.
        length_penalty: Alpha of GNMT's length penalty. A larger value favors longer translations.
        n_best: Hypotheses to return per sentence, at most `beam_size`. By default 1, and `Translator.candidates`
            returns all that the beam holds.
        max_extra_length: A translation has at most this many tokens more than its source (section 6.1).
        min_length: A translation has at least this many tokens. With 0, a sentence may have the empty translation.

    Raises:
        UserError: If a value is out of range.
    """

    beam_size: int = 4
    length_penalty: float = 0.6
    n_best: int | None = None
    max_extra_length: int = 50
    min_length: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.beam_size <= MAX_BEAM_SIZE:
            bound = "at least 1" if self.beam_size < 1 else f"at most {MAX_BEAM_SIZE}"
            raise UserError(f"beam_size is {self.beam_size}: it must be {bound}")
        if not 1 <= self.num_returned <= self.beam_size:
            raise UserError(f"n_best is {self.n_best}: it must be at least 1 and at most beam_size, {self.beam_size}")
        # With a negative alpha, longer hypotheses could gain without bound, and no search could stop early.
        if not 0.0 <= self.length_penalty <= MAX_LENGTH_PENALTY:
            raise UserError(f"length_penalty is {self.length_penalty}: it must be from 0 to {MAX_LENGTH_PENALTY:g}")
        if not 0 <= self.max_extra_length <= LARGEST_EXTRA_LENGTH:
            raise UserError(f"max_extra_length is {self.max_extra_length}: it must be from 0 to {LARGEST_EXTRA_LENGTH}")
        # The shortest source has one token.
        if not 0 <= self.min_length <= self.max_extra_length + 1:
            bound = f"max_extra_length + 1, {self.max_extra_length + 1}"
            raise UserError(f"min_length is {self.min_length}: it must be at least 0 and at most {bound}")

    @property
    def num_returned(self) -> int:
        """Hypotheses to return per sentence."""
        return 1 if self.n_best is None else self.n_best


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What computes a search, and how.

    Args:
        engine: What searches. `torch` is the plain engine. `ctranslate2` is fast on CPUs, and needs the package of that
            name. `cuda_graphs` is for NVIDIA GPUs.
        compute_type: The type of the weights and products: `float32`, or another one that the engine has, such as
            `bfloat16`, or `int8` of ctranslate2. Other types change some translations.
        batch_tokens: Padded source tokens per batch. It changes speed and memory, not the translations. By default,
            2,048 on a CPU, and more on a GPU (`default_batch_tokens`).
        workers: The most processes that search, this one included. Others are started for long inputs on a CPU. None
            means one per core, or 1 on a GPU. Workers keep the weights that they are started with, so a model that is
            being trained needs 1.

    Raises:
        UserError: If there is no such engine, or a value is out of range.
    """

    engine: EngineName = "torch"
    compute_type: str = FLOAT32
    batch_tokens: int | None = None
    workers: int | None = 1

    def __post_init__(self) -> None:
        if self.engine not in get_args(EngineName):
            raise UserError(f"engine is {self.engine!r}: choose one of {', '.join(get_args(EngineName))}")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"batch_tokens is {self.batch_tokens}: it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers is {self.workers}: it must be at least 1")

    @property
    def changes(self) -> dict[str, str]:
        """Those of the settings that change translations: not the defaults, nor what changes the rounding of sums."""
        engine = {"engine": self.engine} if self.engine == "ctranslate2" else {}
        return engine | ({"compute_type": self.compute_type} if self.compute_type != FLOAT32 else {})
