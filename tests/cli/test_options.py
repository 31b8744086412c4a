"""The options of commands that search."""

import pytest

from lit_transformer import translate


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--beam_size", "0"], "beam_size"),
        (["--length_penalty", "nan"], "length_penalty"),
        (["--min_length", "6", "--max_extra_length", "4"], "nowhere"),
        (["--min_length", "60"], "nowhere"),
    ],
)
def test_what_no_model_allows_is_refused_before_one_is_read(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A least length may be too large for one model and not for another."""
    with pytest.raises(SystemExit, match="2"):
        translate.main(["--checkpoint", "nowhere", *options])
    assert named in capsys.readouterr().err
