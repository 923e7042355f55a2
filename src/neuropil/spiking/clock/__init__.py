"""Neurons that are driven by a clock: step by step a state goes in, spikes and the next state come out."""
