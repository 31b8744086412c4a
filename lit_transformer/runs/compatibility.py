"""Compatibility: whether a checkpoint fits the model of the run that resumes from it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    NAME_ENTRY,
    VOCABULARY_ENTRIES,
    WEIGHTS_ENTRY,
    WEIGHTS_PREFIX,
    owners_of,
    unwrapped_name,
)
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.notes import counted
from lit_transformer.runs.changed_settings import KINDS, ChangedSettings
from lit_transformer.training.module import LitModel

SET_BY_SCHEDULES = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
"""What schedules of torch add to an optimizer's groups of weights."""


def check_kind(checkpoint: Mapping[str, Any], kind: str | None) -> None:
    """Raise UserError unless the checkpoint has a model of this kind."""
    if (saved := checkpoint[MODEL_ENTRY].get(NAME_ENTRY)) != kind:
        saved, mine = (f"a {each} model" if each else "a translation model" for each in (saved, kind))
        raise UserError(
            f"the checkpoint of ckpt_path holds {saved}, and this run trains {mine}: resume with the task of its "
            "config.yaml, or start afresh without ckpt_path"
        )


def check_vocabularies(checkpoint: Mapping[str, Any], tokenizers: Sequence[Tokenizer]) -> None:
    """Raise UserError unless the checkpoint has these SentencePiece models, the target's first."""
    saved = [checkpoint[MODEL_ENTRY][name] for name in VOCABULARY_ENTRIES if name in checkpoint[MODEL_ENTRY]]
    if saved != [each.model_bytes for each in tokenizers]:
        had = "one for both languages" if len(saved) == 1 else "one per language"
        raise UserError(
            f"the checkpoint of ckpt_path was trained with another vocabulary ({had}): resume with the corpus, "
            "valid_pairs, vocab_size, source_vocab_size and tokenizer of its config.yaml (and with normalization "
            "nmt_nfkc and byte_fallback false if that has no normalization), or start afresh without ckpt_path"
        )


def check_architecture(checkpoint: Mapping[str, Any], config: TransformerConfig) -> None:
    """Raise UserError unless the checkpoint has this architecture. Dropout may differ."""
    saved, mine = asdict(TransformerConfig(**checkpoint[MODEL_ENTRY]["transformer"])), asdict(config)
    if other := [name for name in mine if name != "dropout" and saved[name] != mine[name]]:
        settings = ", ".join(f"model.transformer.{name} {saved[name]}" for name in other)
        raise UserError(f"the checkpoint of ckpt_path has another architecture: resume with its {settings}")


def leave_out_foreign(checkpoint: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Remove the weights that this run's model does not have, which a callback had added to the model.

    Args:
        checkpoint: Its content, which is changed.
        model: This run's model, with what its callbacks have added.

    Returns:
        The names of what was removed.

    Raises:
        UserError: The checkpoint lacks weights of this run's model.
    """
    weights, names = checkpoint[WEIGHTS_ENTRY], [unwrapped_name(name) for name in model.state_dict()]
    if missing := [name for name in names if name not in weights]:
        raise UserError(
            f"the checkpoint of ckpt_path lacks {owners_of(missing)} of this run's model: resume without the callback "
            "that adds them"
        )
    foreign = [name for name in weights if name not in names]
    if foreign == list(weights)[len(names) :]:
        # Optimizers number the parameters in the model's order, and what was added is last.
        end = len(list(model.parameters()))
        for optimizer in checkpoint["optimizer_states"]:
            for group in optimizer["param_groups"]:
                group["params"] = [number for number in group["params"] if number < end]
            optimizer["state"] = {number: state for number, state in optimizer["state"].items() if number < end}
    for name in foreign:
        del weights[name]
    return foreign


def own_parameters(model: LitModel) -> list[Tensor]:
    """The parameters of the model, without those of modules that a callback has added to it."""
    own = model.without_memory().state_dict()
    return [
        parameter
        for name, parameter in model.named_parameters()
        if unwrapped_name(name).removeprefix(WEIGHTS_PREFIX) in own
    ]


def check_moments(checkpoint: Mapping[str, Any], optimizer: Optimizer, own: Collection[Tensor]) -> None:
    """Raise UserError unless the optimizer's state is of these weights. Fused Adam would write past their end.

    Args:
        checkpoint: Its content.
        optimizer: A new optimizer of this run.
        own: The weights that must have moments if it is Adam. Others may be without a gradient.
    """
    saved = checkpoint["optimizer_states"][0]
    state: Mapping[int, Mapping[str, Any]] = saved["state"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    trained = {id(weight) for weight in own} if isinstance(optimizer, Adam) else set()
    needed = {index for index, weight in enumerate(weights) if id(weight) in trained}
    moments = ("exp_avg", "exp_avg_sq")
    groups = [*zip(saved["param_groups"], optimizer.param_groups, strict=False)]
    if (
        [len(group["params"]) for group in saved["param_groups"]] != [len(g["params"]) for g in optimizer.param_groups]
        or any(theirs.keys() - mine.keys() - SET_BY_SCHEDULES for theirs, mine in groups)
        or any(name not in state.get(index, {}) for index in needed for name in moments)
        or any(part[name].shape != weights[i].shape for i, part in state.items() for name in moments if name in part)
    ):
        [former] = checkpoint.get("callbacks", {}).get(ChangedSettings.__name__, {}).get(KINDS, [Adam.__name__])
        had, has = (
            f"{kind} with {counted(number, 'group')} of weights"
            for kind, number in (
                (former, len(saved["param_groups"])),
                (type(optimizer).__name__, len(optimizer.param_groups)),
            )
        )
        if had != has:
            raise UserError(
                f"the checkpoint of ckpt_path has the state of {had}, and this run has {has}: resume with the same "
                "optimizer (its weight decay cannot change from or to 0), or take its weights alone (init_from)"
            )
        raise UserError(
            "the checkpoint of ckpt_path has the optimizer state of other weights or of another optimizer: resume "
            "with the versions that its run's starts.jsonl names, take another checkpoint, or start afresh without "
            "ckpt_path"
        )
