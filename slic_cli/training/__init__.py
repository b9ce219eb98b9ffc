"""Training: from a folder of photographs to a model in the registry. Needs the `train` extra."""
