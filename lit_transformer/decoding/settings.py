"""The settings of what computes a search."""

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
