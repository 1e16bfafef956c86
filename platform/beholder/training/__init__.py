"""Teaching a scorer: Ray Data feeds, Ray Train runs the workers, DeepSpeed holds the optimizer."""
