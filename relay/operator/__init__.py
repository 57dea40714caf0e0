"""What the system operator does: commands over the relay's database, beside a running relay or without one."""
