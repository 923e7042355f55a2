"""Which code a run may execute when it goes on: what the user names, and what the user named when it began.

A run folder may come from a stranger, and its command may name any file. So `seal` signs the command and the code with
a key that never leaves the home of the user.
"""

import hmac
import json
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from neuropil.cli.recipes import is_file
from neuropil.errors import Refusal, require

COPY = "recipe.py"  # a user's recipe as it was


def seal(command: str, code: Mapping[str, str]) -> str | None:
    """Proof that this user gave `command` with `code` (name -> digest); None where no key can be kept."""
    key = _key()
    said = json.dumps([command, dict(sorted(code.items()))]).encode()
    return hmac.new(key, said, "sha256").hexdigest() if key else None


def split(command: str) -> list[str]:
    """The words of a command that a file gives."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise Refusal(f"the command of this run cannot be read ({error}).") from error


def value_of(word: str) -> str:
    """The value in a word such as --data=./mine.py; any other word is one itself."""
    return word.partition("=")[2] if word.startswith("--") and "=" in word else word


def code_of(folder: Path, facts: Mapping[str, Any], named: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """For each file of code that the command of a run names: the file to use. And those that are not as they were.

    It is the one of the same name that the user names now, in `named`. Else, in a run that this user started, it is the
    file of the command, or where that is gone the copy in the run.

    Raises:
        Refusal: it is neither.
    """
    command, known = facts["command"], facts.get("code") or {}
    own = facts.get("seal")
    ours = isinstance(own, str) and hmac.compare_digest(own.encode(), (seal(command, known) or "").encode())
    used, changed = {}, []
    for index, word in enumerate(split(command)):
        text = value_of(word)
        if not is_file(text):
            continue
        keys = [COPY, Path(text).name] if index == 2 else [Path(text).name]
        given, kept = [path for path in named if path.name in keys], folder / keys[0]
        file = given[0] if given else Path(text).expanduser()
        file = file if given or file.is_file() else kept
        same = file.is_file() and sha256(file.read_bytes()).hexdigest() == known.get(keys[0])
        if not given and (not ours or (file is kept and not same)):
            raise Refusal(
                f"the run in {folder} would execute the code in {text}, which you did not name. If you trust it, name "
                f"it: neuropil run --resume {shlex.quote(str(folder))} --code {shlex.quote(str(file))}"
            )
        require(file.is_file(), f"there is no file {file}.")
        used[text] = str(file)
        changed += [] if same else [f"the code in {file}"]
    return used, changed


def _key() -> bytes | None:
    """32 bytes that only this user can read, made when first needed."""
    try:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "neuropil"
        folder.mkdir(parents=True, exist_ok=True)
        file, new = folder / "key", folder / f".{secrets.token_hex(8)}"
        if not file.exists():
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer:
                writer.write(secrets.token_bytes(32))
            with suppress(FileExistsError):
                os.link(new, file)
            new.unlink()
        key = file.read_bytes()
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    return key if len(key) == 32 else None
