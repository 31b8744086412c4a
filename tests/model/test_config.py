from typing import Any

import pytest

from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig


def test_head_widths_are_the_model_width_divided_unless_they_are_given() -> None:
    base = TransformerConfig()
    assert (base.key_size, base.value_size) == (64, 64)
    narrow_keys = TransformerConfig(d_k=16)  # Table 3, row B
    assert (narrow_keys.key_size, narrow_keys.value_size) == (16, 64)
    free = TransformerConfig(d_model=22, num_heads=3, d_k=5, d_v=7)
    assert (free.key_size, free.value_size) == (5, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 0}, "d_model is 0"),
        ({"d_ff": -1}, "d_ff is -1"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"max_positions": 0}, "max_positions is 0"),
        ({"d_k": 0}, "d_k is 0"),
        ({"d_v": 0}, "d_v is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"d_model": 22, "num_heads": 3}, "d_model 22 does not divide by num_heads 3"),
        ({"d_model": 22, "num_heads": 3, "d_k": 5}, "give d_k and d_v"),
        ({"norm": "rms"}, "norm is 'rms': choose one of post, pre"),
        (
            {"positions": "rope"},
            "positions is 'rope': choose one of sinusoidal, learned, rotary, alibi, ",
        ),
        ({"d_model": 21, "num_heads": 3}, "d_model is 21: sinusoidal positions need an even number"),
        ({"d_model": 21, "num_heads": 3, "positions": "rotary"}, "d_k is 7: rotary positions need an even number"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        TransformerConfig(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_only_the_scheme_that_needs_an_even_width_asks_for_it() -> None:
    TransformerConfig(d_model=21, num_heads=3, positions="learned")
    TransformerConfig(d_model=21, num_heads=3, d_k=6, positions="rotary")
