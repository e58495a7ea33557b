"""Models: a network with its weights, its classes and its preprocessing."""
