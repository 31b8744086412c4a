"""The settings of a search (section 6.1). A trained model has its own, so files of models hold them, too."""

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from lit_transformer.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Length = TypeVar("Length", int, "Tensor")
LengthNormalization = Literal["gnmt", "length"]
Stopping = Literal["exact", "heuristic", "full"]
MAX_BEAM_SIZE = 10_000
"""A larger value is refused before it fills the memory."""
MAX_LENGTH_PENALTY = 10.0
"""From 17 on, the length penalty of the longest outputs overflows float32."""
LARGEST_EXTRA_LENGTH = 10_000
"""With a larger `max_extra_length`, the largest length penalty of the longest outputs could overflow float32."""
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How tokens are drawn at random: `temperature` comes first, then `top_k`, then `top_p`.

    Args:
        temperature: Log-probabilities are divided by it. Below 1, probable tokens become more probable. 0 always takes
            the best token, as greedy search does.
        top_k: Only this many most probable tokens can be drawn, and those as probable as the last of them.
        top_p: Only the most probable tokens can be drawn, as few as together have at least this probability, and those
            as probable as the last of them.
        seed: Another seed draws other tokens.

    Raises:
        UserError: If a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}: it must be at least 0 and finite")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}: it must be at least 1")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p is {self.top_p}: it must be above 0 and at most 1")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"seed is {self.seed}: it must be from 0 to {LARGEST_SEED}")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How translations are searched for, or drawn at random.

    The defaults are the paper's. A model of others may come with other settings.

    Args:
        beam_size: Live hypotheses per sentence. 1 is greedy search. Sampling has no beam.
        length_penalty: Alpha of the length penalty. A larger value favors longer translations.
        n_best: Hypotheses to return per sentence, at most `beam_size` unless they are samples. By default 1, and
            `Translator.candidates` returns `beam_size`.
        max_extra_length: A translation has at most this many tokens more than its source (section 6.1).
        min_length: A translation has at least this many tokens. With 0, a sentence may have the empty translation.
        length_normalization: Sums of log-probabilities are divided by GNMT's ((5 + length) / 6)^alpha (`gnmt`), or by
            length^alpha (`length`), as `generate` of `transformers` does.
        stopping: A sentence is done when nothing can change its result (`exact`), when the beam has `beam_size`
            finished hypotheses (`full`), or when it has, and no live one is better at its present length (`heuristic`).
            The last two are `early_stopping` true and false of `transformers`.
        max_length: A translation has at most this many tokens with EOS, whatever its source: the last one must be EOS.
            It takes the place of `max_extra_length`.
        unknown: Whether a translation may contain the unknown token, which its text leaves out.
        sampling: How tokens are drawn. By default, the best hypotheses are searched for.

    Raises:
        UserError: If a value is out of range.
    """

    beam_size: int = 4
    length_penalty: float = 0.6
    n_best: int | None = None
    max_extra_length: int = 50
    min_length: int = 1
    length_normalization: LengthNormalization = "gnmt"
    stopping: Stopping = "exact"
    max_length: int | None = None
    unknown: bool = False
    sampling: SamplingSettings | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.beam_size <= MAX_BEAM_SIZE:
            bound = "at least 1" if self.beam_size < 1 else f"at most {MAX_BEAM_SIZE}"
            raise UserError(f"beam_size is {self.beam_size}: it must be {bound}")
        largest, bound = self.beam_size, f"beam_size, {self.beam_size}"
        if self.sampling is not None:
            largest, bound = MAX_BEAM_SIZE, f"{MAX_BEAM_SIZE}"
        if not 1 <= self.num_returned <= largest:
            raise UserError(f"n_best is {self.n_best}: it must be at least 1 and at most {bound}")
        # With a negative alpha, longer hypotheses could gain without bound, and no search could stop early.
        if not 0.0 <= self.length_penalty <= MAX_LENGTH_PENALTY:
            raise UserError(f"length_penalty is {self.length_penalty}: it must be from 0 to {MAX_LENGTH_PENALTY:g}")
        if not 0 <= self.max_extra_length <= LARGEST_EXTRA_LENGTH:
            raise UserError(f"max_extra_length is {self.max_extra_length}: it must be from 0 to {LARGEST_EXTRA_LENGTH}")
        if self.max_length is not None and not 1 <= self.max_length <= LARGEST_EXTRA_LENGTH:
            raise UserError(f"max_length is {self.max_length}: it must be from 1 to {LARGEST_EXTRA_LENGTH}")
        # The shortest source has one token.
        if not 0 <= self.min_length <= self.limit(1):
            bound = f"{'max_extra_length + 1' if self.max_length is None else 'max_length'}, {self.limit(1)}"
            raise UserError(f"min_length is {self.min_length}: it must be at least 0 and at most {bound}")
        for name, choices in (("length_normalization", LengthNormalization), ("stopping", Stopping)):
            if (chosen := getattr(self, name)) not in get_args(choices):
                raise UserError(f"{name} is {chosen!r}: choose one of {', '.join(get_args(choices))}")

    @property
    def num_returned(self) -> int:
        """Hypotheses to return per sentence."""
        return 1 if self.n_best is None else self.n_best

    @property
    def num_rows(self) -> int:
        """Hypotheses per sentence that are extended together: the beam, or the samples."""
        return self.beam_size if self.sampling is None else self.num_returned

    def limit(self, source_length: Length) -> Length:
        """The most tokens of a translation with EOS, for a source of this many tokens with EOS."""
        return source_length + self.max_extra_length if self.max_length is None else 0 * source_length + self.max_length

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that are not the paper's, as plain types."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}
