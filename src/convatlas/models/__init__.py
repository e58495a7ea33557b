"""Models: a network with its weights, its class names and its preprocessing, as a folder or as one `.cva` file."""
