"""`translate` as a user runs it: bytes in, bytes out, exit statuses."""

import errno
import gzip
import io
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_transformer import SearchSettings, Translator, translate
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.cli import input_lines, translating
from lit_transformer.cli.partial_output import PartialOutput
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.machine import Processor
from tests.helpers.processes import fork, status_of
from tests.helpers.runs import own_lines

KNOWN = demo_pairs("train", num_pairs=31)
ENGLISH = [pair.english for pair in KNOWN]
GERMAN = [pair.german for pair in KNOWN]


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "lit_transformer.translate", *map(str, args)]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> "Stdin":
    return Stdin(monkeypatch)


class Stdin:
    """Bytes for a command that is called in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, data: bytes) -> None:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


EMOJI = "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea"
ODD = [
    (ENGLISH[0], GERMAN[0]),
    ("", ""),
    (" \t\u3000\u00a0 ", ""),
    (ENGLISH[1] + "\r", GERMAN[1]),  # Windows
    ("\x85", ""),
    ("\u2028 \u2029", ""),
    ("\r", ""),
    (f"  {ENGLISH[2]}  ", GERMAN[2]),
    (f"\u200b{ENGLISH[3]}\u200e", GERMAN[3]),
    (ENGLISH[4].replace(" ", "\u2028"), GERMAN[4]),
    (ENGLISH[5].replace(" ", "\t\x0b\x0c"), GERMAN[5]),
    ("\x00\x01\x1b[31m \x7f", None),
    (f"a\x85b\u2028c\rd\x00e {ENGLISH[6]}", None),
    (EMOJI, EMOJI),  # nothing that the vocabulary knows
    ("\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202etfel", None),
    ("\ufffe\uffff\U0010ffff \u0301\u0301", None),
    (ENGLISH[7], GERMAN[7]),
]


def test_as_many_lines_out_as_in(tiny_run: Path, repo_root: Path) -> None:
    """A new process whose locale is ASCII: the text is UTF-8 none the less. The last line has no end."""
    # The byte order mark that some editors write is no part of the first line.
    data = b"\xef\xbb\xbf" + "\n".join(source for source, _ in ODD).encode()
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        command("--checkpoint", tiny_run),
        input=data,
        capture_output=True,
        cwd=repo_root,
        env=environment,
        timeout=100,
        check=True,
    )
    # Whether the translation of a strange line ends depends on the processor.
    left_out, copied = (line for line in own_lines(done.stderr.decode()) if "max_extra_length" not in line)
    assert re.search(r"\b2 of 17 lines .* line 12\b", left_out)
    assert re.search(r" lines 14, \d+\b", copied)
    assert done.stdout.endswith(b"\n")
    lines = done.stdout.decode().removesuffix("\n").split("\n")
    assert len(lines) == len(ODD)
    for line, (source, expected) in zip(lines, ODD, strict=True):
        assert expected is None or line == expected, source
        assert len(line.splitlines()) <= 1


def test_no_lines_and_empty_lines(tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str]) -> None:
    for data, lines in ((b"", 0), (b"\n", 1), (b"\n\n\r\n", 3), (b" ", 1)):
        stdin(data)
        translate.main(["--checkpoint", str(tiny_run)])
        assert capsys.readouterr() == ("\n" * lines, "")


def test_what_is_translated_at_a_time_changes_nothing(
    tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the chunks that are read, nor the batches, nor the beam of what is known by heart."""
    for lines, options in (
        (10_000, []),
        (3, []),
        (1, ["--batch_tokens", "1"]),
        (7, ["--beam_size", "1"]),
        (31, ["--length_penalty", "0", "--batch_tokens", "99999", "--device", "cpu"]),
    ):
        monkeypatch.setattr(input_lines, "FIRST_CHUNK", min(lines, 32))
        monkeypatch.setattr(input_lines, "LARGEST_CHUNK", lines)
        stdin("".join(f"{text}\n" for text in ENGLISH).encode())
        translate.main(["--checkpoint", str(tiny_run), *options])
        assert capsys.readouterr() == ("".join(f"{text}\n" for text in GERMAN), "")


