"""Image files into arrays, safely, and arrays into network inputs. No torch: a server may live on this alone."""

from convatlas.images.decode import NUM_SIZES as NUM_SIZES
from convatlas.images.decode import decode as decode
from convatlas.images.decode import decode_all as decode_all
from convatlas.images.decode import decode_content as decode_content
from convatlas.images.decode import decode_draft as decode_draft
from convatlas.images.decode import decode_opened as decode_opened
from convatlas.images.decode import decoders as decoders
from convatlas.images.decode import max_pixels as max_pixels
from convatlas.images.decode import median_sides as median_sides
from convatlas.images.decode import pillow_silenced as pillow_silenced
from convatlas.images.decode import size_of as size_of
from convatlas.images.decode import size_of_opened as size_of_opened
from convatlas.images.files import ImageError as ImageError
from convatlas.images.files import ReadError as ReadError
from convatlas.images.files import opened as opened
from convatlas.images.files import status as status
from convatlas.images.ink import reframe as reframe
from convatlas.images.parallel import parallel_map as parallel_map
from convatlas.images.preprocessing import ChannelOrder as ChannelOrder
from convatlas.images.preprocessing import ImageInput as ImageInput
from convatlas.images.preprocessing import Preprocessing as Preprocessing
from convatlas.images.resize import Interpolation as Interpolation
from convatlas.images.resize import Resize as Resize
from convatlas.images.resize import ResizeMode as ResizeMode
from convatlas.images.sniff import identify as identify
from convatlas.images.sniff import why_not as why_not
