"""One file per experiment: what it shows, its settings, its main loop. `neuropil list` reads this folder."""
