"""Deep Compression (Han, Mao and Dally 2016): pruned weights, shared values, and Huffman's code in one small file."""
