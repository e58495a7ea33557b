"""Image files into arrays, safely, and arrays into network inputs. No torch: a server may live on this alone."""

from convatlas.images.decode import LOOKED_AT as LOOKED_AT
from convatlas.images.decode import ImageError as ImageError
from convatlas.images.decode import ReadError as ReadError
from convatlas.images.decode import decode as decode
from convatlas.images.decode import decode_all as decode_all
from convatlas.images.decode import decode_content as decode_content
from convatlas.images.decode import files_below as files_below
from convatlas.images.decode import opened as opened
from convatlas.images.decode import pillow_silenced as pillow_silenced
from convatlas.images.decode import shorter_side as shorter_side
from convatlas.images.decode import shorter_side_of as shorter_side_of
from convatlas.images.decode import status as status
from convatlas.images.decode import usual_side as usual_side
from convatlas.images.ink import reframe as reframe
from convatlas.images.parallel import side_by_side as side_by_side
from convatlas.images.preprocessing import Preprocessing as Preprocessing
from convatlas.images.preprocessing import fit as fit
