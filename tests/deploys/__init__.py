"""A web application that is deployed again and again behind a gateway, under open sockets and a stream of commits."""
