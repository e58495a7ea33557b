"""The networks: one file a paper, oldest first.

A new architecture is one file here and one line in `FAMILIES`; every command and every test walks this tuple.
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
