"""The embedded identity service, behind `relay.identity.port`."""
