"""What an application holds of the patients and sites that it works with; it needs no network."""
