"""One file a topic: a claim that made a network famous, in parts that can be measured."""
