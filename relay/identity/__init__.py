"""Who is who: devices, users, sites, grants, leases and revocations; the keeper of the directory."""
