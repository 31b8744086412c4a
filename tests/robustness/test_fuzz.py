"""Random hostile input to whole commands, which run in another process. They succeed or print one line of error.

They never crash, hang, use endless memory or remove a file.
"""

import copy
import gzip
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
import yaml
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_transformer import Translator
from lit_transformer.checkpoints.folder import CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE
from lit_transformer.cli.training import FitCLI, parse
from tests.helpers.tiny import TINY_CORPUS, TINY_RECIPE, write_tiny_corpus
from tests.helpers.worker import Worker

MANY = 20
"""`pytest -m slow` tries this many times the examples of an ordinary run."""
ENGLISH, GERMAN = TINY_CORPUS["train.en"], TINY_CORPUS["train.de"]


# Lightning would start so many processes, or wait for so many machines.
LEFT_OUT = ("devices", "num_nodes")


class Place(NamedTuple):
    """Where commands run, and the good input that is damaged."""

    worker: Worker
    folder: Path
    model: dict[str, bytes]
    """The files of a model folder that translates."""
    settings: list[str]
    """The settings of `fit`."""

    def fit(self, *args: object) -> list[object]:
        """The recipe as arguments, followed by others that override it."""
        places = {"data.corpus": "corpus", "data.cache_dir": "cache", "trainer.default_root_dir": "runs"}
        return [
            f"--config={self.folder / 'recipe.yaml'}",
            "--trainer.logger=False",
            *(f"--{name}={self.folder / folder}" for name, folder in places.items()),
            *args,
        ]

    @contextmanager
    def files(self, files: dict[str, bytes]) -> Iterator[Path]:
        """A folder with these files. Afterwards they must be unchanged."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            write(Path(name), files)
            yield Path(name)
            assert {file: (Path(name) / file).read_bytes() for file in files} == files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, worker: Worker, tiny_run: Path) -> Place:
    folder = tmp_path_factory.mktemp("fuzz")
    write_tiny_corpus(folder / "corpus")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    Translator.load(tiny_run).save_pretrained(folder / "model")
    model = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    done = Place(worker, folder, model, [])
    worker.run("fit", *done.fit(f"--trainer.default_root_dir={folder / 'trained'}")).check()
    cli = parse([str(arg) for arg in done.fit()], FitCLI)
    return done._replace(
        settings=[name for name in cli.config.keys(branches=True) if not name.endswith(LEFT_OUT)],
    )


def fuzz(examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of `body(place, ...)` with few examples, and a slow one with many."""

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        many = pytest.param(MANY * examples, marks=pytest.mark.slow)

        @pytest.mark.parametrize("count", [examples, many])
        def test(count: int, place: Place) -> None:
            @settings(max_examples=count, suppress_health_check=list(HealthCheck))
            @given(**strategies)
            def run(**drawn: Any) -> None:
                body(place, **drawn)

            run()

        return test

    return decorate


# What is hostile.


CUTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "insert", "cut off", "remove", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=3,
)
"""Arguments of `damaged`: the kind of damage, its place as fractions of the length, and new bytes."""


def damaged(data: bytes, cuts: list[tuple[str, float, float, bytes]]) -> bytes:
    """Bytes of which some are overwritten, inserted, removed or doubled."""
    for way, *places, new in cuts:
        begin, end = sorted(int(place * len(data)) for place in places)
        data = {
            "write": data[:begin] + new + data[begin + len(new) :],
            "insert": data[:begin] + new + data[begin:],
            "cut off": data[:end],
            "remove": data[:begin] + data[end:],
            "double": data[:end] + data[begin : begin + 999] + data[end:],
        }[way]
    return data


NUMBERS = [0, 1, -1, 7, 2**31, 2**63 - 1, 2**63, -(2**64), 10**400, 0.5, -1e308, 1e-320, math.inf, math.nan]
WORDS = ["", " ", "x", "../../x", "/etc/passwd", "a\nb", "\x1b[31m", "\0", "\u2028", "\udc80", "9" * 999, "%s", "1.0.0"]
PLAIN: list[Any] = [*NUMBERS, *WORDS, None, True, [], {}, [1], {"x": 1}, {1: {}}]
NEW_NAMES = st.sampled_from([*WORDS, 5])


def changes(values: list[Any]) -> st.SearchStrategy[Any]:
    """Arguments of `spoilt`: the place, one choice per level, the kind of change, and the new name and value."""
    where = st.lists(st.integers(0, 99), min_size=1, max_size=9)
    return st.tuples(where, st.sampled_from(["change", "remove", "add"]), NEW_NAMES, st.sampled_from(values))


def spoilt(content: dict[Any, Any], change: tuple[list[int], str, Any, Any]) -> dict[Any, Any]:
    """Change, remove or add a value at any depth of plain data, in place."""
    choices, way, name, value = change
    part: Any = content
    for choice in choices:
        parent = part
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        key = keys[choice % len(keys)]
        part = parent[key]
        if not isinstance(part, dict | list) or not part:
            break
    if way == "remove" and isinstance(parent, dict):
        del parent[key]
    else:
        parent[name if way == "add" and isinstance(parent, dict) else key] = value
    return content


