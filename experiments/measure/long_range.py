"""Trains small GPTs on short sequences, and measures their perplexity on sequences up to 4 times as long.

    OMP_NUM_THREADS=1 python experiments/measure/long_range.py

A sequence repeats phrases: each one is drawn from the four phrases of this sequence, which are 8 random tokens of 32
each. So a phrase that occurred before can be predicted from its first tokens, and a longer sequence has more of them.
A model that can use longer sequences has a lower perplexity there. Training takes sequences of 64 tokens. All models
have rotary positions, and the same number of training steps.
"""

import copy
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.model.positions import make_positions

NUM_TOKENS, NUM_PHRASES, PHRASE_LENGTH = 32, 4, 8
LENGTHS = (64, 128, 256)
"""The first one is that of training."""
STEPS, TUNING_STEPS, TOKENS_PER_STEP, TEST_TOKENS = 1000, 100, 2048, 65_536
LEARNING_RATE, TUNING_RATE = 4e-3, 1e-3
SCALING = LENGTHS[-1] / LENGTHS[0]
CONFIG = TransformerConfig(d_model=64, d_ff=256, num_heads=4, num_layers=2, dropout=0.0, norm="pre", positions="rotary")


def main() -> None:
    """Train, test and print."""
    print(f"{'':32} " + " ".join(f"{length:>6}" for length in LENGTHS))
    plain = trained(CONFIG)
    show("nothing", plain)
    show("trained further", tuned(plain))
    scaled = with_positions(plain, replace(CONFIG, rotary_scaling=SCALING))
    show(f"rotary_scaling {SCALING:.0f}", scaled)
    show(f"rotary_scaling {SCALING:.0f}, trained further", tuned(scaled))
    show("rotary_base 500,000", trained(replace(CONFIG, rotary_base=500_000.0)))
    show("window 32", trained(replace(CONFIG, window=32)))
    print(f"{time.process_time():.0f} CPU seconds")


def sequences(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Random sequences and their next tokens, rows x (length + 1)."""
    phrases = torch.randint(NUM_TOKENS, (rows, NUM_PHRASES, PHRASE_LENGTH), generator=generator)
    order = torch.randint(NUM_PHRASES, (rows, length // PHRASE_LENGTH + 1), generator=generator)
    return phrases[torch.arange(rows)[:, None], order].flatten(1)[:, : length + 1]


def loss_of(model: GPT, token_BL: Tensor) -> Tensor:
    """Cross-entropy of the next token."""
    return F.cross_entropy(model(token_BL[:, :-1]).flatten(0, 1), token_BL[:, 1:].flatten())


def train(model: GPT, length: int, steps: int, rate: float) -> None:
    """Train with sequences of one length. The learning rate rises and falls."""
    generator = torch.Generator().manual_seed(length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, sequences(TOKENS_PER_STEP // length, length, generator)).backward()
        optimizer.step()
        schedule.step()


def trained(config: TransformerConfig) -> GPT:
    """A model after training with short sequences."""
    torch.manual_seed(0)
    model = GPT(config, vocab_size=NUM_TOKENS)
    train(model, LENGTHS[0], STEPS, LEARNING_RATE)
    return model


def with_positions(model: GPT, config: TransformerConfig) -> GPT:
    """The same weights with the positions of another configuration."""
    model = copy.deepcopy(model)
    model.stack.positions = make_positions(config, causal=True)
    return model


def tuned(model: GPT) -> GPT:
    """The model after a few more steps, with the longest sequences."""
    model = copy.deepcopy(model)
    train(model, LENGTHS[-1], TUNING_STEPS, TUNING_RATE)
    return model


@torch.no_grad()
def show(name: str, model: GPT) -> None:
    """Print the perplexity for each length, over the same number of tokens."""
    perplexities = []
    for length in LENGTHS:
        generator = torch.Generator().manual_seed(0)
        token_BL = sequences(TEST_TOKENS // length, length, generator)
        losses = [loss_of(model, part_BL) for part_BL in token_BL.split(64)]
        sizes = [len(part_BL) for part_BL in token_BL.split(64)]
        mean = sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
        perplexities.append(torch.tensor(mean).exp().item())
    print(f"{name:32} " + " ".join(f"{perplexity:6.1f}" for perplexity in perplexities), flush=True)


if __name__ == "__main__":
    main()
