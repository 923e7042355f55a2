"""An error in the user's file shows the user's lines, and none of ours; what can be said in one line is."""

import re
from pathlib import Path

import pytest

from cli_place import RECIPE, go, said
from cli_place import place as place

pytestmark = pytest.mark.usefixtures("place")
MAIN = "def main(config, run):\n"
FAULTS = {  # what is put where, and the lines and the error that are shown
    "exit at once": (("import os\n", "import os, sys\nsys.exit(3)\n"), ["sys.exit(3)"], "SystemExit: 3"),
    "no such module": (("import os\n", "import os, nothere\n"), ["import os, nothere"], "ModuleNotFoundError: No"),
    "a default": (("lr: float = 0.5", "lr: float = 1 / 0"), ["lr: float = 1 / 0"], "ZeroDivisionError: division"),
    "a default in work": (
        ("hidden: tuple[int, ...] = (4,)", "hidden: tuple[int, ...] = __import__('dataclasses').field("
         "default_factory=lambda: 1 / 0)"), ["lambda: 1 / 0"], "ZeroDivisionError: division"
    ),
    "in the work": ((MAIN, f"{MAIN}    open_it()\n\n\ndef open_it():\n    {{}}['x']\n\n\ndef rest(config, run):\n"),
                    ["open_it()", "{}['x']"], "KeyError: 'x'"),
    "in our code": ((MAIN, f"{MAIN}    run.loop(3, object(), x=1).send(7)\n"), ["run.loop(3"], "TypeError: "),
    "leaves in the work": ((MAIN, f"{MAIN}    raise SystemExit('enough')\n"), ["raise SystemExit"], "SystemExit: eno"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_only_the_lines_of_the_user_are_shown(name, capsys):
    (old, new), lines, error = FAULTS[name]
    assert old in RECIPE
    Path("mine.py").write_text(RECIPE.replace(old, new, 1))
    assert go("run mine.py --out out") == 1
    out, err = capsys.readouterr()
    frames = re.findall(r'^ *File "(.*)", line', err, re.M)
    assert {Path(file).name for file in frames} == {"mine.py"}
    assert all(line in err for line in lines)
    assert error in err
    assert "neuropil/" not in err
    assert out == ""


ONE_LINE = {
    "no arguments": ((MAIN, "def main():\n    config = run = 0\n"), "needs a function main(config, run), got main()."),
    "one": ((MAIN, "def main(config):\n    run = 0\n"), "needs a function main(config, run), got main(config)."),
    "no type": (("lr: float = 0.5", "lr = 0.5"), "'lr' of mine.py needs a type, or it is none: lr: float = ..."),
    "odd type": (("lr: float = 0.5", "lr: 'Wrong' = 0.5"), "Config has a setting of an unknown type (name 'Wrong'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_LINE)
def test_what_a_recipe_lacks_is_said_in_one_line(name, capsys):
    (old, new), message = ONE_LINE[name]
    assert old in RECIPE
    Path("mine.py").write_text(RECIPE.replace(old, new, 1))
    assert message in said(capsys, "run mine.py --out out")
    assert not Path("out").exists()