ODD_LINES = ["The cat sleeps.", "", "\u2028", "\r", "\0", "x" * 9999, "a " * 3000]
LINES = st.one_of(st.text(max_size=9), st.sampled_from(ODD_LINES))
ANY_TEXT = st.one_of(
    st.lists(LINES, max_size=20).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.binary(max_size=99),
    CUTS.map(lambda cuts: damaged(ENGLISH.encode(), cuts)),
    st.sampled_from([ENGLISH.encode(), GERMAN.encode(), b"\xff\xfe" + ENGLISH.encode("utf-16-le"), b"", b"\n" * 18]),
)


# The properties.


@st.composite
def text_folders(draw: st.DrawFn) -> dict[str, bytes]:
    files = {name: text.encode() for name, text in TINY_CORPUS.items()}
    for name in draw(st.sets(st.sampled_from(sorted(files)), min_size=1, max_size=3)):
        data = draw(ANY_TEXT)
        del files[name]
        way = draw(st.sampled_from(["plain", "plain", "gzip", "damaged gzip", "not gzip", "missing", "odd name"]))
        if way == "plain":
            files[name] = data
        elif way == "odd name":
            odd = [f"{name}.gz.gz", f".{name}", "train..en", "\x1b]0;x\x07.en", "x" * 200]
            files[draw(st.sampled_from(odd))] = data
        elif way != "missing":
            packed = gzip.compress(data, mtime=0)
            files[f"{name}.gz"] = {"gzip": packed, "damaged gzip": damaged(packed, draw(CUTS)), "not gzip": data}[way]
    return files


@fuzz(12, files=text_folders())
def test_text_folders(place: Place, files: dict[str, bytes]) -> None:
    with place.files(files) as folder:
        place.worker.run("fit", *place.fit("--data.corpus", folder, "--trainer.max_steps=1")).check()
        for split in ("train", "test"):
            place.worker.run("test", *scored(place, folder), "--split", split).check()


def scored(place: Place, corpus: Path) -> list[object]:
    base = ["--checkpoint", place.folder / "model", "--beam_size", 1, "--output", place.folder / "output"]
    return [*base, "--corpus", corpus, "--cache_dir", place.folder / "cache"]


TABLE = {"en": ENGLISH.splitlines(), "de": [None, *GERMAN.splitlines()[1:]]}


def copies() -> dict[str, dict[str, bytes]]:
    """Copies of data sets of the Hub, in every format."""
    data = Dataset.from_dict(TABLE)
    nested = Dataset.from_list([{"translation": pair} for pair in data])
    made: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, table in (("plain", data), ("nested", nested)):
            splits = DatasetDict(train=table, validation=table, test=table)
            for split in splits:
                table.to_parquet(folder / kind / "parquet" / f"{split}.parquet")
                table.to_json(folder / kind / "json" / f"{split}.jsonl")
                arrow = table.data.table
                with pa.ipc.new_file(make(folder / kind / "arrow" / f"{split}.arrow"), arrow.schema) as writer:
                    writer.write_table(arrow)
            splits.save_to_disk(folder / kind / "saved")
        for split in splits:
            data.to_csv(make(folder / "plain" / "csv" / f"{split}.csv"))
        for copy_folder in folder.glob("*/*"):
            files = [path for path in copy_folder.rglob("*") if path.is_file()]
            made[copy_folder.relative_to(folder).as_posix()] = {
                path.relative_to(copy_folder).as_posix(): path.read_bytes() for path in files
            }
    return made


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


COPIES = copies()
CARDS = [
    "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: {}\n",
    "configs:\n- config_name: {}\n  data_dir: x\n",
    "configs: {}\n",
    "configs:\n- {}\n",
    "dataset_info:\n  features:\n  - name: en\n    dtype: {}\n",
    "{}",
]
NAMES = [
    "test.*",
    "*",
    "**",
    "../*",
    "/etc/passwd",
    "https://localhost:9/a.csv",
    "a::b",
    "[",
    "{x: 1}",
    "-",
    "\0",
    "null",
]
CARD_FILES = ["README.md", ".huggingface.yaml", "dataset_infos.json", "dataset_dict.json", "x.md"]


@st.composite
def copied_folders(draw: st.DrawFn) -> dict[str, bytes]:
    files = dict(COPIES[draw(st.sampled_from(sorted(COPIES)))])
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(files)))
        files[name] = damaged(files[name], draw(CUTS))
    if draw(st.booleans()):
        card = draw(st.sampled_from(CARDS)).format(draw(st.one_of(st.sampled_from(NAMES), st.text(max_size=9))))
        files[draw(st.sampled_from(CARD_FILES))] = f"---\n{card}\n---\n".encode("utf-8", "replace")
    return files


