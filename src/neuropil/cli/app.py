"""neuropil: learning without the global backward pass, measured fairly against it.

usage: neuropil COMMAND ...               more on a command: neuropil COMMAND --help

commands:
{commands}

examples:
  neuropil list                           what there is to run, how long it takes, which data it needs
  neuropil compare --data digits          local learning rules beside their baselines, with a report
  neuropil run NAME --help                the settings of a recipe
  neuropil run NAME --seed 1 --out DIR    one run, into a new folder
  neuropil run --resume DIR               go on with a run that was stopped
  neuropil sweep NAME --grid lr=0.1,0.3   many settings, chosen on held-out training examples
  neuropil copy NAME mine.py              a recipe of your own: edit it, then neuropil run ./mine.py

Data are looked for in $NEUROPIL_DATA. NEUROPIL_TRACEBACK=1 shows where an error came from.
"""

import ast
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

import neuropil
from neuropil.cli.recipes import no_such
from neuropil.errors import Refusal, enough_memory, printable, require

OWN_HELP = {"audit", "bench", "compare", "run", "sweep"}  # after a name, their help is the settings of what is named
COMMANDS = Path(__file__).parent / "commands"


def command_names() -> list[str]:
    """The commands are the files in the folder; there is no list to keep."""
    return sorted(file.stem for file in COMMANDS.glob("[!_]*.py"))


def main(words: Sequence[str]) -> int:
    """Do what `words` say; the exit code.

    It is 0, or 2 after one line on stderr about what is wrong, 3 if no learner had a result, or 130 if stopped.
    """
    try:
        text = " ".join(words)
        whole = text.encode(errors="ignore").decode() == text
        require(whole, "some words are not valid UTF-8; rename that file or folder.")
        with enough_memory():
            return _obey(list(words))
    except (Refusal, OSError) as error:
        if os.environ.get("NEUROPIL_TRACEBACK"):
            raise
        say(reason(error))
        return 2
    except KeyboardInterrupt as stop:
        say(str(stop) or "stopped.")
        return 130
    except (Exception, SystemExit) as error:
        from neuropil.cli.blame import own_frames

        frames = own_frames(error)
        if not frames or os.environ.get("NEUROPIL_TRACEBACK"):
            raise
        print("".join(frames), end="", file=sys.stderr)
        return 1


def entry() -> NoReturn:
    """The command `neuropil`."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    bound_memory()
    # waiting threads sleep: on a busy machine 10 x and more; but not at once, since to wake up takes a tenth of a step
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    warnings.showwarning = one_line_each()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without some letter costs that letter, not the run
    sys.exit(main(sys.argv[1:]))


def bound_memory() -> None:
    """Let the process ask for no more memory than is there now: else Linux kills it, or another, without a word.

    Where a GPU is, its driver reserves more than that, and nothing is bound.
    """
    with suppress(ImportError, OSError, ValueError, KeyError):  # another system
        import resource

        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = {line[0]: 1024 * int(line[1]) for line in lines}
        there = free["MemAvailable:"] + free["SwapFree:"]
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if not Path("/proc/driver/nvidia").exists():
            most = [limit for limit in (there, soft, hard) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(resource.RLIMIT_DATA, (min(most), hard))


def one_line_each() -> Callable[..., None]:
    """What shows a warning in one line on stderr, without the code it came from, and only the first of each place."""
    told: set[tuple[str, int]] = set()

    def show(message: Warning, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        if (filename, lineno) not in told:
            told.add((filename, lineno))
            say(f"warning: {reason(message)} (More of this kind will not be shown.)")

    return show


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return " ".join(str(error).split())


def _obey(words: list[str]) -> int:
    command = words.pop(0) if words else "--help"
    if command in ("-h", "--help", "help"):
        rows = [f"  {name:<9}{_doc(name).splitlines()[0]}" for name in command_names()]
        print((__doc__ or "").format(commands="\n".join(rows)), end="")
        return 0
    if command == "--version":
        print(f"neuropil {neuropil.__version__}")
        return 0
    if command not in command_names():
        raise no_such(command, "command", command_names())
    asks = {"-h", "--help"} & set(words[:1] if command in OWN_HELP else words)
    if asks and command != "compare":
        print(_doc(command))
        return 0
    return import_module(f"neuropil.cli.commands.{command}").main(words)


def _doc(command: str) -> str:
    """The docstring of a command, read without importing what the command needs."""
    return ast.get_docstring(ast.parse((COMMANDS / f"{command}.py").read_text(encoding="utf-8"))) or ""


def say(message: str) -> None:
    """One line on stderr, in which names cannot command the terminal."""
    print(f"neuropil: {printable(message)}", file=sys.stderr)


def _as_ctrl_c(*_: object) -> NoReturn:
    raise KeyboardInterrupt
