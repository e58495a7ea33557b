"""Data sets by name or by folder, and batches made on the device."""

from convatlas.data.batches import Batches as Batches
from convatlas.data.catalog import check_outside as check_outside
from convatlas.data.catalog import fetch as fetch
from convatlas.data.catalog import find as find
from convatlas.data.catalog import is_standard as is_standard
from convatlas.data.catalog import is_streamed as is_streamed
from convatlas.data.catalog import notes_on_name as notes_on_name
from convatlas.data.catalog import portable_name as portable_name
from convatlas.data.catalog import published_checksum as published_checksum
from convatlas.data.catalog import what_is_read as what_is_read
from convatlas.data.dataset import Dataset as Dataset
from convatlas.data.dataset import Source as Source
from convatlas.data.dataset import Split as Split
from convatlas.data.images import Images as Images
from convatlas.data.table import Table as Table
