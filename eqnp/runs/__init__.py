"""Training runs: the loop, the model, the folder, going on, and the rivals."""
