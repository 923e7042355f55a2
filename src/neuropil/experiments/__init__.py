"""What several recipes share: comparisons, baselines, methods."""
