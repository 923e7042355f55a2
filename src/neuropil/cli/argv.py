"""Words of the command line, before they are settings."""

from neuropil.errors import Refusal, require


def take(words: list[str], flag: str) -> str | None:
    """The value of `flag` in `words`, which loses both; None if it is not there."""
    for k, word in enumerate(words):
        name, has_value, value = word.partition("=")
        if name == flag and has_value:
            del words[k]
            return value
        if name == flag:
            require(k + 1 < len(words) and not words[k + 1].startswith("--"), f"{flag} needs a value after it.")
            _, value = words.pop(k), words.pop(k)
            return value
    return None


def only(words: list[str], usage: str, *, least: int, most: int | None = None) -> list[str]:
    """`words` if there are `least` to `most` of them and none is a flag; else a refusal that shows the usage."""
    flags = [word for word in words if word.startswith("-")]
    require(not flags, f"unknown flag {', '.join(map(repr, flags))}. Usage: {usage}")
    if not least <= len(words) <= (len(words) if most is None else most):
        raise Refusal(f"got {len(words)} words ({' '.join(words) or 'none'}). Usage: {usage}")
    return words
