"""Everything that is checked and timed on a GPU, in one go: `make gpu`, or `python tests/gpu.py --out gpu.json`.

The JSON has the card, versions, and by part: seconds, whether it passed, and the rows of its benchmark. It is written
after each part, so that a machine that goes away leaves what was done. `python tests/gpu.py gpu.json` prints it as a
page. `--device cpu` tries the script itself where there is no GPU: kernels then run in Triton's interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from neuropil.runs.machine import git, machine, versions

HERE = Path(__file__).parent
SMALL = {  # of each benchmark, to try the script
    "plasticity": "--inputs 30 --units 20 --batches 9 --repeats 2",
    "conv": "--batch 2 --repeats 2",
    "spiking": "--sizes 30 9 10 --batches 9 --repeats 2 --scans 0",
    "associative": "--inputs 30 --units 9 --batches 9 --repeats 2",
    "attack": "--sizes 30 9 10 --batch 9 --repeats 1",
    "stdp": "--inputs 30 --units 9 --batch 9 --repeats 2",
}
BENCHES = {  # what is asked of a card
    "plasticity": ("", "--inputs 3072 --units 8192 --batches 4096 --repeats 10"),
    "conv": ("",),
    "spiking": ("--scans 0",),
    "associative": ("--batches 50 200",),
    "attack": ("",),
    "stdp": ("",),
}
RECIPES = {  # end to end, with real data
    "cifar_softhebb": "--learners soft_hebb --seed 0",
    "mnist_mstdp": "--seed 0",
    "mnist_theta": "--learners exact_spikes --epochs 3 --seed 0",
}


def call(words, limit, **settings):
    """Run a command: seconds, whether it ended well, and the end of what it said."""
    start = perf_counter()
    try:
        done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, timeout=limit)
        passed, said = done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        passed, said = False, f"not done in {limit} s"
    return {"seconds": round(perf_counter() - start, 1), "passed": passed, "said": said[-2000:]}


def neuropil(words, limit):
    """Run one of the commands of neuropil."""
    return call([sys.executable, "-m", "neuropil", *words.split()], limit)


def kernels(device):
    """All files of cases of kernels, which compare them with those of the CPU in float64."""
    interpreter = {} if device == "cuda" else {"TRITON_INTERPRET": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    for name in ("gpu_cases", "clock_gpu_cases", "rule_gpu_cases"):
        file = str(HERE / f"{name}.py")
        yield f"kernels: {name}", call([*words, file], 900, NEUROPIL_TEST_DEVICE=device, **interpreter)


def learners(device, folder, small):
    """All methods of a comparison, on the CPU and on the device: mean accuracy on the digits, within 2 points."""
    means, words = [], "--n-train 60 --learners linear krotov_hopfield --seeds 1" if small else "--seeds 3"
    for where in ("cpu", device):
        out = folder / f"compare_{len(means)}"
        found = neuropil(f"compare --data digits {words} --device {where} --out {out}", 300)
        file = out / "results.json"
        summary = json.loads(file.read_text("utf-8"))["summary"] if file.exists() else []
        means.append({row["learner"]: row["accuracy_mean"] for row in summary})
    rows = [{"learner": name, "on the CPU": mean, "here": means[1].get(name)} for name, mean in means[0].items()]
    near = all(row["here"] is not None and abs(row["here"] - row["on the CPU"]) < 0.02 for row in rows)
    yield "learners of compare", found | {"rows": rows, "passed": found["passed"] and near and bool(rows)}


def benches(device, folder, small):
    """The benchmarks; rows of rules and networks have each step as a CUDA graph, too."""
    for name, asked in BENCHES.items():
        for number, words in enumerate((SMALL[name],) if small else asked):
            file = folder / f"{name}_{number}.json"
            found = neuropil(f"bench {name} --device {device} {words} --json {file}", 300)
            rows = json.loads(file.read_text("utf-8")) if file.exists() else []
            yield f"bench {name} {words}".strip(), found | {"rows": rows}


def recipes(device, folder, small):
    """Recipes from end to end, where their data are at hand."""
    for name, words in {"digits_mstdp": "--epochs 1 --seed 0"}.items() if small else RECIPES.items():
        out = folder / name
        found = neuropil(f"run {name} {words} --device {device} --out {out}", 200)
        file = out / "results.json"
        rows = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []
        kept = ("learner", "data", "seed", "accuracy", "seconds")
        yield f"run {name} {words}", found | {"rows": [{key: row.get(key) for key in kept} for row in rows]}


def parts(device, folder, small):
    """Every part, as (name, what was found), the shortest first."""
    yield from benches(device, folder, small)
    yield from learners(device, folder, small)
    yield from recipes(device, folder, small)
    yield from kernels(device)


def page(found):
    """The JSON as Markdown: what ran where, a line for each part, then a table for each that has rows."""
    facts = "; ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [
        "# Checked on a GPU",
        "",
        f"{found['card']}. {facts}.",
        "",
        "| part | passed | seconds |",
        "|---|---|---:|",
    ]
    lines += [f"| `{name}` | {part['passed']} | {part['seconds']} |" for name, part in found["parts"].items()]
    for name, part in found["parts"].items():
        if part.get("rows"):
            keys = list(part["rows"][0])
            lines += ["", f"## {name}", "", f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
            lines += [f"| {' | '.join(cell(row.get(key)) for key in keys)} |" for row in part["rows"]]
    return "\n".join(lines)


def cell(value):
    """A number with four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cuda")
    options.add_argument("--out", type=Path, default=Path("gpu.json"))
    options.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    options.add_argument("page", type=Path, nargs="?", help="print this JSON as Markdown, and run nothing")
    given = options.parse_args()
    if given.page:
        print(page(json.loads(given.page.read_text("utf-8"))))
        return 0
    there = given.device == "cuda" and torch.cuda.is_available()
    if given.device == "cuda" and not there:
        print("there is no GPU here; --device cpu --small tries the script", file=sys.stderr)
        return 2
    card = torch.cuda.get_device_name() if there else given.device
    found = {"card": card, "machine": machine() | versions(), "git": git(), "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts(given.device, Path(folder), given.small):
            print(f"{'passed' if part['passed'] else 'FAILED'} in {part['seconds']} s: {name}", flush=True)
            found["parts"][name] = part
            given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if all(part["passed"] for part in found["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
