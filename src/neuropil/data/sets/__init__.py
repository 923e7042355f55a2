"""One file per data set; see `neuropil.data.registry` for what such a file holds."""
