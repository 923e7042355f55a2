"""Terms explained where they stand: the first of each in a text gets its explanation, and the page lists them all."""

import re
import tomllib
from pathlib import Path

from markupsafe import Markup, escape

TERMS: dict[str, str] = tomllib.loads(Path(__file__).with_name("terms.toml").read_text(encoding="utf-8"))["terms"]
KNOWN = {term.lower(): meaning for term, meaning in TERMS.items()}
PATTERN = re.compile(
    rf"(?<![\w&#-])({'|'.join(map(re.escape, sorted(TERMS, key=len, reverse=True)))})s?(?![\w-])", re.I
)


class Explainer:
    """Puts explanations into texts, and remembers which terms the page has used."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}

    def __call__(self, text: str) -> Markup:
        """`text` with `abbr` around the first of each term; anything else in it stays plain text."""
        seen: set[str] = set()

        def wrap(found: re.Match[str]) -> str:
            term = found[1].lower()
            if term in seen:
                return found[0]
            seen.add(term)
            self.used[term] = KNOWN[term]
            return f'<abbr title="{escape(KNOWN[term])}">{found[0]}</abbr>'

        return Markup(PATTERN.sub(wrap, str(escape(text))))

    def glossary(self) -> list[tuple[str, str]]:
        """The terms used so far with their meaning, by the alphabet."""
        return sorted((term, meaning) for term, meaning in TERMS.items() if term.lower() in self.used)
