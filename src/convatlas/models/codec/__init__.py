"""The `.cva` format: a whole model in one small file."""
