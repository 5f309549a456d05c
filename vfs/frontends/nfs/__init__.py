"""The mount's other way to programs: NFSv3 over TCP on loopback, for the system's own client."""
