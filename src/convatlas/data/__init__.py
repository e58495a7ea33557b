"""Data sets by name or by folder, and batches made on the device."""

from convatlas.data.batches import Batches as Batches
from convatlas.data.catalogue import find as find
from convatlas.data.dataset import Pictures as Pictures
from convatlas.data.dataset import PictureSet as PictureSet
from convatlas.data.dataset import Source as Source
from convatlas.data.dataset import Split as Split
