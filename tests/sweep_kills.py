"""A sweep of 40 runs is killed at random moments and goes on; each run is done once, and the table stays the same.

`python tests/sweep_kills.py 10` kills a sweep of `mnist_krotov` on digits ten times, in turn with all its processes and
the first of them alone, always by SIGKILL. It says how far the sweep was, and is 0 if what was finished at a kill
stayed as it was, and if folders, rows, weights and table in the end are those of an undisturbed one.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worker_kills import TIMES, alive, children, same

RUNS = 40
WORDS = (
    "mnist_krotov --data digits --grid lr=0.03,0.1,0.3,1 k=2,7 --seeds 5 --workers 2 --threads 1 "
    "--learners krotov_hopfield --units 60 --epochs 30 --readout-epochs 30 --labels 100"
)
PATIENCE = 120.0  # how long the processes of a sweep whose first was killed may take to end, s


def sweep(folder):
    """The sweep in `folder`, which begins or goes on."""
    words = ["--resume", "sweep"] if (folder / "sweep.json").exists() else [*WORDS.split(), "--out", "sweep"]
    command = [sys.executable, "-m", "neuropil", "sweep", *words, "--quiet"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder.parent, text=True, **streams)


def family(pid):
    """A process and all that it has started, and these, from the first on."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def finished(folder):
    """What the files of each finished run say, by its folder."""
    found = {}
    for file in sorted(folder.glob("setting-*/seed-*/run.json")):
        if json.loads(file.read_text())["finished"] is not None:
            found[file.parent] = file.read_bytes(), (file.parent / "metrics.jsonl").read_bytes()
    return found


def killed(folder, moment, *, whole):
    """Kill a sweep so many seconds after it began, and wait for all of its processes; False if it had ended before."""
    run = sweep(folder)
    end = time.monotonic() + moment
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.01)
    if run.poll() is not None:
        assert run.returncode == 0, run.communicate()[1]
        return False
    victims = family(run.pid)
    for pid in victims if whole else victims[:1]:
        os.kill(pid, signal.SIGKILL)
    run.communicate()
    end = time.monotonic() + PATIENCE
    while any(map(alive, victims)):
        assert time.monotonic() < end, "processes of a sweep that was killed go on"
        time.sleep(0.05)
    begun, done = (len(list(folder.glob("setting-*/seed-*/run.json"))), len(finished(folder)))
    what = "all processes" if whole else "the first process"
    print(f"{what} at {moment:.1f} s: {done} of {RUNS} runs finished, {begun - done} at work", flush=True)
    return True


def files(folder):
    """The names of all files of a sweep."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def table(folder):
    """What a sweep found, without times."""
    plain = lambda pairs: {name: value for name, value in pairs if name not in TIMES}
    return json.loads((folder / "results.json").read_text(), object_pairs_hook=plain)


def ended(folder):
    """How long a sweep took that was not killed, s."""
    start, run = time.monotonic(), sweep(folder)
    said = run.communicate()[1]
    assert run.returncode == 0, said
    return time.monotonic() - start


def differences(folder, whole):
    """How a sweep differs from another one."""
    runs = [path.relative_to(folder) for path in finished(folder)]
    wrong = [f"{name} is in one of the sweeps only" for name in sorted(files(whole) ^ files(folder))]
    wrong += [] if len(runs) == RUNS else [f"{len(runs)} runs are finished"]
    wrong += [f"{run} is another run" for run in runs if not same(folder / run, whole / run)]
    return wrong + ([] if table(folder) == table(whole) else ["the table is another one"])


def main(count):
    """How many things went wrong."""
    dice, wrong, kept, kills = random.Random(1), [], {}, 0
    with tempfile.TemporaryDirectory() as place:
        whole, folder = (Path(place) / name / "sweep" for name in ("whole", "killed"))
        for one in whole, folder:
            one.parent.mkdir()
        lasts = ended(whole)
        print(f"undisturbed: {len(finished(whole))} runs in {lasts:.0f} s", flush=True)
        for turn in range(count + 1):
            if turn < count and killed(folder, dice.uniform(0, 2 * lasts / count), whole=turn % 2 == 0):
                kills += 1
            elif turn == count:
                ended(folder)
            found = finished(folder)
            wrong += [f"{path} was finished, and has changed" for path in kept if found.get(path) != kept[path]]
            kept = found
        wrong += [f"{count - kills} kills came too late"] if kills < count else []
        wrong += differences(folder, whole)
    good = f"after {kills} kills each of {RUNS} runs is that of the undisturbed sweep, once, and so is the table"
    print(*wrong or [good], sep="\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
