"""Load for a server: very many clients, what they saw, and a chart of it. `jasaweb-rt bench` is its face."""
