"""What comes out of awkward inputs is what came out before: sums of every tensor, so that a silent change is red.

Laws have oracles elsewhere; this sees what no law names, where it moves a sum by more than rounding does.
Where the change is meant: `python tests/test_outcomes.py`.
"""

import sys

import pytest

import outcome_measures
import outcome_models
import outcome_rules
import outcome_spiking
import outcome_studies
from outcomes import RECORD, alike, lines, made_with, recorded

ROOMS = outcome_rules, outcome_models, outcome_spiking, outcome_measures, outcome_studies
CASES = {name: case for room in ROOMS for name, case in room.CASES.items()}


@pytest.mark.skipif(recorded()[0] != made_with(), reason=f"numbers on record are {recorded()[0]}, here {made_with()}")
@pytest.mark.filterwarnings("ignore:.* start at inputs")
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_on_record(name):
    known = {key: line for key, line in recorded()[1].items() if key.startswith(f"{name}: ")}
    found = {line.split(" = ")[0]: line for title, what in CASES[name]() for line in lines(f"{name}: {title}", what)}
    assert found, "a case that makes nothing sees nothing"
    other = [key for key in {**known, **found} if not alike(known.get(key, ""), found.get(key, ""))]
    told = [f"- {known.get(key)}\n+ {found.get(key)}" for key in other[:12]]
    assert not other, "\n".join([f"{len(other)} of {len(found)} lines", *told, *str(__doc__).splitlines()[-1:]])


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(CASES)
    others = {*CASES} - {*chosen}
    kept = [line for key, line in recorded()[1].items() if key.split(": ")[0] in others]
    made = [line for name in chosen for title, what in CASES[name]() for line in lines(f"{name}: {title}", what)]
    RECORD.write_text("\n".join([made_with(), *kept, *made]) + "\n", encoding="utf-8")
