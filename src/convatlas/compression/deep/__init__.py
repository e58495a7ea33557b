"""Deep Compression (Han, Mao and Dally 2016): pruned weights, shared values, and Huffman's code in one small file."""

from convatlas.compression.deep.codebook import Bits as Bits
from convatlas.compression.deep.container import CompressedRun as CompressedRun
from convatlas.compression.deep.container import load as load
from convatlas.compression.deep.container import pack as pack
from convatlas.compression.deep.container import unpack as unpack
from convatlas.compression.deep.pruning import Pruning as Pruning
from convatlas.compression.deep.pruning import Threshold as Threshold
from convatlas.compression.deep.stages import Settings as Settings
from convatlas.compression.deep.stages import compress_deeply as compress_deeply
from convatlas.compression.deep.stages import prune as prune
from convatlas.compression.deep.stages import quantise as quantise
from convatlas.compression.deep.update import apply_update as apply_update
from convatlas.compression.deep.update import write_update as write_update