def test_a_long_input_is_told_of_a_faster_type_once(
    tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the processor has it, and it is not given."""
    monkeypatch.setattr(input_lines, "FIRST_CHUNK", 2)
    monkeypatch.setattr(translating, "LONG_SECONDS", 0.0)
    for features, options, num_notes in (
        (["avx512_bf16"], [], 1),
        (["avx512_bf16"], ["--compute_type", "bfloat16"], 0),
        (["avx2"], [], 0),
    ):
        monkeypatch.setattr(translating, "processor", lambda found=features: Processor("", 0, frozenset(found)))
        stdin("".join(f"{text}\n" for text in ENGLISH).encode())
        translate.main(["--checkpoint", str(tiny_run), "--device", "cpu", *options])
        assert capsys.readouterr().err.count("--compute_type bfloat16") == num_notes


def test_candidates_with_scores(
    tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_lines, "FIRST_CHUNK", 2)
    stdin(f"{ENGLISH[0]}\n\n{ENGLISH[1]}\n".encode())
    translate.main(["--checkpoint", str(tiny_run), "--n_best", "3"])
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "2", "2", "3", "3", "3"]
    assert rows[0][2] == GERMAN[0]
    # An empty line has one translation, and as many rows as the others.
    assert rows[3:6] == [["2", "0.0000", ""], ["2", "-inf", ""], ["2", "-inf", ""]]
    assert err.startswith("note: 1 of 3 lines ")
    assert len(err.splitlines()) == 1
    assert rows[6][2] == GERMAN[1]
    scores = [float(row[1]) for row in rows[6:]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] < 0
    expected = Translator.load(tiny_run).candidates([ENGLISH[1]], SearchSettings(n_best=3))[0]
    assert scores == pytest.approx([candidate.score for candidate in expected], abs=1e-4)


def test_a_line_of_five_thousand_words(
    tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_lines, "FIRST_CHUNK", 2)
    stdin("\n".join([ENGLISH[0], ENGLISH[1], " ".join(["cat"] * 5000), ENGLISH[2]]).encode())
    translate.main(["--checkpoint", str(tiny_run), "--beam_size", "1"])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [lines[0], lines[1], lines[3]] == GERMAN[:3]
    assert lines[2]
    assert len(lines) == 4
    # A slow machine tells how far it is.
    [note, *others] = [line for line in err.splitlines() if not line.startswith("translating: ")]
    assert note.startswith("note: line 3 is too long")
    # How a model that has learned short sentences ends its parts depends on the processor.
    assert all(other.startswith("note: line 3: the translation is cut") for other in others)


def test_text_that_is_not_utf8(tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(f"{ENGLISH[0]}\n\nGr".encode() + b"\xfc\xdfe\nmore\n")
    with pytest.raises(SystemExit, match="2"):
        translate.main(["--checkpoint", str(tiny_run)])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: stdin, line 3: not UTF-8 ")
    assert len(err.splitlines()) == 1


def test_a_file(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a compressed file to stdout, and to a file that is not replaced unless asked for."""
    with gzip.open(tmp_path / "in.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(ENGLISH[:5]))
    expected = "".join(f"{text}\n" for text in GERMAN[:5])
    args = ["--checkpoint", str(tiny_run), "--input", str(tmp_path / "in.txt.gz")]
    translate.main(args)
    assert capsys.readouterr() == (expected, "")
    output = tmp_path / "new" / "out.txt"
    args += ["--output", str(output)]
    translate.main(args)
    assert capsys.readouterr() == ("", "")
    assert output.read_text(encoding="utf-8") == expected
    with pytest.raises(SystemExit, match="2"):
        translate.main(args)
    assert "out.txt exists" in capsys.readouterr().err
    output.write_text("former")
    translate.main([*args, "--overwrite", "--n_best", "2"])
    rows = [line.split("\t") for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 6) for _ in range(2)]
    assert [row[2] for row in rows[::2]] == GERMAN[:5]
    assert [path.name for path in output.parent.iterdir()] == ["out.txt"]


def test_samples_of_a_file_and_of_stdin(
    tiny_run: Path, stdin: Stdin, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a line whatever the chunks and batches, also if the command goes on after an interruption."""
    text = "".join(f"{english}\n" for english in ENGLISH)
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    output = tmp_path / "out.txt"
    args = ["--checkpoint", str(tiny_run), "--sample", "--temperature", "2", "--max_extra_length", "3"]
    stdin(text.encode())
    translate.main(args)
    drawn = capsys.readouterr().out
    assert drawn.splitlines() != GERMAN
    for name in ("FIRST_CHUNK", "LARGEST_CHUNK"):
        monkeypatch.setattr(input_lines, name, 4)
    stdin(text.encode())
    translate.main([*args, "--batch_tokens", "9"])
    assert capsys.readouterr().out == drawn
    append = PartialOutput.append

    def interrupted(partial: PartialOutput, rows: list[str]) -> None:
        append(partial, rows)
        if partial.num_rows > 4:
            raise KeyboardInterrupt

    args += ["--input", str(tmp_path / "in.txt"), "--output", str(output)]
    with monkeypatch.context() as patch:
        patch.setattr(PartialOutput, "append", interrupted)
        with pytest.raises(SystemExit):
            translate.main(args)
    for other, name in ((["--seed", "1"], r"\bseed \(0, now 1\)"), (["--top_k", "7"], r"\btop_k \(None, now 7\)")):
        with pytest.raises(SystemExit, match="2"):
            translate.main([*args, *other])
        assert re.search(name, capsys.readouterr().err)
    translate.main(args)
    assert output.read_text(encoding="utf-8") == drawn


def test_samples_need_no_beam(tiny_run: Path, stdin: Stdin, capsys: pytest.CaptureFixture[str]) -> None:
    """More samples than the beam has places. At a temperature of 0 all are the greedy translation."""
    outputs = []
    for options in (["--beam_size", "1", "--n_best", "1"], ["--sample", "--temperature", "0", "--n_best", "7"]):
        stdin(f"{ENGLISH[0]}\n".encode())
        translate.main(["--checkpoint", str(tiny_run), *options])
        outputs.append(capsys.readouterr().out.splitlines())
    assert outputs[1] == [*outputs[0], *["1\t-inf\t"] * 6]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_kill_9(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second chunk is written. The model is at another place when the command goes on."""
    for name in ("FIRST_CHUNK", "LARGEST_CHUNK"):
        monkeypatch.setattr(input_lines, name, 4)
    (tmp_path / "in.txt").write_text("\n".join(ENGLISH), encoding="utf-8")
    shutil.copy(find_checkpoint(tiny_run), tmp_path / "moved.ckpt")

    def main(checkpoint: Path) -> int:
        files = ["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")]
        translate.main(["--checkpoint", str(checkpoint), *files])
        return 0

    def killed() -> int:
        append = PartialOutput.append

        def half(output: PartialOutput, rows: list[str]) -> None:
            append(output, rows[:2] if output.num_rows else rows)
            if len(rows) != output.num_rows:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(PartialOutput, "append", half)
        return main(tiny_run)

    assert status_of(fork(killed)) != 0
    assert not (tmp_path / "out.txt").exists()
    assert (tmp_path / "out.txt.partial").read_text(encoding="utf-8").splitlines() == GERMAN[:6]
    main(tmp_path / "moved.ckpt")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines() == GERMAN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "moved.ckpt", "out.txt"]


