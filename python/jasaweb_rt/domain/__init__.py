"""Rules and hooks of what the application is about. No HTTP, no SQL text."""
