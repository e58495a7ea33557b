"""What made the networks famous, as topics of statements, each with a state that measurements give it."""

from convatlas.errors import unknown
from convatlas.experiments.engine.budget import Budget as Budget
from convatlas.experiments.engine.estimate import Estimate as Estimate
from convatlas.experiments.engine.ledger import Watch as Watch
from convatlas.experiments.engine.ledger import read as read
from convatlas.experiments.engine.ledger import run as run
from convatlas.experiments.engine.ledger import run_all as run_all
from convatlas.experiments.engine.result import StatementResult as StatementResult
from convatlas.experiments.engine.result import TopicResult as TopicResult
from convatlas.experiments.engine.statement import Quoted as Quoted
from convatlas.experiments.engine.statement import Statement as Statement
from convatlas.experiments.engine.statement import Topic as Topic
from convatlas.experiments.engine.verdict import State as State
from convatlas.experiments.engine.verdict import TopicState as TopicState
from convatlas.experiments.topics import (
    compound,
    degradation,
    fewer_parameters,
    filter_sizes,
    history,
    separable,
    shortcuts,
    small_devices,
    small_filters,
    two_towers,
    vanishing,
    zip_codes,
)

TOPICS: tuple[Topic, ...] = (
    zip_codes.TOPIC,
    two_towers.TOPIC,
    small_filters.TOPIC,
    filter_sizes.TOPIC,
    vanishing.TOPIC,
    degradation.TOPIC,
    shortcuts.TOPIC,
    fewer_parameters.TOPIC,
    separable.TOPIC,
    compound.TOPIC,
    small_devices.TOPIC,
)
"""In the order of their papers."""
QUOTED: tuple[Quoted, ...] = history.QUOTED
"""What is said of these networks and no measurement here can test."""


def find(name: str) -> Topic:
    """The topic with that id.

    Raises:
        UserError: there is none; the message suggests the nearest.
    """
    topics = {topic.id: topic for topic in TOPICS}
    if name not in topics:
        raise unknown("topic", name, topics)
    return topics[name]
