"""Self-hosted real-time notifications: any committed INSERT is a push."""
