"""Making trained networks smaller and faster: pruning, quantization, Deep Compression."""
