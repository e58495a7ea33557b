"""Every library whose weights can be loaded."""

from convatlas.weights.caffe import CAFFE
from convatlas.weights.cifar import AKAMASTER, CHENYAOFO
from convatlas.weights.efficientnet_lite import EFFICIENTNET_LITE
from convatlas.weights.keras import KERAS
from convatlas.weights.timm import TIMM
from convatlas.weights.torchvision import TORCHVISION

LIBRARIES = (TORCHVISION, TIMM, KERAS, CAFFE, AKAMASTER, CHENYAOFO, EFFICIENTNET_LITE)
