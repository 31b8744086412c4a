"""Measures what a corpus costs before training: time, memory and disk space of each stage, with generated text.

    python experiments/measure/scale.py --folder SCRATCH [--pairs 36000000] [--words]
    python experiments/measure/scale.py --stage plan [--pairs 36000000]

The first command writes text files, prepares them with the project's own functions, starts again on the prepared data,
and plans an epoch. 36 million pairs take about 35 GB in SCRATCH, which is not deleted. The second command plans only,
from lengths, in seconds. Each stage is a process of its own. A repeated stage uses what is in the cache.

The size is that of WMT14 English-French, 36 million pairs (section 5.1 of the paper). The data itself is not needed. It
has 850 million English words (Bahdanau et al. 2015, section 4.1), which are about 24 per sentence. The rest is assumed:
French has a sixth more words, lengths are lognormal with deviation 0.65, and the length of a target is that of its
source times a lognormal of deviation 0.25. Each language has 200,000 words made of syllables, and the frequency of a
word is one over its rank (Zipf). With `--words` the text is split into whole words and not into the learned byte pairs.
SentencePiece does that five times as fast, and all other work stays the same.

`anonymous` is memory that the system cannot reclaim: the peak of RssAnon of all processes of a stage together.
`resident` also counts pages of memory-mapped files, which Linux keeps while no other program needs memory: VmHWM of the
stage's first process. Both are read from /proc, so the script needs Linux.
"""

import argparse
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sentencepiece as spm
from datasets import Dataset

import lit_transformer.cli.training  # noqa: F401  what `fit` imports, so that a start costs what it costs there
from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID, IntArray
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.corpus import load_pairs
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.data.text import sentences
from lit_transformer.data.tokenizer import Tokenizer

EN_DE_PAIRS, EN_FR_PAIRS, VALIDATION_PAIRS = 4_500_000, 36_000_000, 3_000
SOURCE_WORDS, TARGET_RATIO, DEVIATION, RATIO_DEVIATION = 24.0, 7 / 6, 0.65, 0.25
NUM_WORDS, TOKENS_PER_WORD = 200_000, 1.2
TOKENS_PER_BATCH, MAX_LENGTH = 25_000, 256
BLOCK_PAIRS = 100_000
STAGES = ("text", "read", "vocabulary", "tokens", "start cold", "start warm", "plan")


class Memory(threading.Thread):
    """Watches how much anonymous memory this process and its children have."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, sum(memory("RssAnon", process) for process in family(os.getpid())))
            time.sleep(0.02)


def family(process: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from family(int(child))


def memory(field: str, process: int) -> int:
    """Bytes of a process, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def age() -> float:
    """Seconds since this process was started."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def size(folder: Path) -> str:
    """Of all files below it."""
    return f"{sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e9:.2f} GB"


def lengths(num_pairs: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Words of both sides, block by block."""
    random = np.random.default_rng(seed)
    for begin in range(0, num_pairs, BLOCK_PAIRS):
        pairs = min(BLOCK_PAIRS, num_pairs - begin)
        source = SOURCE_WORDS * random.lognormal(-(DEVIATION**2) / 2, DEVIATION, pairs)
        target = source * TARGET_RATIO * random.lognormal(-(RATIO_DEVIATION**2) / 2, RATIO_DEVIATION, pairs)
        yield source.astype(np.int32) + 1, target.astype(np.int32) + 1


def word_list(seed: int) -> pa.StringArray:
    """Distinct words, the more frequent ones shorter."""
    random = np.random.default_rng(seed)
    syllables = [a + b + c for a in "bcdfghlmnprstv" for b in "aeiou" for c in ("", "", "l", "n", "r", "s")]
    words: dict[str, None] = {}
    for num_syllables in (1, 2, 3, 4):
        drawn = random.choice(syllables, (NUM_WORDS, num_syllables))
        words |= dict.fromkeys(map("".join, drawn[: 10 ** (num_syllables + 2)].tolist()))
    return pa.array(list(words)[:NUM_WORDS])


def write_split(folder: Path, split: str, num_pairs: int, seed: int) -> None:
    """`SPLIT.en` and `SPLIT.fr`."""
    random = np.random.default_rng(seed)
    languages = ("en", "fr")
    words = [word_list(number) for number in range(len(languages))]
    files = [(folder / f"{split}.{language}").open("wb") for language in languages]
    for block in lengths(num_pairs, seed):
        for vocabulary, num_words, file in zip(words, block, files, strict=True):
            offsets = np.concatenate([[0], np.cumsum(num_words)]).astype(np.int32)
            ranks = np.exp(random.random(offsets[-1]) * np.log(NUM_WORDS)).astype(np.int32) - 1
            drawn = pa.ListArray.from_arrays(pa.array(offsets), vocabulary.take(pa.array(ranks)))
            lines = pa.ListArray.from_arrays([0, len(num_words)], pc.binary_join(drawn, " "))
            file.write(pc.binary_join(lines, "\n")[0].as_buffer())
            file.write(b"\n")
    for file in files:
        file.close()


def pairs_of(folder: Path) -> Dataset:
    """The training text, as the project reads it."""
    return load_pairs(str(folder / "text"), split="train", source="en", target="fr", cache_dir=folder / "cache")


def data_of(folder: Path) -> TranslationData:
    """What `fit` trains on."""
    model = str(folder / "pieces.model")
    return TranslationData(
        corpus=str(folder / "text"),
        target="fr",
        vocab_size=Tokenizer.from_file(model).vocab_size,
        tokenizer=model,
        tokens_per_batch=TOKENS_PER_BATCH,
        max_length=MAX_LENGTH,
        cache_dir=str(folder / "cache"),
    )


