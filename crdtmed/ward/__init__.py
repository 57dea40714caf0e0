"""A ward and its pharmacy, running: real orders or generated ones, played through real devices and a real relay."""
