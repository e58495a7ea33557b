"""Names that the shell completes when somebody presses Tab.

They are copies, which a test holds against the originals: those load torch, which takes seconds.
"""

NETWORKS = """
lenet1989 lenet1 lenet4 lenet5 lenet5-modern lenet-300 lenet-300-100
alexnet alexnet-cifar alexnet-cifar-tanh alexnet-cifar-lrn alexnet-owt alexnet-owt-256 alexnet-caffe alexnet-bn
vgg11 vgg11-lrn vgg13 vgg16-1x1 vgg16 vgg19 vgg11-bn vgg13-bn vgg16-bn vgg19-bn
googlenet googlenet-naive googlenet-bn googlenet-bn-3x3
plain18 plain34 resnet18 resnet18-a resnet18-c resnet34 resnet34-a resnet34-c resnet50 resnet101 resnet152
resnet50-v1.5 resnet101-v1.5 resnet152-v1.5 resnet50-keras resnet101-keras resnet152-keras resnet50-caffe
resnet101-caffe resnet152-caffe plain20-cifar plain32-cifar plain44-cifar plain56-cifar plain110-cifar
resnet20-cifar resnet32-cifar resnet44-cifar resnet56-cifar resnet110-cifar resnet1202-cifar resnet20-cifar-b
resnet20-cifar-c resnet32-cifar-b resnet32-cifar-c resnet44-cifar-b resnet44-cifar-c resnet56-cifar-b
resnet56-cifar-c resnet110-cifar-b resnet110-cifar-c resnet110-preact-cifar resnet164-preact-cifar
squeezenet squeezenet1.0-pytorch squeezenet1.0-caffe squeezenet1.1 squeezenet-simple-bypass
squeezenet-complex-bypass
mobilenet mobilenet-conv mobilenet-shallow mobilenet-tf mobilenet-relu6
efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 efficientnet-b5 efficientnet-b6
efficientnet-b7 efficientnet-b0-tf efficientnet-b1-tf efficientnet-b2-tf efficientnet-b3-tf efficientnet-b4-tf
efficientnet-b5-tf efficientnet-b6-tf efficientnet-b7-tf efficientnet-b0-pytorch efficientnet-b1-pytorch
efficientnet-b2-pytorch efficientnet-b3-pytorch efficientnet-b4-pytorch efficientnet-b5-pytorch
efficientnet-lite0
"""

TOPICS = """
zip-codes two-towers small-filters filter-sizes vanishing degradation shortcuts fewer-parameters separable
compound small-devices
"""


LEVELS = "overview stages layers"


def level_names() -> list[str]:
    return LEVELS.split()


def network_names() -> list[str]:
    return NETWORKS.split()


def topic_names() -> list[str]:
    return TOPICS.split()