def text(folder: Path, num_pairs: int) -> str:
    (folder / "text").mkdir(parents=True, exist_ok=True)
    write_split(folder / "text", "train", num_pairs, seed=1)
    write_split(folder / "text", "valid", VALIDATION_PAIRS, seed=2)
    return f"{size(folder / 'text')} (this script's own work)"


def read(folder: Path) -> str:
    return f"{len(pairs_of(folder)):,} pairs, {size(folder / 'cache' / 'text')}"


def vocabulary(folder: Path, vocab_size: int, words: bool) -> str:
    tokenizer = Tokenizer.train(sentences(pairs_of(folder)), vocab_size=vocab_size, character_coverage=0.9999)
    (folder / "pieces.model").write_bytes(word_model(vocab_size) if words else tokenizer.model_bytes)
    return f"{tokenizer.vocab_size:,} tokens" + " (whole words are used below)" * words


def word_model(vocab_size: int) -> bytes:
    """A SentencePiece model of the most frequent words."""
    ids: dict[str, Any] = {"pad_id": PAD_ID, "unk_id": UNK_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}
    rows = zip(*(word_list(seed).to_pylist()[: vocab_size // 2] for seed in range(2)), strict=True)
    lines, model = (" ".join(row) for row in rows), io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, model_type="word", vocab_size=vocab_size // 2, minloglevel=2, **ids
    )
    return model.getvalue()


def tokens(folder: Path) -> str:
    data = data_of(folder)
    data.prepare_data()
    kept = data.tokens.report.num_kept
    source, target = data.tokens.report.num_source_tokens / kept, data.tokens.report.num_target_tokens / kept
    return f"{kept:,} pairs kept, of {source:.1f} and {target:.1f} tokens, {size(folder / 'cache' / 'tokens')}"


def start(folder: Path) -> str:
    """Everything that `fit` does with data until it has the batch of its first step."""
    imported = age()
    data = data_of(folder)
    data.prepare_data()
    data.setup("fit")
    ready, cpu = age(), time.process_time()
    data.assembler().batch(data.plan.step_rows(0))
    return (
        f"imported after {imported:.1f} s, ready after {ready:.1f} s (CPU {cpu:.1f} s), first step's batch after "
        f"{age():.1f} s (CPU {time.process_time():.1f} s)"
    )


def forget(folder: Path) -> None:
    """Let Linux drop the files from its page cache."""
    os.sync()
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plan(num_pairs: int) -> str:
    sides: list[IntArray] = [np.empty(num_pairs, np.int16) for _ in range(2)]
    for number, block in enumerate(lengths(num_pairs, seed=1)):
        for side, num_words in zip(sides, block, strict=True):
            num_tokens = np.minimum(TOKENS_PER_WORD * num_words + 1, MAX_LENGTH)
            side[number * BLOCK_PAIRS : (number + 1) * BLOCK_PAIRS] = num_tokens
    times, cpu = [time.perf_counter()], time.process_time()
    planned = BatchPlan(sides[0], sides[1], TOKENS_PER_BATCH, seed=1)
    times.append(time.perf_counter())
    planned.step_rows(0)
    times.append(time.perf_counter())
    cpu = time.process_time() - cpu
    for step in range(1, 1001):
        planned.step_rows(step)
    times.append(time.perf_counter())
    borders, epoch, steps = np.diff(times)
    return (
        f"{num_pairs:,} pairs, {planned.num_batches:,} steps: borders {borders:.2f} s, an epoch {epoch:.2f} s "
        f"(CPU {cpu:.2f} s for both), then {steps * 1e3:.0f} microseconds a step"
    )


def run(stage: str, options: argparse.Namespace) -> None:
    """One stage in this process; prints its line."""
    watch = Memory()
    watch.start()
    if stage == "start cold":
        forget(options.folder)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work = {
        "text": lambda: text(options.folder, options.pairs),
        "read": lambda: read(options.folder),
        "vocabulary": lambda: vocabulary(options.folder, options.vocab_size, options.words),
        "tokens": lambda: tokens(options.folder),
        "start cold": lambda: start(options.folder),
        "start warm": lambda: start(options.folder),
        "plan": lambda: plan(options.pairs),
    }
    result = work[stage]()
    seconds, children = time.perf_counter() - begin, os.times()
    cpu = time.process_time() - begin_cpu + children.children_user + children.children_system
    anonymous, resident = watch.peak / 1e9, memory("VmHWM", os.getpid()) / 1e9
    print(f"| {stage} | {seconds:.1f} | {cpu:.1f} | {anonymous:.2f} | {resident:.2f} | {result} |", flush=True)


def main() -> None:
    """Run one stage, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where there is room; `plan` alone needs none")
    parser.add_argument("--pairs", type=int, default=EN_FR_PAIRS)
    parser.add_argument("--vocab_size", type=int, default=32_000)
    parser.add_argument("--words", action="store_true")
    parser.add_argument("--stage", choices=STAGES, default=None)
    options = parser.parse_args()
    if options.folder is None and options.stage != "plan":
        parser.error("give a folder with --folder")
    if options.stage is not None:
        run(options.stage, options)
        return
    print(
        "| stage | seconds | CPU seconds | anonymous GB | resident GB | what |\n|---|---|---|---|---|---|", flush=True
    )
    stages = [(stage, options.pairs) for stage in STAGES] + [("plan", EN_DE_PAIRS)] * (options.pairs > EN_DE_PAIRS)
    for stage, pairs in stages:
        arguments = ["--folder", options.folder, "--pairs", pairs, "--vocab_size", options.vocab_size, "--stage", stage]
        words = ["--words"] * options.words
        subprocess.run([sys.executable, __file__, *map(str, arguments), *words], check=True)


if __name__ == "__main__":
    main()
