"""One file per data set; see `neuropil.data.table` for what such a file holds."""
