"""A sweep is a folder of ordinary runs, one for each setting and seed; settings are chosen on held-out examples."""
