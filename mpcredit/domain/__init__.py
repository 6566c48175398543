"""The trade's words, without input or output."""
