"""The benchmark: the relay and the device side by side with others, on loopback, in a few minutes."""
