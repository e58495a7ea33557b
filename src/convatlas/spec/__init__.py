"""What the atlas is made of: specs of networks, layer tables, claims, and the catalog of papers and variants.

Plain frozen data. Nothing here loads torch, so that commands start fast and records can be read without it.
"""

from convatlas.spec.catalog import Family as Family
from convatlas.spec.catalog import Paper as Paper
from convatlas.spec.catalog import Variant as Variant
from convatlas.spec.claims import UNITS as UNITS
from convatlas.spec.claims import Claim as Claim
from convatlas.spec.claims import ClaimVerdict as ClaimVerdict
from convatlas.spec.claims import layers_deep as layers_deep
from convatlas.spec.claims import top_accuracies as top_accuracies
from convatlas.spec.claims import top_errors as top_errors
from convatlas.spec.layers import Layer as Layer
from convatlas.spec.layers import Layers as Layers
from convatlas.spec.network import MAX_RESOLUTION as MAX_RESOLUTION
from convatlas.spec.network import Objective as Objective
from convatlas.spec.network import Scale as Scale
from convatlas.spec.network import Spec as Spec