@fuzz(40, files=copied_folders())
def test_copies_of_hub_data_sets(place: Place, files: dict[str, bytes]) -> None:
    with place.files(files) as folder:
        place.worker.run("test", *scored(place, folder)).check()


@st.composite
def model_folders(draw: st.DrawFn) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """Changes to a model folder: to the bytes of a file, or to values of the configuration."""
    name = draw(st.sampled_from([CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE]))
    cuts, change = draw(CUTS), draw(changes(PLAIN))
    says = name == CONFIG_FILE and draw(st.booleans())

    def attacked(files: dict[str, bytes]) -> dict[str, bytes]:
        if says:
            text = json.dumps(spoilt(json.loads(files[name]), change))
            return files | {name: text.encode("utf-8", "surrogatepass")}
        return files | {name: damaged(files[name], cuts)}

    return attacked


@fuzz(40, attacked=model_folders())
def test_model_folders(place: Place, attacked: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    text = "The cat sleeps.\n\u2028 \u00e4\u4e2d\n".encode()
    with place.files(attacked(place.model)) as folder:
        model = ["--checkpoint", folder, "--n_best=2", "--beam_size=2"]
        done = place.worker.run("translate", *model, stdin=text)
        assert done.check() or {line.split(b"\t")[0] for line in done.out.splitlines()} == {b"1", b"2"}
        place.worker.run("test", *scored(place, place.folder / "corpus"), "--checkpoint", folder).check()


@fuzz(20, cuts=CUTS)
def test_vocabularies(place: Place, cuts: list[tuple[str, float, float, bytes]]) -> None:
    with place.files({"x.model": damaged(place.model[VOCABULARY_FILE], cuts)}) as folder:
        size = ["--data.tokenizer", folder / "x.model", "--model.vocab_size=131", "--tokens_per_second=1"]
        place.worker.run("check", *place.fit(*size)).check()


@fuzz(25, text=ANY_TEXT)
def test_lines_to_translate(place: Place, text: bytes) -> None:
    with place.files(place.model) as folder:
        done = place.worker.run("translate", "--checkpoint", folder, "--beam_size", 1, stdin=text)
        assert done.check() or done.out.count(b"\n") == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


# Command lines and settings.

VALUES = st.one_of(
    st.sampled_from(["0", "-1", "1", "2.5", "nan", "-inf", "1e999", "9" * 30, "9" * 5000, "true", "null", "[]", "{}"]),
    st.sampled_from(["", " ", "--", "-", "a b", "\u2028", "\udc80", "%s", "~", "~nobody/x", "/", "/dev/null", ".."]),
    st.sampled_from(["x" * 300, "/nowhere/x", "x\n", "\x1b[31m", "auto", "last", "demo", "demo:9", "cpu", "[1"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
"""Without U+0000, which no command line can contain."""
SEARCH = ["checkpoint", "beam_size", "length_penalty", "max_extra_length", "min_length", "batch_tokens", "device"]
OPTIONS = {
    "test": [*SEARCH, "corpus", "split", "source", "target", "tokenize", "lowercase", "output", "cache_dir", "json"],
    "translate": [*SEARCH, "n_best", "input", "output", "overwrite"],
    "average": ["run", "last", "output"],
}


def options(place: Place, command: str) -> list[str]:
    """The options of a command."""
    if command in OPTIONS:
        return OPTIONS[command]
    return place.settings if command == "fit" else [*place.settings, "tokens_per_second"]


def arguments(place: Place, command: str) -> list[object]:
    """Arguments with which a command succeeds."""
    if command in ("fit", "check"):
        return place.fit()
    if command == "average":
        return ["--run", place.folder / "trained", "--last=1"]
    scoring = scored(place, place.folder / "corpus")
    return scoring if command == "test" else scoring[:4]


@fuzz(
    40,
    command=st.sampled_from(["fit", "check", "test", "translate", "average"]),
    line=st.lists(st.tuples(st.integers(0, 999), st.booleans(), VALUES), min_size=1, max_size=3),
)
def test_command_lines(place: Place, command: str, line: list[tuple[int, bool, str]]) -> None:
    args = arguments(place, command)
    for number, joined, value in line:
        names = options(place, command)
        option = f"--{names[number % len(names)]}"
        args += [f"{option}={value}"] if joined else [option, value]
    place.worker.run(command, *args, stdin=b"a\n", train=False).check()


YAML = st.one_of(
    changes(PLAIN).map(lambda change: yaml.safe_dump(spoilt(copy.deepcopy(TINY_RECIPE), change)).encode()),
    CUTS.map(lambda cuts: damaged(yaml.safe_dump(TINY_RECIPE).encode(), cuts)),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=30),
)


@fuzz(40, text=YAML)
def test_files_of_settings(place: Place, text: bytes) -> None:
    with place.files({"x.yaml": text}) as folder:
        places = place.fit()
        place.worker.run("fit", places[0], f"--config={folder / 'x.yaml'}", *places[1:], train=False).check()
