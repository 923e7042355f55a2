"""many settings of a recipe, each with several seeds, chosen on held-out training examples

usage: neuropil sweep NAME      --grid lr=1e-3,3e-3 k=2,7 [--seeds N] [--workers N] [settings] [--out DIR]
       neuropil sweep ./FILE.py --grid lr=1e-4..1e-1:log k=2..9 --search 30          Optuna proposes settings
       neuropil sweep NAME --help                                                    its settings
       neuropil sweep --resume DIR [--workers N] [--again] [--quiet] [--anyway] [--code FILE.py ...]

--grid         the settings to try: NAME=VALUE,VALUE; spaces inside a value for several numbers: "hidden=50 50,100"
--search N     N settings that Optuna proposes; values may then be ranges: LOW..HIGH, or LOW..HIGH:log for ratios
--seeds N      seeds of every setting, seed, seed + 1, ...; 3 if it is not said
--workers N    runs at once, among which the threads are divided; 1 if it is not said
--hold-out F   fraction of the training examples that settings are scored on; 0.1667 if it is not said
--learner L    the learner whose accuracy chooses; the first that the recipe runs
--engine E     local: processes of this machine; slurm: jobs, by submitit; ray: tasks of a Ray cluster
--resources    what Slurm or Ray is told of every run, such as slurm_partition=gpu mem_gb=8, or num_gpus=1
--resume DIR   go on after Ctrl-C, a kill or a full disk; what is finished stays, and so does what failed
--again        runs that failed are done once more

No run reads the test examples of its seed. DIR gets report.html, results.json and an ordinary run for each, in
setting-001/seed-0 and so on. The report ends with the command that measures the chosen setting on the test set.
"""

from neuropil.errors import require


def main(words: list[str]) -> int:
    """`neuropil sweep ...`."""
    goes_on = any(word.partition("=")[0] == "--resume" for word in words)
    named = bool(words) and not words[0].startswith("-")
    require(
        goes_on or named,
        "name a recipe first: neuropil sweep mnist_krotov --grid lr=0.1,0.3. All of them: neuropil list",
    )

    from neuropil.cli import sweeper  # needs torch

    if goes_on:
        return sweeper.resume(words)
    if {"-h", "--help"} & set(words):
        return sweeper.show_settings(words[0])
    return sweeper.do(words)
