"""The knowledge base: an order in its patient's context goes in, cards and a snapshot's name come out."""
