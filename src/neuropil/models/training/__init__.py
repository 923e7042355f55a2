"""How models are trained: local rules, supervised training, readouts, augmentation."""
