"""What a network costs, and what it says to the claims of its paper."""

from convatlas.measure.claims import ClaimCheck as ClaimCheck
from convatlas.measure.claims import check_claims as check_claims
from convatlas.measure.claims import verdict as verdict
from convatlas.measure.gradients import gradient_norms as gradient_norms
from convatlas.measure.gradients import jacobian as jacobian
from convatlas.measure.gradients import product as product
from convatlas.measure.responses import responses as responses
from convatlas.measure.surface import loss_surface as loss_surface
from convatlas.measure.surface import negative_curvature as negative_curvature
from convatlas.measure.table import Totals as Totals
from convatlas.measure.table import cost_of as cost_of
from convatlas.measure.table import layers as layers
from convatlas.measure.table import layers_of as layers_of
from convatlas.measure.timing import seconds as seconds
from convatlas.measure.timing import seconds_in_turn as seconds_in_turn
from convatlas.measure.traffic import ring_seconds as ring_seconds
from convatlas.measure.traffic import sent_bytes as sent_bytes
