"""Deep Compression (Han, Mao and Dally 2016): pruning, weight sharing and Huffman coding into one small file."""
