"""Who somebody is and what they may do: session JWTs, connection tokens, passwords, guards. No routes."""
