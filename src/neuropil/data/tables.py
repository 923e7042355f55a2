"""Tables of numbers with a label in each row, as spreadsheets and programs write them."""

import csv
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuropil.data.files import read_bytes
from neuropil.errors import Refusal, require

LABELS = ("label", "labels", "y", "class", "target", "targets")
SUFFIXES = (".csv", ".tsv")
COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")  # a number with a decimal comma


class Table(NamedTuple):
    """What a file holds.

    Attributes:
        x: numbers, (n, columns).
        y: labels (n,), whole numbers or text.
        names: of the columns of numbers, in lower case; empty where the file has no heads.
    """

    x: Any
    y: Any
    names: list[str]


def read_table(path: Path, like: Sequence[str] = ()) -> Table:
    """Numbers, and the label in the column called label, class, target or y, or in the last one.

    Cells are parted by commas, semicolons or tabs; with semicolons and tabs numbers may have a decimal comma. Empty
    lines, columns without any entry and a first line such as ``sep=;`` are left out. So are comments, lines that begin
    with # and do not have as many cells as the others.

    Args:
        path: of the file, in UTF-8, or in UTF-16 with a mark.
        like: names of the columns of numbers in the file of training examples, in whose order they are wanted; empty
            where columns have no names.

    Raises:
        Refusal: cells that are no numbers, rows of another width, other columns than `like`.
    """
    lines, rows = _rows(path)
    require(len(rows) > 1 and len(rows[0]) > 1, f"{path} needs a row for each example: numbers and a label.")
    head = [cell.lower() for cell in rows[0]]
    named = [place for place, cell in enumerate(head) if cell in LABELS]
    headed = bool(named or not any(map(_is_number, head)))
    lines, rows = lines[headed:], rows[headed:]
    at = named[0] if named else len(head) - 1
    if headed and not named and all(_is_number(row[-1]) for row in rows):  # it could be a feature as well
        told = f"{path}: the label is taken from its last column, {head[at]!r}"
        warnings.warn(f"{told}; call the column 'label' that has it, if that is another one.", stacklevel=4)
    _check_cells(path, rows, len(head), at, lines)
    columns = [place for place in range(len(head)) if place != at]
    names = [head[place] for place in columns] if headed else []
    lead = [row[columns[0]] for row in rows]
    counts = names[:1] == [""] and all(map(str.isdigit, lead)) and len(set(lead)) == len(lead)
    require(not counts, f"{path} numbers its examples in a column without a name; save it without, as index=False.")
    if like and names and list(like) != names:
        alike = sorted(like) == sorted(names) and len(set(names)) == len(names)
        require(alike, f"{path} needs the columns of the training examples, {', '.join(like)}, got {', '.join(names)}.")
        columns = [columns[names.index(name)] for name in like]
    x = np.array([[float(row[place]) for place in columns] for row in rows])
    labels = [row[at] for row in rows]
    whole = all(re.fullmatch(r"\d+", label) for label in labels)
    return Table(x, np.array([int(label) for label in labels] if whole else labels), names)


def _rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """The number of each line that counts, and its cells without spaces around them, numbers with a decimal point."""
    raw = read_bytes(path)
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Refusal(f"{path} needs text in UTF-8, got other bytes; save it as UTF-8.") from fault
    kept = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    said = re.fullmatch(r"sep=(.)", kept[0][1].strip()) if kept else None
    kept = kept[1:] if said else kept
    plain = next((line for _, line in kept if line[0] != "#"), "")
    delimiter = said[1] if said else max(",;\t", key=plain.count)
    cells = plain.count(delimiter)
    kept = [(number, line) for number, line in kept if line[0] != "#" or line.count(delimiter) == cells]
    reader = csv.reader((line for _, line in kept), delimiter=delimiter)
    try:
        found = [(kept[reader.line_num - 1][0], [cell.strip(" \t#") for cell in row]) for row in reader]
    except csv.Error as fault:
        raise Refusal(f"{path} is no table of cells ({fault}); save it again.") from fault
    found = [(number, row) for number, row in found if any(row)]
    width = max((k + 1 for _, row in found for k, cell in enumerate(row) if cell), default=0)
    rows = [row[:width] for _, row in found]
    return [number for number, _ in found], rows if delimiter == "," else _with_points(path, rows)


def _with_points(path: Path, rows: list[list[str]]) -> list[list[str]]:
    """Numbers with a decimal comma as numbers with a point; both in one table are refused, as 1.234 may mean 1234."""
    commas = next((cell for row in rows for cell in row if COMMA.fullmatch(cell)), None)
    if commas is None:
        return rows
    points = next((cell for row in rows for cell in row if "." in cell and re.fullmatch(r"[-+\d.,eE]+", cell)), None)
    both = f"{path} has numbers with a decimal comma, {commas!r}, and others with a point, {points!r}"
    require(points is None, f"{both}; write all in one way, without marks of thousands.")
    return [[cell.replace(",", ".") if COMMA.fullmatch(cell) else cell for cell in row] for row in rows]


def _check_cells(path: Path, rows: Sequence[Sequence[str]], width: int, at: int, lines: Sequence[int]) -> None:
    """Refuse rows of another width, and cells that are no number, or no label in column `at`."""
    missing = "fill it, or leave its row or its column out"
    for number, row in zip(lines, rows):
        bad = [cell for place, cell in enumerate(row) if place != at and not _is_number(cell)]
        fits = len(row) == width
        require(fits, f"{path} needs {width} cells in every row, got {len(row)} in line {number}.")
        empty = [cell for cell in bad if cell.lower() in ("", "na", "n/a", "null", "none", "-")]
        require(not empty, f"{path} has a cell without a number, {empty[:1]}, in line {number}; {missing}.")
        require(not bad, f"{path} needs a number in every cell but the label's, got {bad[:1]} in line {number}.")
        require(bool(row[at]), f"{path} needs a label in every row, got none in line {number}.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
