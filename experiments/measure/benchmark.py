"""Compares the speed with plain PyTorch. Each line is a ratio of two times that were measured in the same run.

    python experiments/measure/benchmark.py [--device cuda] [--threads 1]

The sizes are those of experiments/multi30k_en_de.yaml, with bfloat16 autocast and random tokens without padding. Plain
PyTorch is torch.nn.Transformer, F.dropout, F.scaled_dot_product_attention, and F.cross_entropy of all logits at once.
Times are CPU times on a CPU, because other programs disturb them less, and wall-clock times on a GPU.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.batch import PAD_ID
from lit_transformer.model.attention import attend
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.dropout import Dropout
from lit_transformer.model.masks import Mask
from lit_transformer.model.transformer import Transformer
from lit_transformer.training.loss import smoothed_cross_entropy

SENTENCES, LENGTH, VOCAB_SIZE = 128, 16, 5000
CONFIG = TransformerConfig(d_model=128, d_ff=256, num_heads=4, num_layers=4, dropout=0.3)
EPSILON = 0.1


class Plain(nn.Module):
    """A model of PyTorch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, CONFIG.d_model)
        layers = CONFIG.num_layers
        sizes = (CONFIG.d_model, CONFIG.num_heads, layers, layers, CONFIG.d_ff, CONFIG.dropout)
        self.transformer = nn.Transformer(*sizes, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device)
        padding = source == PAD_ID
        states = self.transformer(
            F.dropout(self.embedding(source) * CONFIG.d_model**0.5, CONFIG.dropout),
            F.dropout(self.embedding(target) * CONFIG.d_model**0.5, CONFIG.dropout),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(states, self.embedding.weight)


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """The shortest time of several runs, after two to warm up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for repeat in range(repeats + 2):
        begin = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        if repeat >= 2:
            best = min(best, clock() - begin)
    return best


def steps(device: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step of this project and one of the plain model."""
    source = torch.randint(4, VOCAB_SIZE, (SENTENCES, LENGTH), device=device)
    target = torch.randint(4, VOCAB_SIZE, (SENTENCES, LENGTH), device=device)
    ours, plain = Transformer(CONFIG, vocab_size=VOCAB_SIZE, pad_id=PAD_ID).to(device), Plain().to(device)
    fused = torch.optim.Adam(ours.parameters(), betas=(0.9, 0.98), eps=1e-9, fused=True)
    common = torch.optim.Adam(plain.parameters(), betas=(0.9, 0.98), eps=1e-9)

    def our_step() -> None:
        fused.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            states = ours.decode(target, ours.encode(source)).flatten(0, 1)
            weight = ours.embedding.weight
            sums = smoothed_cross_entropy(states, weight, target.flatten(), pad_id=PAD_ID, epsilon=EPSILON)
        (sums.smoothed / target.numel()).backward()
        fused.step()

    def plain_step() -> None:
        common.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            logits = plain(source, target).flatten(0, 1)
        loss = F.cross_entropy(logits.float(), target.flatten(), label_smoothing=EPSILON, ignore_index=PAD_ID)
        loss.backward()
        common.step()

    return our_step, plain_step


def parts(device: str) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Parts of a step, forward and backward: this project's and the plain one."""
    tokens = SENTENCES * LENGTH
    states = torch.randn(tokens, CONFIG.d_model, device=device, requires_grad=True)
    weight = torch.randn(VOCAB_SIZE, CONFIG.d_model, device=device, requires_grad=True)
    target = torch.randint(4, VOCAB_SIZE, (tokens,), device=device)
    head_shape = (SENTENCES, CONFIG.num_heads, LENGTH, CONFIG.key_size)
    query, key, value = [
        torch.randn(head_shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    ]
    dropout = Dropout(CONFIG.dropout).train()

    def our_loss() -> None:
        with torch.autocast(device, torch.bfloat16):
            smoothed_cross_entropy(states, weight, target, pad_id=PAD_ID, epsilon=EPSILON).smoothed.backward()

    def plain_loss() -> None:
        with torch.autocast(device, torch.bfloat16):
            logits = F.linear(states, weight)
        F.cross_entropy(logits.float(), target, label_smoothing=EPSILON, reduction="sum").backward()

    return {
        "label-smoothed loss": (our_loss, plain_loss),
        "dropout": (lambda: dropout(states).sum().backward(), lambda: F.dropout(states, 0.3).sum().backward()),
        "attention": (
            lambda: attend(query, key, value, Mask()).sum().backward(),
            lambda: F.scaled_dot_product_attention(query, key, value).sum().backward(),
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} thread(s), best of {options.repeats}")
    ours, plain = (seconds(step, options.device, options.repeats) for step in steps(options.device))
    tokens = SENTENCES * LENGTH
    print(
        f"training step: {plain / ours:.2f} times as fast as plain PyTorch "
        f"({tokens / ours:,.0f} against {tokens / plain:,.0f} target tokens/s)"
    )
    for name, pair in parts(options.device).items():
        our_time, plain_time = (seconds(work, options.device, options.repeats) for work in pair)
        print(f"  {name}: {plain_time / our_time:.2f} times ({our_time * 1e3:.1f} against {plain_time * 1e3:.1f} ms)")


if __name__ == "__main__":
    main()
