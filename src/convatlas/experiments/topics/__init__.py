"""One file a topic: what made a network famous, as statements that can be measured. Other files are what topics share,
or parts of a topic that is too long for one."""
