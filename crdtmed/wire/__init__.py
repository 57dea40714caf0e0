"""What device and relay say to each other over a websocket: binary frames of MessagePack."""
