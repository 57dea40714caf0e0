"""The relay: judges statements, commits them, and only then fans them out."""
