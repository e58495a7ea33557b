"""Picture files into arrays, safely, and arrays into network inputs. No torch: a server may live on this alone."""

from convatlas.pictures.decode import LOOKED_AT as LOOKED_AT
from convatlas.pictures.decode import PictureError as PictureError
from convatlas.pictures.decode import ReadError as ReadError
from convatlas.pictures.decode import decode as decode
from convatlas.pictures.decode import decode_all as decode_all
from convatlas.pictures.decode import decode_content as decode_content
from convatlas.pictures.decode import files_below as files_below
from convatlas.pictures.decode import opened as opened
from convatlas.pictures.decode import pillow_silenced as pillow_silenced
from convatlas.pictures.decode import shorter_side as shorter_side
from convatlas.pictures.decode import shorter_side_of as shorter_side_of
from convatlas.pictures.decode import status as status
from convatlas.pictures.decode import usual_side as usual_side
from convatlas.pictures.ink import reframe as reframe
from convatlas.pictures.preprocess import Preprocessing as Preprocessing
from convatlas.pictures.preprocess import fit as fit
from convatlas.pictures.threads import side_by_side as side_by_side
