"""A tiny GPT in a run folder, as training leaves it."""

from pathlib import Path

import torch

from lit_transformer.checkpoints.descendants import descendant_entry
from lit_transformer.checkpoints.format import save_checkpoint
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT

TEXTS = [pair.english for pair in demo_pairs("train", num_pairs=31)]


def write_gpt(run: Path, *, max_positions: int = 23, name: str = "gpt") -> Path:
    """Write a GPT with random weights. Another `name` makes it a model of another kind."""
    tokenizer = Tokenizer.train(TEXTS, vocab_size=97, character_coverage=1.0)
    torch.manual_seed(0)
    config = TransformerConfig(
        d_model=12, d_ff=20, num_heads=2, num_layers=2, positions="learned", max_positions=max_positions
    )
    model = GPT(config, vocab_size=tokenizer.vocab_size)
    arguments = {"vocab_size": tokenizer.vocab_size}
    weights = {f"transformer.{key}": value for key, value in model.state_dict().items()}
    entry = descendant_entry(name, config, arguments, tokenizer=tokenizer, step=7)
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, run / "checkpoints" / "step-7.ckpt")
    return run
