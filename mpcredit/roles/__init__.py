"""The duties of each party, given its ports."""
