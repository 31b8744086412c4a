"""Everything that a GPU has to answer, as contests that compile at the same time and are measured in turn.

In order: how many tokens per second base and big train, by PyTorch's own layers and by ours with each setting that is
for GPUs, with their memory and the synchronizations of a step; and how long newstest2014's 3,003 sentences take.
"""

from dataclasses import dataclass, replace

import numpy as np

from lit_transformer.benchmarks.decoding import DecodingJob, search_settings
from lit_transformer.benchmarks.measures import Contest, decoding_contest, training_contest
from lit_transformer.benchmarks.sentences import draw_batches, draw_lengths, draw_padded
from lit_transformer.benchmarks.sizes import SIZES, Size
from lit_transformer.benchmarks.training import TrainingJob
from lit_transformer.decoding.settings import EngineSettings
from lit_transformer.model.config import TransformerConfig

TRAINING_SETTINGS = {
    "base": ("compile", "packing", "compile+packing"),
    "big": ("compile+packing", "compile+packing+activation_checkpointing"),
}
"""Settings of ours that are measured beside the default ones."""
BATCH_TOKENS = (2048, 8192, 32768)
"""Source tokens of a batch of decoding."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    sizes: dict[str, Size]
    tokens_per_batch: int
    num_batches: int
    num_sentences: int
    seconds: float


FULL = Scale(
    sizes={name: SIZES[name] for name in ("base", "big")},
    tokens_per_batch=25_000,
    num_batches=20,
    num_sentences=3003,
    seconds=8.0,
)
"""newstest2014 has 3,003 sentences."""
_TINY = Size(config=TransformerConfig(d_model=32, d_ff=64, num_heads=4, num_layers=1), vocab_size=1_000)
SMALL = Scale(sizes={"base": _TINY, "big": _TINY}, tokens_per_batch=500, num_batches=3, num_sentences=12, seconds=0.01)
"""For a CPU, where it shows that everything runs, and nothing else."""


def gpu_contests(scale: Scale, device: str, threads: int, peak_flops: float) -> list[Contest]:
    """The contests, the most important first."""
    return [*_training(scale, device, threads, peak_flops), _decoding(scale, device, threads)]


def _training(scale: Scale, device: str, threads: int, peak_flops: float) -> list[Contest]:
    contests = []
    for name, size in scale.sizes.items():
        batches = draw_batches(
            scale.num_batches, tokens_per_batch=scale.tokens_per_batch, vocab_size=size.vocab_size, seed=1
        )
        job = TrainingJob(size=size, batches=batches, device=device, precision="bf16-mixed", threads=threads)
        contests.append(
            training_contest(
                f"train {name}, bf16-mixed, {scale.tokens_per_batch:,} tokens per step",
                job,
                ["torch"],
                [tuple(names.split("+")) for names in TRAINING_SETTINGS[name]],
                seconds=scale.seconds,
                peak_flops=peak_flops,
            )
        )
    return contests


def _decoding(scale: Scale, device: str, threads: int) -> Contest:
    size = scale.sizes["base"]
    lengths = draw_lengths(2 * scale.num_sentences, seed=2)[0][: scale.num_sentences]
    ids = draw_padded(lengths, size.vocab_size, np.random.default_rng(2)).tolist()
    sources = [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]
    engine = EngineSettings(batch_tokens=BATCH_TOKENS[-1])
    job = DecodingJob(
        size=size,
        sources=[sources],
        settings=search_settings(is_trained=False, beam_size=4),
        engine=engine,
        in_batches=False,
        device=device,
        threads=threads,
    )
    others = {f"batch_tokens {tokens}": replace(engine, batch_tokens=tokens) for tokens in BATCH_TOKENS[:-1]}
    others["bfloat16"] = replace(engine, compute_type="bfloat16")
    if device != "cpu":
        others["cuda_graphs"] = replace(engine, engine="cuda_graphs")
        others["cuda_graphs bfloat16"] = replace(others["cuda_graphs"], compute_type="bfloat16")
    title = f"decode {scale.num_sentences:,} sentences, base, beam 4, float32, batch_tokens {BATCH_TOKENS[-1]}"
    return decoding_contest(title, job, [], others, seconds=scale.seconds)
