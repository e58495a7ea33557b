"""Published weights: other libraries' checkpoints into our networks, one file a library, with a mapping report."""
