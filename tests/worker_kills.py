"""One of two processes that learn a run is killed at a random moment; the other ends, and the run goes on to the bit.

`python tests/worker_kills.py 20` kills twenty runs of `mnist_krotov --workers 2` and says how each of them ended. It is
0 if the other process ended within 30 s with one line that names the one that was killed, if no row was lost, and if
after `--resume` rows and weights are those of the undisturbed run.
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

import torch
from safetensors.torch import load_file

WORDS = (
    "mnist_krotov --workers 2 --threads 1 --learners krotov_hopfield --n-train 2000 --units 100 --epochs 20 "
    "--readout-epochs 20 --readout-min-steps 1 --labels 100 --quiet"
)
PATIENCE = 30.0  # how long the other process may take to end, s
LINES = {
    0: "the first process of the run has ended, and so do the others; go on with neuropil run --resume.",
    1: "process 2 of 2 has ended (signal 9); the others were stopped. What was written is kept; go on with: neuropil",
}
TIMES = {"seconds", "peak_mb", "time"}  # what no two runs have in common


def started(folder):
    """A run, and the process that it starts, by its id."""
    command = [sys.executable, "-m", "neuropil", "run", *WORDS.split(), "--out", str(folder)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (found := [pid for pid in children(run.pid) if b"neuropil.cli.follower" in said_to(pid)]):
        if run.poll() is not None:
            return run, 0
        time.sleep(0.05)
    return run, found[0]


def children(pid):
    """The processes that a process has started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def said_to(pid):
    """The words of the command of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid):
    """Whether a process runs, that is, has not ended or waits to be asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def rows(folder):
    """What a run has logged, without times; of a row that was not written to its end nothing."""
    found = []
    for line in (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else ():
        try:
            found.append(json.dumps({key: one for key, one in json.loads(line).items() if key not in TIMES}))
        except ValueError:
            continue
    return found


def same(folder, other):
    """Whether two runs have the same rows and the same weights, to the bit."""
    files = sorted(one.relative_to(other) for one in other.rglob("*.safetensors"))
    tensors = [(load_file(folder / name), load_file(other / name)) for name in files if (folder / name).exists()]
    weights = all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in b) for a, b in tensors)
    return len(tensors) == len(files) > 0 and weights and rows(folder) == rows(other)


def killed(folder, rank, moment, most):
    """Kill process `rank` of a run so many seconds after the second began; what went wrong, None if it was over.

    A whole run has logged `most` rows.
    """
    run, other = started(folder)
    victim, survivor = (run.pid, other) if rank == 0 else (other, run.pid)
    end = time.monotonic() + moment
    while time.monotonic() < end and alive(other) and run.poll() is None:
        time.sleep(0.01)
    if not alive(other) or run.poll() is not None:
        run.communicate()
        return None
    os.kill(victim, signal.SIGKILL)
    start = time.monotonic()
    while alive(survivor) and time.monotonic() - start < PATIENCE:
        time.sleep(0.05)
    took, wrong = time.monotonic() - start, []
    if alive(survivor):
        wrong.append("the other process goes on")
        os.kill(survivor, signal.SIGKILL)
    said = run.communicate()[1]
    if run.returncode == 0:  # all was learned when it was killed
        print(f"process {rank + 1} at {moment:.1f} s, when all was done", end="")
        return wrong + ([f"it said {said!r}"] if said else [])
    before = rows(folder)
    done = rank == 0 and not said and len(before) == most  # the other had been told to end, and had
    if not done and (said.count("\n") != 1 or not said.startswith(f"neuropil: {LINES[rank]}")):
        wrong.append(f"it said {said!r}")
    again = [sys.executable, "-m", "neuropil", "run", "--resume", str(folder), "--quiet"]
    after = subprocess.run(again, capture_output=True, text=True, check=False)
    if after.returncode:
        wrong.append(f"resume said {after.stderr!r}")
    lost = set(before) - set(rows(folder))
    wrong += [f"{len(lost)} rows were lost"] if lost else []
    print(f"process {rank + 1} at {moment:.1f} s, after {len(before)} rows; ended within {took:.1f} s", end="")
    return wrong


def main(count):
    """How many of the runs went wrong."""
    dice, bad = random.Random(0), 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        run, other = started(whole)
        start = time.monotonic()
        while alive(other):
            time.sleep(0.05)
        lasts = time.monotonic() - start
        said = run.communicate()[1]
        assert run.returncode == 0, said
        print(f"undisturbed: {len(rows(whole))} rows, two processes for {lasts:.1f} s", flush=True)
        for turn in range(count):
            wrong = None
            while wrong is None:
                folder = Path(tempfile.mkdtemp(dir=place)) / "run"
                wrong = killed(folder, dice.randrange(2), dice.uniform(0, lasts), len(rows(whole)))
            if not wrong and not same(folder, whole):
                wrong.append("the result is another one")
            bad += bool(wrong)
            print(f": {'; '.join(wrong) or 'good'} ({turn + 1 - bad} of {turn + 1})", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
