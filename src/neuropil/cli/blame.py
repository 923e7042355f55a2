"""Errors in code of the user: their lines of the traceback, without ours."""

import sysconfig
import traceback
from pathlib import Path

import neuropil

OTHERS = (str(Path(neuropil.__file__).parent), sysconfig.get_path("stdlib"), "<frozen ")
INSTALLED = ("site-packages", "dist-packages")


def own_frames(error: BaseException) -> list[str]:
    """The traceback of `error` with the frames in files of the user alone; empty if there is none."""
    whole = traceback.TracebackException.from_exception(error)
    found = False
    one: traceback.TracebackException | None = whole
    while one:
        kept = [frame for frame in one.stack if is_own(frame.filename)]
        found |= bool(kept)
        one.stack = traceback.StackSummary.from_list(kept)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return list(whole.format()) if found else []


def is_own(file: str) -> bool:
    """Whether a file of code is neither ours, nor Python's, nor of an installed package."""
    return not file.startswith(OTHERS) and not any(name in Path(file).parts for name in INSTALLED)
