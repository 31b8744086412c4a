"""A process that runs commands one after another.

The tests see a crash, a hang and endless memory from outside. Inside, an audit hook records every attempt to unpickle.
"""

import faulthandler
import importlib
import json
import os
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

REPO_ROOT = Path(__file__).resolve().parents[2]
SECONDS = 200
"""Time after which a command counts as hanging. The machine may be busy."""
MEMORY = 2**32
UNPICKLED: list[str] = []


class Outcome(NamedTuple):
    status: object
    unpickled: list[str]
    out: bytes
    err: str

    def check(self) -> str:
        """Assert that the command succeeded or printed one line of error, and unpickled nothing. Returns that line."""
        assert self.unpickled == []
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert "Traceback" not in self.err, self.err
        assert self.status in (0, 2), (self.status, self.err)
        assert len(errors) == (self.status == 2), (self.status, self.err)
        assert errors == lines[-1:] or self.status == 0, self.err
        return errors[0] if errors else ""


class Worker:
    """Runs commands in a process. After a crash or a hang it starts another one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._out, self._err = folder, folder / "out", folder / "err"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: object, *args: object, stdin: bytes = b"", train: bool = True) -> Outcome:
        """Run a command. Without `train`, `fit` stops before the first step."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"command": str(command), "args": [str(arg) for arg in args], "stdin": stdin.hex(), "train": train}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        answer = process.stdout.readline() if ready else b""
        if answer:
            err = self._err.read_text("utf-8", "replace")
            status, unpickled = json.loads(answer)
            return Outcome(status, unpickled, out=self._out.read_bytes(), err=err)
        self.close()
        raise AssertionError(
            f"{command} {args}: "
            + (f"died with {process.returncode}: {self._err.read_text('utf-8', 'replace')}" if ready else "hangs")
        )

    @property
    def pid(self) -> int:
        """The process that will run the next command."""
        if self._process is None:
            self._start()
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        program = [sys.executable, "-m", "tests.helpers.worker", str(self._out), str(self._err)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "PYTHONPATH": str(REPO_ROOT)}
        cwd = self._folder / "cwd"  # options name files that are written there
        cwd.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"


def serve(out: str, err: str) -> None:
    """Answer requests on stdin with exit statuses on stdout until stdin ends."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.argv[1:] = []
    faulthandler.enable()  # into what is descriptor 2 then
    fit: Any = importlib.import_module("lit_transformer.fit")
    importlib.import_module("lit_transformer.cli.reports")  # torch and Lightning, before memory is limited
    training = fit.fit
    if sys.platform.startswith("linux"):
        resource = importlib.import_module("resource")  # Windows has none
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    sys.addaudithook(_note_unpickling)
    print("ready", file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        for path, number in ((out, 1), (err, 2)):
            with Path(path).open("wb") as file:
                os.dup2(file.fileno(), number)
        fit.fit = training if request["train"] else lambda cli: None
        UNPICKLED.clear()
        print(json.dumps([_status(request), UNPICKLED]), file=answers, flush=True)


def _note_unpickling(event: str, args: tuple[object, ...]) -> None:
    if event == "pickle.find_class":
        UNPICKLED.append(".".join(map(str, args)))


def _status(request: dict[str, Any]) -> object:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(bytes.fromhex(request["stdin"]))  # less than a pipe holds
    with os.fdopen(reading, encoding="utf-8") as sys.stdin:
        try:
            importlib.import_module(f"lit_transformer.{request['command']}").main(request["args"])
        except SystemExit as end:
            return end.code
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve(*sys.argv[1:])
