"""One word, one meaning, and sentences that a stranger can read: the glossary's words and nobody else's."""

import dataclasses
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from prose import docstrings, sentences, words

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/neuropil"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
TEXTS = [
    *sorted(path for end in ("py", "html", "css", "js", "toml") for path in PACKAGE.rglob(f"*.{end}")),
    *PAGES,
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
]
LONGEST = 25

# Retired names: they may stand nowhere, neither as a word nor as a piece of a name like `name_piece`.
NAMES = (
    "ChangeSTDP|Direction|BothSigns|PartialLinear|Sent|Descent|LabelEvents|ExactSpikes|Practice|Watch|Unwatched|Tagged",
    "Keeper|Replay|Verdict|SetRow|Asked|Frame|fit_labels|keep_phases|beside_twins|side_by_side|of_one_seed",
    "named_right|judge_drawings|evaluate_drawings|predict_ordinary|flat_share|some_rows|lose_synapses|lose_units",
    "hurt_|shake_|Teacher|NAME_PART|retrace|sweep_on|from_tensors|to_tensors|kept_path|revive|unwalk|unstep|hand_over|repaints",
)

# Retired words of prose, whole words in either case, with what to write.
PROSE = {
    r"twins?": "baseline",
    r"entrants?": "method",
    r"alarms?": "warning",
    r"whisper(s|ing|ed)?": "free_unit_gain",
    r"horizons?": "t_end",
    r"(re)?draw(s|n|ing|ings)?|(re)?drew": "initialise, generate, sample, plot, choose",
    r"judg(e|es|ed|ing)": "reference_classifier, verify, score, select",
    r"clothes": "Fashion-MNIST",
    r"named (right|as)|names? right|naming|read as asked|as asked": "classified correctly; as the requested class",
    r"sees its own two": "pre- and postsynaptic activity",
    r"repaint(s|ed|ing)?": "resample",
    r"everybody|nobody|straw man|somebody": "all methods, none, a weak baseline",
    r"void(s|ed)?": "invalid",
    r"chances?": "probability, majority rate",
    r"unlearn(s|ed|ing)?": "anti-Hebbian update",
    r"teachers?": "nudge",
}

# Words with one meaning left, which is never a setting: `--attack-steps`, `--lr-decay`, `--patch-fraction` say which.
NO_SETTING = {
    *("steps", "decay", "share", "norm", "keep", "draw", "judge", "chance", "trial", "part", "parts", "memory"),
    *("copies", "examples", "images", "together", "sure", "tries", "rounds", "repaints", "own", "occluded", "feedback"),
    *("naming", "drawing", "whisper", "rest", "sharpness", "flip", "turned", "entrants", "twins"),
}


def places(pattern, texts=TEXTS):
    """file:line and the line of every match."""
    rule = re.compile(pattern)
    for path in texts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if rule.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def test_retired_names_are_gone():
    found = list(places(rf"(?<![A-Za-z])({'|'.join(NAMES)})(?![A-Za-z])"))
    assert not found, "\n".join(["retired names:", *found])


@pytest.mark.parametrize("word", PROSE)
def test_retired_words_are_gone(word):
    found = list(places(rf"(?i)(?<![a-z])({word})(?![a-z])"))
    assert not found, "\n".join([f"write {PROSE[word]} instead:", *found])


def configs():
    """(file, settings class) of every recipe, command and benchmark."""
    for room in ("recipes", "cli/commands", "bench"):
        for file in sorted((PACKAGE / room).glob("[!_]*.py")):
            module = import_module(f"neuropil.{room.replace('/', '.')}.{file.stem}")
            for value in vars(module).values():
                if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
                    yield file, value


def test_no_setting_has_a_word_of_several_meanings():
    found = [
        f"{file.relative_to(ROOT)}: {config.__name__}.{field.name}"
        for file, config in configs()
        for field in dataclasses.fields(config)
        if field.name in NO_SETTING
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_sentences_are_short(page):
    long = [
        f"{page.relative_to(ROOT)}:{line}: {len(words(sentence))} words: {sentence}"
        for line, sentence in sentences(page.read_text(encoding="utf-8"))
        if len(words(sentence)) > LONGEST
    ]
    assert not long, "\n".join([f"at most {LONGEST} words a sentence:", *long])


def test_sentences_of_docstrings_and_help_texts_are_short():
    """Laws apart: a sentence with an equation is as long as its equation."""
    long = [
        f"{path.relative_to(ROOT)}:{line}: {len(words(sentence))} words: {sentence}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        for _, sentence in sentences(text)
        if len(words(sentence)) > LONGEST and "=" not in sentence
    ]
    assert not long, "\n".join([f"at most {LONGEST} words a sentence:", *long])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_is_wrapped(page):
    text = re.sub(
        r"```.*?```", lambda match: "\n" * match.group().count("\n"), page.read_text("utf-8"), flags=re.DOTALL
    )
    wide = [
        f"{page.relative_to(ROOT)}:{number}: {len(line)} columns"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 120 and not line.lstrip().startswith(("|", "!["))
    ]
    assert not wide, "\n".join(wide)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_deliberate_faults_can_be_read():
    """Two changes that both add rows at the end can lose a header where they are merged."""
    rows = tomllib.loads((ROOT / "tests/mutants.toml").read_text(encoding="utf-8"))["mutant"]
    assert all(row.keys() == {"function", "old", "new", "meaning", "test"} for row in rows)


def test_long_sentences_and_retired_words_are_found():
    """The tests above see what they look for."""
    page = f"# {'word ' * 30}\n\n| {'word ' * 30} |\n\nShort. {'word ' * 26}et al. 7 x.\n\n```\n{'word ' * 30}\n```\n"
    assert [line for line, sentence in sentences(page) if len(words(sentence)) > LONGEST] == [5]
    assert re.search(r"(?i)(?<![a-z])(twins?)(?![a-z])", "beside_twins and others")
