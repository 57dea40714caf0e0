"""The device library, and what device and relay share."""
