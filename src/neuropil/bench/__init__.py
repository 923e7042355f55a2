"""Benchmarks: one file each with a `Config` and `main(config) -> rows`; `neuropil bench NAME` runs and prints them."""
