"""How a Marian model searches for translations (`generation_config.json`), as our settings."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lit_transformer.batch import BOS_ID, EOS_ID, NEVER_PREDICTED, PAD_ID, UNK_ID
from lit_transformer.checkpoints.folder import CONFIG_FILE, read_json
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note
from lit_transformer.pretrained.config import ForeignConfig
from lit_transformer.pretrained.marian import SEARCH_FILE
from lit_transformer.search_settings import SearchSettings, Stopping

if TYPE_CHECKING:  # it needs protobuf, and writing does not
    from lit_transformer.pretrained.marian_vocabularies import Table

MAX_LENGTH = 511
"""The most tokens of a translation with EOS, as for the models of OPUS-MT, unless the model's search says otherwise."""
STOPPING: dict[bool | str, Stopping] = {False: "heuristic", True: "full", "never": "exact"}
"""Their values of `early_stopping`, and ours."""
_DEFAULT_MAX_LENGTH = 21
"""What `generate` takes for a model that does not say `max_length`, BOS included."""
_OFF: dict[str, Any] = {
    "do_sample": False,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "diversity_penalty": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "exponential_decay_length_penalty": None,
    "sequence_bias": None,
    "guidance_scale": None,
    "constraints": None,
    "force_words_ids": None,
    "penalty_alpha": None,
    "stop_strings": None,
    "max_time": None,
    "watermarking_config": None,
}
"""What changes a search, with the values that change nothing."""


class Generation(NamedTuple):
    """The search of a Marian model."""

    search: SearchSettings
    renormalizes: bool
    """Whether the other tokens share the probability of those that are never chosen."""

    @classmethod
    def read(cls, folder: Path, config: ForeignConfig, target: "Table") -> Self:
        """Read the settings of the search. Old folders have them in `config.json`.

        Args:
            folder: The folder.
            config: Its `config.json`.
            target: The tokens of the target.

        Raises:
            UserError: If a setting changes the search in a way that ours does not have.
        """
        path = folder / SEARCH_FILE if (folder / SEARCH_FILE).exists() else folder / CONFIG_FILE
        given = {name: value for name, value in read_json(path).items() if value is not None}
        settings = ForeignConfig(path, given)
        settings.only(**{name: value for name, value in _OFF.items() if name in given})
        for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
            if (value := given.get(name)) not in (None, config.integer(name, value)):
                raise settings.refused(name, value, f"config.json has {config.integer(name)}")
        banned = _banned(settings, given)
        renormalizes = settings.flag("renormalize_logits", False)
        try:
            search = SearchSettings(
                beam_size=settings.integer("num_beams", 1),
                length_penalty=settings.number("length_penalty", 1.0),
                min_length=_min_length(settings),
                length_normalization="length",
                stopping=_stopping(settings, given.get("early_stopping", False)),
                max_length=_max_length(settings),
                unknown=_allows_unknown(settings, banned, target),
            )
        except UserError as error:
            raise error if str(path) in str(error) else UserError(f"{path}: {error}; take another model") from error
        if renormalizes and (search.min_length or not search.unknown):
            reason = "it can be read only if the unknown token may be chosen and there is no least length"
            raise settings.refused("renormalize_logits", True, reason)
        if settings.token("forced_eos_token_id") != target.their_ids[EOS_ID]:
            print_note(
                f"{path} does not force EOS at its greatest length: here, a translation of {search.max_length} tokens "
                "ends with EOS"
            )
        return cls(search, renormalizes)


def _banned(settings: ForeignConfig, given: dict[str, Any]) -> set[int]:
    """The tokens that are never chosen."""
    words, tokens = given.get("bad_words_ids", []), given.get("suppress_tokens", [])
    if not isinstance(words, list) or not all(isinstance(word, list) and len(word) == 1 for word in words):
        raise settings.refused("bad_words_ids", words, "only words of one token can be read")
    if not isinstance(tokens, list):
        raise settings.refused("suppress_tokens", tokens, "it must be ids")
    banned = [*tokens, *(word[0] for word in words)]
    if not all(type(token) is int for token in banned):
        raise settings.refused("bad_words_ids", banned, "it must be ids")
    return set(banned)


def _allows_unknown(settings: ForeignConfig, banned: Collection[int], target: "Table") -> bool:
    """Whether the unknown token may be chosen. Padding and the first token must not, and all others may."""
    first, pad, unk = (target.their_ids[token] for token in (BOS_ID, PAD_ID, UNK_ID))
    never = {first, pad} - {None}
    if set(banned) - {unk} != never:
        raise settings.refused(
            "bad_words_ids", sorted(banned), f"{sorted(map(str, never))} must never be chosen, and all others may be"
        )
    return unk not in banned


def _stopping(settings: ForeignConfig, value: Any) -> Stopping:
    if not isinstance(value, bool | str) or value not in STOPPING:
        raise settings.refused("early_stopping", value, "only true, false and never can be read")
    return STOPPING[value]


def _max_length(settings: ForeignConfig) -> int:
    """The most tokens with EOS. Theirs counts the first one, too."""
    if settings.has("max_new_tokens"):
        return settings.integer("max_new_tokens")
    return settings.integer("max_length", _DEFAULT_MAX_LENGTH) - 1


def _min_length(settings: ForeignConfig) -> int:
    """The least tokens without EOS. Theirs counts the first one, too."""
    if settings.has("min_new_tokens"):
        return settings.integer("min_new_tokens")
    return max(0, settings.integer("min_length", 0) - 1)


def search_of_generate(search: SearchSettings) -> SearchSettings:
    """The settings that `generate` has, too. If some differ, a note says so."""
    kept = search
    if search.length_normalization == "gnmt" and search.length_penalty != 0.0:
        kept = replace(kept, length_penalty=0.0)
    if search.max_length is None:
        kept = replace(kept, max_length=MAX_LENGTH)
    if kept != search:
        print_note(
            "generate of transformers has no length penalty of GNMT and no limit that depends on the source's length: "
            f"generation_config.json has length_penalty {kept.length_penalty:g} and max_length {kept.max_length}"
        )
    return kept


def generation_config(search: SearchSettings) -> dict[str, Any]:
    """The settings of `generate` for a search that it has (`search_of_generate`)."""
    ranking = {
        "length_penalty": search.length_penalty,
        "early_stopping": next(theirs for theirs, ours in STOPPING.items() if ours == search.stopping),
    }
    return {
        "num_beams": search.beam_size,
        **(ranking if search.beam_size > 1 else {}),  # `transformers` warns of settings that greedy search ignores
        "max_length": search.limit(0) + 1,  # it counts BOS
        "min_new_tokens": search.min_length,
        "suppress_tokens": [each for each in NEVER_PREDICTED if not (search.unknown and each == UNK_ID)],
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": BOS_ID,
        "forced_eos_token_id": EOS_ID,
    }