def test_nobody_reads_any_more(tiny_run: Path, repo_root: Path) -> None:
    """`| head -1`: no complaint."""
    data = "".join(f"{text}\n" for text in ENGLISH).encode()
    with subprocess.Popen(
        command("--checkpoint", tiny_run, "--batch_tokens", 99),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=repo_root,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(data)
        process.stdin.close()
        assert own_lines(process.stderr.read().decode()) == []
        assert process.wait(timeout=100) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_co_process(tiny_run: Path) -> None:
    """A program that writes a line and waits for its translation. Ctrl-C ends it while it waits."""
    child, to_child, from_child = co_process(["--checkpoint", str(tiny_run)])
    with os.fdopen(to_child, "wb", buffering=0) as stdin, os.fdopen(from_child, "rb") as stdout:
        stdin.write(f"{ENGLISH[0]}\n".encode())
        assert stdout.readline().decode() == f"{GERMAN[0]}\n"
        stdin.write(f"{ENGLISH[1]}\n\n{ENGLISH[2]}\n{ENGLISH[3][:5]}".encode())
        assert [stdout.readline().decode() for _ in range(3)] == [f"{GERMAN[1]}\n", "\n", f"{GERMAN[2]}\n"]
        stdin.write(f"{ENGLISH[3][5:]}\n".encode())
        assert stdout.readline().decode() == f"{GERMAN[3]}\n"
        os.kill(child, signal.SIGINT)
        assert status_of(child) == 130
        assert stdout.read() == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_co_process_whose_input_ends(tiny_run: Path) -> None:
    child, to_child, from_child = co_process(["--checkpoint", str(tiny_run), "--n_best", "3"])
    with os.fdopen(to_child, "wb", buffering=0) as stdin, os.fdopen(from_child, "rb") as stdout:
        stdin.write(f"{ENGLISH[0]}\n".encode())
        assert [stdout.readline().split(b"\t")[0] for _ in range(3)] == [b"1"] * 3
        stdin.write(ENGLISH[1].encode())
        stdin.close()
        rows = stdout.read().decode().splitlines()
        assert [row.split("\t")[0] for row in rows] == ["2"] * 3
        assert rows[0].split("\t")[2] == GERMAN[1]
    assert status_of(child) == 0


def co_process(args: list[str]) -> tuple[int, int, int]:
    """A forked process that translates. Returns its id, its stdin to write to and its stdout to read."""
    (child_stdin, to_child), (from_child, child_stdout) = os.pipe(), os.pipe()

    def serve() -> int:
        os.close(to_child)
        os.close(from_child)
        sys.stdin = os.fdopen(child_stdin, encoding="utf-8")
        sys.stdout = os.fdopen(child_stdout, "w", encoding="utf-8")
        translate.main(args)
        return 0

    child = fork(serve)
    os.close(child_stdin)
    os.close(child_stdout)
    return child, to_child, from_child


def test_a_caller_may_replace_stdin(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ENGLISH[0]}\n\n{ENGLISH[1]}"))
    translate.main(["--checkpoint", str(tiny_run)])
    assert capsys.readouterr() == (f"{GERMAN[0]}\n\n{GERMAN[1]}\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written(tiny_run: Path, repo_root: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("--checkpoint", tiny_run),
            input=f"{ENGLISH[0]}\n".encode(),
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=repo_root,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2
    [line] = own_lines(done.stderr.decode())
    assert line.startswith(f"error: cannot write to stdout: {os.strerror(errno.ENOSPC)}")


def test_a_conversation(tiny_run: Path, repo_root: Path) -> None:
    """On a terminal: a prompt, an answer, another prompt, and an end at Ctrl-D. The arrow keys find former lines."""
    pytest.importorskip("readline", reason="Windows edits lines itself")
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on Windows")
    try:
        terminal, other_end = pty.openpty()
    except OSError as error:
        pytest.skip(f"this machine gives no pseudo-terminal: {error}")
    with subprocess.Popen(
        command("--checkpoint", tiny_run),
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        cwd=repo_root,
        close_fds=True,
    ) as process:
        os.close(other_end)
        try:
            assert "reading " in read_until(terminal, "Ctrl-D ends.\r\n> ")
            upwards = b"\x1b[A"
            for typed, answer in (
                (ENGLISH[0].encode(), GERMAN[0]),
                (b"", ""),
                (upwards, GERMAN[0]),
                (b"\xff\xfe!", ""),
                (b"The elephant sleeps.", " elephant"),
            ):
                os.write(terminal, typed + b"\n")
                assert answer in read_until(terminal, "\r\n> ")
            os.write(terminal, b"\x04")
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            os.close(terminal)


def read_until(terminal: int, end: str) -> str:
    """What the terminal shows up to `end`."""
    shown, deadline = b"", time.monotonic() + 100
    while not shown.decode(errors="replace").endswith(end):
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, f"waited for {end!r}, saw {shown!r}"
        shown += os.read(terminal, 4096)
    return shown.decode(errors="replace")


def test_prompts_do_not_go_where_the_translations_go(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal on stdin and a file on stdout."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(f"{ENGLISH[0]}\n".encode())))
    translate.main(["--checkpoint", str(tiny_run)])
    out, err = capsys.readouterr()
    assert out == GERMAN[0] + "\n"
    assert err.count("> ") == 2


def test_translating_needs_the_checkpoint_and_nothing_else(tiny_run: Path, repo_root: Path, tmp_path: Path) -> None:
    """Of this project's requirements only torch and sentencepiece: neither Lightning nor what reads corpora."""
    shutil.copy(find_checkpoint(tiny_run), tmp_path / "moved.ckpt")
    script = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('lightning', 'pytorch_lightning', 'torchmetrics', 'sacrebleu', 'datasets'))\n"
        "from lit_transformer import translate\n"
        "translate.main(['--checkpoint', sys.argv[1]])\n"
        # torch's compiler takes a second, the Hub 0.3 seconds.
        "assert not {'torch._dynamo', 'huggingface_hub', 'matplotlib', 'pandas'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "moved.ckpt")],
        input=ENGLISH[0].encode(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        cwd=tmp_path,
        timeout=100,
        check=True,
    )
    assert done.stdout.decode() == GERMAN[0] + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["moved.ckpt"]
