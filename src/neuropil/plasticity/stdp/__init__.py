"""Spike-timing-dependent plasticity, step by step: rules that remember spikes in traces."""
