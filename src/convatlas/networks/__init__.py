"""The networks: one file per family, oldest first.

A new architecture is one file here and one line in `FAMILIES`, which every command and every test reads.
"""

from convatlas.networks import alexnet, efficientnet, googlenet, lenet, mobilenet, resnet, squeezenet, vgg

FAMILIES = (
    lenet.FAMILY,
    alexnet.FAMILY,
    vgg.FAMILY,
    googlenet.FAMILY,
    resnet.FAMILY,
    squeezenet.FAMILY,
    mobilenet.FAMILY,
    efficientnet.FAMILY,
)
