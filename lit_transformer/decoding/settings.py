"""How translations are searched for unless told otherwise (section 6.1)."""

from lit_transformer.errors import UserError

BEAM_SIZE = 4
MAX_BEAM_SIZE = 10_000
LENGTH_PENALTY = 0.6
BATCH_TOKENS = 2048
MAX_LENGTH_PENALTY = 10.0
"""From 17 on, the penalty of the longest outputs overflows float32."""


def check_search(*, beam_size: int, length_penalty: float, n_best: int, batch_tokens: int) -> None:
    """Raise UserError if the model cannot translate with these settings."""
    for name, value in (("beam_size", beam_size), ("batch_tokens", batch_tokens)):
        if value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    if beam_size > MAX_BEAM_SIZE:
        raise UserError(f"beam_size is {beam_size}: it must be at most {MAX_BEAM_SIZE}")
    if not 1 <= n_best <= beam_size:
        raise UserError(f"n_best is {n_best}: it must be at least 1 and at most beam_size, {beam_size}")
    # With less than 0 the end of a sentence could not be known.
    if not 0.0 <= length_penalty <= MAX_LENGTH_PENALTY:
        raise UserError(f"length_penalty is {length_penalty}: it must be from 0 to {MAX_LENGTH_PENALTY:g}")
