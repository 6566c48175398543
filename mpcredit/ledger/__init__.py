"""A party's belief about the ledger, folded from events alone."""
