"""One voice for refusals: every error a user can cause says what was needed, what came, and the cure."""

from collections.abc import Iterable
from difflib import get_close_matches


class Refusal(ValueError):
    """A request that cannot be met; its message is one line meant for the person who asked."""


def require(condition: bool, message: str) -> None:
    """Refuse with `message` unless `condition` holds."""
    if not condition:
        raise Refusal(message)


def unknown(kind: str, got: str, known: Iterable[str]) -> Refusal:
    """The refusal for a name that is not one of `known`, with the nearest right name."""
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return Refusal(f"unknown {kind} {got!r}.{hint} Known: {', '.join(names) or 'none'}.")
