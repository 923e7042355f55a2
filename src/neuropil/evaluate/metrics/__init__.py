"""What is measured of a model: accuracy, units, generation, cost."""
