"""The Autobahn cases (RFC 6455 and 7692), as kosoku runs them, against the core's own sessions."""
