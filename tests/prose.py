"""Sentences of a Markdown page or of docstrings, for the tests of words and of plain English."""

import ast
import io
import re
import tokenize

END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_`\[]*[A-Z0-9±−+-])")
ABBREVIATIONS = re.compile(r"\b(et al|e\.g|i\.e|vs|Fig|Eq|No|Sec|cf|approx|Phys|Rev|Lett|Neural|Comput)\.(?=\s)")


def paragraphs(text):
    """(line number, text) of every paragraph and list item, without code blocks, tables, headings and references."""
    text = re.sub(r"```.*?```|<[^>]*>", lambda match: "\n" * match.group().count("\n"), text, flags=re.DOTALL)
    start, lines, references = 0, [], False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            references = bool(re.search(r"citation|reference|source", line, re.IGNORECASE))
        item = re.match(r"\s*([-*]|\d+\.)\s+", line)
        skip = references or line.lstrip().startswith(("#", "|", "!["))
        if (not line.strip() or item or skip) and lines:
            yield start, " ".join(lines)
            lines = []
        if line.strip() and not skip:
            start = start if lines else number
            lines.append(line[item.end() :] if item else line.strip())


def sentences(text):
    """(line number of its paragraph, sentence) of every sentence; inline code and a link's address are no words."""
    for number, paragraph in paragraphs(text):
        plain = re.sub(r"`[^`]*`", "Code", paragraph)
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)
        plain = ABBREVIATIONS.sub(r"\1", plain)
        for sentence in END.split(plain):
            yield number, sentence.strip()


def words(sentence):
    """The words of a sentence; numbers and symbols are none."""
    return [word for word in sentence.split() if re.search(r"[^\W\d_]", word)]


def docstrings(source):
    """(line number, text) of every docstring and comment of a Python file, each entry of a list its own paragraph.

    The comments of a settings class are its help texts.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for item in body if isinstance(body, list) else ():
            if (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            ):
                text = re.sub(
                    r"\n\s*(Args|Attributes|Raises|Returns|Examples|Measured|Try):\s*", "\n\n", item.value.value
                )
                text = re.sub(r"^.*(\S {2,}\S|neuropil \w+ \S).*$", "", text, flags=re.MULTILINE)  # columns, commands
                yield item.lineno, re.sub(r"\n(?=\s+[\w`*, .]+: )", "\n\n", text)
