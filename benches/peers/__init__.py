"""Other servers, each doing the work of `benches/servers/fan_out.py` in its own way; README.md says which way."""
