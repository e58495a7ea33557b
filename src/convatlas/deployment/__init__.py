"""Models in the forms of other runtimes, with proof that they still answer the same."""
