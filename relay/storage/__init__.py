"""The relay's record: statements with their verdicts, and what follows from them."""
